//! Neutral deltas as the events of a response, in the one order that every SDK takes.
//!
//! [`EventWriter`] numbers events (`sequence_number`) and items (`output_index`) without gaps,
//! gives items their ids and keeps what the response's `output` will be. It is driven: `created`,
//! `in_progress`, then deltas and tool results, then exactly one of `completed`, `failed`,
//! `incomplete`. Every method gives the events to send, in order; nothing is sent or stored here.
//! After a restart a new writer goes on from the last stored number with the finished items and the
//! MCP calls that have not ended ([`EventWriter::restore`]).
//!
//! A model's call of an MCP tool is one item over two phases: its arguments come from the model,
//! its result from the tool; it stays open in between. Items do not say which of them one answer
//! of the model brought, so what an answer says after such a call carries a mark that names the
//! call (`holdfast.beside`): the history is later told to models as the model said it.

mod items;
mod mcp;
pub(crate) mod reasoning;
mod writer;

use std::sync::Arc;

use ::types::clock::Timestamp;
use ::types::ids::CallId;
use ::types::outcome::Delta;
use ::types::usage::Usage;
use ::types::{Failure, Ids};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use self::items::{Kind, Open};
pub use self::mcp::PendingMcpCall;
pub use self::reasoning::signature_of;
pub(super) use self::writer::Writer;
use super::client_tools::{self, ShownAs};
use super::errors::response_error;
use super::response::{ResponseSkeleton, ResponseState};
use crate::sse;

/// Makes a new id with the given prefix.
pub type NewId = Box<dyn FnMut(&str) -> String + Send>;

/// Random bytes in an item's id, as long as OpenAI's own.
const ITEM_ID_BYTES: usize = 24;

/// Item ids from the usual source.
pub fn ids_of(ids: Arc<Ids>) -> NewId {
    Box::new(move |prefix| ids.hex(prefix, ITEM_ID_BYTES))
}

/// The event that keeps a silent stream alive. It is not numbered and not stored.
pub fn keepalive_event() -> Value {
    json!({ "type": "keepalive" })
}

/// An event as SSE bytes.
pub fn event_frame(event: &Value) -> Bytes {
    let mut out = BytesMut::new();
    write_frame(event, &mut out);
    out.freeze()
}

fn write_frame(event: &Value, out: &mut BytesMut) {
    let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
    sse::write_event(name, event.to_string().as_bytes(), out);
}

/// Writes the events of one response.
pub struct EventWriter {
    skeleton: ResponseSkeleton,
    new_id: NewId,
    sequence: u64,
    next_output_index: u64,
    open: Vec<Open>,
    output: Vec<(u64, Value)>,
    /// Items from this output index on belong to the running model call.
    call_from: u64,
    /// Server by tool name, for the tools that are not the client's.
    mcp: Vec<(String, String)>,
    /// The client's tools that a model knows under another name or as another kind.
    shown: Vec<(String, ShownAs)>,
}

impl std::fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("EventWriter");
        shown.field("id", &self.skeleton.id()).field("sequence", &self.sequence);
        shown.field("next_output_index", &self.next_output_index).finish_non_exhaustive()
    }
}

impl EventWriter {
    /// A writer whose first event has number `start_sequence` and whose first item has
    /// `start_output_index`.
    pub fn new(
        skeleton: ResponseSkeleton,
        new_id: NewId,
        start_sequence: u64,
        start_output_index: u64,
    ) -> Self {
        Self {
            shown: client_tools::shown_of(skeleton.tools()),
            skeleton,
            new_id,
            sequence: start_sequence,
            next_output_index: start_output_index,
            open: Vec::new(),
            output: Vec::new(),
            call_from: start_output_index,
            mcp: Vec::new(),
        }
    }

    /// The target answers without what of the request was dropped, by name: the response's end says
    /// so.
    pub fn dropped(&mut self, names: &[String]) {
        self.skeleton.correct(names);
    }

