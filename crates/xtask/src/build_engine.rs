//! Builds `holdfast-engine`, the one crate with C++ in it, apart from everything else.
//!
//! llama.cpp is compiled for the processor at hand (its portable build is half as fast at prefill),
//! so its target folder is keyed by the processor's features: a checkout that moves to another
//! machine builds anew instead of dying of an illegal instruction. Cargo decides what is fresh; a
//! build with nothing to do takes a second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, command, root, run as run_step};

/// Compiler flags of the engine: all that this machine's processor can do.
const RUSTFLAGS: &str = "-Ctarget-cpu=native";

/// The binary's name in every target folder.
const BINARY: &str = "holdfast-engine";

/// `cargo xtask build-engine`.
///
/// # Errors
/// If the build fails, or the binary can't be copied.
pub(crate) fn run() -> Result<()> {
    let target = target_folder()?;
    run_step("engine", engine_cargo(&["build"], &target))?;
    let built = target.join("release").join(BINARY);
    let wanted = root().join("target/release").join(BINARY);
    if same_contents(&built, &wanted) {
        return Ok(());
    }
    replace(&built, &wanted).with_context(|| format!("{}: can't be written", wanted.display()))
}

/// `cargo ARGS` for the engine alone, in its own target folder and with its own flags.
pub(crate) fn engine_cargo(args: &[&str], target: &Path) -> Command {
    let mut command = cargo(args);
    command.args(["--release", "--package", "engine-llama", "--target-dir"]).arg(target);
    command.env("RUSTFLAGS", RUSTFLAGS);
    command
}

/// The target folder for this machine's processor.
///
/// # Errors
/// If the compiler does not say what the processor can do.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let mut rustc = command("rustc", &["--print", "cfg", RUSTFLAGS]);
    let output = rustc.output().context("rustc can't be started")?;
    if !output.status.success() {
        bail!("rustc does not say what this processor can do");
    }
    let key = feature_key(&String::from_utf8_lossy(&output.stdout));
    Ok(root().join("target/engine").join(key))
}

/// A short name for the set of `target_feature` lines in what the compiler printed, whatever their
/// order.
fn feature_key(cfg: &str) -> String {
    /// FNV-1a's offset basis and prime for 64 bits: no secret is hashed, only names told apart.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let kept = |line: &&str| line.starts_with("target_feature") || line.starts_with("target_arch");
    let mut lines: Vec<&str> = cfg.lines().filter(kept).collect();
    lines.sort_unstable();
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

fn same_contents(a: &Path, b: &Path) -> bool {
    match (fs::read(a), fs::read(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// Copies by renaming into place: the old file may be running.
fn replace(from: &Path, to: &Path) -> std::io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = to.with_extension("new");
    fs::copy(from, &new)?;
    fs::rename(&new, to)
}

#[cfg(test)]
mod tests {
    use super::feature_key;

    #[test]
    fn the_key_names_the_features_alone() {
        let here = "debug_assertions\ntarget_arch=\"x86_64\"\ntarget_feature=\"avx2\"\ntarget_feature=\"fma\"\n";
        let reordered =
            "target_feature=\"fma\"\ntarget_feature=\"avx2\"\nunix\ntarget_arch=\"x86_64\"\n";
        assert_eq!(feature_key(here), feature_key(reordered));
        assert_eq!(feature_key(here).len(), 16);
        let more = format!("{here}target_feature=\"avx512f\"\n");
        assert_ne!(feature_key(here), feature_key(&more));
    }
}
