//! Each crate takes the workspace's lints: one that forgets to is silently checked by nobody.

use super::Finding;
use super::tree::Tree;

/// What every crate's manifest says.
const LINTS: &str = "[lints]\nworkspace = true";

/// What every library's manifest says: each doctest is a program to link, and ours are in tests.
const NO_DOCTEST: &str = "doctest = false";

/// The rule.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let is_manifest = |path: &str| path.starts_with("crates/") && path.ends_with("/Cargo.toml");
    let mut findings = Vec::new();
    for (path, file) in tree.files().filter(|(path, _)| is_manifest(path)) {
        if !file.text.contains(LINTS) {
            let message = "add `[lints]` with `workspace = true`: without it no lint holds here";
            findings.push(Finding::error(path, message));
        }
        let library = path.replace("Cargo.toml", "src/lib.rs");
        if tree.get(&library).is_some() && !file.text.contains(NO_DOCTEST) {
            findings.push(Finding::error(path, "add `doctest = false` under `[lib]`"));
        }
    }
    findings
}
