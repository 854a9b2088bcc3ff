//! What holds for every request.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use types::conversation::{
    Conversation, Effort, Message, OutputShape, Part, ReasoningAsk, Role, Sampling, ToolCall,
    ToolChoice, ToolDefinition,
};
use types::format::{Edits, Format};

use super::super::{count_estimate, parse, patch, read_head, render};
use crate::GEMINI;
use crate::head::TopLevel;

fn text() -> impl Strategy<Value = String> {
    "x[a-zé\"\\\\\n ]{0,12}"
}

fn id() -> impl Strategy<Value = String> {
    "[A-Z_][A-Za-z0-9_-]{1,8}"
}

fn media() -> impl Strategy<Value = Part> {
    let media = |kind: &str, url: &str| Part::Media {
        kind: kind.to_owned(),
        url: Some(url.to_owned()),
        name: None,
        source: Value::Null,
    };
    select(vec![
        media("image", "data:image/png;base64,AAAA"),
        media("image", "https://x/y.png"),
        media("audio", "data:audio/wav;base64,AA+/"),
        media("file", "data:application/pdf;base64,JVBE"),
        media("file", "https://x/y.pdf"),
    ])
}

fn said() -> impl Strategy<Value = Part> {
    prop_oneof![text().prop_map(Part::text), media()]
}

fn reasoning() -> impl Strategy<Value = Part> {
    (any::<bool>(), "[a-z ]{0,6}", "[A-Za-z0-9+/]{1,9}").prop_map(|(redacted, text, signature)| {
        Part::Reasoning {
            text: if redacted { String::new() } else { text },
            signature: Some(signature),
            redacted,
            origin: Some("gemini".to_owned()),
        }
    })
}

