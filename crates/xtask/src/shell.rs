//! Running other programs: from the repository's root, with the project's own tools first on the
//! path.
//!
//! What a program prints is shown as it comes. [`run_counted`] also reads it, for the counts of
//! test runners.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::counts::Report;

/// Folders with tools that `build/setup` installs for this checkout alone.
const TOOL_FOLDERS: &[&str] =
    &[".build/tools/bin", ".build/cargo/bin", ".build/node/node_modules/.bin"];

/// How often a long step says that it goes on.
const REMINDER: Duration = Duration::from_secs(60);

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}

/// A program to run in the repository's root, the project's tools first on its path.
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).env("PATH", search_path());
    // `cargo run` describes this package to us; a cargo below would take it for its own.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_about_this_package) {
            command.env_remove(name);
        }
    }
    command
}

fn is_about_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// `cargo` with these arguments.
pub(crate) fn cargo(args: &[&str]) -> Command {
    command("cargo", args)
}

/// Whether `cargo NAME` is installed.
pub(crate) fn has_cargo_tool(name: &str) -> bool {
    let mut probe = cargo(&[name, "--version"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// Runs it under a headline and says how long it took.
///
/// # Errors
/// If it can't be started, or says that it failed.
pub(crate) fn run(title: &str, mut command: Command) -> Result<()> {
    println!("== {title}");
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{title}: can't be started"))?;
    let (ended, has_ended) = mpsc::channel::<()>();
    // A C++ library compiles for minutes without a line: somebody would think that it hangs.
    let reminder = thread::spawn({
        let title = title.to_owned();
        move || {
            while has_ended.recv_timeout(REMINDER) == Err(RecvTimeoutError::Timeout) {
                println!("   {title}: {} s, still at it", started.elapsed().as_secs());
            }
        }
    });
    let status = child.wait().with_context(|| format!("{title}: lost"))?;
    drop(ended);
    drop(reminder.join());
    println!("   {title}: {:.1} s", started.elapsed().as_secs_f64());
    if !status.success() {
        bail!("{title}: see above");
    }
    Ok(())
}

/// Runs a test runner, shows what it prints and reads its counts. Its failure is in the report, not
/// an error.
///
/// # Errors
/// If it can't be started.
pub(crate) fn run_counted(title: &str, mut command: Command) -> Result<Report> {
    println!("== {title}");
    let started = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{title}: can't be started"))?;
    let report = Arc::new(Mutex::new(Report::default()));
    let readers = [
        child.stdout.take().map(|out| read_lines(out, Arc::clone(&report))),
        child.stderr.take().map(|err| read_lines(err, Arc::clone(&report))),
    ];
    let status = child.wait().with_context(|| format!("{title}: lost"))?;
    for reader in readers.into_iter().flatten() {
        drop(reader.join());
    }
    println!("   {title}: {:.1} s", started.elapsed().as_secs_f64());
    let report = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(report.ended(status.success()))
}

/// Shows and reads one of a child's outputs until its end, on a thread of its own.
fn read_lines(
    output: impl Read + Send + 'static,
    report: Arc<Mutex<Report>>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            report.lock().unwrap_or_else(PoisonError::into_inner).read(&line);
        }
    })
}

fn search_path() -> OsString {
    let ours = TOOL_FOLDERS.iter().map(|folder| root().join(folder));
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let theirs: Vec<PathBuf> = std::env::split_paths(&inherited).collect();
    std::env::join_paths(ours.chain(theirs)).unwrap_or(inherited)
}
