//! `holdfast keys`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::api::{ApiArgs, encoded};
use super::table;

/// API keys.
#[derive(Debug, clap::Args)]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// All keys, without their secrets.
    List,
    /// Make a key; its secret is shown once.
    Create {
        /// Its name.
        name: String,
        /// Its budget in dollars, such as 5.00.
        #[arg(long, required_unless_present = "no_budget", conflicts_with = "no_budget")]
        budget: Option<String>,
        /// The budget's window: total or day.
        #[arg(long, default_value = "total")]
        window: String,
        /// Make a key without a limit.
        #[arg(long)]
        no_budget: bool,
        /// Whose it is.
        #[arg(long)]
        user: Option<String>,
        /// Whether it may use /api.
        #[arg(long)]
        admin: bool,
    },
    /// Remove a key: it stops working at once.
    Delete {
        /// Its id.
        id: String,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: KeysArgs) -> anyhow::Result<()> {
    let api = &arguments.api;
    match arguments.command {
        KeysCommand::List => {
            let answer = api.get("keys").await?;
            api.print(&answer, |answer| {
                let fields = ["id", "name", "user", "role", "hint", "origin"];
                table::render(&fields, &table::rows(answer, &fields))
            })
        }
        KeysCommand::Create { name, budget, window, user, admin, .. } => {
            let budget = budget.map(|limit| json!({ "limit_usd": limit, "window": window }));
            let role = if admin { "admin" } else { "member" };
            let body = json!({ "name": name, "user": user, "role": role, "budget": budget });
            let answer = api.post("keys", &body).await?;
            api.print(&answer, |answer| {
                let text = |name: &str| table::cell(&answer[name]);
                format!(
                    "{}  {}\n\n  {}\n\nThis is shown once: store it now.",
                    text("id"),
                    text("name"),
                    text("secret")
                )
            })
        }
        KeysCommand::Delete { id } => {
            let answer: Value = api.delete(&format!("keys/{}", encoded(&id))).await?;
            api.print(&answer, |_| format!("deleted {id}"))
        }
    }
}
