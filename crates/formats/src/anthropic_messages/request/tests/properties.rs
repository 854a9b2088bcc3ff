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
use crate::head::TopLevel;
use crate::marks::testing::marked;
use crate::{ANTHROPIC_MESSAGES, OPENAI_CHAT};

fn text() -> impl Strategy<Value = String> {
    "x[a-zé\"\\\\\n ]{0,12}"
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,8}"
}

fn media() -> impl Strategy<Value = Part> {
    let image = select(vec!["data:image/png;base64,AAAA", "https://x/y.png"]);
    let file = select(vec!["data:application/pdf;base64,JVBE", "https://x/y.pdf"]);
    let part = |kind: &str, url: &str, name: Option<String>| Part::Media {
        kind: kind.to_owned(),
        url: Some(url.to_owned()),
        name,
        source: Value::Null,
    };
    prop_oneof![
        image.prop_map(move |url| part("image", url, None)),
        (file, prop::option::of(text())).prop_map(move |(url, name)| part("file", url, name)),
    ]
}

fn said() -> impl Strategy<Value = Part> {
    prop_oneof![text().prop_map(Part::text), media()]
}

fn reasoning() -> impl Strategy<Value = Part> {
    (any::<bool>(), "[a-z ]{0,6}", text()).prop_map(|(redacted, text, signature)| Part::Reasoning {
        text: if redacted { String::new() } else { text },
        signature: Some(signature),
        redacted,
        origin: Some("anthropic_messages".to_owned()),
    })
}

