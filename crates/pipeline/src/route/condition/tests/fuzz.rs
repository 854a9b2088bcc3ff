//! Conditions that nobody would write: whatever the text and the metadata are, compiling and
//! evaluating it ends, without a panic, and says the same each time.

use mutations::{changes, mutated};
use proptest::prelude::*;

use super::*;

#[path = "../../../../../../fuzz/src/mutations.rs"]
mod mutations;

/// Conditions that are right, each with metadata that it reads.
const SEEDS: [(&str, &str); 10] = [
    ("class == 'batch' && !(user in ['ada', 'bob'])", "{}"),
    ("metadata.team == 'h\u{fc}tte' || metadata.n >= 3", r#"{"team":"h\u00fctte","n":3}"#),
    ("has(metadata.a) && metadata.a * 9223372036854775807 > -1", r#"{"a":2}"#),
    ("metadata.n % 7 == 1 && metadata.n / 0 != 2", r#"{"n":-9223372036854775808}"#),
    ("-metadata.n > 0 || int(metadata.s) < 1", r#"{"n":-9223372036854775808,"s":"-1"}"#),
    ("'a/m' in cooling && cooling.exists(x, x.startsWith('a/'))", "{}"),
    ("tool_names.all(t, size(t) < 9) ? hour < 6 : weekday == 0", "{}"),
    ("string(metadata.f).contains('.') && double(metadata.s) > 1e308", r#"{"f":1.5,"s":"1e400"}"#),
    ("uint(metadata.n) > 1u && budget_left_percent < 10", r#"{"n":1e30}"#),
    ("[1, 2][metadata.n] == 2 || {'k': 1}[metadata.s] == 1", r#"{"n":1,"s":"k"}"#),
];
const WORDS: [&str; 26] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "-",
    "!",
    "!!!!!!!!!!!!!!!!!!",
    "((((((((((((((((((((((((((",
    "&&",
    "||",
    " in ",
    " ? 1 : ",
    ".",
    "'",
    "\"\"\"",
    "r'\\",
    "\\u{d800}",
    "9223372036854775808",
    "-0x8000000000000000",
    "1e999",
    "metadata.n",
    "b'\\xff'",
    ".map(x, x)",
    "\u{1f600}",
];

/// What it comes to, twice: `None` where it is refused.
fn evaluated(text: &str, metadata: &str) -> Option<[Result<bool, Unknown>; 2]> {
    let condition = Condition::compile(text).ok()?;
    let call = call(&["a/m"], metadata);
    let facts = Facts::new(&call, None);
    Some(
        [(); 2].map(|()| {
            condition.holds(&facts, Now { cooling: &["a/m"], burning: &[], lately: &[] })
        }),
    )
}

#[test]
fn each_seed_is_right() {
    for (text, metadata) in SEEDS {
        assert!(evaluated(text, metadata).is_some(), "{text}: {:?}", Condition::compile(text));
    }
}

proptest! {
    // A failure is a seed to be written down above, not a file beside the test.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conditions(number in 0..SEEDS.len(), of in 0..SEEDS.len(), changes in changes()) {
        let text = mutated(SEEDS[number].0.as_bytes(), &changes, &WORDS);
        let text = String::from_utf8_lossy(&text);
        if let Some([first, second]) = evaluated(&text, SEEDS[of].1) {
            prop_assert_eq!(first, second);
            let again = Condition::compile(&text).unwrap();
            prop_assert_eq!(again.text(), text);
        }
    }
}
