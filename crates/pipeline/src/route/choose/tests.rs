//! Which targets follow from a choice.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use types::Price;

use super::*;
use crate::route::testing::{call, ids};

/// Draws of a split that is counted.
const DRAWS: u32 = 4_000;

fn choice(targets: Value) -> Choice {
    Choice { targets: serde_json::from_value(targets).unwrap(), ..Choice::default() }
}

fn names(chosen: &Chosen) -> Vec<&str> {
    chosen.targets.iter().map(|target| &*target.name).collect()
}

fn chosen_of(call: &Call, choice: &Choice) -> Chosen {
    let (health, ids) = (Health::default(), ids(7));
    let world = World { health: &health, ids: &ids, slos: None, now: Duration::ZERO };
    chosen(&world, call, Some(choice), Facts::new(call, None))
}

fn first(call: &Call, choice: &Choice) -> String {
    names(&chosen_of(call, choice))[0].to_owned()
}

const ALL: &[&str] = &["a/m", "b/m", "c/m", "d/m"];

#[test]
fn conditions_leave_targets_out_and_say_so() {
    let choice = choice(json!([
        { "model": "a/m", "when": "class == 'interactive'" },
        { "model": "b/m", "when": "metadata.team == 'harbor'" },
        { "model": "c/m", "when": "metadata.n > 1" },
        "d/m",
    ]));
    let chosen = chosen_of(&call(ALL, r#"{"n":"two"}"#), &choice);
    assert_eq!((names(&chosen), chosen.failed), (vec!["d/m"], 1));
    assert_eq!(
        Value::Object(chosen.note),
        json!({ "left_out": { "a/m": "when", "b/m": "when: not in the metadata", "c/m": "when: can't be evaluated" } })
    );
    let chosen = chosen_of(&call(ALL, r#"{"team":"harbor","n":2}"#), &choice);
    assert_eq!((names(&chosen), chosen.failed), (vec!["b/m", "c/m", "d/m"], 0));
}

#[test]
fn only_the_first_branch_is_taken_without_fallback() {
    let branches = json!([
        { "targets": ["a/m", "b/m"], "when": "metadata.tier == 'paid'" },
        { "targets": ["c/m"] },
    ]);
    let choice = Choice { only_first: true, ..choice(branches) };
    let asked = |metadata: &str| names(&chosen_of(&call(ALL, metadata), &choice)).join(" ");
    assert_eq!(asked(r#"{"tier":"paid"}"#), "a/m b/m");
    assert_eq!(asked(r#"{"tier":"free"}"#), "c/m");
    assert_eq!(asked("{}"), "c/m", "what can't be known is a no");
}

#[test]
fn a_split_follows_its_weights_and_the_others_come_after() {
    let choice = choice(json!([
        "d/m",
        { "model": "a/m", "weight": 1 },
        { "model": "b/m", "weight": 3 },
        { "model": "c/m", "weight": 0 },
    ]));
    let call = call(ALL, "{}");
    let (health, ids) = (Health::default(), ids(11));
    let world = World { health: &health, ids: &ids, slos: None, now: Duration::ZERO };
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..DRAWS {
        let chosen = chosen(&world, &call, Some(&choice), Facts::new(&call, None));
        let names = names(&chosen);
        assert_eq!(names[2..], ["d/m", "c/m"], "without a share they stand as listed");
        *counts.entry(names[0].to_owned()).or_default() += 1;
    }
    // A quarter is 1,000; five standard deviations are 137.
    let a = counts["a/m"];
    assert!((863..=1_137).contains(&a) && counts["b/m"] == DRAWS - a, "{counts:?}");
}

#[test]
fn a_sticky_split_moves_only_to_the_target_that_joins() {
    let of = |targets: Value| Choice {
        sticky: Some(Sticky::Metadata("team".to_owned())),
        ..choice(targets)
    };
    let two = of(json!([{ "model": "a/m", "weight": 1 }, { "model": "b/m", "weight": 1 }]));
    let three = of(json!([
        { "model": "c/m", "weight": 1 }, { "model": "a/m", "weight": 1 }, { "model": "b/m", "weight": 1 },
    ]));
    let (mut moved, mut first_of_two) = (0, 0);
    for number in 0..DRAWS {
        let call = call(ALL, &format!(r#"{{"team":"t{number}"}}"#));
        let (before, after) = (first(&call, &two), first(&call, &three));
        assert_eq!(before, first(&call, &two), "the same key, the same target");
        assert!(after == before || after == "c/m", "{before} became {after}");
        moved += u32::from(after == "c/m");
        first_of_two += u32::from(before == "a/m");
    }
    // A third is 1,333; five standard deviations are 149. A half is 2,000; five are 158.
    assert!((1_184..=1_482).contains(&moved), "{moved}");
    assert!((1_842..=2_158).contains(&first_of_two), "{first_of_two}");
    let chosen = chosen_of(&call(ALL, r#"{"team":"x"}"#), &two);
    assert_eq!(chosen.note["by"], "sticky");
    assert_eq!(chosen_of(&call(ALL, "{}"), &two).note["by"], "weight", "nothing to stick to");
}

#[test]
fn the_cheapest_comes_first_at_the_calls_own_bound() {
    let mut call = call(ALL, "{}");
    let price = |dollars: &str| {
        let per_request = Money::parse(dollars).unwrap();
        Some(Arc::new(Price { per_request, ..Price::free("test@1") }))
    };
    let prices = [price("0.30"), price("0.10"), None, price("0.20")];
    let targets = call.plan.targets.iter().zip(prices);
    let targets =
        targets.map(|(target, price)| Arc::new(Target { price, ..Target::clone(target) }));
    call.plan = Arc::new(Plan { targets: targets.collect(), ..Plan::clone(&call.plan) });
    let choice = Choice { order: Order::Price, ..choice(json!(ALL)) };
    let chosen = chosen_of(&call, &choice);
    assert_eq!(names(&chosen), ["b/m", "d/m", "a/m", "c/m"], "what nobody knows is dearest");
    assert_eq!(chosen.note["by"], "price");
}

#[test]
fn the_fastest_comes_first_and_unknown_ones_are_tried_now_and_then() {
    let call = call(ALL, "{}");
    let choice = Choice { order: Order::Latency, ..choice(json!(ALL)) };
    let (health, ids) = (Health::default(), ids(3));
    let world = World { health: &health, ids: &ids, slos: None, now: Duration::from_secs(1) };
    let order = || names(&chosen(&world, &call, Some(&choice), Facts::new(&call, None))).join(" ");
    assert_eq!(order(), "a/m b/m c/m d/m", "nobody is known: as listed");
    for (target, millis) in [("a/m", 300), ("b/m", 100)] {
        let took = Duration::from_millis(millis);
        health.pace.answered(&Arc::from(target), false, took, Duration::from_secs(1));
    }
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..DRAWS {
        *counts.entry(order()).or_default() += 1;
    }
    // A thirty-second each is 125; five standard deviations are 55.
    let tried = [counts["c/m b/m a/m d/m"], counts["d/m b/m a/m c/m"]];
    assert!(tried.iter().all(|tried| (70..=180).contains(tried)), "{counts:?}");
    assert_eq!(counts["b/m a/m c/m d/m"], DRAWS - tried[0] - tried[1]);
}

#[test]
fn those_that_failed_lately_come_last() {
    let call = call(ALL, "{}");
    let choice = Choice { order: Order::Health, ..choice(json!(ALL)) };
    let (health, ids) = (Health::default(), ids(3));
    let now = Duration::from_secs(1);
    for target in ["a/m", "a/m", "c/m"] {
        health.pace.failed(&Arc::from(target), now);
    }
    let world = World { health: &health, ids: &ids, slos: None, now };
    let chosen = chosen(&world, &call, Some(&choice), Facts::new(&call, None));
    assert_eq!(names(&chosen), ["b/m", "d/m", "c/m", "a/m"]);
}

fn any_candidate() -> impl Strategy<Value = Value> {
    let when = prop_oneof![
        Just(None),
        Just(Some("metadata.n > 1")),
        Just(Some("class == 'batch'")),
        Just(Some("'x' in metadata"))
    ];
    let name = prop_oneof![Just("a/m"), Just("b/m"), Just("c/m"), Just("gone/m")];
    let leaf = (name, proptest::option::of(0_u32..5), when).prop_map(|(model, weight, when)| {
        let mut map = Map::from_iter([("model".to_owned(), json!(model))]);
        map.extend(weight.map(|weight| ("weight".to_owned(), json!(weight))));
        map.extend(when.map(|when| ("when".to_owned(), json!(when))));
        Value::Object(map)
    });
    leaf.prop_recursive(3, 24, 5, |inner| {
        let order = prop_oneof![Just("listed"), Just("price"), Just("latency"), Just("health")];
        (proptest::collection::vec(inner, 1..5), order, any::<bool>()).prop_map(
            |(targets, order, fallback)| {
                json!({ "targets": targets, "order": order, "fallback": fallback })
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the choice: nothing that is not in the plan, nothing twice, and the same again.
    #[test]
    fn nothing_is_chosen_that_is_not_in_the_route(
        targets in proptest::collection::vec(any_candidate(), 1..6),
        seed in any::<u64>(),
        n in 0..4,
    ) {
        let choice = choice(Value::Array(targets));
        let call = call(ALL, &format!(r#"{{"n":{n}}}"#));
        let (health, now) = (Health::default(), Duration::ZERO);
        let choose = || {
            let ids = ids(seed);
            let chosen = chosen(&World { health: &health, ids: &ids, slos: None, now }, &call, Some(&choice), Facts::new(&call, None));
            names(&chosen).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let once = choose();
        let models = choice.models();
        for (place, name) in once.iter().enumerate() {
            prop_assert!(models.contains(&name.as_str()) && name != "gone/m");
            prop_assert!(!once[..place].contains(name), "{once:?}");
        }
        prop_assert_eq!(once, choose());
    }
}
