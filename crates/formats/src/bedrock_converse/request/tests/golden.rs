//! Golden requests, and what crosses from and to other formats.

use ::types::conversation::{
    Effort, Message, OutputShape, Part, ReasoningAsk, Role, Sampling, ToolCall, ToolChoice,
    ToolDefinition,
};
use ::types::format::Format;
use ::types::{CacheWrites, ErrorCode};

use super::*;
use crate::{ANTHROPIC_MESSAGES, BEDROCK_CONVERSE, OPENAI_CHAT};

fn image(url: &str) -> Part {
    Part::Media {
        kind: "image".to_owned(),
        url: Some(url.to_owned()),
        name: None,
        source: Value::Null,
    }
}

fn file(name: Option<&str>) -> Part {
    Part::Media {
        kind: "file".to_owned(),
        url: Some("data:application/pdf;base64,JVBE".to_owned()),
        name: name.map(str::to_owned),
        source: Value::Null,
    }
}

fn asked(parts: Vec<Part>) -> Conversation {
    Conversation { messages: vec![Message { role: Role::User, parts }], ..Conversation::default() }
}

fn with_tools(tool_choice: ToolChoice) -> Conversation {
    let find = ToolDefinition {
        name: "find".to_owned(),
        description: Some(String::new()),
        parameters: None,
        strict: None,
    };
    Conversation { tools: vec![find], tool_choice, ..asked(vec![Part::text("hi")]) }
}

fn refusal(model: &str, conversation: &Conversation) -> (ErrorCode, String) {
    let failure = render(conversation, &Edits { model, ..Edits::default() }).unwrap_err();
    (failure.code, failure.param.unwrap_or_default().into())
}

