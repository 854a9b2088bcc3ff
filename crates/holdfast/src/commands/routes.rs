//! `holdfast routes` and `holdfast reload`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Subcommand;
use serde_json::{Value, json};

use super::api::{ApiArgs, encoded};
use super::table;

/// Names for several models.
#[derive(Debug, clap::Args)]
pub(crate) struct RoutesArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: RoutesCommand,
}

#[derive(Debug, Subcommand)]
enum RoutesCommand {
    /// All routes, and which of their targets are well.
    List,
    /// One route with its settings.
    Show {
        /// Its name.
        name: String,
    },
    /// Make a route, or replace the one of that name.
    Put {
        /// Its name.
        name: String,
        /// Its models in order of preference, each as provider/model.
        targets: Vec<String>,
        /// A further name that it is asked for by; may be given several times.
        #[arg(long)]
        alias: Vec<String>,
        /// All of its settings as JSON or as TOML: a file, or - for standard input.
        #[arg(long, conflicts_with_all = ["targets", "alias"])]
        from: Option<PathBuf>,
    },
    /// Remove a route.
    Delete {
        /// Its name.
        name: String,
    },
    /// The newest versions of the routes, and who made them.
    Versions {
        /// How many at most.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Make a former set of routes the one in force.
    Rollback {
        /// The number of its version.
        version: u64,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: RoutesArgs) -> anyhow::Result<()> {
    let api = &arguments.api;
    let path = |name: &str| format!("routes/{}", encoded(name));
    match arguments.command {
        RoutesCommand::List => {
            let answer = api.get("routes").await?;
            api.print(&answer, |answer| show(&answer["data"]))
        }
        RoutesCommand::Show { name } => {
            let answer = api.get(&path(&name)).await?;
            api.print(&answer, |answer| {
                let settings = serde_json::to_string_pretty(&answer["settings"]);
                format!("{}\n{}", show(&json!([answer])), settings.unwrap_or_default())
            })
        }
        RoutesCommand::Put { name, targets, alias, from } => {
            let settings = match from {
                Some(from) => read(&from)?,
                None => {
                    ensure!(!targets.is_empty(), "name its models, or give --from");
                    let mut settings = json!({ "targets": targets });
                    if !alias.is_empty() {
                        settings["aliases"] = json!(alias);
                    }
                    settings
                }
            };
            let answer = api.put(&path(&name), &settings).await?;
            api.print(&answer, |answer| show(&json!([answer])))
        }
        RoutesCommand::Delete { name } => {
            let answer = api.delete(&path(&name)).await?;
            api.print(&answer, |_| format!("deleted {name}"))
        }
        RoutesCommand::Versions { limit } => {
            let answer = api.get(&format!("routes/versions?limit={limit}")).await?;
            api.print(&answer, |answer| show_versions(&answer["data"]))
        }
        RoutesCommand::Rollback { version } => {
            let answer = api.post("routes/rollback", &json!({ "version": version })).await?;
            api.print(&answer, |answer| show_versions(&json!([answer])))
        }
    }
}

/// A route's settings, from a file that may be either.
#[expect(clippy::disallowed_methods, reason = "a command has nothing else to do meanwhile")]
fn read(from: &Path) -> anyhow::Result<Value> {
    let mut text = String::new();
    if from == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
    } else {
        let read = std::fs::read_to_string(from);
        text = read.with_context(|| format!("reading {}", from.display()))?;
    }
    if let Ok(settings) = serde_json::from_str(&text) {
        return Ok(settings);
    }
    let table: toml::Table = toml::from_str(&text)
        .with_context(|| format!("{} is neither JSON nor TOML", from.display()))?;
    Ok(serde_json::to_value(table)?)
}

fn list(value: &Value, cell: impl Fn(&Value) -> String) -> String {
    let cells: Vec<String> = value.as_array().into_iter().flatten().map(cell).collect();
    if cells.is_empty() { "-".to_owned() } else { cells.join(", ") }
}

fn show(routes: &Value) -> String {
    let data = routes.as_array().map(Vec::as_slice).unwrap_or_default();
    let target = |target: &Value| {
        let model = table::cell(&target["model"]);
        let is_cooling = target["state"] == "cooling";
        if is_cooling { format!("{model} (cooling)") } else { model }
    };
    let row = |route: &Value| {
        vec![
            table::cell(&route["name"]),
            list(&route["settings"]["aliases"], table::cell),
            list(&route["targets"], target),
            table::cell(&route["origin"]),
            table::cell(&route["version"]),
        ]
    };
    let rows: Vec<Vec<String>> = data.iter().map(row).collect();
    table::render(&["name", "aliases", "targets", "origin", "version"], &rows)
}

fn show_versions(versions: &Value) -> String {
    let data = versions.as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |version: &Value| {
        let names = list(&version["routes"], |route| table::cell(&route["name"]));
        let fields = ["number", "at", "author", "what"];
        let cells = fields.into_iter().map(|field| table::cell(&version[field]));
        cells.chain([names]).collect()
    };
    let rows: Vec<Vec<String>> = data.iter().map(row).collect();
    table::render(&["version", "at", "author", "what", "routes"], &rows)
}

/// Have the server read its configuration file again.
#[derive(Debug, clap::Args)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Runs the command; fails, with all that is wrong, if the file was not taken.
pub(crate) async fn reload(arguments: ReloadArgs) -> anyhow::Result<()> {
    let answer = arguments.api.post("config/reload", &json!({})).await?;
    arguments.api.print(&answer, show_reload)
}

fn show_reload(answer: &Value) -> String {
    let lines = |field: &str, line: &dyn Fn(&Value) -> String| -> Vec<String> {
        answer[field].as_array().into_iter().flatten().map(line).collect()
    };
    let text = |value: &Value| table::cell(value);
    let mut all = lines("changes", &|change| {
        format!("{} {}: {}", text(&change["kind"]), text(&change["name"]), text(&change["change"]))
    });
    if all.is_empty() {
        all.push("nothing has changed".to_owned());
    }
    all.extend(lines("needs_restart", &|at| format!("{} needs a restart", text(at))));
    all.extend(lines("warnings", &|warning| {
        format!("warning  {}: {}", text(&warning["at"]), text(&warning["message"]))
    }));
    all.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test")]
    fn settings_are_read_as_json_or_as_toml() {
        let folder = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            let path = folder.path().join("route");
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        let wanted = json!({ "targets": ["a/b"], "attempts": 2 });
        assert_eq!(of(r#"{"targets": ["a/b"], "attempts": 2}"#).unwrap(), wanted);
        assert_eq!(of("targets = [\"a/b\"]\nattempts = 2\n").unwrap(), wanted);
        assert!(of("neither").unwrap_err().to_string().contains("neither JSON nor TOML"));
    }

    #[test]
    fn a_reload_tells_what_changed() {
        let nothing = json!({ "changes": [], "needs_restart": ["server.listen"], "warnings": [] });
        assert_eq!(show_reload(&nothing), "nothing has changed\nserver.listen needs a restart");
        let change = json!({ "kind": "route", "name": "fast", "change": "added" });
        assert_eq!(show_reload(&json!({ "changes": [change] })), "route fast: added");
    }
}
