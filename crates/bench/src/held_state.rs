//! `held-state`: time to the first token of a new turn after a long history.
//!
//! On the random model of about 0.4 billion weights that `make build` makes: with the state held in
//! memory, restored from disk after `kill -9` of the engine, and cold. Two stored sessions go the
//! same way: one was given the history before, and its state is held; the other begins cold with
//! the first turn in it, and its state is restored before each further one. Greedy sampling must
//! give both the same text in every turn.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Common;
use crate::agent_loop::client;
use crate::holdfast::{Holdfast, KEY};
use crate::process::descendants;
use crate::report::{self, median, rounded};

/// Words of the history: about 2,000 tokens of the random model's vocabulary.
const HISTORY_WORDS: usize = 1_000;
/// Tokens of each answer.
const ANSWER_TOKENS: u64 = 8;
/// Tokens of the answer to the history: of one token, text and token say the same, so that a cold
/// request can give the text.
const OPENING_TOKENS: u64 = 1;
/// The engine has this long to load the model.
const LOADED_WITHIN: Duration = Duration::from_secs(60);
/// The engine has this long to write a turn's state behind its back.
const SAVED_WITHIN: Duration = Duration::from_secs(20);

/// A measured turn.
#[derive(Debug)]
struct Turn {
    response: String,
    first_token_ms: f64,
    text: String,
}

/// Runs the benchmark.
pub(crate) fn run(common: Common) -> anyhow::Result<()> {
    let model = model_file()?;
    let holdfast = Holdfast::start(&format!(
        "[[models]]\nname = \"bench\"\npath = {:?}\n",
        model.display().to_string()
    ))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Each restored turn ends the engine once more, and the pause before it is started again
    // doubles.
    let repeats = if common.quick { 5 } else { 8 };
    runtime.block_on(async {
        load_engine(&holdfast).await?;
        let opening = opened(&holdfast).await?;
        let mut held = vec![next(&holdfast, &opening).await?];
        let cold = cold(&holdfast, &opening.text).await?;
        for _ in 0..repeats {
            held.push(next(&holdfast, held.last().context("a turn")?).await?);
        }
        let mut restored = Vec::new();
        for _ in 0..repeats {
            saved(&holdfast)?;
            kill_engine(&holdfast)?;
            load_engine(&holdfast).await?;
            restored.push(next(&holdfast, restored.last().unwrap_or(&cold)).await?);
        }
        for (held, other) in held.iter().zip(std::iter::once(&cold).chain(&restored)) {
            ensure!(held.text == other.text, "the tokens differ: {held:?} and {other:?}");
        }
        report(common, &cold, &held, &restored);
        anyhow::Ok(())
    })
}

fn report(common: Common, cold: &Turn, held: &[Turn], restored: &[Turn]) {
    let of =
        |turns: &[Turn]| rounded(median(turns.iter().map(|turn| turn.first_token_ms).collect()));
    let (held, restored, cold) = (of(held), of(restored), rounded(cold.first_token_ms));
    let figures = json!({
        "bench": "held-state",
        "quick": common.quick,
        "ttft_ms": { "held": held, "restored": restored, "cold": cold },
        "cold_over_restored": rounded(cold / restored),
        "same_tokens": true,
    });
    let line = format!(
        "first token after: held {held} ms, restored {restored} ms, cold {cold} ms (cold/restored {:.1})",
        cold / restored
    );
    report::finish(common.json, figures, &line);
}

fn model_file() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let root = own.ancestors().nth(3).context("the binary is not in target/release")?;
    let model = root.join("models/bench/random-0.4b.gguf");
    ensure!(model.is_file(), "{} is missing: run `make build`", model.display());
    Ok(model)
}

fn message(role: &str, text: &str) -> Value {
    json!({ "role": role, "content": text })
}

fn history() -> Vec<Value> {
    let words: Vec<String> =
        (0..HISTORY_WORDS).map(|index| format!("w{}", index * 7_919 % 10_007)).collect();
    vec![message("system", &words.join(" ")), message("user", "hello")]
}

/// A new session with the history in it.
async fn opened(holdfast: &Holdfast) -> anyhow::Result<Turn> {
    turn(holdfast, &json!({ "input": history(), "max_output_tokens": OPENING_TOKENS })).await
}

/// The turn behind `turn`, of a few tokens.
async fn next(holdfast: &Holdfast, turn_before: &Turn) -> anyhow::Result<Turn> {
    let body = json!({ "input": "and now", "previous_response_id": turn_before.response });
    turn(holdfast, &body).await
}

/// The first turn behind the history, as the beginning of another session.
async fn cold(holdfast: &Holdfast, opening: &str) -> anyhow::Result<Turn> {
    let mut input = history();
    input.extend([message("assistant", opening), message("user", "and now")]);
    turn(holdfast, &json!({ "input": input })).await
}

/// The engine is started by a request that nobody measures and nothing keeps. Right after a kill
/// the answer may be a 503 until it is back.
async fn load_engine(holdfast: &Holdfast) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match turn(holdfast, &json!({ "input": "hello", "store": false })).await {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > LOADED_WITHIN => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn turn(holdfast: &Holdfast, fields: &Value) -> anyhow::Result<Turn> {
    let mut body = json!({
        "model": "local/bench",
        "max_output_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "stream": true,
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let events = client::stream(&holdfast.url, KEY, "/v1/responses", &[], &body).await?;
    let is = |kind: &'static str| move |event: &&(f64, Value)| event.1["type"] == kind;
    let created = events.iter().find(is("response.created")).context("no turn began")?;
    let deltas: Vec<_> = events.iter().filter(is("response.output_text.delta")).collect();
    let (first_token_ms, _) = deltas.first().context("no text was answered")?;
    Ok(Turn {
        response: created.1["response"]["id"].as_str().context("a response's id")?.to_owned(),
        first_token_ms: *first_token_ms,
        text: deltas.iter().filter_map(|(_, event)| event["delta"].as_str()).collect(),
    })
}

/// Waits until no state is being written any more.
fn saved(holdfast: &Holdfast) -> anyhow::Result<()> {
    let began = Instant::now();
    let (mut before, mut same) = (0, 0);
    while same < 5 {
        ensure!(began.elapsed() < SAVED_WITHIN, "the engine does not save the session's state");
        std::thread::sleep(Duration::from_millis(20));
        let now = bytes_below(&holdfast.folder().join("data/kv"));
        same = if now == before && now > 0 { same + 1 } else { 0 };
        before = now;
    }
    Ok(())
}

fn bytes_below(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() })
    };
    entries.flatten().filter_map(of).sum()
}

fn kill_engine(holdfast: &Holdfast) -> anyhow::Result<()> {
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let engine = descendants(holdfast.process.pid())
        .into_iter()
        .find(|&pid| name(pid).starts_with("holdfast-engin"));
    let pid =
        engine.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.context("no engine runs")?, rustix::process::Signal::KILL)?;
    Ok(())
}