/// A conversation with everything that can be asked at once.
fn everything() -> Conversation {
    let signed_by = |origin: &str| Part::Reasoning {
        text: "hm".to_owned(),
        signature: Some("sig".to_owned()),
        redacted: false,
        origin: Some(origin.to_owned()),
    };
    let call = |id: &str| {
        let (id, name) = (id.to_owned(), "find".to_owned());
        Part::ToolCall(ToolCall { id, name, arguments: r#"{"n":9007199254740993}"#.to_owned() })
    };
    let result = |id: &str, parts: Vec<Part>, is_error: bool| Message {
        role: Role::Tool,
        parts: vec![Part::ToolResult { call_id: id.to_owned(), parts, is_error }],
    };
    Conversation {
        messages: vec![
            Message::text(Role::System, "be brief"),
            Message::text(Role::Developer, "be kind"),
            Message {
                role: Role::User,
                parts: vec![
                    Part::text("look"),
                    image("data:image/jpg;base64,AAAA"),
                    file(Some("q3 report.pdf")),
                    file(None),
                ],
            },
            Message {
                role: Role::Assistant,
                parts: vec![
                    signed_by("anthropic_messages"),
                    signed_by("bedrock_converse"),
                    Part::text(" "),
                    call("a|b"),
                    call("c"),
                ],
            },
            result("a|b", vec![Part::text("found"), image("data:image/png;base64,BB")], false),
            result("c", vec![Part::text("boom")], true),
            Message::text(Role::User, "go on"),
            Message::text(Role::System, "now in French"),
        ],
        tools: with_tools(ToolChoice::Auto).tools,
        parallel_tool_calls: Some(false),
        sampling: Sampling {
            temperature: Some(0.5),
            top_k: Some(3),
            seed: Some(1),
            stop: vec!["END".to_owned()],
            ..Sampling::default()
        },
        output_cap: Some(9_000),
        output_shape: OutputShape::JsonSchema {
            name: "answer".to_owned(),
            schema: json!({ "type": "object" }),
            strict: Some(true),
        },
        reasoning: ReasoningAsk { budget_tokens: Some(2_000), ..ReasoningAsk::default() },
        ..Conversation::default()
    }
}

/// What it is rendered to, with this id for the call whose own does not fit.
fn everything_rendered(made: &str) -> Value {
    json!({
        "system": [{ "text": "be brief" }, { "text": "be kind" }],
        "messages": [
            { "role": "user", "content": [
                { "text": "look" },
                { "image": { "format": "jpeg", "source": { "bytes": "AAAA" } } },
                { "document": {
                    "format": "pdf", "name": "q3 report-pdf", "source": { "bytes": "JVBE" },
                } },
                { "document": {
                    "format": "pdf", "name": "document", "source": { "bytes": "JVBE" },
                } },
            ] },
            { "role": "assistant", "content": [
                { "reasoningContent": {
                    "reasoningText": { "text": "hm", "signature": "sig" },
                } },
                { "toolUse": {
                    "toolUseId": made, "name": "find", "input": { "n": 9_007_199_254_740_993_u64 },
                } },
                { "toolUse": {
                    "toolUseId": "c", "name": "find", "input": { "n": 9_007_199_254_740_993_u64 },
                } },
            ] },
            { "role": "user", "content": [
                { "toolResult": { "toolUseId": made, "content": [
                    { "text": "found" },
                    { "image": { "format": "png", "source": { "bytes": "BB" } } },
                ] } },
                { "toolResult": {
                    "toolUseId": "c", "content": [{ "text": "boom" }], "status": "error",
                } },
                { "text": "go on" },
            ] },
            { "role": "system", "content": [{ "text": "now in French" }] },
        ],
        "toolConfig": { "tools": [
            { "toolSpec": { "name": "find", "inputSchema": { "json": { "type": "object" } } } },
        ] },
        "inferenceConfig": {
            "maxTokens": 9_000, "temperature": 0.5, "stopSequences": ["END"],
        },
        "additionalModelRequestFields": {
            "thinking": { "type": "enabled", "budget_tokens": 2_000 }, "top_k": 3,
        },
        "additionalModelResponseFieldPaths": ["/stop_sequence", "/delta/stop_sequence"],
        "outputConfig": { "textFormat": { "type": "json_schema", "structure": {
            "jsonSchema": { "schema": "{\"type\":\"object\"}", "name": "answer" },
        } } },
    })
}

#[test]
fn a_whole_conversation_is_rendered() {
    let (body, dropped) = rendered(&everything());
    let made = body["messages"][1]["content"][1]["toolUse"]["toolUseId"].as_str().unwrap();
    assert_eq!(made.len(), "tooluse_".len() + 24, "{made}");
    assert_eq!(body, everything_rendered(made));
    assert_eq!(dropped, ["messages.content.filename", "thinking", "parallel_tool_calls", "seed"]);
}

#[test]
fn each_vendor_is_told_the_effort_in_its_own_words() {
    let ask = |effort| ReasoningAsk { effort: Some(effort), ..ReasoningAsk::default() };
    let sampling = Sampling { temperature: Some(0.1), top_k: Some(1), ..Sampling::default() };
    let of = |model: &str, effort| {
        let asked = Conversation {
            reasoning: ask(effort),
            sampling: sampling.clone(),
            ..asked(vec![Part::text("hi")])
        };
        let (body, dropped) = rendered_for(model, &asked);
        let effort = body["outputConfig"]["effort"].clone();
        (body["additionalModelRequestFields"].clone(), effort, dropped.join(","))
    };
    let none = Value::Null;
    assert_eq!(
        of(CLAUDE, Effort::High),
        (json!({ "thinking": { "type": "adaptive" }, "top_k": 1 }), json!("high"), String::new())
    );
    assert_eq!(
        of(CLAUDE, Effort::Off),
        (json!({ "thinking": { "type": "disabled" }, "top_k": 1 }), none.clone(), String::new())
    );
    assert_eq!(
        of("openai.gpt-oss-120b-1:0", Effort::Max),
        (json!({ "reasoning_effort": "high" }), none.clone(), "reasoning_effort,top_k".to_owned())
    );
    assert_eq!(
        of("us.openai.gpt-5.6", Effort::Off),
        (
            json!({ "reasoning": { "effort": "none" } }),
            none.clone(),
            "top_k,temperature".to_owned()
        )
    );
    assert_eq!(
        of("amazon.nova-pro-v1:0", Effort::Low),
        (none.clone(), none, "reasoning_effort,top_k".to_owned())
    );
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    let hi = || asked(vec![Part::text("hi")]);
    let plain = "amazon.nova-pro-v1:0";
    let unsupported = |param: &str| (ErrorCode::Unsupported, param.to_owned());
    let json_object = Conversation { output_shape: OutputShape::JsonObject, ..hi() };
    assert_eq!(refusal(plain, &json_object), unsupported("response_format"));
    let sampled = |sampling| Conversation { sampling, ..hi() };
    let hot = Sampling { temperature: Some(1.5), ..Sampling::default() };
    assert_eq!(refusal(plain, &sampled(hot)), unsupported("temperature"));
    let stop = Sampling { stop: vec!["x".to_owned()], ..Sampling::default() };
    assert_eq!(refusal("openai.gpt-5.6", &sampled(stop.clone())), unsupported("stop"));
    assert!(rendered_for("openai.gpt-oss-20b", &sampled(stop)).1.is_empty());
    let mut many = hi();
    many.rest.insert("n".to_owned(), json!(2));
    assert_eq!(refusal(plain, &many), unsupported("n"));
    let linked = asked(vec![image("https://x/y.png")]);
    assert_eq!(refusal(plain, &linked), unsupported("messages[0].content[0]"));
    let bitmap = asked(vec![image("data:image/bmp;base64,AA")]);
    assert_eq!(refusal(plain, &bitmap), unsupported("messages[0].content[0]"));
    let mut long = with_tools(ToolChoice::Auto);
    long.tools[0].name = "x".repeat(65);
    assert_eq!(refusal(plain, &long), unsupported("tools[0].name"));
    let none = Conversation { tool_choice: ToolChoice::Required, ..hi() };
    assert_eq!(refusal(plain, &none), (ErrorCode::InvalidRequest, "tool_choice".to_owned()));
}

#[test]
fn a_forbidden_call_is_said_by_leaving_the_tools_out_where_that_can_be() {
    let (body, dropped) = rendered(&with_tools(ToolChoice::None));
    assert_eq!((body.get("toolConfig"), dropped), (None, Vec::new()));
    let mut history = with_tools(ToolChoice::None);
    let call = ToolCall { id: "c".to_owned(), name: "find".to_owned(), arguments: String::new() };
    let called = Message { role: Role::Assistant, parts: vec![Part::ToolCall(call)] };
    history.messages.push(called);
    assert_eq!(refusal(CLAUDE, &history), (ErrorCode::Unsupported, "tool_choice".to_owned()));
    let (body, _) = rendered(&with_tools(ToolChoice::Required));
    assert_eq!(body["toolConfig"]["toolChoice"], json!({ "any": {} }));
    let named = ToolChoice::Named { name: "find".to_owned() };
    let (body, _) = rendered(&with_tools(named));
    assert_eq!(body["toolConfig"]["toolChoice"], json!({ "tool": { "name": "find" } }));
}

#[test]
fn documents_get_names_that_bedrock_takes() {
    let names = |given: &[Option<&str>]| {
        let (body, dropped) = rendered(&asked(given.iter().map(|name| file(*name)).collect()));
        let content = body["messages"][0]["content"].as_array().unwrap().clone();
        let name = |block: &Value| block["document"]["name"].as_str().unwrap().to_owned();
        (content.iter().map(name).collect::<Vec<String>>(), dropped)
    };
    let renamed = vec!["messages.content.filename".to_owned()];
    assert_eq!(names(&[Some("a (1) [b]-c")]), (vec!["a (1) [b]-c".to_owned()], Vec::new()));
    assert_eq!(names(&[Some("ü\n.pdf")]).0, ["---pdf"]);
    assert_eq!(
        names(&[None, None]),
        (vec!["document".to_owned(), "document 2".to_owned()], vec![])
    );
    let twice = names(&[Some("a"), Some("a"), Some("a")]);
    assert_eq!(twice, (vec!["a".to_owned(), "a 2".to_owned(), "a 3".to_owned()], renamed));
    assert_eq!(names(&[Some("x  y")]).0, ["x y"]);
    assert_eq!(names(&[Some(&"x".repeat(300))]).0, ["x".repeat(180)]);
}

#[test]
fn what_no_other_format_says_is_kept_by_name_or_refused() {
    let conversation = parsed(json!({
        "messages": [{ "role": "user", "content": [
            { "cachePoint": { "type": "default" } },
            { "text": "hello" },
            { "cachePoint": { "type": "default", "ttl": "3d" } },
            { "guardContent": { "text": { "text": "guard me", "qualifiers": ["query"] } } },
            { "searchResult": { "source": "s", "title": "t", "content": [{ "text": "found" }] } },
            { "document": { "name": "d", "source": { "text": "plain" } } },
        ] }],
        "toolConfig": { "tools": [{ "cachePoint": { "type": "default" } }] },
        "requestMetadata": { "a": "b" },
        "additionalModelRequestFields": { "top_k": 5, "other": 1 },
        "additionalModelResponseFieldPaths": ["/stop_sequence", "/x"],
        "sparkle": 1,
    }));
    let texts: Vec<&str> = conversation.parts().filter_map(Part::as_text).collect();
    assert_eq!(texts, ["hello", "guard me", "found", "plain"]);
    assert_eq!(conversation.sampling.top_k, Some(5));
    let names: Vec<&str> = conversation.rest.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "toolConfig.tools.cachePoint",
            "additionalModelRequestFields.other",
            "additionalModelResponseFieldPaths",
            "messages.content.cachePoint",
            "messages.content.guardContent",
            "messages.content.searchResult.source",
            "messages.content.searchResult.title",
            "requestMetadata",
            "body.sparkle",
        ]
    );
    let guardrail = json!({ "guardrailConfig": { "guardrailIdentifier": "x" } });
    assert_eq!(refused(guardrail).0, "guardrailConfig");
    let system_tool = json!({ "toolConfig": { "tools": [{ "systemTool": { "name": "x" } }] } });
    assert_eq!(refused(system_tool).0, "toolConfig.tools[0].systemTool");
    let addition = user(&json!([{ "toolAddition": {} }]));
    assert_eq!(refused(addition).0, "messages[0].content[0].toolAddition");
    let both = user(&json!([{ "text": "a", "cachePoint": { "type": "default" } }]));
    assert_eq!(refused(both).0, "messages[0].content[0].cachePoint");
    assert_eq!(refused(user(&json!("hello"))).0, "messages[0].content");
    assert_eq!(refused(user(&json!([{}]))).0, "messages[0].content[0].text");
    let misplaced = user(&json!([{ "toolUse": { "toolUseId": "x", "name": "y", "input": {} } }]));
    assert_eq!(refused(misplaced).0, "messages[0].content[0].toolUse");
}

