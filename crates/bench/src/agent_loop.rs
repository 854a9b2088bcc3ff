//! `agent-loop`: the platform's own time per durable step, beside one fsync on the same disk.
//!
//! Model and tool answer at once. Both write down when they were asked and when they had answered,
//! so that a step's time is seen from outside: from the model's last byte to the tool's call, and
//! from the tool's answer to the model's next request. Each holds one durable commit (outcome of
//! one step, intent of the next). A median below what a fast fsync takes would mean that something
//! is not durable, and fails.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Common;
use crate::holdfast::{Holdfast, KEY};
use crate::report::{self, quantile, rounded};

pub(crate) mod client;
mod model;
pub(crate) mod tool_server;

/// Tool calls in one turn.
const CALLS_PER_TURN: usize = 20;
/// Syncs of the compared file between two turns.
const SYNCS_PER_TURN: u64 = 40;
/// Bytes of the file that is synced, as a log's page is.
const SYNCED_BYTES: usize = 4_096;
/// Pages of the preallocated file that are written in turn.
const SYNCED_PAGES: u64 = 1_024;

/// Runs the benchmark.
pub(crate) fn run(common: Common) -> anyhow::Result<()> {
    let turns = if common.quick { 10 } else { 60 };
    let model = model::start(CALLS_PER_TURN)?;
    let folder = tempfile::tempdir()?;
    let times = folder.path().join("tool-times");
    let own = std::env::current_exe()?;
    let holdfast = Holdfast::start(&format!(
        "[[providers]]\nname = \"bench\"\nvendor = \"openai-compatible\"\nbase_url = \"http://{}/v1\"\napi_key = \"bench-upstream-key\"\nmodels = [{{ id = \"loop\", input_usd_per_million = \"0.10\", output_usd_per_million = \"0.40\" }}]\n\n[[mcp_servers]]\nname = \"noop\"\nkeys = [\"bench\"]\ncommand = [{:?}, \"tool-server\", \"--times\", {:?}]\n",
        model.address,
        own.display().to_string(),
        times.display().to_string(),
    ))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // One turn to start the tool server and warm everything up.
    runtime.block_on(turn(&holdfast))?;
    let began = micros(SystemTime::now());
    // In turns with the loop: a disk's own pace changes within seconds, so that only neighbours can
    // be compared.
    let mut fsyncs = Vec::new();
    let mut file = SyncedFile::create(holdfast.folder())?;
    for _ in 0..turns {
        runtime.block_on(turn(&holdfast))?;
        fsyncs.extend(file.sync_times(SYNCS_PER_TURN)?);
    }
    let mut steps = step_times(&model.times(), &tool_times(&times)?, began);
    ensure!(steps.len() >= turns * CALLS_PER_TURN, "only {} steps were seen", steps.len());
    let (step_p50, step_p99) = (quantile(&mut steps, 0.5), quantile(&mut steps, 0.99));
    let fsync_p50 = quantile(&mut fsyncs, 0.5);
    // The fast ones: on a busy machine the sync's own thread waits for a processor, and the median
    // says more about that than about the disk.
    let fsync_p10 = quantile(&mut fsyncs, 0.1);
    ensure!(
        step_p50 >= fsync_p10,
        "a step took {step_p50} ms, less than a fast fsync ({fsync_p10} ms): it is not durable"
    );
    let figures = json!({
        "bench": "agent-loop",
        "quick": common.quick,
        "steps": steps.len(),
        "step_p50_ms": rounded(step_p50),
        "step_p99_ms": rounded(step_p99),
        "fsync_p50_ms": rounded(fsync_p50),
        "aim_ms": rounded(2.0 * fsync_p50 + 0.5),
    });
    let line = format!(
        "{} durable steps: p50 {step_p50:.3} ms, p99 {step_p99:.3} ms; one fsync p50 {fsync_p50:.3} ms; aim <= {:.3} ms",
        steps.len(),
        2.0 * fsync_p50 + 0.5
    );
    report::finish(common.json, figures, &line);
    Ok(())
}

async fn turn(holdfast: &Holdfast) -> anyhow::Result<()> {
    let body = json!({
        "model": "bench/loop",
        "input": "go on until you are done",
        "tools": [{ "type": "mcp", "server_label": "noop" }],
    });
    let answer = client::post(&holdfast.url, KEY, "/v1/responses", &body).await?;
    ensure!(answer["status"] == "completed", "a turn ended with {answer}");
    let calls =
        answer["output"].as_array().into_iter().flatten().filter(|item| item["type"] == "mcp_call");
    ensure!(calls.count() == CALLS_PER_TURN, "a turn made another number of tool calls");
    Ok(())
}

/// When somebody was asked and had answered, in microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    at: u64,
    answered: u64,
}

fn tool_times(path: &Path) -> anyhow::Result<Vec<Asked>> {
    let text = std::fs::read_to_string(path).context("reading the tool server's times")?;
    let line = |line: &str| {
        let (at, answered) = line.split_once(' ')?;
        Some(Asked { at: at.parse().ok()?, answered: answered.parse().ok()? })
    };
    Ok(text.lines().filter_map(line).collect())
}

/// From each answer of the model to the next call of the tool, and from each answer of the tool to
/// the next request to the model, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "microseconds of a benchmark")]
fn step_times(model: &[Asked], tool: &[Asked], since: u64) -> Vec<f64> {
    let mut gaps = Vec::new();
    for call in tool.iter().filter(|call| call.at >= since) {
        let before = model.iter().rev().find(|request| request.answered <= call.at);
        gaps.extend(before.map(|request| call.at - request.answered));
        let after = model.iter().find(|request| request.at >= call.answered);
        gaps.extend(after.map(|request| request.at - call.answered));
    }
    gaps.into_iter().map(|micros| micros as f64 / 1e3).collect()
}

/// A preallocated file of which a page is written and synced.
struct SyncedFile {
    file: File,
    next: u64,
}

impl SyncedFile {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        let mut file = File::create(folder.join("sync"))?;
        for _ in 0..SYNCED_PAGES {
            file.write_all(&[7; SYNCED_BYTES])?;
        }
        file.sync_all()?;
        Ok(Self { file, next: 0 })
    }

    /// Milliseconds of an fdatasync after 4 KiB were written, so many times.
    fn sync_times(&mut self, times: u64) -> anyhow::Result<Vec<f64>> {
        use std::os::unix::fs::FileExt;
        let mut measured = Vec::new();
        for _ in 0..times {
            self.next = (self.next + 1) % SYNCED_PAGES;
            self.file.write_all_at(&[9; SYNCED_BYTES], self.next * SYNCED_BYTES as u64)?;
            let began = Instant::now();
            rustix::fs::fdatasync(self.file.as_fd())?;
            measured.push(began.elapsed().as_secs_f64() * 1e3);
        }
        Ok(measured)
    }
}

/// Microseconds since the epoch.
fn micros(time: SystemTime) -> u64 {
    let since: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A provider's answer: a call of the tool until there are enough results, then a sentence.
fn has_results(request: &Value) -> usize {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().filter(|message| message["role"] == "tool").count()
}
