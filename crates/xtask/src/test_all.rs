//! `cargo xtask test`: everything that decides whether a commit is good, with one closing line for
//! all of it.
//!
//! Nothing that fails stops the rest, so that one run names every failure. Suites come from
//! `conformance/run --list`; the long forms are for `make check-full`.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::build_engine::{engine_cargo, target_folder};
use crate::check::{run_tests, static_checks, test_arguments, unit_tests};
use crate::counts::Counts;
use crate::shell::{command, root, run as run_step, run_counted};

/// The suites' front door.
const CONFORMANCE: &str = "conformance/run";

/// When a suite is ended by force, in seconds: each should take less than 50.
const SUITE_SECONDS_MAX: &str = "300";

/// The same for a long suite.
const LONG_SUITE_SECONDS_MAX: &str = "7200";

/// How long a suite has to clean up after the first signal, in seconds.
const SUITE_GRACE_SECONDS: &str = "--kill-after=10";

/// How the names of the long suites end.
const LONG: &str = "-long";

/// `cargo xtask test`.
///
/// # Errors
/// If anything failed.
pub(crate) fn run(long: bool) -> Result<()> {
    let mut table = Table::default();
    if let Err(error) = static_checks() {
        table.add("static checks", Counts { passed: 0, failed: 1 });
        eprintln!("error: {error:#}");
    }
    table.add("unit tests", unit_tests()?.counts());
    table.add("engine", engine_tests()?);
    for suite in suites()?.iter().filter(|suite| long || !suite.ends_with(LONG)) {
        table.add(suite, run_suite(suite)?);
    }
    table.close()
}

/// Lints and tests of the engine, in its own target folder.
fn engine_tests() -> Result<Counts> {
    let target = target_folder()?;
    let mut lints = engine_cargo(&["clippy", "--all-targets"], &target);
    lints.args(["--", "-D", "warnings"]);
    if let Err(error) = run_step("engine lints", lints) {
        eprintln!("error: {error:#}");
        return Ok(Counts { passed: 0, failed: 1 });
    }
    let report = run_tests("engine tests", engine_cargo(test_arguments(), &target))?;
    Ok(report.counts())
}

/// The names of all suites; none while there is no `conformance/run`.
fn suites() -> Result<Vec<String>> {
    if !root().join(CONFORMANCE).exists() {
        println!("== conformance: SKIPPED, there is no {CONFORMANCE}");
        return Ok(Vec::new());
    }
    let mut list = command(CONFORMANCE, &["--list"]);
    let output = list.stderr(Stdio::inherit()).output().context("conformance/run --list")?;
    if !output.status.success() {
        bail!("conformance/run --list failed: see above");
    }
    Ok(suite_names(&String::from_utf8_lossy(&output.stdout)))
}

/// One suite's name per line, first word; what follows describes it.
fn suite_names(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn run_suite(suite: &str) -> Result<Counts> {
    let limit = if suite.ends_with(LONG) { LONG_SUITE_SECONDS_MAX } else { SUITE_SECONDS_MAX };
    let limited = command("timeout", &[SUITE_GRACE_SECONDS, limit, CONFORMANCE, suite]);
    Ok(run_counted(suite, limited)?.counts())
}

/// What each part came to.
#[derive(Default)]
struct Table {
    rows: Vec<(String, Counts)>,
}

impl Table {
    fn add(&mut self, part: &str, counts: Counts) {
        self.rows.push((part.to_owned(), counts));
    }

    /// Prints the rows, and the sum as the last line.
    fn close(self) -> Result<()> {
        let mut sum = Counts::default();
        println!("\n== all parts");
        for (part, counts) in &self.rows {
            println!("   {part:<24} {} of {}", counts.passed, counts.passed + counts.failed);
            sum += *counts;
        }
        println!("{sum}");
        if sum.failed > 0 || sum.passed == 0 {
            bail!("not everything passed: the parts above say which");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::suite_names;

    #[test]
    fn suites_are_the_first_words() {
        let list = "openai-python  flows of the Python SDK\n\nkills\nkills-long\n";
        assert_eq!(suite_names(list), ["openai-python", "kills", "kills-long"]);
    }
}
