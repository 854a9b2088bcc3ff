//! How choices are written and read.

use serde_json::{Value, json};

use super::*;

fn read(value: Value) -> Result<Vec<Candidate>, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[test]
fn what_is_written_comes_back() {
    let written = json!([
        "a/m",
        { "model": "b/m", "weight": 3, "when": "class == 'batch'" },
        { "targets": ["a/m", { "model": "c/m", "weight": 1 }], "order": "price", "sticky": "metadata.team",
          "fallback": false, "weight": 2 },
    ]);
    let read = read(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), written);
    let choice = Choice { targets: read, ..Choice::default() };
    assert_eq!(choice.models(), ["a/m", "b/m", "c/m"]);
    assert!(!choice.is_plain());
    assert!(Choice::listed(["a/m", "b/m"]).is_plain());
}

#[test]
fn mistakes_are_named() {
    for (value, says) in [
        (json!([{}]), "needs either `model` or `targets`"),
        (json!([{ "model": "a/m", "targets": [] }]), "needs either `model` or `targets`"),
        (json!([{ "model": "a/m", "order": "price" }]), "belong beside `targets`"),
        (json!([{ "model": "a/m", "wieght": 1 }]), "unknown field `wieght`"),
        (json!([{ "model": "a/m", "when": "x" }]), "there is no \"x\""),
        (json!([{ "targets": ["a/m"], "sticky": "colour" }]), "must be session, user, key, task"),
        (json!([{ "targets": ["a/m"], "order": "colour" }]), "unknown variant `colour`"),
        (json!([7]), "a model's name, or a table"),
    ] {
        let said = read(value.clone()).unwrap_err();
        assert!(said.contains(says), "{value}: {said}");
    }
}
