//! `holdfast calls`.

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
    api.print(&answer, show)
}

/// One line per row of the ledger.
fn show(answer: &Value) -> String {
    let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = data
        .iter()
        .map(|row| {
            let usage = &row["usage"];
            vec![
                table::cell(&row["call"]),
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
    table::render(
        &["call", "kind", "name", "in", "out", "cost $", "unreconciled $", "ms", "error"],
        &rows,
    )
}

fn milliseconds(micros: &Value) -> String {
    let micros = micros.as_u64().unwrap_or(0);
    format!("{}.{:01}", micros / 1_000, micros % 1_000 / 100)
}
