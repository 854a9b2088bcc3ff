use ::types::ErrorCode;
use ::types::clock::{FakeClock, SharedClock};
use insta::{assert_json_snapshot, assert_snapshot};
use proptest::prelude::*;

use ::types::format::{Format, WriteContext, WriteOptions, WriteResponse};
use ::types::outcome::{Finish, Start};

use super::*;
use crate::openai_responses::request::parse_create;
use crate::openai_responses::{McpError, OPENAI_RESPONSES};

fn writer() -> EventWriter {
    let request = parse_create(br#"{"model":"m","input":"x"}"#).unwrap();
    let skeleton = ResponseSkeleton::new("resp_1", Timestamp(0), &request);
    let mut made = 0;
    let new_id: NewId = Box::new(move |prefix| {
        made += 1;
        format!("{prefix}{made}")
    });
    let mcp = vec![("add_note".to_owned(), "notes".to_owned())];
    EventWriter::new(skeleton, new_id, 0, 0).with_mcp_tools(mcp)
}

fn text(text: &str) -> Delta {
    Delta::Text { text: text.to_owned() }
}

fn call(index: u32, name: &str) -> Delta {
    Delta::ToolCallStart { index, id: format!("call_{index}"), name: name.to_owned() }
}

fn arguments(index: u32, json: &str) -> Delta {
    Delta::ToolCallArguments { index, json: json.to_owned() }
}

/// Events without the response object, one a line.
fn shown(events: &[Value]) -> String {
    let lines = events.iter().map(|event| {
        let mut event = event.clone();
        if let Some(response) = event.get_mut("response") {
            let status = response["status"].clone();
            let ids: Vec<&Value> =
                response["output"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
            *response = json!({ "status": status, "output": ids });
        }
        event.to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn signature(signature: &str, redacted: bool) -> Delta {
    let origin = "anthropic_messages".to_owned();
    Delta::ReasoningSignature { signature: signature.to_owned(), redacted, origin }
}

fn reasoning(text: &str) -> Delta {
    Delta::Reasoning { text: text.to_owned() }
}

#[test]
fn tools_of_the_client_are_called_as_it_named_them() {
    let request = parse_create(
        br#"{"model":"m","tools":[
            {"type":"custom","name":"apply_patch","format":{"type":"grammar","syntax":"lark","definition":"start: /a/"}},
            {"type":"namespace","name":"agents","tools":[{"type":"function","name":"close"}]},
            {"type":"web_search"}],
        "input":[
            {"type":"custom_tool_call","call_id":"c1","name":"apply_patch","input":"+a\"\n"},
            {"type":"custom_tool_call_output","call_id":"c1","output":"done"},
            {"type":"function_call","call_id":"c2","namespace":"agents","name":"close","arguments":"{}"},
            {"type":"function_call_output","call_id":"c2","output":"closed"}]}"#,
    )
    .unwrap();
    let told: Vec<String> =
        request.function_definitions().into_iter().map(|definition| definition.name).collect();
    assert_eq!(told, ["apply_patch", "agents__close"]);
    assert_eq!(request.rest.keys().collect::<Vec<_>>(), ["tools.web_search"]);
    let history = crate::openai_responses::items_to_messages(&request.input).unwrap();
    let calls: Vec<String> = history
        .iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| match part {
            ::types::conversation::Part::ToolCall(call) => {
                Some(format!("{} {} {}", call.id, call.name, call.arguments))
            }
            _ => None,
        })
        .collect();
    assert_eq!(calls, [r#"c1 apply_patch {"input":"+a\"\n"}"#, "c2 agents__close {}"]);

    let skeleton = ResponseSkeleton::new("resp_1", Timestamp(0), &request);
    let mut made = 0;
    let new_id: NewId = Box::new(move |prefix| {
        made += 1;
        format!("{prefix}{made}")
    });
    let mut writer = EventWriter::new(skeleton, new_id, 0, 0);
    let deltas = [
        call(0, "apply_patch"),
        arguments(0, r#"{"inp"#),
        arguments(0, r#"ut":"+a\n"}"#),
        call(1, "agents__close"),
        arguments(1, "{}"),
    ];
    let mut events: Vec<Value> = deltas.iter().flat_map(|delta| writer.delta(delta)).collect();
    events.extend(writer.close_open_item());
    assert_snapshot!(shown(&events), @r#"
    {"type":"response.output_item.added","sequence_number":0,"output_index":0,"item":{"id":"ctc_1","type":"custom_tool_call","status":"in_progress","call_id":"call_0","name":"apply_patch","input":""}}
    {"type":"response.output_item.added","sequence_number":1,"output_index":1,"item":{"id":"fc_2","type":"function_call","status":"in_progress","call_id":"call_1","name":"close","arguments":"","namespace":"agents"}}
    {"type":"response.function_call_arguments.delta","sequence_number":2,"item_id":"fc_2","output_index":1,"delta":"{}"}
    {"type":"response.custom_tool_call_input.delta","sequence_number":3,"item_id":"ctc_1","output_index":0,"delta":"+a\n"}
    {"type":"response.custom_tool_call_input.done","sequence_number":4,"item_id":"ctc_1","output_index":0,"input":"+a\n"}
    {"type":"response.output_item.done","sequence_number":5,"output_index":0,"item":{"id":"ctc_1","type":"custom_tool_call","status":"completed","call_id":"call_0","name":"apply_patch","input":"+a\n"}}
    {"type":"response.function_call_arguments.done","sequence_number":6,"item_id":"fc_2","output_index":1,"arguments":"{}"}
    {"type":"response.output_item.done","sequence_number":7,"output_index":1,"item":{"id":"fc_2","type":"function_call","status":"completed","call_id":"call_1","name":"close","arguments":"{}","namespace":"agents"}}
    "#);

    writer.begin_model_call();
    writer.delta(&call(0, "apply_patch"));
    writer.delta(&arguments(0, r#"{"inp"#));
    let cut = writer.interrupt_open_item().pop().unwrap();
    assert_eq!((&cut["item"]["status"], &cut["item"]["input"]), (&json!("incomplete"), &json!("")));
}

#[test]
fn signed_reasoning_ends_its_item_and_hidden_reasoning_has_its_own() {
    let mut writer = writer();
    let deltas = [
        reasoning("a"),
        signature("s1", false),
        reasoning("b"),
        signature("h", true),
        signature("alone", false),
        text("x"),
    ];
    let events: Vec<Value> = deltas.iter().flat_map(|delta| writer.delta(delta)).collect();
    assert_snapshot!(shown(&events), @r#"
    {"type":"response.output_item.added","sequence_number":0,"output_index":0,"item":{"id":"rs_1","type":"reasoning","status":"in_progress","summary":[],"content":[]}}
    {"type":"response.content_part.added","sequence_number":1,"item_id":"rs_1","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""}}
    {"type":"response.reasoning_text.delta","sequence_number":2,"item_id":"rs_1","output_index":0,"content_index":0,"delta":"a"}
    {"type":"response.reasoning_text.done","sequence_number":3,"item_id":"rs_1","output_index":0,"content_index":0,"text":"a"}
    {"type":"response.content_part.done","sequence_number":4,"item_id":"rs_1","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"a"}}
    {"type":"response.output_item.done","sequence_number":5,"output_index":0,"item":{"id":"rs_1","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"a"}],"encrypted_content":"hf1.anthropic_messages.s1"}}
    {"type":"response.output_item.added","sequence_number":6,"output_index":1,"item":{"id":"rs_2","type":"reasoning","status":"in_progress","summary":[],"content":[]}}
    {"type":"response.content_part.added","sequence_number":7,"item_id":"rs_2","output_index":1,"content_index":0,"part":{"type":"reasoning_text","text":""}}
    {"type":"response.reasoning_text.delta","sequence_number":8,"item_id":"rs_2","output_index":1,"content_index":0,"delta":"b"}
    {"type":"response.reasoning_text.done","sequence_number":9,"item_id":"rs_2","output_index":1,"content_index":0,"text":"b"}
    {"type":"response.content_part.done","sequence_number":10,"item_id":"rs_2","output_index":1,"content_index":0,"part":{"type":"reasoning_text","text":"b"}}
    {"type":"response.output_item.done","sequence_number":11,"output_index":1,"item":{"id":"rs_2","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"b"}]}}
    {"type":"response.output_item.added","sequence_number":12,"output_index":2,"item":{"id":"rs_3","type":"reasoning","status":"in_progress","summary":[],"content":[]}}
    {"type":"response.output_item.done","sequence_number":13,"output_index":2,"item":{"id":"rs_3","type":"reasoning","status":"completed","summary":[],"content":[],"encrypted_content":"hf1.anthropic_messages_redacted.h"}}
    {"type":"response.output_item.added","sequence_number":14,"output_index":3,"item":{"id":"rs_4","type":"reasoning","status":"in_progress","summary":[],"content":[]}}
    {"type":"response.output_item.done","sequence_number":15,"output_index":3,"item":{"id":"rs_4","type":"reasoning","status":"completed","summary":[],"content":[],"encrypted_content":"hf1.anthropic_messages.alone"}}
    {"type":"response.output_item.added","sequence_number":16,"output_index":4,"item":{"id":"msg_5","type":"message","status":"in_progress","role":"assistant","content":[]}}
    {"type":"response.content_part.added","sequence_number":17,"item_id":"msg_5","output_index":4,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    {"type":"response.output_text.delta","sequence_number":18,"item_id":"msg_5","output_index":4,"content_index":0,"delta":"x","logprobs":[]}
    "#);
    // What is told can be read back, whoever it is from.
    let read: Vec<Delta> = writer.output().iter().filter_map(signature_of).collect();
    assert_eq!(read, [signature("s1", false), signature("h", true), signature("alone", false)]);
    for (sealed, redacted, origin) in [
        ("gAAAA.B", false, "openai_responses"),
        ("hf1.another.x", false, "openai_responses"),
        ("hf1.x", false, "openai_responses"),
        ("", false, "openai_responses"),
    ] {
        assert_eq!(reasoning::unseal(sealed), (sealed, redacted, origin));
        assert_eq!(reasoning::seal(sealed, redacted, origin), sealed);
    }
    assert_eq!(signature_of(&json!({ "type": "message", "encrypted_content": "x" })), None);
}

#[test]
fn reasoning_behind_a_tool_s_call_says_so() {
    let mut writer = writer();
    let deltas = [call(0, "add_note"), arguments(0, "{}"), signature("h", true)];
    let events: Vec<Value> = deltas.iter().flat_map(|delta| writer.delta(delta)).collect();
    let done = events.last().unwrap();
    assert_eq!(done["item"]["holdfast"]["beside"], "mcp_1");
    assert_eq!(writer.pending_mcp_calls().len(), 1);
}

#[test]
fn a_text_is_a_message() {
    let mut writer = writer();
    let mut events = writer.created();
    events.extend(writer.in_progress());
    events.extend(writer.delta(&text("Hel")));
    events.extend(writer.delta(&text("lo")));
    events.extend(writer.close_open_item());
    events.extend(writer.completed(None, Timestamp(0)));
    assert_snapshot!(shown(&events), @r#"
    {"type":"response.created","sequence_number":0,"response":{"status":"in_progress","output":[]}}
    {"type":"response.in_progress","sequence_number":1,"response":{"status":"in_progress","output":[]}}
    {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}
    {"type":"response.content_part.added","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hel","logprobs":[]}
    {"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"lo","logprobs":[]}
    {"type":"response.output_text.done","sequence_number":6,"item_id":"msg_1","output_index":0,"content_index":0,"text":"Hello","logprobs":[]}
    {"type":"response.content_part.done","sequence_number":7,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}}
    {"type":"response.output_item.done","sequence_number":8,"output_index":0,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]}}
    {"type":"response.completed","sequence_number":9,"response":{"status":"completed","output":["msg_1"]}}
    "#);
    assert_json_snapshot!(writer.output(), @r#"
    [
      {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [
          {
            "type": "output_text",
            "text": "Hello",
            "annotations": [],
            "logprobs": []
          }
        ]
      }
    ]
    "#);
}

#[test]
fn a_function_call_is_an_item_for_the_client() {
    let mut writer = writer();
    let mut events = writer.delta(&Delta::Reasoning { text: "hm".to_owned() });
    events.extend(writer.delta(&text("calling")));
    events.extend(writer.delta(&call(0, "f")));
    events.extend(writer.delta(&call(1, "g")));
    events.extend(writer.delta(&arguments(0, "{\"a\":")));
    events.extend(writer.delta(&arguments(1, "{}")));
    events.extend(writer.delta(&arguments(0, "1}")));
    events.extend(writer.close_open_item());
    assert_snapshot!(shown(&events), @r#"
    {"type":"response.output_item.added","sequence_number":0,"output_index":0,"item":{"id":"rs_1","type":"reasoning","status":"in_progress","summary":[],"content":[]}}
    {"type":"response.content_part.added","sequence_number":1,"item_id":"rs_1","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""}}
    {"type":"response.reasoning_text.delta","sequence_number":2,"item_id":"rs_1","output_index":0,"content_index":0,"delta":"hm"}
    {"type":"response.reasoning_text.done","sequence_number":3,"item_id":"rs_1","output_index":0,"content_index":0,"text":"hm"}
    {"type":"response.content_part.done","sequence_number":4,"item_id":"rs_1","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"hm"}}
    {"type":"response.output_item.done","sequence_number":5,"output_index":0,"item":{"id":"rs_1","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]}}
    {"type":"response.output_item.added","sequence_number":6,"output_index":1,"item":{"id":"msg_2","type":"message","status":"in_progress","role":"assistant","content":[]}}
    {"type":"response.content_part.added","sequence_number":7,"item_id":"msg_2","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    {"type":"response.output_text.delta","sequence_number":8,"item_id":"msg_2","output_index":1,"content_index":0,"delta":"calling","logprobs":[]}
    {"type":"response.output_text.done","sequence_number":9,"item_id":"msg_2","output_index":1,"content_index":0,"text":"calling","logprobs":[]}
    {"type":"response.content_part.done","sequence_number":10,"item_id":"msg_2","output_index":1,"content_index":0,"part":{"type":"output_text","text":"calling","annotations":[],"logprobs":[]}}
    {"type":"response.output_item.done","sequence_number":11,"output_index":1,"item":{"id":"msg_2","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"calling","annotations":[],"logprobs":[]}]}}
    {"type":"response.output_item.added","sequence_number":12,"output_index":2,"item":{"id":"fc_3","type":"function_call","status":"in_progress","call_id":"call_0","name":"f","arguments":""}}
    {"type":"response.output_item.added","sequence_number":13,"output_index":3,"item":{"id":"fc_4","type":"function_call","status":"in_progress","call_id":"call_1","name":"g","arguments":""}}
    {"type":"response.function_call_arguments.delta","sequence_number":14,"item_id":"fc_3","output_index":2,"delta":"{\"a\":"}
    {"type":"response.function_call_arguments.delta","sequence_number":15,"item_id":"fc_4","output_index":3,"delta":"{}"}
    {"type":"response.function_call_arguments.delta","sequence_number":16,"item_id":"fc_3","output_index":2,"delta":"1}"}
    {"type":"response.function_call_arguments.done","sequence_number":17,"item_id":"fc_3","output_index":2,"arguments":"{\"a\":1}"}
    {"type":"response.output_item.done","sequence_number":18,"output_index":2,"item":{"id":"fc_3","type":"function_call","status":"completed","call_id":"call_0","name":"f","arguments":"{\"a\":1}"}}
    {"type":"response.function_call_arguments.done","sequence_number":19,"item_id":"fc_4","output_index":3,"arguments":"{}"}
    {"type":"response.output_item.done","sequence_number":20,"output_index":3,"item":{"id":"fc_4","type":"function_call","status":"completed","call_id":"call_1","name":"g","arguments":"{}"}}
    "#);
    assert!(writer.pending_mcp_calls().is_empty());
}

#[test]
fn an_mcp_call_waits_for_its_tool() {
    let mut writer = writer();
    let tools = [json!({ "name": "add_note", "input_schema": {}, "description": null })];
    let mut events = writer.mcp_list_tools("notes", &tools);
    events.extend(writer.delta(&call(0, "add_note")));
    events.extend(writer.delta(&arguments(0, "{\"t\":1}")));
    assert!(writer.pending_mcp_calls().is_empty(), "its arguments are not whole");
    events.extend(writer.close_open_item());
    let pending = writer.pending_mcp_calls();
    assert_eq!(pending[0].arguments, "{\"t\":1}");
    assert_eq!((pending[0].server_label.as_str(), pending[0].output_index), ("notes", 1));
    events.extend(writer.mcp_call_done(&pending[0].item_id, "added"));
    events.extend(writer.delta(&text("done")));
    events.extend(writer.completed(None, Timestamp(0)));
    assert_snapshot!(shown(&events), @r#"
    {"type":"response.output_item.added","sequence_number":0,"output_index":0,"item":{"id":"mcpl_1","type":"mcp_list_tools","server_label":"notes","tools":[]}}
    {"type":"response.mcp_list_tools.in_progress","sequence_number":1,"item_id":"mcpl_1","output_index":0}
    {"type":"response.mcp_list_tools.completed","sequence_number":2,"item_id":"mcpl_1","output_index":0}
    {"type":"response.output_item.done","sequence_number":3,"output_index":0,"item":{"id":"mcpl_1","type":"mcp_list_tools","server_label":"notes","tools":[{"name":"add_note","input_schema":{}}]}}
    {"type":"response.output_item.added","sequence_number":4,"output_index":1,"item":{"id":"mcp_2","type":"mcp_call","status":"in_progress","server_label":"notes","name":"add_note","arguments":"","approval_request_id":null,"output":null,"error":null}}
    {"type":"response.mcp_call.in_progress","sequence_number":5,"item_id":"mcp_2","output_index":1}
    {"type":"response.mcp_call_arguments.delta","sequence_number":6,"item_id":"mcp_2","output_index":1,"delta":"{\"t\":1}"}
    {"type":"response.mcp_call_arguments.done","sequence_number":7,"item_id":"mcp_2","output_index":1,"arguments":"{\"t\":1}"}
    {"type":"response.mcp_call.completed","sequence_number":8,"item_id":"mcp_2","output_index":1}
    {"type":"response.output_item.done","sequence_number":9,"output_index":1,"item":{"id":"mcp_2","type":"mcp_call","status":"completed","server_label":"notes","name":"add_note","arguments":"{\"t\":1}","approval_request_id":null,"output":"added","error":null}}
    {"type":"response.output_item.added","sequence_number":10,"output_index":2,"item":{"id":"msg_3","type":"message","status":"in_progress","role":"assistant","content":[]}}
    {"type":"response.content_part.added","sequence_number":11,"item_id":"msg_3","output_index":2,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    {"type":"response.output_text.delta","sequence_number":12,"item_id":"msg_3","output_index":2,"content_index":0,"delta":"done","logprobs":[]}
    {"type":"response.output_text.done","sequence_number":13,"item_id":"msg_3","output_index":2,"content_index":0,"text":"done","logprobs":[]}
    {"type":"response.content_part.done","sequence_number":14,"item_id":"msg_3","output_index":2,"content_index":0,"part":{"type":"output_text","text":"done","annotations":[],"logprobs":[]}}
    {"type":"response.output_item.done","sequence_number":15,"output_index":2,"item":{"id":"msg_3","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"done","annotations":[],"logprobs":[]}]}}
    {"type":"response.completed","sequence_number":16,"response":{"status":"completed","output":["mcpl_1","mcp_2","msg_3"]}}
    "#);
    assert!(writer.mcp_call_done(&pending[0].item_id, "again").is_empty());
}

#[test]
fn a_call_in_doubt_is_shown_and_survives_a_restart() {
    let mut before = writer();
    before.delta(&text("first"));
    before.delta(&call(0, "add_note"));
    before.close_open_item();
    let pending = before.pending_mcp_calls().remove(0);
    before.set_item_extra(&pending.item_id, "holdfast", json!({ "state": "in_doubt" }));
    let waiting = before.waiting_items();
    assert_json_snapshot!(waiting, @r#"
    [
      [
        1,
        {
          "id": "mcp_2",
          "type": "mcp_call",
          "status": "in_progress",
          "server_label": "notes",
          "name": "add_note",
          "arguments": "{}",
          "approval_request_id": null,
          "output": null,
          "error": null,
          "holdfast": {
            "state": "in_doubt"
          }
        }
      ]
    ]
    "#);

    let mut items = before.indexed_output().to_vec();
    items.extend(waiting);
    let start = before.next_sequence();
    let request = parse_create(br#"{"model":"m","input":"x"}"#).unwrap();
    let skeleton = ResponseSkeleton::new("resp_1", Timestamp(0), &request);
    let new_id: NewId = Box::new(|prefix| format!("{prefix}new"));
    let mut after = EventWriter::new(skeleton, new_id, start, 0).restore(items);
    assert_eq!(after.pending_mcp_calls()[0].item_id, pending.item_id);
    let mut events =
        after.mcp_call_failed(&pending.item_id, McpError::Execution { text: "disk full" });
    events.extend(after.delta(&text("sorry")));
    events.extend(after.completed(None, Timestamp(0)));
    assert_snapshot!(shown(&events), @r#"
    {"type":"response.mcp_call.failed","sequence_number":9,"item_id":"mcp_2","output_index":1}
    {"type":"response.output_item.done","sequence_number":10,"output_index":1,"item":{"id":"mcp_2","type":"mcp_call","status":"failed","server_label":"notes","name":"add_note","arguments":"{}","approval_request_id":null,"output":null,"error":{"type":"mcp_tool_execution_error","content":[{"type":"text","text":"disk full"}]}}}
    {"type":"response.output_item.added","sequence_number":11,"output_index":2,"item":{"id":"msg_new","type":"message","status":"in_progress","role":"assistant","content":[]}}
    {"type":"response.content_part.added","sequence_number":12,"item_id":"msg_new","output_index":2,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    {"type":"response.output_text.delta","sequence_number":13,"item_id":"msg_new","output_index":2,"content_index":0,"delta":"sorry","logprobs":[]}
    {"type":"response.output_text.done","sequence_number":14,"item_id":"msg_new","output_index":2,"content_index":0,"text":"sorry","logprobs":[]}
    {"type":"response.content_part.done","sequence_number":15,"item_id":"msg_new","output_index":2,"content_index":0,"part":{"type":"output_text","text":"sorry","annotations":[],"logprobs":[]}}
    {"type":"response.output_item.done","sequence_number":16,"output_index":2,"item":{"id":"msg_new","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"sorry","annotations":[],"logprobs":[]}]}}
    {"type":"response.completed","sequence_number":17,"response":{"status":"completed","output":["msg_1","mcp_2","msg_new"]}}
    "#);
    assert_eq!(after.output()[1].get("holdfast"), None);
}

/// The marks of the items that were added, and of those that are done.
fn marks(events: &[Value]) -> Vec<String> {
    let items = events.iter().filter(|event| event.get("item").is_some());
    let mark = |event: &Value| {
        let kind = event["type"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
        format!("{kind} {} {}", event["item"]["id"], event["item"]["holdfast"])
    };
    items.map(mark).collect()
}

#[test]
fn what_an_answer_says_after_a_call_names_the_call() {
    let mut writer = writer();
    writer.begin_model_call();
    let mut events = writer.delta(&text("before"));
    events.extend(writer.delta(&call(0, "add_note")));
    events.extend(writer.delta(&call(1, "add_note")));
    events.extend(writer.delta(&call(2, "f")));
    events.extend(writer.close_open_item());
    // The mark stays beside what else is said of the item, and through a restart.
    writer.set_item_extra("mcp_3", "holdfast", json!({ "state": "in_doubt" }));
    let waiting = writer.waiting_items();
    assert_eq!(waiting[1].1["holdfast"], json!({ "state": "in_doubt", "beside": "mcp_2" }));
    let mut writer = self::writer().restore(waiting);
    assert_eq!(writer.waiting_items()[1].1["holdfast"]["state"], "in_doubt");
    events.extend(writer.mcp_call_done("mcp_2", "a"));
    events.extend(writer.mcp_call_done("mcp_3", "b"));
    writer.begin_model_call();
    events.extend(writer.delta(&call(0, "add_note")));
    assert_snapshot!(marks(&events).join("\n"), @r#"
    added "msg_1" null
    done "msg_1" null
    added "mcp_2" null
    added "mcp_3" {"beside":"mcp_2"}
    added "fc_4" {"beside":"mcp_2"}
    done "fc_4" {"beside":"mcp_2"}
    done "mcp_2" null
    done "mcp_3" {"beside":"mcp_2"}
    added "mcp_1" null
    "#);
}

#[test]
fn a_cut_call_leaves_the_output_but_not_the_numbers() {
    let mut writer = writer();
    writer.begin_model_call();
    writer.delta(&text("kept"));
    writer.close_open_item();
    writer.begin_model_call();
    writer.delta(&text("cut"));
    writer.delta(&call(0, "add_note"));
    let mut events = writer.delta(&arguments(0, "{\"t"));
    events.extend(writer.interrupt_open_item());
    assert!(writer.pending_mcp_calls().is_empty());
    writer.begin_model_call();
    events.extend(writer.delta(&text("again")));
    events.extend(writer.completed(None, Timestamp(0)));
    assert_snapshot!(shown(&events), @r#"
    {"type":"response.mcp_call_arguments.delta","sequence_number":14,"item_id":"mcp_3","output_index":2,"delta":"{\"t"}
    {"type":"response.output_item.done","sequence_number":15,"output_index":2,"item":{"id":"mcp_3","type":"mcp_call","status":"incomplete","server_label":"notes","name":"add_note","arguments":"{\"t","approval_request_id":null,"output":null,"error":null}}
    {"type":"response.output_item.added","sequence_number":16,"output_index":3,"item":{"id":"msg_4","type":"message","status":"in_progress","role":"assistant","content":[]}}
    {"type":"response.content_part.added","sequence_number":17,"item_id":"msg_4","output_index":3,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}
    {"type":"response.output_text.delta","sequence_number":18,"item_id":"msg_4","output_index":3,"content_index":0,"delta":"again","logprobs":[]}
    {"type":"response.output_text.done","sequence_number":19,"item_id":"msg_4","output_index":3,"content_index":0,"text":"again","logprobs":[]}
    {"type":"response.content_part.done","sequence_number":20,"item_id":"msg_4","output_index":3,"content_index":0,"part":{"type":"output_text","text":"again","annotations":[],"logprobs":[]}}
    {"type":"response.output_item.done","sequence_number":21,"output_index":3,"item":{"id":"msg_4","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"again","annotations":[],"logprobs":[]}]}}
    {"type":"response.completed","sequence_number":22,"response":{"status":"completed","output":["msg_1","msg_4"]}}
    "#);
}

#[test]
fn every_end_closes_what_is_open() {
    let failure = Failure::new(ErrorCode::StreamCut, "the provider's stream ended");
    let mut failed = writer();
    failed.delta(&text("half"));
    let events = failed.failed(&failure, None, None);
    assert_snapshot!(shown(&events), @r#"
    {"type":"response.output_text.done","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"text":"half","logprobs":[]}
    {"type":"response.content_part.done","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"half","annotations":[],"logprobs":[]}}
    {"type":"response.output_item.done","sequence_number":5,"output_index":0,"item":{"id":"msg_1","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","text":"half","annotations":[],"logprobs":[]}]}}
    {"type":"response.failed","sequence_number":6,"response":{"status":"failed","output":["msg_1"]}}
    "#);
    assert_json_snapshot!(events.last().unwrap()["response"]["error"], @r#"
    {
      "message": "the provider's stream ended",
      "type": "server_error",
      "code": "stream_cut",
      "holdfast": {
        "code": "stream_cut"
      }
    }
    "#);
    let mut incomplete = writer();
    incomplete.delta(&call(0, "f"));
    incomplete.delta(&arguments(0, "{\"a"));
    let events = incomplete.incomplete("max_output_tokens", None);
    assert_snapshot!(shown(&events), @r#"
    {"type":"response.output_item.done","sequence_number":2,"output_index":0,"item":{"id":"fc_1","type":"function_call","status":"incomplete","call_id":"call_0","name":"f","arguments":"{\"a"}}
    {"type":"response.incomplete","sequence_number":3,"response":{"status":"incomplete","output":["fc_1"]}}
    "#);
    assert_eq!(
        events.last().unwrap()["response"]["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    let cancelled = writer().cancelled(None).remove(0);
    assert_eq!(cancelled["type"], "response.incomplete");
    assert_eq!(cancelled["response"]["status"], "cancelled");
}

#[test]
fn a_call_without_arguments_is_an_empty_object() {
    let mut writer = writer();
    writer.delta(&call(0, "f"));
    writer.close_open_item();
    assert_eq!(writer.output()[0]["arguments"], "{}");
}

#[test]
fn frames_name_their_event() {
    let frame = event_frame(&json!({ "type": "response.created", "sequence_number": 0 }));
    assert_eq!(
        frame,
        "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n"
    );
    assert_eq!(
        event_frame(&keepalive_event()),
        "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n"
    );
}

#[test]
fn ids_have_the_form_of_openais() {
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let id = ids_of(Arc::new(Ids::seeded(clock, 1)))("msg_");
    assert_eq!(id.len(), "msg_".len() + 48);
}

#[test]
fn an_answer_without_a_session_is_written_too() {
    let options = |stream| WriteOptions {
        stream,
        include_usage: true,
        id: "resp_1".to_owned(),
        model: "local/demo".to_owned(),
        created: Timestamp(0),
    };
    let mut out = BytesMut::new();
    let mut writer = Writer::new(options(true));
    writer.start(&Start::default(), &mut out);
    writer.delta(&text("a"), &mut out);
    writer.keep_alive(&mut out);
    writer.finish(&Finish::default(), "holdfast-cost=1", &mut out).unwrap();
    let body = String::from_utf8(out.to_vec()).unwrap();
    let names: Vec<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("event: ").or_else(|| line.strip_prefix(": ")))
        .collect();
    assert_snapshot!(names.join("\n"), @r#"
    response.created
    response.in_progress
    response.output_item.added
    response.content_part.added
    response.output_text.delta
    keepalive
    response.output_text.done
    response.content_part.done
    response.output_item.done
    holdfast-cost=1
    response.completed
    "#);
    assert!(body.ends_with("data: [DONE]\n\n"));

    let mut out = BytesMut::new();
    let mut writer = Writer::new(options(false));
    writer.start(&Start::default(), &mut out);
    writer.delta(&text("a"), &mut out);
    assert!(out.is_empty());
    writer.finish(&Finish::default(), "", &mut out).unwrap();
    let response: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], "a");
}

fn writer_of(request: &'static [u8], clock: &SharedClock) -> Box<dyn WriteResponse> {
    let options = WriteOptions {
        stream: true,
        include_usage: true,
        id: "resp_1".to_owned(),
        model: "m".to_owned(),
        created: Timestamp(0),
    };
    let request = Bytes::from_static(request);
    OPENAI_RESPONSES.writer_of(options, &WriteContext { request: Some(&request), clock })
}

fn events_in(out: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(out.to_vec()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn an_answer_says_what_was_asked_and_what_of_it_was_done() {
    let clock: SharedClock = Arc::new(FakeClock::new(Timestamp(5_000_000)));
    let request = br#"{"model":"m","input":"x","instructions":"be","service_tier":"flex","tools":[{"type":"custom","name":"patch"}]}"#;
    let mut writer = writer_of(request, &clock);
    let mut out = BytesMut::new();
    let dropped = vec!["service_tier".to_owned()];
    writer.start(&Start { dropped, ..Start::default() }, &mut out);
    let (id, name) = ("call_1".to_owned(), "patch".to_owned());
    writer.delta(&Delta::ToolCallStart { index: 0, id, name }, &mut out);
    writer.delta(&arguments(0, r#"{"input":"go"}"#), &mut out);
    writer.finish(&Finish::default(), "", &mut out).unwrap();
    let events = events_in(&out);
    let response = &events.last().unwrap()["response"];
    assert_eq!(response["instructions"], "be");
    assert_eq!(response["service_tier"], "default");
    assert_eq!(response["completed_at"], 5);
    assert_eq!(response["output"][0]["type"], "custom_tool_call");
    assert_eq!(response["output"][0]["input"], "go");
}

#[test]
fn an_error_behind_what_passed_is_of_the_same_response() {
    let clock: SharedClock = Arc::new(FakeClock::new(Timestamp(0)));
    let mut writer = writer_of(br#"{"model":"m","input":[{"type":"hologram"}]}"#, &clock);
    let created = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\": \"resp_theirs\",\"output\":[]}}\n\n";
    let (one, two) = created.split_at(110);
    for piece in [
        one,
        two,
        "data: {\"type\":\"x\",\"sequence_number\": 41,\"delta\":\"\\\"sequence_number\\\":7\"}\n\n",
    ] {
        writer.passed(&Bytes::copy_from_slice(piece.as_bytes()));
    }
    let mut out = BytesMut::new();
    let call = CallId::new(&Ids::seeded(Arc::clone(&clock), 1));
    writer.fail(&Failure::new(ErrorCode::StreamCut, "cut"), &call, &mut out);
    let events = events_in(&out);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "response.failed");
    assert_eq!(
        (&events[0]["sequence_number"], &events[0]["response"]["id"]),
        (&json!(42), &json!("resp_theirs"))
    );
}

#[test]
fn a_stream_that_fails_before_anything_begins_as_every_stream() {
    let clock: SharedClock = Arc::new(FakeClock::new(Timestamp(0)));
    let mut writer = writer_of(br#"{"model":"m","input":"x"}"#, &clock);
    let mut out = BytesMut::new();
    let call = CallId::new(&Ids::seeded(Arc::clone(&clock), 1));
    writer.fail(&Failure::new(ErrorCode::StreamCut, "cut"), &call, &mut out);
    let events = events_in(&out);
    let kinds: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds, ["response.created", "response.in_progress", "response.failed"]);
    let numbers: Vec<&Value> = events.iter().map(|event| &event["sequence_number"]).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn an_answer_without_end_is_none() {
    let clock: SharedClock = Arc::new(FakeClock::new(Timestamp(0)));
    let mut writer = writer_of(br#"{"model":"m","input":"x"}"#, &clock);
    let mut out = BytesMut::new();
    writer.start(&Start::default(), &mut out);
    let megabyte = text(&"x".repeat(1024 * 1024));
    for _ in 0..17 {
        writer.delta(&megabyte, &mut out);
        out.clear();
    }
    let failure = writer.finish(&Finish::default(), "", &mut out).unwrap_err();
    assert_eq!(failure.code, ErrorCode::TooLarge);
    assert!(out.is_empty());
}

#[derive(Clone, Debug)]
enum Act {
    Delta(Delta),
    Close,
    Interrupt,
    Begin,
    EndCall(bool),
    ListTools,
}

fn act() -> impl Strategy<Value = Act> {
    let deltas = prop_oneof![
        Just(text("t")),
        Just(Delta::Reasoning { text: "r".to_owned() }),
        Just(Delta::Refusal { text: "n".to_owned() }),
        (0u32..3, any::<bool>())
            .prop_map(|(at, ours)| call(at, if ours { "add_note" } else { "f" })),
        (0u32..3).prop_map(|at| arguments(at, "{}")),
    ];
    prop_oneof![
        6 => deltas.prop_map(Act::Delta),
        2 => Just(Act::Close),
        1 => Just(Act::Interrupt),
        1 => Just(Act::Begin),
        2 => any::<bool>().prop_map(Act::EndCall),
        1 => Just(Act::ListTools),
    ]
}

/// What JS and Python helpers check of a stream.
fn check_as_sdks_do(events: &[Value]) {
    let mut open: Vec<(u64, String)> = Vec::new();
    let mut next_index = 0;
    let mut parts: Vec<String> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
        let id = event["item_id"].as_str().map(str::to_owned);
        let at = event["output_index"].as_u64();
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => {
                assert_eq!(at, Some(next_index), "no gap, no reuse");
                next_index += 1;
                open.push((at.unwrap(), event["item"]["id"].as_str().unwrap().to_owned()));
            }
            "response.output_item.done" => {
                let id = event["item"]["id"].as_str().unwrap().to_owned();
                let place = open.iter().position(|known| *known == (at.unwrap(), id.clone()));
                open.remove(place.expect("done belongs to an added item"));
                assert_ne!(event["item"]["status"], "in_progress");
            }
            kind if id.is_some() => {
                let id = id.unwrap();
                assert!(
                    open.contains(&(at.unwrap(), id.clone())),
                    "{kind} of an item that is not open"
                );
                if kind == "response.content_part.added" {
                    parts.push(id);
                } else if kind.ends_with("text.delta") || kind.ends_with("refusal.delta") {
                    assert!(parts.contains(&id), "{kind} before its part");
                }
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "an item was never done: {open:?}");
    let last = events.last().unwrap();
    assert!(last["response"]["output"].is_array());
}

proptest! {
    #[test]
    fn any_order_of_work_gives_a_stream_that_sdks_take(
        acts in prop::collection::vec(act(), 0..40),
        fails in any::<bool>(),
    ) {
        let mut writer = writer();
        let mut events = writer.created();
        events.extend(writer.in_progress());
        for act in acts {
            events.extend(match act {
                Act::Delta(delta) => writer.delta(&delta),
                Act::Close => writer.close_open_item(),
                Act::Interrupt => writer.interrupt_open_item(),
                Act::Begin => {
                    writer.begin_model_call();
                    Vec::new()
                }
                Act::EndCall(works) => match writer.pending_mcp_calls().first() {
                    None => Vec::new(),
                    Some(call) if works => writer.mcp_call_done(&call.item_id, "o"),
                    Some(call) => writer.mcp_call_failed(&call.item_id, McpError::Execution { text: "e" }),
                },
                Act::ListTools => writer.mcp_list_tools("notes", &[]),
            });
        }
        events.extend(if fails {
            writer.failed(&Failure::new(ErrorCode::Internal, "x"), None, None)
        } else {
            writer.completed(None, Timestamp(0))
        });
        check_as_sdks_do(&events);
    }
}
