//! Does the Calls of local models: a neutral conversation in, deltas out.
//!
//! Bytes never pass through here: every client format is read into its neutral form and the door
//! renders the answer. What a local model can't be told (images, `n`) is refused by name. Tool-call
//! ids are made here.

mod request;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use types::clock::{SharedClock, within};
use types::outcome::{Delta, Finish, OutcomeEvent, OutcomeStream, Start, Stop};
use types::{Attempt, ErrorCode, Execute, Failure, Ids, Usage};

use crate::model_file::ModelFile;
use crate::protocol::{EngineFailure, FailureCode, Piece, StopReason};
use crate::supervisor::{Engines, Error, Event, Generation};

/// The name under which local models are registered in the pipeline.
pub const PROVIDER: &str = "local";
/// What a client is told to wait for a full queue, which moves with every answer.
const OVERLOADED_RETRY: Duration = Duration::from_secs(2);
/// Random bytes of a tool call's id.
const CALL_ID_BYTES: usize = 12;

/// Executes on local models.
#[derive(Debug)]
pub struct LocalModels {
    shared: Arc<Shared>,
}

struct Shared {
    engines: Arc<Engines>,
    clock: SharedClock,
    ids: Arc<Ids>,
    models: RwLock<HashMap<String, Arc<ModelFile>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("engines", &self.engines).finish_non_exhaustive()
    }
}

impl LocalModels {
    /// No models yet.
    pub fn new(engines: Arc<Engines>, clock: SharedClock, ids: Arc<Ids>) -> Self {
        Self { shared: Arc::new(Shared { engines, clock, ids, models: RwLock::default() }) }
    }

    /// Makes a model known under the name that targets use (`upstream_model`), replacing one of
    /// that name.
    pub fn register(&self, name: impl Into<String>, model: ModelFile) {
        let mut models = self.shared.models.write().unwrap_or_else(PoisonError::into_inner);
        models.insert(name.into(), Arc::new(model));
    }

