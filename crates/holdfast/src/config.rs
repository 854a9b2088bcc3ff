//! The configuration: one TOML file with environment substitution, all problems reported at once.
//!
//! Order of precedence: defaults, file, `HOLDFAST_SECTION__KEY`, flags. A file is read table by
//! table, so that one wrong object does not hide the others' problems; each problem has a key path
//! such as `providers[1].base_url`. How named objects get from here into the store is `wire`'s
//! business, not this module's.

use std::path::{Path, PathBuf};

use anyhow::Context;
use toml::{Table, Value};

mod auto;
mod cascade;
mod context;
pub(crate) mod file;
mod hedge;
pub(crate) mod rates;
pub(crate) mod routes;
mod substitute;
pub(crate) mod telemetry;
mod text;
mod validate;
pub(crate) mod warnings;

pub(crate) use file::{BudgetEntry, Config, KeyEntry, ModelEntry, ProviderEntry};
pub(crate) use rates::RateLimitEntry;
pub(crate) use routes::RouteEntry;
pub(crate) use text::{Stamp, Text};
pub(crate) use validate::routes::{ROUTE_BYTES_MAX, too_large};
pub(crate) use validate::routes_alone;

/// Prefix of environment variables that override settings of the process.
const ENVIRONMENT_PREFIX: &str = "HOLDFAST_";

/// Something that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Problem {
    /// Where: a key path.
    pub(crate) at: String,
    /// What, and what to do.
    pub(crate) message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// Collects problems under a key path.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, at: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { at: at.into(), message: message.into() });
    }
}

/// Reads the configuration; without a path, the defaults.
///
/// # Errors
/// The file can't be read, or is no TOML. Everything else is in the problems.
pub(crate) fn load(path: Option<&Path>) -> anyhow::Result<(Config, Vec<Problem>)> {
    let text = path.map(read).transpose()?.unwrap_or_default();
    let folder = path.and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
    let (config, mut problems) = parse(&text, &folder, &|name| std::env::var(name).ok())?;
    let mut unknown = Problems::default();
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    warnings::unknown_settings(set, &mut unknown);
    problems.append(&mut unknown.0);
    Ok((config, problems))
}

#[expect(clippy::disallowed_methods, reason = "read before a runtime exists")]
fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Reads a configuration's text. `folder` is what its paths are relative to.
fn parse(
    text: &str,
    folder: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<(Config, Vec<Problem>)> {
    let mut problems = Problems::default();
    let mut table: Table = toml::from_str(text).map_err(|error| no_toml(text, &error))?;
    substitute::all(&mut table, environment, &mut problems);
    override_from_environment(&mut table, environment);
    let read_from = problems.0.len();
    let mut config = file::from_table(table, &mut problems);
    let checked_from = problems.0.len();
    resolve_paths(&mut config, folder);
    validate::all(&config, environment, &mut problems);
    let (read, checked) = problems.0.split_at_mut(checked_from);
    number_as_written(&read[read_from..], checked);
    Ok((config, problems.0))
}

/// Says where the text is no TOML, and not what stands there: that may be a secret, and this goes
/// to the log and to `/api`.
fn no_toml(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let place = error.span().and_then(|span| text.get(..span.start)).map(|before| {
        let (line, last) = (before.split('\n').count(), before.rsplit('\n').next());
        format!(" at line {line}, column {}", last.unwrap_or_default().chars().count() + 1)
    });
    let message = error.message().trim().replace('\n', "; ");
    anyhow::anyhow!("the file is no TOML{}: {message}", place.unwrap_or_default())
}

/// Names the entries of lists by their place in the file: what could not be read is not among those
/// that were checked.
fn number_as_written(unread: &[Problem], checked: &mut [Problem]) {
    let gone: Vec<(&str, usize)> = unread
        .iter()
        .filter_map(|one| entry(&one.at))
        .map(|(list, index, _)| (list, index))
        .collect();
    for problem in checked {
        let Some((list, mut index, rest)) = entry(&problem.at) else { continue };
        for (_, unread) in gone.iter().filter(|(of, _)| *of == list) {
            index += usize::from(*unread <= index);
        }
        problem.at = format!("{list}[{index}]{rest}");
    }
}

/// `slos[3].webhook` is (`slos`, 3, `.webhook`).
fn entry(at: &str) -> Option<(&str, usize, &str)> {
    let (list, rest) = at.split_once('[')?;
    let (index, rest) = rest.split_once(']')?;
    Some((list, index.parse().ok()?, rest))
}

/// `HOLDFAST_SERVER__LISTEN=…` sets `[server] listen`. Values are strings; numbers and booleans are
/// read as TOML.
fn override_from_environment(table: &mut Table, environment: &dyn Fn(&str) -> Option<String>) {
    for (section, keys) in file::SETTINGS {
        for key in *keys {
            let name = variable(section, key);
            let Some(text) = environment(&name) else { continue };
            let number = text.parse().map(Value::Integer);
            let value = number.or_else(|_| text.parse().map(Value::Boolean));
            let value = value.unwrap_or(Value::String(text));
            let section = table.entry(*section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                section.insert((*key).to_owned(), value);
            }
        }
    }
}

/// The variable that sets a setting.
fn variable(section: &str, key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{section}__{key}").to_uppercase()
}

/// Whether a variable sets a setting.
fn is_setting(name: &str) -> bool {
    let in_section =
        |(section, keys): &(&str, &[&str])| keys.iter().any(|key| variable(section, key) == name);
    file::SETTINGS.iter().any(in_section)
}

/// Paths in the file are relative to the file.
fn resolve_paths(config: &mut Config, folder: &Path) {
    let resolve = |path: &mut PathBuf| *path = folder.join(&path);
    config.data.dir.as_mut().map(resolve);
    config.engine.program.as_mut().map(resolve);
    for model in &mut config.models {
        model.path.as_mut().map(resolve);
    }
    // A tool server runs in a folder of its own, so that a program or script beside the file must
    // be named in full.
    for part in config.mcp_servers.iter_mut().flat_map(|server| &mut server.command) {
        let beside = folder.join(&*part);
        if beside.is_file()
            && let Ok(absolute) = std::path::absolute(&beside)
        {
            *part = absolute.display().to_string();
        }
    }
}

/// What a text says, with what is wrong with it.
#[cfg(test)]
pub(crate) fn of_text(text: &str) -> (Config, Vec<Problem>) {
    parse(text, Path::new("/etc/holdfast"), &|_| None).unwrap()
}

#[cfg(test)]
mod tests;
