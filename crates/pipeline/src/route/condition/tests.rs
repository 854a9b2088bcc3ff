//! What an expression may be, and what it comes to.

use types::Money;

use super::*;
use crate::route::facts::BudgetLeft;
use crate::route::testing::call;

mod fuzz;

fn wrong(text: &str) -> String {
    Condition::compile(text).unwrap_err().to_string()
}

fn holds(text: &str) -> Result<bool, Unknown> {
    let call = call(&["a/m"], r#"{"team":"harbor","n":2,"beta":true,"none":null}"#);
    let left = BudgetLeft { amount: Money::parse("1.50").unwrap(), percent: 20 };
    let condition = Condition::compile(text).unwrap();
    let lately = [Lately { target: "a/m", failure_percent: 25, latency_ms: 800 }];
    let now = Now { cooling: &["a/cold"], burning: &["fast"], lately: &lately };
    condition.holds(&Facts::new(&call, Some(left)), now)
}

#[test]
fn facts_of_a_call_can_be_asked_for() {
    for text in [
        "class == 'batch'",
        "door == 'openai_chat'",
        "metadata.team == 'harbor' && metadata.n > 1 && metadata.beta && metadata.none == null",
        "'team' in metadata && !('other' in metadata)",
        "has(metadata.team) && !has(metadata.other)",
        "key == 'ci' && user == 'ada' && !admin && !session",
        "hour == 23 && weekday == 6",
        "budget_left_microusd == 1500000 && budget_left_percent <= 20",
        "'a/cold' in cooling && !('a/m' in cooling)",
        "cooling.exists(name, name.startsWith('a/'))",
        "'fast' in burning && !('slow' in burning)",
        "failure_percent['a/m'] == 25 && latency_ms['a/m'] > 500",
        "'a/m' in latency_ms && !('b/m' in latency_ms)",
        "operation == '' && size(media_kinds) == 0 && !('image' in media_kinds)",
        "!stream && !has_tools && size(tool_names) == 0 && effort == '' && !wants_schema",
        "output_cap == 0 && body_bytes == 0 && input_tokens == 0 && media == 0",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
    assert_eq!(holds("class == 'interactive'"), Ok(false));
    assert_eq!(holds("failure_percent['b/m'] < 50"), Err(Unknown::Absent));
}

#[test]
fn what_can_not_be_known_is_told_apart() {
    assert_eq!(holds("metadata.other == 'x'"), Err(Unknown::Absent));
    assert_eq!(holds("metadata.team > 3"), Err(Unknown::Failed));
    assert_eq!(holds("metadata.team"), Err(Unknown::Failed), "a text is no yes");
    assert_eq!(holds("cooling[7] == 'x'"), Err(Unknown::Failed));
}

#[test]
fn mistakes_are_found_when_it_is_configured() {
    let unknown = wrong("class == 'batch' && teem == 'harbor'");
    assert!(unknown.starts_with("line 1, column 21: there is no \"teem\"; there are: admin, "));
    assert_eq!(wrong("size(tool_names)"), "must come to true or false");
    assert!(wrong("class ==").starts_with("line 1, column "), "{}", wrong("class =="));
    assert!(wrong("class.matches('a+')").contains("there is no function \"matches\""));
    assert!(wrong("class > 3").contains("overload"), "{}", wrong("class > 3"));
    assert!(wrong("").starts_with("line 1"), "{}", wrong(""));
    let nested = "tool_names.exists(a, tool_names.exists(b, a == b))";
    assert!(wrong(nested).contains("at most 4 loops, none in another"), "{}", wrong(nested));
    let long = format!("class == '{}'", "x".repeat(EXPRESSION_CHARS_MAX));
    assert_eq!(wrong(&long), "must have at most 1024 characters");
    let deep = format!("hour{} == 1", "+1".repeat(100));
    assert_eq!(wrong(&deep), "is more than 24 operators deep");
}

/// On the stack of a test's thread, which is that of a server's.
#[test]
fn the_largest_of_each_shape_is_taken_or_refused() {
    let shapes = [
        format!("{}true{}", "(".repeat(16), ")".repeat(16)),
        format!("{}true", "!".repeat(NODES_MAX)),
        format!("{}1 == 1", "-".repeat(NODES_MAX)),
        format!("hour{} == 1", "+1".repeat(NODES_MAX)),
        format!("{}true{}", "true ? ".repeat(NODES_MAX / 2), " : true".repeat(NODES_MAX / 2)),
        format!("true{}", "?true:true".repeat(NODES_MAX / 2)),
        format!("true{}", "&&true".repeat(NODES_MAX / 2)),
        format!("true{}", "||true".repeat(NODES_MAX / 2)),
        format!("true{}", "==true".repeat(NODES_MAX / 2)),
        format!("metadata{} == 1", ".a".repeat(NODES_MAX)),
        format!("metadata{} == 1", "[0]".repeat(NODES_MAX)),
        format!("{}1{} == 1", "[".repeat(16), "]".repeat(16)),
        format!("'{}' == class", "(".repeat(500)),
    ];
    for text in shapes {
        if let Ok(condition) = Condition::compile(&text) {
            let call = call(&["a/m"], "{}");
            let _either = condition.holds(&Facts::new(&call, None), Now::default());
        }
    }
}

#[test]
fn every_variable_has_its_own_name_and_place() {
    for (place, (name, variable)) in Variable::ALL.iter().enumerate() {
        assert_eq!((variable.name(), Variable::named(name)), (*name, Some(*variable)));
        assert_eq!(*variable as usize, place);
    }
}

#[test]
fn it_is_kept_as_it_was_written() {
    let condition: Condition = serde_json::from_str(r#""class == 'a'""#).unwrap();
    assert_eq!(serde_json::to_string(&condition).unwrap(), r#""class == 'a'""#);
    assert!(serde_json::from_str::<Condition>(r#""clas == 'a'""#).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]

    /// Whatever is written: it is taken or refused, and comes to something.
    #[test]
    fn no_expression_takes_the_server_down(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "class", "metadata", ".team", "tool_names", ".exists(a, ", "a", "==", "&&", "||", "!", "-", "1", "'x'", "\"",
                "(", ")", "[", "]", "{", "}", "?", ":", "in", "has(", ",", "size(", "\\", "ü", "1e999", "0x", "b'\\xff'", " ",
            ]),
            0..24,
        ),
    ) {
        if let Ok(condition) = Condition::compile(&words.concat()) {
            let call = call(&["a/m"], r#"{"team":"harbor"}"#);
            let _either = condition.holds(&Facts::new(&call, None), Now { cooling: &["a/m"], ..Now::default() });
        }
    }
}
