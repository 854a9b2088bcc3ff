//! How a child process is started, as a handle: the implementation (`holdfast guard`) lives in the
//! binary.
//!
//! Every child of Holdfast is started through [`Launch`], so that none survives its parent, none
//! outlives the lock of a folder that it writes, and its descendants die with it.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct ChildSpec {
    /// For logs and errors.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Its working folder.
    pub cwd: Option<PathBuf>,
    /// A lock file to hold for the child's life; for children that write a folder.
    pub lock: Option<PathBuf>,
    /// Whether stdin and stdout are wanted as pipes; else both are null. Stderr always goes to our
    /// log.
    pub piped: bool,
}

/// A running child. Dropping it kills the child with all its descendants.
pub struct Child {
    /// The guard's process id.
    pub guard_pid: u32,
    /// Writes to its standard input.
    pub stdin: Option<Pin<Box<dyn AsyncWrite + Send + Sync>>>,
    /// Reads its standard output.
    pub stdout: Option<Pin<Box<dyn AsyncRead + Send + Sync>>>,
    /// Ends when the child has ended and all its descendants are dead; says how, for the log.
    pub exited: Pin<Box<dyn Future<Output = String> + Send + Sync>>,
    /// Kills when dropped.
    pub alive: Box<dyn Send + Sync>,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("guard_pid", &self.guard_pid).finish_non_exhaustive()
    }
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
#[error("starting {name}")]
pub struct LaunchError {
    /// The child's name.
    pub name: String,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// Starts children.
pub trait Launch: Send + Sync + fmt::Debug {
    /// Starts one. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The program is not there or can't be run.
    fn launch(&self, spec: ChildSpec) -> Result<Child, LaunchError>;
}
