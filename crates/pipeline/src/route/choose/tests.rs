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

/// Asks for a Call of a session `session`, whose first target then answers, and says which it was.
fn stays(health: &Health, choice: &Choice, session: Option<&str>, task: &str) -> String {
    let mut call = call(ALL, "{}");
    call.session_root = session.map(|name| crate::identify::named_session("a", "ada", name));
    call.task = Arc::from(task);
    let task_is_own = task.is_empty();
    if task_is_own {
        call.task = Arc::from(call.id.as_str());
    }
    let world = World { health, ids: &ids(7), slos: None, now: Duration::ZERO };
    let chosen = chosen(&world, &call, Some(choice), Facts::new(&call, None));
    let first = Arc::clone(&chosen.targets[0].name);
    chosen.pins.iter().for_each(|pin| health.pins.stays(*pin, &first));
    first.to_string()
}

#[test]
fn a_session_stays_where_it_was_whatever_the_order_says() {
    let (health, millis) = (Health::default(), Duration::from_millis);
    let by_latency =
        Choice { order: Order::Latency, sticky: Some(Sticky::Session), ..choice(json!(ALL)) };
    for (name, time) in [("a/m", 100), ("b/m", 200), ("c/m", 300), ("d/m", 400)] {
        health.pace.answered(&Arc::from(name), false, millis(time), Duration::ZERO);
    }
    let of_session = |name| stays(&health, &by_latency, Some(name), "t");
    assert_eq!(of_session("one"), "a/m");
    for _ in 0..20 {
        health.pace.answered(&Arc::from("a/m"), false, millis(900), Duration::ZERO);
    }
    assert_eq!([of_session("one"), of_session("two")], ["a/m", "b/m"]);
    // Without a session it is the task; without either, nothing.
    assert_eq!(stays(&health, &by_latency, None, "task"), "b/m");
    for _ in 0..20 {
        health.pace.answered(&Arc::from("b/m"), false, millis(950), Duration::ZERO);
    }
    assert_eq!(stays(&health, &by_latency, None, "task"), "b/m");
    assert_eq!(stays(&health, &by_latency, None, "other"), "c/m");
    assert_eq!(stays(&health, &by_latency, None, ""), "c/m");
}

#[test]
fn a_session_moves_from_a_target_that_is_not_well_and_stays_there() {
    let health = Health::default();
    let listed = Choice { sticky: Some(Sticky::Session), ..choice(json!(ALL)) };
    assert!(!listed.is_plain() && listed.pins());
    assert_eq!(stays(&health, &listed, Some("one"), "t"), "a/m");
    let pin = {
        let mut call = call(ALL, "{}");
        call.session_root = Some(crate::identify::named_session("a", "ada", "one"));
        let world = World { health: &health, ids: &ids(7), slos: None, now: Duration::ZERO };
        chosen(&world, &call, Some(&listed), Facts::new(&call, None)).pins[0]
    };
    // A fallback answered once: from then on it is the session's.
    health.pins.stays(pin, &Arc::from("c/m"));
    assert_eq!(stays(&health, &listed, Some("one"), "t"), "c/m");
    let failure = Failure::new(ErrorCode::UpstreamFailed, "told to");
    let policy = types::call::RoutePolicy::OF_ROUTE;
    for _ in 0..3 {
        let times = (Duration::ZERO, Duration::ZERO);
        health.failed(&Arc::from("c/m"), &failure, &policy, times);
    }
    assert_eq!(stays(&health, &listed, Some("one"), "t"), "a/m", "what is left alone is no home");
}

#[test]
fn a_call_that_can_go_to_one_target_only_moves_its_session_there() {
    let health = Health::default();
    let targets = json!([{ "model": "a/m", "when": "class != 'batch'" }, "b/m"]);
    let away = Choice { sticky: Some(Sticky::Session), ..choice(targets) };
    let back = Choice { sticky: Some(Sticky::Session), ..choice(json!(["a/m", "b/m"])) };
    assert_eq!(stays(&health, &back, Some("one"), "t"), "a/m");
    assert_eq!(stays(&health, &away, Some("one"), "t"), "b/m");
    assert_eq!(stays(&health, &back, Some("one"), "t"), "b/m");
}

#[test]
fn a_session_does_not_stay_where_an_earlier_condition_sends_it_elsewhere() {
    let health = Health::default();
    let when = |when: &str| {
        let targets = json!([{ "model": "a/m", "when": when }, "b/m"]);
        Choice { sticky: Some(Sticky::Session), ..choice(targets) }
    };
    for (name, only_first, order) in [
        ("listed", false, Order::Listed),
        ("first", true, Order::Listed),
        ("dear", true, Order::Health),
    ] {
        let with = |at: &str| Choice { only_first, order, ..when(at) };
        let of_session = |choice: &Choice| stays(&health, choice, Some(name), "t");
        assert_eq!(of_session(&with("class != 'batch'")), "b/m", "{name}");
        assert_eq!(of_session(&with("class == 'batch'")), "a/m", "{name}");
    }
    let inner = |at: &str| {
        let targets = json!([{ "targets": [{ "model": "a/m", "when": at }, "b/m"] }, "c/m"]);
        Choice { sticky: Some(Sticky::Session), ..choice(targets) }
    };
    let of_session = |choice: &Choice| stays(&health, choice, Some("inner"), "t");
    assert_eq!(of_session(&inner("class != 'batch'")), "b/m");
    assert_eq!(of_session(&inner("class == 'batch'")), "a/m");
}

#[test]
fn who_wants_no_affinity_stays_nowhere() {
    let health = Health::default();
    let listed = Choice { sticky: Some(Sticky::Session), ..choice(json!(ALL)) };
    let mut call = call(ALL, "{}");
    call.session_root = Some(crate::identify::named_session("a", "ada", "one"));
    call.asks = Some(Box::new(types::call::RouteAsk { no_affinity: true, ..Default::default() }));
    let world = World { health: &health, ids: &ids(7), slos: None, now: Duration::ZERO };
    assert!(chosen(&world, &call, Some(&listed), Facts::new(&call, None)).pins.is_empty());
}

#[test]
fn what_the_caller_does_not_allow_is_left_out() {
    let mut call = call(ALL, "{}");
    let allowed =
        Allowed { models: Some(vec!["b/*".to_owned(), "c/m".to_owned()]), providers: None };
    call.asks =
        Some(Box::new(types::call::RouteAsk { allowed: Some(allowed), ..Default::default() }));
    let listed = chosen_of(&call, &choice(json!(ALL)));
    assert_eq!(names(&listed), ["b/m", "c/m"]);
    let only = Choice { only_first: true, ..choice(json!(ALL)) };
    assert_eq!(names(&chosen_of(&call, &only)), ["b/m"]);
    assert_eq!(nothing_allowed(&call), None);
    let (health, ids) = (Health::default(), ids(7));
    let world = World { health: &health, ids: &ids, slos: None, now: Duration::ZERO };
    assert_eq!(names(&chosen(&world, &call, None, Facts::new(&call, None))), ["b/m", "c/m"]);
    let none = Allowed { models: None, providers: Some(vec!["x".to_owned()]) };
    call.asks = Some(Box::new(types::call::RouteAsk { allowed: Some(none), ..Default::default() }));
    let refused = nothing_allowed(&call).unwrap();
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    assert!(refused.message.contains("a/m, b/m"), "{}", refused.message);
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
