//! Which versions were measured, and which build of ours: figures without them say little.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};

use crate::holdfast;

/// Prints the version of a Python package that is installed.
const OF_PACKAGE: &str =
    "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))";

/// The versions of the systems beside ours that are installed.
pub(super) fn of_systems(installed: &Path) -> Value {
    let python = |folder: &str, package: &str| {
        let mut command = Command::new(installed.join(folder).join("bin/python"));
        said(command.args(["-c", OF_PACKAGE, package]))
    };
    let portkey = installed.join("portkey/node_modules/@portkey-ai/gateway/package.json");
    let portkey = std::fs::read_to_string(portkey).ok();
    let portkey = portkey.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    json!({
        "nginx": said(Command::new("nginx").arg("-v")),
        "sglang-router": python("sglang", "sglang-router"),
        "tensorzero": python("tensorzero", "tensorzero"),
        "litellm": python("litellm", "litellm"),
        "portkey": portkey.map(|package| package["version"].clone()),
        "node": said(Command::new("node").arg("--version")),
    })
}

/// The build of ours: its profile is the folder that cargo put it into, with `dist` optimized
/// across crates and `release` not.
pub(super) fn of_binary() -> anyhow::Result<Value> {
    let binary = holdfast::binary()?;
    let bytes = std::fs::metadata(&binary)?.len();
    let folder = binary.parent().and_then(Path::file_name).context("the binary has no folder")?;
    let version = said(Command::new(&binary).arg("--version"));
    Ok(json!({ "profile": folder.to_string_lossy(), "size_bytes": bytes, "version": version }))
}

/// The first line that a command says, on either stream; `None` where it can't be run or fails.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().map(|line| line.trim().to_owned())
}
