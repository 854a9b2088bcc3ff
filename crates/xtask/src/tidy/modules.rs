//! A Rust file that no `mod` reaches is not compiled: its tests pass because nobody runs them.
//!
//! Modules are followed from each crate's roots by reading their `mod name;` lines. Also here:
//! files are named `foo.rs`, never `foo/mod.rs`, and a crate has one integration-test binary, since
//! each is a link of everything.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helpers", "common", "manager", "misc"];

/// The rule.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    for (path, _) in tree.rust_files().filter(|(path, _)| is_root(path)) {
        follow(tree, path, &mut reached);
    }
    let mut findings = Vec::new();
    for (path, _) in tree.rust_files().filter(|(path, _)| !path.contains("/fixtures/")) {
        if !reached.contains(path) {
            let message =
                "no `mod` reaches this file, so it is not compiled: add one, or delete it";
            findings.push(Finding::error(path, message));
        }
        findings.extend(check_name(path));
    }
    findings
}

fn check_name(path: &str) -> Option<Finding> {
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    if name == "mod" {
        return Some(Finding::error(path, "name it after its folder: foo.rs beside foo/"));
    }
    if EMPTY_NAMES.contains(&name) {
        return Some(Finding::error(path, "name it after the thing that it holds"));
    }
    let parts: Vec<&str> = path.split('/').collect();
    let extra_binary = matches!(parts[..], ["crates", _, "tests", _]);
    extra_binary.then(|| Finding::error(path, "move it to tests/it/: one test binary per crate"))
}

/// Whether cargo compiles a file without a `mod` for it.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(2).collect();
    matches!(
        parts[..],
        ["build.rs"]
            | ["src", "lib.rs" | "main.rs"]
            | ["src", "bin", _]
            | ["tests" | "benches" | "examples", _]
            | ["tests" | "benches" | "examples", _, "main.rs"]
    )
}

/// Adds a file and all that its `mod` lines lead to.
fn follow<'a>(tree: &'a Tree, path: &'a str, reached: &mut BTreeSet<&'a str>) {
    let mut waiting = vec![path];
    while let Some(path) = waiting.pop() {
        if !reached.insert(path) {
            continue;
        }
        let text = tree.get(path).map_or("", |file| file.text.as_str());
        let wanted: BTreeSet<String> = declared(path, text).into_iter().collect();
        waiting
            .extend(tree.rust_files().map(|(file, _)| file).filter(|file| wanted.contains(*file)));
    }
}

/// The paths at which the modules that a file declares may be.
fn declared(path: &str, text: &str) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let owns_folder = is_root(path) || path.ends_with("/mod.rs");
    let children = if owns_folder { folder } else { path.trim_end_matches(".rs") };
    let mut paths = Vec::new();
    let mut explicit = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            explicit = rest.split('"').next();
        } else if let Some(name) = module_name(line) {
            match explicit.take() {
                Some(file) => paths.push(format!("{folder}/{file}")),
                None => paths
                    .extend([format!("{children}/{name}.rs"), format!("{children}/{name}/mod.rs")]),
            }
        }
    }
    paths
}

/// The name in `mod name;`, with whatever visibility or attribute before it.
fn module_name(line: &str) -> Option<&str> {
    let name = line.strip_suffix(';')?;
    let (before, name) = name.rsplit_once("mod ")?;
    let whole_word = before.is_empty() || before.ends_with(' ');
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (whole_word && plain && !before.contains("//")).then_some(name)
}
