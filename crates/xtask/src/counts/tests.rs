use super::*;

fn report(output: &str, succeeded: bool) -> Report {
    let mut report = Report::default();
    output.lines().for_each(|line| report.read(line));
    report.ended(succeeded)
}

#[test]
fn nextest_is_read() {
    let output = "
        PASS [   0.004s] (1/4) types money::tests::rounds_up
        FAIL [   0.010s] (2/4) types ids::tests::sorts
        PASS [  11.900s] (3/4) storage sqlite::tests::crash
        ────────────
        Summary [  12.000s] 4 tests run: 2 passed (1 slow), 1 failed, 1 timed out, 3 skipped";
    let report = report(output, false);
    assert_eq!(report.counts(), Counts { passed: 2, failed: 2 });
    let slowest: Vec<_> = report.slowest(1).into_iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(slowest, ["storage sqlite::tests::crash"]);
}

#[test]
fn cargo_test_is_summed_over_its_binaries() {
    let output = "
        test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
        test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
    assert_eq!(report(output, false).counts(), Counts { passed: 12, failed: 1 });
}

#[test]
fn the_last_plain_line_stands_for_a_suite() {
    let output = "chat: 3 passed, 1 failed\nall: 9 passed, 1 failed, 2 skipped";
    assert_eq!(report(output, false).counts(), Counts { passed: 9, failed: 1 });
}

#[test]
fn a_runner_that_dies_uncounted_is_a_failure() {
    assert_eq!(report("", false).counts(), Counts { passed: 0, failed: 1 });
    assert_eq!(report("4 passed, 0 failed", false).counts(), Counts { passed: 4, failed: 1 });
    assert_eq!(report("4 passed, 0 failed", true).counts(), Counts { passed: 4, failed: 0 });
}

#[test]
fn prose_is_not_counted() {
    let output = "when 3 passed, 1 failed badly\n12 passed, and more\npassed, failed";
    assert_eq!(report(output, true).counts(), Counts::default());
}
