//! What the embedded store costs on this machine:
//! `cargo run --release -p storage --features suite --example store_cost -- DIR` prints, for a
//! database in DIR, one idle commit beside one fdatasync of 4 KiB, and ledger rows per second and
//! their CPU. A tool to look at by hand; nothing is asserted.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring tool: it asks the machine's clock, blocks, prints, and ends at the first error"
)]

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use storage::ledger::LedgerRow;
use storage::suite::fixtures::{Make, TODAY, part, rows, spend};
use storage::{Budgets, Commit, SqliteStore, Store, WindowKind};
use tokio::task::JoinSet;
use types::{Stop, Usage};

/// Commits and syncs that are timed one by one, in turns.
const IDLE_ROUNDS: usize = 1_000;
/// Rows of each ledger run.
const ROWS: usize = 40_000;

#[tokio::main]
async fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    let database = folder.join("store_cost.db");
    for path in ["db", "db-wal", "db-shm"].map(|extension| database.with_extension(extension)) {
        drop(fs::remove_file(path));
    }
    let store = SqliteStore::open(&database).unwrap();
    idle(&store, &folder).await;
    for batch in [1, 16, 256] {
        ledger(&store, batch, 64, false).await;
    }
    for batch in [1, 16, 256] {
        ledger(&store, batch, 64, true).await;
    }
    ledger(&store, 1, 1, true).await;
    store.close().await.unwrap();
}

fn plain(make: &Make) -> LedgerRow {
    let usage = Usage { input_tokens: 900, output_tokens: 120, ..Usage::default() };
    LedgerRow {
        model_version: Some("qwen3-32b-2026-10".to_owned()),
        stop: Some(Stop::End),
        usage: Some(usage),
        price_version: Some("config@2026-11-21".to_owned()),
        first_content_us: Some(80_000),
        output_cap: Some(4_096),
        ..make.row(Vec::new())
    }
}

/// One commit at a time, in turns with one 4 KiB write and fdatasync into a file that has its size
/// already.
async fn idle(store: &SqliteStore, folder: &Path) {
    let make = Make::new();
    let path = folder.join("store_cost.raw");
    let mut raw = File::create(&path).unwrap();
    let block = [7u8; 4_096];
    for _ in 0..64 {
        raw.write_all(&block).unwrap();
    }
    raw.sync_all().unwrap();
    let (mut commits, mut syncs) = (Vec::new(), Vec::new());
    for round in 0..IDLE_ROUNDS {
        raw.seek(SeekFrom::Start(round as u64 % 64 * 4_096)).unwrap();
        let start = Instant::now();
        raw.write_all(&block).unwrap();
        raw.sync_data().unwrap();
        syncs.push(start.elapsed());
        let commit = rows(vec![plain(&make)]);
        let start = Instant::now();
        store.commit(commit).await.unwrap();
        commits.push(start.elapsed());
    }
    println!("fdatasync of 4 KiB   {}", percentiles(&mut syncs));
    println!("idle commit, 1 row   {}", percentiles(&mut commits));
    fs::remove_file(path).unwrap();
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100];
    format!("p50 {:?} p90 {:?} p99 {:?}", at(50), at(90), at(99))
}

/// `ROWS` rows in commits of `batch`, from `writers` tasks, each row charging one budget or none.
async fn ledger(store: &SqliteStore, batch: usize, writers: usize, charging: bool) {
    let make = Make::new();
    make.clock.jump_to(types::Timestamp(types::Clock::now(&types::clock::SystemClock::new()).0));
    let budget = make.budget(1_000_000_000_000, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let claim = make.claim(&budget, TODAY, 1_000_000_000_000, &make.node());
    let slice = store.claim(claim).await.unwrap();
    let row = || {
        let mut row = plain(&make);
        if charging {
            row.charges = vec![spend(&budget, TODAY, vec![part(&slice.id, 1_000, 0)], 1_000)];
        }
        row
    };
    let total = if writers == 1 { ROWS / 20 } else { ROWS };
    let mut commits: Vec<Vec<Commit>> = (0..writers).map(|_| Vec::new()).collect();
    for number in 0..total / batch {
        commits[number % writers].push(rows((0..batch).map(|_| row()).collect()));
    }
    let (start, cpu) = (Instant::now(), writer_cpu());
    let mut tasks = JoinSet::new();
    for commits in commits {
        let store = store.clone();
        tasks.spawn(async move {
            for commit in commits {
                store.commit(commit).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let (elapsed, cpu) = (start.elapsed(), writer_cpu() - cpu);
    let count = (total / batch * batch) as f64;
    println!(
        "ledger, {writers:>2} writers, {batch:>3} rows a commit{}: {:>7.0} rows/s, {:>5.2} µs CPU a row in the writer",
        if charging { ", one charge each" } else { "" },
        count / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count,
    );
}

/// CPU that the writer's thread has used, from the kernel's scheduler statistics (nanoseconds).
fn writer_cpu() -> Duration {
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let name = fs::read_to_string(task.join("comm")).unwrap();
        if name.trim() == "store-write" {
            let statistics = fs::read_to_string(task.join("schedstat")).unwrap();
            let running = statistics.split(' ').next().unwrap();
            return Duration::from_nanos(running.parse().unwrap());
        }
    }
    Duration::ZERO
}
