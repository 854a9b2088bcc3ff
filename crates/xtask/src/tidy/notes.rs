//! Notes of work to do name their issue, so that somebody finds them: `TO-DO(#123): …` without the
//! dash.

use super::Finding;
use super::tree::Tree;

/// The one word for it; spelled in two parts so that this file does not trip over itself.
const NOTE: &str = concat!("TO", "DO");

/// Words that others use for the same.
const OTHER_NOTES: &[&str] = &[concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// Files that hold source text.
const SOURCES: &[&str] = &[".rs", ".py", ".js", ".mjs", ".ts", ".sh", ".toml", ".sql"];

/// The rule.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let sources = tree.files().filter(|(path, _)| SOURCES.iter().any(|end| path.ends_with(end)));
    sources.flat_map(|(path, file)| check_text(path, &file.text)).collect()
}

fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let bad = text.lines().enumerate().filter(|(_, line)| has_bad_note(line));
    let message = format!("write it as {NOTE}(#123): with the number of an issue, or do it now");
    bad.map(|(index, _)| Finding::error(format!("{path}:{}", index + 1), &message)).collect()
}

fn has_bad_note(line: &str) -> bool {
    let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let other = words.clone().any(|word| OTHER_NOTES.contains(&word));
    let plain = words.filter(|word| *word == NOTE).count();
    other || plain != line.split(NOTE).skip(1).filter(|rest| names_an_issue(rest)).count()
}

/// Whether what follows the word is `(#123): ` and a text.
fn names_an_issue(rest: &str) -> bool {
    let number = rest.strip_prefix("(#").and_then(|rest| rest.split_once("): "));
    number.is_some_and(|(number, text)| {
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !text.trim().is_empty()
    })
}
