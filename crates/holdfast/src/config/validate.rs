//! What types can't say: names, references between objects, prices that contradict themselves.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use providers::ConfigError;
use providers::vendor::Auth;
use types::ServiceTier;

use super::file::PriceEntry;
use super::{Config, Problem, Problems, ProviderEntry};

pub(super) mod rates;
pub(crate) mod routes;
mod telemetry;

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
    process(config, problems);
    providers(config, environment, problems);
    routes::all(config, environment, problems);
    routes::sizes(config, problems);
    models(config, problems);
    keys(config, problems);
    budgets(config, problems);
    rates::all(&config.rate_limits, problems);
    mcp_servers(config, problems);
    telemetry::all(config, environment, problems);
}

/// The problems of the routes alone, of a configuration whose other parts have none.
pub(crate) fn routes_alone(
    config: &Config,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Vec<Problem> {
    let mut problems = Problems::default();
    routes::all(config, environment, &mut problems);
    problems.0
}

/// What a start would take and then serve nobody with.
fn process(config: &Config, problems: &mut Problems) {
    let at_least_one = [
        ("server.max_body_bytes", config.server.max_body_bytes == 0),
        ("server.max_connections", config.server.max_connections == 0),
        ("engine.sequences", config.engine.sequences == 0),
    ];
    for (at, _) in at_least_one.into_iter().filter(|(_, is_none)| *is_none) {
        problems.add(at, "must be at least 1");
    }
    if let Some(program) = config.engine.program.as_ref().filter(|program| !program.is_file()) {
        problems.add("engine.program", format!("{} is not a file", program.display()));
    }
}

fn names<'a>(list: &str, names: impl Iterator<Item = &'a str>, problems: &mut Problems) {
    let all: Vec<&str> = names.collect();
    for (index, &name) in all.iter().enumerate() {
        let at = format!("{list}[{index}].name");
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(allowed) {
            problems
                .add(at, format!("must be 1 to {NAME_CHARS_MAX} letters, digits, '-', '_' or '.'"));
        }
    }
    twice(all.into_iter(), |index| format!("{list}[{index}].name"), problems);
}

fn twice<'a>(
    names: impl Iterator<Item = &'a str>,
    at: impl Fn(usize) -> String,
    problems: &mut Problems,
) {
    let mut seen = HashSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(name) {
            problems.add(at(index), format!("\"{name}\" is there twice"));
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
        for (place, model) in provider.models.iter().enumerate() {
            let at = at(&format!("models[{place}]"));
            if model.id.is_empty() {
                problems.add(format!("{at}.id"), "must not be empty");
            }
            price(&model.price, &at, problems);
        }
        let timeouts = [
            ("connect_timeout", provider.connect_timeout),
            ("response_timeout", provider.response_timeout),
            ("stall_timeout", provider.stall_timeout),
        ];
        for (field, _) in timeouts.into_iter().filter(|(_, timeout)| is_none_at_all(*timeout)) {
            problems.add(at(field), "must be longer than 0");
        }
        let ids = provider.models.iter().map(|model| model.id.as_str());
        twice(ids, |place| at(&format!("models[{place}].id")), problems);
    }
    // The file's come first; what follows is there because a key is in the environment.
    for (index, provider) in config.all_providers(environment).iter().enumerate() {
        let vendor = providers::vendor(&provider.vendor);
        let variable = vendor.and_then(|vendor| vendor.key_env.as_deref());
        match variable.filter(|_| index >= config.providers.len()) {
            Some(variable) => can_be_used(provider, &|_| variable.to_owned(), problems),
            None => {
                let at = |field: &str| format!("providers[{index}].{field}");
                can_be_used(provider, &at, problems);
            }
        }
    }
}

/// Whether a duration is given and has no length.
fn is_none_at_all(duration: Option<Duration>) -> bool {
    duration.is_some_and(|duration| duration.is_zero())
}

