//! The protocol between Holdfast and `holdfast-engine`: messages over one unix socket, multiplexed
//! by id.
//!
//! A frame is a `u32` length (big-endian, at most [`codec::FRAME_BYTES_MAX`]) and that many bytes
//! of JSON: one [`FromEngine`] or [`ToEngine`]. The child speaks first, with [`Hello`]; a parent
//! that does not know its protocol number refuses it by name. Every request has an id that the
//! parent chose and ends in exactly one of `done`, `embedded`, `failed`, `flushed`, `dropped`,
//! `stats`; a `cancel` ends its request in `failed` with code `cancelled`.
//!
//! Flow control: a request names its [`Generate::window`]; the child sends at most that many deltas
//! that were not acknowledged, then stops that sequence alone. So one slow reader neither stops the
//! batch nor fills memory. Vectors need no window: there are as many as there are texts, of which
//! [`TEXTS_MAX`] bounds the number.
//!
//! Both sides take the other's bytes as hostile: frames are bounded, unknown messages are errors,
//! unknown fields are ignored (so that either side may be a little newer). This module knows no
//! socket, model or session store.

pub mod codec;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The protocol that this build speaks. Another number is another protocol: there is no
/// negotiation.
pub const PROTOCOL: u32 = 1;

/// The most deltas of one request that may be on their way, whatever it asks for.
pub const WINDOW_MAX: u32 = 256;

/// The most texts of one request for vectors.
pub const TEXTS_MAX: usize = 2_048;

/// The most bytes of all texts of one request for vectors: some seconds' work for a tokenizer.
pub const TEXTS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the child says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromEngine {
    /// Once, first: who it is.
    Hello(Hello),
    /// A request left the queue and its prompt, or its first text, is being computed.
    Started {
        /// The request.
        id: u64,
        /// Tokens of the whole prompt, or of all texts.
        prompt_tokens: u64,
        /// Of these: state that was held and is not computed again.
        reused_tokens: u64,
        /// Where that state came from.
        reused_from: ReusedFrom,
    },
    /// A piece of the answer.
    Delta {
        /// The request.
        id: u64,
        /// The piece.
        #[serde(flatten)]
        piece: Piece,
        /// Tokens sampled since the last delta of this request, this piece's own included.
        tokens: u32,
    },
    /// A generation is whole.
    Done {
        /// The request.
        id: u64,
        /// Why it stopped.
        stop: StopReason,
        /// What was counted.
        usage: TokenUsage,
    },
    /// A text's vector. Those of a request come in any order.
    Vector {
        /// The request.
        id: u64,
        /// The text's place among the request's.
        index: u32,
        /// As long as 1; see [`pack`].
        numbers: String,
    },
    /// Every vector of a request was sent.
    Embedded {
        /// The request.
        id: u64,
        /// Tokens of all texts, those included that the tokenizer puts around each.
        prompt_tokens: u64,
    },
    /// A request has no (whole) answer.
    Failed {
        /// The request.
        id: u64,
        /// What went wrong.
        #[serde(flatten)]
        failure: EngineFailure,
    },
    /// Every held session that may be there is on disk.
    Flushed {
        /// The request.
        id: u64,
    },
    /// The session's state is gone, from memory and disk.
    Dropped {
        /// The request.
        id: u64,
    },
    /// Figures for operators and benches.
    Stats {
        /// The request.
        id: u64,
        /// The figures.
        #[serde(flatten)]
        stats: Stats,
    },
}

/// The child's introduction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Must be [`PROTOCOL`].
    pub protocol: u32,
    /// Version of the child and of what it computes with, for logs.
    pub build: String,
    /// What it has loaded.
    pub model: LoadedModel,
}

/// A loaded model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModel {
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Architecture as the file names it, such as `llama`.
    pub arch: String,
    /// Tokens that one sequence can hold, prompt and answer together.
    pub context: u32,
    /// Sequences that run at once.
    pub sequences: u32,
    /// Bytes of its longest token: what has more bytes than that for each token of the context does
    /// not fit. 0 = not said.
    #[serde(default)]
    pub token_bytes_max: u32,
    /// Numbers of a text's vector; 0 = it generates text and makes no vectors.
    #[serde(default)]
    pub dimensions: u32,
    /// SHA-256 of the chat template in use, lower-case hexadecimal.
    pub template_sha256: String,
}

/// Where reused state came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReusedFrom {
    /// Nothing was reused.
    Nothing,
    /// It was in memory.
    Memory,
    /// It was read back from disk.
    Disk,
}

/// A piece of an answer: exactly one of its kinds, by its own key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// Text; whole code points only.
    Text(String),
    /// Reasoning; whole code points only.
    Reasoning(String),
    /// A tool call begins or goes on.
    ToolCall(ToolCallPiece),
}

/// A piece of a tool call. The first of a call has its name, all others arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCallPiece {
    /// Its place among the calls of this answer, from 0 without gaps. Ids are the parent's to make.
    pub index: u32,
    /// The tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The next part of the arguments' JSON text; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}

/// Why a generation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended its turn, a stop sequence was met, or the schema is satisfied.
    End,
    /// `max_tokens` or the context is used up. What is under a grammar was closed in time: it still
    /// parses.
    Length,
    /// It calls tools.
    ToolCalls,
}

