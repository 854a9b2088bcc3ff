use formats::openai_responses::parse_create;
use serde_json::json;

use super::*;

fn request(extra: &Value) -> CreateResponse {
    let mut body = json!({ "model": "m", "input": "x", "instructions": "be brief" });
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    parse_create(body.to_string().as_bytes()).unwrap()
}

fn items(values: &[Value]) -> Vec<InputItem> {
    values.iter().map(|value| read_item(value.clone(), "input").unwrap()).collect()
}

fn said(role: &str, text: &str) -> Value {
    json!({ "type": "message", "role": role, "content": text })
}

fn call(id: &str, beside: Option<&str>) -> Value {
    json!({
        "type": "mcp_call", "id": id, "name": "t", "server_label": "s", "arguments": "{}",
        "output": "ok", "holdfast": { "beside": beside },
    })
}

/// The steps of a turn: what each adds to its output.
fn steps() -> Vec<Vec<Value>> {
    vec![
        vec![said("assistant", "one moment"), call("mcp_1", None), call("mcp_2", Some("mcp_1"))],
        // A step that was lost adds nothing.
        vec![],
        vec![call("mcp_3", None), said("assistant", "é \"quoted\"")],
        vec![said("assistant", "done")],
    ]
}

fn grows_as_if_told_at_once(input: &[Value]) {
    let request = request(&json!({}));
    let mut told = Told::new(&request, &items(input), &Offer::default()).unwrap();
    let (mut all, mut output) = (input.to_vec(), Vec::new());
    for step in steps() {
        for item in step {
            output.push((output.len() as u64, item.clone()));
            all.push(item);
        }
        told.add(&output).unwrap();
        let whole = request.conversation(items_to_messages(&items(&all)).unwrap());
        assert_eq!(*told.conversation, whole);
        assert_eq!(told.bytes(), serde_json::to_vec(&whole).unwrap().len() as u64);
        assert_eq!(told.media, media_in(&whole));
    }
}

#[test]
fn what_steps_add_is_told_as_if_it_had_been_there() {
    let picture = json!({ "type": "message", "role": "user", "content": [
        { "type": "input_image", "image_url": "https://example.com/a.png" },
    ] });
    grows_as_if_told_at_once(&[said("user", "hello"), picture]);
    // The model goes on with an answer that the client began.
    grows_as_if_told_at_once(&[said("user", "hello"), said("assistant", "I think")]);
    grows_as_if_told_at_once(&[]);
}

#[test]
fn a_step_shares_the_history_and_the_next_one_does_not_copy_it() {
    let request = request(&json!({}));
    let history = items(&[said("user", &"x".repeat(100_000))]);
    let mut told = Told::new(&request, &history, &Offer::default()).unwrap();
    let text = |told: &Told| match &told.conversation.messages[1].parts[0] {
        Part::Text { text } => text.as_ptr(),
        other => panic!("{other:?}"),
    };
    let (at, mut output) = (text(&told), Vec::new());
    for step in steps() {
        let asked = told.model_call(&request);
        assert!(Arc::ptr_eq(&asked.neutral().unwrap(), &told.conversation));
        drop(asked);
        output.extend(step.into_iter().map(|item| (0, item)));
        told.add(&output).unwrap();
        assert_eq!(text(&told), at, "the history was copied");
    }
    // Whoever still reads what it was told sees no change.
    let asked = told.model_call(&request).neutral().unwrap();
    let length = asked.messages.len();
    output.push((9, said("user", "more")));
    told.add(&output).unwrap();
    assert_eq!((asked.messages.len(), told.conversation.messages.len()), (length, length + 1));
}

#[test]
fn a_choice_that_was_made_is_free_and_counted() {
    let tools = json!([{ "type": "function", "name": "f" }]);
    let request = request(&json!({ "tools": tools, "tool_choice": "required" }));
    let mut told = Told::new(&request, &items(&[said("user", "go")]), &Offer::default()).unwrap();
    assert_eq!(told.bytes(), bytes_of(&told.conversation).unwrap());
    told.free_choice().unwrap();
    assert_eq!(told.conversation.tool_choice, ToolChoice::Auto);
    assert_eq!(told.bytes(), bytes_of(&told.conversation).unwrap());
}

#[test]
fn a_picture_in_a_tools_result_counts() {
    use types::conversation::{Part, Role};

    let picture = Part::Media { kind: "image".into(), url: None, name: None, source: json!({}) };
    let parts = vec![Part::text("look"), picture];
    let result = Part::ToolResult { call_id: "call_1".to_owned(), parts, is_error: false };
    let message = Message { role: Role::Tool, parts: vec![result] };
    let conversation = Conversation { messages: vec![message], ..Conversation::default() };
    assert_eq!(media_in(&conversation), 1);
}
