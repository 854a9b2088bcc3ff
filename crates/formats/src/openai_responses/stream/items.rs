//! One output item while it is written: the events of its life and what it looks like.
//!
//! The shapes are those that SDKs check: an item keeps its id from `added` to `done`, text parts
//! are announced before their deltas, and every `done` carries the whole text. Fields that some SDK
//! wants absent are left out, not null.

use serde_json::{Map, Value, json};

use super::PendingMcpCall;
use crate::openai_responses::client_tools;
use crate::openai_responses::types::{BESIDE, HOLDFAST};

/// What an open item is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Refusal,
    Reasoning,
    Function {
        namespace: Option<String>,
    },
    /// A call of a tool that takes free text: `text` is what the model's function was called with.
    Custom,
    Mcp {
        server_label: String,
    },
}

impl Kind {
    pub(super) const fn id_prefix(&self) -> &'static str {
        match self {
            Self::Message | Self::Refusal => "msg_",
            Self::Reasoning => "rs_",
            Self::Function { .. } => "fc_",
            Self::Custom => "ctc_",
            Self::Mcp { .. } => "mcp_",
        }
    }

    /// What the names of its deltas begin with.
    const fn event(&self) -> &'static str {
        match self {
            Self::Message => "response.output_text",
            Self::Refusal => "response.refusal",
            Self::Reasoning => "response.reasoning_text",
            Self::Function { .. } => "response.function_call_arguments",
            Self::Custom => "response.custom_tool_call_input",
            Self::Mcp { .. } => "response.mcp_call_arguments",
        }
    }

    /// The field of its `done` event that has the whole text.
    const fn whole(&self) -> &'static str {
        match self {
            Self::Message | Self::Reasoning => "text",
            Self::Refusal => "refusal",
            Self::Function { .. } | Self::Mcp { .. } => "arguments",
            Self::Custom => "input",
        }
    }
}

/// An item that is being written.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) output_index: u64,
    /// Its place among the model's calls.
    pub(super) place: Option<u32>,
    pub(super) call_id: String,
    pub(super) name: String,
    /// Its text, or its arguments.
    pub(super) text: String,
    /// Extra fields, such as a result or `holdfast`.
    pub(super) extra: Map<String, Value>,
    /// The first MCP call of the same answer, if this item comes after it.
    pub(super) beside: Option<String>,
    waiting: bool,
}

impl Open {
    pub(super) fn new(kind: Kind, id: String, output_index: u64) -> Self {
        Self {
            kind,
            id,
            output_index,
            place: None,
            call_id: String::new(),
            name: String::new(),
            text: String::new(),
            extra: Map::new(),
            beside: None,
            waiting: false,
        }
    }

    /// An MCP call that waited when it was stored.
    pub(super) fn waiting(item: &Value, output_index: u64) -> Option<Self> {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("type") != "mcp_call" || text("status") != "in_progress" {
            return None;
        }
        let kind = Kind::Mcp { server_label: text("server_label").to_owned() };
        let mut open = Self::new(kind, text("id").to_owned(), output_index);
        text("name").clone_into(&mut open.name);
        text("arguments").clone_into(&mut open.text);
        text("id").clone_into(&mut open.call_id);
        if let Some(Value::Object(own)) = item.get(HOLDFAST) {
            let mut own = own.clone();
            let beside = own.shift_remove(BESIDE);
            open.beside = beside.as_ref().and_then(Value::as_str).map(str::to_owned);
            if !own.is_empty() {
                open.extra.insert(HOLDFAST.to_owned(), own.into());
            }
        }
        open.waiting = true;
        Some(open)
    }

    pub(super) const fn waits(&self) -> bool {
        self.waiting
    }

    pub(super) const fn is_mcp(&self) -> bool {
        matches!(self.kind, Kind::Mcp { .. })
    }

    /// Whether it may be open beside others.
    pub(super) const fn is_call(&self) -> bool {
        matches!(self.kind, Kind::Mcp { .. } | Kind::Function { .. } | Kind::Custom)
    }

    /// Its arguments are whole: it waits for its tool if one of ours does it.
    pub(super) const fn becomes_waiting(&mut self) -> bool {
        self.waiting = self.is_mcp();
        self.waiting
    }

    pub(super) fn pending(&self) -> Option<PendingMcpCall> {
        let Kind::Mcp { server_label } = &self.kind else { return None };
        self.waiting.then(|| PendingMcpCall {
            item_id: self.id.clone(),
            output_index: self.output_index,
            call_id: self.call_id.clone(),
            server_label: server_label.clone(),
            name: self.name.clone(),
            arguments: self.text.clone(),
        })
    }

    /// `output_item.added` and what announces its content.
    pub(super) fn added_events(&self) -> Vec<(String, Value)> {
        let mut begun = Self { text: String::new(), ..self.clone() }.item("in_progress");
        if let Some(content) = begun.get_mut("content") {
            *content = json!([]);
        }
        let item = json!({ "output_index": self.output_index, "item": begun });
        let mut events = vec![("response.output_item.added".to_owned(), item)];
        match self.kind {
            Kind::Message | Kind::Refusal | Kind::Reasoning => {
                let part = self.placed(json!({ "content_index": 0, "part": self.part("") }));
                events.push(("response.content_part.added".to_owned(), part));
            }
            Kind::Mcp { .. } => {
                events.push(("response.mcp_call.in_progress".to_owned(), self.placed(json!({}))));
            }
            Kind::Function { .. } | Kind::Custom => {}
        }
        events
    }

