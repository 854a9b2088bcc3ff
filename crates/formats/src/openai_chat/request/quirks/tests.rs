use insta::assert_snapshot;
use types::conversation::{Conversation, Message, Part, Role, ToolCall};

use ::types::Format as _;
use ::types::format::CacheControlPlace;

use super::*;
use crate::OPENAI_CHAT;
use crate::openai_chat::request::{parse, patch, read_head, render};

fn quirks(set: impl FnOnce(&mut Quirks)) -> Quirks {
    let mut quirks = Quirks::default();
    set(&mut quirks);
    quirks
}

fn patched(body: &str, edits: &Edits<'_>) -> String {
    let raw = Bytes::from(body.to_owned());
    let head = read_head(&raw).unwrap();
    let patched = String::from_utf8(patch(&raw, &head, edits).to_vec()).unwrap();
    read_head(patched.as_bytes()).unwrap_or_else(|failure| panic!("{patched}: {failure}"));
    patched
}

fn rendered(conversation: &Conversation, quirks: &Quirks) -> (serde_json::Value, Vec<String>) {
    let edits = Edits { model: "up", quirks: Some(quirks), ..Edits::default() };
    let rendered = render(conversation, &edits).unwrap();
    (serde_json::from_slice(&rendered.body).unwrap(), rendered.dropped)
}

