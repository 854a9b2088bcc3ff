//! Labelled requests as conversations.

use serde::Deserialize;
use types::conversation::{
    Conversation, Effort, Message, OutputShape, Part, Role, ToolCall, ToolDefinition,
};

/// One line of a set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) label: String,
    pub(super) kind: String,
    text: String,
    /// Tools that are declared.
    #[serde(default)]
    tools: usize,
    /// Results in the history.
    #[serde(default)]
    results: usize,
    /// How many of the last ones are errors.
    #[serde(default)]
    failed: usize,
    #[serde(default)]
    schema: bool,
    effort: Option<Effort>,
}

impl Row {
    pub(super) fn is_hard(&self) -> bool {
        self.label == "hard"
    }

    pub(super) fn conversation(&self) -> Conversation {
        let mut messages = vec![Message::text(Role::User, &self.text)];
        for number in 0..self.results {
            let call = ToolCall {
                id: format!("c{number}"),
                name: "t0".to_owned(),
                arguments: "{}".to_owned(),
            };
            let has_failed = number + self.failed >= self.results;
            let text = if has_failed { "it did not work" } else { "ok" };
            let result = Part::tool_result(&call.id, text, has_failed);
            let call = Message { role: Role::Assistant, parts: vec![Part::ToolCall(call)] };
            messages.extend([call, Message { role: Role::Tool, parts: vec![result] }]);
        }
        let tool = |number| ToolDefinition {
            name: format!("t{number}"),
            description: None,
            parameters: None,
            strict: None,
        };
        let mut conversation = Conversation {
            messages,
            tools: (0..self.tools).map(tool).collect(),
            ..Conversation::default()
        };
        if self.schema {
            conversation.output_shape = OutputShape::JsonObject;
        }
        conversation.reasoning.effort = self.effort;
        conversation
    }
}

/// The rows of some files.
pub(super) fn read(files: &[&str]) -> Vec<Row> {
    let lines = files.iter().flat_map(|file| file.lines());
    lines.map(|line| serde_json::from_str(line).expect(line)).collect()
}
