//! Requests: golden texts, what crosses, and what holds for every request.

mod golden;
mod properties;

use ::types::Conversation;
use ::types::format::Edits;
use serde_json::{Value, json};

use super::*;

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-6-v1:0";

/// What is rendered for a model, and what is dropped.
fn rendered_for(model: &str, conversation: &Conversation) -> (Value, Vec<String>) {
    let rendered = render(conversation, &Edits { model, ..Edits::default() }).unwrap();
    (serde_json::from_slice(&rendered.body).unwrap(), rendered.dropped)
}

fn rendered(conversation: &Conversation) -> (Value, Vec<String>) {
    rendered_for(CLAUDE, conversation)
}

/// What a request of a user who says nothing but hello is parsed to, with these fields.
fn parsed(fields: Value) -> Conversation {
    parse(body(fields).as_bytes()).unwrap()
}

/// The parameter and the message of a refusal.
fn refused(fields: Value) -> (String, String) {
    let failure = parse(body(fields).as_bytes()).unwrap_err();
    (failure.param.unwrap_or_default().into(), failure.message)
}

fn body(mut fields: Value) -> String {
    let messages = json!([{ "role": "user", "content": [{ "text": "hello" }] }]);
    let map = fields.as_object_mut().unwrap();
    map.entry("messages").or_insert(messages);
    fields.to_string()
}

fn user(content: &Value) -> Value {
    json!({ "messages": [{ "role": "user", "content": content }] })
}
