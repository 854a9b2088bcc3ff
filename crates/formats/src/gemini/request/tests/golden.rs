//! Requests as their neutral form, and back.

use insta::assert_snapshot;
use serde_json::json;
use types::conversation::{Conversation, Message, Part, Role, ToolCall, ToolDefinition};
use types::format::Edits;

use super::super::{parse, render};

fn parsed(body: &str) -> Conversation {
    parse(body.as_bytes()).unwrap()
}

fn messages(body: &str) -> String {
    let shown = parsed(body).messages.into_iter().map(|message| {
        let parts: Vec<String> =
            message.parts.iter().map(|part| serde_json::to_string(part).unwrap()).collect();
        format!("{:?} {}", message.role, parts.join(" "))
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn rendered(conversation: &Conversation, model: &str) -> String {
    let edits = Edits { model, ..Edits::default() };
    match render(conversation, &edits) {
        Ok(rendered) => {
            let body = std::str::from_utf8(&rendered.body).unwrap().to_owned();
            format!("{body}\n{:?}", rendered.dropped)
        }
        Err(failure) => format!("{} {:?}: {}", failure.code, failure.param, failure.message),
    }
}

#[test]
fn turns_are_read_with_what_they_hold() {
    let body = r#"{"system_instruction":{"parts":{"text":"s"}},"contents":[
        {"role":"user","parts":[{"text":"a"},{"inline_data":{"mime_type":"image/png","data":"-_8="}},{"fileData":{"mimeType":"application/pdf","fileUri":"https://x/y.pdf"}},{"fileData":{"mimeType":"video/mp4","fileUri":"https://generativelanguage.googleapis.com/v1beta/files/f"}}]},
        {"role":"model","parts":[{"text":"hm","thought":true},{"text":" yes","thought":true,"thoughtSignature":"S1"},{"text":"b","thoughtSignature":"S2"},{"functionCall":{"name":"f","args":{"n": 9007199254740993}},"thoughtSignature":"S3"},{"functionCall":{"id":"i","name":"g"}},{"text":"","thoughtSignature":"S4"}]},
        {"role":"function","parts":[{"functionResponse":{"id":"i","name":"g","response":{"error":"no"}}},{"functionResponse":{"name":"f","response":{"result":{"x":1}}}},{"text":"and?"}]},
        {"parts":[{"text":"more"}]}]}"#;
    assert_snapshot!(messages(body), @r#"
    System {"type":"text","text":"s"}
    User {"type":"text","text":"a"} {"type":"media","kind":"image","url":"data:image/png;base64,+/8=","name":null,"source":null} {"type":"media","kind":"file","url":"https://x/y.pdf","name":null,"source":null} {"type":"media","kind":"file","url":null,"name":null,"source":{"fileData":{"mimeType":"video/mp4","fileUri":"https://generativelanguage.googleapis.com/v1beta/files/f"}}}
    Assistant {"type":"reasoning","text":"hm yes","signature":"S1","redacted":false,"origin":"gemini"} {"type":"reasoning","text":"","signature":"S2","redacted":true,"origin":"gemini"} {"type":"text","text":"b"} {"type":"reasoning","text":"","signature":"S3","redacted":true,"origin":"gemini"} {"type":"tool_call","id":"gemini_1_3","name":"f","arguments":"{\"n\": 9007199254740993}"} {"type":"tool_call","id":"i","name":"g","arguments":"{}"} {"type":"reasoning","text":"","signature":"S4","redacted":true,"origin":"gemini"}
    Tool {"type":"tool_result","call_id":"i","parts":[{"type":"text","text":"no"}],"is_error":true} {"type":"tool_result","call_id":"gemini_1_3","parts":[{"type":"text","text":"{\"x\":1}"}],"is_error":false}
    User {"type":"text","text":"and?"}
    User {"type":"text","text":"more"}
    "#);
}

#[test]
fn answers_of_functions_find_their_calls() {
    let body = r#"{"contents":[
        {"role":"model","parts":[{"functionCall":{"name":"f","args":{}}},{"functionCall":{"name":"f","args":{"x":2}},"thoughtSignature":"skip_thought_signature_validator"}]},
        {"role":"user","parts":[{"functionResponse":{"name":"f","response":{"a":1,"b":2}}},{"functionResponse":{"name":"f","response":{"output":"two"},"parts":[{"inlineData":{"mimeType":"image/png","data":"AA=="}}]}}]}]}"#;
    assert_snapshot!(messages(body), @r#"
    Assistant {"type":"tool_call","id":"gemini_0_0","name":"f","arguments":"{}"} {"type":"tool_call","id":"gemini_0_1","name":"f","arguments":"{\"x\":2}"}
    Tool {"type":"tool_result","call_id":"gemini_0_0","parts":[{"type":"text","text":"{\"a\":1,\"b\":2}"}],"is_error":false} {"type":"tool_result","call_id":"gemini_0_1","parts":[{"type":"text","text":"two"},{"type":"media","kind":"image","url":"data:image/png;base64,AA==","name":null,"source":null}],"is_error":false}
    "#);
    let lone = r#"{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{}}}]}]}"#;
    let failure = parse(lone.as_bytes()).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("contents[0].parts[0].functionResponse.name"));
}

