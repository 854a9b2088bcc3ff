//! The lock of a folder that a child writes: `flock` on its `.lock`, opened anew by each guard and
//! inherited by that one child, never unlocked by hand.
//!
//! A survivor of an earlier run therefore blocks the next child, even one of the same server. Who
//! holds it is written in it (process ids with start times), so that survivors of a server that is
//! gone can be killed, and those of a live one are refused by name.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use super::processes::Stat;

/// A holder that is just ending gets this long.
const WAIT_BEFORE_KILLING: Duration = Duration::from_secs(2);
/// Killed holders get this long to disappear.
const WAIT_AFTER_KILLING: Duration = Duration::from_secs(5);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A process that can't be confused with a later one of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pid: i32,
    started_ticks: u64,
}

impl Process {
    /// The process of this id, as it is now; one that is gone has the start 0 and never matches.
    pub(crate) fn of(pid: i32) -> Self {
        Self { pid, started_ticks: Stat::of(pid).map_or(0, |stat| stat.started_ticks) }
    }

    pub(crate) fn is_alive(self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started_ticks == self.started_ticks)
    }

    fn kill(self) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            rustix::process::kill_process(pid, Signal::KILL).unwrap_or(());
        }
    }
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holders {
    pub(crate) server: Process,
    pub(crate) guard: Process,
    pub(crate) child: Process,
}

/// Takes the lock; kills the survivors of a server that is gone.
///
/// # Errors
/// Names the holders if their server is alive, or if they don't die.
pub(crate) fn take(path: &Path) -> anyhow::Result<File> {
    let mut file = open(path)?;
    if try_for(&file, WAIT_BEFORE_KILLING)? {
        return Ok(file);
    }
    let holders = read(&mut file);
    if let Some(holders) = holders.filter(|holders| !holders.server.is_alive()) {
        holders.guard.kill();
        holders.child.kill();
        if try_for(&file, WAIT_AFTER_KILLING)? {
            return Ok(file);
        }
    }
    anyhow::bail!("{} is locked by {}", path.display(), describe(holders))
}

fn open(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).with_context(|| format!("opening {}", path.display()))
}

/// Takes the lock if it is free now.
pub(crate) fn take_now(path: &Path) -> anyhow::Result<Option<File>> {
    let file = open(path)?;
    Ok(try_for(&file, Duration::ZERO)?.then_some(file))
}

fn try_for(file: &File, limit: Duration) -> anyhow::Result<bool> {
    let mut waited = Duration::ZERO;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if waited >= limit => return Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("locking"),
        }
        std::thread::sleep(PAUSE);
        waited += PAUSE;
    }
}

fn read(file: &mut File) -> Option<Holders> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Writes who holds the lock into it.
pub(crate) fn record(mut file: &File, holders: &Holders) -> anyhow::Result<()> {
    let text = serde_json::to_string(holders)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

fn describe(holders: Option<Holders>) -> String {
    let Some(holders) = holders else { return "a process that did not say which".to_owned() };
    let alive = |process: Process| if process.is_alive() { "alive" } else { "gone" };
    format!(
        "process {} ({}), guarded by {} ({}), of the server {} ({})",
        holders.child.pid,
        alive(holders.child),
        holders.guard.pid,
        alive(holders.guard),
        holders.server.pid,
        alive(holders.server),
    )
}
