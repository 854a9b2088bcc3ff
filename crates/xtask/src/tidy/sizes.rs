//! Files that one can read in one sitting, and lines that fit beside a diff.

use super::Finding;
use super::tree::{Tree, is_test_file};

/// Lines without tests from which a file warns.
const LINES_WARN: usize = 500;

/// Lines without tests above which a file fails.
const LINES_MAX: usize = 800;

/// Columns above which a line fails.
pub(super) const COLUMNS_MAX: usize = 100;

/// Files that may be longer, and why no seam was found.
const LONG_FILES: &[(&str, &str)] = &[];

/// The rule on the length of files.
pub(super) fn check_lengths(tree: &Tree) -> Vec<Finding> {
    check_lengths_except(tree, LONG_FILES)
}

/// The same with these exceptions.
pub(super) fn check_lengths_except(tree: &Tree, exceptions: &[(&str, &str)]) -> Vec<Finding> {
    let files = tree.rust_files().filter(|(path, _)| !is_test_file(path));
    let lengths: Vec<_> =
        files.map(|(path, file)| (path, lines_without_tests(&file.text))).collect();
    let excepted = |path: &str| exceptions.iter().any(|(name, _)| *name == path);
    let long = lengths.iter().filter(|(path, _)| !excepted(path));
    let long = long.filter_map(|(path, lines)| too_long(path, *lines));
    let is_long =
        |name: &str| lengths.iter().any(|(path, lines)| *path == name && *lines > LINES_MAX);
    let stale = exceptions.iter().filter(|(name, _)| !is_long(name)).map(|(name, _)| {
        Finding::error(*name, "no longer that long: take it off LONG_FILES in tidy/sizes.rs")
    });
    long.chain(stale).collect()
}

fn too_long(path: &str, lines: usize) -> Option<Finding> {
    if lines > LINES_MAX {
        let message = format!(
            "{lines} lines, {LINES_MAX} at most: split it along a seam (or LONG_FILES in \
             crates/xtask/src/tidy/sizes.rs, with a reason)"
        );
        return Some(Finding::error(path, message));
    }
    let message = format!("{lines} lines: look for a seam before it reaches {LINES_MAX}");
    (lines > LINES_WARN).then(|| Finding::warning(path, message))
}

/// Lines before a test module at the end of the file.
fn lines_without_tests(text: &str) -> usize {
    text.lines().take_while(|line| *line != "mod tests {").count()
}

/// The rule on the width of lines: comments fit. Code is rustfmt's; what it leaves wide is a
/// string, which may read better whole, so that only warns. Tests may hold wide data, and an
/// address can't be broken.
pub(super) fn check_widths(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust_files().filter(|(path, _)| !is_test_file(path));
    files.flat_map(|(path, file)| wide_lines(path, &file.text)).collect()
}

fn wide_lines(path: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate().take(lines_without_tests(text));
    let wide = lines.filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
    let wide = wide.filter(|(_, line)| !line.contains("://"));
    let (comments, strings): (Vec<_>, Vec<_>) =
        wide.partition(|(_, line)| line.trim_start().starts_with("//"));
    let message = format!("wider than {COLUMNS_MAX} columns: `cargo xtask tidy --fix` breaks it");
    let place = |index: usize| format!("{path}:{}", index + 1);
    let comments = comments.iter().map(|(index, _)| Finding::error(place(*index), &message));
    let others = strings.len().saturating_sub(1);
    let strings = strings.first().map(|(index, _)| {
        let message = format!("a string (and {others} more here) is wider than {COLUMNS_MAX}");
        Finding::warning(place(*index), message + " columns: break it where that reads better")
    });
    comments.chain(strings).collect()
}
