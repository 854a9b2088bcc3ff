//! `holdfast guard`: the process between the server and each of its children.
//!
//! It is our own binary re-executed, single-threaded, in its own process group, and a subreaper. It
//! holds the read end of a pipe whose only writer is the server: at its end-of-file (the server is
//! gone, however it went), or when the child ends, it kills every descendant, reaps them and exits.
//! So `kill -9` of the server leaves nothing behind, not even grandchildren of `npx` or `sh -c`. A
//! child that writes a folder inherits an `flock` on the folder's `.lock`; see [`lock`].
//!
//! Why a process of its own: the parent-death signal follows the forking *thread*, and threads of a
//! pool come and go. Nothing here may start a thread or an async runtime.
#![expect(
    clippy::disallowed_methods,
    reason = "the guard is a process of its own, without a runtime: it may block"
)]

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

pub(crate) mod lock;
mod processes;

/// How often orphans that were handed to us are reaped while nothing else happens.
const REAP_EVERY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Rounds of killing before we give up on processes that do not die (each waits [`KILL_PAUSE`]).
const KILL_ROUNDS_MAX: u32 = 500;
/// Pause between two rounds of killing.
const KILL_PAUSE: Duration = Duration::from_millis(10);
/// Exit code when the child could not be started, as a shell gives it.
const EXIT_NOT_STARTED: u8 = 127;
/// What a shell adds to a signal's number.
const EXIT_SIGNAL_BASE: i32 = 128;

/// What `holdfast guard` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct GuardArgs {
    /// Number of the inherited descriptor whose end-of-file means that the server is gone.
    #[arg(long)]
    alive_fd: RawFd,
    /// Lock file to hold for the child's life.
    #[arg(long)]
    lock: Option<PathBuf>,
    /// The server's process id.
    #[arg(long)]
    server_pid: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs the child until it ends or the server is gone. Answers the exit code.
pub(crate) fn run(args: &GuardArgs) -> anyhow::Result<u8> {
    let alive = take_inherited(args.alive_fd);
    rustix::process::setpgid(None, None).context("making a process group")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("becoming a subreaper")?;
    rustix::io::fcntl_setfd(&alive, rustix::io::FdFlags::CLOEXEC)
        .context("keeping the pipe from the child")?;
    let server = lock::Process::of(args.server_pid);
    let locked = args.lock.as_deref().map(lock::take).transpose()?;
    let child = match start(&args.command, locked.as_ref()) {
        Ok(child) => child,
        Err(error) => {
            tracing::error!(program = ?args.command.first(), %error, "the child could not be started");
            return Ok(EXIT_NOT_STARTED);
        }
    };
    if let Some(locked) = &locked {
        lock::record(
            locked,
            &lock::Holders {
                server,
                guard: lock::Process::of(rustix::process::getpid().as_raw_nonzero().get()),
                child: lock::Process::of(child.as_raw_nonzero().get()),
            },
        )?;
    }
    detach_standard_streams()?;
    let code = wait(&alive, child)?;
    processes::kill_descendants(KILL_ROUNDS_MAX, KILL_PAUSE);
    Ok(code)
}

#[expect(unsafe_code, reason = "an inherited descriptor is known by its number alone")]
fn take_inherited(number: RawFd) -> OwnedFd {
    // SAFETY: the server opened this descriptor for us and told us its number; nothing else in this
    // process, which has just begun and has one thread, knows it, so that we are its only owner.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn start(command: &[OsString], locked: Option<&File>) -> anyhow::Result<Pid> {
    let (program, arguments) = command.split_first().context("no program")?;
    if let Some(file) = locked {
        // The child inherits the lock, so that it lasts as long as the child does, whatever becomes
        // of us.
        rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?;
    }
    let mut command = Command::new(program);
    command.args(arguments);
    die_with_guard(&mut command);
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
    if let Some(file) = locked {
        rustix::io::fcntl_setfd(file, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(pid)
}

#[expect(unsafe_code, reason = "the death signal must be set between fork and exec")]
fn die_with_guard(command: &mut Command) {
    let guard = rustix::process::getpid();
    let set = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // If the guard died before the line above, no signal will come.
        if rustix::process::getppid() == Some(guard) {
            Ok(())
        } else {
            Err(rustix::io::Errno::SRCH.into())
        }
    };
    // SAFETY: the closure runs in the forked child of a single-threaded process and makes two
    // system calls; it neither allocates nor locks.
    unsafe {
        command.pre_exec(set);
    }
}

/// The child has its own copies; ours would keep its pipes open after it has ended.
fn detach_standard_streams() -> anyhow::Result<()> {
    let null =
        File::options().read(true).write(true).open("/dev/null").context("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// Waits for the child's end or for the server's.
fn wait(alive: &OwnedFd, child: Pid) -> anyhow::Result<u8> {
    let pidfd =
        rustix::process::pidfd_open(child, PidfdFlags::empty()).context("watching the child")?;
    loop {
        let mut watched = [PollFd::new(alive, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut watched, Some(&REAP_EVERY)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting"),
        }
        let server_gone = !watched[0].revents().is_empty();
        if let Some(code) = reap(child) {
            return Ok(code);
        }
        if server_gone {
            return Ok(0);
        }
    }
}

/// Reaps whoever has ended; answers the child's exit code if it was among them.
fn reap(child: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == child {
            let raw = status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|n| EXIT_SIGNAL_BASE + n));
            code = Some(u8::try_from(raw.unwrap_or(1)).unwrap_or(1));
        }
    }
    code
}
