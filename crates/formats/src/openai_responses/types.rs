//! What a create request of the Responses API says, checked and typed.
//!
//! Items stay JSON ([`InputItem::value`]) because they are stored and echoed as the client wrote
//! them; their kind and shape have been checked once, so later readers need not. Defaults are
//! applied here and nowhere else (`store` is true: SDKs rely on it).

use serde_json::{Map, Value, json};
use types::conversation::{OutputShape, ToolChoice, ToolDefinition};

/// A create request.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateResponse {
    /// The model that is asked for.
    pub model: String,
    /// The new input, in order. A string became one user message.
    pub input: Vec<InputItem>,
    /// Instructions for this response only; they are not inherited by a next one.
    pub instructions: Option<String>,
    /// The response that this one continues.
    pub previous_response_id: Option<String>,
    /// Whether the response is kept; true unless said otherwise.
    pub store: bool,
    /// Whether it is made without the client waiting.
    pub background: bool,
    /// Whether its events are streamed.
    pub stream: bool,
    /// Tools in the client's order.
    pub tools: Vec<Tool>,
    /// Whether and which tool must be called; a named one may be a function or an MCP server's
    /// tool.
    pub tool_choice: ToolChoice,
    /// Whether several calls in one answer are allowed.
    pub parallel_tool_calls: Option<bool>,
    /// Output cap in tokens, reasoning included.
    pub max_output_tokens: Option<u64>,
    /// Most calls of MCP tools in this response.
    pub max_tool_calls: Option<u64>,
    /// 0 = greedy.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Penalty on tokens that stand in the text.
    pub presence_penalty: Option<f64>,
    /// Penalty on tokens by how often they stand in the text.
    pub frequency_penalty: Option<f64>,
    /// What shape the text must have (`text.format`).
    pub output_shape: OutputShape,
    /// The client's labels.
    pub metadata: Map<String, Value>,
    /// What the client wants included; unknown values are accepted.
    pub include: Vec<String>,
    /// `auto` or `disabled`.
    pub truncation: Option<String>,
    /// The reasoning settings as given.
    pub reasoning: Option<Value>,
    /// Whom of the client's users it is for, to a provider's guards.
    pub safety_identifier: Option<String>,
    /// What requests with the same beginning have in common, to a provider's cache.
    pub prompt_cache_key: Option<String>,
    /// At which of a provider's tiers it is to be done.
    pub service_tier: Option<String>,
    /// Whom of the client's users it is for, by its older name.
    pub user: Option<String>,
    /// Accepted and echoed; 0 unless given.
    pub top_logprobs: u64,
    /// The `tools` as they are echoed.
    pub tools_echo: Vec<Value>,
    /// The `tool_choice` as it is echoed.
    pub tool_choice_echo: Value,
    /// The `text` as it is echoed.
    pub text_echo: Value,
    /// Fields that are not known here, by name: they can't be told to a target and are reported as
    /// dropped.
    pub rest: Map<String, Value>,
}

impl CreateResponse {
    /// The function tools as neutral definitions, in order.
    pub fn function_definitions(&self) -> Vec<ToolDefinition> {
        let functions = self.tools.iter().filter_map(|tool| match tool {
            Tool::Function(function) => Some(function.definition.clone()),
            Tool::Mcp(_) => None,
        });
        functions.collect()
    }

    /// The MCP servers that are asked for, in order.
    pub fn mcp_tools(&self) -> impl Iterator<Item = &McpTool> {
        self.tools.iter().filter_map(|tool| match tool {
            Tool::Mcp(mcp) => Some(mcp),
            Tool::Function(_) => None,
        })
    }
}

/// The extra field of an item that holds what only we say of it.
pub(super) const HOLDFAST: &str = "holdfast";
/// In it: the id of the first MCP call of the answer that this item is a later part of.
pub(super) const BESIDE: &str = "beside";

/// One item of the input, or a stored item of any response.
#[derive(Clone, Debug, PartialEq)]
pub struct InputItem {
    /// What it is.
    pub kind: ItemKind,
    /// The item as the client wrote it, with `type` always present.
    pub value: Value,
}

impl InputItem {
    /// Its id, if it has one.
    pub fn id(&self) -> Option<&str> {
        self.value.get("id").and_then(Value::as_str)
    }

    /// The first MCP call of the same answer of the model, if this item says that it came after it.
    pub(super) fn beside(&self) -> Option<&str> {
        self.value.get(HOLDFAST)?.get(BESIDE)?.as_str()
    }

