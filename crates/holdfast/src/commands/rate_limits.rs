//! `holdfast rate-limits`.

use clap::Subcommand;
use serde_json::Value;

use super::api::ApiArgs;
use super::table;

/// Limits on what callers may do in a length of time.
#[derive(Debug, clap::Args)]
pub(crate) struct RateLimitsArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: RateLimitsCommand,
}

#[derive(Debug, Subcommand)]
enum RateLimitsCommand {
    /// All limits with what they have counted, who waits, and how many were refused.
    List,
}

/// Runs the command.
pub(crate) async fn run(arguments: RateLimitsArgs) -> anyhow::Result<()> {
    let api = &arguments.api;
    match arguments.command {
        RateLimitsCommand::List => {
            let answer = api.get("rate-limits").await?;
            api.print(&answer, |answer| show(&answer["data"]))
        }
    }
}

fn show(limits: &Value) -> String {
    let data = limits.as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = data.iter().map(row).collect();
    table::render(
        &["name", "scope", "each", "limits", "per", "running", "waiting", "refused"],
        &rows,
    )
}

fn row(limit: &Value) -> Vec<String> {
    let mut limits = joined(&limit["amounts"], |amount| {
        let (kind, most) = (table::cell(&amount["kind"]), table::cell(&amount["limit"]));
        match amount["used"].as_str() {
            Some(used) => format!("{kind} {used}/{most}"),
            None => format!("{kind} {most}"),
        }
    });
    if let Some(most) = limit["concurrency"].as_u64() {
        limits.push(format!("concurrency {most}"));
    }
    let counts = limit["amounts"].as_array().is_some_and(|amounts| !amounts.is_empty());
    let per = limit["per_seconds"].as_f64().filter(|_| counts).map(|per| format!("{per}s"));
    let scope: Vec<String> = limit["scope"].as_object().into_iter().flatten().map(said).collect();
    let scope = if scope.is_empty() { "account".to_owned() } else { scope.join(" ") };
    vec![
        table::cell(&limit["name"]),
        scope,
        table::cell(&limit["each"]),
        limits.join(", "),
        per.unwrap_or_else(|| "-".to_owned()),
        table::cell(&limit["running"]),
        table::cell(&limit["waiting"]),
        table::cell(&limit["refused"]),
    ]
}

fn said((name, value): (&String, &Value)) -> String {
    format!("{name} {}", table::cell(value))
}

fn joined(list: &Value, each: impl Fn(&Value) -> String) -> Vec<String> {
    list.as_array().into_iter().flatten().map(each).collect()
}
