//! What a route may be: its names lead to nothing else, and its targets to configured providers.
//!
//! Whether a target's model exists is not asked here: it may be one that was made at run time
//! ([`warnings::of_routes`](super::super::warnings::of_routes)).

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use pipeline::route::choice::{Choice, Order, WEIGHT_MAX, What};
use pipeline::route::condition::Condition;
use serde_json::Value;
use types::call::TargetPolicy;

use super::super::routes::ATTEMPTS_MAX;
use super::super::{Config, Problems, RouteEntry};
use super::{RESERVED_PROVIDERS, is_none_at_all, names};

/// Routes at most: each is part of every version.
pub(crate) const ROUTES_MAX: usize = 1_000;
/// Bytes of a route's settings at most, as JSON.
pub(crate) const ROUTE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the settings of all routes at most: what is listed and kept of versions is a few of
/// these.
pub(crate) const SET_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What stands behind `/api/routes/` and is no route.
const RESERVED_NAMES: &[&str] = &["versions", "rollback"];
const ATTEMPTS: RangeInclusive<u32> = 1..=ATTEMPTS_MAX;
/// Targets of one route at most, in all its tables.
const TARGETS_MAX: usize = 64;
/// Tables of targets within tables at most.
const DEPTH_MAX: usize = 8;
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
        if RESERVED_NAMES.contains(&route.name.as_str()) {
            let message = format!("\"{}\" is a path of /api/routes: choose another", route.name);
            problems.add(at("name"), message);
        }
        let has_tiers = route.auto.is_some();
        let mut targets = Targets { known: &known, has_tiers, left: TARGETS_MAX, problems };
        targets.check(&route.choice(), &at(route.written()), 1);
        policies(route, &at(route.written()), problems);
        if route.cloudflare.is_some() && route.says_more_than_a_graph() {
            problems.add(
                at("cloudflare"),
                "says which targets: leave targets, order, sticky and fallback out",
            );
        }
        limits(route, &at, problems);
        context(route, &known, &at, problems);
        cascade(route, &known, &at, problems);
        auto(route, &known, &at, problems);
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

/// A model has one policy in a route, wherever it stands.
fn policies(route: &RouteEntry, at: &str, problems: &mut Problems) {
    let mut known: HashMap<String, TargetPolicy> = HashMap::new();
    route.choice().each_model(&mut |model, own| {
        let before = *known.entry(model.to_owned()).or_insert(own);
        if before != own {
            let text =
                format!("say two things of \"{model}\": one `tries` and one time for a model");
            problems.add(at, text);
        }
    });
}

/// Adds what is too large of the file's routes.
pub(super) fn sizes(config: &Config, problems: &mut Problems) {
    let written = config.text.routes();
    for (name, settings) in &written {
        if settings.to_string().len() > ROUTE_BYTES_MAX {
            let index = config.routes.iter().position(|entry| entry.name == *name);
            let at = index.map_or_else(|| "routes".to_owned(), |index| format!("routes[{index}]"));
            problems.add(at, format!("has more than {ROUTE_BYTES_MAX} bytes as JSON"));
        }
    }
    if let Some(message) = too_large(written.iter().map(|(_, settings)| settings)) {
        problems.add("routes", message);
    }
}

/// Why a set of routes, by their settings, is more than is kept.
pub(crate) fn too_large<'a>(settings: impl Iterator<Item = &'a Value>) -> Option<String> {
    let (mut routes, mut bytes) = (0, 0);
    for settings in settings {
        routes += 1;
        bytes += settings.to_string().len();
    }
    if routes > ROUTES_MAX {
        return Some(format!("are {routes}: {ROUTES_MAX} at most"));
    }
    let is_large = bytes > SET_BYTES_MAX;
    is_large.then(|| format!("have {bytes} bytes as JSON: {SET_BYTES_MAX} at most"))
}

/// The targets of a route, down to the last.
struct Targets<'a> {
    known: &'a HashSet<&'a str>,
    /// Whether conditions may ask for the tier.
    has_tiers: bool,
    left: usize,
    problems: &'a mut Problems,
}