/// Whether a start could use the provider: it is made as a start makes it, so that both ask for the
/// same.
fn can_be_used(provider: &ProviderEntry, at: &dyn Fn(&str) -> String, problems: &mut Problems) {
    let ProviderEntry { vendor: kind, base_url, .. } = provider;
    match provider.provider() {
        Ok(_) => {}
        Err(ConfigError::UnknownVendor(kind)) => {
            let known: Vec<&str> =
                providers::vendors().iter().map(|vendor| vendor.name.as_str()).collect();
            let message = format!("\"{kind}\" is not known; there are: {}", known.join(", "));
            problems.add(at("vendor"), message);
        }
        Err(ConfigError::NoBaseUrl(_)) => {
            let form = providers::vendor(kind).and_then(|vendor| vendor.base_url_form.as_deref());
            let form = form.map(|form| format!("; it is like {form}")).unwrap_or_default();
            let text = format!("is missing: the vendor has no address of its own{form}");
            problems.add(at("base_url"), text);
        }
        Err(ConfigError::BadBaseUrl { url, why }) => {
            problems.add(at("base_url"), format!("\"{url}\" can't be used: {why}"));
        }
        Err(ConfigError::BadKey) => {
            problems.add(at("api_key"), "has characters that can't be sent in a header");
        }
        Err(ConfigError::BadKeys(why)) => problems.add(at("api_keys"), why),
        Err(ConfigError::NoKeyTaken(kind)) => {
            problems.add(at("api_key"), format!("vendor \"{kind}\" takes none"));
        }
        Err(ConfigError::BadAws(why)) => problems.add(at("aws"), why),
    }
    let signs = providers::vendor(kind).is_some_and(|vendor| vendor.auth == Auth::Aws);
    let has_credentials = provider.aws.as_ref().is_some_and(|aws| aws.credentials().is_some());
    if signs && provider.api_key.is_none() && provider.api_keys.is_empty() && !has_credentials {
        let text = "needs access_key_id and secret_access_key, or the provider an api_key";
        problems.add(at("aws"), text);
    }
    // A vendor with an address of its own is somebody's service, which nobody uses without a key,
    // unless it is this machine's.
    let own_address =
        providers::vendor(kind).is_some_and(|vendor| vendor.base_url.is_some() && !vendor.local);
    if own_address && base_url.is_none() && !provider.has_key() {
        problems.add(at("api_key"), format!("vendor \"{kind}\" needs one"));
    }
    if provider.drain_max.is_some() && provider.drain().is_none() {
        problems.add(at("drain_max"), "is only for on_disconnect = \"drain\"");
    }
    if provider.drain().is_some_and(|within| within > DRAIN_LONGEST) {
        problems.add(at("drain_max"), "is more than ten minutes");
    }
}

/// How long an answer may be read on for nobody, at most.
const DRAIN_LONGEST: Duration = Duration::from_mins(10);

fn price(price: &PriceEntry, at: &str, problems: &mut Problems) {
    let rates = [price.input_usd_per_million, price.output_usd_per_million];
    let any = rates.iter().any(Option::is_some) || price.usd_per_request.is_some();
    if price.free && any {
        problems.add(at, "is marked free and has a price: choose one");
    }
    if rates.iter().filter(|rate| rate.is_some()).count() == 1 {
        problems.add(at, "needs both input_usd_per_million and output_usd_per_million");
    }
    let others = [
        price.reasoning_usd_per_million.is_some(),
        price.audio_input_usd_per_million.is_some(),
        price.audio_output_usd_per_million.is_some(),
        price.usd_per_search.is_some(),
        !price.tiers.is_empty(),
    ];
    if others.contains(&true) && rates.iter().any(Option::is_none) {
        problems.add(
            at,
            "has rates beside input_usd_per_million and output_usd_per_million: give these",
        );
    }
    if price.tiers.contains_key(&ServiceTier::Standard) {
        problems.add(at, "says tiers.standard: that is what it says without a tier");
    }
}

fn models(config: &Config, problems: &mut Problems) {
    names("models", config.models.iter().map(|model| model.name.as_str()), problems);
    for (index, model) in config.models.iter().enumerate() {
        price(&model.price, &format!("models[{index}]"), problems);
        match &model.path {
            None => problems.add(
                format!("models[{index}].path"),
                "is missing: the GGUF file, or the folder of a static model",
            ),
            Some(path) if !path.exists() => {
                problems.add(
                    format!("models[{index}].path"),
                    format!("{} is not there", path.display()),
                );
            }
            Some(path) => {
                let looked = match path.is_dir() {
                    true => embeddings::look(path).map_err(|error| error.to_string()),
                    false => is_model(path).map_err(|error| error.to_string()),
                };
                if let Err(error) = looked {
                    let message = format!("{} can't be used: {error}", path.display());
                    problems.add(format!("models[{index}].path"), message);
                }
            }
        }
    }
}

/// Whether the file begins as a model does that can be asked. The rest is read and hashed by a
/// start.
#[expect(clippy::disallowed_methods, reason = "read before a runtime exists, or on its own thread")]
fn is_model(path: &Path) -> Result<(), engine::gguf::Error> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let header = engine::gguf::Header::read(file, length)?;
    engine::model_file::kind(&header).map(drop)
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
    // The secret itself is not shown.
    let mut seen = HashSet::new();
    for (index, key) in config.keys.iter().enumerate() {
        if !seen.insert(key.secret.expose()) {
            problems.add(format!("keys[{index}].secret"), "is another key's too");
        }
    }
}

fn budgets(config: &Config, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (index, budget) in config.budgets.iter().enumerate() {
        if let Err(failure) = pipeline::check_scope_names(&budget.scope) {
            let field = failure.param.as_deref().unwrap_or("scope");
            problems.add(format!("budgets[{index}].{field}"), failure.message);
        }
        if let Err(message) = budget.window.check_zone(&budget.time_zone) {
            problems.add(format!("budgets[{index}].time_zone"), message);
        }
        if !seen.insert((&budget.scope, budget.window, budget.time_zone.name())) {
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
