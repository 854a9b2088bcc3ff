//! Processes under measurement: started, read through `/proc`, ended when dropped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

/// How long a process may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A process that is measured.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let name = format!("{:?}", command.get_program());
        Ok(Self { child: command.spawn().with_context(|| format!("starting {name}"))? })
    }

    /// Starts one of our own hidden commands, which prints a line of JSON when it is ready.
    pub(crate) fn own(arguments: &[&str]) -> anyhow::Result<(Self, Value)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdout(Stdio::piped());
        let mut process = Self::start(command)?;
        let stdout = process.child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready =
            serde_json::from_str(&line).with_context(|| format!("{arguments:?} said {line:?}"))?;
        Ok((process, ready))
    }

    /// Its id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Largest resident memory so far, in bytes.
    pub(crate) fn peak_rss_bytes(&self) -> u64 {
        status_bytes(self.pid(), "VmHWM:")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // TERM first: some (nginx) have children that only they can end.
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or(());
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) && matches!(self.child.try_wait(), Ok(None))
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().unwrap_or(());
        self.child.wait().map(drop).unwrap_or(());
    }
}

/// Processor time that a process and its descendants have used, of those that are alive.
pub(crate) fn cpu_of_tree(pid: u32) -> Duration {
    descendants(pid).into_iter().chain([pid]).map(cpu_of).sum()
}

/// Resident memory of a process and its descendants now, in bytes.
pub(crate) fn rss_of_tree(pid: u32) -> u64 {
    descendants(pid).into_iter().chain([pid]).map(|pid| status_bytes(pid, "VmRSS:")).sum()
}

/// The largest resident memory of a process and of each of its descendants so far, summed, in
/// bytes.
pub(crate) fn peak_rss_of_tree(pid: u32) -> u64 {
    descendants(pid).into_iter().chain([pid]).map(|pid| status_bytes(pid, "VmHWM:")).sum()
}

/// Proportional memory of a process and its descendants now, in bytes: what several processes share
/// counts once.
pub(crate) fn pss_of_tree(pid: u32) -> u64 {
    descendants(pid).into_iter().chain([pid]).map(|pid| bytes_in(pid, "smaps_rollup", "Pss:")).sum()
}

/// A field of `/proc/<pid>/status` that is given in kB, in bytes; zero if it is not there.
fn status_bytes(pid: u32, field: &str) -> u64 {
    bytes_in(pid, "status", field)
}

/// A field of one of a process's files that is given in kB, in bytes; zero if it is not there.
fn bytes_in(pid: u32, file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1_024
}

/// Nanoseconds on a processor, summed over the process's threads (`schedstat`: finer than the 10 ms
/// ticks of `stat`).
fn cpu_of(pid: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let of = |path: std::path::PathBuf| -> Option<u64> {
        std::fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(|thread| of(thread.path())).sum())
}

/// All processes below one.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        let below = children(parent);
        found.extend(&below);
        next.extend(below);
    }
    found
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let of = |path: std::path::PathBuf| {
        std::fs::read_to_string(path.join("children")).unwrap_or_default()
    };
    let text: String = threads.flatten().map(|thread| of(thread.path())).collect();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Waits for a file that a process writes when it is ready, and reads it.
pub(crate) fn wait_for(process: &mut Process, file: &std::path::Path) -> anyhow::Result<Value> {
    let began = Instant::now();
    while !file.exists() {
        anyhow::ensure!(
            process.child.try_wait()?.is_none(),
            "the process ended before it was ready"
        );
        anyhow::ensure!(
            began.elapsed() < READY_WITHIN,
            "the process was not ready after {READY_WITHIN:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(serde_json::from_str(&std::fs::read_to_string(file)?)?)
}
