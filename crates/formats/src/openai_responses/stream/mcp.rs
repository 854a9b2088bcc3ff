//! The events of tools that run here: MCP servers' lists, and calls of their tools.
//!
//! An `mcp_call` is one item over two phases. Its arguments come from the model, or from whoever
//! started it; then it waits, open, until its tool has answered or it was given up. Items that wait
//! are shown as they are. It must not know who runs the tools.

use serde_json::{Value, json};

use super::super::tool_error::McpError;
use super::super::types::HOLDFAST;
use super::items::{Kind, Open};
use super::{EventWriter, added};

/// An MCP call whose arguments are whole and whose result has not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMcpCall {
    /// The item's id, `mcp_…`. It is also the call's id in the neutral history.
    pub item_id: String,
    /// Its place in the response.
    pub output_index: u64,
    /// The model's own id of the call.
    pub call_id: String,
    /// The configured server.
    pub server_label: String,
    /// The tool.
    pub name: String,
    /// The arguments as JSON text, as the model wrote them.
    pub arguments: String,
}

impl EventWriter {
    /// The MCP calls whose arguments are whole and whose results have not come.
    pub fn pending_mcp_calls(&self) -> Vec<PendingMcpCall> {
        self.open.iter().filter_map(Open::pending).collect()
    }

    /// The tools of a server, as a finished `mcp_list_tools` item. Each tool is
    /// `{name, input_schema, description?, annotations?}`.
    pub fn mcp_list_tools(&mut self, server_label: &str, tools: &[Value]) -> Vec<Value> {
        let mut events = Vec::new();
        let id = (self.new_id)("mcpl_");
        let index = self.take_output_index();
        let item = |tools: &[Value]| {
            json!({
                "id": id, "type": "mcp_list_tools", "server_label": server_label,
                "tools": tools.iter().map(without_nulls).collect::<Vec<_>>(),
            })
        };
        let place = json!({ "item_id": id, "output_index": index });
        self.emit("response.output_item.added", added(index, &item(&[])), &mut events);
        self.emit("response.mcp_list_tools.in_progress", place.clone(), &mut events);
        self.emit("response.mcp_list_tools.completed", place, &mut events);
        let done = item(tools);
        self.emit("response.output_item.done", added(index, &done), &mut events);
        self.output.push((index, done));
        events
    }

    /// An MCP call that no delta announced: the item is added with its whole arguments and waits
    /// for its result.
    pub fn mcp_call_started(&mut self, call_id: &str, name: &str, arguments: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let server = self.server_of(name).unwrap_or_default();
        let kind = Kind::Mcp { server_label: server };
        let index = self.open_call(kind, None, call_id, name, &mut events);
        if let Some(open) = self.open.get_mut(index) {
            open.text.push_str(arguments);
            let deltas =
                open.delta_event(arguments).into_iter().chain(open.done_events("completed"));
            let deltas = deltas.collect();
            open.becomes_waiting();
            self.number(deltas, &mut events);
        }
        events
    }

    /// The tool answered. `item_id` is that of [`Self::pending_mcp_calls`]; an unknown one gives no
    /// event.
    pub fn mcp_call_done(&mut self, item_id: &str, output: &str) -> Vec<Value> {
        let result = [("output", Value::from(output))];
        self.end_mcp_call(item_id, "completed", "response.mcp_call.completed", &result)
    }

    /// The call was refused, or the tool said that it failed.
    pub fn mcp_call_failed(&mut self, item_id: &str, error: McpError<'_>) -> Vec<Value> {
        let error = [("error", error.to_value())];
        self.end_mcp_call(item_id, "failed", "response.mcp_call.failed", &error)
    }

    /// Sets an extra field of an item that waits, such as `holdfast` of a step in doubt; `null`
    /// takes it away.
    pub fn set_item_extra(&mut self, item_id: &str, name: &str, value: Value) {
        if let Some(open) = self.open.iter_mut().find(|open| open.id == item_id) {
            open.extra.shift_remove(name);
            if !value.is_null() {
                open.extra.insert(name.to_owned(), value);
            }
        }
    }

    /// The items that wait for a tool, as they are shown: `mcp_call`, status `in_progress`.
    pub fn waiting_items(&self) -> Vec<(u64, Value)> {
        let waiting = self.open.iter().filter(|open| open.waits());
        waiting.map(|open| (open.output_index, open.item("in_progress"))).collect()
    }

    pub(super) fn server_of(&self, tool: &str) -> Option<String> {
        self.mcp.iter().find(|(name, _)| name == tool).map(|(_, server)| server.clone())
    }

    fn end_mcp_call(
        &mut self,
        item_id: &str,
        status: &str,
        event: &str,
        result: &[(&str, Value)],
    ) -> Vec<Value> {
        let mut events = Vec::new();
        let Some(place) = self.open.iter().position(|open| open.id == item_id && open.waits())
        else {
            return events;
        };
        let mut open = self.open.remove(place);
        for (name, value) in result {
            open.extra.insert((*name).to_owned(), value.clone());
        }
        open.extra.shift_remove(HOLDFAST);
        let at = json!({ "item_id": open.id, "output_index": open.output_index });
        self.emit(event, at, &mut events);
        self.finish(&open, status, &mut events);
        events
    }
}

/// AIS rejects `null` where a field of `mcp_list_tools` may be absent.
fn without_nulls(tool: &Value) -> Value {
    match tool {
        Value::Object(map) => {
            let fields = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        other => other.clone(),
    }
}
