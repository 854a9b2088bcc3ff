use std::sync::Arc;

use engine::protocol::ToolCall;
use types::clock::FakeClock;

use super::*;

/// Room for every prompt of these tests.
const BYTES_MAX: usize = 1_024;

fn template(source: Option<&str>) -> Template {
    let clock = Arc::new(FakeClock::new(types::Timestamp::from_millis(1_793_534_706_000)));
    let source = source.map(str::to_owned);
    Template::new(source, "<s>".to_owned(), "</s>".to_owned(), clock).unwrap()
}

fn user(content: &str) -> ChatMessage {
    ChatMessage { role: "user".to_owned(), content: content.to_owned(), ..ChatMessage::default() }
}

fn render(source: &str, messages: &[ChatMessage]) -> String {
    template(Some(source)).render(messages, &[], BYTES_MAX).unwrap().unwrap()
}

#[test]
fn tojson_is_pythons() {
    let source = r#"{{ messages[0].tool_calls[0].function.arguments | tojson }}|{{ [1.5, "é", []] | tojson(indent=2) }}"#;
    let call = ToolCall {
        id: "c".to_owned(),
        name: "f".to_owned(),
        arguments: r#"{"b":1,"a":["x","<&'\n"],"o":{}}"#.to_owned(),
    };
    let message = ChatMessage { tool_calls: vec![call], ..user("") };
    let expected = "{\"b\": 1, \"a\": [\"x\", \"<&'\\n\"], \"o\": {}}|[\n  1.5,\n  \"é\",\n  []\n]";
    assert_eq!(render(source, &[message]), expected);
}

#[test]
fn pythons_methods_and_blocks_are_trimmed_as_transformers_does() {
    let source = "{% for m in messages %}\n  {% if m.content.startswith('a') %}\n{{ m.content.strip().split(' ')[-1] }}\n  {% endif %}\n{% endfor %}";
    assert_eq!(render(source, &[user("a b "), user("c")]), "b\n");
}

#[test]
fn what_a_template_raises_is_a_failure_that_says_so() {
    let source = "{{ raise_exception('roles must alternate') }}";
    let failure = template(Some(source)).render(&[user("x")], &[], BYTES_MAX).unwrap_err();
    assert_eq!(failure.code, FailureCode::TemplateFailed);
    assert!(failure.message.contains("roles must alternate"), "{}", failure.message);
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let source = "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}";
    assert!(template(Some(source)).render(&[user("x")], &[], BYTES_MAX).is_err());
}

#[test]
fn a_prompt_that_is_too_long_is_given_up_while_it_is_written() {
    let template = template(Some(
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ raise_exception('the end is reached') }}",
    ));
    let messages = [user("1234"), user("5678")];
    let failure = template.render(&messages, &[], 8).unwrap_err();
    assert_eq!(failure.code, FailureCode::TemplateFailed);
    assert_eq!(template.render(&messages, &[], 7), Ok(None));
}

#[test]
fn dates_are_pythons() {
    let source = "{{ strftime_now('%d %b %Y %A %-d %H:%M:%S %y%%') }}";
    assert_eq!(render(source, &[]), "01 Nov 2026 Sunday 1 12:05:06 26%");
}

#[test]
fn without_a_template_chatml_is_used_and_grows_by_appending() {
    let template = template(None);
    let tool =
        Tool { name: "f".to_owned(), description: Some("does f".to_owned()), parameters: None };
    let first = template.render(&[user("hi")], std::slice::from_ref(&tool), BYTES_MAX);
    let first = first.unwrap().unwrap();
    let answer = ChatMessage { role: "assistant".to_owned(), ..user("hello") };
    let second = template.render(&[user("hi"), answer, user("again")], &[tool], BYTES_MAX);
    let second = second.unwrap().unwrap();
    assert!(second.starts_with(&format!("{first}hello<|im_end|>\n")), "{first}\n---\n{second}");
    assert!(first.contains("<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"f\""));
}
