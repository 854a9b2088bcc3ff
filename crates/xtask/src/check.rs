//! The checks before each commit, quickest first; the first that fails ends the run.
//!
//! Everything here leaves the C++ engine alone: its target folder, its lints and its tests are
//! `test_all`'s.

use std::process::Command;

use anyhow::{Result, bail};

use crate::counts::Report;
use crate::shell::{cargo, has_cargo_tool, run as run_step, run_counted};
use crate::tidy;

/// How many of the slowest tests are named at the end.
const SLOWEST_SHOWN: usize = 5;

/// `cargo xtask check`: format, lints, house rules, unit tests.
///
/// # Errors
/// At the first check that fails.
pub(crate) fn run() -> Result<()> {
    static_checks()?;
    let report = unit_tests()?;
    let counts = report.counts();
    println!("{counts}");
    if counts.failed > 0 {
        bail!("unit tests failed: run one alone with `cargo nextest run --release NAME`");
    }
    Ok(())
}

/// What needs no test to run: format, lints, house rules, and what dependencies bring along.
///
/// # Errors
/// At the first check that fails.
pub(crate) fn static_checks() -> Result<()> {
    run_step("format (mend with `cargo fmt --all`)", cargo(&["fmt", "--all", "--check"]))?;
    println!("== house rules");
    tidy::run(false)?;
    run_step("lints", cargo(&["clippy", "--release", "--all-targets", "--", "-D", "warnings"]))?;
    if has_cargo_tool("deny") {
        run_step("licences, sources and bans", deny())?;
    } else {
        println!(
            "== licences, sources and bans: SKIPPED, cargo-deny is not here: run `build/setup`"
        );
    }
    Ok(())
}

/// The unit tests of the default members, the slowest named.
///
/// # Errors
/// If the runner can't be started.
pub(crate) fn unit_tests() -> Result<Report> {
    let mut runner = cargo(test_arguments());
    runner.arg("--release");
    let report = run_tests("unit tests", runner)?;
    let slowest = report.slowest(SLOWEST_SHOWN);
    if !slowest.is_empty() {
        println!("   the slowest:");
    }
    for (time, name) in slowest {
        println!("   {:>8.3} s  {name}", time.as_secs_f64());
    }
    Ok(report)
}

/// Cargo's arguments for running tests: cargo-nextest, else `cargo test`, which names no times.
pub(crate) fn test_arguments() -> &'static [&'static str] {
    if has_cargo_tool("nextest") {
        &["nextest", "run", "--profile", "ci", "--no-tests", "pass"]
    } else {
        &["test", "--no-fail-fast"]
    }
}

/// Runs tests so that they can be counted, and change nothing in the checkout.
///
/// # Errors
/// If the runner can't be started.
pub(crate) fn run_tests(title: &str, mut runner: Command) -> Result<Report> {
    // Colour codes would hide the closing lines; snapshots change on purpose only.
    runner.env("CARGO_TERM_COLOR", "never").env("INSTA_UPDATE", "no");
    run_counted(title, runner)
}

/// `cargo xtask deps`: the checks of dependencies with the tools made for it.
///
/// # Errors
/// If a tool is missing or finds something.
pub(crate) fn dependencies() -> Result<()> {
    for tool in ["deny", "machete"] {
        if !has_cargo_tool(tool) {
            bail!("cargo-{tool} is not here: run `build/setup --full`");
        }
    }
    run_step("licences, sources and bans", deny())?;
    run_step("unused dependencies", cargo(&["machete", "--skip-target-dir"]))
}

fn deny() -> Command {
    // Its warnings name crates that come in two versions: pages that nobody has to act on.
    cargo(&[
        "deny",
        "--log-level",
        "error",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ])
}
