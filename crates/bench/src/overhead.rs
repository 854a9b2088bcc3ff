//! `overhead`: what a proxied chat completion costs, beside nginx and a bare proxy.
//!
//! Every system is driven in turn within each round, so that a busy moment of the machine hits all
//! of them; figures are medians over the rounds. Processor time is the proxy's alone. Bodies are
//! about 1 kB; a stream has 53 events.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::Common;
use crate::holdfast::Holdfast;
use crate::process::{Process, cpu_of_tree};
use crate::report::{self, median, rounded};

pub(crate) mod bare_proxy;
mod load;
mod nginx;

use load::{Load, Measured};

/// The connection counts that are measured.
const CONNECTIONS: [usize; 2] = [1, 16];

/// Something that requests can be sent to.
struct System {
    name: &'static str,
    address: SocketAddr,
    path: &'static str,
    model: &'static str,
    pid: Option<u32>,
}

/// All measurements of one system in one situation.
#[derive(Debug, Default, Clone)]
struct Rounds {
    cpu_us: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    per_second: Vec<f64>,
}

/// Runs the benchmark.
pub(crate) fn run(common: Common) -> anyhow::Result<()> {
    let (upstream, ready) = Process::own(&["upstream"])?;
    let upstream_at: SocketAddr = ready["address"].as_str().context("no address")?.parse()?;
    let Running { holdfast, processes, systems } = Running::start(upstream_at)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (rounds, length) =
        if common.quick { (2, Duration::from_millis(700)) } else { (5, Duration::from_secs(2)) };
    let mut figures = json!({ "bench": "overhead", "quick": common.quick, "results": {} });
    for (stream, connections) in situations() {
        let kind = if stream { "stream" } else { "plain" };
        let label = format!("{kind}_c{connections}");
        let mut measured = vec![Rounds::default(); systems.len()];
        // The first round warms up connections, code and caches, and is thrown away.
        for round in 0..=rounds {
            let length = if round == 0 { length / 3 } else { length };
            for (system, rounds) in systems.iter().zip(&mut measured) {
                let one = runtime.block_on(measure(system, stream, connections, length))?;
                rounds.add(one, round > 0);
            }
        }
        figures["results"][&label] = table(&label, &systems, &measured);
    }
    figures["peak_rss_bytes"] = json!(holdfast.process.peak_rss_bytes());
    drop((holdfast, processes, upstream));
    finish(common, figures);
    Ok(())
}

/// Streamed or not, with how many connections.
fn situations() -> impl Iterator<Item = (bool, usize)> {
    [false, true]
        .into_iter()
        .flat_map(|stream| CONNECTIONS.map(|connections| (stream, connections)))
}

/// The systems, and the processes that live as long as they are measured.
struct Running {
    holdfast: Holdfast,
    processes: Vec<Process>,
    systems: Vec<System>,
}

impl Running {
    fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        const PATH: &str = "/v1/chat/completions";
        let system = |name, address, model, pid| System { name, address, path: PATH, model, pid };
        let mut systems = vec![system("direct", upstream, "bench-model", None)];
        let mut processes = Vec::new();
        match nginx::start(upstream)? {
            Some((process, address)) => {
                systems.push(system("nginx", address, "bench-model", Some(process.pid())));
                processes.push(process);
            }
            None => println!("left out: nginx is not installed"),
        }
        let (process, ready) = Process::own(&["bare-proxy", "--upstream", &upstream.to_string()])?;
        let address = ready["address"].as_str().context("no address")?.parse()?;
        systems.push(system("bare-proxy", address, "bench-model", Some(process.pid())));
        processes.push(process);
        let holdfast = Holdfast::start(&format!(
            "[[providers]]\nname = \"bench\"\nvendor = \"openai-compatible\"\nbase_url = \"http://{upstream}/v1\"\napi_key = \"bench-upstream-key\"\nmodels = [{{ id = \"bench-model\", input_usd_per_million = \"0.10\", output_usd_per_million = \"0.40\" }}]\n"
        ))?;
        let address = holdfast.url.trim_start_matches("http://").parse()?;
        systems.push(system(
            "holdfast",
            address,
            "bench/bench-model",
            Some(holdfast.process.pid()),
        ));
        Ok(Self { holdfast, processes, systems })
    }
}

async fn measure(
    system: &System,
    stream: bool,
    connections: usize,
    length: Duration,
) -> anyhow::Result<Measured> {
    let load = Load {
        address: system.address,
        path: system.path,
        model: system.model,
        stream,
        connections,
        length,
    };
    let before = cpu(system);
    let mut measured = load.run().await.with_context(|| format!("driving {}", system.name))?;
    measured.cpu = cpu(system).saturating_sub(before);
    Ok(measured)
}

fn cpu(system: &System) -> Duration {
    system.pid.map_or(Duration::ZERO, cpu_of_tree)
}

impl Rounds {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    fn add(&mut self, mut measured: Measured, counts: bool) {
        if !counts {
            return;
        }
        let requests = measured.latencies_ms.len().max(1) as f64;
        self.cpu_us.push(measured.cpu.as_secs_f64() * 1e6 / requests);
        self.p50_ms.push(report::quantile(&mut measured.latencies_ms, 0.5));
        self.p99_ms.push(report::quantile(&mut measured.latencies_ms, 0.99));
        self.per_second.push(requests / measured.elapsed.as_secs_f64());
    }
}

fn table(label: &str, systems: &[System], measured: &[Rounds]) -> Value {
    println!(
        "\n{label:<12} {:>12} {:>10} {:>10} {:>10}",
        "CPU µs/req", "p50 ms", "p99 ms", "req/s"
    );
    let mut results = json!({});
    for (system, rounds) in systems.iter().zip(measured) {
        let of = |values: &Vec<f64>| rounded(median(values.clone()));
        let (cpu, p50, p99) = (of(&rounds.cpu_us), of(&rounds.p50_ms), of(&rounds.p99_ms));
        let per_second = of(&rounds.per_second);
        println!("  {:<10} {cpu:>12.1} {p50:>10.3} {p99:>10.3} {per_second:>10.0}", system.name);
        results[system.name] =
            json!({ "cpu_us": cpu, "p50_ms": p50, "p99_ms": p99, "per_second": per_second });
    }
    results
}

fn finish(common: Common, mut figures: Value) {
    let cpu = |label: &str, system: &str| figures["results"][label][system]["cpu_us"].as_f64();
    let ratio = |label: &str, system: &str, base: &str| {
        let (ours, theirs) = (cpu(label, system)?, cpu(label, base)?);
        (theirs > 0.0).then(|| rounded(ours / theirs))
    };
    let p50 =
        |system: &str| figures["results"]["stream_c1"][system]["p50_ms"].as_f64().unwrap_or(0.0);
    let ratios = json!({
        "cpu_plain_vs_nginx": ratio("plain_c16", "holdfast", "nginx"),
        "cpu_stream_vs_nginx": ratio("stream_c16", "holdfast", "nginx"),
        "cpu_plain_vs_bare_proxy": ratio("plain_c16", "holdfast", "bare-proxy"),
        "cpu_stream_vs_bare_proxy": ratio("stream_c16", "holdfast", "bare-proxy"),
    });
    let added = rounded(p50("holdfast") - p50("direct"));
    let line = format!(
        "ratios at 16 connections: {ratios}; added to a stream's p50 at 1 connection: {added} ms"
    );
    figures["ratios"] = ratios;
    figures["stream_c1_added_p50_ms"] = json!(added);
    report::finish(common.json, figures, &line);
}
