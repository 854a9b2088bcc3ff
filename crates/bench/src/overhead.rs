//! `overhead`: what a proxied chat completion costs, beside nginx and a bare proxy.
//!
//! The short look that a developer takes after each change; [`crate::gateway`] is the long one.
//! Bodies are about 1 kB; a stream has 53 events.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::holdfast::Holdfast;
use crate::load::Ask;
use crate::process::Process;
use crate::report::{self, rounded};
use crate::systems::{Rounds, Situation, System, compare};
use crate::{Common, nginx};

pub(crate) mod bare_proxy;

/// The connection counts that are measured.
const CONNECTIONS: [usize; 2] = [1, 16];

/// Runs the benchmark.
pub(crate) fn run(common: Common) -> anyhow::Result<()> {
    let (upstream, ready) = Process::own(&["upstream"])?;
    let upstream_at: SocketAddr = ready["address"].as_str().context("no address")?.parse()?;
    let Running { holdfast, processes, systems } = Running::start(upstream_at)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rounds = match common.quick {
        true => Rounds { count: 2, length: Duration::from_millis(700) },
        false => Rounds { count: 5, length: Duration::from_secs(2) },
    };
    let mut figures = json!({ "bench": "overhead", "quick": common.quick, "results": {} });
    for situation in situations() {
        let compared = runtime.block_on(compare(&systems, &situation, rounds))?;
        figures["results"][&situation.label] = compared;
    }
    figures["peak_rss_bytes"] = json!(holdfast.process.peak_rss_bytes());
    drop((holdfast, processes, upstream));
    finish(common, figures);
    Ok(())
}

/// Streamed or not, with how many connections.
fn situations() -> impl Iterator<Item = Situation> {
    let kinds = [("plain", Ask::Plain { body_bytes: 1_000 }), ("stream", Ask::Stream)];
    kinds.into_iter().flat_map(|(kind, ask)| {
        CONNECTIONS.map(|connections| Situation {
            label: format!("{kind}_c{connections}"),
            ask,
            connections,
        })
    })
}

/// The systems, and the processes that live as long as they are measured.
struct Running {
    holdfast: Holdfast,
    processes: Vec<Process>,
    systems: Vec<System>,
}

impl Running {
    fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        let mut systems = vec![System::new("direct", upstream, None)];
        let mut processes = Vec::new();
        match nginx::start(upstream)? {
            Some((process, address)) => {
                systems.push(System::new("nginx", address, Some(process.pid())));
                processes.push(process);
            }
            None => println!("left out: nginx is not installed"),
        }
        let (process, ready) = Process::own(&["bare-proxy", "--upstream", &upstream.to_string()])?;
        let address = ready["address"].as_str().context("no address")?.parse()?;
        systems.push(System::new("bare-proxy", address, Some(process.pid())));
        processes.push(process);
        let holdfast = Holdfast::before(upstream)?;
        systems.push(holdfast.system()?);
        Ok(Self { holdfast, processes, systems })
    }
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
