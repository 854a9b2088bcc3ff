//! `holdfast sessions`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::api::{ApiArgs, encoded};
use super::table;

/// Sessions.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: SessionsCommand,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// Newest first.
    List {
        /// Only those with a step whose outcome nobody knows.
        #[arg(long)]
        in_doubt: bool,
    },
    /// One session with its steps.
    Show {
        /// Its id.
        id: String,
    },
    /// Decide about a step in doubt.
    Resolve {
        /// The session's id.
        session: String,
        /// The step's id.
        step: String,
        /// done (with --output), failed (with --message) or retry (the same idempotency key is
        /// sent).
        decision: String,
        /// What the tool answered, if it was done.
        #[arg(long)]
        output: Option<String>,
        /// Why it failed.
        #[arg(long)]
        message: Option<String>,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: SessionsArgs) -> anyhow::Result<()> {
    let api = &arguments.api;
    match arguments.command {
        SessionsCommand::List { in_doubt } => {
            let path = if in_doubt { "sessions?state=in_doubt" } else { "sessions" };
            let answer = api.get(path).await?;
            api.print(&answer, |answer| {
                let fields = ["id", "user", "name", "state", "last_used_at"];
                table::render(&fields, &table::rows(answer, &fields)) + &doubts(answer)
            })
        }
        SessionsCommand::Show { id } => {
            let answer = api.get(&format!("sessions/{}", encoded(&id))).await?;
            api.print(&answer, with_steps)
        }
        SessionsCommand::Resolve { session, step, decision, output, message } => {
            let path = format!("sessions/{}/steps/{}/resolve", encoded(&session), encoded(&step));
            let mut body = json!({ "decision": decision });
            if let Some(output) = output {
                body["output"] = json!(output);
            }
            if let Some(message) = message {
                body["message"] = json!(message);
            }
            let answer = api.post(&path, &body).await?;
            api.print(&answer, |_| format!("{step}: {decision}"))
        }
    }
}

/// A session, its turns, and the steps of each.
fn with_steps(answer: &Value) -> String {
    let mut text = format!("{}  {}", table::cell(&answer["id"]), table::cell(&answer["state"]));
    let turns = answer["turns"].as_array().map(Vec::as_slice).unwrap_or_default();
    for turn in turns {
        let (response, status) = (table::cell(&turn["response"]), table::cell(&turn["status"]));
        let fields = ["id", "kind", "tool", "state", "attempts", "arguments", "why"];
        let steps = table::rows(&json!({ "data": turn["steps"] }), &fields);
        text.push_str(&format!("\n\n{response}  {status}\n{}", table::render(&fields, &steps)));
    }
    text
}

/// What waits for a decision.
fn doubts(answer: &Value) -> String {
    let sessions = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let doubtful = sessions.iter().filter(|session| !session["in_doubt"].is_null());
    let shown = doubtful.map(|session| {
        let step = &session["in_doubt"];
        format!(
            "\n\nin doubt: {}  {}/{}({})\n  {}\n  holdfast sessions resolve {} {} done|failed|retry",
            table::cell(&step["id"]),
            table::cell(&step["server"]),
            table::cell(&step["tool"]),
            table::cell(&step["arguments"]),
            table::cell(&step["why"]),
            table::cell(&session["id"]),
            table::cell(&step["id"]),
        )
    });
    shown.collect()
}
