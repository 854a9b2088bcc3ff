//! Large files make every clone slow for ever: they belong in fixtures, in the demo model, in the
//! catalogue of prices, or outside the repository.

use super::Finding;
use super::tree::Tree;

/// The largest ordinary file, in bytes.
const FILE_BYTES_MAX: u64 = 100_000;

/// Where large files may be.
const LARGE_ALLOWED: &[&str] = &["/fixtures/", "models/demo/", "catalog/models/"];

/// Files that a tool writes as large as they get.
const LOCK_FILES: &[&str] = &["Cargo.lock", "package-lock.json", "requirements.txt", "uv.lock"];

/// The rule.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let large =
        tree.files().filter(|(path, file)| file.size_bytes > FILE_BYTES_MAX && !may_be(path));
    let finding = |(path, size): (&str, u64)| {
        let message = format!("{} kB: keep it out of git, or make it small", size / 1_000);
        Finding::error(path, message)
    };
    large.map(|(path, file)| finding((path, file.size_bytes))).collect()
}

fn may_be(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    LOCK_FILES.contains(&name) || LARGE_ALLOWED.iter().any(|place| path.contains(place))
}
