//! A request made ready to run: rendered, tokenized, its grammar compiled. All that does not need
//! the model's state happens here, on a thread of its own, so that one hostile template or schema
//! delays no running generation.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use engine::protocol::{ChatMessage, EngineFailure, FailureCode, Generate, WINDOW_MAX};
use types::clock::Monotonic;

use crate::constraint::Constraint;
use crate::grammar::{Bound, SharedGrammars};
use crate::llama::Token;
use crate::output::Output;
use crate::prepare::{Asked, Request};
use crate::sampler::{Defaults, Sampler};
use crate::scheduler::Event;
use crate::template::Template;
use crate::vocab::Vocab;

/// Bytes of an account's or a session's name.
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// Stop sequences of one request.
const STOPS_MAX: usize = 16;
/// Bytes of one stop sequence.
const STOP_BYTES_MAX: usize = 1_024;

/// Whose state a generation extends and leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobOwner {
    /// The account.
    pub(crate) account: String,
    /// The session; none = nothing is kept but a prefix that the same account may share.
    pub(crate) session: Option<String>,
}

/// A generation that is ready to run.
#[derive(Debug)]
pub(crate) struct Job {
    /// The parent's id of it.
    pub(crate) id: u64,
    /// Whose state it extends.
    pub(crate) owner: JobOwner,
    /// Whether the state that it leaves behind may be written to disk.
    pub(crate) persist: bool,
    /// The rendered prompt.
    pub(crate) prompt: String,
    /// Its usual tokens.
    pub(crate) tokens: Vec<Token>,
    /// What the answer is held to.
    pub(crate) constraint: Constraint,
    /// How tokens are drawn.
    pub(crate) sampler: Sampler,
    /// How the answer is read.
    pub(crate) output: Output,
    /// The most tokens to sample.
    pub(crate) tokens_max: u32,
    /// When the answer is of no use any more.
    pub(crate) deadline: Option<Monotonic>,
    /// Deltas that may be unacknowledged.
    pub(crate) window: u32,
    /// When it was taken from the socket.
    pub(crate) taken: Monotonic,
    /// Its place among those that wait; given up when it starts.
    pub(crate) place: Option<Place>,
}

