//! The files that git tracks or would track, with their text: all that a rule may look at.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Text is read up to this size, in bytes; a larger file is a finding of `blobs` anyway.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// One file.
pub(super) struct File {
    /// Its size in bytes.
    pub(super) size_bytes: u64,
    /// Its text, if it is UTF-8 and of a sensible size; else empty.
    pub(super) text: String,
}

/// All files, by their path from the root with `/` between parts.
#[derive(Default)]
pub(super) struct Tree {
    files: BTreeMap<String, File>,
}

impl Tree {
    /// Reads what git tracks, and what it does not ignore.
    ///
    /// # Errors
    /// If git can't list the files.
    pub(super) fn load(root: &Path) -> Result<Self> {
        let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output = shell::command("git", &args).output().context("git can't be started")?;
        if !output.status.success() {
            bail!("git ls-files failed: is this a git checkout?");
        }
        let list = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
        let mut tree = Self::default();
        for path in list.split('\0').filter(|path| !path.is_empty()) {
            if let Some(file) = read(&root.join(path)) {
                tree.files.insert(path.to_owned(), file);
            }
        }
        Ok(tree)
    }

    /// A tree of these paths and texts, for tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |text: &str| File { size_bytes: text.len() as u64, text: text.to_owned() };
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect() }
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Every file, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Every Rust file of the crates.
    pub(super) fn rust_files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files().filter(|(path, _)| path.starts_with("crates/") && path.ends_with(".rs"))
    }

    /// The file at a path.
    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Whether a path is a file or a folder with a file in it.
    pub(super) fn exists(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }
}

/// The file, unless it has been deleted since it was added, or is a folder or a link to nowhere.
fn read(path: &Path) -> Option<File> {
    let size_bytes = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    let bytes = if size_bytes <= TEXT_BYTES_MAX { fs::read(path).ok()? } else { Vec::new() };
    Some(File { size_bytes, text: String::from_utf8(bytes).unwrap_or_default() })
}

/// Whether a Rust file holds only tests.
pub(super) fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/benches/")
}
