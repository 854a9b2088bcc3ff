//! The `holdfast` binary: the server, its guard, and the commands that talk to a running one.

use std::process::ExitCode;

use clap::Parser;

mod commands;
mod config;
mod guard;
mod launcher;
mod wire;

use commands::{Command, ReaderGone};

/// Every Call makes and drops some hundred small values on several threads: the system's allocator
/// took a tenth of a Call's processor time, and kept what large requests had used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An inference platform for AI agents that runs on your own machines.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(&arguments.command);
    match commands::run(arguments.command) {
        Ok(code) => code,
        Err(error) if error.is::<ReaderGone>() => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The server logs information, commands only what went wrong; `HOLDFAST_LOG` (such as `debug` or
/// `pipeline=trace`) overrides both.
fn log_to_stderr(command: &Command) {
    let usual = if command.is_server() { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOLDFAST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A log that can't be written must not end what is logged: the subscriber would say so on the
    // same broken standard error, and panic.
    let layer = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi);
    if command.is_server() { layer.init() } else { layer.without_time().with_target(false).init() }
}