    /// Says which tool names are MCP tools: pairs of (tool name, server label). Calls of others are
    /// `function_call`s.
    #[must_use]
    pub fn with_mcp_tools(mut self, tools: Vec<(String, String)>) -> Self {
        self.mcp = tools;
        self
    }

    /// Takes over what was written before a restart: finished items and MCP calls that still wait,
    /// each with its output index. Waiting ones are items of type `mcp_call` with status
    /// `in_progress`.
    #[must_use]
    pub fn restore(mut self, items: Vec<(u64, Value)>) -> Self {
        for (index, item) in items {
            match Open::waiting(&item, index) {
                Some(open) => self.open.push(open),
                None => self.output.push((index, item)),
            }
            self.next_output_index = self.next_output_index.max(index.saturating_add(1));
        }
        self.output.sort_by_key(|(index, _)| *index);
        self.call_from = self.next_output_index;
        self
    }

    /// The number that the next event will have.
    pub const fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// The output index that the next item will have.
    pub const fn next_output_index(&self) -> u64 {
        self.next_output_index
    }

    /// The finished items, in order: what `response.output` holds.
    pub fn output(&self) -> Vec<Value> {
        self.output.iter().map(|(_, item)| item.clone()).collect()
    }

    /// The finished items with their output indexes.
    pub fn indexed_output(&self) -> &[(u64, Value)] {
        &self.output
    }

    /// The response object now: in progress, with the finished items.
    pub fn response(&self) -> Value {
        self.render(&ResponseState { status: "in_progress".to_owned(), ..self.state() })
    }

    /// `response.created`.
    pub fn created(&mut self) -> Vec<Value> {
        self.lifecycle("response.created", "in_progress")
    }

    /// `response.created` of a background response: its status is `queued`.
    pub fn created_queued(&mut self) -> Vec<Value> {
        self.lifecycle("response.created", "queued")
    }

    /// `response.queued`.
    pub fn queued(&mut self) -> Vec<Value> {
        self.lifecycle("response.queued", "queued")
    }

    /// `response.in_progress`. Send it once, before any item.
    pub fn in_progress(&mut self) -> Vec<Value> {
        self.lifecycle("response.in_progress", "in_progress")
    }

    /// A model call begins: [`Self::interrupt_open_item`] goes back to here.
    pub const fn begin_model_call(&mut self) {
        self.call_from = self.next_output_index;
    }

    /// Opens a message with an empty text, if none is open.
    pub fn open_message(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        self.open_part(Kind::Message, &mut events);
        events
    }

    /// A piece of the model's answer. Items open and close as it needs.
    pub fn delta(&mut self, delta: &Delta) -> Vec<Value> {
        let mut events = Vec::new();
        match delta {
            Delta::Text { text } => self.piece(Kind::Message, text, &mut events),
            Delta::Refusal { text } => self.piece(Kind::Refusal, text, &mut events),
            Delta::Reasoning { text } => self.piece(Kind::Reasoning, text, &mut events),
            Delta::ToolCallStart { index, id, name } => {
                self.start_call(*index, id, name, &mut events);
            }
            Delta::ToolCallArguments { index, json } => {
                self.call_arguments(*index, json, &mut events);
            }
            Delta::ReasoningSignature { signature, redacted, origin } => {
                let sealed = reasoning::seal(signature, *redacted, origin);
                self.seal_reasoning(sealed, *redacted, &mut events);
            }
            // A tool's result is no piece of a model's answer: it comes by `mcp_call_done`.
            Delta::ToolResult { .. } => {}
        }
        events
    }

    /// The model's answer is whole: closes every open item. MCP calls get their last arguments
    /// event and wait.
    pub fn close_open_item(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        for mut open in std::mem::take(&mut self.open) {
            if open.waits() {
                self.open.push(open);
                continue;
            }
            self.number(open.done_events("completed"), &mut events);
            if open.becomes_waiting() {
                self.open.push(open);
            } else {
                self.finish(&open, "completed", &mut events);
            }
        }
        events
    }