#[test]
fn what_lies_at_amazon_goes_back_to_bedrock_and_to_nobody_else() {
    let content = json!([
        { "image": { "format": "png", "source": { "s3Location": { "uri": "s3://b/k" } } } },
    ]);
    let conversation = parsed(user(&content));
    assert_eq!(rendered(&conversation).0["messages"][0]["content"], content);
    for other in [&OPENAI_CHAT as &dyn Format, &ANTHROPIC_MESSAGES] {
        let edits = Edits { model: "m", ..Edits::default() };
        let failure = other.render_request(&conversation, &edits).unwrap_err();
        assert_eq!(failure.code, ErrorCode::Unsupported, "{}", other.name());
    }
}

#[test]
fn a_result_in_json_is_told_as_its_text() {
    let conversation = parsed(user(&json!([{ "toolResult": {
        "toolUseId": "c", "status": "success", "content": [{ "json": { "n": 1 } }],
    } }])));
    assert_eq!(conversation.messages[0].parts, [Part::tool_result("c", r#"{"n":1}"#, false)]);
}

#[test]
fn conversations_of_other_doors_arrive_whole_or_are_named() {
    let messages = json!({
        "model": "m", "max_tokens": 50, "system": "be brief",
        "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "look", "cache_control": { "type": "ephemeral" } },
                { "type": "image",
                  "source": { "type": "base64", "media_type": "image/png", "data": "AA" } },
            ] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": "s" },
                { "type": "tool_use", "id": "toolu_1", "name": "f", "input": {} },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "toolu_1", "content": "ok" },
            ] },
        ],
        "tools": [{ "name": "f", "input_schema": { "type": "object" } }],
    });
    let chat = json!({
        "model": "m", "max_completion_tokens": 50,
        "messages": [
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": [
                { "type": "text", "text": "look" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } },
            ] },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "toolu_1", "type": "function",
                  "function": { "name": "f", "arguments": "{}" } },
            ] },
            { "role": "tool", "tool_call_id": "toolu_1", "content": "ok" },
        ],
        "tools": [{ "type": "function",
                    "function": { "name": "f", "parameters": { "type": "object" } } }],
    });
    let sources: [(&dyn Format, Value, &[&str]); 2] =
        [(&ANTHROPIC_MESSAGES, messages, &["thinking"]), (&OPENAI_CHAT, chat, &[])];
    for (source, body, lost) in sources {
        let conversation = source.parse_request(body.to_string().as_bytes()).unwrap();
        let edits = Edits { model: CLAUDE, ..Edits::default() };
        let rendered = BEDROCK_CONVERSE.render_request(&conversation, &edits).unwrap();
        assert_eq!(rendered.dropped, lost, "{}", source.name());
        let back = BEDROCK_CONVERSE.parse_request(&rendered.body).unwrap();
        let mut expected = conversation.clone();
        let is_foreign = |part: &Part| matches!(part, Part::Reasoning { .. });
        for message in &mut expected.messages {
            message.parts.retain(|part| !is_foreign(part));
        }
        assert_eq!(back.messages, expected.messages, "{}", source.name());
        assert_eq!(back.tools, expected.tools);
        assert_eq!(back.output_cap, Some(50));
    }
}

