//! What a start takes although it may not be meant: told by `holdfast check` and in the log of a
//! start, and never a reason to refuse.

use std::path::{Path, PathBuf};

use storage::Scope;

use super::telemetry::NotExported;
use super::{Config, ENVIRONMENT_PREFIX, Problem, Problems, file, is_setting};

/// The engine's program, which lies beside `holdfast`.
const ENGINE: &str = "holdfast-engine";
/// Variables that are no settings of the file.
const OTHER_VARIABLES: &[&str] = &["ADMIN_KEY", "URL", "LOG", "STOP_AT"];

/// The settings of the process itself, and its surroundings.
pub(crate) fn of_process(config: &Config) -> Vec<Problem> {
    let mut warnings = Problems::default();
    if !config.server.listen.ip().is_loopback() {
        warnings.add(
            "server.listen",
            format!(
                "{} can be reached by others, and Holdfast speaks plain HTTP: keys and prompts can be read on the way; put a proxy with TLS before it",
                config.server.listen
            ),
        );
    }
    if let Some(path) = engine_that_is_missing(config.engine.program.as_deref()) {
        warnings.add("engine.program", no_engine(&path));
    }
    exports(config, &|name| std::env::var(name).ok(), &mut warnings);
    programs(config, &mut warnings);
    variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()), &mut warnings);
    warnings.0
}

/// Names of keys that `known` does not have.
pub(crate) fn of_keys(config: &Config, known: &dyn Fn(&str) -> bool) -> Vec<Problem> {
    let mut warnings = Problems::default();
    let mut named = |at: String, name: &str| {
        if !known(name) {
            let message = format!(
                "no key of this file is named \"{name}\"; one that `holdfast keys create {name}` makes will do"
            );
            warnings.add(at, message);
        }
    };
    for (index, budget) in config.budgets.iter().enumerate() {
        if let Scope::Key(name) = &budget.scope {
            named(format!("budgets[{index}].scope"), name);
        }
    }
    for (index, limit) in config.rate_limits.iter().enumerate() {
        if let Some(name) = &limit.scope.key {
            named(format!("rate_limits[{index}].scope"), name);
        }
    }
    for (index, server) in config.mcp_servers.iter().enumerate() {
        for (place, name) in server.keys.iter().flatten().enumerate() {
            named(format!("mcp_servers[{index}].keys[{place}]"), name);
        }
    }
    warnings.0
}

/// Models that routes name and `known` does not have: a request passes over such targets, and is
/// neither compacted nor judged by such a model.
pub(crate) fn of_routes(config: &Config, known: &dyn Fn(&str) -> bool) -> Vec<Problem> {
    let mut warnings = Problems::default();
    for (index, route) in config.routes.iter().enumerate() {
        for target in route.models().iter().filter(|name| !known(name)) {
            let message = format!(
                "there is no model \"{target}\"; until one is made at run time, the route does without it"
            );
            warnings.add(format!("routes[{index}].targets"), message);
        }
        let compact_model = route.context.as_ref().and_then(|it| it.compact_model.as_deref());
        if let Some(model) = compact_model.filter(|name| !known(name)) {
            let message = format!(
                "there is no model \"{model}\"; until one is made at run time, nothing is compacted"
            );
            warnings.add(format!("routes[{index}].context.compact_model"), message);
        }
        let judge = route.cascade.as_ref().and_then(|it| it.judge.as_ref());
        let judge = judge.map(|judge| ("cascade", &judge.model));
        let of_auto = route.auto.as_ref().and_then(|it| it.judge.as_ref());
        let of_auto = of_auto.map(|judge| ("auto", &judge.model));
        for (table, model) in judge.into_iter().chain(of_auto).filter(|(_, name)| !known(name)) {
            let message = format!(
                "there is no model \"{model}\"; until one is made at run time, it judges no answer"
            );
            warnings.add(format!("routes[{index}].{table}.judge.model"), message);
        }
    }
    warnings.0
}

/// The engine's program: the configured one, else the one beside us.
///
/// # Errors
/// The system does not say where our own binary is.
pub(crate) fn engine_program(configured: Option<&Path>) -> std::io::Result<PathBuf> {
    match configured {
        Some(program) => Ok(program.to_path_buf()),
        None => Ok(std::env::current_exe()?.with_file_name(ENGINE)),
    }
}

/// Where the engine's program should be, if it isn't.
pub(crate) fn engine_that_is_missing(configured: Option<&Path>) -> Option<PathBuf> {
    engine_program(configured).ok().filter(|program| !program.is_file())
}

/// What is said of it.
pub(crate) fn no_engine(path: &Path) -> String {
    format!(
        "{ENGINE} is not beside holdfast: no local model can answer until it is at {}",
        path.display()
    )
}

/// An export that the environment asks for and that can't be made.
fn exports(config: &Config, environment: &dyn Fn(&str) -> Option<String>, warnings: &mut Problems) {
    if let Err(NotExported::Variable(name, why)) = config.telemetry.otlp(environment) {
        warnings.add(name, format!("{why}; nothing is exported"));
    }
}