    /// The running model call was cut and will be asked again: its open items are closed as
    /// `incomplete`, and none of its items stay in the response's `output`. New items take the next
    /// output index.
    pub fn interrupt_open_item(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        let from = self.call_from;
        let (cut, kept): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(|open| open.output_index >= from);
        self.open = kept;
        for mut open in cut {
            if !open.waits() {
                self.number(open.done_events("incomplete"), &mut events);
            }
            self.finish(&open, "incomplete", &mut events);
        }
        self.output.retain(|(index, _)| *index < from);
        self.call_from = self.next_output_index;
        events
    }

    /// `response.completed`, whatever is open being closed first.
    pub fn completed(&mut self, usage: Option<Usage>, at: Timestamp) -> Vec<Value> {
        let state = ResponseState {
            status: "completed".to_owned(),
            usage,
            completed_at: Some(at),
            ..ResponseState::default()
        };
        self.terminal("response.completed", "completed", state)
    }

    /// `response.failed`. Open items are closed as `incomplete`.
    pub fn failed(
        &mut self,
        failure: &Failure,
        call: Option<&CallId>,
        usage: Option<Usage>,
    ) -> Vec<Value> {
        let state = ResponseState {
            status: "failed".to_owned(),
            usage,
            error: Some(response_error(failure, call)),
            ..ResponseState::default()
        };
        self.terminal("response.failed", "incomplete", state)
    }

    /// `response.incomplete`: `reason` is `max_output_tokens`, `content_filter` …, the status
    /// `incomplete`.
    pub fn incomplete(&mut self, reason: &str, usage: Option<Usage>) -> Vec<Value> {
        self.ended_early("incomplete", reason, usage)
    }

    /// The end of a cancelled response: the event is `response.incomplete` (there is none of its
    /// own), its status `cancelled`.
    pub fn cancelled(&mut self, usage: Option<Usage>) -> Vec<Value> {
        self.ended_early("cancelled", "cancelled", usage)
    }

    fn ended_early(&mut self, status: &str, reason: &str, usage: Option<Usage>) -> Vec<Value> {
        let state = ResponseState {
            status: status.to_owned(),
            usage,
            incomplete_reason: Some(reason.to_owned()),
            ..ResponseState::default()
        };
        self.terminal("response.incomplete", "incomplete", state)
    }

    fn terminal(&mut self, event: &str, item_status: &str, state: ResponseState) -> Vec<Value> {
        let mut events = Vec::new();
        for mut open in std::mem::take(&mut self.open) {
            if !open.waits() {
                self.number(open.done_events(item_status), &mut events);
            }
            // An MCP call without a result is never complete, whatever becomes of the response.
            let status = if open.is_mcp() { "incomplete" } else { item_status };
            self.finish(&open, status, &mut events);
        }
        let response = self.render(&ResponseState { output: self.output(), ..state });
        self.emit(event, json!({ "response": response }), &mut events);
        events
    }

    fn state(&self) -> ResponseState {
        ResponseState { output: self.output(), ..ResponseState::default() }
    }

    fn render(&self, state: &ResponseState) -> Value {
        self.skeleton.render(state)
    }

    fn lifecycle(&mut self, event: &str, status: &str) -> Vec<Value> {
        let response = self.render(&ResponseState { status: status.to_owned(), ..self.state() });
        let mut events = Vec::new();
        self.emit(event, json!({ "response": response }), &mut events);
        events
    }

    fn piece(&mut self, kind: Kind, text: &str, events: &mut Vec<Value>) {
        let index = self.open_part(kind, events);
        let Some(open) = self.open.get_mut(index) else { return };
        open.text.push_str(text);
        let delta = open.delta_event(text);
        self.number(delta.into_iter().collect(), events);
    }

