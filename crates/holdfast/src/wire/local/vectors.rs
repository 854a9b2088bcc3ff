//! Does the Calls of local models that run in an engine: vectors where the file is an embedding
//! model's, answers where it is another's.
//!
//! The request is read and the answer written as for static models; what is between them is the
//! engine's. A client that goes drops the request, which cancels it there.

use std::fmt;
use std::sync::Arc;

use engine::execute::failure;
use engine::protocol::{Embed, TEXTS_BYTES_MAX};
use engine::supervisor::{Embedded, Error};
use engine::{Engines, LocalModels, ModelFile, Task};
use formats::embeddings::{Ask, Vectors, ask, render};
use futures_util::{StreamExt, stream};
use types::call::{ModelCall, Operation};
use types::clock::{SharedClock, within};
use types::outcome::{Finish, OutcomeEvent, OutcomeStream, Start};
use types::{Attempt, ErrorCode, Execute, Failure, Usage};

/// Executes on models in engines.
pub(super) struct InEngines {
    pub(super) engines: Arc<Engines>,
    pub(super) models: Arc<LocalModels>,
    pub(super) clock: SharedClock,
}

impl fmt::Debug for InEngines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InEngines").field("engines", &self.engines).finish_non_exhaustive()
    }
}

impl Execute for InEngines {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        let model = self.models.get(&attempt.target.upstream_model);
        let Some(model) = model.filter(|model| model.task == Task::Embed) else {
            return self.models.execute(attempt);
        };
        let (engines, clock) = (Arc::clone(&self.engines), Arc::clone(&self.clock));
        let events = async move {
            match answer(&engines, &clock, &model, &attempt).await {
                Ok(events) => events,
                Err(failure) => vec![OutcomeEvent::Failed(Box::new(failure))],
            }
        };
        Box::pin(stream::once(events).flat_map(stream::iter))
    }
}

async fn answer(
    engines: &Engines,
    clock: &SharedClock,
    model: &ModelFile,
    attempt: &Attempt,
) -> Result<Vec<OutcomeEvent>, Failure> {
    let (call, asked) = read(attempt)?;
    let encoding = asked.encoding;
    let embedded = embed(engines, clock, model, (attempt, call, asked)).await?;
    let dimensions = embedded.vectors.first().map_or(0, Vec::len);
    let tokens = embedded.prompt_tokens;
    let numbers: Vec<f32> = embedded.vectors.into_iter().flatten().collect();
    let vectors = Vectors { numbers: &numbers, dimensions, tokens };
    let body = render(&call.head.model, vectors, encoding);
    let content_type = Some("application/json".to_owned());
    let usage = Usage { input_tokens: tokens, ..Usage::default() };
    let model_version = Some(model.sha256.clone());
    Ok(vec![
        OutcomeEvent::Start(Start { status: 200, content_type, ..Start::default() }),
        OutcomeEvent::Frame { raw: Some(body), delta: None },
        OutcomeEvent::Finish(Finish { usage: Some(usage), model_version, ..Finish::default() }),
    ])
}

/// What is asked, if such a model can be asked it.
fn read(attempt: &Attempt) -> Result<(&ModelCall, Ask), Failure> {
    let internal = |text| Failure::new(ErrorCode::Internal, text);
    let call = attempt.call.model().ok_or_else(|| internal("not a model Call"))?;
    match call.operation {
        Operation::Embed => {}
        Operation::Chat | Operation::CountTokens => {
            let text = format!(
                "the model {} makes embeddings and answers nothing: ask it at /v1/embeddings",
                attempt.target.name
            );
            return Err(Failure::unsupported("model", text));
        }
    }
    let raw = call.raw.as_ref().ok_or_else(|| internal("a request without a body"))?;
    let asked = ask(raw)?;
    let bytes: usize = asked.texts.iter().map(String::len).sum();
    if bytes > TEXTS_BYTES_MAX {
        let text = format!(
            "the texts of 'input' have {bytes} bytes: together they may have {TEXTS_BYTES_MAX}"
        );
        return Err(Failure::invalid("input", text));
    }
    Ok((call, asked))
}

async fn embed(
    engines: &Engines,
    clock: &SharedClock,
    model: &ModelFile,
    (attempt, call, asked): (&Attempt, &ModelCall, Ask),
) -> Result<Embedded, Failure> {
    let told = |error: Error| failure(&error, false);
    let (patience, began) = (attempt.patience, clock.monotonic());
    let engine = engines.engine(model);
    let loaded = engine.loaded(patience.map(|patience| patience.wait_max)).await.map_err(told)?;
    if loaded.dimensions == 0 {
        let text = "the engine of this local model is of another version than the server";
        return Err(Failure::new(ErrorCode::Internal, text));
    }
    let whole = loaded.dimensions as usize;
    if let Some(other) = asked.dimensions.filter(|asked| *asked != whole) {
        let name = &attempt.target.name;
        let text =
            format!("the vectors of {name} have {whole} numbers and can't be cut to {other}");
        return Err(Failure::invalid("dimensions", text));
    }
    let left = attempt.call.deadline.map(|deadline| deadline.saturating_sub(clock.monotonic()));
    let request = Embed {
        account: attempt.call.principal.account.to_string(),
        texts: asked.texts,
        // What the reservation is for: a text may have more tokens than bytes to some tokenizers.
        tokens_max: Some(call.head.body_bytes),
        deadline_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        ..Embed::default()
    };
    let queue_max = patience.map(|patience| patience.queue_max);
    let mut embedding = engine.embed(request, queue_max).await.map_err(told)?;
    if let Some(patience) = patience {
        let waited = clock.monotonic().saturating_sub(began);
        let left = patience.wait_max.saturating_sub(waited);
        let started = within(clock.as_ref(), left, embedding.started()).await;
        started.unwrap_or(Err(Error::Busy)).map_err(told)?;
    }
    embedding.whole().await.map_err(told)
}