/// Tokens of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// Tokens of the prompt, reused ones included.
    pub prompt_tokens: u64,
    /// Of these: reused.
    pub reused_tokens: u64,
    /// Tokens sampled.
    pub completion_tokens: u64,
    /// Microseconds between taking the request from the socket and the first sampled token; 0 if
    /// there was none.
    pub first_token_us: u64,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFailure {
    /// The class.
    pub code: FailureCode,
    /// For the client: what is wrong and what to do; no path, no other tenant's data.
    pub message: String,
    /// The field at fault, such as `tools[0].parameters/properties/n`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// Whether the same request may succeed a moment later.
    pub retryable: bool,
}

impl EngineFailure {
    /// A failure of `code`, which says whether a retry makes sense.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, retryable: code.retryable() }
    }

    /// The same, naming the field at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }
}

/// Classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// A field is missing, malformed or contradicts another.
    InvalidRequest,
    /// A JSON schema that the grammar can't hold; `param` is its path.
    UnsupportedSchema,
    /// Prompt and room for one token do not fit the context.
    ContextLengthExceeded,
    /// The queue is full.
    Overloaded,
    /// `deadline_ms` has passed.
    DeadlineExceeded,
    /// The parent cancelled it.
    Cancelled,
    /// The engine is stopping.
    ShuttingDown,
    /// The model's chat template refused the conversation.
    TemplateFailed,
    /// The model computed nothing usable, or the engine has a bug.
    Internal,
}

impl FailureCode {
    /// Whether the same request may succeed a moment later.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::ShuttingDown | Self::Internal)
    }
}

/// Figures since the child started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Sequences that are generating now.
    pub active: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Sessions whose state is in memory.
    pub held_sessions: u32,
    /// Prompt tokens computed.
    pub prefilled_tokens: u64,
    /// Prompt tokens reused.
    pub reused_tokens: u64,
    /// Tokens sampled.
    pub decoded_tokens: u64,
    /// States written to disk.
    pub saved_states: u64,
    /// States read back from disk.
    pub restored_states: u64,
    /// State files that did not match and were deleted.
    pub discarded_states: u64,
    /// Bytes of state files.
    pub disk_bytes: u64,
}

/// What the parent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToEngine {
    /// Generate an answer.
    Generate(Box<Generate>),
    /// Make vectors of texts.
    Embed(Box<Embed>),
    /// End a generation, or a request for vectors, within one step.
    Cancel {
        /// The request to end.
        id: u64,
    },
    /// So many deltas of a generation were taken by its reader.
    Ack {
        /// The generation.
        id: u64,
        /// How many more.
        deltas: u32,
    },
    /// Write every held session that may be there to disk.
    Flush {
        /// Id of this request.
        id: u64,
    },
    /// Forget a session, in memory and on disk.
    Drop {
        /// Id of this request.
        id: u64,
        /// Whose it is.
        account: String,
        /// The session.
        session: String,
    },
    /// Ask for figures.
    Stats {
        /// Id of this request.
        id: u64,
    },
}

/// A request for an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    /// Id of this request; not in use by another.
    pub id: u64,
    /// Whose it is. State is never shared between accounts.
    pub account: String,
    /// The session whose state it extends and leaves behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whether the session's state may be written to disk, and read from there. Without it the
    /// state is in memory only: not saved behind the turn, at eviction or at the engine's end.
    #[serde(default)]
    pub persist: bool,
    /// The history, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether and which.
    #[serde(default)]
    pub tool_choice: ToolChoice,
    /// Whether several calls in one answer are allowed.
    #[serde(default = "yes")]
    pub parallel_tool_calls: bool,
    /// JSON Schema that the text must satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// How tokens are drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// The most tokens to sample; none = what the context holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Milliseconds from now after which the answer is of no use, waiting included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Deltas that may be unacknowledged, 1 to [`WINDOW_MAX`].
    pub window: u32,
}

/// A request for vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embed {
    /// Id of this request; not in use by another.
    pub id: u64,
    /// Whose it is: one account's requests leave others room while they are made ready.
    pub account: String,
    /// The texts, 1 to [`TEXTS_MAX`], none of them empty, of [`TEXTS_BYTES_MAX`] at most together.
    pub texts: Vec<String>,
    /// Refuse texts that have more tokens than this together, before anything is computed; none =
    /// any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<u64>,
    /// Milliseconds from now after which the vectors are of no use, waiting included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// A vector as text: Base64 of its numbers' bytes, each four, the lowest first.
pub fn pack(numbers: &[f32]) -> String {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    data_encoding::BASE64.encode(&bytes)
}

/// The vector that [`pack`] wrote; `None` if it is none, or has a number that is not finite.
pub fn unpack(text: &str) -> Option<Vec<f32>> {
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).ok()?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    (rest.is_empty() && numbers.iter().all(|number| number.is_finite())).then_some(numbers)
}

fn yes() -> bool {
    true
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Its text.
    #[serde(default)]
    pub content: String,
    /// An assistant's reasoning, for templates that show it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// An assistant's calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A call in the history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments as JSON text, exactly as they were generated.
    pub arguments: String,
}

/// A tool that the model may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of its arguments; none = any object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

/// Whether the model may or must call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named {
        /// The tool.
        name: String,
    },
}

/// How tokens are drawn. What is absent is as the model file says, else as is said here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0 = greedy; else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus; 1 = off, also if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The most likely tokens only; 0 = off, also if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Tokens at least this likely relative to the likeliest; 0 = off, also if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Makes drawing repeatable; absent = random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Subtracted per occurrence in the answer so far.
    pub frequency_penalty: f64,
    /// Subtracted once if in the answer so far.
    pub presence_penalty: f64,
    /// Texts that end the answer and are not part of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}