/// A turn of the model with its calls, and a message with their answers.
fn called() -> impl Strategy<Value = Vec<Message>> {
    let arguments =
        select(vec!["{}", r#"{"n":9007199254740993}"#, r#"{"a" : [1.0,1e2, "\u00e9"]}"#]);
    let call = (id(), arguments, prop::option::of(reasoning()), text(), any::<bool>());
    prop::collection::vec(call, 1..4).prop_map(|calls| {
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        for (place, (name, arguments, reasoning, text, is_error)) in calls.into_iter().enumerate() {
            let id = format!("{name}:{place}");
            asked.extend(reasoning);
            let (call_id, arguments) = (id.clone(), arguments.to_owned());
            asked.push(Part::ToolCall(ToolCall { id, name, arguments }));
            answered.push(Part::tool_result(call_id, text, is_error));
        }
        vec![
            Message { role: Role::Assistant, parts: asked },
            Message { role: Role::Tool, parts: answered },
        ]
    })
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let of = |role| move |parts| vec![Message { role, parts }];
    let answer = prop_oneof![text().prop_map(Part::text), reasoning()];
    let turn = prop_oneof![
        prop::collection::vec(said(), 1..3).prop_map(of(Role::User)),
        prop::collection::vec(answer, 1..4).prop_map(of(Role::Assistant)),
        called(),
    ];
    (prop::option::of(text()), text(), prop::collection::vec(turn, 0..5)).prop_map(
        |(system, asked, turns)| {
            let system = system.map(|text| Message::text(Role::System, text));
            let asked = Message::text(Role::User, asked);
            let mut kept: Vec<Message> = system.into_iter().chain([asked]).collect();
            for message in turns.into_iter().flatten() {
                kept.push(message);
            }
            unique(kept)
        },
    )
}

/// The same with ids that no two calls share.
fn unique(mut messages: Vec<Message>) -> Vec<Message> {
    for (index, message) in messages.iter_mut().enumerate() {
        // The answers stand behind the turn with the calls.
        let turn = if message.role == Role::Tool { index - 1 } else { index };
        for part in &mut message.parts {
            match part {
                Part::ToolCall(ToolCall { id, .. }) => id.push_str(&format!("/{turn}")),
                Part::ToolResult { call_id, .. } => call_id.push_str(&format!("/{turn}")),
                _ => {}
            }
        }
    }
    messages
}

fn tool() -> impl Strategy<Value = ToolDefinition> {
    let schema = json!({ "type": "object", "properties": { "x": { "type": ["string", "null"] } } });
    (id(), prop::option::of(text())).prop_map(move |(name, description)| ToolDefinition {
        name,
        description,
        parameters: Some(schema.clone()),
        strict: None,
    })
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let number = || prop::option::of((0u32..=8).prop_map(|n| f64::from(n) / 4.0));
    let whole = (prop::option::of(any::<u32>()), prop::option::of(any::<i64>()));
    (number(), number(), whole, number(), number(), prop::collection::vec(text(), 0..3)).prop_map(
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

fn ask() -> impl Strategy<Value = ReasoningAsk> {
    let effort = select(vec![Effort::Minimal, Effort::Low, Effort::Medium, Effort::High]);
    let shown = prop::option::of(any::<bool>());
    (effort, 1u64..40_000, shown, 0..4).prop_map(|(effort, budget, shown, kind)| match kind {
        0 => ReasoningAsk::default(),
        1 => ReasoningAsk { budget_tokens: Some(budget), shown, ..ReasoningAsk::default() },
        2 => ReasoningAsk { adaptive: true, shown, ..ReasoningAsk::default() },
        _ => ReasoningAsk { effort: Some(effort), shown, ..ReasoningAsk::default() },
    })
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        id().prop_map(|name| ToolChoice::Named { name }),
    ];
    let tools = (prop::collection::vec(tool(), 0..3), choice);
    let schema = json!({ "type": "object" });
    let shape = select(vec![
        OutputShape::Text,
        OutputShape::JsonObject,
        OutputShape::JsonSchema { name: "output".to_owned(), schema, strict: Some(true) },
    ]);
    (messages(), tools, sampling(), prop::option::of(1u64..9_000), shape, ask()).prop_map(
        |(messages, (tools, choice), sampling, output_cap, output_shape, reasoning)| {
            let tool_choice = if tools.is_empty() { ToolChoice::Auto } else { choice };
            Conversation {
                messages,
                tools,
                tool_choice,
                sampling,
                output_cap,
                output_shape,
                reasoning,
                ..Conversation::default()
            }
        },
    )
}

/// A history of calls that grows by one message at a time.
fn history() -> Vec<Message> {
    let mut history = vec![Message::text(Role::System, "be brief")];
    for turn in 0..12 {
        history.push(Message::text(Role::User, format!("turn {turn}")));
        let signed = |redacted, text: &str| Part::Reasoning {
            text: text.to_owned(),
            signature: Some(format!("sig{turn}")),
            redacted,
            origin: Some("gemini".to_owned()),
        };
        let call = |call| {
            let (id, name) = (format!("call:{turn}/{call}"), "find".to_owned());
            Part::ToolCall(ToolCall { id, name, arguments: format!("{{\"n\": {turn}}}") })
        };
        let mut parts = vec![signed(false, "hm"), signed(true, ""), call(0), call(1)];
        if turn % 3 == 0 {
            parts.drain(..2);
        }
        history.push(Message { role: Role::Assistant, parts });
        for call in 0..2 {
            let part = Part::tool_result(format!("call:{turn}/{call}"), "found", false);
            history.push(Message { role: Role::Tool, parts: vec![part] });
        }
        if turn == 5 {
            history.push(Message::text(Role::System, "be kind"));
        }
        history.push(Message::text(Role::Assistant, format!("answer {turn}")));
    }
    history
}

#[test]
fn a_longer_history_begins_with_the_same_bytes() {
    for model in ["gemini-2.5-pro", "gemini-3-pro"] {
        let history = history();
        let body = |length: usize| {
            let tool = ToolDefinition {
                name: "find".to_owned(),
                description: None,
                parameters: Some(json!({ "type": "object" })),
                strict: None,
            };
            let messages = history[..length].to_vec();
            let conversation =
                Conversation { messages, tools: vec![tool], ..Conversation::default() };
            let edits = Edits { model, ..Edits::default() };
            GEMINI.render_request(&conversation, &edits).unwrap().body
        };
        let field = |body: &Bytes, name: &str| {
            TopLevel::read(body).unwrap().raw(name).map(|raw| raw.get().to_owned())
        };
        for length in 2..history.len() {
            let (before, after) = (body(length), body(length + 1));
            for fixed in ["systemInstruction", "tools"] {
                assert!(field(&before, fixed).is_some());
                assert_eq!(field(&before, fixed), field(&after, fixed));
            }
            let contents = field(&before, "contents").unwrap();
            // A result may join the turn before it, which is then still open.
            let open = contents.trim_end_matches([']', '}']);
            assert!(field(&after, "contents").unwrap().starts_with(open), "{length}");
        }
    }
}

proptest! {
    #[test]
    fn what_is_rendered_is_parsed_back(conversation in conversation()) {
        let edits = Edits { model: "m", ..Edits::default() };
        let rendered = render(&conversation, &edits).unwrap();
        prop_assert_eq!(rendered.dropped, Vec::<String>::new());
        let head = read_head(&rendered.body);
        let head = head.map_err(|failure| TestCaseError::fail(failure.to_string()))?;
        prop_assert_eq!(head.output_cap, conversation.output_cap);
        let media = conversation.parts().filter(|part| matches!(part, Part::Media { .. })).count();
        prop_assert_eq!(usize::try_from(head.media).unwrap(), media);
        prop_assert_eq!(parse(&rendered.body).unwrap(), conversation);
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _read = read_head(&body);
        let _parsed = parse(&body);
        let _counted = count_estimate(&body);
    }

    #[test]
    fn any_parts_are_read_or_refused(part in r#"\{("(text|inlineData|fileData|functionCall|functionResponse|parts|name|thought|response|thoughtSignature)":("x"|true|\[\]|\{\}|null|1|\{"name":"f","response":\{\},"parts":\[\{"text":"x"\}\]\}|\{"mimeType":"image/png","data":"A"\}),){0,4}"z":1\}"#, role in "user|model") {
        let body = format!(r#"{{"contents":[{{"role":"{role}","parts":[{part}]}}]}}"#);
        let _parsed = parse(body.as_bytes());
        let _read = read_head(body.as_bytes());
    }

    #[test]
    fn a_patched_request_differs_in_the_cap_only(
        cap in prop::option::of(1u64..1_000_000),
        order in prop::collection::vec(0usize..3, 0..6),
    ) {
        let mut fields = vec![
            r#""contents" : [{"parts":[{"text":"\"maxOutputTokens\":"}]}]"#.to_owned(),
            r#""generation_config": { "topK":1 , "max_output_tokens": 5 }"#.to_owned(),
            r#""x":1e2"#.to_owned(),
        ];
        for at in order {
            let field = fields.remove(at);
            fields.push(field);
        }
        let body = format!("{{{}}}", fields.join(" , "));
        let edits = Edits { model: "up", output_cap: cap, stream: true, ..Edits::default() };
        let raw = Bytes::from(body.clone());
        let patched = patch(&raw, &read_head(&raw).unwrap(), &edits);
        let expected = body.replace(": 5", &format!(": {}", cap.unwrap_or(5)));
        prop_assert_eq!(std::str::from_utf8(&patched).unwrap(), expected);
    }
}
