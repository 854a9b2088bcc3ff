//! `holdfast keys`.

use anyhow::{Context, bail};
use clap::{ArgGroup, Subcommand};
use serde_json::{Value, json};

use super::api::{ApiArgs, encoded};
use super::table;

/// What a key's id begins with.
const ID_PREFIX: &str = "key_";

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
    #[command(group = ArgGroup::new("limit").required(true))]
    Create {
        /// Its name.
        name: String,
        /// Its budget in dollars, such as 5.00.
        #[arg(long, group = "limit")]
        budget: Option<String>,
        /// The budget's window: total or day.
        #[arg(long, default_value = "total")]
        window: String,
        /// Make a key without a limit.
        #[arg(long, group = "limit")]
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
        /// Its id, or its name if only one key has it.
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
            show_once(api, &answer).await
        }
        KeysCommand::Delete { id } => {
            let id =
                if id.starts_with(ID_PREFIX) { id } else { id_of(&api.get("keys").await?, &id)? };
            let answer = api.delete(&format!("keys/{}", encoded(&id))).await?;
            api.print(&answer, |_| format!("deleted {id}"))
        }
    }
}

/// Shows a new key with its secret. One whose secret nobody has seen is of no use to anybody, and
/// nothing tells it from one that somebody has: it is deleted again.
async fn show_once(api: &ApiArgs, key: &Value) -> anyhow::Result<()> {
    let text = |name: &str| table::cell(&key[name]);
    let shown = api.print(key, |_| {
        let (id, name, secret) = (text("id"), text("name"), text("secret"));
        format!("{id}  {name}\n\n  {secret}\n\nThis is shown once: store it now.")
    });
    let Err(error) = shown else { return Ok(()) };
    // Not as it came: a reader that has gone would end the command as if all were well.
    let why = format!("{error:#}");
    let deleted = api.delete(&format!("keys/{}", encoded(&text("id")))).await;
    deleted.with_context(|| {
        format!(
            "the secret of {} could not be shown ({why}), and the key could not be deleted again",
            text("id")
        )
    })?;
    bail!("the key's secret could not be shown, so the key was deleted again: {why}")
}

/// The id of the only key of this name.
fn id_of(keys: &Value, name: &str) -> anyhow::Result<String> {
    let keys = keys["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: Vec<String> =
        keys.iter().filter(|key| key["name"] == name).map(|key| table::cell(&key["id"])).collect();
    match ids.as_slice() {
        [] => bail!("no key has the id or the name {name:?}; `holdfast keys list` shows them all"),
        [id] => Ok(id.clone()),
        _ => bail!("several keys are named {name:?}; name one by its id: {}", ids.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_name_if_only_one_has_it() {
        let keys = json!({ "data": [
            { "id": "key_1", "name": "agent" },
            { "id": "key_2", "name": "ci" },
            { "id": "key_3", "name": "ci" },
        ] });
        assert_eq!(id_of(&keys, "agent").unwrap(), "key_1");
        assert!(id_of(&keys, "ci").unwrap_err().to_string().ends_with("key_2, key_3"));
        assert!(id_of(&keys, "nobody").unwrap_err().to_string().starts_with("no key has"));
    }
}
