//! A request for vectors, made ready: its texts as tokens, within every limit.
//!
//! Tokenizers eat hostile texts, so this happens on the threads of `prepare.rs`, which bound the
//! time, and is given up between two texts when nobody waits any more. Nothing is cut: a text that
//! does not fit is refused by its place and the limit. Must not know how a vector is computed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use engine::protocol::{Embed, EngineFailure, FailureCode, TEXTS_BYTES_MAX, TEXTS_MAX};
use types::clock::Monotonic;

use crate::job::{NAME_BYTES_MAX, Place, Wanted};
use crate::llama::{Model, Token};
use crate::prepare::{Asked, Request};
use crate::scheduler::Event;

/// One text.
#[derive(Debug)]
pub(crate) struct Text {
    /// Its place in the request.
    pub(crate) index: u32,
    /// Its tokens, at least one.
    pub(crate) tokens: Vec<Token>,
}

/// Texts that are ready to become vectors.
#[derive(Debug)]
pub(crate) struct Texts {
    /// The parent's id of the request.
    pub(crate) id: u64,
    /// What is not computed yet.
    pub(crate) left: VecDeque<Text>,
    /// Tokens of all texts.
    pub(crate) prompt_tokens: u64,
    /// Whether the parent was told that it began.
    pub(crate) is_started: bool,
    /// When the vectors are of no use any more.
    pub(crate) deadline: Option<Monotonic>,
    /// Its place among the requests that are taken, given up at its end.
    _place: Place,
}

impl Texts {
    /// Nothing of it is computed yet.
    pub(crate) fn new(
        id: u64,
        left: VecDeque<Text>,
        deadline: Option<Monotonic>,
        place: Place,
    ) -> Self {
        let prompt_tokens = left.iter().map(|text| text.tokens.len() as u64).sum();
        Self { id, left, prompt_tokens, is_started: false, deadline, _place: place }
    }
}

/// Makes requests for vectors ready.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    /// The model, for its vocabulary.
    pub(crate) model: Arc<Model>,
    /// Tokens that a text may have.
    pub(crate) context: u32,
}

impl Tokenizer {
    /// Makes what came from the socket ready.
    ///
    /// # Errors
    /// The request is invalid, a text does not fit, nobody waits any more, or an answer is asked
    /// for, which this model does not give.
    pub(crate) fn event(&self, asked: Asked, wanted: &Wanted) -> Result<Event, EngineFailure> {
        let Request::Embed(request) = asked.request else {
            let message = "this model makes embeddings and answers nothing";
            return Err(EngineFailure::new(FailureCode::InvalidRequest, message).param("model"));
        };
        validate(&request)?;
        let (mut left, mut prompt_tokens) = (VecDeque::with_capacity(request.texts.len()), 0);
        for (index, text) in (0u32..).zip(&request.texts) {
            wanted.check()?;
            let tokens = self.tokens(index, text)?;
            prompt_tokens += tokens.len() as u64;
            left.push_back(Text { index, tokens });
        }
        if let Some(most) = request.tokens_max.filter(|most| prompt_tokens > *most) {
            let text = format!("the texts have {prompt_tokens} tokens: this Call may have {most}");
            return Err(invalid("input", text));
        }
        let deadline = request.deadline_ms.map(Duration::from_millis);
        let deadline = deadline.map(|wait| asked.taken.saturating_add(wait));
        Ok(Event::Texts(Box::new(Texts::new(request.id, left, deadline, asked.place))))
    }

    fn tokens(&self, index: u32, text: &str) -> Result<Vec<Token>, EngineFailure> {
        let most = self.context;
        let tokens = self.model.tokenize_whole(text);
        let tokens =
            tokens.map_err(|error| invalid("input", format!("'input[{index}]': {error}")))?;
        match tokens.len() {
            0 => Err(invalid("input", format!("'input[{index}]' has no tokens"))),
            count if count > most as usize => {
                let message = format!(
                    "'input[{index}]' has {count} tokens: a text may have {most} for this model"
                );
                let failure = EngineFailure::new(FailureCode::ContextLengthExceeded, message);
                Err(failure.param("input"))
            }
            _ => Ok(tokens),
        }
    }
}

fn validate(request: &Embed) -> Result<(), EngineFailure> {
    let bytes: usize = request.texts.iter().map(String::len).sum();
    if request.account.is_empty() || request.account.len() > NAME_BYTES_MAX {
        Err(invalid("account", format!("account must have 1 to {NAME_BYTES_MAX} bytes")))
    } else if !(1..=TEXTS_MAX).contains(&request.texts.len()) {
        Err(invalid("input", format!("a request has 1 to {TEXTS_MAX} texts")))
    } else if bytes > TEXTS_BYTES_MAX {
        let text =
            format!("the texts have {bytes} bytes: together they may have {TEXTS_BYTES_MAX}");
        Err(invalid("input", text))
    } else {
        Ok(())
    }
}

fn invalid(param: &str, message: String) -> EngineFailure {
    EngineFailure::new(FailureCode::InvalidRequest, message).param(param)
}