/// A place in the queue, from the socket until a sequence is free. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes a place if fewer than `limit` are taken.
    pub(crate) fn take(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let more = |taken: usize| (taken < limit).then_some(taken + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether somebody still waits for a request: shared by who prepares it and who may end it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    /// It is wanted.
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// It is not wanted any more.
    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Goes on only if it is wanted.
    ///
    /// # Errors
    /// It is not; whoever ended it has answered already.
    pub(crate) fn check(&self) -> Result<(), EngineFailure> {
        if self.0.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(EngineFailure::new(FailureCode::Cancelled, "nobody waits for this any more"))
    }
}

/// Makes requests ready.
#[derive(Debug)]
pub(crate) struct Preparer {
    /// The model's vocabulary.
    pub(crate) vocab: Arc<Vocab>,
    /// The model's chat template.
    pub(crate) template: Template,
    /// Compiles what binds answers.
    pub(crate) grammars: SharedGrammars,
    /// Tokens that a sequence holds.
    pub(crate) context: u32,
    /// Bytes of the longest token.
    pub(crate) token_bytes_max: u32,
    /// How the model's tokens are best drawn.
    pub(crate) defaults: Defaults,
}

impl Preparer {
    /// Makes what came from the socket ready.
    ///
    /// # Errors
    /// As [`Preparer::prepare`], and vectors, which this model does not make.
    pub(crate) fn event(&self, asked: Asked, wanted: &Wanted) -> Result<Event, EngineFailure> {
        match asked.request {
            Request::Generate(request) => {
                let job = self.prepare(*request, asked.taken, asked.place, wanted)?;
                Ok(Event::Job(Box::new(job)))
            }
            Request::Embed(_) => {
                let message = "this model answers in text and makes no embeddings";
                Err(EngineFailure::new(FailureCode::InvalidRequest, message).param("model"))
            }
        }
    }

    /// Makes a request ready.
    ///
    /// # Errors
    /// The request is invalid, its schema unsupported, the template refuses it, it does not fit the
    /// context, or it is not wanted any more.
    pub(crate) fn prepare(
        &self,
        request: Generate,
        taken: Monotonic,
        place: Place,
        wanted: &Wanted,
    ) -> Result<Job, EngineFailure> {
        validate(&request)?;
        // A token can't spell more, so what is longer does not fit: neither rendered nor tokenized.
        let bytes_max = self.context as usize * self.token_bytes_max as usize;
        if texts_bytes(&request.messages) > bytes_max {
            return Err(bytes_exceeded(self.context));
        }
        let bound = self.grammars.bind(&request, wanted)?;
        wanted.check()?;
        let prompt = self.template.render(&request.messages, &request.tools, bytes_max)?;
        let Some(prompt) = prompt else { return Err(bytes_exceeded(self.context)) };
        wanted.check()?;
        let tokens = self.vocab.tokenize_prompt(&prompt).map_err(|_too_long| too_long())?;
        if tokens.is_empty() || tokens.len() >= self.context as usize {
            return Err(context_exceeded(tokens.len(), self.context));
        }
        // Cutting an answer at a text would break what the grammar promises.
        let whole = matches!(bound, Bound::Whole { .. });
        let stops = if whole { Vec::new() } else { request.sampling.stop.clone() };
        let constraint = Constraint::new(bound);
        let output = Output::new(stops, constraint.calls_allowed());
        let deadline = request.deadline_ms.map(Duration::from_millis);
        Ok(Job {
            id: request.id,
            owner: JobOwner { account: request.account, session: request.session },
            persist: request.persist,
            prompt,
            tokens,
            constraint,
            sampler: Sampler::new(&request.sampling, self.defaults, random_seed()),
            output,
            tokens_max: request.max_tokens.unwrap_or(u32::MAX),
            deadline: deadline.map(|wait| taken.saturating_add(wait)),
            window: request.window,
            taken,
            place: Some(place),
        })
    }
}

/// The failure of a prompt that does not fit.
pub(crate) fn context_exceeded(tokens: usize, context: u32) -> EngineFailure {
    let message = format!(
        "the prompt has {tokens} tokens; this model's context here is {context}, the answer included"
    );
    EngineFailure::new(FailureCode::ContextLengthExceeded, message).param("messages")
}

/// Bytes of the texts that every template shows whole, but for white space around them. (Of an
/// assistant's, some leave parts out.)
fn texts_bytes(messages: &[ChatMessage]) -> usize {
    let shown = messages.iter().filter(|message| message.role != "assistant");
    shown.map(|message| message.content.trim().len()).sum()
}

/// The failure of a prompt with so many bytes that its tokens can't fit.
fn bytes_exceeded(context: u32) -> EngineFailure {
    let message = format!(
        "the prompt has more bytes than any {context} tokens, which are this model's context here, \
         the answer included"
    );
    EngineFailure::new(FailureCode::ContextLengthExceeded, message).param("messages")
}

fn too_long() -> EngineFailure {
    let message = "the prompt is too long to be tokenized";
    EngineFailure::new(FailureCode::ContextLengthExceeded, message).param("messages")
}

fn validate(request: &Generate) -> Result<(), EngineFailure> {
    let session_bytes = request.session.as_ref().map_or(0, String::len);
    let stops = &request.sampling.stop;
    let problem = if !(1..=WINDOW_MAX).contains(&request.window) {
        Some(("window", format!("must be 1 to {WINDOW_MAX}")))
    } else if request.account.is_empty() || request.account.len() > NAME_BYTES_MAX {
        Some(("account", format!("must have 1 to {NAME_BYTES_MAX} bytes")))
    } else if session_bytes > NAME_BYTES_MAX {
        Some(("session", format!("may have {NAME_BYTES_MAX} bytes")))
    } else if request.messages.is_empty() {
        Some(("messages", "must not be empty".to_owned()))
    } else if request.max_tokens == Some(0) {
        Some(("max_tokens", "must be at least 1".to_owned()))
    } else if stops.len() > STOPS_MAX || stops.iter().any(|stop| stop.len() > STOP_BYTES_MAX) {
        Some(("stop", format!("may be {STOPS_MAX} texts of {STOP_BYTES_MAX} bytes")))
    } else {
        None
    };
    match problem {
        Some((param, message)) => {
            let message = format!("{param} {message}");
            Err(EngineFailure::new(FailureCode::InvalidRequest, message).param(param))
        }
        None => Ok(()),
    }
}

/// A seed for a request that names none.
fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        // Without randomness answers repeat, which harms nobody.
        Err(error) => {
            tracing::warn!(%error, "the machine has no randomness");
            0
        }
    }
}
