use types::conversation::ToolCall;

use super::*;

const FORMAT: &str = "anthropic_messages";

fn account(name: &str) -> Arc<str> {
    Arc::from(name)
}

fn say(watch: &mut Watch, deltas: impl IntoIterator<Item = Delta>) {
    for delta in deltas {
        watch.see(&OutcomeEvent::Frame { raw: None, delta: Some(delta) });
    }
}

fn thought(text: &str) -> Delta {
    Delta::Reasoning { text: text.to_owned() }
}

fn signed(signature: &str, redacted: bool) -> Delta {
    Delta::ReasoningSignature {
        signature: signature.to_owned(),
        redacted,
        origin: FORMAT.to_owned(),
    }
}

fn text(text: &str) -> Delta {
    Delta::Text { text: text.to_owned() }
}

fn call(index: u32, id: &str) -> Delta {
    Delta::ToolCallStart { index, id: id.to_owned(), name: "f".to_owned() }
}

fn called(id: &str) -> Part {
    Part::ToolCall(ToolCall { id: id.to_owned(), name: "f".to_owned(), arguments: "{}".to_owned() })
}

fn reasoning(text: &str, signature: &str, redacted: bool) -> Part {
    Part::Reasoning {
        text: text.to_owned(),
        signature: Some(signature.to_owned()),
        redacted,
        origin: Some(FORMAT.to_owned()),
    }
}

fn assistant(parts: Vec<Part>) -> Conversation {
    let user = Message::text(Role::User, "hi");
    let messages = vec![user, Message { role: Role::Assistant, parts }];
    Conversation { messages, ..Conversation::default() }
}

fn told() -> Vault {
    let vault = Vault::default();
    let mut watch = vault.watch(&account("a"));
    say(
        &mut watch,
        [thought("h"), thought("m"), signed("s1", false), text("I look."), call(0, "c1")],
    );
    say(&mut watch, [signed("s2", true), call(1, "c2"), call(2, "c3")]);
    vault
}

#[test]
fn what_a_client_dropped_stands_again_where_it_stood() {
    let dropped = assistant(vec![Part::text("I look."), called("c1"), called("c2"), called("c3")]);
    let whole = told().complete(&account("a"), FORMAT, &dropped).unwrap();
    let expected = vec![
        reasoning("hm", "s1", false),
        Part::text("I look."),
        called("c1"),
        reasoning("", "s2", true),
        called("c2"),
        called("c3"),
    ];
    assert_eq!(whole.messages[1].parts, expected);
    assert_eq!(whole.messages[0], dropped.messages[0]);
}

#[test]
fn nobody_else_gets_it_and_no_other_format() {
    let vault = told();
    let dropped = assistant(vec![called("c1")]);
    assert!(vault.complete(&account("a"), FORMAT, &dropped).is_some());
    assert_eq!(vault.complete(&account("b"), FORMAT, &dropped), None);
    assert_eq!(vault.complete(&account("a"), "gemini", &dropped), None);
    assert_eq!(vault.complete(&account("a"), FORMAT, &assistant(vec![called("other")])), None);
}

#[test]
fn what_a_client_sent_itself_stays() {
    let sent = assistant(vec![reasoning("edited", "s9", false), called("c1")]);
    assert_eq!(told().complete(&account("a"), FORMAT, &sent), None);
}

#[test]
fn reasoning_that_nobody_signed_or_that_is_too_long_is_not_kept() {
    let vault = Vault::default();
    let mut watch = vault.watch(&account("a"));
    say(&mut watch, [thought("unsigned"), call(0, "c1")]);
    let long = "x".repeat(ENTRY_BYTES_MAX);
    say(&mut watch, [thought(&long), thought("y"), signed("s", false), call(1, "c2")]);
    let dropped = assistant(vec![called("c1"), called("c2")]);
    assert_eq!(vault.complete(&account("a"), FORMAT, &dropped), None);
}

#[test]
fn what_is_kept_of_all_is_bounded() {
    let vault = Vault::default();
    let half = "x".repeat(ENTRY_BYTES_MAX / 2);
    for n in 0..300 {
        let mut watch = vault.watch(&account("a"));
        say(&mut watch, [thought(&half), signed("s", false), call(0, &format!("c{n}"))]);
    }
    vault.entries.run_pending_tasks();
    assert!(vault.entries.weighted_size() <= BYTES_MAX);
    assert!(vault.entries.entry_count() > 50);
}
