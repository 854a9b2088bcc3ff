//! The tools of our servers that a turn offers to its model.

use formats::openai_responses::{CreateResponse, InputItem, McpTool};
use serde_json::Value;
use types::Failure;
use types::conversation::ToolDefinition;

use crate::mcp::{Effect, Tool, ToolServers};

/// What a turn offers of our servers' tools.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Offer {
    /// As the model is told.
    pub(crate) definitions: Vec<ToolDefinition>,
    /// Whose they are: pairs of (tool, server).
    pub(crate) owners: Vec<(String, String)>,
}

impl Offer {
    /// What `request` asks for, of the lists that stand in `items` (an `mcp_list_tools` item each;
    /// the last counts).
    ///
    /// # Errors
    /// A 400 that names the tool whose name is taken.
    pub(crate) fn new<'a>(
        request: &CreateResponse,
        items: &(impl Iterator<Item = &'a Value> + Clone),
        servers: &ToolServers,
    ) -> Result<Self, Failure> {
        let mut offer = Self::default();
        let functions = request.function_definitions();
        for asked in request.mcp_tools() {
            let Some(listed) = listed(items.clone(), &asked.server_label) else { continue };
            for tool in listed.into_iter().filter(|tool| is_allowed(asked, tool, servers)) {
                let taken = offer.definitions.iter().chain(&functions);
                if taken.into_iter().any(|definition| definition.name == tool.name) {
                    return Err(name_taken(asked, &tool.name));
                }
                offer.owners.push((tool.name.clone(), asked.server_label.clone()));
                offer.definitions.push(ToolDefinition {
                    name: tool.name,
                    description: tool.description,
                    parameters: Some(tool.input_schema),
                    strict: None,
                });
            }
        }
        Ok(offer)
    }

    /// Whether this tool of this server is offered.
    pub(crate) fn has(&self, server: &str, tool: &str) -> bool {
        self.owners.iter().any(|(name, owner)| name == tool && owner == server)
    }
}

/// The tools of a server as the last list in `items` has them.
pub(crate) fn listed<'a>(
    items: impl Iterator<Item = &'a Value>,
    server: &str,
) -> Option<Vec<Tool>> {
    let is_list = |item: &&Value| {
        item.get("type").and_then(Value::as_str) == Some("mcp_list_tools")
            && item.get("server_label").and_then(Value::as_str) == Some(server)
    };
    let list = items.filter(is_list).last()?;
    serde_json::from_value(list.get("tools")?.clone()).ok()
}

/// The lists that are among these items.
pub(crate) fn values(items: &[InputItem]) -> impl Iterator<Item = &Value> + Clone {
    items.iter().map(|item| &item.value)
}

/// Whether a request allows a tool of the server that it names.
pub(crate) fn is_allowed(asked: &McpTool, tool: &Tool, servers: &ToolServers) -> bool {
    let Some(filter) = &asked.allowed_tools else { return true };
    let named = filter.names.as_ref().is_none_or(|names| names.contains(&tool.name));
    let declared = servers.server(&asked.server_label).map(|server| server.effect(&tool.name));
    let is_read_only = declared == Some(Effect::Read);
    named && filter.read_only.is_none_or(|wanted| wanted == is_read_only)
}

fn name_taken(asked: &McpTool, tool: &str) -> Failure {
    let message = format!(
        "the tool {tool:?} of the server {:?} has the name of another tool: leave one out with \
         allowed_tools",
        asked.server_label
    );
    Failure::invalid(format!("tools[{}]", asked.index), message)
}
