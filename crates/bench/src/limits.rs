//! `limits`: what hard budgets cost a request.
//!
//! Processor time and latency of a proxied chat completion under four budgets (account and key, in
//! total and per day), by difference against the same server without any; beside one fsync on the
//! same disk, for which an admission must not wait. Then throughput with 1, 1,000 and 100,000 keys,
//! each with a budget of its own, made by the API.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::Common;
use crate::holdfast::{ADMIN_KEY, Holdfast};
use crate::load::Ask;
use crate::process::Process;
use crate::report::{self, median, rounded};
use crate::systems::{Rounds, Situation, System, compare};

/// Four budgets that every request falls under.
const FOUR_BUDGETS: &str = r#"
[[budgets]]
scope = "account"
limit_usd = "1000000.00"

[[budgets]]
scope = "account"
limit_usd = "1000000.00"
window = "day"

[[budgets]]
scope = { key = "bench" }
limit_usd = "1000000.00"

[[budgets]]
scope = { key = "bench" }
limit_usd = "1000000.00"
window = "day"
"#;
/// How many keys, each with a budget.
const KEYS: [usize; 3] = [1, 1_000, 100_000];
/// The same in the quick form.
const KEYS_QUICK: [usize; 2] = [1, 1_000];
/// Making so many keys is given up after this; throughput is then measured with those that there
/// are.
const MAKE_WITHIN: Duration = Duration::from_secs(600);
/// The same in the quick form.
const MAKE_WITHIN_QUICK: Duration = Duration::from_secs(20);
/// Connections that make keys.
const MAKERS: usize = 16;
/// Of many keys so many are asked with, evenly spread over all.
const KEYS_ASKED: usize = 256;
/// Connections of the comparisons.
const CONNECTIONS: usize = 16;
/// Writes that are made durable to know what that takes.
const SYNCS: usize = 50;
/// What an admission may cost, in microseconds of processor time.
const ADMISSION_AIM_US: f64 = 5.0;
/// The least share of its throughput that the server must keep with the most keys.
const THROUGHPUT_AIM: f64 = 0.95;

/// Runs the benchmark.
pub(crate) fn run(common: Common) -> anyhow::Result<()> {
    let (upstream, ready) = Process::own(&["upstream"])?;
    let upstream_at: SocketAddr = ready["address"].as_str().context("no address")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rounds = match common.quick {
        true => Rounds { count: 3, length: Duration::from_millis(500) },
        false => Rounds { count: 9, length: Duration::from_secs(2) },
    };
    let mut figures = json!({ "bench": "limits", "quick": common.quick, "results": {} });
    runtime.block_on(admission(upstream_at, rounds, &mut figures))?;
    let (counts, within): (&[usize], _) = match common.quick {
        true => (&KEYS_QUICK, MAKE_WITHIN_QUICK),
        false => (&KEYS, MAKE_WITHIN),
    };
    let made = runtime.block_on(make_all(upstream_at, counts, within, &mut figures))?;
    runtime.block_on(throughput(&made, rounds, &mut figures))?;
    drop(upstream);
    judge(&mut figures);
    let line = format!(
        "ratios: {}\naims:   {}\nmet:    {}",
        figures["ratios"], figures["aims"], figures["met"]
    );
    report::finish(common.json, figures, &line);
    Ok(())
}

/// The same server without budgets and under four, in turn.
async fn admission(
    upstream: SocketAddr,
    rounds: Rounds,
    figures: &mut Value,
) -> anyhow::Result<()> {
    let none = Holdfast::before_under("", upstream)?;
    let four = Holdfast::before_under(FOUR_BUDGETS, upstream)?;
    let named =
        |name, holdfast: &Holdfast| holdfast.system().map(|system| System { name, ..system });
    let systems = [named("no_budgets", &none)?, named("four_budgets", &four)?];
    for connections in [1, CONNECTIONS] {
        let label = format!("admission_c{connections}");
        let situation =
            Situation { label: label.clone(), ask: Ask::Plain { body_bytes: 1_000 }, connections };
        figures["results"][label] = compare(&systems, &situation, rounds).await?;
    }
    figures["fsync_p50_ms"] = json!(fsync_p50(&four)?);
    Ok(())
}

/// What it takes to make a small write durable, in milliseconds, where the server has its data.
fn fsync_p50(holdfast: &Holdfast) -> anyhow::Result<f64> {
    let mut file = std::fs::File::create(holdfast.folder().join("synced"))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0; 4_096])?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(rounded(median(times)))
}

