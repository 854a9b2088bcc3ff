//! The body of an agent's request: a history of tool calls and their results.

use serde_json::{Value, json};

/// How large it is, about.
const BODY_BYTES: usize = 100_000;
/// What a tool read: quotes, line ends, tabs, a backslash, letters of two to four bytes.
const FILE: &str = "fn größe(name: &str) -> usize {\n\tlet path = \"C:\\\\temp\\\\日本語.txt\"; // \u{1f980}\n\tname.len()\n}\n";
/// How often a result repeats it.
const REPEATS: usize = 12;

/// The request: what a gateway looks for comes first, as in most clients.
pub(super) fn body(model: &str) -> String {
    let tool = |name: &str| {
        let path = json!({ "type": "string", "description": "A path within the workspace." });
        let parameters = json!({ "type": "object", "properties": { "path": path, "text": { "type": "string" } }, "required": ["path"] });
        json!({ "type": "function", "function": { "name": name, "description": "Works on one file.", "parameters": parameters } })
    };
    let tools: Vec<Value> = ["read_file", "write_file", "list_files", "run"].map(tool).into();
    let mut messages = vec![
        json!({ "role": "system", "content": "You are a careful coding agent." }),
        json!({ "role": "user", "content": "Rename “größe” everywhere, and run the tests." }),
    ];
    let mut bytes = 0;
    for number in 0.. {
        let id = format!("call_{number:08}");
        let arguments = json!({ "path": format!("src/größe_{number}.rs") }).to_string();
        let call = json!({ "id": id, "type": "function", "function": { "name": "read_file", "arguments": arguments } });
        let result = json!({ "role": "tool", "tool_call_id": id, "content": FILE.repeat(REPEATS) });
        bytes += result.to_string().len();
        messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
        messages.push(result);
        if bytes >= BODY_BYTES {
            break;
        }
    }
    format!(
        "{{\"model\":\"{model}\",\"max_tokens\":128,\"temperature\":0.2,\"tools\":{},\"messages\":{}}}",
        json!(tools),
        json!(messages)
    )
}
