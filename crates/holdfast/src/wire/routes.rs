//! Sets of routes: what the file makes of the one in force, and what is wrong with one.
//!
//! Routes are named objects as keys and budgets are: of two edits the later wins. A set is kept as
//! it was written and read anew by whoever serves it, with the same types and the same checks as
//! the file's. Nothing is written here.

use serde_json::Value;
use server::{ConfigProblem, ObjectChange};
use storage::Route;
use storage::budgets::Origin;
use storage::models::Taken;
use types::Timestamp;

use super::objects::{Fingerprints, fingerprint, object_change};
use crate::config::{Config, Problem, RouteEntry, routes_alone};

/// How named objects of this kind are remembered.
pub(super) const KIND: &str = "route";

/// What a set becomes with a file.
#[derive(Debug)]
pub(super) struct Merged {
    /// The set, by name.
    pub(super) routes: Vec<Route>,
    /// What is otherwise than before.
    pub(super) changes: Vec<ObjectChange>,
    /// What is by then taken from the file.
    pub(super) taken: Vec<Taken>,
}

/// The set `in_force` with what the file says anew, as version `number`.
pub(super) fn merged(
    config: &Config,
    in_force: &[Route],
    before: &Fingerprints,
    (number, now): (u64, Timestamp),
) -> anyhow::Result<Merged> {
    let last = |name: &str| before.get(&(KIND.to_owned(), name.to_owned()));
    let (mut routes, mut changes, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for (name, settings) in config.text.routes() {
        let sha256 = fingerprint(&settings)?;
        let kept = in_force.iter().find(|route| route.name == name);
        if last(&name) == Some(&sha256) {
            // It may have been changed or removed at run time since, which is the later edit.
            routes.extend(kept.cloned());
        } else {
            let change = if kept.is_some() { "changed" } else { "added" };
            changes.push(object_change(KIND, &name, change));
            let (name, origin) = (name.clone(), Origin::File);
            routes.push(Route { name, settings, origin, version: number, changed_at: now });
        }
        taken.push(Taken { kind: KIND.to_owned(), name, sha256 });
    }
    let is_in_file = |route: &&Route| config.routes.iter().any(|entry| entry.name == route.name);
    for route in in_force.iter().filter(|route| !is_in_file(route)) {
        if route.origin == Origin::File && last(&route.name).is_some() {
            changes.push(object_change(KIND, &route.name, "removed"));
        } else {
            routes.push(route.clone());
        }
    }
    routes.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(Merged { routes, changes, taken })
}

/// A set that was read, and all that is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Those that can be read, in the order in which they were given.
    pub(super) entries: Vec<RouteEntry>,
    /// Whose, and what.
    pub(super) wrong: Vec<(String, Problem)>,
}

/// Reads a set and checks it as a whole, with the providers of `config`. Of two routes with one
/// alias the later is wrong. Key paths are within the route.
pub(super) fn checked(config: &Config, routes: &[&Route]) -> Checked {
    let mut checked = Checked::default();
    for route in routes {
        match read(route) {
            Ok(entry) => checked.entries.push(entry),
            Err(problem) => checked.wrong.push((route.name.clone(), problem)),
        }
    }
    let config = Config { routes: checked.entries, ..config.clone() };
    for problem in routes_alone(&config, &|name| std::env::var(name).ok()) {
        let place = place_of(&problem.at).and_then(|(index, rest)| {
            let name = config.routes.get(index)?.name.clone();
            Some((name, rest.to_owned()))
        });
        let (name, at) = place.unwrap_or_else(|| (String::new(), problem.at.clone()));
        checked.wrong.push((name, Problem { at, message: problem.message }));
    }
    checked.entries = config.routes;
    checked
}

/// A route's settings as the file's types have them.
fn read(route: &Route) -> Result<RouteEntry, Problem> {
    let mut settings = route.settings.clone();
    if let Value::Object(settings) = &mut settings {
        settings.insert("name".to_owned(), Value::String(route.name.clone()));
    }
    serde_path_to_error::deserialize(settings).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { "settings".to_owned() } else { path };
        Problem { at, message: error.into_inner().to_string() }
    })
}

/// `routes[3].aliases[0]` is `aliases[0]` of the fourth.
fn place_of(at: &str) -> Option<(usize, &str)> {
    let (index, rest) = at.strip_prefix("routes[")?.split_once(']')?;
    Some((index.parse().ok()?, rest.strip_prefix('.').unwrap_or(rest)))
}

/// Who has one of a route's aliases already.
pub(super) fn clash<'a>(route: &Route, others: &[&'a Route]) -> Option<(String, &'a Route)> {
    let aliases = |route: &Route| -> Vec<String> {
        let aliases = route.settings.get("aliases").and_then(Value::as_array);
        let texts = aliases.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let own = aliases(route);
    others.iter().find_map(|other| {
        let alias = aliases(other).into_iter().find(|alias| own.contains(alias))?;
        Some((alias, *other))
    })
}

/// As the API tells it.
pub(super) fn told(problem: Problem) -> ConfigProblem {
    ConfigProblem { at: problem.at, message: problem.message }
}

#[cfg(test)]
mod tests;
