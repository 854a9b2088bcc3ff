use super::*;

#[test]
fn names_in_a_namespace_are_one_name_that_fits() {
    assert_eq!(flat_name("agents", "close"), "agents__close");
    assert_eq!(flat_name("mcp__docs__", "find"), "mcp__docs__find");
    let (long, other) =
        (flat_name("mcp__docs", &"a".repeat(64)), flat_name("mcp__docs", &"a".repeat(63)));
    assert_eq!(long.len(), NAME_BYTES_MAX);
    assert_ne!(long, other);
    assert_eq!(long, flat_name("mcp__docs", &"a".repeat(64)));
}

#[test]
fn a_text_goes_through_its_arguments() {
    for text in ["", "*** Begin Patch\n+\"\u{e9}\"\n", "{\"input\": 1}"] {
        assert_eq!(input_of(&arguments_of(text)), text);
    }
    // A model that wrote the text itself, or something else.
    assert_eq!(input_of("*** Begin Patch"), "*** Begin Patch");
    assert_eq!(input_of("{\"n\":1}"), "{\"n\":1}");
}

#[test]
fn what_is_echoed_says_how_calls_are_shown() {
    let tools = json!([
        { "type": "function", "name": "f" },
        { "type": "custom", "name": "apply_patch" },
        { "type": "namespace", "name": "agents", "tools": [{ "type": "function", "name": "close" }] },
        { "type": "mcp", "server_label": "notes" },
    ]);
    let (namespace, name) = ("agents".to_owned(), "close".to_owned());
    let expected = [
        ("apply_patch".to_owned(), ShownAs::Custom),
        ("agents__close".to_owned(), ShownAs::InNamespace { namespace, name }),
    ];
    assert_eq!(shown_of(&tools), expected);
    assert_eq!(called_name(&json!({ "name": "close", "namespace": "agents" })), "agents__close");
    assert_eq!(called_name(&json!({ "name": "f" })), "f");
}

#[test]
fn a_custom_tool_is_told_with_its_grammar() {
    let format = json!({ "type": "grammar", "syntax": "lark", "definition": "start: /a/" });
    let told = custom_function("p".to_owned(), Some("Patches."), Some(&format));
    let description = "Patches.\n\nThe text must follow this grammar (lark):\nstart: /a/";
    assert_eq!(told.description.as_deref(), Some(description));
    assert_eq!(custom_function("p".to_owned(), None, None).description, None);
}
