//! Part 4: time to the first token of a second turn: held in memory, restored from disk, and cold.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{Client, Streamed};
use super::narrator::Narrator;
use super::platform::{Process, Stage};

/// Sentences of the first turn's history: enough tokens that computing them again can be felt.
const HISTORY_SENTENCES: usize = 60;
/// The first turn.
const TOLD: &str = "My name is Salma.";
/// The second turn.
const QUESTION: &str = "What was my name again?";

/// Milliseconds to the first token.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct FirstToken {
    held: f64,
    restored: f64,
    cold: f64,
}

/// Measures the three.
pub(super) async fn show(
    stage: &Stage,
    narrator: &Narrator,
    platform: Process,
) -> anyhow::Result<(Process, FirstToken)> {
    let client = stage.client();
    // Two sessions of the same history: one goes on before the restart, the other after it.
    let (first, other) = (first_turn(&client).await?, first_turn(&client).await?);
    let held = second_turn(&client, &first).await?;
    let cold = cold_turn(&client, &first).await?;
    platform.stop()?;
    let platform = stage.start(None)?;
    let client = stage.client();
    // The model itself is loaded once before, so that what is compared is the session's state
    // alone.
    client
        .post(
            "/v1/chat/completions",
            &json!({ "model": "local/demo", "messages": [{ "role": "user", "content": "Hello" }] }),
        )
        .await?;
    let restored = second_turn(&client, &other).await?;
    let shown =
        FirstToken { held: millis(&held)?, restored: millis(&restored)?, cold: millis(&cold)? };
    narrator.say(&format!(
        "  (behind a history of {HISTORY_SENTENCES} sentences about a garden door, in the turn before:)"
    ))?;
    narrator.say(&format!("  user       {TOLD}"))?;
    let answer = &first["output"][0]["content"][0]["text"];
    narrator.say(&format!("  assistant  {}", answer.as_str().unwrap_or_default()))?;
    narrator.say(&format!("  user       {QUESTION}"))?;
    narrator.say(&format!("  assistant  {}", held.text()))?;
    narrator.say(&format!(
        "  first token after {:.1} ms with the state held in memory, {:.1} ms restored from disk after a restart, {:.1} ms cold",
        shown.held, shown.restored, shown.cold
    ))?;
    narrator.say(
        "  (on a model of 3 million parameters; the larger the model, the larger the difference)",
    )?;
    Ok((platform, shown))
}

fn history(opening: &str) -> String {
    let sentence = |index: usize| format!("Note {index} says that the garden door is green.");
    let sentences: Vec<String> = (0..HISTORY_SENTENCES).map(sentence).collect();
    format!("{opening} {}", sentences.join(" "))
}

async fn first_turn(client: &Client) -> anyhow::Result<Value> {
    let input = json!([
        { "role": "developer", "content": history("You keep notes.") },
        { "role": "user", "content": TOLD },
    ]);
    let turn = client
        .plain_turn(&json!({ "model": "local/demo", "input": input, "stream": true }))
        .await?;
    turn.response.context("the first turn did not end")
}

async fn second_turn(client: &Client, first: &Value) -> anyhow::Result<Streamed> {
    client
        .plain_turn(&json!({
            "model": "local/demo",
            "input": QUESTION,
            "previous_response_id": first["id"],
            "stream": true,
        }))
        .await
}

/// The same history, sent as a whole by somebody new: another first word, so that no held state can
/// serve it.
async fn cold_turn(client: &Client, first: &Value) -> anyhow::Result<Streamed> {
    let input = json!([
        { "role": "developer", "content": history("Here you keep notes.") },
        { "role": "user", "content": TOLD },
        { "role": "assistant", "content": first["output"][0]["content"][0]["text"] },
        { "role": "user", "content": QUESTION },
    ]);
    client
        .plain_turn(
            &json!({ "model": "local/demo", "input": input, "stream": true, "store": false }),
        )
        .await
}

fn millis(turn: &Streamed) -> anyhow::Result<f64> {
    let first: Duration = turn.first_content.context("a turn answered nothing")?;
    Ok((first.as_secs_f64() * 1e4).round() / 10.0)
}