    /// The open item of this kind, opened if it must be. What else is open is closed first.
    fn open_part(&mut self, kind: Kind, events: &mut Vec<Value>) -> usize {
        if let Some(index) = self.open.iter().position(|open| open.kind == kind) {
            return index;
        }
        events.extend(self.close_open_item());
        let id = (self.new_id)(kind.id_prefix());
        let output_index = self.take_output_index();
        self.push_open(Open::new(kind, id, output_index), events)
    }

    fn start_call(&mut self, place: u32, call_id: &str, name: &str, events: &mut Vec<Value>) {
        // Text before a call is a message of its own; calls may come interleaved, so they stay open
        // together.
        if self.open.iter().any(|open| !open.is_call()) {
            events.extend(self.close_open_item());
        }
        let (kind, name) = self.kind_of_call(name);
        self.open_call(kind, Some(place), call_id, &name, events);
    }

    /// What a call of this function is to the client, and the name that it knows.
    fn kind_of_call(&self, name: &str) -> (Kind, String) {
        if let Some(server_label) = self.server_of(name) {
            return (Kind::Mcp { server_label }, name.to_owned());
        }
        let mut shown = self.shown.iter().filter(|(function, _)| function == name);
        match shown.next() {
            Some((_, ShownAs::Custom)) => (Kind::Custom, name.to_owned()),
            Some((_, ShownAs::InNamespace { namespace, name })) => {
                (Kind::Function { namespace: Some(namespace.clone()) }, name.clone())
            }
            None => (Kind::Function { namespace: None }, name.to_owned()),
        }
    }

    fn open_call(
        &mut self,
        kind: Kind,
        place: Option<u32>,
        call_id: &str,
        name: &str,
        events: &mut Vec<Value>,
    ) -> usize {
        let id = (self.new_id)(kind.id_prefix());
        let mut open = Open::new(kind, id, self.take_output_index());
        open.place = place;
        call_id.clone_into(&mut open.call_id);
        name.clone_into(&mut open.name);
        self.push_open(open, events)
    }

    /// The first MCP call of the running model call.
    fn beside(&self) -> Option<String> {
        let said = |other: &&Open| other.is_mcp() && other.output_index >= self.call_from;
        self.open.iter().find(said).map(|first| first.id.clone())
    }

    fn push_open(&mut self, mut open: Open, events: &mut Vec<Value>) -> usize {
        open.beside = self.beside();
        self.number(open.added_events(), events);
        self.open.push(open);
        self.open.len() - 1
    }

    fn call_arguments(&mut self, place: u32, json: &str, events: &mut Vec<Value>) {
        let running = |open: &&mut Open| open.place == Some(place) && !open.waits();
        let Some(open) = self.open.iter_mut().find(running) else { return };
        open.text.push_str(json);
        let delta = open.delta_event(json);
        self.number(delta.into_iter().collect(), events);
    }

    /// `output_item.done`, and the item joins the output at its place.
    fn finish(&mut self, open: &Open, status: &str, events: &mut Vec<Value>) {
        let item = open.item(status);
        self.emit("response.output_item.done", added(open.output_index, &item), events);
        let behind = self.output.partition_point(|(index, _)| *index < open.output_index);
        self.output.insert(behind, (open.output_index, item));
    }

    const fn take_output_index(&mut self) -> u64 {
        let index = self.next_output_index;
        self.next_output_index += 1;
        index
    }

    fn emit(&mut self, name: &str, fields: Value, events: &mut Vec<Value>) {
        self.number(vec![(name.to_owned(), fields)], events);
    }

    fn number(&mut self, unnumbered: Vec<(String, Value)>, events: &mut Vec<Value>) {
        for (name, fields) in unnumbered {
            let mut event = Map::new();
            event.insert("type".to_owned(), name.into());
            event.insert("sequence_number".to_owned(), self.sequence.into());
            self.sequence += 1;
            if let Value::Object(fields) = fields {
                event.extend(fields);
            }
            events.push(Value::Object(event));
        }
    }
}

fn added(output_index: u64, item: &Value) -> Value {
    json!({ "output_index": output_index, "item": item })
}

#[cfg(test)]
mod tests;
