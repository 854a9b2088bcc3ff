//! `holdfast sessions`.

use anyhow::ensure;
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
        #[arg(value_parser = ["done", "failed", "retry"])]
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
            api.print(&answer, |answer| sessions(answer) + &doubts(answer))
        }
        SessionsCommand::Show { id } => {
            let answer = api.get(&format!("sessions/{}", encoded(&id))).await?;
            api.print(&answer, with_steps)
        }
        SessionsCommand::Resolve { session, step, decision, output, message } => {
            complete(&decision, output.as_deref(), message.as_deref())?;
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

/// Whether the decision says all that the model needs.
fn complete(decision: &str, output: Option<&str>, message: Option<&str>) -> anyhow::Result<()> {
    match decision {
        "done" => ensure!(
            output.is_some() && message.is_none(),
            "say what the tool answered, as the model shall read it: done --output \"...\""
        ),
        "failed" => ensure!(
            message.is_some() && output.is_none(),
            "say why it failed, as the model shall read it: failed --message \"...\""
        ),
        _ => ensure!(
            output.is_none() && message.is_none(),
            "the tool itself will answer: retry takes neither --output nor --message"
        ),
    }
    Ok(())
}

/// One line per session.
fn sessions(answer: &Value) -> String {
    let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |session: &Value| {
        let fields = ["id", "user", "name", "state"];
        let mut row: Vec<String> =
            fields.iter().map(|field| table::cell(&session[*field])).collect();
        row.push(table::time(&session["last_used_at"]));
        row
    };
    let rows: Vec<Vec<String>> = data.iter().map(row).collect();
    table::render(&["id", "user", "name", "state", "last used (UTC)"], &rows)
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
            "\n\nin doubt: {}  {}/{}({})\n  {}\nsettle it by one of:{}",
            table::cell(&step["id"]),
            table::cell(&step["server"]),
            table::cell(&step["tool"]),
            table::cell(&step["arguments"]),
            table::cell(&step["why"]),
            decisions(&table::cell(&session["id"]), &table::cell(&step["id"])),
        )
    });
    shown.collect()
}

/// The commands that decide about a step, each on a line that a shell takes as it stands.
fn decisions(session: &str, step: &str) -> String {
    ["done --output \"...\"", "failed --message \"...\"", "retry"]
        .map(|decision| format!("\n  holdfast sessions resolve {session} {step} {decision}"))
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_in_doubt_comes_with_commands_that_can_be_pasted() {
        let step = json!({ "id": "step_1", "server": "notes", "tool": "add_note" });
        let session = json!({ "id": "sess_1", "last_used_at": 0, "in_doubt": step });
        let shown = doubts(&json!({ "data": [session, { "id": "sess_2", "in_doubt": null }] }));
        let commands: Vec<&str> =
            shown.lines().filter(|line| line.starts_with("  holdfast ")).collect();
        assert_eq!(commands.len(), 3, "{shown}");
        for (command, decision) in commands.iter().zip(["done", "failed", "retry"]) {
            let expected = format!("  holdfast sessions resolve sess_1 step_1 {decision}");
            assert!(command.starts_with(&expected) && !command.contains('|'), "{command}");
        }
    }

    #[test]
    fn a_decision_says_what_the_model_needs() {
        let told = |decision, output, message| {
            complete(decision, output, message).unwrap_err().to_string()
        };
        assert!(told("done", None, None).contains("--output"));
        assert!(told("failed", None, None).contains("--message"));
        assert!(told("retry", Some("saved"), None).contains("neither"));
        for (decision, output, message) in
            [("done", Some("saved"), None), ("failed", None, Some("closed")), ("retry", None, None)]
        {
            assert!(complete(decision, output, message).is_ok(), "{decision}");
        }
    }

    #[test]
    fn sessions_have_a_time_that_can_be_read() {
        let session = json!({ "id": "sess_1", "state": "idle", "last_used_at": 1_000_000 });
        assert!(sessions(&json!({ "data": [session] })).ends_with("idle   1970-01-01 00:00:01"));
    }
}
