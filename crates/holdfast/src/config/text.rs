//! The file as it is written: what of it changed, and whether it may have.
//!
//! Which sections can be changed at run time is said here once, so that a new one is a setting of
//! the process, which holds from a start on, until somebody takes it. It must not know what a
//! setting means.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;
use toml::Table;

/// Sections that are taken at run time.
const OBJECTS: &[&str] = &[
    "providers",
    "routes",
    "models",
    "keys",
    "budgets",
    "rate_limits",
    "mcp_servers",
    "slos",
    "telemetry",
];

/// A file's tables, with what the environment has put in. Not shown: they may hold secrets.
#[derive(Clone, Default)]
pub(crate) struct Text(pub(super) Table);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Text").finish_non_exhaustive()
    }
}

impl Text {
    /// The name and the settings of each route of the file that has a name, in its order, whether
    /// or not the settings can be read.
    pub(crate) fn routes(&self) -> Vec<(String, Value)> {
        let routes = self.0.get("routes").and_then(toml::Value::as_array);
        let as_json = |route: &toml::Value| {
            let mut settings = serde_json::to_value(route).ok()?;
            match settings.as_object_mut()?.shift_remove("name")? {
                Value::String(name) => Some((name, settings)),
                _ => None,
            }
        };
        routes.into_iter().flatten().filter_map(as_json).collect()
    }

    /// What `other` says otherwise that holds from a start on: key paths, in order.
    pub(crate) fn needs_restart(&self, other: &Self) -> Vec<String> {
        let sections = self.0.keys().chain(other.0.keys());
        let mut sections: Vec<&String> =
            sections.filter(|name| !OBJECTS.contains(&name.as_str())).collect();
        sections.sort();
        sections.dedup();
        let mut changed = Vec::new();
        for section in sections {
            match (self.0.get(section), other.0.get(section)) {
                (before, after) if before == after => {}
                (Some(toml::Value::Array(_)), _) | (_, Some(toml::Value::Array(_))) => {
                    changed.push(section.clone());
                }
                (before, after) => {
                    let keys = |value: Option<&toml::Value>| {
                        value.and_then(toml::Value::as_table).cloned().unwrap_or_default()
                    };
                    let (before, after) = (keys(before), keys(after));
                    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
                    names.sort();
                    names.dedup();
                    let differs = |name: &&&String| before.get(**name) != after.get(**name);
                    let names = names.iter().filter(differs);
                    changed.extend(names.map(|name| format!("{section}.{name}")));
                }
            }
        }
        changed
    }
}

/// By which a changed file is known: an editor replaces it by another of the same name, or writes
/// it anew in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp of a file that is there. Links are followed: what they lead to is what is read.
    /// Blocks.
    #[expect(clippy::disallowed_methods, reason = "the caller knows that this blocks")]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text(toml::from_str(text).unwrap())
    }

    #[test]
    fn what_holds_from_a_start_on_is_named() {
        let before =
            text("[server]\nlisten = \"127.0.0.1:1\"\nmax_connections = 5\n[data]\ndir = \"a\"\n");
        let after = text(
            "[server]\nlisten = \"127.0.0.1:2\"\nmax_connections = 5\n[[mcp_servers]]\nname = \"n\"\n\
             [[keys]]\nname = \"k\"\n[engine]\nthreads = 2\n",
        );
        let named = ["data.dir", "engine.threads", "server.listen"];
        assert_eq!(before.needs_restart(&after), named);
        assert!(after.needs_restart(&after).is_empty());
    }

    #[test]
    fn routes_are_read_as_they_are_written() {
        let text = text("[[routes]]\nname = \"fast\"\ntargets = [\"a/b\"]\n[routes.sub]\nx = 1\n");
        let settings = serde_json::json!({ "targets": ["a/b"], "sub": { "x": 1 } });
        assert_eq!(text.routes(), [("fast".to_owned(), settings)]);
        assert!(Text::default().routes().is_empty());
        assert_eq!(format!("{text:?}"), "Text(..)");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test")]
    fn a_file_that_is_replaced_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let (path, beside) = (folder.path().join("a"), folder.path().join("b"));
        assert_eq!(Stamp::of(&path), None);
        std::fs::write(&path, "one").unwrap();
        let first = Stamp::of(&path);
        assert_eq!(first, Stamp::of(&path));
        std::fs::write(&beside, "two").unwrap();
        std::fs::rename(&beside, &path).unwrap();
        assert_ne!(first, Stamp::of(&path));
    }
}
