//! The `holdfast` binary: the server, its guard, and the commands that talk to a running one.

use std::process::ExitCode;

use clap::Parser;

mod catalog;
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
    let asked = std::env::var("HOLDFAST_LOG").ok().filter(|text| !text.is_empty());
    let understood = asked.as_deref().and_then(log_filter);
    let is_wrong = asked.is_some() && understood.is_none();
    let filter = understood.unwrap_or_else(|| tracing_subscriber::EnvFilter::new(usual));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A log that can't be written must not end what is logged: the subscriber would say so on the
    // same broken standard error, and panic.
    let layer = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi);
    if command.logs_json() {
        layer.json().flatten_event(true).with_ansi(false).init()
    } else if command.is_server() {
        layer.init()
    } else {
        layer.without_time().with_target(false).init()
    }
    if is_wrong && !matches!(command, Command::Guard(_)) {
        tracing::warn!(
            "HOLDFAST_LOG={:?} says nothing: write error, warn, info, debug or trace, for all or by part (pipeline=trace)",
            asked.unwrap_or_default()
        );
    }
}

/// What `HOLDFAST_LOG` asks for: levels, each for everything or for a part. A word that is no level
/// would else be taken for a part that there is not.
fn log_filter(text: &str) -> Option<tracing_subscriber::EnvFilter> {
    use tracing_subscriber::filter::LevelFilter;
    let is_level = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or(part);
        !level.trim().is_empty() && level.trim().parse::<LevelFilter>().is_ok()
    };
    if !text.split(',').all(is_level) {
        return None;
    }
    tracing_subscriber::EnvFilter::try_new(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_levels_are_taken_for_a_log_filter() {
        for text in ["debug", "WARN", "pipeline=trace", "warn,server=debug", "off"] {
            assert!(log_filter(text).is_some(), "{text}");
        }
        for text in ["loud", "pipeline", "pipeline=loud", "debug,loud", ","] {
            assert!(log_filter(text).is_none(), "{text}");
        }
    }
}
