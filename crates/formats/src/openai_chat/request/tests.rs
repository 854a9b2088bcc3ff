use bytes::Bytes;
use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::json;
use types::ErrorCode;
use types::conversation::{
    Conversation, Effort, Message, OutputShape, Part, ReasoningAsk, Role, Sampling, ToolCall,
    ToolChoice, ToolDefinition,
};
use types::format::Edits;

use super::*;

fn head(body: &str) -> ModelHead {
    read_head(body.as_bytes()).unwrap()
}

fn refused(body: &str) -> String {
    let failure = read_head(body.as_bytes()).unwrap_err();
    format!("{} {:?}: {}", failure.code, failure.param, failure.message)
}

#[test]
fn the_head_has_what_stages_need() {
    let body = r#" {"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"data:,"}}]}],
        "model" : "a/b", "max_tokens":7, "n":2, "stream":true, "stream_options":{"include_usage":true}}"#;
    let head = head(body);
    assert_eq!((head.model.as_str(), head.stream, head.output_cap), ("a/b", true, Some(7)));
    assert_eq!((head.choices, head.include_usage, head.media), (2, true, 1));
    assert_eq!(head.body_bytes, u64::try_from(body.len()).unwrap());
    assert_eq!(&body[head.spans.model.unwrap()], r#""a/b""#);
    assert_eq!(&body[head.spans.output_cap.unwrap()], "7");
    assert_eq!(&body[head.spans.stream_options.unwrap()], r#"{"include_usage":true}"#);
    assert_eq!(head.spans.insert_at, 2);
}

#[test]
fn what_is_billed_by_other_rates_is_named() {
    let surcharge =
        |field: &str| head(&format!(r#"{{"model":"m","messages":[],{field}}}"#)).surcharge;
    assert_eq!(surcharge(r#""service_tier":"scale""#), Some("service_tier"));
    let asked = head(r#"{"model":"m","messages":[],"service_tier":"priority"}"#);
    let tier = Some((::types::ServiceTier::Priority, "service_tier"));
    assert_eq!((asked.surcharge, asked.extras.tier), (None, tier));
    assert_eq!(surcharge(r#""web_search_options":{}"#), Some("web_search_options"));
    assert_eq!(surcharge(r#""modalities":["text","audio"]"#), Some("modalities"));
    assert_eq!(surcharge(r#""audio":{"voice":"ash"}"#), Some("audio"));
    assert_eq!(surcharge(r#""prediction":{"type":"content"}"#), Some("prediction"));
    for usual in [r#""service_tier":"auto""#, r#""modalities":["text"]"#, r#""audio":null"#] {
        assert_eq!(surcharge(usual), None, "{usual}");
    }
}

#[test]
fn a_name_that_some_providers_take_for_another_is_refused() {
    let body =
        |field: &str| format!(r#"{{"model":"g/cheap","max_tokens":1,"messages":[],{field}}}"#);
    for (field, known) in [
        (r#""Max_Tokens":100000"#, "max_tokens"),
        (r#""max_to\u212aens":100000"#, "max_tokens"),
        (r#""max_completion_token\u017f":100000"#, "max_completion_tokens"),
        (r#""Model":"expensive""#, "model"),
        (r#""N":128"#, "n"),
        (r#""Messages":[{"role":"user","content":[{"type":"video_url"}]}]"#, "messages"),
        (r#""Stream":true"#, "stream"),
        (r#""Service_Tier":"priority""#, "service_tier"),
        (r#""stream_options":{"include_usage":true,"Include_Usage":false}"#, "include_usage"),
    ] {
        let said = refused(&body(field));
        assert!(said.contains(&format!("take it for '{known}'")), "{field}: {said}");
    }
    // Others are nobody's business.
    assert_eq!(head(&body(r#""Temperature":1"#)).output_cap, Some(1));
}

#[test]
fn tools_are_seen_and_those_of_a_provider_named() {
    let head = |field: &str| head(&format!(r#"{{"model":"m","messages":[],{field}}}"#));
    let seen = |field: &str| (head(field).tools, head(field).surcharge);
    assert_eq!(seen(r#""tools":[]"#), (false, None));
    assert_eq!(seen(r#""tools":[{"type":"function","function":{"name":"f"}}]"#), (true, None));
    assert_eq!(seen(r#""functions":[]"#), (true, None));
    assert_eq!(seen(r#""tools":[{"type":"web_search"}]"#), (true, Some("tools")));
    assert_eq!(seen(r#""models":["m","dear"]"#), (false, Some("models")));
}

#[test]
fn a_part_whose_tokens_nobody_can_count_is_named() {
    let surcharge = |part: &str| {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"x"}},{part}]}}]}}"#
        );
        let head = head(&body);
        (head.media, head.surcharge)
    };
    let by_id = r#"{"type":"file","file":{"file_id":"file-1"}}"#;
    assert_eq!(surcharge(by_id), (1, Some("file")));
    assert_eq!(surcharge(r#"{"type":"\u0066ile","file":{}}"#), (1, Some("file")));
    assert_eq!(surcharge(r#"{"type":"input_audio"}"#), (1, Some("input_audio")));
    assert_eq!(surcharge(r#"{"type":"hologram"}"#), (1, Some("content")));
    assert_eq!(surcharge(r#"{"type":"image_url"}"#), (1, None));
    assert_eq!(surcharge(&format!(r#"{{"type":"image_url"}},{by_id}"#)), (2, Some("file")));
    assert_eq!(surcharge(r#"{"type":"refusal","refusal":"no"}"#), (0, None));
    let said = r#"{"model":"m","messages":[{"role":"assistant","audio":{"id":"a"}}]}"#;
    assert_eq!(head(said).surcharge, Some("audio"));
}

#[test]
fn a_hidden_image_is_counted() {
    let body =
        r#"{"model":"m","messages":[{"role":"user","content":[{"\u0074ype":"image_\u0075rl"}]}]}"#;
    assert_eq!(head(body).media, 1);
    let unknown =
        r#"{"model":"m","messages":[{"content":[{"type":"hologram"}]},{"audio":{"id":"a"}}]}"#;
    assert_eq!(head(unknown).media, 2);
    let said = r#"{"model":"m","messages":[{"role":"assistant","\u0061udio":{"id":"a"}}]}"#;
    assert_eq!(head(said).media, 1);
}

#[test]
fn wrong_fields_are_named() {
    let cases = [
        "",
        "[]",
        "{",
        r#"{"model":"m","messages":[]} x"#,
        r#"{"messages":[]}"#,
        r#"{"model":1,"messages":[]}"#,
        r#"{"model":"","messages":[]}"#,
        r#"{"model":"m"}"#,
        r#"{"model":"m","messages":"x"}"#,
        r#"{"model":"m","messages":[],"model":"other"}"#,
        r#"{"model":"m","messages":[],"mod\u0065l":"other"}"#,
        r#"{"model":"m","messages":[],"stream":"yes"}"#,
        r#"{"model":"m","messages":[],"stream_options":[]}"#,
        r#"{"model":"m","messages":[],"stream_options":{"include_usage":1}}"#,
        r#"{"model":"m","messages":[],"max_tokens":-1}"#,
        r#"{"model":"m","messages":[],"max_tokens":1.5}"#,
        r#"{"model":"m","messages":[],"max_tokens":0}"#,
        r#"{"model":"m","messages":[],"max_tokens":1,"max_completion_tokens":2}"#,
        r#"{"model":"m","messages":[],"n":0}"#,
        r#"{"model":"m","messages":[],"n":1000}"#,
    ];
    let shown: Vec<String> = cases.iter().map(|body| refused(body)).collect();
    assert_snapshot!(shown.join("\n"), @r#"
    invalid_request None: the body is not a valid JSON object: it ends too early (line 1, column 0)
    invalid_request None: the body is not a valid JSON object: it can't be parsed (line 1, column 0)
    invalid_request None: the body is not a valid JSON object: it ends too early (line 1, column 1)
    invalid_request None: the body is not a valid JSON object: it can't be parsed (line 1, column 29)
    invalid_request Some("model"): missing required parameter: 'model'
    invalid_request Some("model"): invalid value for 'model': expected a string
    invalid_request Some("model"): 'model' is empty: name a model
    invalid_request Some("messages"): missing required parameter: 'messages'
    invalid_request Some("messages"): invalid type for 'messages': expected an array of objects
    invalid_request Some("model"): 'model' is given twice
    invalid_request Some("model"): 'model' is given twice
    invalid_request Some("stream"): invalid value for 'stream': expected a boolean
    invalid_request Some("stream_options"): invalid type for 'stream_options': expected an object
    invalid_request Some("stream_options.include_usage"): invalid value for 'stream_options.include_usage': expected a boolean
    invalid_request Some("max_tokens"): invalid value for 'max_tokens': expected a positive integer
    invalid_request Some("max_tokens"): invalid value for 'max_tokens': expected a positive integer
    invalid_request Some("max_tokens"): 'max_tokens' must be at least 1
    invalid_request Some("max_tokens"): give 'max_completion_tokens' or 'max_tokens', not both
    invalid_request Some("n"): 'n' must be between 1 and 128
    invalid_request Some("n"): 'n' must be between 1 and 128
    "#);
}

#[test]
fn depth_and_number_of_fields_do_no_harm() {
    let deep = "[".repeat(200_000);
    assert!(refused(&format!(r#"{{"model":"m","messages":{deep}"#)).contains("ends too early"));
    let closed = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(r#"{{"model":"m","messages":[],"x":{closed}}}"#);
    assert_eq!(head(&body).model, "m");
    assert!(parse(body.as_bytes()).is_err(), "the tree has a depth limit");
    let many: String = (0..1_000).map(|index| format!(r#""f{index}":1,"#)).collect();
    let many = format!(r#"{{{many}"model":"m","messages":[]}}"#);
    assert!(refused(&many).contains("more than 256 fields"));
}

fn patched(body: &str, edits: &Edits<'_>) -> String {
    let raw = Bytes::from(body.to_owned());
    String::from_utf8(patch(&raw, &head(body), edits).to_vec()).unwrap()
}

#[test]
fn an_edit_changes_nothing_else() {
    let edits = Edits { model: "up", ..Edits::default() };
    let body = "{ \"x\" : 1e2 ,\t\"model\":\"a/b\",\"messages\":[ ],\"y\":\"\\u00e9\"}\n";
    assert_eq!(patched(body, &edits), body.replace("a/b", "up"));
    let quoted = Edits { model: "a\"b", ..Edits::default() };
    assert!(patched(body, &quoted).contains(r#""model":"a\"b""#));
}

#[test]
fn log_probabilities_are_asked_for_unless_the_client_or_the_server_says_otherwise() {
    let edits = Edits { model: "m", logprobs: true, ..Edits::default() };
    let body = r#"{"model":"m","messages":[]}"#;
    assert_eq!(patched(body, &edits), r#"{"logprobs":true,"model":"m","messages":[]}"#);
    let own = r#"{"model":"m","messages":[],"logprobs":false}"#;
    assert_eq!(patched(own, &edits), own);
    let drops = |names: &[&str]| types::format::Quirks {
        drops: names.iter().map(ToString::to_string).collect(),
        ..types::format::Quirks::default()
    };
    let (without, with) = (drops(&["logprobs"]), drops(&["seed"]));
    assert_eq!(patched(body, &Edits { quirks: Some(&without), ..edits }), body);
    let rendered = |edits: &Edits<'_>| {
        let body = render(&Conversation::default(), edits).unwrap().body;
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["logprobs"].clone()
    };
    assert_eq!(rendered(&Edits { quirks: Some(&with), ..edits }), true);
    assert_eq!(rendered(&Edits { quirks: Some(&without), ..edits }), serde_json::Value::Null);
    assert_eq!(rendered(&Edits { logprobs: false, ..edits }), serde_json::Value::Null);
}

#[test]
fn a_request_that_needs_no_edit_is_shared() {
    let raw = Bytes::from_static(br#"{"model":"m","messages":[]}"#);
    let head = read_head(&raw).unwrap();
    let edits = Edits { model: "m", ..Edits::default() };
    assert_eq!(patch(&raw, &head, &edits).as_ptr(), raw.as_ptr());
}

#[test]
fn usage_is_asked_for_in_every_form_of_stream_options() {
    let edits = Edits { model: "m", stream: true, request_usage: true, ..Edits::default() };
    let cases = [
        "",
        r#","stream_options":null"#,
        r#","stream_options":{}"#,
        r#","stream_options":{ }"#,
        r#","stream_options":{"include_usage":false}"#,
        r#","stream_options":{"include_usage":null}"#,
        r#","stream_options":{"include_obfuscation":false}"#,
        r#","stream_options":{"include_usage": true}"#,
    ];
    let shown: Vec<String> = cases
        .iter()
        .map(|options| {
            let body = format!(r#"{{"model":"m","messages":[],"stream":true{options}}}"#);
            let patched = patched(&body, &edits);
            let tree: serde_json::Value = serde_json::from_str(&patched).unwrap();
            assert_eq!(tree["stream_options"]["include_usage"], true, "{patched}");
            read_head(patched.as_bytes()).unwrap();
            patched
        })
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    {"stream_options":{"include_usage":true},"model":"m","messages":[],"stream":true}
    {"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}
    {"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}
    {"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true }}
    {"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}
    {"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}
    {"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}
    {"model":"m","messages":[],"stream":true,"stream_options":{"include_usage": true}}
    "#);
}

#[test]
fn a_cap_goes_where_the_client_put_its_own() {
    let edits = Edits { model: "m", output_cap: Some(9), ..Edits::default() };
    let cases = [
        "",
        r#","max_tokens":50"#,
        r#","max_completion_tokens":50"#,
        r#","max_completion_tokens":null"#,
        r#","max_tokens":null"#,
        r#","max_completion_tokens":null,"max_tokens":50"#,
        r#","max_completion_tokens":9"#,
    ];
    let shown: Vec<String> = cases
        .iter()
        .map(|cap| patched(&format!(r#"{{"model":"m","messages":[]{cap}}}"#), &edits))
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    {"max_completion_tokens":9,"model":"m","messages":[]}
    {"model":"m","messages":[],"max_tokens":9}
    {"model":"m","messages":[],"max_completion_tokens":9}
    {"model":"m","messages":[],"max_completion_tokens":9}
    {"model":"m","messages":[],"max_tokens":9}
    {"model":"m","messages":[],"max_completion_tokens":null,"max_tokens":9}
    {"model":"m","messages":[],"max_completion_tokens":9}
    "#);
}

const GOLDEN: &str = r#"{
  "model": "m",
  "messages": [
    {"role": "system", "content": "be brief"},
    {"role": "developer", "content": "use tools"},
    {"role": "user", "name": "ann", "content": [
      {"type": "text", "text": "look", "cache_control": {"type": "ephemeral"}},
      {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
    ]},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": "{\"n\":9007199254740993}"}}
    ]},
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    {"role": "assistant", "content": "done", "refusal": null}
  ],
  "tools": [{"type": "function", "function": {"name": "find", "description": "d", "parameters": {"type": "object"}, "strict": true}}],
  "tool_choice": {"type": "function", "function": {"name": "find"}},
  "parallel_tool_calls": false,
  "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": "END",
  "frequency_penalty": 0.1, "presence_penalty": -0.1,
  "max_tokens": 100, "n": 2, "logit_bias": {"1": 2},
  "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": true}},
  "stream": true, "stream_options": {"include_usage": true}, "vendor_thing": {"a": 1}
}"#;

#[test]
fn a_request_becomes_neutral_and_a_request_again() {
    let conversation = parse(GOLDEN.as_bytes()).unwrap();
    insta::assert_json_snapshot!("golden_neutral", conversation);
    let edits = Edits { model: "up", stream: true, request_usage: true, ..Edits::default() };
    let rendered = render(&conversation, &edits).unwrap();
    let tree: serde_json::Value = serde_json::from_slice(&rendered.body).unwrap();
    insta::assert_json_snapshot!("golden_request", tree);
    assert_eq!(
        rendered.dropped,
        ["messages.content.cache_control", "messages.name", "vendor_thing"]
    );
}

fn parse_refused(fields: &str) -> String {
    let body = format!(r#"{{"model":"m",{fields}}}"#);
    let failure = parse(body.as_bytes()).unwrap_err();
    format!("{} {:?}: {}", failure.code, failure.param.as_deref(), failure.message)
}

#[test]
fn what_cannot_be_said_is_named() {
    let cases = [
        r#""messages":{}"#,
        r#""messages":[1]"#,
        r#""messages":[{"content":"x"}]"#,
        r#""messages":[{"role":"function","content":"x"}]"#,
        r#""messages":[{"role":"user"}]"#,
        r#""messages":[{"role":"user","content":[{"type":"video_url"}]}]"#,
        r#""messages":[{"role":"tool","content":"x"}]"#,
        r#""messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"custom"}]}]"#,
        r#""messages":[],"tools":[{"type":"custom"}]"#,
        r#""messages":[],"tools":[{"type":"function"}]"#,
        r#""messages":[],"tool_choice":"maybe""#,
        r#""messages":[],"tool_choice":{"type":"allowed_tools"}"#,
        r#""messages":[],"functions":[]"#,
        r#""messages":[],"response_format":{"type":"xml"}"#,
        r#""messages":[],"stop":[1]"#,
        r#""messages":[],"temperature":"hot""#,
    ];
    let shown: Vec<String> = cases.iter().map(|fields| parse_refused(fields)).collect();
    assert_snapshot!(shown.join("\n"), @r#"
    invalid_request Some("messages"): invalid type for 'messages': expected an array, got an object
    invalid_request Some("messages[0]"): invalid type for 'messages[0]': expected an object, got a number
    invalid_request Some("messages[0].role"): missing required parameter: 'messages[0].role'
    unsupported Some("messages[0].role"): role 'function' is not offered: use system, developer, user, assistant or tool
    invalid_request Some("messages[0].content"): missing required parameter: 'messages[0].content'
    unsupported Some("messages[0].content[0].type"): content of type 'video_url' is not offered here
    invalid_request Some("messages[0].tool_call_id"): missing required parameter: 'messages[0].tool_call_id'
    unsupported Some("messages[0].tool_calls[0].type"): tool calls of type 'custom' are not offered here
    unsupported Some("tools[0].type"): tools of type 'custom' are not offered here: use function
    invalid_request Some("tools[0].function"): missing required parameter: 'tools[0].function'
    invalid_request Some("tool_choice"): tool choice 'maybe' is not known: use auto, none or required
    unsupported Some("tool_choice.type"): tool choice of type 'allowed_tools' is not offered: use function
    unsupported Some("functions"): 'functions' is deprecated and not offered: use 'tools' and 'tool_choice'
    unsupported Some("response_format.type"): format 'xml' is not known: use text, json_object or json_schema
    invalid_request Some("stop[0]"): invalid type for 'stop[0]': expected a string, got a number
    invalid_request Some("temperature"): invalid type for 'temperature': expected a number, got a string
    "#);
}

#[test]
fn media_of_any_kind_go_back_as_they_came() {
    let parts = json!([
        { "type": "image_url", "image_url": { "url": "https://x/y.png" } },
        { "type": "image_url", "image_url": { "url": "https://x/y.png", "detail": "low" } },
        { "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } },
        { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE" } },
        { "type": "file", "file": { "file_id": "file_1" } },
    ]);
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": parts }] });
    let conversation = parse(body.to_string().as_bytes()).unwrap();
    let urls: Vec<_> = conversation
        .parts()
        .map(|part| match part {
            Part::Media { url, source, .. } => (url.as_deref(), source.is_null()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        (Some("https://x/y.png"), true),
        (Some("https://x/y.png"), false),
        (Some("data:audio/wav;base64,AAAA"), true),
        (Some("data:application/pdf;base64,JVBE"), true),
        (None, false),
    ];
    assert_eq!(urls, expected);
    let edits = Edits { model: "m", ..Edits::default() };
    let rendered = render(&conversation, &edits).unwrap();
    let tree: serde_json::Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!(tree["messages"][0]["content"], parts);
    assert!(rendered.dropped.is_empty());
}

#[test]
fn thinking_is_asked_for_by_its_effort() {
    let rendered = |reasoning: ReasoningAsk| {
        let conversation = Conversation { reasoning, ..Conversation::default() };
        let edits = Edits { model: "m", ..Edits::default() };
        let rendered = render(&conversation, &edits).unwrap();
        let tree: serde_json::Value = serde_json::from_slice(&rendered.body).unwrap();
        (tree["reasoning_effort"].as_str().map(str::to_owned), rendered.dropped)
    };
    let budget = |tokens| {
        let ask = ReasoningAsk { budget_tokens: Some(tokens), ..ReasoningAsk::default() };
        rendered(ask).0.unwrap()
    };
    assert_eq!([budget(4_095), budget(4_096), budget(16_384)], ["low", "medium", "high"]);
    for effort in Effort::ALL {
        let ask = ReasoningAsk {
            effort: Some(effort),
            budget_tokens: Some(1),
            shown: Some(true),
            ..ReasoningAsk::default()
        };
        let expected = (Some(effort.name().to_owned()), vec!["reasoning.summary".to_owned()]);
        assert_eq!(rendered(ask.clone()), expected);
        let body =
            format!(r#"{{"model":"m","messages":[],"reasoning_effort":"{}"}}"#, effort.name());
        assert_eq!(parse(body.as_bytes()).unwrap().reasoning.effort, Some(effort));
    }
    let adaptive = ReasoningAsk { adaptive: true, ..ReasoningAsk::default() };
    assert_eq!(rendered(adaptive), (None, Vec::new()));
    let own = parse(br#"{"model":"m","messages":[],"reasoning_effort":"default"}"#).unwrap();
    assert_eq!((own.reasoning.effort, own.rest.len()), (None, 1));
}

#[test]
fn a_failed_result_is_told_and_media_of_results_stand_behind_them() {
    let edits = Edits { model: "m", ..Edits::default() };
    let result = |call_id: &str, parts: Vec<Part>, is_error| Message {
        role: Role::Tool,
        parts: vec![Part::ToolResult { call_id: call_id.to_owned(), parts, is_error }],
    };
    let of = |messages: Vec<Message>| {
        render(&Conversation { messages, ..Conversation::default() }, &edits)
    };
    let failed = of(vec![result("a", vec![Part::text("broken")], true)]).unwrap();
    assert_eq!(failed.dropped, ["tool_result.is_error"]);

    let image = |url: Option<&str>| Part::Media {
        kind: "image".to_owned(),
        url: url.map(str::to_owned),
        name: None,
        source: serde_json::Value::Null,
    };
    let seen = image(Some("data:image/png;base64,AA=="));
    let told = of(vec![
        result("a", vec![seen.clone()], false),
        result("b", vec![Part::text("two"), seen.clone(), seen], false),
        Message::text(Role::User, "and now?"),
    ])
    .unwrap();
    assert_eq!(told.dropped, ["tool_result.image"]);
    let body: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
    let shown = |message: &serde_json::Value| match &message["content"] {
        serde_json::Value::Array(parts) => {
            let of = |part: &serde_json::Value| part["text"].as_str().unwrap_or("*").to_owned();
            parts.iter().map(of).collect::<Vec<_>>().join(" ")
        }
        text => text.as_str().unwrap().to_owned(),
    };
    let messages = body["messages"].as_array().unwrap().iter();
    let messages = messages.map(|message| format!("{}: {}", message["role"], shown(message)));
    insta::assert_snapshot!(messages.collect::<Vec<_>>().join("\n"), @r#"
    "tool": Given in the next message.
    "tool": two
    "user": From the result of a: * From the result of b: * *
    "user": and now?
    "#);

    // What can't be said anywhere is refused.
    assert_eq!(
        of(vec![result("a", vec![image(None)], false)]).unwrap_err().code,
        ErrorCode::Unsupported
    );
}

#[test]
fn rendering_a_longer_history_only_adds() {
    let mut conversation = parse(GOLDEN.as_bytes()).unwrap();
    let edits = Edits { model: "m", ..Edits::default() };
    let messages = |conversation: &Conversation| {
        let body = render(conversation, &edits).unwrap().body;
        let tree: serde_json::Value = serde_json::from_slice(&body).unwrap();
        tree["messages"].to_string()
    };
    let before = messages(&conversation);
    conversation.messages.push(Message::text(Role::User, "and now?"));
    let after = messages(&conversation);
    assert!(after.starts_with(before.trim_end_matches(']')));
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\\n ]{0,12}"
}

fn message() -> impl Strategy<Value = Message> {
    let plain = (
        prop::sample::select(vec![Role::System, Role::Developer, Role::User]),
        prop::collection::vec(text().prop_map(|text| Part::Text { text }), 0..3),
    );
    let plain = plain.prop_map(|(role, parts)| Message { role, parts });
    let image = text().prop_map(|url| Message {
        role: Role::User,
        parts: vec![Part::Media {
            kind: "image".to_owned(),
            url: Some(url),
            name: None,
            source: serde_json::Value::Null,
        }],
    });
    let call = (text(), text(), text())
        .prop_map(|(id, name, arguments)| Part::ToolCall(ToolCall { id, name, arguments }));
    let said = (
        prop::option::of(text().prop_map(|text| Part::Text { text })),
        prop::option::of(text().prop_map(|text| Part::Refusal { text })),
        prop::collection::vec(call, 0..3),
    );
    let said = said.prop_map(|(text, refusal, calls)| Message {
        role: Role::Assistant,
        parts: text.into_iter().chain(refusal).chain(calls).collect(),
    });
    let result = (text(), text()).prop_map(|(call_id, text)| Message {
        role: Role::Tool,
        parts: vec![Part::tool_result(call_id, text, false)],
    });
    prop_oneof![plain, image, said, result]
}

fn tool() -> impl Strategy<Value = ToolDefinition> {
    let parameters = prop::option::of(Just(json!({ "type": "object", "x": [1, null] })));
    (text(), prop::option::of(text()), parameters, prop::option::of(any::<bool>())).prop_map(
        |(name, description, parameters, strict)| ToolDefinition {
            name,
            description,
            parameters,
            strict,
        },
    )
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let number = || prop::option::of((-8i32..8).prop_map(|n| f64::from(n) / 4.0));
    let stop = prop::collection::vec(text(), 0..3);
    let whole = (prop::option::of(any::<u32>()), prop::option::of(any::<i64>()));
    (number(), number(), whole, number(), number(), stop).prop_map(
        |(temperature, top_p, (top_k, seed), frequency_penalty, presence_penalty, stop)| Sampling {
            temperature,
            top_p,
            top_k,
            seed,
            frequency_penalty,
            presence_penalty,
            stop,
        },
    )
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        text().prop_map(|name| ToolChoice::Named { name }),
    ];
    let schema = (text(), prop::option::of(any::<bool>())).prop_map(|(name, strict)| {
        OutputShape::JsonSchema { name, schema: json!({ "type": "object" }), strict }
    });
    let shape = prop_oneof![Just(OutputShape::Text), Just(OutputShape::JsonObject), schema];
    let rest = prop::collection::vec(prop::sample::select(vec!["n", "user", "logit_bias"]), 0..3);
    let lists =
        (prop::collection::vec(message(), 0..5), prop::collection::vec(tool(), 0..3), choice);
    let options = (prop::option::of(any::<bool>()), sampling(), prop::option::of(any::<u64>()));
    (lists, options, shape, rest).prop_map(
        |((messages, tools, tool_choice), (parallel, sampling, output_cap), output_shape, rest)| {
            Conversation {
                messages,
                tools,
                tool_choice,
                parallel_tool_calls: parallel,
                sampling,
                output_cap,
                output_shape,
                reasoning: ReasoningAsk::default(),
                marks: Vec::new(),
                rest: rest.into_iter().map(|name| (name.to_owned(), json!(1))).collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_rendered_is_parsed_back(conversation in conversation(), stream in any::<bool>()) {
        let edits = Edits { model: "m", stream, request_usage: stream, ..Edits::default() };
        let rendered = render(&conversation, &edits).unwrap();
        prop_assert!(rendered.dropped.is_empty());
        read_head(&rendered.body).map_err(|failure| TestCaseError::fail(failure.to_string()))?;
        prop_assert_eq!(parse(&rendered.body).unwrap(), conversation);
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _read = read_head(&body);
        let _parsed = parse(&body);
    }

    #[test]
    fn a_patched_request_differs_in_the_edited_fields_only(
        cap in prop::option::of(1u64..1_000_000),
        order in prop::collection::vec(0usize..4, 0..6),
        stream in any::<bool>(),
    ) {
        let mut fields = vec![
            r#""model": "a/b""#.to_owned(),
            r#""messages" : [{"role":"user","content":"\"model\":"}]"#.to_owned(),
            format!(r#""stream":{stream}"#),
            r#""max_tokens":null"#.to_owned(),
        ];
        for at in order {
            let field = fields.remove(at);
            fields.push(field);
        }
        let body = format!("{{{}}}", fields.join(" , "));
        let edits = Edits { model: "up", output_cap: cap, stream, request_usage: stream, ..Edits::default() };
        let mut expected: serde_json::Value = serde_json::from_str(&body).unwrap();
        expected["model"] = json!("up");
        if let Some(cap) = cap {
            expected["max_tokens"] = json!(cap);
        }
        if stream {
            expected["stream_options"] = json!({ "include_usage": true });
        }
        let found: serde_json::Value = serde_json::from_str(&patched(&body, &edits)).unwrap();
        prop_assert_eq!(found, expected);
    }
}