    /// The id that an item reference names.
    pub fn reference(&self) -> Option<&str> {
        if self.kind == ItemKind::ItemReference { self.id() } else { None }
    }

    /// The prefix of ids of such items.
    pub const fn id_prefix(&self) -> &'static str {
        self.kind.id_prefix()
    }

    /// Gives it the form in which it is kept and listed: an id if it has none, a status if its
    /// kind has one, and a message's text as a part (the SDKs type `content` as a list).
    #[must_use]
    pub fn with_id(mut self, new_id: impl FnOnce(&'static str) -> String) -> Self {
        let (has_id, prefix) = (self.id().is_some(), self.id_prefix());
        if let Value::Object(map) = &mut self.value {
            if !has_id {
                map.insert("id".to_owned(), new_id(prefix).into());
            }
            if self.kind == ItemKind::Message {
                text_as_part(map);
            }
            if self.kind.has_status() && map.get("status").is_none_or(Value::is_null) {
                map.insert("status".to_owned(), "completed".into());
            }
        }
        self
    }
}

/// A message's content that was written as a string, as the one part that it stands for.
fn text_as_part(message: &mut Map<String, Value>) {
    let Some(Value::String(text)) = message.get("content") else { return };
    let part = if message.get("role").is_some_and(|role| role == "assistant") {
        json!({ "type": "output_text", "text": text, "annotations": [] })
    } else {
        json!({ "type": "input_text", "text": text })
    };
    message.insert("content".to_owned(), json!([part]));
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A message of any role.
    Message,
    /// The model calls a function of the client.
    FunctionCall,
    /// What the function answered.
    FunctionCallOutput,
    /// The model calls a tool of the client that takes free text.
    CustomToolCall,
    /// What that tool answered.
    CustomToolCallOutput,
    /// The model's reasoning.
    Reasoning,
    /// The model called a tool of a server, with its result.
    McpCall,
    /// The tools of a server.
    McpListTools,
    /// Stands for an item of an earlier response.
    ItemReference,
}

impl ItemKind {
    /// The `type` of such items.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::FunctionCall => "function_call",
            Self::FunctionCallOutput => "function_call_output",
            Self::CustomToolCall => "custom_tool_call",
            Self::CustomToolCallOutput => "custom_tool_call_output",
            Self::Reasoning => "reasoning",
            Self::McpCall => "mcp_call",
            Self::McpListTools => "mcp_list_tools",
            Self::ItemReference => "item_reference",
        }
    }

    /// The kind of that `type`.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [
            Self::Message,
            Self::FunctionCall,
            Self::FunctionCallOutput,
            Self::CustomToolCall,
            Self::CustomToolCallOutput,
            Self::Reasoning,
            Self::McpCall,
            Self::McpListTools,
            Self::ItemReference,
        ];
        all.into_iter().find(|kind| kind.name() == name)
    }

    /// The prefix of their ids.
    pub const fn id_prefix(self) -> &'static str {
        match self {
            Self::Message | Self::ItemReference => "msg_",
            Self::FunctionCall => "fc_",
            Self::FunctionCallOutput => "fco_",
            Self::CustomToolCall => "ctc_",
            Self::CustomToolCallOutput => "ctco_",
            Self::Reasoning => "rs_",
            Self::McpCall => "mcp_",
            Self::McpListTools => "mcpl_",
        }
    }

    const fn has_status(self) -> bool {
        matches!(
            self,
            Self::Message | Self::FunctionCall | Self::FunctionCallOutput | Self::CustomToolCall
        )
    }
}

/// A tool.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    /// The client runs it.
    Function(FunctionTool),
    /// We run it, on a configured server.
    Mcp(McpTool),
}

/// A function of the client, or what a model is told of another tool of its.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionTool {
    /// Its neutral definition.
    pub definition: ToolDefinition,
}

/// The tools of a configured server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpTool {
    /// The server's configured name.
    pub server_label: String,
    /// Which of its tools; `None` = all that the key may use.
    pub allowed_tools: Option<McpToolFilter>,
    /// Its place in `tools`, for errors that name it.
    pub index: usize,
}

/// Which tools of a server may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpToolFilter {
    /// By name; `None` = any name.
    pub names: Option<Vec<String>>,
    /// Only tools that are declared read-only (true) or not (false).
    pub read_only: Option<bool>,
}
