use insta::{assert_json_snapshot, assert_snapshot};

use super::*;
use crate::openai_responses::request::{parse_create, read_item};

fn items(values: &[Value]) -> Vec<InputItem> {
    let read = |(index, value): (usize, &Value)| read_item(value.clone(), &at("input", index));
    values.iter().enumerate().map(read).collect::<Result<_, _>>().unwrap()
}

fn history() -> Vec<Value> {
    vec![
        json!({ "role": "developer", "content": "d" }),
        json!({ "role": "user", "content": [{ "type": "input_text", "text": "u" }, { "type": "input_image", "image_url": "https://x/y.png", "detail": "low" }] }),
        json!({ "type": "mcp_list_tools", "id": "mcpl_1", "server_label": "notes", "tools": [] }),
        json!({ "type": "reasoning", "summary": [], "content": [{ "type": "reasoning_text", "text": "hm" }], "encrypted_content": "e" }),
        json!({ "type": "mcp_call", "id": "mcp_1", "server_label": "notes", "name": "find_note", "arguments": "{}", "output": "found", "error": null }),
        json!({ "type": "mcp_call", "id": "mcp_2", "server_label": "notes", "name": "add_note", "arguments": "{}", "output": null, "error": "full" }),
        json!({ "type": "mcp_call", "id": "mcp_3", "server_label": "notes", "name": "add_note", "arguments": "{}", "status": "in_progress" }),
        json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "a" }, { "type": "refusal", "refusal": "r" }] }),
        json!({ "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{\"a\":1}" }),
        json!({ "type": "function_call", "call_id": "call_2", "name": "g", "arguments": "{}" }),
        json!({ "type": "function_call_output", "call_id": "call_1", "output": "one" }),
        json!({ "type": "function_call_output", "call_id": "call_2", "output": [{ "type": "input_text", "text": "t" }, { "type": "input_text", "text": "wo" }] }),
    ]
}

#[test]
fn items_become_messages() {
    let messages = items_to_messages(&items(&history())).unwrap();
    let shown: Vec<String> = messages
        .iter()
        .map(|message| {
            let parts: Vec<String> =
                message.parts.iter().map(|part| serde_json::to_string(part).unwrap()).collect();
            format!("{:?} {}", message.role, parts.join(" | "))
        })
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    Developer {"type":"text","text":"d"}
    User {"type":"text","text":"u"} | {"type":"media","kind":"image","url":"https://x/y.png","name":null,"source":{"type":"input_image","image_url":"https://x/y.png","detail":"low"}}
    Assistant {"type":"reasoning","text":"hm","signature":"e","redacted":false,"origin":"openai_responses"} | {"type":"tool_call","id":"mcp_1","name":"find_note","arguments":"{}"}
    Tool {"type":"tool_result","call_id":"mcp_1","parts":[{"type":"text","text":"found"}],"is_error":false}
    Assistant {"type":"tool_call","id":"mcp_2","name":"add_note","arguments":"{}"}
    Tool {"type":"tool_result","call_id":"mcp_2","parts":[{"type":"text","text":"full"}],"is_error":true}
    Assistant {"type":"text","text":"a"} | {"type":"refusal","text":"r"} | {"type":"tool_call","id":"call_1","name":"f","arguments":"{\"a\":1}"} | {"type":"tool_call","id":"call_2","name":"g","arguments":"{}"}
    Tool {"type":"tool_result","call_id":"call_1","parts":[{"type":"text","text":"one"}],"is_error":false}
    Tool {"type":"tool_result","call_id":"call_2","parts":[{"type":"text","text":"t"},{"type":"text","text":"wo"}],"is_error":false}
    "#);
}

#[test]
fn a_longer_history_only_adds_messages_behind_a_whole_answer() {
    let all = items(&history());
    let whole = items_to_messages(&all).unwrap();
    // Where an answer is whole: behind each tool's result and each message that is not the model's.
    for end in [1, 2, 5, 6, 11, 12] {
        let part = items_to_messages(&all[..end]).unwrap();
        assert_eq!(part[..], whole[..part.len()], "{end} items");
    }
}