#[test]
fn what_is_asked_for_is_read() {
    let body = r#"{"contents":[],"tools":[{"functionDeclarations":[{"name":"f","description":"d","parameters":{"type":"OBJECT"}},{"name":"g","parameters_json_schema":{"type":"object"}}]}],
        "toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["g"]}},"safetySettings":[{"category":"c"}],"newField":1,
        "generationConfig":{"maxOutputTokens":9,"temperature":0.5,"topP":0.9,"topK":40.0,"seed":-1,"stopSequences":["x"],"presencePenalty":1,"frequencyPenalty":0,"responseMimeType":"application/json","responseSchema":{"type":"STRING","nullable":true},"thinkingConfig":{"includeThoughts":true,"thinkingLevel":"HIGH"},"candidateCount":1,"responseLogprobs":true}}"#;
    let conversation = parsed(body);
    let shown = serde_json::to_string(&conversation).unwrap();
    assert_snapshot!(shown, @r#"{"messages":[],"tools":[{"name":"f","description":"d","parameters":{"type":"object"},"strict":null},{"name":"g","description":null,"parameters":{"type":"object"},"strict":null}],"tool_choice":{"mode":"named","name":"g"},"parallel_tool_calls":null,"sampling":{"temperature":0.5,"top_p":0.9,"top_k":40,"seed":-1,"frequency_penalty":0.0,"presence_penalty":1.0,"stop":["x"]},"output_cap":9,"output_shape":{"type":"json_schema","name":"output","schema":{"type":["string","null"]},"strict":true},"reasoning":{"effort":"high","budget_tokens":null,"adaptive":false,"shown":true},"rest":{"generationConfig.responseLogprobs":true,"safetySettings":[{"category":"c"}],"body.newField":1}}"#);
}

