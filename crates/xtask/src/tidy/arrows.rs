//! Which crate may use which, so that a format knows no server and the pipeline knows no provider
//! by name.
//!
//! The picture in `ARCHITECTURE.md` is law: an arrow that is not reachable along it fails. Some
//! outside crates are confined too, where the whole point of a crate is that nobody else links
//! them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Finding;
use crate::shell;

/// The picture, arrow by arrow; what an arrow reaches through others is allowed too.
const ARROWS: &[(&str, &[&str])] = &[
    ("holdfast", &["server", "providers", "engine", "embeddings"]),
    ("server", &["sessions", "workers", "formats"]),
    ("sessions", &["pipeline", "services", "formats"]),
    ("workers", &["pipeline", "services"]),
    ("pipeline", &["governance", "storage", "vectors"]),
    ("services", &["governance", "storage", "vectors"]),
    ("governance", &["types"]),
    ("storage", &["types"]),
    ("vectors", &["types"]),
    ("providers", &["formats"]),
    ("formats", &["types"]),
    ("engine", &["types"]),
    ("embeddings", &["formats"]),
    ("engine-llama", &["engine"]),
    ("testkit", &["types"]),
    ("bench", &["testkit"]),
    ("xtask", &[]),
    ("types", &[]),
];

/// Ours, for tests only: any crate's tests may use it.
const TEST_CRATE: &str = "testkit";

/// Crates of others that only these of ours may use outside tests, and why.
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("llama-cpp-2", &["engine-llama"], "C++ stays in the engine's own binary"),
    ("llama-cpp-sys-2", &["engine-llama"], "C++ stays in the engine's own binary"),
    ("rusqlite", &["storage"], "SQL stays behind the storage traits"),
    ("axum", &["server"], "doors live in server"),
    (
        "tokenizers",
        &["embeddings"],
        "texts become tokens in one place, and engines do it for themselves",
    ),
    ("safetensors", &["embeddings"], "weights are read where they are used"),
    ("rmcp", &["sessions"], "the MCP client lives in sessions"),
    (
        "anyhow",
        &["holdfast", "engine-llama", "bench", "xtask"],
        "a library's callers need a typed error: define one with thiserror",
    ),
];

/// A workspace package, as `cargo metadata` prints it.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `null` for a normal one, else `dev` or `build`.
    kind: Option<String>,
    /// Only ours have one.
    path: Option<String>,
}

impl Dependency {
    fn is_for_tests(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

/// The workspace's packages.
///
/// # Errors
/// If cargo can't read the workspace.
pub(super) fn read_packages() -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let args = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = shell::cargo(&args).output().context("cargo can't be started")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    Ok(metadata.packages)
}

/// The rule.
pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    packages.iter().flat_map(check_package).collect()
}

fn check_package(package: &Package) -> Vec<Finding> {
    let place = format!("crates/{}/Cargo.toml", package.name);
    if !ARROWS.iter().any(|(name, _)| *name == package.name) {
        let message = "this crate is not in the picture: add it to ARROWS in \
                       crates/xtask/src/tidy/arrows.rs and to ARCHITECTURE.md";
        return vec![Finding::error(place, message)];
    }
    let allowed = reachable(&package.name);
    let ours = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
    let ours = ours.filter_map(|dependency| forbidden_arrow(package, dependency, &allowed));
    let theirs = package.dependencies.iter().filter(|dependency| dependency.path.is_none());
    let theirs = theirs.filter_map(|dependency| forbidden_crate(package, dependency));
    ours.chain(theirs).map(|message| Finding::error(&place, message)).collect()
}

fn forbidden_arrow(
    package: &Package,
    dependency: &Dependency,
    allowed: &BTreeSet<&str>,
) -> Option<String> {
    let (from, to) = (&package.name, &dependency.name);
    if allowed.contains(to.as_str()) || (dependency.is_for_tests() && to == TEST_CRATE) {
        return None;
    }
    Some(format!(
        "{from} must not use {to}: take what you need as a trait from types, and let holdfast plug \
         {to} in (the picture is in ARCHITECTURE.md)"
    ))
}

fn forbidden_crate(package: &Package, dependency: &Dependency) -> Option<String> {
    let (name, homes, why) = CONFINED.iter().find(|(name, ..)| *name == dependency.name)?;
    let at_home = homes.contains(&package.name.as_str()) || dependency.is_for_tests();
    (!at_home).then(|| format!("{name} is only for {}: {why}", homes.join(", ")))
}

/// Everything that a crate may use, along any number of arrows.
fn reachable(from: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut waiting = targets(from).to_vec();
    while let Some(name) = waiting.pop() {
        if found.insert(name) {
            waiting.extend(targets(name));
        }
    }
    found
}

/// What a crate's arrows point at.
fn targets(from: &str) -> &'static [&'static str] {
    ARROWS.iter().find(|(source, _)| *source == from).map_or(&[], |(_, targets)| targets)
}

#[cfg(test)]
mod tests {
    use super::{Package, check};

    fn packages(json: &str) -> Vec<Package> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn arrows_follow_the_picture() {
        let good = r#"[
            {"name":"server","dependencies":[{"name":"storage","kind":null,"path":"x"}]},
            {"name":"pipeline","dependencies":[{"name":"testkit","kind":"dev","path":"x"}]}]"#;
        assert_eq!(check(&packages(good)), []);
        let bad = r#"[
            {"name":"pipeline","dependencies":[{"name":"providers","kind":null,"path":"x"}]},
            {"name":"types","dependencies":[{"name":"testkit","kind":null,"path":"x"}]}]"#;
        let messages: Vec<_> = check(&packages(bad)).into_iter().map(|f| f.message).collect();
        assert!(messages[0].starts_with("pipeline must not use providers: "), "{messages:?}");
        assert!(messages[1].starts_with("types must not use testkit: "), "{messages:?}");
    }

    #[test]
    fn a_new_crate_must_be_drawn() {
        let findings = check(&packages(r#"[{"name":"util","dependencies":[]}]"#));
        assert!(findings[0].message.contains("not in the picture"));
    }

    #[test]
    fn confined_crates_stay_at_home() {
        let json = r#"[
            {"name":"server","dependencies":[{"name":"rusqlite","kind":null,"path":null}]},
            {"name":"storage","dependencies":[
                {"name":"rusqlite","kind":null,"path":null}, {"name":"anyhow","kind":"dev","path":null}]}]"#;
        let findings = check(&packages(json));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "crates/server/Cargo.toml");
    }
}
