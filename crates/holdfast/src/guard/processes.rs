//! Finding and killing descendants through `/proc`.
//!
//! The guard is a subreaper: a descendant whose parent died is handed to it, so that walking the
//! parent links from the guard finds all of them, also those that started a session of their own.

use std::collections::HashMap;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

/// Kills and reaps every descendant; several rounds, since a process may fork while we look.
pub(super) fn kill_descendants(rounds_max: u32, pause: Duration) {
    let own = rustix::process::getpid();
    for _ in 0..rounds_max {
        for pid in descendants(own) {
            // It may have ended meanwhile, which is what we want.
            rustix::process::kill_process(pid, Signal::KILL).unwrap_or(());
        }
        if no_children_left() {
            return;
        }
        std::thread::sleep(pause);
    }
    tracing::error!("descendants are still alive after {rounds_max} rounds of killing");
}

fn no_children_left() -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

fn descendants(root: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, stat) in all() {
        children.entry(stat.parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut next = vec![root.as_raw_nonzero().get()];
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(below.iter().copied().filter_map(Pid::from_raw));
        next.extend(below);
    }
    found
}

fn all() -> Vec<(i32, Stat)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| Some((pid, Stat::of(pid)?))).collect()
}

/// What we need of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// The parent.
    pub(super) parent: i32,
    /// When it began, in clock ticks since boot: with the id it names a process for good.
    pub(super) started_ticks: u64,
}

impl Stat {
    /// Of a living process; a zombie counts as gone.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields are counted behind the last `)`, since a process may have any name (proc(5)).
    fn parse(text: &str) -> Option<Self> {
        let (_, behind) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = behind.split(' ').collect();
        if fields.first() == Some(&"Z") {
            return None;
        }
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            started_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 1 2";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 3, started_ticks: 424_242 }));
    }

    #[test]
    fn a_zombie_is_gone() {
        assert_eq!(
            Stat::parse("7 (x) Z 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 1 2"),
            None
        );
    }
}
