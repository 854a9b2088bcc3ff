//! What is measured side by side: systems that requests can be sent to, and their figures.
//!
//! Every system is driven in turn within each round, so that a busy moment of the machine hits all
//! of them; figures are medians over the rounds. Processor time is the proxy's alone, with its
//! descendants.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::load::{Ask, Load, Measured};
use crate::process::cpu_of_tree;
use crate::report::{self, median, rounded};

/// Where OpenAI's chat completions are served.
pub(crate) const CHAT_PATH: &str = "/v1/chat/completions";
/// The model of the benchmarks' upstream.
pub(crate) const MODEL: &str = "bench-model";

/// Something that requests can be sent to.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    /// What it calls the upstream's model.
    pub(crate) model: &'static str,
    /// Whose processor time counts; `None` = the upstream itself, asked directly.
    pub(crate) pid: Option<u32>,
    /// The keys that connections ask with in turn; none = the benchmarks' own.
    pub(crate) keys: Vec<String>,
    /// Headers that it wants beside those of every request.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Connections that it can be driven with in the time that there is.
    pub(crate) connections_max: usize,
    /// Whether it can stream.
    pub(crate) streams: bool,
}

impl System {
    /// One that takes everything.
    pub(crate) fn new(name: &'static str, address: SocketAddr, pid: Option<u32>) -> Self {
        Self {
            name,
            address,
            path: CHAT_PATH,
            model: MODEL,
            pid,
            keys: Vec::new(),
            headers: Vec::new(),
            connections_max: usize::MAX,
            streams: true,
        }
    }

    fn takes(&self, situation: &Situation) -> bool {
        situation.connections <= self.connections_max && (self.streams || !situation.ask.streams())
    }

    fn cpu(&self) -> Duration {
        self.pid.map_or(Duration::ZERO, cpu_of_tree)
    }
}

/// What is asked, and by how many connections at once.
#[derive(Debug, Clone)]
pub(crate) struct Situation {
    pub(crate) label: String,
    pub(crate) ask: Ask,
    pub(crate) connections: usize,
}

/// How often and how long each system is driven.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) count: u32,
    pub(crate) length: Duration,
}

/// All measurements of one system in one situation.
#[derive(Debug, Default, Clone)]
struct Figures {
    cpu_us: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    per_second: Vec<f64>,
    events_min: Option<usize>,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    fn add(&mut self, mut measured: Measured) {
        let requests = measured.latencies_ms.len().max(1) as f64;
        self.cpu_us.push(measured.cpu.as_secs_f64() * 1e6 / requests);
        self.p50_ms.push(report::quantile(&mut measured.latencies_ms, 0.5));
        self.p99_ms.push(report::quantile(&mut measured.latencies_ms, 0.99));
        self.per_second.push(requests / measured.elapsed.as_secs_f64());
        let before = self.events_min.unwrap_or(measured.events_min);
        self.events_min = Some(before.min(measured.events_min));
    }
}

/// Drives all systems that can take a situation, prints their table and answers it. One that fails
/// is left out of it by name.
///
/// # Errors
/// All of them failed.
pub(crate) async fn compare(
    systems: &[System],
    situation: &Situation,
    rounds: Rounds,
) -> anyhow::Result<Value> {
    let takes = systems.iter().filter(|system| system.takes(situation));
    let mut driven: Vec<_> = takes.map(|system| (system, Figures::default())).collect();
    let mut left_out = Map::new();
    // The first round warms up code and caches, and is thrown away; connections are new in each.
    for round in 0..=rounds.count {
        let length = if round == 0 { rounds.length / 3 } else { rounds.length };
        for (system, figures) in &mut driven {
            match measure(system, situation, length).await {
                Ok(measured) if round > 0 => figures.add(measured),
                Ok(_) => {}
                Err(error) => {
                    println!("left out of {}: {}: {error:#}", situation.label, system.name);
                    left_out.insert(system.name.to_owned(), json!(format!("{error:#}")));
                }
            }
        }
        driven.retain(|(system, _)| !left_out.contains_key(system.name));
    }
    anyhow::ensure!(!driven.is_empty(), "every system failed: {left_out:?}");
    let (systems, figures): (Vec<&System>, Vec<Figures>) = driven.into_iter().unzip();
    let mut results = table(&situation.label, &systems, &figures);
    if !left_out.is_empty() {
        results["left_out"] = left_out.into();
    }
    Ok(results)
}

async fn measure(
    system: &System,
    situation: &Situation,
    length: Duration,
) -> anyhow::Result<Measured> {
    let load = Load { system, ask: situation.ask, connections: situation.connections, length };
    let before = system.cpu();
    let mut measured = load.run().await.with_context(|| format!("driving {}", system.name))?;
    measured.cpu = system.cpu().saturating_sub(before);
    Ok(measured)
}

fn table(label: &str, systems: &[&System], measured: &[Figures]) -> Value {
    println!(
        "\n{label:<16} {:>12} {:>10} {:>10} {:>10}",
        "CPU µs/req", "p50 ms", "p99 ms", "req/s"
    );
    let mut results = json!({});
    for (system, figures) in systems.iter().zip(measured) {
        let of = |values: &Vec<f64>| rounded(median(values.clone()));
        let (cpu, p50, p99) = (of(&figures.cpu_us), of(&figures.p50_ms), of(&figures.p99_ms));
        let per_second = of(&figures.per_second);
        println!("  {:<14} {cpu:>12.1} {p50:>10.3} {p99:>10.3} {per_second:>10.0}", system.name);
        results[system.name] =
            json!({ "cpu_us": cpu, "p50_ms": p50, "p99_ms": p99, "per_second": per_second });
        if let Some(events) = figures.events_min.filter(|events| *events > 0) {
            results[system.name]["events_min"] = json!(events);
        }
    }
    results
}
