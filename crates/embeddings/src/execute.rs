//! Does the Calls of static models.
//!
//! Short requests are answered where they are: handing them to another thread would take longer
//! than they do. Larger ones wait for one of few blocking threads, and stop between two texts when
//! their client has gone.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use formats::embeddings::{Ask, Vectors, ask, render};
use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;
use types::call::Operation;
use types::outcome::{Finish, OutcomeEvent, OutcomeStream, Start};
use types::usage::Usage;
use types::{Attempt, ErrorCode, Execute, Failure};

use crate::model::{Error, StaticModel};

/// Bytes of a request that is answered at once: about a millisecond's work.
const AT_ONCE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of one text at most: about a second's work, and no more than one thread can be stopped at.
const TEXT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Executes on static models.
pub struct StaticModels {
    models: RwLock<HashMap<String, Arc<StaticModel>>>,
    threads: Arc<Semaphore>,
}

impl fmt::Debug for StaticModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticModels").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl StaticModels {
    /// No models yet; at most so many requests are computed on threads of their own at once.
    pub fn new(threads: usize) -> Self {
        Self { models: RwLock::default(), threads: Arc::new(Semaphore::new(threads.max(1))) }
    }

    /// Makes a model known under the name that targets use (`upstream_model`), replacing one of
    /// that name.
    pub fn register(&self, name: impl Into<String>, model: impl Into<Arc<StaticModel>>) {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        models.insert(name.into(), model.into());
    }

    /// Forgets a name; what is being computed goes on.
    pub fn remove(&self, name: &str) {
        self.models.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Forgets all names but those; what is being computed goes on.
    pub fn retain(&self, is_kept: impl Fn(&str) -> bool) {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        models.retain(|name, _| is_kept(name));
    }

    /// The model of that name.
    pub fn get(&self, name: &str) -> Option<Arc<StaticModel>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl Execute for StaticModels {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        let model = self.get(&attempt.target.upstream_model);
        let threads = Arc::clone(&self.threads);
        let events = async move {
            match answer(model, &threads, &attempt).await {
                Ok(events) => events,
                Err(failure) => vec![OutcomeEvent::Failed(Box::new(failure))],
            }
        };
        Box::pin(stream::once(events).flat_map(stream::iter))
    }
}

async fn answer(
    model: Option<Arc<StaticModel>>,
    threads: &Arc<Semaphore>,
    attempt: &Attempt,
) -> Result<Vec<OutcomeEvent>, Failure> {
    let Some(model) = model else {
        let message = format!("the files of {} are not registered", attempt.target.name);
        return Err(Failure::new(ErrorCode::ModelNotFound, message));
    };
    let work = Work::of(attempt)?;
    let sha256 = model.sha256().to_owned();
    let done = if work.raw.len() <= AT_ONCE_BYTES_MAX {
        work.run(&model, &AtomicBool::new(false))?
    } else {
        on_a_thread(work, model, threads).await?
    };
    let start = Start {
        status: 200,
        content_type: Some("application/json".to_owned()),
        ..Start::default()
    };
    let usage = Usage { input_tokens: done.tokens, ..Usage::default() };
    let finish = Finish { usage: Some(usage), model_version: Some(sha256), ..Finish::default() };
    Ok(vec![
        OutcomeEvent::Start(start),
        OutcomeEvent::Frame { raw: Some(done.body), delta: None },
        OutcomeEvent::Finish(finish),
    ])
}

/// Sets its flag when it is dropped: whoever waited has gone.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn on_a_thread(
    work: Work,
    model: Arc<StaticModel>,
    threads: &Arc<Semaphore>,
) -> Result<Done, Failure> {
    let internal = |error: &dyn fmt::Display| Failure::new(ErrorCode::Internal, error.to_string());
    let permit = Arc::clone(threads).acquire_owned().await.map_err(|error| internal(&error))?;
    let gone = Gone(Arc::default());
    let stop = Arc::clone(&gone.0);
    let working = tokio::task::spawn_blocking(move || {
        let done = work.run(&model, &stop);
        drop(permit);
        done
    });
    working.await.map_err(|error| internal(&error))?
}

/// What is to be computed.
struct Work {
    raw: Bytes,
    /// The name that the client asked for.
    name: String,
    /// The model's own.
    target: Arc<str>,
}

/// What was computed.
struct Done {
    body: Bytes,
    tokens: u64,
}

impl Work {
    fn of(attempt: &Attempt) -> Result<Self, Failure> {
        let target = &attempt.target.name;
        let call = attempt.call.model();
        let call = call.ok_or_else(|| Failure::new(ErrorCode::Internal, "not a model Call"))?;
        match call.operation {
            Operation::Embed => {}
            Operation::Chat | Operation::CountTokens => {
                let text = format!(
                    "the model {target} makes embeddings and answers nothing: ask it at \
                     /v1/embeddings"
                );
                return Err(Failure::unsupported("model", text));
            }
        }
        let raw = call.raw.clone();
        let raw =
            raw.ok_or_else(|| Failure::new(ErrorCode::Internal, "a request without a body"))?;
        Ok(Self { raw, name: call.head.model.clone(), target: Arc::clone(target) })
    }

    /// Computes it, unless nobody waits for it any more.
    fn run(&self, model: &StaticModel, stop: &AtomicBool) -> Result<Done, Failure> {
        let Ask { texts, dimensions, encoding } = ask(&self.raw)?;
        check_texts(&texts)?;
        let dimensions = dimensions.unwrap_or_else(|| model.dimensions());
        if !model.allows(dimensions) {
            let (target, whole) = (&self.target, model.dimensions());
            let text = format!(
                "the vectors of {target} have {whole} numbers and can't be cut to {dimensions}"
            );
            return Err(Failure::invalid("dimensions", text));
        }
        let mut numbers = Vec::with_capacity(texts.len().saturating_mul(dimensions));
        let mut tokens = 0_u64;
        for (index, text) in texts.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::new(ErrorCode::Cancelled, "the client has gone"));
            }
            let counted = model.embed(text, dimensions, &mut numbers);
            tokens += counted.map_err(|error| untaken(index, &error))?;
        }
        let vectors = Vectors { numbers: &numbers, dimensions, tokens };
        Ok(Done { body: render(&self.name, vectors, encoding), tokens })
    }
}

fn check_texts(texts: &[String]) -> Result<(), Failure> {
    match texts.iter().position(|text| text.len() > TEXT_BYTES_MAX) {
        Some(index) => {
            let text = format!(
                "'input[{index}]' has {} bytes: a text may have {TEXT_BYTES_MAX}",
                texts.get(index).map_or(0, String::len)
            );
            Err(Failure::invalid("input", text))
        }
        None => Ok(()),
    }
}

fn untaken(index: usize, error: &Error) -> Failure {
    Failure::invalid("input", format!("'input[{index}]': {error}"))
}

#[cfg(test)]
mod tests;
