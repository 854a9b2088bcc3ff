use serde_json::json;

use super::*;
use crate::config;

const FILE: &str = r#"
    [[providers]]
    name = "garage"
    vendor = "openai-compatible"
    base_url = "http://10.0.0.5/v1"
    [[routes]]
    name = "fast"
    aliases = ["quick"]
    targets = ["garage/a"]
    [[routes]]
    name = "good"
    targets = ["garage/b"]
"#;

/// A file's configuration; all tests' files have no problems.
fn file(text: &str) -> Config {
    let (config, problems) = config::of_text(text);
    assert_eq!(problems, []);
    config
}

fn taken(merged: &Merged) -> Fingerprints {
    super::super::objects::fingerprints(merged.taken.clone())
}

fn of_api(name: &str, settings: Value) -> Route {
    let (version, changed_at) = (9, Timestamp(9));
    Route { name: name.to_owned(), settings, origin: Origin::Api, version, changed_at }
}

fn changes(merged: &Merged) -> Vec<String> {
    merged.changes.iter().map(|change| format!("{} {}", change.change, change.name)).collect()
}

fn merge(text: &str, in_force: &[Route], before: &Fingerprints) -> Merged {
    merged(&file(text), in_force, before, (10, Timestamp(10))).unwrap()
}

#[test]
fn of_two_edits_the_later_wins() {
    let first = merge(FILE, &[], &Fingerprints::new());
    assert_eq!(changes(&first), ["added fast", "added good"]);
    let before = taken(&first);
    let again = merge(FILE, &first.routes, &before);
    assert_eq!((again.routes.as_slice(), changes(&again)), (first.routes.as_slice(), Vec::new()));

    // Changed, removed and made at run time: the same file changes nothing of that.
    let set = [
        of_api("fast", json!({ "targets": ["garage/c"] })),
        of_api("own", json!({ "targets": ["garage/d"] })),
    ];
    let same = merge(FILE, &set, &before);
    assert_eq!((same.routes.as_slice(), changes(&same)), (set.as_slice(), Vec::new()));
    // The file says something new of one.
    let edited = FILE.replace("garage/a", "garage/e");
    let later = merge(&edited, &set, &before);
    assert_eq!(changes(&later), ["changed fast"]);
    let fast = &later.routes[0];
    assert_eq!(
        (fast.origin, fast.version, &fast.settings["targets"]),
        (Origin::File, 10, &json!(["garage/e"]))
    );
}

#[test]
fn what_is_gone_from_the_file_goes_unless_it_was_changed_since() {
    let first = merge(FILE, &[], &Fingerprints::new());
    let before = taken(&first);
    let one = FILE.split("[[routes]]").next().unwrap();
    let gone = merge(one, &first.routes, &before);
    assert_eq!(changes(&gone), ["removed fast", "removed good"]);
    assert!(gone.routes.is_empty() && gone.taken.is_empty());
    let set = [of_api("fast", json!({ "targets": ["garage/c"] })), first.routes[1].clone()];
    let kept = merge(one, &set, &before);
    assert_eq!(changes(&kept), ["removed good"]);
    assert_eq!(kept.routes, set[..1]);
}

#[test]
fn a_set_is_checked_as_the_file_is() {
    let config = file(FILE);
    let wrong = |route: &Route| -> Vec<String> {
        let checked = checked(&config, &[route]);
        checked.wrong.iter().map(|(_, problem)| problem.at.clone()).collect()
    };
    let route = |settings| of_api("own", settings);
    assert!(wrong(&route(json!({ "targets": ["garage/a"], "wait_max": "2s" }))).is_empty());
    assert_eq!(wrong(&route(json!({ "targets": ["nobody/a"] }))), ["targets[0]"]);
    assert_eq!(wrong(&route(json!({ "targets": ["garage/a"], "attempts": 99 }))), ["attempts"]);
    assert_eq!(wrong(&route(json!({ "targets": ["garage/a"], "wait_max": 5 }))), ["wait_max"]);
    assert_eq!(wrong(&route(json!([]))), ["settings"]);
    assert_eq!(wrong(&of_api("a b", json!({ "targets": ["garage/a"] }))), ["name"]);
}

#[test]
fn a_name_leads_to_one_route() {
    let one = of_api("one", json!({ "targets": ["garage/a"], "aliases": ["x", "y"] }));
    let two = of_api("two", json!({ "targets": ["garage/a"], "aliases": ["y"] }));
    let (alias, other) = clash(&two, &[&one]).unwrap();
    assert_eq!((alias.as_str(), other.name.as_str()), ("y", "one"));
    assert!(clash(&one, &[]).is_none());
    let checked = checked(&file(FILE), &[&one, &two]);
    let wrong: Vec<_> = checked.wrong.iter().map(|(name, wrong)| (&**name, &*wrong.at)).collect();
    assert_eq!(wrong, [("two", "aliases[0]")]);
}