    /// The event of a piece of its text; none for an empty piece.
    pub(super) fn delta_event(&self, piece: &str) -> Option<(String, Value)> {
        // What a custom tool gets is known when its arguments are whole.
        if piece.is_empty() || self.kind == Kind::Custom {
            return None;
        }
        Some(self.delta_of(piece))
    }

    fn delta_of(&self, piece: &str) -> (String, Value) {
        let fields = match self.kind {
            Kind::Message => json!({ "content_index": 0, "delta": piece, "logprobs": [] }),
            Kind::Refusal | Kind::Reasoning => json!({ "content_index": 0, "delta": piece }),
            Kind::Function { .. } | Kind::Custom | Kind::Mcp { .. } => json!({ "delta": piece }),
        };
        (format!("{}.delta", self.kind.event()), self.placed(fields))
    }

    /// The events that say its whole text, before `output_item.done`.
    ///
    /// A cut item's arguments are no JSON, so no event claims that they are whole.
    pub(super) fn done_events(&mut self, status: &str) -> Vec<(String, Value)> {
        if self.is_call() {
            if status == "incomplete" {
                return Vec::new();
            }
            if self.text.is_empty() {
                // A call without arguments: clients parse the text as JSON.
                self.text.push_str("{}");
            }
        }
        if self.kind == Kind::Custom {
            let input = client_tools::input_of(&self.text);
            let whole = self.placed(json!({ "input": input }));
            return vec![self.delta_of(&input), (format!("{}.done", self.kind.event()), whole)];
        }
        let mut fields = Map::new();
        if !self.is_call() {
            fields.insert("content_index".to_owned(), 0.into());
        }
        fields.insert(self.kind.whole().to_owned(), self.text.clone().into());
        if self.kind == Kind::Message {
            fields.insert("logprobs".to_owned(), json!([]));
        }
        let done = (format!("{}.done", self.kind.event()), self.placed(Value::Object(fields)));
        let mut events = vec![done];
        if !self.is_call() {
            let part = json!({ "content_index": 0, "part": self.part(&self.text) });
            events.push(("response.content_part.done".to_owned(), self.placed(part)));
        }
        events
    }

    /// The item in this status.
    pub(super) fn item(&self, status: &str) -> Value {
        let mut item = match &self.kind {
            Kind::Message | Kind::Refusal => json!({
                "id": self.id, "type": "message", "status": status, "role": "assistant",
                "content": [self.part(&self.text)],
            }),
            Kind::Reasoning => {
                // What a vendor keeps to itself has no text.
                let told = (!self.text.is_empty()).then(|| self.part(&self.text));
                let content: Vec<Value> = told.into_iter().collect();
                json!({
                    "id": self.id, "type": "reasoning", "status": status, "summary": [],
                    "content": content,
                })
            }
            Kind::Function { .. } => json!({
                "id": self.id, "type": "function_call", "status": status,
                "call_id": self.call_id, "name": self.name, "arguments": self.text,
            }),
            Kind::Custom => json!({
                "id": self.id, "type": "custom_tool_call", "status": status,
                "call_id": self.call_id, "name": self.name,
                // Arguments that are not whole hold no text yet.
                "input": if status == "completed" {
                    client_tools::input_of(&self.text)
                } else {
                    String::new()
                },
            }),
            Kind::Mcp { server_label } => json!({
                "id": self.id, "type": "mcp_call", "status": status,
                "server_label": server_label, "name": self.name, "arguments": self.text,
                "approval_request_id": null, "output": null, "error": null,
            }),
        };
        if let Value::Object(fields) = &mut item {
            if let Kind::Function { namespace: Some(namespace) } = &self.kind {
                fields.insert("namespace".to_owned(), namespace.as_str().into());
            }
            fields.extend(self.extra.clone());
            if let Some(beside) = &self.beside {
                let own = fields.entry(HOLDFAST).or_insert_with(|| json!({}));
                if let Value::Object(own) = own {
                    own.insert(BESIDE.to_owned(), beside.as_str().into());
                }
            }
        }
        item
    }

    fn part(&self, text: &str) -> Value {
        match self.kind {
            Kind::Refusal => json!({ "type": "refusal", "refusal": text }),
            Kind::Reasoning => json!({ "type": "reasoning_text", "text": text }),
            Kind::Message | Kind::Function { .. } | Kind::Custom | Kind::Mcp { .. } => {
                json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
            }
        }
    }

    /// Fields with the item's id and place before them.
    fn placed(&self, fields: Value) -> Value {
        let mut placed = Map::new();
        placed.insert("item_id".to_owned(), self.id.clone().into());
        placed.insert("output_index".to_owned(), self.output_index.into());
        if let Value::Object(fields) = fields {
            placed.extend(fields);
        }
        Value::Object(placed)
    }
}
