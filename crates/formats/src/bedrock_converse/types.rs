//! Shapes of a request, as they are written.
//!
//! The order of the fields is the order on the wire and never changes: what a provider's prompt
//! cache knows begins with the same bytes on every turn. Texts are borrowed, and a tool's arguments
//! are embedded as the model wrote them.

use std::borrow::Cow;

use ::types::conversation::CacheLife;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::anthropic_messages::types::Thinking;
use crate::marks::ttl;

/// A request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) system: Vec<Piece<'a>>,
    pub(crate) messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inference_config: Option<InferenceConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) additional_model_request_fields: Option<Additional>,
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    pub(crate) additional_model_response_field_paths: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_config: Option<OutputConfig<'a>>,
}

/// A message.
#[derive(Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) role: &'static str,
    pub(crate) content: Vec<Piece<'a>>,
}

/// One block, or one that came in this format and goes as it came.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Piece<'a> {
    Block(Block<'a>),
    Given(&'a Value),
}

/// A block of content: an object with one field, which says what it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Block<'a> {
    Text(&'a str),
    Image {
        format: &'static str,
        source: Source<'a>,
    },
    Document {
        format: &'static str,
        name: String,
        source: Source<'a>,
    },
    Video {
        format: &'static str,
        source: Source<'a>,
    },
    Audio {
        format: &'static str,
        source: Source<'a>,
    },
    ToolUse {
        tool_use_id: Cow<'a, str>,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Piece<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    ReasoningContent(Reasoning<'a>),
    CachePoint(CachePoint),
}

/// A mark: the prompt cache is to keep what stands before.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct CachePoint {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<&'static str>,
}

impl CachePoint {
    pub(crate) const fn of(life: CacheLife) -> Self {
        Self { kind: "default", ttl: ttl(life) }
    }
}

/// Where media are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Source<'a> {
    /// In base64.
    Bytes(&'a str),
}

/// Reasoning that its vendor signed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reasoning<'a> {
    ReasoningText { text: &'a str, signature: &'a str },
    RedactedContent(&'a str),
}

/// What tools there are, and how they are to be used.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolConfig<'a> {
    pub(crate) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_choice: Option<ToolChoice<'a>>,
}

/// A tool that the client runs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Tool<'a> {
    ToolSpec {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        input_schema: Schema<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
    CachePoint(CachePoint),
}

/// A schema.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Schema<'a> {
    Json(Cow<'a, Value>),
}

/// Which tool has to be called.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ToolChoice<'a> {
    Any {},
    Tool { name: &'a str },
}

/// How an answer is drawn.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InferenceConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) stop_sequences: &'a [String],
}

/// Fields of the model's own vendor, in that vendor's words.
#[derive(Default, Serialize)]
pub(crate) struct Additional {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<ReasoningEffort>,
}

/// OpenAI's effort.
#[derive(Serialize)]
pub(crate) struct ReasoningEffort {
    pub(crate) effort: &'static str,
}

/// How hard the model is to try, and the shape of its answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text_format: Option<TextFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) effort: Option<&'static str>,
}

/// The shape of an answer.
#[derive(Serialize)]
pub(crate) struct TextFormat<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) structure: Structure<'a>,
}

/// A structure of answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Structure<'a> {
    /// The schema is a text here.
    JsonSchema { schema: String, name: &'a str },
}
