use types::ids::KeyId;
use types::principal::{DEFAULT_ACCOUNT, Role};

use super::cell::{SUBJECTS_MAX, Shape};
use super::subject::Subject;
use super::*;

fn limit(name: &str, scope: RateScope) -> RateLimit {
    RateLimit {
        account: DEFAULT_ACCOUNT.to_owned(),
        name: name.to_owned(),
        scope,
        each: None,
        most: vec![(Kind::Requests, 1)],
        per: Duration::from_secs(1),
        technique: Technique::Sliding,
        concurrency: None,
        queue: None,
    }
}

fn principal(key: &str) -> Principal {
    Principal {
        account: Arc::from(DEFAULT_ACCOUNT),
        key: KeyId::parse(&format!("key_{key}")).unwrap(),
        key_name: Arc::from(key),
        user: Arc::from("ada"),
        role: Role::Member,
        output_cap_default: None,
    }
}

#[test]
fn a_call_looks_at_its_own_limits_however_many_there_are() {
    let some = |text: &str| Some(text.to_owned());
    let of_key = |number: usize| {
        let key = some(&format!("key{number}"));
        limit(&format!("of{number}"), RateScope { key, ..RateScope::default() })
    };
    let mut all: Vec<RateLimit> = (0..1_000).map(of_key).collect();
    all.push(limit("all", RateScope::default()));
    all.push(limit("ada", RateScope { user: some("ada"), ..RateScope::default() }));
    all.push(limit("route", RateScope { model: some("route/fast"), ..RateScope::default() }));
    all.push(limit("all", RateScope { key: some("key7"), ..RateScope::default() }));
    let limits = RateLimits::default();
    limits.set(all);
    let principal = principal("key7");
    let asking = Asking {
        principal: &principal,
        class: "agent",
        model: "fast",
        plan: "route/fast",
        session: None,
        task: None,
    };
    let set = limits.in_force().unwrap();
    let mut names: Vec<_> = set.of(&asking).iter().map(|it| &*it.settings.name).collect();
    names.sort_unstable();
    // Of two with one name the later is left out.
    assert_eq!(names, ["ada", "all", "of7", "route"]);
}

#[test]
fn whom_a_limit_counts_apart_is_forgotten_when_nothing_counts() {
    let (per, kinds) = (Duration::from_secs(1), vec![Kind::Requests]);
    let shape = Shape { kinds, technique: Technique::Sliding, per, is_each: true };
    let cells = Cells::new(shape);
    let subject = |number: usize| Subject::Task(Arc::from(number.to_string()));
    for number in 0..50_000 {
        let now = Duration::from_millis(number as u64);
        let cell = cells.cell(&subject(number), now).unwrap();
        cell.at(now, per).windows[0].take(1, now, per);
    }
    // A second's worth counts; twice as many may be remembered, and some more in each part.
    assert!(cells.subjects() < 6_000, "{}", cells.subjects());
    let held = cells.cell(&subject(1), Duration::from_secs(60)).unwrap();
    for number in 50_000..60_000 {
        cells.cell(&subject(number), Duration::from_secs(70)).unwrap();
    }
    let again = cells.cell(&subject(1), Duration::from_secs(70)).unwrap();
    assert!(Arc::ptr_eq(&held, &again), "somebody still held it");
}

#[test]
fn who_can_not_be_remembered_is_not_admitted() {
    let (per, kinds) = (Duration::from_secs(60), vec![Kind::Requests]);
    let shape = Shape { kinds, technique: Technique::Sliding, per, is_each: true };
    let cells = Cells::new(shape);
    let mut refused = 0;
    for number in 0..SUBJECTS_MAX + 1_000 {
        let subject = Subject::Task(Arc::from(number.to_string()));
        let Some(cell) = cells.cell(&subject, Duration::ZERO) else {
            refused += 1;
            continue;
        };
        cell.at(Duration::ZERO, per).windows[0].take(1, Duration::ZERO, per);
    }
    assert!(cells.subjects() <= SUBJECTS_MAX && refused >= 1_000, "{refused}");
}

#[test]
fn what_is_left_is_told_without_remembering_who_asks() {
    let limits = RateLimits::default();
    limits.set(vec![RateLimit { each: Some(Each::Task), ..limit("each", RateScope::default()) }]);
    let principal = principal("ci");
    let asking = Asking {
        principal: &principal,
        class: "agent",
        model: "paid/m",
        plan: "paid/m",
        session: None,
        task: Some("t"),
    };
    let clock = types::clock::FakeClock::new(types::Timestamp(0));
    let left = limits.headroom(&asking, &clock).unwrap().requests.unwrap();
    assert_eq!((left.limit, left.remaining), (1, 1));
    let set = limits.in_force().unwrap();
    assert_eq!(set.all().next().unwrap().cells.subjects(), 0);
}
