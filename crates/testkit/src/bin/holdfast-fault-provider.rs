//! Serves the faults of `testkit::faults`: what the suite `faults` stands between.

use std::path::PathBuf;

use clap::Parser;
use testkit::faults::{Options, run};

/// Play a provider whose models fail as their names say.
#[derive(Debug, Parser)]
#[command(name = "holdfast-fault-provider")]
struct Arguments {
    /// The port on the loopback; 0 = a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where to write what clients did, a JSON object per line.
    #[arg(long)]
    log: PathBuf,
    /// Written when requests are served: a JSON object with `base_url`.
    #[arg(long)]
    ready_file: PathBuf,
    /// What every duration is multiplied by.
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    scale: f64,
}

/// The smallest and the largest scale: below, nothing would be late any more.
const SCALES: std::ops::RangeInclusive<f64> = 0.001..=10.0;

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    let in_range = SCALES.contains(&scale);
    in_range.then_some(scale).ok_or_else(|| format!("must be in {SCALES:?}"))
}

fn main() -> std::io::Result<()> {
    let Arguments { port, log, ready_file, scale } = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(Options { port, log, ready_file, scale }))
}
