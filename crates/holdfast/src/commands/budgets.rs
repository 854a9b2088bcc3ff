//! `holdfast budgets`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::api::{ApiArgs, encoded};
use super::table;

/// Limits on money.
#[derive(Debug, clap::Args)]
pub(crate) struct BudgetsArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: BudgetsCommand,
}

#[derive(Debug, Subcommand)]
enum BudgetsCommand {
    /// All budgets with their amounts, in dollars.
    List,
    /// Make a budget, or change the limit of the one of this scope and window.
    Set {
        /// The limit in dollars, such as 5.00.
        limit: String,
        /// Of the key of this name; without --key-name and --session: of the whole account.
        #[arg(long)]
        key_name: Option<String>,
        /// Of this session (id or name); a name is the one that --key-name's user gives.
        #[arg(long)]
        session: Option<String>,
        /// total or day.
        #[arg(long, default_value = "total")]
        window: String,
    },
    /// Remove a budget.
    Delete {
        /// Its id.
        id: String,
    },
    /// Tell what the provider really charged for what is presumed and unreconciled.
    Reconcile {
        /// The budget's id.
        id: String,
        /// Dollars charged of what is presumed.
        #[arg(long)]
        presumed: Option<String>,
        /// Dollars charged of what is unreconciled.
        #[arg(long)]
        unreconciled: Option<String>,
        /// Dollars that were presumed when you looked: refused if it is less by now, and what came
        /// since is left.
        #[arg(long, requires = "presumed")]
        presumed_seen: Option<String>,
        /// Dollars that were unreconciled when you looked.
        #[arg(long, requires = "unreconciled")]
        unreconciled_seen: Option<String>,
        /// The second at which the window began; else the current one.
        #[arg(long)]
        window_start: Option<i64>,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: BudgetsArgs) -> anyhow::Result<()> {
    let api = &arguments.api;
    match arguments.command {
        BudgetsCommand::List => {
            let answer = api.get("budgets").await?;
            api.print(&answer, |answer| show(&answer["data"]))
        }
        BudgetsCommand::Set { limit, key_name, session, window } => {
            let scope = match (key_name, session) {
                (Some(name), Some(session)) => json!({ "session": session, "key": name }),
                (Some(name), None) => json!({ "key": name }),
                (None, Some(session)) => json!({ "session": session }),
                (None, None) => json!("account"),
            };
            let answer = api
                .post("budgets", &json!({ "scope": scope, "limit_usd": limit, "window": window }))
                .await?;
            api.print(&answer, |answer| show(&json!([answer])))
        }
        BudgetsCommand::Delete { id } => {
            let answer = api.delete(&format!("budgets/{}", encoded(&id))).await?;
            api.print(&answer, |_| format!("deleted {id}"))
        }
        BudgetsCommand::Reconcile {
            id,
            presumed,
            unreconciled,
            presumed_seen,
            unreconciled_seen,
            window_start,
        } => {
            let body = json!({
                "presumed_charged_usd": presumed,
                "unreconciled_charged_usd": unreconciled,
                "presumed_seen_usd": presumed_seen,
                "unreconciled_seen_usd": unreconciled_seen,
                "window": window_start,
            });
            let answer = api.post(&format!("budgets/{}/reconcile", encoded(&id)), &body).await?;
            api.print(&answer, |answer| show(&json!([answer])))
        }
    }
}

fn show(budgets: &Value) -> String {
    const AMOUNTS: [&str; 6] = [
        "limit_usd",
        "settled_usd",
        "unreconciled_usd",
        "presumed_usd",
        "reserved_usd",
        "free_usd",
    ];
    let data = budgets.as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |budget: &Value| {
        let what = [table::cell(&budget["id"]), table::scope(&budget["scope"])];
        let rest = ["window"].into_iter().chain(AMOUNTS).map(|field| table::cell(&budget[field]));
        what.into_iter().chain(rest).collect()
    };
    let rows: Vec<Vec<String>> = data.iter().map(row).collect();
    let headings: Vec<&str> = ["id", "scope", "window"].into_iter().chain(AMOUNTS).collect();
    table::render(&headings, &rows)
}
