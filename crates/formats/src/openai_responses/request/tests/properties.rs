//! What holds for every request that goes to a provider in this form and is read again.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use types::conversation::{
    Conversation, Effort, Message, OutputShape, Part, ReasoningAsk, Role, Sampling, ToolCall,
    ToolChoice, ToolDefinition,
};
use types::format::{Edits, Format};

use crate::OPENAI_RESPONSES;

fn text() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\\n ]{0,12}"
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,8}"
}

fn media() -> impl Strategy<Value = Part> {
    let part = |kind: &str, url: &str, name: Option<String>| Part::Media {
        kind: kind.to_owned(),
        url: Some(url.to_owned()),
        name,
        source: Value::Null,
    };
    prop_oneof![
        select(vec!["data:image/png;base64,AAAA", "https://x/y.png"])
            .prop_map(move |url| part("image", url, None)),
        id().prop_map(move |name| part("file", "data:application/pdf;base64,JVBE", Some(name))),
        Just(part("file", "https://x/y.pdf", None)),
    ]
}

fn said() -> impl Strategy<Value = Part> {
    prop_oneof![text().prop_map(Part::text), media()]
}

fn answered() -> impl Strategy<Value = Part> {
    let arguments =
        select(vec!["{}", "not JSON", r#"{"n":9007199254740993}"#, r#"{"a" : [1e2, "\u00e9"]}"#]);
    prop_oneof![
        text().prop_map(Part::text),
        text().prop_map(|text| Part::Refusal { text }),
        (text(), "[a-z]{1,8}").prop_map(|(text, signature)| Part::Reasoning {
            text,
            signature: Some(signature),
            redacted: false,
            origin: Some(super::super::super::NAME.to_owned()),
        }),
        (id(), id(), arguments).prop_map(|(id, name, arguments)| {
            Part::ToolCall(ToolCall { id, name, arguments: arguments.to_owned() })
        }),
    ]
}

fn result() -> impl Strategy<Value = Part> {
    // Text alone is one text.
    let parts = prop_oneof![
        text().prop_map(|text| vec![Part::text(text)]),
        (text(), media()).prop_map(|(text, media)| vec![Part::text(text), media]),
    ];
    (id(), parts).prop_map(|(call_id, parts)| Part::ToolResult { call_id, parts, is_error: false })
}

fn message() -> impl Strategy<Value = Message> {
    let of = |role| move |parts| Message { role, parts };
    prop_oneof![
        prop::collection::vec(said(), 1..3).prop_map(of(Role::User)),
        text().prop_map(|text| Message::text(Role::System, text)),
        text().prop_map(|text| Message::text(Role::Developer, text)),
        prop::collection::vec(answered(), 1..5).prop_map(of(Role::Assistant)),
        result().prop_map(|result| Message { role: Role::Tool, parts: vec![result] }),
    ]
}

/// Histories that items can tell apart: what the model said in a row is one message.
fn messages() -> impl Strategy<Value = Vec<Message>> {
    prop::collection::vec(message(), 0..7).prop_map(|mut list| {
        list.dedup_by(|next, last| (next.role, last.role) == (Role::Assistant, Role::Assistant));
        list
    })
}

fn tools() -> impl Strategy<Value = Vec<ToolDefinition>> {
    let tool =
        (id(), prop::option::of(text()), any::<bool>()).prop_map(|(name, description, strict)| {
            ToolDefinition {
                name,
                description,
                parameters: Some(json!({ "type": "object", "properties": { "x": [1, null] } })),
                strict: Some(strict),
            }
        });
    prop::collection::vec(tool, 0..3).prop_map(|mut tools| {
        tools.dedup_by(|next, last| next.name == last.name);
        tools
    })
}

fn output_shape() -> impl Strategy<Value = OutputShape> {
    let schema = json!({ "type": "object" });
    prop_oneof![
        Just(OutputShape::Text),
        Just(OutputShape::JsonObject),
        (id(), any::<bool>()).prop_map(move |(name, strict)| OutputShape::JsonSchema {
            name,
            schema: schema.clone(),
            strict: Some(strict),
        }),
    ]
}

fn reasoning() -> impl Strategy<Value = ReasoningAsk> {
    let efforts = select(vec![None, Some(Effort::Off), Some(Effort::Low), Some(Effort::High)]);
    (efforts, any::<bool>()).prop_map(|(effort, shown)| ReasoningAsk {
        effort,
        shown: shown.then_some(true),
        ..ReasoningAsk::default()
    })
}

const SETTINGS: [&str; 6] =
    ["prompt_cache_key", "safety_identifier", "user", "verbosity", "client_metadata", "metadata"];

fn conversation() -> impl Strategy<Value = Conversation> {
    let quarter = || prop::option::of((0u32..=4).prop_map(|n| f64::from(n) / 4.0));
    let asked = (reasoning(), output_shape(), quarter(), prop::option::of(1u64..99_999));
    let rest = prop::sample::subsequence(SETTINGS.to_vec(), 0..=SETTINGS.len());
    let choice = (0u8..4, prop::option::of(any::<bool>()));
    (messages(), tools(), asked, rest, choice).prop_map(
        |(messages, tools, (reasoning, output_shape, temperature, output_cap), rest, choice)| {
            let (choice, parallel_tool_calls) = choice;
            let tool_choice = match (choice, tools.first()) {
                (1, _) => ToolChoice::None,
                (2, Some(_)) => ToolChoice::Required,
                (3, Some(tool)) => ToolChoice::Named { name: tool.name.clone() },
                _ => ToolChoice::Auto,
            };
            let setting = |name: &str| match name {
                "metadata" | "client_metadata" => json!({ "a": "b" }),
                _ => json!("x"),
            };
            Conversation {
                messages,
                tools,
                tool_choice,
                parallel_tool_calls,
                sampling: Sampling { temperature, top_p: temperature, ..Sampling::default() },
                output_cap,
                output_shape,
                reasoning,
                rest: rest.into_iter().map(|name| (name.to_owned(), setting(name))).collect(),
                marks: Vec::new(),
            }
        },
    )
}

/// How closely a picture is to be looked at is said in its own shape, and read as such.
fn without_sources(mut conversation: Conversation) -> Conversation {
    let parts = conversation.messages.iter_mut().flat_map(|message| &mut message.parts);
    for part in parts {
        match part {
            Part::Media { source, .. } => *source = Value::Null,
            Part::ToolResult { parts, .. } => parts.iter_mut().for_each(|part| {
                if let Part::Media { source, .. } = part {
                    *source = Value::Null;
                }
            }),
            _ => {}
        }
    }
    conversation
}

proptest! {
    #[test]
    fn what_is_rendered_is_parsed_back(asked in conversation(), stream in any::<bool>()) {
        // Two tools of one name are refused.
        prop_assume!(asked.tools.len() < 2 || asked.tools[0].name != asked.tools[1].name);
        let edits = Edits { model: "m", stream, ..Edits::default() };
        let rendered = OPENAI_RESPONSES.render_request(&asked, &edits).unwrap();
        prop_assert!(rendered.dropped.is_empty(), "{:?}", rendered.dropped);
        let head = OPENAI_RESPONSES.read_head(&rendered.body).unwrap();
        prop_assert_eq!((head.stream, head.output_cap), (stream, asked.output_cap));
        let again = OPENAI_RESPONSES.parse_request(&rendered.body).unwrap();
        // What was read is said in the same bytes: a provider's cache knows them again.
        let twice = OPENAI_RESPONSES.render_request(&again, &edits).unwrap();
        let value = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();
        prop_assert_eq!(value(&twice.body), value(&rendered.body));
        prop_assert_eq!(value(&twice.body)["input"].to_string(), value(&rendered.body)["input"].to_string());
        prop_assert_eq!(without_sources(again), asked);
    }
}
