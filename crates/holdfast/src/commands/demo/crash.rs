//! Part 3: `kill -9` at the two worst moments of a task on a priced provider.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::agent;
use super::client::Streamed;
use super::narrator::Narrator;
use super::platform::{Process, Stage};

/// The task's name on the bill.
pub(super) const TASK: &str = "demo-priced";
/// The model of the priced provider.
const MODEL: &str = "priced/demo";
/// The second outcome of a tool is the writing one's: the first is the look-up.
const AFTER_WRITE: &str = "journal.after_tool_outcome:2";
/// When the writing tool has been asked and has not answered: the second tool of the task.
const WHILE_WRITING: &str = "tool.running:2";
/// How long a step may take to show up as in doubt.
const DOUBT_WITHIN: Duration = Duration::from_secs(20);
/// Pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Killed when the writing tool's outcome is in the journal and not yet used.
pub(super) async fn after_outcome(
    stage: &Stage,
    narrator: &Narrator,
    platform: Process,
) -> anyhow::Result<Process> {
    platform.stop()?;
    let before = Stage::log(&stage.effects()).len();
    let (platform, broken) = killed_at(stage, AFTER_WRITE).await?;
    narrator.say(&format!(
        "  killed with SIGKILL once add_note's outcome was journaled; the client had {} events",
        broken.last_event.map_or(0, |number| number + 1)
    ))?;
    let whole = stage.client().resume(broken).await.context("picking the stream up")?;
    completed(&whole)?;
    narrator.exchange(agent::FIRST, &whole)?;
    let effects = Stage::log(&stage.effects()).len() - before;
    let twice = finished_twice(stage);
    narrator.say(&format!("  the tool server's log: {effects} effect; the provider's log: {twice} responses finished twice"))?;
    ensure!(effects == 1, "the writing tool had {effects} effects, not one");
    ensure!(twice == 0, "the provider finished {twice} calls twice");
    Ok(platform)
}

/// Killed while the writing tool runs.
pub(super) async fn while_running(
    stage: &Stage,
    narrator: &Narrator,
    platform: Process,
) -> anyhow::Result<Process> {
    platform.stop()?;
    let before = Stage::log(&stage.effects()).len();
    let (platform, broken) = killed_at(stage, WHILE_WRITING).await?;
    let admin = stage.admin()?;
    let (session, step) = in_doubt(stage).await?;
    let text = |name: &str| step[name].as_str().unwrap_or_default().to_owned();
    narrator.say("\n  killed again, now while the tool ran: nobody knows whether it wrote, so nobody guesses")?;
    narrator.say(&format!("  in doubt: {} {}", text("tool"), text("arguments")))?;
    let key = text("id");
    let there =
        Stage::log(&stage.effects()).iter().any(|effect| effect["idempotency_key"] == key.as_str());
    let decision = if there {
        json!({ "decision": "done", "output": "saved" })
    } else {
        json!({ "decision": "retry" })
    };
    narrator.say(&format!(
        "  the tool's own log says that the effect is {}: decided {}",
        if there { "there" } else { "not there" },
        decision["decision"]
    ))?;
    admin.post(&format!("/api/sessions/{session}/steps/{key}/resolve"), &decision).await?;
    let whole = stage.client().resume(broken).await.context("picking the stream up")?;
    completed(&whole)?;
    narrator.exchange(agent::FIRST, &whole)?;
    let effects = Stage::log(&stage.effects()).len() - before;
    narrator.say(&format!("  the tool server's log: {effects} effect"))?;
    ensure!(effects == 1, "the writing tool had {effects} effects, not one");
    Ok(platform)
}

/// Runs the task until the platform stops itself at the named place, kills it, and starts it again.
async fn killed_at(stage: &Stage, place: &str) -> anyhow::Result<(Process, Streamed)> {
    let platform = stage.start(Some(place))?;
    let client = stage.client();
    let turn = tokio::spawn(async move { client.turn(MODEL, agent::FIRST, None, TASK).await });
    platform.stopped().await?;
    platform.kill()?;
    let broken = turn.await?.context("the turn was refused")?;
    ensure!(broken.response.is_none(), "the turn ended before the platform was killed");
    Ok((stage.start(None)?, broken))
}

fn completed(turn: &Streamed) -> anyhow::Result<()> {
    let response = turn.response.as_ref().context("the stream ended without a terminal event")?;
    ensure!(
        response["status"] == "completed",
        "the response is {}: {}",
        response["status"],
        response["error"]
    );
    Ok(())
}

/// Waits for the step in doubt: its session's id, and the step.
async fn in_doubt(stage: &Stage) -> anyhow::Result<(String, Value)> {
    let admin = stage.admin()?;
    let began = std::time::Instant::now();
    while began.elapsed() < DOUBT_WITHIN {
        let sessions = admin.get("/api/sessions?state=in_doubt").await?;
        let first = &sessions["data"][0];
        if let (Some(id), true) = (first["id"].as_str(), first["in_doubt"].is_object()) {
            return Ok((id.to_owned(), first["in_doubt"].clone()));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    anyhow::bail!("no step is in doubt")
}

/// How many Calls the provider finished more than once.
pub(super) fn finished_twice(stage: &Stage) -> usize {
    let mut finished: HashMap<String, usize> = HashMap::new();
    for request in Stage::log(&stage.requests()) {
        if let (Some(call), Some(true)) =
            (request["call_id"].as_str(), request["finished"].as_bool())
        {
            *finished.entry(call.to_owned()).or_default() += 1;
        }
    }
    finished.values().filter(|&&times| times > 1).count()
}
