//! Words that must not be in the repository: places that exist on one machine only, and hosts of
//! registries.

use super::Finding;
use super::tree::Tree;

/// What is looked for, and what to write instead. A place counts only at the start of a path.
const BANNED: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine: make it relative to the repository"),
    (concat!("/ro", "ot/"), "a path of one machine: make it relative, or use $HOME"),
    (concat!("/tmp/", "hf"), "a path of one machine: use a temporary folder"),
    (concat!("../sha", "red/"), "not in the repository: say it in docs/"),
    (
        concat!("registry.", "npmjs.org"),
        "leave registries to each user's configuration (npm: omit-lockfile-registry-resolved)",
    ),
    (concat!("pypi", ".org"), "leave registries to each user's configuration"),
    (concat!("files.pythonhosted", ".org"), "leave registries to each user's configuration"),
    (concat!("index.crates", ".io"), "leave registries to each user's configuration"),
    (concat!("static.crates", ".io"), "leave registries to each user's configuration"),
    (concat!("deb.debian", ".org"), "leave registries to each user's configuration"),
];

/// The rule.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files().flat_map(|(path, file)| check_text(path, &file.text)).collect()
}

fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate();
    let finding = |index: usize, (word, instead): &(&str, &str)| {
        Finding::error(format!("{path}:{}", index + 1), format!("`{word}`: {instead}"))
    };
    let found = |line: &str| BANNED.iter().filter(|(word, _)| has(line, word)).collect::<Vec<_>>();
    lines
        .flat_map(|(index, line)| found(line).into_iter().map(move |ban| finding(index, ban)))
        .collect()
}

/// Whether a line has the word, not as the tail of a longer path.
fn has(line: &str, word: &str) -> bool {
    let is_path = word.starts_with('/');
    let inside_path = |before: &str| {
        before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '}'))
    };
    line.match_indices(word).any(|(at, _)| !is_path || !inside_path(&line[..at]))
}