#[test]
fn the_head_says_what_may_be_billed_beyond_text() {
    let head = |fields: Value| read_head(body(fields).as_bytes()).unwrap();
    let plain = head(json!({ "toolConfig": { "tools": [{ "toolSpec": { "name": "f" } }] } }));
    assert_eq!((plain.surcharge, plain.tools, plain.media), (None, true, 0));
    let expected = ("", false, CacheWrites::Unmarked);
    assert_eq!((plain.model.as_str(), plain.stream, plain.cache_writes), expected);
    let surcharges = [
        (json!({ "guardrailConfig": {} }), "guardrailConfig"),
        (json!({ "serviceTier": { "type": "priority" } }), "serviceTier"),
        (json!({ "sparkle": 1 }), "unknown fields"),
        (json!({ "additionalModelRequestFields": { "x": 1 } }), "additionalModelRequestFields"),
        (json!({ "toolConfig": { "tools": [{ "systemTool": {} }] } }), "toolConfig"),
        (user(&json!([{ "document": {} }])), "document"),
        (user(&json!([{ "video": {} }])), "video"),
        (user(&json!([{ "hologram": {} }])), "content"),
        (user(&json!([{ "toolResult": { "content": [{ "document": {} }] } }])), "document"),
    ];
    for (fields, expected) in surcharges {
        assert_eq!(head(fields.clone()).surcharge, Some(expected), "{fields}");
    }
    let cheap = [
        json!({ "serviceTier": { "type": "default" } }),
        json!({ "additionalModelRequestFields": { "top_k": 1, "thinking": {} } }),
        user(&json!([{ "cachePoint": { "type": "default" } }])),
        user(&json!([{ "cachePoint": { "type": "default", "ttl": "1h" } }])),
    ];
    for fields in cheap {
        assert_eq!(head(fields.clone()).surcharge, None, "{fields}");
    }
    let marked = |mark: Value| head(user(&json!([{ "cachePoint": mark }]))).cache_writes;
    assert_eq!(marked(json!({ "type": "default" })), CacheWrites::Minutes);
    assert_eq!(marked(json!({ "type": "default", "ttl": "1h" })), CacheWrites::Hour);
    assert_eq!(head(user(&json!([{ "image": {} }, { "image": {} }]))).media, 2);
    assert!(read_head(br#"{"messages":[],"Messages":[]}"#).is_err());
}

#[test]
fn the_model_stands_in_the_path_as_amazons_sdks_spell_it() {
    let path = |model, stream| {
        BEDROCK_CONVERSE.path(&Edits { model, stream, ..Edits::default() }).unwrap().into_owned()
    };
    assert_eq!(path("anthropic.claude-v2:1", false), "/model/anthropic.claude-v2%3A1/converse");
    let arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.x";
    assert_eq!(
        path(arn, true),
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.x\
         /converse-stream"
    );
    assert_eq!(path("../é?#", false), "/model/..%2F%C3%A9%3F%23/converse");
}

#[test]
fn marks_of_anthropics_clients_become_blocks_behind_what_they_mark() {
    let mark = json!({ "type": "ephemeral" });
    let hour = json!({ "type": "ephemeral", "ttl": "1h" });
    let body = json!({
        "model": "m", "max_tokens": 50, "cache_control": mark,
        "system": [{ "type": "text", "text": "be brief", "cache_control": hour }],
        "tools": [{ "name": "f", "input_schema": { "type": "object" }, "cache_control": hour },
                  { "name": "g", "input_schema": { "type": "object" } }],
        "messages": [
            { "role": "user", "content": "look" },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": "s" },
                { "type": "tool_use", "id": "toolu_1", "name": "f", "input": {} },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "toolu_1", "content": [
                    { "type": "text", "text": "ok", "cache_control": mark },
                ] },
                { "type": "text", "text": "and?" },
            ] },
        ],
    });
    let conversation = ANTHROPIC_MESSAGES.parse_request(body.to_string().as_bytes()).unwrap();
    assert_eq!(conversation.cache_writes(), CacheWrites::Hour);
    let (told, dropped) = rendered(&conversation);
    assert_eq!(dropped, ["thinking"]);
    let (point, long) = (
        json!({ "cachePoint": { "type": "default" } }),
        json!({ "cachePoint": { "type": "default", "ttl": "1h" } }),
    );
    assert_eq!(told["system"], json!([{ "text": "be brief" }, long]));
    let tools = told["toolConfig"]["tools"].as_array().unwrap();
    assert_eq!((&tools[1], tools.len()), (&long, 3));
    let last = told["messages"][2]["content"].as_array().unwrap();
    let kinds: Vec<&String> =
        last.iter().flat_map(|block| block.as_object().unwrap().keys()).collect();
    assert_eq!(kinds, ["toolResult", "cachePoint", "text", "cachePoint"]);
    assert_eq!(last[3], point);
    // And back: what stood in a result is marked with it, and the end where it is.
    let back = BEDROCK_CONVERSE.parse_request(told.to_string().as_bytes()).unwrap();
    let edits = Edits { model: "m", ..Edits::default() };
    let again = ANTHROPIC_MESSAGES.render_request(&back, &edits).unwrap();
    let again: Value = serde_json::from_slice(&again.body).unwrap();
    assert_eq!(again["system"][0]["cache_control"], hour);
    assert_eq!(again["tools"][0]["cache_control"], hour);
    assert_eq!(again["messages"][2]["content"][0]["cache_control"], mark);
    assert_eq!(again["messages"][3]["content"][0]["cache_control"], mark);
    assert!(again["messages"][0]["content"].is_string(), "what is not marked is as it was");
}
