//! What comes back from an attempt: a stream of events with exactly one end.
//!
//! `Start` · `Frame`* · one of `Finish` | `Failed`. `Failed` may also come alone. A JSON answer is
//! one frame. A pass-through sends `raw` and never re-encodes; the local engine has only deltas,
//! which the door renders.

use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Failure;
use crate::format::Begun;
use crate::notes::Notes;
use crate::usage::Usage;

/// The events of one attempt. Dropping it cancels the attempt.
pub type OutcomeStream = Pin<Box<dyn Stream<Item = OutcomeEvent> + Send>>;

/// One event of an attempt.
#[derive(Clone, Debug)]
pub enum OutcomeEvent {
    /// The target answers.
    Start(Start),
    /// A part of the answer.
    Frame {
        /// The target's own bytes, where they can be passed through.
        raw: Option<Bytes>,
        /// What they say, where somebody needs to know.
        delta: Option<Delta>,
    },
    /// The answer is whole.
    Finish(Finish),
    /// There is no (whole) answer.
    Failed(Box<Failure>),
}

/// The head of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The upstream's HTTP status; 200 for what has none.
    pub status: u16,
    /// The upstream's `content-type`, where its bytes are passed through.
    pub content_type: Option<String>,
    /// The upstream's headers that clients may see (request id, rate limits), lower-case names.
    pub headers: Vec<(String, String)>,
    /// Names of the request's fields that the target could not be told.
    pub dropped: Vec<String>,
    /// Prompt tokens whose state was held and did not have to be computed, where known (the local
    /// engine).
    pub reused_tokens: Option<u64>,
    /// The output cap that the target's format had to be given though nobody set one, in tokens.
    pub output_cap: Option<u64>,
    /// What who answers adds to the notes of the attempt.
    pub notes: Notes,
    /// What the client was passed of an answer that broke off, and which goes on from here in
    /// deltas. An answer that begins has none.
    pub begun: Option<Box<Begun>>,
}

/// The end of a whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// Why the model stopped.
    pub stop: Stop,
    /// The stop sequence that the model met, where the target says it.
    pub stop_text: Option<String>,
    /// What the provider counted; `None` = it did not say.
    pub usage: Option<Usage>,
    /// The model that really answered, as the provider names it.
    pub model_version: Option<String>,
    /// The mean of its tokens' log probabilities, in millionths; known only where the target gave
    /// them and the answer was read as deltas.
    pub mean_logprob_micros: Option<i64>,
    /// The target's own terminal bytes (such as `data: [DONE]`), which the door sends last.
    pub raw: Option<Bytes>,
    /// The target's stream carried SSE `id:` lines: then no comment may be added (the Python SDK
    /// trips over both).
    pub carried_ids: bool,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It was done, or met a stop sequence.
    #[default]
    End,
    /// It met the output cap.
    Length,
    /// It calls tools.
    ToolCalls,
    /// The provider filtered the content.
    ContentFilter,
}

/// A piece of an answer in no vendor's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Delta {
    /// Text.
    Text {
        /// The piece.
        text: String,
    },
    /// Reasoning.
    Reasoning {
        /// The piece.
        text: String,
    },
    /// The reasoning up to here is whole, and signed: what follows begins anew.
    ReasoningSignature {
        /// What the vendor needs back to continue it.
        signature: String,
        /// The signature is all there is of it: the vendor keeps the text to itself.
        redacted: bool,
        /// The format of the vendor that signed it, such as `anthropic_messages`.
        origin: String,
    },
    /// A refusal.
    Refusal {
        /// The piece.
        text: String,
    },
    /// A tool call begins.
    ToolCallStart {
        /// Its place among the calls of this answer, from 0 without gaps.
        index: u32,
        /// Its id, unique within the conversation.
        id: String,
        /// The tool.
        name: String,
    },
    /// A piece of a tool call's arguments (JSON text).
    ToolCallArguments {
        /// Its place among the calls of this answer.
        index: u32,
        /// The piece.
        json: String,
    },
    /// What a tool answered: the whole result, of a [`crate::call::CallKind::Tool`] only.
    ToolResult {
        /// Its text content, joined.
        text: String,
        /// Whether the tool says that it failed.
        is_error: bool,
        /// The result as the tool server gave it.
        raw: Value,
    },
}
