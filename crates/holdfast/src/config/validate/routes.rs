//! What a route may be: its names lead to nothing else, and its targets to configured providers.
//!
//! Whether a target's model exists is not asked here: it may be one that was made at run time
//! ([`warnings::of_routes`](super::super::warnings::of_routes)).

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::super::{Config, Problems, RouteEntry};
use super::{RESERVED_PROVIDERS, is_none_at_all, names, twice};

/// Attempts that a route may ask for: each costs a request, and the last ones time.
const ATTEMPTS: RangeInclusive<u32> = 1..=8;
/// Characters of an alias at most: those of any model's name.
const ALIAS_CHARS_MAX: usize = 256;
/// What stands before a route's name: a route can't be another's target.
const ROUTE_PREFIXES: &[&str] = &["route", "dynamic"];

/// Adds every problem.
pub(super) fn all(
    config: &Config,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    names("routes", config.routes.iter().map(|route| route.name.as_str()), problems);
    let providers = config.all_providers(environment);
    let mut known: HashSet<&str> = providers.iter().map(|entry| entry.name.as_str()).collect();
    known.insert(engine::execute::PROVIDER);
    let mut aliases = HashSet::new();
    for (index, route) in config.routes.iter().enumerate() {
        let at = |field: &str| format!("routes[{index}].{field}");
        targets(route, &known, &at, problems);
        limits(route, &at, problems);
        for (place, alias) in route.aliases.iter().enumerate() {
            let at = at(&format!("aliases[{place}]"));
            if let Some(message) = wrong_alias(alias, &known) {
                problems.add(at, message);
            } else if !aliases.insert(alias.as_str()) {
                problems.add(at, format!("\"{alias}\" is there twice"));
            }
        }
    }
}

fn targets(
    route: &RouteEntry,
    known: &HashSet<&str>,
    at: &dyn Fn(&str) -> String,
    problems: &mut Problems,
) {
    if route.targets.is_empty() {
        problems.add(at("targets"), "must name at least one model");
    }
    for (place, target) in route.targets.iter().enumerate() {
        let at = at(&format!("targets[{place}]"));
        match target.split_once('/').filter(|(_, model)| !model.is_empty()) {
            None => problems.add(at, format!("\"{target}\" must be a model: provider/model")),
            Some((prefix, _)) if ROUTE_PREFIXES.contains(&prefix) => {
                problems.add(at, format!("\"{target}\" is a route: name its models here"));
            }
            Some((provider, _)) if !known.contains(provider) => {
                problems.add(at, format!("no provider \"{provider}\" is configured"));
            }
            Some(_) => {}
        }
    }
    let all = route.targets.iter().map(String::as_str);
    twice(all, |place| at(&format!("targets[{place}]")), problems);
}

fn limits(route: &RouteEntry, at: &dyn Fn(&str) -> String, problems: &mut Problems) {
    let counts = [("attempts", route.attempts), ("tries_per_target", route.tries_per_target)];
    for (field, count) in counts {
        if count.is_some_and(|count| !ATTEMPTS.contains(&count)) {
            let (least, most) = (ATTEMPTS.start(), ATTEMPTS.end());
            problems.add(at(field), format!("must be {least} to {most}"));
        }
    }
    // A wait of nothing would hammer a provider that is in trouble.
    let durations = [
        ("backoff", route.backoff),
        ("first_token_timeout", route.first_token_timeout),
        ("cooldown", route.cooldown),
        ("keep_alive_after", route.keep_alive_after),
        ("hedge.after", route.hedge.map(|hedge| hedge.after)),
    ];
    for (field, _) in durations.into_iter().filter(|(_, duration)| is_none_at_all(*duration)) {
        problems.add(at(field), "must be longer than 0");
    }
}

/// Why a name can't be an alias. One that begins with a provider's name would hide a model of it.
fn wrong_alias(alias: &str, known: &HashSet<&str>) -> Option<String> {
    let printable = |c: char| c.is_ascii_graphic();
    if alias.is_empty() || alias.len() > ALIAS_CHARS_MAX || !alias.chars().all(printable) {
        return Some(format!("must be 1 to {ALIAS_CHARS_MAX} printable characters without spaces"));
    }
    let (prefix, _) = alias.split_once('/')?;
    let taken = known.contains(prefix) || RESERVED_PROVIDERS.contains(&prefix);
    taken.then(|| {
        format!("\"{alias}\" is a name of \"{prefix}\": an alias must be no other model's")
    })
}
