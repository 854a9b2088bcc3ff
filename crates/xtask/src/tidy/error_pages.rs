//! Every error code has a page that says what happened and what to do, and every page has a code.

use super::Finding;
use super::tree::Tree;

/// Where the codes are declared, one a line: `Variant = "name", status, Retry;`.
const CODES: &str = "crates/types/src/error.rs";

/// Where their pages are.
const PAGES: &str = "docs/errors/";

/// The index of the pages.
const INDEX: &str = "docs/errors/README.md";

/// The rule.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(source) = tree.get(CODES) else {
        return Vec::new();
    };
    let names: Vec<&str> = source.text.lines().filter_map(code_name).collect();
    if names.is_empty() {
        let message =
            "no error codes found: teach crates/xtask/src/tidy/error_pages.rs to read them";
        return vec![Finding::error(CODES, message)];
    }
    let pages = names.iter().map(|name| format!("{PAGES}{name}.md"));
    let missing = pages.filter(|page| tree.get(page).is_none()).map(|page| {
        Finding::error(page, "write this page: what the code means, why it comes, what to do")
    });
    let known = |path: &str| names.iter().any(|name| path == format!("{PAGES}{name}.md"));
    let orphans = tree.files().map(|(path, _)| path);
    let orphans = orphans.filter(|path| path.starts_with(PAGES) && *path != INDEX && !known(path));
    let orphans = orphans
        .map(|path| Finding::error(path, "no error code has this name: rename or delete it"));
    missing.chain(orphans).collect()
}

/// The name in a line such as `NotFound = "not_found", 404, Never;`.
fn code_name(line: &str) -> Option<&str> {
    let (variant, rest) = line.trim().split_once(" = \"")?;
    let (name, rest) = rest.split_once("\", ")?;
    let is_variant =
        variant.starts_with(char::is_uppercase) && variant.chars().all(char::is_alphanumeric);
    (is_variant && rest.starts_with(|c: char| c.is_ascii_digit())).then_some(name)
}
