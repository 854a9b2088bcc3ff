//! `holdfast-bench`: us and the named peers in one run, printed as ratios.
//!
//! Each benchmark starts what it measures as processes of their own, drives them over the wire, and
//! reads processor time from `/proc`. The last line (or the one JSON object) has the figures that
//! the project's aims name. Nothing here runs in tests: a timed test would only be flaky.
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and starts real processes"
)]
#![expect(clippy::print_stdout, reason = "the report")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod agent_loop;
mod gateway;
mod held_state;
mod holdfast;
mod limits;
mod load;
mod nginx;
mod overhead;
mod peers;
mod process;
mod report;
mod systems;
mod upstream;

/// Compare Holdfast with its peers on this machine.
#[derive(Debug, Parser)]
#[command(name = "holdfast-bench", version)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

/// How to run and how to answer.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Common {
    /// Few and short rounds: for a look, not for figures to keep. Peers that are not installed are
    /// left out, by name.
    #[arg(long)]
    quick: bool,
    /// End with one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Processor time per request and added latency of a proxied chat completion.
    Overhead(Common),
    /// What a gateway costs, beside nginx and the peers that are installed: many connections, large
    /// bodies, long streams, memory.
    Gateway(gateway::Arguments),
    /// What budgets cost: processor time of an admission under four of them, and throughput with
    /// many keys and budgets.
    Limits(Common),
    /// The platform's own time per durable step of an agent's loop, beside one fsync.
    AgentLoop(Common),
    /// Time to the first token of a new turn: state held, restored from disk, cold.
    HeldState(Common),
    /// The upstream of `overhead` (used by the benchmark itself).
    #[command(hide = true)]
    Upstream,
    /// A bare proxy: what any gateway costs at least (used by the benchmark itself).
    #[command(hide = true)]
    BareProxy {
        /// Where to send requests.
        #[arg(long)]
        upstream: std::net::SocketAddr,
    },
    /// A tool server that answers at once (used by the benchmark itself).
    #[command(hide = true)]
    ToolServer {
        /// Where to write when it was asked and when it had answered.
        #[arg(long)]
        times: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().bench {
        Bench::Overhead(common) => overhead::run(common),
        Bench::Gateway(arguments) => gateway::run(&arguments),
        Bench::Limits(common) => limits::run(common),
        Bench::AgentLoop(common) => agent_loop::run(common),
        Bench::HeldState(common) => held_state::run(common),
        Bench::Upstream => upstream::run(),
        Bench::BareProxy { upstream } => overhead::bare_proxy::run(upstream),
        Bench::ToolServer { times } => agent_loop::tool_server::run(&times),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