#[test]
fn the_cap_goes_by_the_name_that_the_server_knows() {
    let old = quirks(|quirks| quirks.old_output_cap = true);
    let cases = [
        "",
        r#","max_tokens":50"#,
        r#","max_completion_tokens" : 50,"x":1"#,
        r#","max_completion_token\u0073":5"#,
        r#","max_completion_tokens":null"#,
        r#","max_completion_tokens":null,"max_tokens":50"#,
        r#","max_completion_tokens":50,"max_tokens":null"#,
        r#","max_completion_tokens":null,"max_tokens":null"#,
    ];
    let shown: Vec<String> = cases
        .iter()
        .flat_map(|cap| {
            let body = format!(r#"{{"model":"m","messages":[]{cap}}}"#);
            [None, Some(9)].map(|output_cap| {
                let edits =
                    Edits { model: "m", output_cap, quirks: Some(&old), ..Edits::default() };
                patched(&body, &edits)
            })
        })
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    {"model":"m","messages":[]}
    {"max_tokens":9,"model":"m","messages":[]}
    {"model":"m","messages":[],"max_tokens":50}
    {"model":"m","messages":[],"max_tokens":9}
    {"model":"m","messages":[],"max_tokens" : 50,"x":1}
    {"model":"m","messages":[],"max_tokens" : 9,"x":1}
    {"model":"m","messages":[],"max_tokens":5}
    {"model":"m","messages":[],"max_tokens":9}
    {"model":"m","messages":[],"max_completion_tokens":null}
    {"model":"m","messages":[],"max_tokens":9}
    {"model":"m","messages":[],"max_completion_tokens":null,"max_tokens":50}
    {"model":"m","messages":[],"max_completion_tokens":null,"max_tokens":9}
    {"model":"m","messages":[],"max_completion_tokens":null,"max_tokens":50}
    {"model":"m","messages":[],"max_completion_tokens":null,"max_tokens":9}
    {"model":"m","messages":[],"max_completion_tokens":null,"max_tokens":null}
    {"model":"m","messages":[],"max_completion_tokens":null,"max_tokens":9}
    "#);
}

#[test]
fn stream_options_are_neither_sent_nor_passed_on() {
    let none = quirks(|quirks| quirks.no_stream_options = true);
    let edits = Edits {
        model: "up",
        stream: true,
        request_usage: true,
        quirks: Some(&none),
        ..Edits::default()
    };
    let cases = [
        r#"{"model":"m","messages":[],"stream":true}"#,
        r#"{"stream_options":{"include_usage":true},"model":"m","messages":[],"stream":true}"#,
        r#"{"model":"m", "stream_options" : {"include_usage":true} , "messages":[],"stream":true}"#,
        "{\"messages\":[],\"stream\":true,\"model\":\"m\" ,\n \"stream_options\": null }",
    ];
    let shown: Vec<String> = cases.iter().map(|body| patched(body, &edits)).collect();
    assert_snapshot!(shown.join("\n"), @r#"
    {"model":"up","messages":[],"stream":true}
    {"model":"up","messages":[],"stream":true}
    {"model":"up",  "messages":[],"stream":true}
    {"messages":[],"stream":true,"model":"up"  }
    "#);
    // What is set at the place of what is taken out.
    let capped = Edits { output_cap: Some(9), ..edits };
    assert_snapshot!(patched(cases[1], &capped), @r#"{"max_completion_tokens":9,"model":"up","messages":[],"stream":true}"#);
    let rendered = render(&Conversation::default(), &edits).unwrap();
    assert!(!String::from_utf8_lossy(&rendered.body).contains("stream_options"));
}

#[test]
fn a_rendered_request_is_as_the_server_takes_it() {
    let quirks = quirks(|quirks| {
        quirks.old_output_cap = true;
        quirks.no_developer_role = true;
        quirks.short_call_ids = true;
        quirks.reasoning_field = Some("reasoning_content".to_owned());
        quirks.drops = vec!["seed".to_owned(), "logit_bias".to_owned()];
    });
    let body =
        br#"{"model":"m","max_completion_tokens":7,"seed":3,"top_p":0.5,"logit_bias":{"1":2},
        "messages":[{"role":"developer","content":"be brief"},
        {"role":"assistant","content":"so","reasoning_content":"hm","tool_calls":[
            {"id":"call_0fypS1hVX","type":"function","function":{"name":"f","arguments":"{}"}},
            {"id":"abcDEF123","type":"function","function":{"name":"f","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"call_0fypS1hVX","content":"1"},
        {"role":"tool","tool_call_id":"abcDEF123","content":"2"}]}"#;
    let (request, dropped) = rendered(&parse(body).unwrap(), &quirks);
    let messages = request["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "system");
    assert_eq!(messages[1]["reasoning_content"], "hm");
    let id = messages[1]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!(messages[1]["tool_calls"][1]["id"], "abcDEF123", "one that fits stays");
    assert_eq!([&messages[2], &messages[3]].map(|said| &said["tool_call_id"]), [id, "abcDEF123"]);
    assert_eq!(request["max_tokens"], 7);
    assert_eq!(request["top_p"], 0.5);
    assert!(request.get("seed").is_none() && request.get("logit_bias").is_none());
    assert_eq!(dropped, ["seed", "logit_bias"]);
}

#[test]
fn a_request_that_the_server_would_answer_otherwise_is_refused() {
    let quirks = quirks(|quirks| {
        quirks.refuses = vec!["n".to_owned(), "tool_choice".to_owned()];
    });
    let edits = Edits { model: "up", quirks: Some(&quirks), ..Edits::default() };
    let refused = |fields: &str| {
        let body = format!(r#"{{"model":"m","messages":[],{fields}}}"#);
        let failure = render(&parse(body.as_bytes()).unwrap(), &edits).err()?;
        Some((failure.code.name(), failure.param.unwrap().into_string()))
    };
    assert_eq!(refused(r#""n":2"#), Some(("unsupported", "n".to_owned())));
    assert_eq!(refused(r#""n":1"#), None);
    assert_eq!(refused(r#""tool_choice":"auto""#), None);
    let forced = refused(r#""tool_choice":"required""#);
    assert_eq!(forced, Some(("unsupported", "tool_choice".to_owned())));
}

#[test]
fn what_another_vendor_signed_is_not_sent_back() {
    let signed = Part::Reasoning {
        text: "secret".to_owned(),
        signature: Some("c2ln".to_owned()),
        redacted: false,
        origin: Some("anthropic_messages".to_owned()),
    };
    let parts = vec![signed, Part::reasoning("own"), Part::text("a")];
    let history = Conversation {
        messages: vec![Message { role: Role::Assistant, parts }],
        ..Conversation::default()
    };
    let quirks = quirks(|quirks| quirks.reasoning_field = Some("reasoning".to_owned()));
    let (request, dropped) = rendered(&history, &quirks);
    assert_eq!(request["messages"][0]["reasoning"], "own");
    assert_eq!(dropped, ["reasoning"]);
    let (request, dropped) = rendered(&history, &Quirks::default());
    assert_eq!(request["messages"][0].get("reasoning"), None);
    assert_eq!(dropped, ["reasoning"]);
}

#[test]
fn short_ids_of_different_calls_differ() {
    let quirks = quirks(|quirks| quirks.short_call_ids = true);
    let made: std::collections::BTreeSet<String> =
        (0..10_000).map(|n| call_id(&format!("call_{n}"), &quirks).into_owned()).collect();
    assert_eq!(made.len(), 10_000);
    assert_eq!(call_id("call_1", &Quirks::default()), "call_1");
    let call =
        |id: &str| ToolCall { id: id.to_owned(), name: "f".to_owned(), arguments: String::new() };
    let parts = vec![Part::ToolCall(call("call_1"))];
    let turn = Message { role: Role::Assistant, parts };
    let short = Conversation { messages: vec![turn.clone()], ..Conversation::default() };
    let long = Conversation { messages: vec![turn.clone(), turn], ..Conversation::default() };
    let (short, long) = (rendered(&short, &quirks).0, rendered(&long, &quirks).0);
    assert_eq!(short["messages"][0], long["messages"][0], "a longer history changes no id");
}

#[test]
fn media_of_results_is_refused_where_no_user_may_speak_behind_them() {
    let image = Part::Media {
        kind: "image".to_owned(),
        url: Some("data:image/png;base64,aGk=".to_owned()),
        name: None,
        source: serde_json::Value::Null,
    };
    let parts = vec![Part::ToolResult {
        call_id: "call_1".to_owned(),
        parts: vec![Part::text("seen"), image],
        is_error: false,
    }];
    let history = Conversation {
        messages: vec![Message { role: Role::Tool, parts }],
        ..Conversation::default()
    };
    let (request, _) = rendered(&history, &Quirks::default());
    assert_eq!(request["messages"][1]["role"], "user");
    let strict = quirks(|quirks| quirks.no_user_after_tool = true);
    let edits = Edits { quirks: Some(&strict), ..Edits::default() };
    let failure = render(&history, &edits).unwrap_err();
    assert_eq!(failure.code, types::ErrorCode::Unsupported);
    assert_eq!(failure.param.as_deref(), Some("messages[0].tool_result.image"));
}

#[test]
fn who_goes_on_when_told_is_told_to_go_on_with_text_only() {
    let told = quirks(|quirks| quirks.continue_fields = true);
    let history = |parts: Vec<Part>| Conversation {
        messages: vec![Message::text(Role::User, "q"), Message { role: Role::Assistant, parts }],
        ..Conversation::default()
    };
    let begun = history(vec![Part::text("so")]);
    let (request, _) = rendered(&begun, &told);
    assert_eq!(request["continue_final_message"], true);
    assert_eq!(request["add_generation_prompt"], false);
    let call = ToolCall { id: "c".to_owned(), name: "f".to_owned(), arguments: String::new() };
    let asked = Conversation { messages: vec![Message::text(Role::User, "q")], ..begun.clone() };
    for (history, quirks) in [
        (&begun, &Quirks::default()),
        (&asked, &told),
        (&history(vec![Part::text("so"), Part::ToolCall(call)]), &told),
    ] {
        let (request, _) = rendered(history, quirks);
        assert_eq!(request.get("continue_final_message"), None);
        assert_eq!(request.get("add_generation_prompt"), None);
    }
}

#[test]
fn a_rest_goes_its_own_way_where_there_is_one() {
    let own = quirks(|quirks| quirks.prefix_path = Some("/beta/chat/completions".to_owned()));
    let begun = Conversation {
        messages: vec![Message::text(Role::User, "q"), Message::text(Role::Assistant, "so")],
        ..Conversation::default()
    };
    let asked = Conversation { messages: vec![Message::text(Role::User, "q")], ..begun.clone() };
    let path = |edits: &Edits<'_>| OPENAI_CHAT.path(edits).unwrap().into_owned();
    let usual = Edits { quirks: Some(&own), ..Edits::default() };
    let rest = Edits { continues: true, ..usual };
    let last = |asked: &Conversation, edits: &Edits<'_>| {
        let body: serde_json::Value =
            serde_json::from_slice(&render(asked, edits).unwrap().body).unwrap();
        body["messages"].as_array().unwrap().last().unwrap().clone()
    };
    assert_eq!(path(&rest), "/beta/chat/completions");
    assert_eq!(last(&begun, &rest)["prefix"], true);
    assert_eq!(last(&asked, &rest).get("prefix"), None);
    assert_eq!(path(&usual), "/chat/completions", "a client's own prefill");
    assert_eq!(last(&begun, &usual).get("prefix"), None);
    let nobody = Edits { continues: true, ..Edits::default() };
    assert_eq!(path(&nobody), "/chat/completions");
}

#[test]
fn marks_stand_where_the_server_takes_them_and_are_named_where_it_does_not() {
    let mark = r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#;
    let body = format!(
        r#"{{"model":"m","messages":[
        {{"role":"system","content":[{{"type":"text","text":"s",{mark}}}]}},
        {{"role":"user","content":"u"}},
        {{"role":"assistant","content":"a",{mark},"tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}]}},
        {{"role":"tool","tool_call_id":"c","content":[{{"type":"text","text":"r",{mark}}}]}},
        {{"role":"user","content":"end"}}],
        "tools":[{{"type":"function","function":{{"name":"f",{mark}}}}}],
        "cache_control":{{"type":"ephemeral","scope":"global"}}}}"#
    );
    let conversation = parse(body.as_bytes()).unwrap();
    let told = |cache_control| {
        let quirks = Quirks { cache_control, ..Quirks::default() };
        let edits = Edits { model: "m", quirks: Some(&quirks), ..Edits::default() };
        let rendered = render(&conversation, &edits).unwrap();
        let tree: serde_json::Value = serde_json::from_slice(&rendered.body).unwrap();
        (tree["messages"].clone(), rendered.dropped)
    };
    let hour = serde_json::json!({ "type": "ephemeral", "ttl": "1h" });
    let minutes = serde_json::json!({ "type": "ephemeral" });
    let (beside, lost) = told(Some(CacheControlPlace::Messages));
    assert_eq!(lost, ["tools.cache_control", "cache_control.scope"]);
    assert_eq!(beside[0]["content"][0]["cache_control"], hour);
    assert_eq!(beside[1]["content"], "u");
    assert_eq!((&beside[2]["content"], &beside[2]["cache_control"]), (&"a".into(), &hour));
    assert_eq!((&beside[3]["content"], &beside[3]["cache_control"]), (&"r".into(), &hour));
    assert_eq!(beside[4]["content"][0]["cache_control"], minutes);
    let (within, _) = told(Some(CacheControlPlace::Parts));
    for (at, text) in [(2, "a"), (3, "r")] {
        assert_eq!(within[at].get("cache_control"), None);
        let part = serde_json::json!([{ "type": "text", "text": text, "cache_control": hour }]);
        assert_eq!(within[at]["content"], part);
    }
    let (none, lost) = told(None);
    assert!(!none.to_string().contains("cache_control"), "{none}");
    assert_eq!(
        lost,
        [
            "tools.cache_control",
            "system.cache_control",
            "messages.content.cache_control",
            "cache_control",
            "cache_control.scope",
        ]
    );
}