/// Tool servers whose program a start by hand would not find either.
fn programs(config: &Config, warnings: &mut Problems) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    for (index, server) in config.mcp_servers.iter().enumerate() {
        let Some(program) = server.command.first() else { continue };
        let is_there = if program.contains('/') {
            // A tool server's working folder is its own, so that a relative path leads nowhere.
            Path::new(program).is_absolute() && Path::new(program).is_file()
        } else {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        };
        if !is_there {
            let message = format!("the program \"{program}\" is not there");
            warnings.add(format!("mcp_servers[{index}].command[0]"), message);
        }
    }
}

/// Variables that look as if they set something, and set nothing.
fn variables(names: impl Iterator<Item = String>, warnings: &mut Problems) {
    for name in names {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let one_line_less = |(section, keys): &(&str, &[&str])| {
            keys.iter().any(|key| {
                let (section, key) = (section.to_uppercase(), key.to_uppercase());
                rest == key || rest == section || *rest == format!("{section}_{key}")
            })
        };
        let looks_like = file::SETTINGS.iter().any(one_line_less) || rest == "CONFIG";
        if looks_like && !OTHER_VARIABLES.contains(&rest) {
            let message = "sets nothing: a setting is written HOLDFAST_SECTION__KEY, such as HOLDFAST_SERVER__LISTEN";
            warnings.add(name, message);
        }
    }
}

/// Variables with the form of a setting that are none.
pub(super) fn unknown_settings(names: impl Iterator<Item = String>, problems: &mut Problems) {
    for name in names {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        if rest.contains("__") && !is_setting(&name) {
            problems.add(name, "is no setting of [server], [data] or [engine]");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn config(text: &str) -> Config {
        parse(text, Path::new("/etc/holdfast"), &|_| None).unwrap().0
    }

    fn at(warnings: &[Problem]) -> Vec<&str> {
        warnings.iter().map(|warning| warning.at.as_str()).collect()
    }

    #[test]
    fn keys_that_nobody_made_are_named() {
        let config = config(
            r#"
            [[budgets]]
            scope = { key = "ghost" }
            limit_usd = "1.00"
            [[budgets]]
            scope = "account"
            limit_usd = "1.00"
            [[mcp_servers]]
            name = "notes"
            command = ["sh"]
            keys = ["agent", "spirit"]
        "#,
        );
        let warnings = of_keys(&config, &|name| name == "agent");
        assert_eq!(at(&warnings), ["budgets[0].scope", "mcp_servers[0].keys[1]"]);
        assert!(warnings[0].message.contains("keys create ghost"), "{warnings:?}");
    }

    #[test]
    fn targets_that_nobody_offers_are_named() {
        let config = config(
            r#"
            [[routes]]
            name = "fast"
            targets = ["local/demo"]
            [[routes]]
            name = "good"
            targets = ["local/demo", "local/ghost"]
        "#,
        );
        let warnings = of_routes(&config, &|name| name == "local/demo");
        assert_eq!(at(&warnings), ["routes[1].targets"]);
        assert!(warnings[0].message.contains("\"local/ghost\""), "{warnings:?}");
    }

    #[test]
    fn programs_that_are_not_there_are_named() {
        let server = |name: &str, program: &str| {
            format!("[[mcp_servers]]\nname = \"{name}\"\ncommand = [\"{program}\"]\n")
        };
        let text = server("a", "sh") + &server("b", "no-such-program") + &server("c", "./relative");
        let mut warnings = Problems::default();
        programs(&config(&text), &mut warnings);
        assert_eq!(at(&warnings.0), ["mcp_servers[1].command[0]", "mcp_servers[2].command[0]"]);
    }

    #[test]
    fn an_engine_that_is_missing_and_an_open_address_are_named() {
        let config =
            config("[server]\nlisten = \"0.0.0.0:1\"\n[engine]\nprogram = \"nowhere/engine\"");
        let warnings = of_process(&config);
        assert_eq!(at(&warnings)[..2], ["server.listen", "engine.program"]);
        assert!(warnings[1].message.contains("is not beside holdfast"), "{warnings:?}");
    }

    #[test]
    fn variables_that_set_nothing_are_named() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut warnings = Problems::default();
        let set = [
            "HOLDFAST_LISTEN",
            "HOLDFAST_SERVER_LISTEN",
            "HOLDFAST_URL",
            "HOLDFAST_KEY",
            "HOLDFAST_SERVER__LISTEN",
            "HOLDFAST_SERVICE_HOST",
            "HOME",
        ];
        variables(names(&set).into_iter(), &mut warnings);
        assert_eq!(at(&warnings.0), ["HOLDFAST_LISTEN", "HOLDFAST_SERVER_LISTEN"]);
        let mut problems = Problems::default();
        let set = ["HOLDFAST_SERVER__PORT", "HOLDFAST_SERVER__LISTEN", "HOLDFAST_KEYS__A", "A__B"];
        unknown_settings(names(&set).into_iter(), &mut problems);
        assert_eq!(at(&problems.0), ["HOLDFAST_SERVER__PORT", "HOLDFAST_KEYS__A"]);
    }
}
