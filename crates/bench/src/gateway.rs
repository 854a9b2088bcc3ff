//! `gateway`: what carrying a request costs, beside nginx and every gateway that installs from a
//! package registry, in one run.
//!
//! Holdfast runs with key, two budgets, price and ledger on; the peers with as little as they can.
//! Figures: processor time per request, latency at 1 to 256 connections, streams of 53 and 1,000
//! events, bodies of 1 kB to 1 MB, an agent's history, memory idle, at its peak and over many
//! requests; and in which versions and builds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::holdfast::Holdfast;
use crate::load::{Ask, Load};
use crate::peers::{self, Peer};
use crate::process::{Process, peak_rss_of_tree, pss_of_tree, rss_of_tree};
use crate::report::{self, rounded};
use crate::systems::{Rounds, Situation, System, compare};
use crate::{Common, nginx};

mod aims;
mod versions;

/// Requests after which memory must be where it was.
const FLAT_REQUESTS: usize = 1_000_000;
/// The same in the quick form.
const FLAT_REQUESTS_QUICK: usize = 20_000;
/// How often memory is looked at over them.
const FLAT_SAMPLES: usize = 10;
/// Connections of that run.
const FLAT_CONNECTIONS: usize = 16;

/// How to run it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Where `bench/peers/install` put the peers.
    #[arg(long, default_value = ".build/peers")]
    peers: PathBuf,
}

/// Runs the benchmark.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let quick = arguments.common.quick;
    let scratch = tempfile::tempdir()?;
    let (upstream, ready) = Process::own(&["upstream"])?;
    let upstream_at: SocketAddr = ready["address"].as_str().context("no address")?.parse()?;
    let installed = std::path::absolute(&arguments.peers)?;
    let bench =
        peers::Bench { installed: &installed, upstream: upstream_at, scratch: scratch.path() };
    let running = Running::start(&bench)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Peers were asked until they answered: what a first request loads is loaded everywhere.
    runtime.block_on(once(&running.holdfast.system()?))?;
    let idle = (running.memory(rss_of_tree), running.memory(pss_of_tree));
    let rounds = match quick {
        true => Rounds { count: 1, length: Duration::from_millis(400) },
        false => Rounds { count: 5, length: Duration::from_secs(1) },
    };
    let mut figures = json!({ "bench": "gateway", "quick": quick, "results": {} });
    for situation in situations() {
        let compared = runtime.block_on(compare(&running.systems, &situation, rounds))?;
        figures["results"][&situation.label] = compared;
    }
    figures["rss_bytes"] = json!({ "idle": idle.0, "after": running.memory(rss_of_tree), "peak": running.memory(peak_rss_of_tree) });
    figures["pss_bytes"] = json!({ "idle": idle.1, "after": running.memory(pss_of_tree) });
    figures["versions"] = versions::of_systems(&installed);
    figures["binary"] = versions::of_binary()?;
    let requests = if quick { FLAT_REQUESTS_QUICK } else { FLAT_REQUESTS };
    figures["memory_over_requests"] = runtime.block_on(memory_over(&running.holdfast, requests))?;
    drop((running, upstream));
    aims::judge(&mut figures);
    let line = aims::line(&figures);
    report::finish(arguments.common.json, figures, &line);
    Ok(())
}

/// Everything that is asked. What peers are too slow for is left out for them.
fn situations() -> Vec<Situation> {
    let plain = |body_bytes: usize, connections: usize| Situation {
        label: format!("plain_{}_c{connections}", size(body_bytes)),
        ask: Ask::Plain { body_bytes },
        connections,
    };
    let other = |label: &str, ask: Ask, connections: usize| Situation {
        label: format!("{label}_c{connections}"),
        ask,
        connections,
    };
    vec![
        plain(1_000, 1),
        plain(1_000, 16),
        plain(1_000, 64),
        plain(1_000, 256),
        plain(100_000, 16),
        plain(1_000_000, 16),
        other("history_100kb", Ask::History, 16),
        other("stream53", Ask::Stream, 1),
        other("stream53", Ask::Stream, 16),
        other("stream53", Ask::Stream, 64),
        other("stream1000", Ask::LongStream, 1),
        other("stream1000", Ask::LongStream, 16),
    ]
}

fn size(bytes: usize) -> String {
    if bytes >= 1_000_000 {
        format!("{}mb", bytes / 1_000_000)
    } else {
        format!("{}kb", bytes / 1_000)
    }
}

/// The systems, and the processes that live as long as they are measured.
struct Running {
    holdfast: Holdfast,
    systems: Vec<System>,
    _processes: Vec<Process>,
}

impl Running {
    fn start(bench: &peers::Bench<'_>) -> anyhow::Result<Self> {
        let mut systems = vec![System::new("direct", bench.upstream, None)];
        let mut processes = Vec::new();
        match nginx::start(bench.upstream)? {
            Some((process, address)) => {
                systems.push(System::new("nginx", address, Some(process.pid())));
                processes.push(process);
            }
            None => println!("left out: nginx is not installed"),
        }
        for Peer { system, process } in peers::start(bench)? {
            systems.push(system);
            processes.push(process);
        }
        let holdfast = Holdfast::before(bench.upstream)?;
        systems.push(holdfast.system()?);
        Ok(Self { holdfast, systems, _processes: processes })
    }

    /// Memory of each system with its descendants, in bytes.
    fn memory(&self, of_tree: fn(u32) -> u64) -> Value {
        let of = |system: &System| Some((system.name.to_owned(), json!(of_tree(system.pid?))));
        self.systems.iter().filter_map(of).collect::<serde_json::Map<_, _>>().into()
    }
}

/// Asks a system once.
async fn once(system: &System) -> anyhow::Result<()> {
    let ask = Ask::Plain { body_bytes: 1_000 };
    Load { system, ask, connections: 1, length: Duration::ZERO }.run().await?;
    Ok(())
}

/// Sends many requests and looks at resident memory on the way.
async fn memory_over(holdfast: &Holdfast, requests: usize) -> anyhow::Result<Value> {
    let system = holdfast.system()?;
    let ask = Ask::Plain { body_bytes: 1_000 };
    let (mut sent, mut samples) = (0, Vec::new());
    while sent < requests {
        let next = requests * (samples.len() + 1) / FLAT_SAMPLES;
        while sent < next {
            let length = Duration::from_millis(500);
            let load = Load { system: &system, ask, connections: FLAT_CONNECTIONS, length };
            sent += load.run().await?.latencies_ms.len();
        }
        let bytes = rss_of_tree(holdfast.process.pid());
        println!("after {sent:>8} requests: {:.1} MB resident", mebibytes(bytes));
        samples.push(json!({ "requests": sent, "rss_bytes": bytes }));
    }
    Ok(json!(samples))
}

#[expect(clippy::cast_precision_loss, reason = "bytes for the eye")]
fn mebibytes(bytes: u64) -> f64 {
    rounded(bytes as f64 / 1_048_576.0)
}
