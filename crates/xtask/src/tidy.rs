//! House rules that no compiler knows, each as a pure function from the tree of files to findings.
//!
//! Every finding says where it is and what to do about it. A rule must not read the disk itself:
//! [`tree::Tree`] holds what git knows of, so that rules are tested on trees of a few lines and
//! build outputs are never looked at.

mod arrows;
mod blobs;
mod error_pages;
mod manifests;
mod modules;
mod notes;
mod rewrap;
mod sizes;
mod tree;
mod where_is;
mod words;

use std::{fmt, fs};

use anyhow::{Context, Result, bail};

use self::tree::Tree;
use crate::shell;

/// What one rule has to say about one place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// A path, with a line where there is one.
    place: String,
    /// What is wrong and what to do.
    message: String,
    /// Whether it only warns.
    warning: bool,
}

impl Finding {
    fn error(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into(), warning: false }
    }

    fn warning(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { warning: true, ..Self::error(place, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.warning { "warning" } else { "error" };
        write!(f, "{kind}: {}: {}", self.place, self.message)
    }
}

/// `cargo xtask tidy`: prints every finding; as a part of other checks only the errors, and how
/// many warnings there are.
///
/// # Errors
/// If one of them is more than a warning, or the tree can't be read.
pub(crate) fn run(with_warnings: bool) -> Result<()> {
    let tree = Tree::load(&shell::root())?;
    let mut findings = all_rules(&tree);
    findings.extend(arrows::check(&arrows::read_packages()?));
    findings.sort();
    for finding in findings.iter().filter(|finding| with_warnings || !finding.warning) {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| !finding.warning).count();
    let warnings = findings.len() - errors;
    let hint = if with_warnings { "" } else { ": `cargo xtask tidy` names them" };
    println!("   {} files, {errors} errors, {warnings} warnings{hint}", tree.len());
    if errors > 0 {
        bail!("house rules: {errors} to mend, each line above says how");
    }
    Ok(())
}

/// `cargo xtask tidy --fix`: breaks comments that are too wide, in every Rust file of the crates.
///
/// # Errors
/// If a file can't be written.
pub(crate) fn fix() -> Result<()> {
    let root = shell::root();
    for (path, file) in Tree::load(&root)?.rust_files() {
        let rewrapped = rewrap::rewrap(&file.text);
        if rewrapped != file.text {
            println!("   rewrapped {path}");
            fs::write(root.join(path), rewrapped).with_context(|| path.to_owned())?;
        }
    }
    Ok(())
}

fn all_rules(tree: &Tree) -> Vec<Finding> {
    let rules: [fn(&Tree) -> Vec<Finding>; 9] = [
        blobs::check,
        error_pages::check,
        manifests::check,
        modules::check,
        notes::check,
        sizes::check_lengths,
        sizes::check_widths,
        where_is::check,
        words::check,
    ];
    rules.iter().flat_map(|rule| rule(tree)).collect()
}

#[cfg(test)]
mod tests;
