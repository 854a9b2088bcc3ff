//! Part 2 and part 6: an agent task of five model calls over two turns, and its bill.

use anyhow::ensure;
use serde_json::Value;

use super::client::{Client, Streamed};
use super::narrator::{Narrator, number, shortened};
use super::platform::Stage;

/// The task's name on the bill.
const TASK: &str = "demo-local";
/// What the user says first: a look-up and a note.
pub(super) const FIRST: &str = "Find the note about the harbor and save a note: call Nina at 14.";
/// What the user says next.
pub(super) const SECOND: &str = "Write this down: bring the blanket to Salma.";

/// Said before anything is measured.
const WARM_UP: &str = "Hello!";

/// Where the time of the loop went, in milliseconds.
#[derive(Debug)]
pub(super) struct LoopTimes {
    pub(super) steps: usize,
    pub(super) platform_ms: f64,
    pub(super) model_ms: f64,
    pub(super) tool_ms: f64,
}

/// A ledger row's times, in microseconds since the epoch or as lengths.
#[derive(Clone, Debug)]
struct Step {
    kind: String,
    name: String,
    ended: u64,
    target: u64,
}

/// Runs the task and shows where its time went.
pub(super) async fn show(stage: &Stage, narrator: &Narrator) -> anyhow::Result<LoopTimes> {
    let client = stage.client();
    let warmed = client.turn("local/demo", WARM_UP, None, "demo-warm-up").await?;
    narrator.say(&format!(
        "  once: loading the model and starting the tool server took {:.0} ms with the first turn\n",
        warmed.total.as_secs_f64() * 1e3
    ))?;
    let first = turn(&client, narrator, FIRST, None).await?;
    let second = turn(&client, narrator, SECOND, Some(&first.id)).await?;
    let steps = steps(stage).await?;
    let whole: f64 = [&first, &second].iter().map(|turn| turn.total.as_secs_f64() * 1e3).sum();
    let of = |kind: &str| {
        steps.iter().filter(|step| step.kind == kind).map(|step| millis(step.target)).sum::<f64>()
    };
    let (model_ms, tool_ms) = (of("model"), of("tool"));
    let platform_ms = (whole - model_ms - tool_ms).max(0.0);
    narrator.say("")?;
    narrator.say("  step   what                          model ms   tool ms   platform ms")?;
    for (index, step) in steps.iter().enumerate() {
        let own = own_share(&steps, index);
        let column = |kind: &str| {
            if step.kind == kind { format!("{:.1}", millis(step.target)) } else { String::new() }
        };
        let own = own.map_or_else(String::new, |own| format!("{own:.1}"));
        narrator.say(&format!(
            "  {:>4}   {:<28} {:>9} {:>9} {:>13}",
            index + 1,
            shortened(&step.name),
            column("model"),
            column("tool"),
            own
        ))?;
    }
    narrator.say(&format!(
        "\n  {} steps in {whole:.0} ms: model {model_ms:.0} ms, tools {tool_ms:.0} ms, Holdfast itself {platform_ms:.1} ms",
        steps.len()
    ))?;
    narrator.say("  (Holdfast's own share has HTTP, events and every durable commit in it)")?;
    Ok(LoopTimes { steps: steps.len(), platform_ms, model_ms, tool_ms })
}

async fn turn(
    client: &Client,
    narrator: &Narrator,
    input: &str,
    previous: Option<&str>,
) -> anyhow::Result<Streamed> {
    let turn = client.turn("local/demo", input, previous, TASK).await?;
    let status = turn.response.as_ref().map(|response| response["status"].clone());
    ensure!(status == Some(Value::from("completed")), "the turn did not complete: {status:?}");
    narrator.exchange(input, &turn)?;
    Ok(turn)
}

/// The task's steps, oldest first.
async fn steps(stage: &Stage) -> anyhow::Result<Vec<Step>> {
    let mut rows = rows(stage, TASK).await?;
    rows.reverse();
    let step = |row: &Value| Step {
        kind: row["kind"].as_str().unwrap_or_default().to_owned(),
        name: row["name"].as_str().unwrap_or_default().to_owned(),
        ended: number(&row["started_at"]) + number(&row["total_us"]),
        target: number(&row["target_us"]),
    };
    Ok(rows.iter().map(step).collect())
}

/// The ledger rows of a task, newest first.
pub(super) async fn rows(stage: &Stage, task: &str) -> anyhow::Result<Vec<Value>> {
    let answer = stage.admin()?.get(&format!("/api/calls?task={task}&limit=1000")).await?;
    Ok(answer["data"].as_array().cloned().unwrap_or_default())
}

/// What passed between the end of the step before and this one's end, less the target's own time;
/// `None` for the first of a turn, before which the user was thinking.
fn own_share(steps: &[Step], index: usize) -> Option<f64> {
    let before = steps.get(index.checked_sub(1)?)?;
    let between = steps[index].ended.saturating_sub(before.ended);
    let follows = before.kind != steps[index].kind;
    follows.then(|| millis(between.saturating_sub(steps[index].target)))
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds for the eye")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// Prints the ledger of both tasks: models, tools, retries, cost, time.
pub(super) async fn bill(stage: &Stage, narrator: &Narrator) -> anyhow::Result<()> {
    for task in [TASK, super::crash::TASK] {
        let mut rows = rows(stage, task).await?;
        rows.reverse();
        narrator.say(&format!("  task {task}"))?;
        narrator.say(
            "    what                          in    out        cost $   unreconciled $      ms",
        )?;
        for row in &rows {
            let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
            let usage = &row["usage"];
            narrator.say(&format!(
                "    {:<26} {:>5} {:>6} {:>13} {:>16} {:>7.1}",
                shortened(&text("name")),
                number(&usage["input_tokens"]),
                number(&usage["output_tokens"]),
                text("cost"),
                text("unreconciled"),
                millis(number(&row["total_us"])),
            ))?;
        }
        let total: types::Money = sum(&rows, "cost")?;
        let unreconciled = sum(&rows, "unreconciled")?;
        narrator.say(&format!(
            "    {} calls, ${total} settled, ${unreconciled} unreconciled\n",
            rows.len()
        ))?;
    }
    Ok(())
}

fn sum(rows: &[Value], field: &str) -> anyhow::Result<types::Money> {
    let amounts = rows.iter().filter_map(|row| row[field].as_str()).map(types::Money::parse);
    Ok(amounts.collect::<Result<Vec<_>, _>>()?.into_iter().sum())
}
