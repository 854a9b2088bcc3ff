//! Why a tool call failed, as the `error` of its `mcp_call` item.
//!
//! OpenAI's SDKs type this field as a union told apart by `type`: `mcp_protocol_error` (the call
//! was refused: by the protocol, or before it was made) and `mcp_tool_execution_error` (the tool
//! ran and said that it failed). No field of it is null, which some SDKs refuse. Items that were
//! stored before this shape hold a plain string, and clients may send either: [`text_of`] reads
//! all of them, and gives a model the same words as when the item was new.

use serde_json::{Value, json};

/// Why a tool call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum McpError<'a> {
    /// The call was refused.
    Protocol {
        /// A JSON-RPC error code.
        code: i32,
        /// Why.
        message: &'a str,
    },
    /// The tool ran, and this is what it said of its failure.
    Execution {
        /// What the model reads.
        text: &'a str,
    },
}

impl McpError<'_> {
    /// The value of the item's `error`.
    pub(super) fn to_value(self) -> Value {
        match self {
            Self::Protocol { code, message } => {
                json!({ "type": "mcp_protocol_error", "code": code, "message": message })
            }
            Self::Execution { text } => json!({
                "type": "mcp_tool_execution_error",
                "content": [{ "type": "text", "text": text }],
            }),
        }
    }
}

/// What a model reads of an item's `error`, whoever wrote it.
pub(super) fn text_of(error: &Value) -> String {
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    match (error, error.get("content")) {
        (Value::String(text), _) | (_, Some(Value::String(text))) => text.clone(),
        (_, Some(Value::Array(blocks))) => {
            blocks.iter().map(block_text).collect::<Vec<_>>().join("\n")
        }
        _ => text("message").unwrap_or_else(|| error.to_string()),
    }
}

fn block_text(block: &Value) -> String {
    let text = block.get("text").and_then(Value::as_str);
    text.map_or_else(|| block.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_an_error_is_read() {
        let cases = [
            (json!("disk full"), "disk full"),
            (McpError::Execution { text: "disk full" }.to_value(), "disk full"),
            (
                McpError::Protocol { code: -32602, message: "no such tool" }.to_value(),
                "no such tool",
            ),
            (json!({ "type": "http_error", "code": 502, "message": "gone" }), "gone"),
            (json!({ "type": "mcp_tool_execution_error", "content": "plain" }), "plain"),
            (
                json!({ "content": [{ "type": "text", "text": "a" }, { "type": "image" }] }),
                "a\n{\"type\":\"image\"}",
            ),
            (json!({ "code": 5 }), "{\"code\":5}"),
        ];
        for (error, wanted) in cases {
            assert_eq!(text_of(&error), wanted, "{error}");
        }
    }
}
