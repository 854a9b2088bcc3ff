//! `cargo xtask`: every check and build step that is more than one cargo command.
//!
//! The Makefile and `.ci/run` call this and nothing else, so that a developer, CI and a newcomer
//! run the same steps. It depends on no other crate of the workspace: it must build when they do
//! not.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the developers: it runs programs, reads files, talks to a terminal"
)]

mod build_engine;
mod check;
mod counts;
mod shell;
mod test_all;
mod tidy;

use std::process::ExitCode;

use clap::Parser;

/// The developer's tool box. `make help` lists the usual ways in.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Format, lints, house rules and unit tests of everything but the C++ engine. Run it before
    /// each commit.
    Check,
    /// House rules alone: crate arrows, sizes, notes, paths, pages, words, forgotten files.
    Tidy {
        /// First break comments that are too wide.
        #[arg(long)]
        fix: bool,
    },
    /// Everything that `check` does, then the engine's tests and the conformance suites; ends with
    /// the counts.
    Test {
        /// Run the long suites too; they take an hour or more.
        #[arg(long)]
        long: bool,
    },
    /// Dependencies: licences, sources and bans (cargo-deny), unused ones (cargo-machete).
    Deps,
    /// Build `holdfast-engine` for this machine's processor and put it beside `holdfast`.
    BuildEngine,
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Check => check::run(),
        Task::Tidy { fix: false } => tidy::run(true),
        Task::Tidy { fix: true } => tidy::fix().and_then(|()| tidy::run(true)),
        Task::Test { long } => test_all::run(long),
        Task::Deps => check::dependencies(),
        Task::BuildEngine => build_engine::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
