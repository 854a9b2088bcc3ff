use super::*;

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.to_owned(), ..ChatMessage::default() }
}

#[test]
fn only_what_every_template_shows_counts_against_the_context() {
    let messages = [
        message("system", "  four "),
        message("user", "12345"),
        message("assistant", "what a template may leave out"),
        message("tool", "é"),
    ];
    assert_eq!(texts_bytes(&messages), 4 + 5 + 2);
}

#[test]
fn work_that_nobody_waits_for_is_not_gone_on_with() {
    let wanted = Wanted::new();
    let held_by_another = wanted.clone();
    assert!(wanted.check().is_ok());
    held_by_another.end();
    assert_eq!(wanted.check().unwrap_err().code, FailureCode::Cancelled);
}