fn call() -> impl Strategy<Value = Part> {
    let arguments =
        select(vec!["{}", r#"{"n":9007199254740993}"#, r#"{"a" : [1.0,1e2, "\u00e9"]}"#]);
    (id(), id(), arguments).prop_map(|(id, name, arguments)| {
        Part::ToolCall(ToolCall { id, name, arguments: arguments.to_owned() })
    })
}

fn result() -> impl Strategy<Value = Part> {
    let parts = prop::collection::vec(said(), 0..3);
    (id(), parts, any::<bool>()).prop_map(|(call_id, parts, is_error)| Part::ToolResult {
        call_id,
        parts,
        is_error,
    })
}

fn message(signed: bool) -> impl Strategy<Value = Message> {
    let of = |role| move |parts| Message { role, parts };
    let thoughts = prop::collection::vec(reasoning(), usize::from(signed)..=2);
    let answer = prop_oneof![text().prop_map(Part::text), call()];
    let answer = (thoughts, prop::collection::vec(answer, 1..4));
    let answer = answer.prop_map(move |(thoughts, said)| {
        let thoughts = thoughts.into_iter().take(if signed { 2 } else { 0 });
        Message { role: Role::Assistant, parts: thoughts.chain(said).collect() }
    });
    prop_oneof![
        prop::collection::vec(text().prop_map(Part::text), 1..3).prop_map(of(Role::System)),
        prop::collection::vec(said(), 1..3).prop_map(of(Role::User)),
        prop::collection::vec(result(), 1..3).prop_map(of(Role::Tool)),
        answer,
    ]
}

/// Histories that Anthropic's form can tell apart: what stands in front of everything is one
/// prompt, and neighbouring results are one message.
fn messages(signed: bool) -> impl Strategy<Value = Vec<Message>> {
    prop::collection::vec(message(signed), 0..6).prop_map(|list| {
        let mut kept: Vec<Message> = Vec::new();
        for message in list {
            let alone = matches!(message.role, Role::System | Role::Tool);
            let before = kept.last().map(|last| last.role);
            if !(alone && before == Some(message.role)) {
                kept.push(message);
            }
        }
        kept
    })
}

fn tool() -> impl Strategy<Value = ToolDefinition> {
    let schema = json!({ "type": "object", "properties": { "x": [1, null] } });
    (id(), prop::option::of(text()), prop::option::of(any::<bool>())).prop_map(
        move |(name, description, strict)| ToolDefinition {
            name,
            description,
            parameters: Some(schema.clone()),
            strict,
        },
    )
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let number = || prop::option::of((0u32..=4).prop_map(|n| f64::from(n) / 4.0));
    (number(), number(), prop::option::of(any::<u32>()), prop::collection::vec(text(), 0..3))
        .prop_map(|(temperature, top_p, top_k, stop)| Sampling {
            temperature,
            top_p,
            top_k,
            stop,
            ..Sampling::default()
        })
}

fn ask() -> impl Strategy<Value = ReasoningAsk> {
    let effort =
        select(vec![Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh, Effort::Max]);
    let shown = prop::option::of(any::<bool>());
    (prop::option::of(effort), prop::option::of(1_024u64..4_000), shown, 0..3).prop_map(
        |(effort, budget_tokens, shown, kind)| match kind {
            0 => ReasoningAsk::default(),
            1 => ReasoningAsk { effort: Some(Effort::Off), ..ReasoningAsk::default() },
            _ => ReasoningAsk { effort, budget_tokens, adaptive: budget_tokens.is_none(), shown },
        },
    )
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let history = any::<bool>().prop_flat_map(|signed| (Just(signed), messages(signed)));
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        id().prop_map(|name| ToolChoice::Named { name }),
    ];
    let tools = (prop::collection::vec(tool(), 0..3), choice, prop::option::of(any::<bool>()));
    let shape = any::<bool>().prop_map(|shaped| match shaped {
        false => OutputShape::Text,
        true => OutputShape::JsonSchema {
            name: "output".to_owned(),
            schema: json!({ "type": "object" }),
            strict: Some(true),
        },
    });
    let wishes = prop::collection::vec((any::<usize>(), any::<bool>()), 0..4);
    (history, tools, sampling(), 4_000u64..9_000, shape, ask(), wishes).prop_map(
        |(
            (signed, messages),
            (tools, choice, parallel),
            sampling,
            cap,
            output_shape,
            reasoning,
            wishes,
        )| {
            let tool_choice = if tools.is_empty() { ToolChoice::Auto } else { choice };
            let silent = tools.is_empty() || tool_choice == ToolChoice::None;
            let free = matches!(tool_choice, ToolChoice::Auto | ToolChoice::None);
            let unmarked = Conversation {
                messages,
                tools,
                parallel_tool_calls: parallel.filter(|_| !silent),
                tool_choice,
                sampling,
                output_cap: Some(cap),
                output_shape,
                reasoning: if signed && free { reasoning } else { ReasoningAsk::default() },
                ..Conversation::default()
            };
            marked(unmarked, &wishes, true)
        },
    )
}

/// A history of tool calls that grows by one message at a time.
fn history() -> Vec<Message> {
    let mut history = vec![Message::text(Role::System, "be brief")];
    for turn in 0..12 {
        history.push(Message::text(Role::User, format!("turn {turn}")));
        let calls = (0..2).map(|call| {
            let (id, name) = (format!("call:{turn}/{call}"), "find".to_owned());
            Part::ToolCall(ToolCall { id, name, arguments: format!("{{\"n\": {turn}}}") })
        });
        let signed = Part::Reasoning {
            text: format!("thought {turn}"),
            signature: Some(format!("sig{turn}")),
            redacted: false,
            origin: Some("anthropic_messages".to_owned()),
        };
        let parts = std::iter::once(signed).chain(calls).collect();
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
    for format in [&ANTHROPIC_MESSAGES as &dyn Format, &OPENAI_CHAT] {
        let history = history();
        let body = |length: usize| {
            let schema = Some(json!({ "type": "object" }));
            let tool = ToolDefinition {
                name: "find".to_owned(),
                description: None,
                parameters: schema,
                strict: None,
            };
            let messages = history[..length].to_vec();
            let conversation =
                Conversation { messages, tools: vec![tool], ..Conversation::default() };
            let edits = Edits { model: "m", ..Edits::default() };
            format.render_request(&conversation, &edits).unwrap().body
        };
        let field = |body: &Bytes, name: &str| {
            TopLevel::read(body).unwrap().raw(name).map(|raw| raw.get().to_owned())
        };
        for length in 2..history.len() {
            let (before, after) = (body(length), body(length + 1));
            for fixed in ["system", "tools"] {
                assert_eq!(field(&before, fixed), field(&after, fixed));
            }
            let messages = field(&before, "messages").unwrap();
            // A result may join the message before it, which is then still open.
            let open = messages.trim_end_matches([']', '}']);
            assert!(field(&after, "messages").unwrap().starts_with(open), "{}", format.name());
        }
    }
}

proptest! {
    #[test]
    fn what_is_rendered_is_parsed_back(conversation in conversation(), stream in any::<bool>()) {
        let edits = Edits { model: "m", stream, ..Edits::default() };
        let rendered = render(&conversation, &edits).unwrap();
        prop_assert_eq!(rendered.dropped, Vec::<String>::new());
        let head = read_head(&rendered.body);
        let head = head.map_err(|failure| TestCaseError::fail(failure.to_string()))?;
        prop_assert_eq!(head.stream, stream);
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
    fn any_blocks_are_read_or_refused(block in r#"\{("(type|content|source|text|input|id)":("text"|"image"|"document"|"tool_result"|\[\]|\{\}|null|1|\[\{"type":"image"\}\]),){0,4}"z":1\}"#) {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{block}]}}]}}"#);
        let _parsed = parse(body.as_bytes());
        let _read = read_head(body.as_bytes());
    }

    #[test]
    fn a_patched_request_differs_in_the_edited_fields_only(
        cap in prop::option::of(1u64..1_000_000),
        order in prop::collection::vec(0usize..4, 0..6),
    ) {
        let mut fields = vec![
            r#""model": "a/b""#.to_owned(),
            r#""messages" : [{"role":"user","content":"\"model\":"}]"#.to_owned(),
            r#""stream":true"#.to_owned(),
            r#""max_tokens": 5"#.to_owned(),
        ];
        for at in order {
            let field = fields.remove(at);
            fields.push(field);
        }
        let body = format!("{{{}}}", fields.join(" , "));
        let edits = Edits { model: "up", output_cap: cap, stream: true, request_usage: true, ..Edits::default() };
        let raw = Bytes::from(body.clone());
        let patched = patch(&raw, &read_head(&raw).unwrap(), &edits);
        let cap = cap.unwrap_or(5);
        let expected = body.replace("a/b", "up").replace(": 5", &format!(": {cap}"));
        prop_assert_eq!(std::str::from_utf8(&patched).unwrap(), expected);
    }
}