impl Targets<'_> {
    fn check(&mut self, choice: &Choice, at: &str, depth: usize) {
        let field = |name: &str| match at.strip_suffix("targets") {
            Some(above) => format!("{above}{name}"),
            None => name.to_owned(),
        };
        if choice.targets.is_empty() {
            self.problems.add(at, "must name at least one model");
        }
        let mut plain = HashSet::new();
        for (place, candidate) in choice.targets.iter().enumerate() {
            let at = format!("{at}[{place}]");
            if self.left == 0 {
                return self.problems.add(at, format!("is one of more than {TARGETS_MAX}"));
            }
            self.left -= 1;
            if !self.has_tiers && candidate.when.as_ref().is_some_and(Condition::needs_tier) {
                let message = "reads tier or score, which a route with [routes.auto] has";
                self.problems.add(format!("{at}.when"), message);
            }
            if candidate.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
                self.problems.add(format!("{at}.weight"), format!("must be 0 to {WEIGHT_MAX}"));
            }
            self.own(&candidate.own, &at);
            match &candidate.what {
                What::Model(model) if candidate.when.is_none() && !plain.insert(model) => {
                    self.problems.add(at, format!("\"{model}\" is there twice"));
                }
                What::Model(model) => self.model(model, at),
                What::Choice(_) if depth >= DEPTH_MAX => {
                    self.problems.add(at, format!("lies deeper than {DEPTH_MAX} tables"));
                }
                What::Choice(choice) => self.check(choice, &format!("{at}.targets"), depth + 1),
            }
        }
        let weights = || choice.targets.iter().filter_map(|candidate| candidate.weight);
        let is_split = weights().next().is_some();
        if is_split && choice.order != Order::Listed {
            self.problems.add(field("order"), "decides, so that a weight says nothing: choose one");
        }
        if is_split && weights().all(|weight| weight == 0) {
            self.problems.add(at, "need a weight above 0");
        }
    }

    /// What is said of one model alone.
    fn own(&mut self, own: &TargetPolicy, at: &str) {
        if own.same_target_max.is_some_and(|tries| !ATTEMPTS.contains(&tries)) {
            let (least, most) = (ATTEMPTS.start(), ATTEMPTS.end());
            self.problems.add(format!("{at}.tries"), format!("must be {least} to {most}"));
        }
        if is_none_at_all(own.first_token) {
            self.problems.add(format!("{at}.first_token_timeout"), "must be longer than 0");
        }
    }

    fn model(&mut self, model: &str, at: String) {
        match model.split_once('/').filter(|(_, model)| !model.is_empty()) {
            None => self.problems.add(at, format!("\"{model}\" must be a model: provider/model")),
            Some((prefix, _)) if ROUTE_PREFIXES.contains(&prefix) => {
                let text = format!("\"{model}\" is a route: name its models here");
                self.problems.add(at, text);
            }
            Some((provider, _)) if !self.known.contains(provider) => {
                self.problems.add(at, format!("no provider \"{provider}\" is configured"));
            }
            Some(_) => {}
        }
    }
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
        ("timeout", route.timeout),
    ];
    for (field, _) in durations.into_iter().filter(|(_, duration)| is_none_at_all(*duration)) {
        problems.add(at(field), "must be longer than 0");
    }
    if let Some((field, message)) = route.hedge.and_then(|hedge| hedge.problem()) {
        problems.add(at(&format!("hedge.{field}")), message);
    }
}

fn context(
    route: &RouteEntry,
    known: &HashSet<&str>,
    at: &dyn Fn(&str) -> String,
    problems: &mut Problems,
) {
    let is_model = |name: &str| is_model(name, known);
    let found = route.context.as_ref().map(|context| context.problems(&is_model));
    for (field, message) in found.unwrap_or_default() {
        problems.add(at(&format!("context.{field}")), message);
    }
}

fn cascade(
    route: &RouteEntry,
    known: &HashSet<&str>,
    at: &dyn Fn(&str) -> String,
    problems: &mut Problems,
) {
    let Some(cascade) = &route.cascade else { return };
    if route.models().len() < 2 || route.fallback == Some(false) {
        problems.add(at("cascade"), "needs a second target to ask: name it, and allow fallback");
    }
    if route.choice().pins_anywhere() {
        let message =
            "begins with its first target: leave `sticky` out, which begins with the last";
        problems.add(at("cascade"), message);
    }
    for (field, message) in cascade.problems(&|name| is_model(name, known)) {
        problems.add(at(&format!("cascade.{field}")), message);
    }
}

fn is_model(name: &str, known: &HashSet<&str>) -> bool {
    let (provider, model) = name.split_once('/').unwrap_or_default();
    !model.is_empty() && known.contains(provider)
}

fn auto(
    route: &RouteEntry,
    known: &HashSet<&str>,
    at: &dyn Fn(&str) -> String,
    problems: &mut Problems,
) {
    let Some(auto) = &route.auto else { return };
    if route.cloudflare.is_some() {
        return problems.add(at("auto"), "orders targets: a graph has an order of its own");
    }
    if route.fallback == Some(false) {
        problems.add(at("auto"), "needs the targets of both tiers: leave fallback out");
    }
    for (field, message) in auto.problems(&route.models(), &|name| is_model(name, known)) {
        problems.add(at(&format!("auto.{field}")), message);
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