/// Starts servers with more and more keys and budgets.
async fn make_all(
    upstream: SocketAddr,
    counts: &[usize],
    within: Duration,
    figures: &mut Value,
) -> anyhow::Result<Vec<(Holdfast, System)>> {
    const NAMES: [&str; 3] = ["few_keys", "some_keys", "many_keys"];
    let mut running = Vec::new();
    for (name, count) in NAMES.into_iter().zip(counts) {
        let holdfast = Holdfast::before_under("", upstream)?;
        let system = holdfast.system()?;
        let began = Instant::now();
        let secrets = make_keys(system.address, *count, within).await?;
        let (made, seconds) = (secrets.len(), rounded(began.elapsed().as_secs_f64()));
        println!("{name}: {made} of {count} keys with budgets were made in {seconds} s");
        figures["keys"][name] = json!({ "asked": count, "made": made, "seconds": seconds });
        let every = (made / KEYS_ASKED).max(1);
        let keys = secrets.into_iter().step_by(every).take(KEYS_ASKED).collect();
        running.push((holdfast, System { name, keys, ..system }));
    }
    Ok(running)
}

/// Drives them in turn.
async fn throughput(
    running: &[(Holdfast, System)],
    rounds: Rounds,
    figures: &mut Value,
) -> anyhow::Result<()> {
    let systems: Vec<_> = running.iter().map(|(_, system)| system.clone()).collect();
    let situation = Situation {
        label: "throughput".to_owned(),
        ask: Ask::Plain { body_bytes: 1_000 },
        connections: CONNECTIONS,
    };
    figures["results"]["throughput"] = compare(&systems, &situation, rounds).await?;
    Ok(())
}

/// Makes keys with budgets by the API, as long as there is time. Answers their secrets.
async fn make_keys(
    address: SocketAddr,
    count: usize,
    within: Duration,
) -> anyhow::Result<Vec<String>> {
    let began = Instant::now();
    let makers = (0..MAKERS.min(count)).map(|maker| async move {
        let mut sender = connect(address).await?;
        let mut secrets = Vec::new();
        for number in (maker..count).step_by(MAKERS) {
            if began.elapsed() > within {
                break;
            }
            let budget = json!({ "limit_usd": "1000.00", "window": "total" });
            let body = json!({ "name": format!("bench-{number}"), "budget": budget });
            let made = post(&mut sender, "/api/keys", &body).await?;
            secrets.push(made["secret"].as_str().context("a key without a secret")?.to_owned());
        }
        anyhow::Ok(secrets)
    });
    Ok(try_join_all(makers).await?.into_iter().flatten().collect())
}

async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its sender.
    drop(tokio::spawn(connection));
    Ok(sender)
}

async fn post(
    sender: &mut SendRequest<Full<Bytes>>,
    path: &str,
    body: &Value,
) -> anyhow::Result<Value> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("host", "bench.local")
        .header("authorization", format!("Bearer {ADMIN_KEY}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&answer));
    Ok(serde_json::from_slice(&answer)?)
}

/// What the figures are held to.
fn judge(figures: &mut Value) {
    let result = |situation: &str, system: &str, figure: &str| {
        figures["results"][situation][system][figure].as_f64()
    };
    let label = format!("admission_c{CONNECTIONS}");
    let more = |situation: &str, figure: &str| {
        let (four, none) =
            (result(situation, "four_budgets", figure)?, result(situation, "no_budgets", figure)?);
        Some(rounded(four - none))
    };
    let cpu = more(&label, "cpu_us");
    let added = more("admission_c1", "p50_ms");
    let few = result("throughput", "few_keys", "per_second");
    let most = ["many_keys", "some_keys"]
        .into_iter()
        .find_map(|system| result("throughput", system, "per_second"));
    let kept = most.zip(few).map(|(most, few)| rounded(most / few));
    let fsync = figures["fsync_p50_ms"].as_f64();
    let ratios = json!({
        "admission_cpu_us": cpu,
        "added_p50_ms": added,
        "throughput_kept": kept,
    });
    let met = json!({
        "admission_cpu_us": cpu.map(|cpu| cpu <= ADMISSION_AIM_US),
        "added_p50_ms": added.zip(fsync).map(|(added, fsync)| added < fsync / 2.0),
        "throughput_kept": kept.map(|kept| kept >= THROUGHPUT_AIM),
    });
    figures["aims"] = json!({
        "admission_cpu_us": ADMISSION_AIM_US,
        "added_p50_ms": fsync.map(|fsync| rounded(fsync / 2.0)),
        "throughput_kept": THROUGHPUT_AIM,
    });
    (figures["ratios"], figures["met"]) = (ratios, met);
}
