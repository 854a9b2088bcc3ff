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
    let codes: Vec<_> = source.text.lines().filter_map(code).collect();
    if codes.is_empty() {
        let message =
            "no error codes found: teach crates/xtask/src/tidy/error_pages.rs to read them";
        return vec![Finding::error(CODES, message)];
    }
    let wrong = codes.iter().filter_map(|(name, status)| wrong_page(tree, name, status));
    let known = |path: &str| codes.iter().any(|(name, _)| path == format!("{PAGES}{name}.md"));
    let orphans = tree.files().map(|(path, _)| path);
    let orphans = orphans.filter(|path| path.starts_with(PAGES) && *path != INDEX && !known(path));
    let orphans = orphans
        .map(|path| Finding::error(path, "no error code has this name: rename or delete it"));
    wrong.chain(orphans).collect()
}

/// What is wrong with a code's page.
fn wrong_page(tree: &Tree, name: &str, status: &str) -> Option<Finding> {
    let page = format!("{PAGES}{name}.md");
    let message = match tree.get(&page) {
        None => "write this page: what the code means, why it comes, what to do".to_owned(),
        Some(file) if file.text.contains(&format!("HTTP status: {status}")) => return None,
        Some(_) => format!("say `HTTP status: {status}`, which it is answered with"),
    };
    Some(Finding::error(page, message))
}

/// Name and status in a line such as `NotFound = "not_found", 404, Never;`.
fn code(line: &str) -> Option<(&str, &str)> {
    let (variant, rest) = line.trim().split_once(" = \"")?;
    let (name, rest) = rest.split_once("\", ")?;
    let (status, _) = rest.split_once(", ")?;
    let is_variant =
        variant.starts_with(char::is_uppercase) && variant.chars().all(char::is_alphanumeric);
    let is_status = status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit());
    (is_variant && is_status).then_some((name, status))
}
