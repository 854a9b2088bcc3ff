//! The table in `ARCHITECTURE.md` that says where things are is right: each path in it exists.

use super::Finding;
use super::tree::Tree;

/// The document.
const DOCUMENT: &str = "ARCHITECTURE.md";

/// The heading of its table.
const HEADING: &str = "## Where is";

/// The rule.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.get(DOCUMENT) else {
        return vec![Finding::error(DOCUMENT, "missing: it maps the code for a reader")];
    };
    let lines = document.text.lines().enumerate();
    let section: Vec<_> = lines.skip_while(|(_, line)| !line.starts_with(HEADING)).collect();
    if section.is_empty() {
        return vec![Finding::error(DOCUMENT, format!("no section `{HEADING}…`: add the table"))];
    }
    let section =
        section.iter().enumerate().take_while(|(n, (_, line))| *n == 0 || !line.starts_with("## "));
    let rows = section.map(|(_, row)| row).filter(|(_, line)| line.starts_with('|'));
    rows.flat_map(|(index, line)| missing_paths(tree, *index, line)).collect()
}

fn missing_paths(tree: &Tree, index: usize, line: &str) -> Vec<Finding> {
    let quoted = line.split('`').skip(1).step_by(2);
    let paths = quoted.filter(|text| text.contains('/') && !text.contains(' '));
    let missing = paths.filter(|path| !tree.exists(path));
    let place = format!("{DOCUMENT}:{}", index + 1);
    let message = |path: &str| format!("there is no {path}: say where it is now");
    missing.map(|path| Finding::error(&place, message(path))).collect()
}
