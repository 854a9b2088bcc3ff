//! What test runners print about themselves, read back: how many passed and failed, and which were
//! slow.
//!
//! Read are the closing lines of cargo-nextest, of `cargo test`, and the plain `N passed, N failed`
//! of the suites in `conformance/`. A runner that fails without having counted a failure counts as
//! one failure, so that nothing can go wrong and still add up to green.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed, timed out or could not be run.
    pub(crate) failed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// What one runner said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The sum of the closing lines that count, for runners that close once per binary.
    summed: Counts,
    /// The last plain closing line: a suite may print one per part before the one for all.
    last_plain: Option<Counts>,
    /// Tests and how long they took, in the order of their ends.
    times: Vec<(Duration, String)>,
    /// Whether the runner said that all went well.
    succeeded: bool,
}

impl Report {
    /// Takes one line of the runner's output into account.
    pub(crate) fn read(&mut self, line: &str) {
        let line = line.trim();
        if let Some(counts) = runner_counts(line) {
            self.summed += counts;
        } else if let Some(counts) = plain_counts(line) {
            self.last_plain = Some(counts);
        } else if let Some(time) = test_time(line) {
            self.times.push(time);
        }
    }

    /// The report, with the runner's own verdict.
    pub(crate) fn ended(mut self, succeeded: bool) -> Self {
        self.succeeded = succeeded;
        self
    }

    /// The counts; a failure of the runner itself is one more.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.last_plain.unwrap_or(self.summed);
        if !self.succeeded && counts.failed == 0 {
            counts.failed = 1;
        }
        counts
    }

    /// The slowest tests, slowest first, at most `limit`.
    pub(crate) fn slowest(&self, limit: usize) -> Vec<&(Duration, String)> {
        let mut times: Vec<_> = self.times.iter().collect();
        times.sort_by(|a, b| b.cmp(a));
        times.truncate(limit);
        times
    }
}

/// The closing line of cargo-nextest or of one binary of `cargo test`.
fn runner_counts(line: &str) -> Option<Counts> {
    let rest = match line.strip_prefix("Summary [") {
        Some(summary) => summary.split_once("run:")?.1,
        None => line.strip_prefix("test result: ")?,
    };
    let passed = number_before(rest, "passed")?;
    let failed = ["failed", "timed out", "exec failed"];
    let failed = failed.iter().filter_map(|word| number_before(rest, word)).sum();
    Some(Counts { passed, failed })
}

/// The closing line `N passed, N failed` alone, perhaps with a word and a colon before it.
fn plain_counts(line: &str) -> Option<Counts> {
    let rest = line.split_once(": ").map_or(line, |(_, rest)| rest);
    let (passed, rest) = rest.split_once(" passed, ")?;
    let failed =
        rest.split_once(" failed").filter(|(_, rest)| rest.is_empty() || rest.starts_with(','))?.0;
    Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

/// One test's line in cargo-nextest's output: `PASS [   0.012s] (3/9) crate module::test`.
fn test_time(line: &str) -> Option<(Duration, String)> {
    let rest = line.strip_prefix("PASS [").or_else(|| line.strip_prefix("SLOW-PASS ["))?;
    let (seconds, name) = rest.split_once("s]")?;
    let seconds = seconds.trim().parse().ok()?;
    let name = name.trim_start();
    let name = name.strip_prefix('(').and_then(|n| n.split_once(')')).map_or(name, |(_, n)| n);
    Some((Duration::try_from_secs_f64(seconds).ok()?, name.trim().to_owned()))
}

/// The number that stands directly before `word` in a list such as `3 passed (1 slow), 1 failed`.
fn number_before(list: &str, word: &str) -> Option<u64> {
    let items = list.split([',', ';', '.']).map(str::trim);
    items.filter_map(|item| item.split_once(' ')).find_map(|(number, rest)| {
        let rest = rest.split('(').next().unwrap_or(rest).trim();
        (rest == word).then(|| number.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests;
