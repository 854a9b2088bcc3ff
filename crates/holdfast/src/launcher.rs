//! Starts children through `holdfast guard`: the implementation of [`types::launch::Launch`].

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use types::launch::{Child, ChildSpec, Launch, LaunchError};

/// Bytes of one line that a child wrote to its standard error which are logged.
const LOG_LINE_BYTES_MAX: u64 = 4 * 1024;

/// Starts children through our own binary.
#[derive(Debug)]
pub(crate) struct Launcher {
    holdfast: PathBuf,
    tracker: TaskTracker,
}

impl Launcher {
    /// A launcher whose background tasks belong to `tracker`.
    ///
    /// # Errors
    /// The system does not say where our own binary is.
    pub(crate) fn new(tracker: TaskTracker) -> std::io::Result<Self> {
        // Not `current_exe`: a rebuilt binary leaves a path that ends in " (deleted)"; this link
        // still runs the old one.
        let holdfast = PathBuf::from("/proc/self/exe");
        holdfast.metadata()?;
        Ok(Self { holdfast, tracker })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place where guards begin")]
    fn command(&self, spec: &ChildSpec, alive: &OwnedFd) -> Command {
        let mut command = Command::new(&self.holdfast);
        command.arg("guard").arg("--alive-fd").arg(alive.as_raw_fd().to_string());
        command.arg("--server-pid").arg(std::process::id().to_string());
        if let Some(lock) = &spec.lock {
            command.arg("--lock").arg(lock);
        }
        command.arg("--").arg(&spec.program).args(&spec.args);
        command.env_clear().envs(spec.env.iter().map(|(name, value)| (name, value)));
        if let Some(cwd) = &spec.cwd {
            command.current_dir(cwd);
        }
        let stream = || if spec.piped { Stdio::piped() } else { Stdio::null() };
        command.stdin(stream()).stdout(stream()).stderr(Stdio::piped());
        command
    }

    fn start(&self, spec: &ChildSpec) -> std::io::Result<Child> {
        let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // The guard inherits the read end. A child that is started at the same moment may inherit
        // it too, which is harmless: only the write end, which none inherits, decides when the pipe
        // ends.
        rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
        let mut guard = self.command(spec, &theirs).spawn()?;
        drop(theirs);
        let guard_pid = guard.id().unwrap_or(0);
        if let Some(stderr) = guard.stderr.take() {
            self.tracker.spawn(log_lines(spec.name.clone(), stderr));
        }
        let (stdin, stdout) = (guard.stdin.take(), guard.stdout.take());
        let (ended, exited) = oneshot::channel();
        self.tracker.spawn(async move {
            let how = match guard.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            // Nobody may be waiting any more.
            ended.send(how).unwrap_or(());
        });
        Ok(Child {
            guard_pid,
            stdin: stdin.map(|stdin| Box::pin(stdin) as _),
            stdout: stdout.map(|stdout| Box::pin(stdout) as _),
            exited: Box::pin(Exited { waiting: exited, how: None }),
            alive: Box::new(ours),
        })
    }
}

/// How a child ended. Ready as often as it is asked: a supervisor looks again while it stops.
struct Exited {
    waiting: oneshot::Receiver<String>,
    how: Option<String>,
}

impl Future for Exited {
    type Output = String;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<String> {
        if self.how.is_none() {
            let ended = std::task::ready!(Pin::new(&mut self.waiting).poll(context));
            self.how = Some(ended.unwrap_or_else(|_| "unknown".to_owned()));
        }
        Poll::Ready(self.how.clone().unwrap_or_default())
    }
}

impl Launch for Launcher {
    fn launch(&self, spec: ChildSpec) -> Result<Child, LaunchError> {
        self.start(&spec).map_err(|source| LaunchError { name: spec.name, source })
    }
}

/// Logs what a child writes to its standard error, line by line, never more than a bounded part of
/// a line at once.
async fn log_lines(child: String, stderr: impl AsyncRead + Unpin) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LOG_LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => tracing::info!(%child, "{}", String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
