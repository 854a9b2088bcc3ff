//! What types can't say: names, references between objects, prices that contradict themselves.

use std::collections::HashSet;

use super::file::PriceEntry;
use super::{Config, Problems};

/// Characters of a name at most.
const NAME_CHARS_MAX: usize = 64;
/// Provider names that are Holdfast's own.
const RESERVED_PROVIDERS: &[&str] = &["local", "mcp", "route", "dynamic"];
/// The key that the first start makes.
const ADMIN_KEY: &str = "admin";
/// Characters that a key's secret has at least: below, it can be guessed.
const SECRET_CHARS_MIN: usize = 16;

/// Adds every problem.
pub(super) fn all(
    config: &Config,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    providers(config, environment, problems);
    models(config, problems);
    keys(config, problems);
    budgets(config, problems);
    mcp_servers(config, problems);
}

fn names<'a>(list: &str, names: impl Iterator<Item = &'a str>, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (index, name) in names.enumerate() {
        let at = format!("{list}[{index}].name");
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(allowed) {
            problems.add(
                &at,
                format!("must be 1 to {NAME_CHARS_MAX} letters, digits, '-', '_' or '.'"),
            );
        }
        if !seen.insert(name) {
            problems.add(at, format!("\"{name}\" is there twice"));
        }
    }
}

fn providers(
    config: &Config,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    names("providers", config.providers.iter().map(|provider| provider.name.as_str()), problems);
    for (index, provider) in config.providers.iter().enumerate() {
        let at = |field: &str| format!("providers[{index}].{field}");
        if RESERVED_PROVIDERS.contains(&provider.name.as_str()) {
            problems.add(at("name"), format!("\"{}\" is Holdfast's own", provider.name));
        }
        match providers::vendor(&provider.vendor) {
            None => {
                let known: Vec<&str> =
                    providers::vendors().iter().map(|vendor| vendor.name.as_str()).collect();
                let message = format!(
                    "\"{}\" is not known; there are: {}",
                    provider.vendor,
                    known.join(", ")
                );
                problems.add(at("vendor"), message);
            }
            Some(vendor) => {
                let base_url = provider.base_url.as_deref().or(vendor.base_url.as_deref());
                check_base_url(base_url, &at("base_url"), problems);
                // A vendor with an address of its own is somebody's service, which nobody uses
                // without a key.
                let usual = vendor.key_env.as_deref().and_then(environment);
                if vendor.base_url.is_some()
                    && provider.base_url.is_none()
                    && provider.api_key.is_none()
                    && usual.is_none()
                {
                    problems
                        .add(at("api_key"), format!("vendor \"{}\" needs one", provider.vendor));
                }
            }
        }
        for (place, model) in provider.models.iter().enumerate() {
            price(&model.price, &at(&format!("models[{place}]")), problems);
        }
    }
}

fn check_base_url(base_url: Option<&str>, at: &str, problems: &mut Problems) {
    match base_url.map(str::parse::<http::Uri>) {
        None => problems.add(at, "is missing: the vendor has no address of its own"),
        Some(Ok(uri))
            if uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => {}
        Some(_) => problems.add(at, "must be an address such as \"http://10.0.0.5:8000/v1\""),
    }
}

fn price(price: &PriceEntry, at: &str, problems: &mut Problems) {
    let rates = [price.input_usd_per_million, price.output_usd_per_million];
    let any = rates.iter().any(Option::is_some) || price.usd_per_request.is_some();
    if price.free && any {
        problems.add(at, "is marked free and has a price: choose one");
    }
    if rates.iter().filter(|rate| rate.is_some()).count() == 1 {
        problems.add(at, "needs both input_usd_per_million and output_usd_per_million");
    }
}

fn models(config: &Config, problems: &mut Problems) {
    names("models", config.models.iter().map(|model| model.name.as_str()), problems);
    for (index, model) in config.models.iter().enumerate() {
        price(&model.price, &format!("models[{index}]"), problems);
        match &model.path {
            None => problems.add(format!("models[{index}].path"), "is missing: the GGUF file"),
            Some(path) if !path.is_file() => {
                problems.add(
                    format!("models[{index}].path"),
                    format!("{} is not a file", path.display()),
                );
            }
            Some(_) => {}
        }
    }
}

fn keys(config: &Config, problems: &mut Problems) {
    names("keys", config.keys.iter().map(|key| key.name.as_str()), problems);
    for (index, key) in config.keys.iter().enumerate() {
        if key.name == ADMIN_KEY {
            problems.add(
                format!("keys[{index}].name"),
                "\"admin\" is the first start's key; set HOLDFAST_ADMIN_KEY to choose it",
            );
        }
        if key.secret.expose().len() < SECRET_CHARS_MIN {
            problems.add(
                format!("keys[{index}].secret"),
                format!("must have at least {SECRET_CHARS_MIN} characters"),
            );
        }
    }
}

fn budgets(config: &Config, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (index, budget) in config.budgets.iter().enumerate() {
        if !seen.insert((&budget.scope, budget.window)) {
            problems
                .add(format!("budgets[{index}].scope"), "the same scope and window is there twice");
        }
    }
}

fn mcp_servers(config: &Config, problems: &mut Problems) {
    names("mcp_servers", config.mcp_servers.iter().map(|server| server.name.as_str()), problems);
    for (index, server) in config.mcp_servers.iter().enumerate() {
        if server.command.is_empty() {
            problems.add(format!("mcp_servers[{index}].command"), "must name a program");
        }
    }
}
