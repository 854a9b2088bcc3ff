use types::conversation::{Message, Part, Role, ToolDefinition};

use super::*;
use crate::family::{family, lacks};
use crate::vendor::vendor;

fn tool() -> ToolDefinition {
    ToolDefinition { name: "f".to_owned(), description: None, parameters: None, strict: None }
}

fn part(message: usize, part: usize) -> MarkPlace {
    MarkPlace::Part { message, part }
}

/// A tool, a system prompt and a message of four parts, all of it marked: six places and the end.
fn asked(life: CacheLife) -> Conversation {
    let system = Message::text(Role::System, "s");
    let parts = ["a", "b", "c", "d"].map(Part::text).into();
    let places = [
        MarkPlace::Tool(0),
        part(0, 0),
        part(1, 0),
        part(1, 1),
        part(1, 2),
        part(1, 3),
        MarkPlace::End,
    ];
    Conversation {
        messages: vec![system, Message { role: Role::User, parts }],
        tools: vec![tool()],
        marks: places.map(|place| CacheMark { place, life }).into(),
        ..Conversation::default()
    }
}

fn told(vendor_name: &str, model: &str, asked: &Conversation) -> (Vec<CacheMark>, Vec<String>) {
    let row = vendor(vendor_name).unwrap();
    let family = family(vendor_name, model);
    let fitted = fit_marks(row.format().name(), &row.quirks, family, asked);
    assert_eq!(fitted.conversation.messages, asked.messages);
    (fitted.conversation.marks.clone(), fitted.dropped)
}

#[test]
fn of_too_many_marks_the_newest_stay_and_the_others_are_named() {
    let asked = asked(CacheLife::Hour);
    for (vendor, model) in [
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "nobody-knows"),
        ("bedrock", "eu.anthropic.claude-sonnet-4-6-v1:0"),
        ("openrouter", "anthropic/claude-opus-4.5"),
        ("vercel", "anthropic/claude-opus-4.5"),
    ] {
        let (marks, dropped) = told(vendor, model, &asked);
        assert_eq!(marks, asked.marks[3..], "{vendor}");
        let lost =
            ["tools.cache_control", "system.cache_control", "messages.content.cache_control"];
        assert_eq!(dropped, lost, "{vendor}");
        assert!(!lacks(vendor, model).cache_marks, "{vendor}");
    }
    let few = Conversation { marks: asked.marks[..4].to_vec(), ..asked };
    assert_eq!(told("bedrock", "anthropic.claude-zeta-9", &few), (few.marks.clone(), vec![]));
}

#[test]
fn a_model_that_keeps_less_is_told_less() {
    let (marks, dropped) = told("bedrock", "us.amazon.nova-pro-v1:0", &asked(CacheLife::Hour));
    assert!(marks.iter().all(|mark| mark.life == CacheLife::Minutes), "{marks:?}");
    assert_eq!(marks.len(), 4);
    assert!(dropped.contains(&"tools.cache_control".to_owned()), "{dropped:?}");
    assert_eq!(dropped.last().unwrap(), "cache_control.ttl");
    let tool = CacheMark { place: MarkPlace::Tool(0), life: CacheLife::Minutes };
    let of_tool = Conversation { marks: vec![tool], ..asked(CacheLife::Minutes) };
    let lost = vec!["tools.cache_control".to_owned()];
    assert_eq!(told("bedrock", "amazon.nova-lite-v1:0", &of_tool), (vec![], lost));
}

#[test]
fn whoever_has_no_word_for_marks_or_may_refuse_them_is_told_none() {
    let asked = asked(CacheLife::Minutes);
    for (vendor, model) in [
        ("openai", "gpt-5.2"),
        ("gemini", "gemini-3-pro"),
        ("openai-responses", "gpt-5.2"),
        ("openrouter", "deepseek/deepseek-chat"),
        ("bedrock", "arn:aws:bedrock:eu-central-1:1:application-inference-profile/abc"),
        ("bedrock", "openai.gpt-oss-120b-1:0"),
    ] {
        let (marks, dropped) = told(vendor, model, &asked);
        assert_eq!((marks, dropped.len()), (vec![], 4), "{vendor}");
        assert!(lacks(vendor, model).cache_marks, "{vendor}");
    }
}