    /// Forgets a name; generations in progress go on.
    pub fn remove(&self, name: &str) {
        self.shared.models.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Forgets all names but those; generations in progress go on. Answers the files that are left.
    pub fn retain(&self, is_kept: impl Fn(&str) -> bool) -> HashSet<String> {
        let mut models = self.shared.models.write().unwrap_or_else(PoisonError::into_inner);
        models.retain(|name, _| is_kept(name));
        models.values().map(|model| model.sha256.clone()).collect()
    }

    /// The model of that name.
    pub fn get(&self, name: &str) -> Option<Arc<ModelFile>> {
        self.shared.models.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl Execute for LocalModels {
    fn execute(&self, attempt: Attempt) -> OutcomeStream {
        let shared = Arc::clone(&self.shared);
        let begin: Begin = Box::pin(begin(shared, attempt));
        Box::pin(futures_util::stream::unfold(Progress::Beginning(begin), next))
    }
}

type Begin = Pin<Box<dyn Future<Output = Result<Box<Answer>, Failure>> + Send>>;

enum Progress {
    Beginning(Begin),
    Answering(Box<Answer>),
    Over,
}

/// An answer in progress.
struct Answer {
    generation: Generation,
    ids: Arc<Ids>,
    model_version: String,
    /// What the model was not told, until the client is.
    dropped: Vec<String>,
    /// Whether a part of the answer is out.
    begun: bool,
    /// Events that came of one message.
    ready: VecDeque<OutcomeEvent>,
}

async fn begin(shared: Arc<Shared>, attempt: Attempt) -> Result<Box<Answer>, Failure> {
    let name = attempt.target.upstream_model.as_ref();
    let model = shared.models.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    let Some(model) = model else {
        let message = format!("the model file of {} is not registered", attempt.target.name);
        return Err(Failure::new(ErrorCode::ModelNotFound, message));
    };
    let request = request::from_attempt(&attempt, shared.clock.monotonic())?;
    let dropped = match attempt.call.model() {
        Some(call) => {
            let conversation = call.neutral()?;
            request::dropped(&conversation)
        }
        None => Vec::new(),
    };
    if attempt.call.is_strict() && !dropped.is_empty() {
        return Err(Failure::not_told(&dropped, &attempt.target.name));
    }
    let engine = shared.engines.engine(&model);
    let (patience, asked) = (attempt.patience, shared.clock.monotonic());
    let loaded = engine.loaded(patience.map(|patience| patience.wait_max)).await;
    let loaded = loaded.map_err(|error| failure(&error, false))?;
    request::check_fits(&request, &loaded)?;
    let generation = engine.generate(request, patience.map(|patience| patience.queue_max)).await;
    let generation = generation.map_err(|error| failure(&error, false))?;
    let model_version = model.sha256.clone();
    let ids = Arc::clone(&shared.ids);
    let ready = VecDeque::new();
    let mut answer =
        Box::new(Answer { generation, ids, model_version, dropped, begun: false, ready });
    if let Some(patience) = patience {
        let waited = shared.clock.monotonic().saturating_sub(asked);
        let left = patience.wait_max.saturating_sub(waited);
        let first = within(shared.clock.as_ref(), left, answer.generation.next()).await;
        // Dropping the answer takes the request out of the queue.
        let first = first.ok_or_else(|| failure(&Error::Busy, false))?;
        match first.unwrap_or(Err(Error::Lost)) {
            Err(Error::Refused(refused)) if refused.code == FailureCode::Overloaded => {
                return Err(failure(&Error::Busy, false));
            }
            message => answer.take(message),
        }
    }
    Ok(answer)
}

async fn next(progress: Progress) -> Option<(OutcomeEvent, Progress)> {
    let mut answer = match progress {
        Progress::Over => return None,
        Progress::Answering(answer) => answer,
        Progress::Beginning(begin) => match begin.await {
            Ok(answer) => answer,
            Err(failure) => {
                return Some((OutcomeEvent::Failed(Box::new(failure)), Progress::Over));
            }
        },
    };
    loop {
        if let Some(event) = answer.ready.pop_front() {
            let last = matches!(event, OutcomeEvent::Finish(_) | OutcomeEvent::Failed(_));
            let then = if last { Progress::Over } else { Progress::Answering(answer) };
            return Some((event, then));
        }
        let message = answer.generation.next().await.unwrap_or(Err(Error::Lost));
        answer.take(message);
    }
}

impl Answer {
    fn take(&mut self, message: Result<Event, Error>) {
        let event = match message {
            Ok(Event::Started { reused_tokens, .. }) => OutcomeEvent::Start(Start {
                status: 200,
                reused_tokens: Some(reused_tokens),
                dropped: std::mem::take(&mut self.dropped),
                ..Start::default()
            }),
            Ok(Event::Piece(piece)) => return self.take_piece(piece),
            Ok(Event::Done { stop, usage }) => OutcomeEvent::Finish(Finish {
                stop: match stop {
                    StopReason::End => Stop::End,
                    StopReason::Length => Stop::Length,
                    StopReason::ToolCalls => Stop::ToolCalls,
                },
                usage: Some(Usage {
                    input_tokens: usage.prompt_tokens,
                    cached_tokens: usage.reused_tokens,
                    output_tokens: usage.completion_tokens,
                    ..Usage::default()
                }),
                model_version: Some(self.model_version.clone()),
                ..Finish::default()
            }),
            Err(error) => OutcomeEvent::Failed(Box::new(failure(&error, self.begun))),
        };
        self.ready.push_back(event);
    }

    fn take_piece(&mut self, piece: Piece) {
        self.begun = true;
        let mut push = |delta| self.ready.push_back(frame(delta));
        match piece {
            Piece::Text(text) => push(Delta::Text { text }),
            Piece::Reasoning(text) => push(Delta::Reasoning { text }),
            Piece::ToolCall(call) => {
                let index = call.index;
                if let Some(name) = call.name {
                    let id = self.ids.hex("call_", CALL_ID_BYTES);
                    push(Delta::ToolCallStart { index, id, name });
                }
                if !call.arguments.is_empty() {
                    push(Delta::ToolCallArguments { index, json: call.arguments });
                }
            }
        }
    }
}

fn frame(delta: Delta) -> OutcomeEvent {
    OutcomeEvent::Frame { raw: None, delta: Some(delta) }
}

/// An engine's error as a client sees it. `begun`: a part of the answer is out.
pub fn failure(error: &Error, begun: bool) -> Failure {
    match error {
        Error::Unavailable { retry_after, reason } => {
            tracing::warn!(%reason, "a local model is not up");
            let message = "the engine of this local model is not up; try again in a moment";
            Failure::new(ErrorCode::Unavailable, message).retry_after(*retry_after)
        }
        Error::Protocol { .. } => Failure::new(ErrorCode::Internal, error.to_string()),
        Error::Lost if begun => {
            let message = "the engine of this local model ended during the answer; ask again";
            Failure::new(ErrorCode::StreamCut, message)
        }
        Error::Lost => {
            let message = "the engine of this local model ended; ask again";
            Failure::turned_away(ErrorCode::Unavailable, message)
        }
        Error::Loading => {
            let message = "this local model is being loaded; try again in a moment";
            Failure::turned_away(ErrorCode::Unavailable, message)
        }
        Error::Busy => {
            let message =
                "this local model answers as many others as it can; try again in a moment";
            Failure::turned_away(ErrorCode::Overloaded, message)
        }
        Error::Stopping => Failure::new(ErrorCode::Unavailable, "this node is stopping")
            .retry_after(OVERLOADED_RETRY),
        Error::Refused(refused) => refusal(refused),
    }
}

fn refusal(refused: &EngineFailure) -> Failure {
    let code = match refused.code {
        FailureCode::InvalidRequest | FailureCode::TemplateFailed => ErrorCode::InvalidRequest,
        FailureCode::UnsupportedSchema => ErrorCode::Unsupported,
        FailureCode::ContextLengthExceeded => ErrorCode::ContextLengthExceeded,
        FailureCode::Overloaded => ErrorCode::Overloaded,
        FailureCode::DeadlineExceeded => ErrorCode::UpstreamTimeout,
        FailureCode::Cancelled => ErrorCode::Cancelled,
        FailureCode::ShuttingDown => ErrorCode::Unavailable,
        FailureCode::Internal => ErrorCode::Internal,
    };
    let mut failure = Failure::new(code, refused.message.clone());
    failure.param = refused.param.as_deref().map(Into::into);
    if matches!(refused.code, FailureCode::Overloaded | FailureCode::ShuttingDown) {
        failure = failure.retry_after(OVERLOADED_RETRY);
    }
    failure
}