#[test]
fn choices_of_functions_are_read() {
    let choice = |mode: &str, names: &str| {
        let body = format!(
            r#"{{"contents":[],"tools":[{{"functionDeclarations":[{{"name":"a"}},{{"name":"b"}},{{"name":"c"}}]}}],"toolConfig":{{"functionCallingConfig":{{"mode":"{mode}","allowedFunctionNames":{names}}}}}}}"#
        );
        let conversation = parsed(&body);
        let tools: Vec<String> = conversation.tools.into_iter().map(|tool| tool.name).collect();
        format!("{:?} {}", conversation.tool_choice, tools.join(","))
    };
    assert_eq!(choice("AUTO", "[]"), "Auto a,b,c");
    assert_eq!(choice("NONE", "[]"), "None a,b,c");
    assert_eq!(choice("any", "null"), "Required a,b,c");
    assert_eq!(choice("ANY", r#"["b"]"#), "Named { name: \"b\" } a,b,c");
    assert_eq!(choice("ANY", r#"["b","c"]"#), "Required b,c");
    assert_eq!(choice("VALIDATED", r#"["c"]"#), "Auto c");
}

#[test]
fn thinking_is_read() {
    let ask = |config: &str| {
        let body = format!(r#"{{"contents":[],"generationConfig":{{"thinkingConfig":{config}}}}}"#);
        serde_json::to_string(&parsed(&body).reasoning).unwrap()
    };
    let shown = [
        ask(r#"{"thinkingBudget":0}"#),
        ask(r#"{"thinkingBudget":-1,"includeThoughts":false}"#),
        ask(r#"{"thinking_budget":2048}"#),
        ask(r#"{"thinkingLevel":"low"}"#),
    ];
    assert_snapshot!(shown.join("\n"), @r#"
    {"effort":"none","budget_tokens":null,"adaptive":false,"shown":null}
    {"effort":null,"budget_tokens":null,"adaptive":true,"shown":false}
    {"effort":null,"budget_tokens":2048,"adaptive":false,"shown":null}
    {"effort":"low","budget_tokens":null,"adaptive":false,"shown":null}
    "#);
}

#[test]
fn what_only_google_can_do_is_refused() {
    let refused = |fields: &str| {
        let failure = parse(format!(r#"{{"contents":[]{fields}}}"#).as_bytes()).unwrap_err();
        format!("{} {:?} {}", failure.code, failure.param.as_deref(), failure.message)
    };
    let shown = [
        refused(r#","tools":[{"googleSearch":{}}]"#),
        refused(r#","cachedContent":"cachedContents/x""#),
        refused(r#","continuationToken":"x""#),
        refused(r#","generationConfig":{"responseModalities":["TEXT","IMAGE"]}"#),
        refused(
            r#","generationConfig":{"responseMimeType":"text/x.enum","responseSchema":{"type":"STRING"}}"#,
        ),
        refused(r#","generationConfig":{"thinkingConfig":{"thinkingLevel":"VAST"}}"#),
        refused(r#","generationConfig":{"candidateCount":2}"#),
        refused(r#","systemInstruction":{"parts":[{"inlineData":{}}]}"#),
    ];
    assert_snapshot!(shown.join("\n"), @r#"
    unsupported Some("tools[0].googleSearch") the tool 'googleSearch' is run by Google's own service only
    unsupported Some("cachedContent") what is cached is kept by Google's own service: send it in the request
    unsupported Some("continuationToken") only Google's own service can go on with an answer
    unsupported Some("generationConfig.responseModalities") answers of type 'IMAGE' are not offered by this provider
    unsupported Some("generationConfig.responseMimeType") answers of type 'text/x.enum' with a schema are not offered here
    invalid_request Some("generationConfig.thinkingConfig.thinkingLevel") 'VAST' is not known: use MINIMAL, LOW, MEDIUM or HIGH
    unsupported Some("generationConfig.candidateCount") this provider gives one answer per request
    unsupported Some("systemInstruction.parts[0]") a system prompt can only be text here
    "#);
    let part = r#"{"contents":[{"role":"model","parts":[{"executableCode":{"code":"x"}}]}]}"#;
    let failure = parse(part.as_bytes()).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("contents[0].parts[0].executableCode"));
}

fn signed(signature: &str, redacted: bool, text: &str, origin: &str) -> Part {
    Part::Reasoning {
        text: text.to_owned(),
        signature: Some(signature.to_owned()),
        redacted,
        origin: Some(origin.to_owned()),
    }
}

fn call(id: &str, name: &str) -> Part {
    Part::ToolCall(ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: String::new() })
}

fn history() -> Conversation {
    let of = |role, parts| Message { role, parts };
    Conversation {
        messages: vec![
            Message::text(Role::Developer, "s"),
            Message::text(Role::User, "go"),
            of(
                Role::Assistant,
                vec![
                    signed("T", false, "hm", "gemini"),
                    signed("x", false, "foreign", "anthropic_messages"),
                    signed("A", true, "", "gemini"),
                    call("one", "f"),
                    call("gemini_ab", "g"),
                ],
            ),
            of(Role::Tool, vec![Part::tool_result("gemini_ab", "two", true)]),
            of(Role::Tool, vec![Part::tool_result("one", "", false)]),
            Message::text(Role::System, "later"),
            of(
                Role::Assistant,
                vec![
                    Part::text("done"),
                    signed("B", true, "", "gemini"),
                    signed("C", true, "", "gemini"),
                ],
            ),
            of(Role::Assistant, vec![Part::text("and"), call("two", "f"), call("three", "f")]),
        ],
        ..Conversation::default()
    }
}

#[test]
fn what_another_vendor_sealed_is_as_whole_as_its_seal_says() {
    for (redacted, said) in [(false, r#""redacted":false"#), (true, r#""redacted":true"#)] {
        let sealed = crate::gemini::signature::carried("S", redacted, "anthropic_messages");
        let body = format!(
            r#"{{"contents":[{{"role":"model","parts":[{{"text":"b","thoughtSignature":"{sealed}"}}]}}]}}"#
        );
        let read = messages(&body);
        assert!(read.contains(said), "{read}");
    }
}

#[test]
fn a_history_is_rendered_with_its_signatures() {
    assert_snapshot!(rendered(&history(), "gemini-3-pro-preview"), @r#"
    {"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"role":"user","parts":[{"text":"go"}]},{"role":"model","parts":[{"text":"hm","thought":true,"thoughtSignature":"T"},{"functionCall":{"id":"one","name":"f","args":{}},"thoughtSignature":"A"},{"functionCall":{"name":"g","args":{}}}]},{"role":"user","parts":[{"functionResponse":{"id":"one","name":"f","response":{"output":""}}},{"functionResponse":{"name":"g","response":{"error":"two"}}}]},{"role":"user","parts":[{"text":"later"}]},{"role":"model","parts":[{"text":"done"},{"text":"","thoughtSignature":"B"},{"text":"","thoughtSignature":"C"}]},{"role":"model","parts":[{"text":"and"},{"functionCall":{"id":"two","name":"f","args":{}},"thoughtSignature":"skip_thought_signature_validator"},{"functionCall":{"id":"three","name":"f","args":{}}}]}],"generationConfig":{}}
    ["thinking", "messages.role"]
    "#);
    // Older models need no signature, and get none that says nothing.
    let old = rendered(&history(), "gemini-2.5-flash");
    assert!(!old.contains("skip_thought"), "{old}");
}

#[test]
fn thinking_is_asked_of_each_family_in_its_words() {
    let asked = |model: &str, effort: Option<&str>, budget: Option<u64>, adaptive: bool| {
        let mut conversation = Conversation {
            messages: vec![Message::text(Role::User, "x")],
            ..Conversation::default()
        };
        conversation.reasoning.effort = effort.and_then(types::conversation::Effort::parse);
        conversation.reasoning.budget_tokens = budget;
        conversation.reasoning.adaptive = adaptive;
        rendered(&conversation, model)
            .replace(r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"#, "")
    };
    let mut shown = Vec::new();
    for model in ["gemini-2.5-pro", "gemini-3-flash"] {
        shown.extend([
            asked(model, Some("none"), None, false),
            asked(model, Some("minimal"), None, false),
            asked(model, Some("xhigh"), None, false),
            asked(model, Some("low"), Some(99), false),
            asked(model, None, Some(99), false),
            asked(model, None, None, true),
            asked(model, None, None, false),
        ]);
    }
    assert_snapshot!(shown.join("\n"), @r#"
    {"generationConfig":{"thinkingConfig":{"thinkingBudget":0}}}
    []
    {"generationConfig":{"thinkingConfig":{"thinkingBudget":1024}}}
    []
    {"generationConfig":{"thinkingConfig":{"thinkingBudget":24576}}}
    []
    {"generationConfig":{"thinkingConfig":{"thinkingBudget":99}}}
    []
    {"generationConfig":{"thinkingConfig":{"thinkingBudget":99}}}
    []
    {"generationConfig":{"thinkingConfig":{"thinkingBudget":-1}}}
    []
    {"generationConfig":{}}
    []
    {"generationConfig":{"thinkingConfig":{"thinkingLevel":"MINIMAL"}}}
    ["reasoning_effort"]
    {"generationConfig":{"thinkingConfig":{"thinkingLevel":"MINIMAL"}}}
    []
    {"generationConfig":{"thinkingConfig":{"thinkingLevel":"HIGH"}}}
    []
    {"generationConfig":{"thinkingConfig":{"thinkingLevel":"LOW"}}}
    ["thinking.budget_tokens"]
    {"generationConfig":{"thinkingConfig":{"thinkingBudget":99}}}
    []
    {"generationConfig":{"thinkingConfig":{"thinkingBudget":-1}}}
    []
    {"generationConfig":{}}
    []
    "#);
}

/// A function with a constant among its arguments.
fn constant(name: &str) -> ToolDefinition {
    let parameters = Some(json!({ "properties": { "a": { "const": 1 } } }));
    ToolDefinition { name: name.to_owned(), description: None, parameters, strict: Some(true) }
}

#[test]
fn what_cannot_be_said_is_named_or_refused() {
    let user = |parts| Conversation {
        messages: vec![Message { role: Role::User, parts }],
        ..Conversation::default()
    };
    let media = |kind: &str, url: Option<&str>, source| Part::Media {
        kind: kind.to_owned(),
        url: url.map(str::to_owned),
        name: None,
        source,
    };
    let null = serde_json::Value::Null;
    let mut tools = user(vec![Part::text("x")]);
    tools.tools = vec![constant("f")];
    tools.parallel_tool_calls = Some(false);
    let mut bad_name = tools.clone();
    bad_name.tools = vec![constant("1f")];
    let mut many = tools.clone();
    many.rest.insert("n".to_owned(), json!(2));
    let mut lone = user(vec![Part::text("x")]);
    lone.messages = vec![Message::text(Role::System, "s")];
    let mut orphan = user(vec![Part::text("x")]);
    orphan
        .messages
        .push(Message { role: Role::Tool, parts: vec![Part::tool_result("a", "b", false)] });
    let shown = [
        rendered(&user(vec![media("image", Some("https://x/Y.PNG?z"), null.clone())]), "m"),
        rendered(&user(vec![media("file", Some("http://x/y"), null)]), "m"),
        rendered(&user(vec![media("file", None, json!({ "file": { "file_id": "f" } }))]), "m"),
        rendered(
            &user(vec![media("file", None, json!({ "fileData": { "fileUri": "gs://b/f" } }))]),
            "m",
        ),
        rendered(
            &user(vec![media(
                "image",
                Some("data:image/jpg;base64,AA=="),
                json!({ "detail": "low" }),
            )]),
            "m",
        ),
        rendered(&tools, "m"),
        rendered(&bad_name, "m"),
        rendered(&many, "m"),
        rendered(&lone, "m"),
        rendered(&orphan, "m"),
    ];
    assert_snapshot!(shown.join("\n"), @r#"
    {"contents":[{"role":"user","parts":[{"fileData":{"mimeType":"image/png","fileUri":"https://x/Y.PNG?z"}}]}],"generationConfig":{}}
    []
    unsupported Some("messages[0].content[0]"): give base64 data, or an https address
    unsupported Some("messages[0].content[0]"): content of type 'file' given by an id can't be said here
    {"contents":[{"role":"user","parts":[{"fileData":{"fileUri":"gs://b/f"}}]}],"generationConfig":{}}
    []
    {"contents":[{"role":"user","parts":[{"inlineData":{"mimeType":"image/jpeg","data":"AA=="}}]}],"generationConfig":{}}
    ["messages.content.detail"]
    {"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"properties":{"a":{"enum":[1]}}}}]}],"contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{}}
    ["tools.strict", "schema.const", "parallel_tool_calls"]
    unsupported Some("tools[0].name"): this provider takes functions' names that begin with a letter or '_', of at most 128 letters, digits, '_', '.', ':' or '-'
    unsupported Some("n"): only clients of the Gemini API can ask this provider for more than one answer
    invalid_request Some("messages"): this provider needs a message of the user, beside the system prompt
    invalid_request Some("messages[1].tool_call_id"): no call with the id 'a' stands before its result: this provider needs the function's name
    "#);
}

#[test]
fn a_result_with_an_image_needs_a_newer_model() {
    let image = Part::Media {
        kind: "image".to_owned(),
        url: Some("data:image/png;base64,AA==".to_owned()),
        name: None,
        source: serde_json::Value::Null,
    };
    let parts = vec![Part::text("see"), image];
    let result = Part::ToolResult { call_id: "one".to_owned(), parts, is_error: false };
    let mut conversation = history();
    conversation.messages.truncate(3);
    conversation.messages.push(Message { role: Role::Tool, parts: vec![result] });
    let new = rendered(&conversation, "gemini-3-pro");
    assert!(new.contains(r#""response":{"output":"see"},"parts":[{"inlineData":{"mimeType":"image/png","data":"AA=="}}]"#), "{new}");
    let old = rendered(&conversation, "models/gemini-2.5-pro");
    assert!(old.starts_with(r#"unsupported Some("messages[3].tool_result.image")"#), "{old}");
}

#[test]
fn a_request_to_be_counted_is_a_whole_one() {
    let operation = types::call::Operation::CountTokens;
    let edits = Edits { model: "m", operation, ..Edits::default() };
    let conversation = parsed(r#"{"contents":[{"role":"user","parts":[{"text":"x"}]}]}"#);
    let body = render(&conversation, &edits).unwrap().body;
    assert_snapshot!(std::str::from_utf8(&body).unwrap(), @r#"{"generateContentRequest":{"model":"models/m","contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{}}}"#);
    assert_eq!(parse(&body).unwrap(), conversation);
}