fn called(id: &str, beside: Option<&str>) -> Value {
    let mut item = json!({
        "type": "mcp_call", "id": id, "server_label": "notes", "name": "find_note",
        "arguments": "{}", "output": format!("found by {id}"), "error": null,
    });
    if let Some(first) = beside {
        item["holdfast"] = json!({ "beside": first });
    }
    item
}

/// Roles, with the calls of an assistant and the call of a result.
fn outline(values: &[Value]) -> String {
    let messages = items_to_messages(&items(values)).unwrap();
    let part = |part: &Part| match part {
        Part::ToolCall(call) => call.id.clone(),
        Part::ToolResult { call_id, .. } => call_id.clone(),
        other => serde_json::to_value(other).unwrap()["text"].to_string(),
    };
    let line = |message: &Message| {
        let parts: Vec<String> = message.parts.iter().map(part).collect();
        format!("{:?} {}", message.role, parts.join(" "))
    };
    messages.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_one_answer_said_is_one_message_before_its_results() {
    let mut said = json!({ "role": "assistant", "content": "and" });
    said["holdfast"] = json!({ "beside": "mcp_1" });
    let mut function =
        json!({ "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}" });
    function["holdfast"] = json!({ "beside": "mcp_1" });
    let answers = [
        called("mcp_1", None),
        said,
        called("mcp_2", Some("mcp_1")),
        function,
        json!({ "type": "function_call_output", "call_id": "call_1", "output": "one" }),
        called("mcp_3", None),
        called("mcp_4", None),
        called("mcp_5", Some("mcp_4")),
    ];
    assert_snapshot!(outline(&answers), @r#"
    Assistant mcp_1 "and" mcp_2 call_1
    Tool mcp_1
    Tool mcp_2
    Tool call_1
    Assistant mcp_3
    Tool mcp_3
    Assistant mcp_4 mcp_5
    Tool mcp_4
    Tool mcp_5
    "#);
    // A longer history only adds behind a whole answer.
    let whole = items_to_messages(&items(&answers)).unwrap();
    for end in [4, 5, 6] {
        let part = items_to_messages(&items(&answers[..end])).unwrap();
        assert_eq!(part[..], whole[..part.len()], "{end} items");
    }
}

#[test]
fn a_mark_that_fits_nothing_moves_nothing() {
    let mut user = json!({ "role": "user", "content": "and" });
    user["holdfast"] = json!({ "beside": "mcp_2" });
    let mut open = called("mcp_8", None);
    open["output"] = Value::Null;
    let answers = [
        called("mcp_1", None),
        called("mcp_2", Some("mcp_0")),
        user,
        open,
        called("mcp_9", Some("mcp_8")),
        called("mcp_a", Some("mcp_8")),
    ];
    assert_snapshot!(outline(&answers), @r#"
    Assistant mcp_1
    Tool mcp_1
    Assistant mcp_2
    Tool mcp_2
    User "and"
    Assistant mcp_9 mcp_a
    Tool mcp_9
    Tool mcp_a
    "#);
}

#[test]
fn what_cannot_be_said_is_named() {
    let reference = json!({ "type": "item_reference", "id": "msg_1" });
    let failure = items_to_messages(&items(&[reference])).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("input[0]"));
    assert_eq!(failure.message, "item 'msg_1' does not exist, or was not stored");
}

#[test]
fn what_did_not_reach_the_model_is_not_echoed() {
    let body = br#"{"model":"m","input":"x","prompt_cache_key":"k","safety_identifier":"s","service_tier":"flex","temperature":0.5,"text":{"verbosity":"low"}}"#;
    let request = parse_create(body).unwrap();
    let mut skeleton = ResponseSkeleton::new("resp_1", Timestamp(0), &request);
    let shown = |skeleton: &ResponseSkeleton| {
        let response = skeleton.render(&ResponseState::default());
        let names =
            ["prompt_cache_key", "safety_identifier", "service_tier", "temperature", "text"];
        names.map(|name| response[name].to_string()).join(" ")
    };
    assert_snapshot!(shown(&skeleton), @r#""k" "s" "flex" 0.5 {"format":{"type":"text"},"verbosity":"low"}"#);
    skeleton.correct(&["service_tier".to_owned(), "mystery".to_owned()]);
    assert_snapshot!(shown(&skeleton), @r#""k" "s" "default" 0.5 {"format":{"type":"text"},"verbosity":"low"}"#);
    let all = ["prompt_cache_key", "safety_identifier", "temperature", "verbosity"];
    skeleton.correct(&all.map(str::to_owned));
    assert_snapshot!(shown(&skeleton), @r#"null null "default" 1.0 {"format":{"type":"text"}}"#);
}

/// The fields that Open Responses requires.
const REQUIRED: [&str; 31] = [
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
];

/// Those of them that may be null.
const NULLABLE: &[&str] = &[
    "completed_at",
    "incomplete_details",
    "previous_response_id",
    "instructions",
    "error",
    "reasoning",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
];

/// A response at its begin and at its end.
fn begun_and_done() -> [Value; 2] {
    let request = parse_create(br#"{"model":"m","input":"x","metadata":{"a":"b"}}"#).unwrap();
    let skeleton = ResponseSkeleton::new("resp_1", Timestamp::from_millis(1_500), &request);
    let begun = skeleton
        .render(&ResponseState { status: "in_progress".to_owned(), ..ResponseState::default() });
    let usage = Usage { input_tokens: 5, cached_tokens: 2, output_tokens: 3, ..Usage::default() };
    let done = skeleton.render(&ResponseState {
        status: "completed".to_owned(),
        output: vec![json!({ "id": "msg_1" })],
        usage: Some(usage),
        completed_at: Some(Timestamp::from_millis(2_500)),
        ..ResponseState::default()
    });
    [begun, done]
}

#[test]
fn a_response_has_every_field_at_any_point_of_its_life() {
    for response in &begun_and_done() {
        let fields = response.as_object().unwrap();
        let missing: Vec<_> = REQUIRED.iter().filter(|name| !fields.contains_key(**name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        for (name, value) in fields {
            assert!(!value.is_null() || NULLABLE.contains(&name.as_str()), "{name} is null");
        }
    }
}

#[test]
fn a_whole_response_says_what_it_was_asked_and_what_it_cost() {
    let [_, done] = begun_and_done();
    assert_eq!(ResponseSkeleton::from_value(done.clone()).id(), "resp_1");
    assert_json_snapshot!(done, @r#"
    {
      "id": "resp_1",
      "object": "response",
      "created_at": 1,
      "status": "completed",
      "completed_at": 2,
      "background": false,
      "error": null,
      "incomplete_details": null,
      "instructions": null,
      "max_output_tokens": null,
      "max_tool_calls": null,
      "model": "m",
      "output": [
        {
          "id": "msg_1"
        }
      ],
      "parallel_tool_calls": true,
      "previous_response_id": null,
      "prompt_cache_key": null,
      "reasoning": null,
      "safety_identifier": null,
      "service_tier": "default",
      "store": true,
      "temperature": 1.0,
      "text": {
        "format": {
          "type": "text"
        }
      },
      "tool_choice": "auto",
      "tools": [],
      "top_logprobs": 0,
      "top_p": 1.0,
      "presence_penalty": 0.0,
      "frequency_penalty": 0.0,
      "truncation": "disabled",
      "usage": {
        "input_tokens": 5,
        "input_tokens_details": {
          "cached_tokens": 2,
          "cache_write_tokens": 0
        },
        "output_tokens": 3,
        "output_tokens_details": {
          "reasoning_tokens": 0
        },
        "total_tokens": 8
      },
      "metadata": {
        "a": "b"
      }
    }
    "#);
}
