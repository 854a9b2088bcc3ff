//! What holds for every request.

use ::types::conversation::{
    Effort, Message, OutputShape, Part, ReasoningAsk, Role, Sampling, ToolCall, ToolChoice,
    ToolDefinition,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::marks::testing::marked;

fn text() -> impl Strategy<Value = String> {
    "x[a-zé\"\\\\\n ]{0,12}"
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,8}"
}

fn media() -> impl Strategy<Value = Part> {
    let of = |kind: &str, url: &str, name: Option<String>| Part::Media {
        kind: kind.to_owned(),
        url: Some(url.to_owned()),
        name,
        source: Value::Null,
    };
    let inline = select(vec![
        ("image", "data:image/png;base64,AAAA"),
        ("image", "data:image/webp;base64,AAAA"),
        ("video", "data:video/mp4;base64,AAAA"),
    ]);
    let file = select(vec!["data:application/pdf;base64,JVBE", "data:text/csv;base64,AAAA"]);
    prop_oneof![
        inline.prop_map(move |(kind, url)| of(kind, url, None)),
        (file, "[a-z]{8}[a-z0-9 ]{0,4}[()-]").prop_filter_map("two spaces", move |(url, name)| {
            (!name.contains("  ")).then(|| of("file", url, Some(name)))
        }),
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
        origin: Some("bedrock_converse".to_owned()),
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

/// Histories that Converse can tell apart: roles take turns there, documents have names of their
/// own, and results stand before what a user says with them.
fn messages(signed: bool) -> impl Strategy<Value = Vec<Message>> {
    prop::collection::vec(message(signed), 0..6).prop_map(|list| {
        let wire = |role| if role == Role::Tool { Role::User } else { role };
        let mut kept: Vec<Message> = Vec::new();
        for message in list {
            let before = kept.last().map(|last| last.role);
            let joins = before.map(wire) == Some(wire(message.role));
            if !joins || (before == Some(Role::Tool) && message.role == Role::User) {
                kept.push(message);
            }
        }
        let mut number = 0;
        for part in kept.iter_mut().flat_map(|message| &mut message.parts) {
            number_names(part, &mut number);
        }
        kept
    })
}

fn number_names(part: &mut Part, number: &mut usize) {
    match part {
        Part::Media { name: Some(name), .. } => {
            *number += 1;
            name.push_str(&number.to_string());
        }
        Part::ToolResult { parts, .. } => {
            parts.iter_mut().for_each(|part| number_names(part, number));
        }
        _ => {}
    }
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
        Just(ToolChoice::Required),
        id().prop_map(|name| ToolChoice::Named { name }),
    ];
    let tools = (prop::collection::vec(tool(), 0..3), choice);
    let shape = prop::option::of(id()).prop_map(|name| match name {
        None => OutputShape::Text,
        Some(name) => OutputShape::JsonSchema {
            name,
            schema: json!({ "type": "object", "properties": { "é": { "const": 1.5 } } }),
            strict: Some(true),
        },
    });
    let cap = prop::option::of(4_000u64..9_000);
    let wishes = prop::collection::vec((any::<usize>(), any::<bool>()), 0..4);
    (history, tools, sampling(), cap, shape, (ask(), wishes)).prop_map(
        |(
            (signed, messages),
            (tools, choice),
            sampling,
            output_cap,
            output_shape,
            (reasoning, wishes),
        )| {
            let tool_choice = if tools.is_empty() { ToolChoice::Auto } else { choice };
            let free = tool_choice == ToolChoice::Auto;
            let unmarked = Conversation {
                messages,
                tools,
                tool_choice,
                sampling,
                output_cap,
                output_shape,
                reasoning: if signed && free { reasoning } else { ReasoningAsk::default() },
                ..Conversation::default()
            };
            marked(unmarked, &wishes, false)
        },
    )
}

/// A history of tool calls that grows by one message at a time.
fn history() -> Vec<Message> {
    let mut history = vec![Message::text(Role::System, "be brief")];
    for turn in 0..12 {
        let document = Part::Media {
            kind: "file".to_owned(),
            url: Some("data:application/pdf;base64,JVBE".to_owned()),
            name: (turn % 2 == 0).then(|| "report.pdf".to_owned()),
            source: Value::Null,
        };
        let asked = vec![Part::text(format!("turn {turn}")), document];
        history.push(Message { role: Role::User, parts: asked });
        let calls = (0..2).map(|call| {
            let (id, name) = (format!("call/{turn}/{call}"), "find".to_owned());
            Part::ToolCall(ToolCall { id, name, arguments: format!("{{\"n\": {turn}}}") })
        });
        let signed = Part::Reasoning {
            text: format!("thought {turn}"),
            signature: Some(format!("sig{turn}")),
            redacted: false,
            origin: Some("bedrock_converse".to_owned()),
        };
        let parts = std::iter::once(signed).chain(calls).collect();
        history.push(Message { role: Role::Assistant, parts });
        for call in 0..2 {
            let part = Part::tool_result(format!("call/{turn}/{call}"), "found", false);
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
    let history = history();
    let body = |length: usize| {
        let tool = ToolDefinition {
            name: "find".to_owned(),
            description: None,
            parameters: Some(json!({ "type": "object" })),
            strict: None,
        };
        let messages = history[..length].to_vec();
        let conversation = Conversation { messages, tools: vec![tool], ..Conversation::default() };
        render(&conversation, &Edits { model: CLAUDE, ..Edits::default() }).unwrap().body
    };
    let field = |body: &Bytes, name: &str| {
        TopLevel::read(body).unwrap().raw(name).map(|raw| raw.get().to_owned())
    };
    for length in 2..history.len() {
        let (before, after) = (body(length), body(length + 1));
        for fixed in ["system", "toolConfig"] {
            assert_eq!(field(&before, fixed), field(&after, fixed));
        }
        let messages = field(&before, "messages").unwrap();
        // What comes may join the message before it, which is then still open.
        let open = messages.trim_end_matches([']', '}']);
        assert!(field(&after, "messages").unwrap().starts_with(open), "{length}");
    }
}

proptest! {
    #[test]
    fn what_is_rendered_is_parsed_back(conversation in conversation(), stream in any::<bool>()) {
        let edits = Edits { model: CLAUDE, stream, ..Edits::default() };
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
    }

    #[test]
    fn any_blocks_are_read_or_refused(block in r#"\{("(text|image|document|toolUse|toolResult|reasoningContent|guardContent|cachePoint|json|video|searchResult|content|source)":("text"|\[\]|\{\}|null|1|\[\{"image":\{\}\}\]|\{"content":\[\{"text":"x"\}\]\}|\{"source":\{"bytes":"AA"\},"format":"png"\})){0,2}\}"#) {
        for role in ["user", "assistant"] {
            let body = format!(r#"{{"messages":[{{"role":"{role}","content":[{block}]}}]}}"#);
            let _parsed = parse(body.as_bytes());
            let _read = read_head(body.as_bytes());
        }
    }

    #[test]
    fn a_patched_request_differs_in_the_cap_only(
        cap in 1u64..1_000_000,
        config in select(vec![
            None,
            Some("{}"),
            Some("null"),
            Some(r#"{"temperature":  1}"#),
            Some(r#"{"maxTokens": 5}"#),
            Some(r#"{"topP" : 0.5, "maxTokens":7 ,"stopSequences":["maxTokens"]}"#),
        ]),
        first in any::<bool>(),
    ) {
        let messages = r#""messages" : [{"role":"user","content":[{"text":"\"maxTokens\":5"}]}]"#;
        let config = config.map(|config| format!(r#""inferenceConfig" : {config}"#));
        let mut fields = vec![messages.to_owned()];
        fields.extend(config);
        if first {
            fields.reverse();
        }
        let raw = Bytes::from(format!("{{ {} }}", fields.join(" , ")));
        let edits = Edits { model: "up", output_cap: Some(cap), ..Edits::default() };
        let patched = patch(&raw, &read_head(&raw).unwrap(), &edits);
        prop_assert!(patched.windows(messages.len()).any(|part| part == messages.as_bytes()));
        let mut expected = parse(&raw).unwrap();
        expected.output_cap = Some(cap);
        prop_assert_eq!(parse(&patched).unwrap(), expected);
        prop_assert_eq!(read_head(&patched).unwrap().output_cap, Some(cap));
    }
}
