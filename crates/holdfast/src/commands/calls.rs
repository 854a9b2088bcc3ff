//! `holdfast calls`.

use std::collections::HashMap;

use clap::Subcommand;
use serde_json::Value;

use super::api::{ApiArgs, encoded};
use super::table;

/// Finished Calls.
#[derive(Debug, clap::Args)]
pub(crate) struct CallsArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: CallsCommand,
}

#[derive(Debug, Subcommand)]
enum CallsCommand {
    /// Newest first.
    List {
        /// Of this session.
        #[arg(long)]
        session: Option<String>,
        /// Of this task.
        #[arg(long)]
        task: Option<String>,
        /// With the key of this id.
        #[arg(long = "key-id")]
        key_id: Option<String>,
        /// Begun at or after this second since the epoch.
        #[arg(long)]
        since: Option<i64>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// One Call with all its attempts.
    Show {
        /// Its id.
        id: String,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: CallsArgs) -> anyhow::Result<()> {
    let api = &arguments.api;
    // The ledger has the keys' ids; people know their names.
    let names = if api.json { HashMap::new() } else { key_names(&api.get("keys").await?) };
    let answer = match arguments.command {
        CallsCommand::List { session, task, key_id, since, limit } => {
            let mut path = format!("calls?limit={limit}");
            let filters = [
                ("session", session),
                ("task", task),
                ("key", key_id),
                ("since", since.map(|s| s.to_string())),
            ];
            for (name, value) in filters {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", encoded(&value)));
                }
            }
            api.get(&path).await?
        }
        CallsCommand::Show { id } => api.get(&format!("calls/{}", encoded(&id))).await?,
    };
    api.print(&answer, |answer| show(answer, &names))
}

/// The keys' names by their ids.
fn key_names(keys: &Value) -> HashMap<String, String> {
    let keys = keys["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    keys.iter().map(|key| (table::cell(&key["id"]), table::cell(&key["name"]))).collect()
}

/// One line per row of the ledger. A key that was deleted since is shown by its id.
fn show(answer: &Value, key_names: &HashMap<String, String>) -> String {
    let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = data
        .iter()
        .map(|row| {
            let usage = &row["usage"];
            let key = table::cell(&row["key"]);
            vec![
                table::cell(&row["call"]),
                table::time(&row["started_at"]),
                key_names.get(&key).cloned().unwrap_or(key),
                table::cell(&row["kind"]),
                table::cell(&row["name"]),
                table::cell(&usage["input_tokens"]),
                table::cell(&usage["output_tokens"]),
                table::cell(&row["cost"]),
                table::cell(&row["unreconciled"]),
                milliseconds(&row["total_us"]),
                table::cell(&row["error"]),
            ]
        })
        .collect();
    let headings = [
        "call",
        "begun (UTC)",
        "key",
        "kind",
        "name",
        "in",
        "out",
        "cost $",
        "unreconciled $",
        "ms",
        "error",
    ];
    table::render(&headings, &rows)
}

fn milliseconds(micros: &Value) -> String {
    let micros = micros.as_u64().unwrap_or(0);
    format!("{}.{:01}", micros / 1_000, micros % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_says_when_and_by_whom() {
        let names = key_names(&json!({ "data": [{ "id": "key_1", "name": "agent" }] }));
        let row = |key: &str| json!({ "call": "hfc_1", "key": key, "started_at": 1_000_000 });
        let shown = show(&json!({ "data": [row("key_1"), row("key_gone")] }), &names);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].starts_with("hfc_1  1970-01-01 00:00:01  agent "), "{shown}");
        assert!(lines[2].contains(" key_gone "), "{shown}");
    }
}
