//! One child: started, greeted, and watched until it ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{UnixListener, UnixStream};
use types::clock::within;
use types::launch::{Child as Launched, ChildSpec};

use super::connection::Connection;
use super::{Error, Options, STOP_WITHIN, Shared};
use crate::model_file::ModelFile;
use crate::protocol::codec::read_async;
use crate::protocol::{FromEngine, Hello, PROTOCOL};
use crate::session_file;

/// Bytes of a unix socket's path, its end included (`sockaddr_un`).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Tells sockets of one process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A child that said hello.
pub(super) struct Child {
    launched: Launched,
    connection: Arc<Connection>,
}

impl Child {
    /// Its connection.
    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Ends when the child has ended or its connection broke, or, once the node stops or it is
    /// `retired`, when it has saved everything. Answers whether it was retired.
    pub(super) async fn live(mut self, shared: &Shared, retired: impl Future<Output = ()>) -> bool {
        let (mut ended, mut is_retired) = (false, false);
        tokio::select! {
            how = &mut self.launched.exited => {
                tracing::warn!(%how, "an engine ended");
                ended = true;
            }
            () = self.connection.closed() => {}
            () = shared.stop.cancelled() => ended = self.end(shared).await,
            () = retired => {
                is_retired = true;
                ended = self.end(shared).await;
            }
        }
        self.connection.close();
        // Dropping it kills what is left. Its lock is free once it is gone, so that is waited for.
        let Launched { exited, alive, .. } = self.launched;
        drop(alive);
        if !ended && within(shared.clock.as_ref(), STOP_WITHIN, exited).await.is_none() {
            tracing::warn!("an engine's guard is slow to end");
        }
        is_retired
    }

    /// At its end of the socket the child saves its sessions and ends by itself. Answers whether it
    /// did.
    async fn end(&mut self, shared: &Shared) -> bool {
        self.connection.hang_up();
        let exited = &mut self.launched.exited;
        let ended = within(shared.clock.as_ref(), STOP_WITHIN, exited).await.is_some();
        if !ended {
            tracing::warn!("an engine did not stop in time and is killed");
        }
        ended
    }
}

/// Starts a child and waits until it has loaded its model.
pub(super) async fn start(shared: &Arc<Shared>, model: &ModelFile) -> Result<Child, Error> {
    let socket = Socket::bind(&shared.options.socket_folder)?;
    let spec = spec(&shared.options, model, &socket.path).await?;
    let mut launched = shared.launch.launch(spec).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        Error::unavailable(format!("{error}: {}", source.unwrap_or_default()))
    })?;
    let greet = within(shared.clock.as_ref(), shared.options.start_within, greet(&socket));
    let (stream, hello) = tokio::select! {
        greeted = greet => greeted.ok_or_else(|| Error::unavailable("it did not load its model in time"))??,
        how = &mut launched.exited => {
            return Err(Error::unavailable(format!("it ended before it was up: {how}")));
        }
        () = shared.stop.cancelled() => return Err(Error::Stopping),
    };
    if hello.protocol != PROTOCOL {
        return Err(Error::Protocol { theirs: hello.protocol, ours: PROTOCOL });
    }
    if hello.model.sha256 != model.sha256 {
        return Err(Error::unavailable("it loaded another file than was registered"));
    }
    tracing::info!(build = %hello.build, model = %hello.model.sha256, "an engine is up");
    let connection = Connection::open(stream, hello, launched.guard_pid, &shared.tasks);
    Ok(Child { launched, connection })
}

async fn greet(socket: &Socket) -> Result<(UnixStream, Hello), Error> {
    let broken = |error: &dyn std::fmt::Display| Error::unavailable(format!("no hello: {error}"));
    let (mut stream, _) = socket.listener.accept().await.map_err(|error| broken(&error))?;
    match read_async(&mut stream).await {
        Ok(Some(FromEngine::Hello(hello))) => Ok((stream, hello)),
        Ok(_) => Err(Error::unavailable("it did not begin with a hello")),
        Err(error) => Err(broken(&error)),
    }
}

async fn spec(options: &Options, model: &ModelFile, socket: &Path) -> Result<ChildSpec, Error> {
    let mut args: Vec<OsString> = vec!["serve".into()];
    let mut push = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
    push("--model", model.path.clone().into());
    push("--model-sha256", model.sha256.clone().into());
    push("--socket", socket.into());
    push("--sequences", options.sequences.to_string().into());
    push("--context", options.context_tokens.to_string().into());
    push("--threads", options.threads.to_string().into());
    push("--waiting", options.waiting.to_string().into());
    push("--kv-disk-bytes", options.kv_disk_bytes.to_string().into());
    push("--kv-memory-bytes", options.kv_memory_bytes.to_string().into());
    let mut lock = None;
    if let Some(folder) = &options.kv_folder {
        let own = folder.join(&model.sha256);
        let made = tokio::fs::create_dir_all(&own).await;
        made.map_err(|error| Error::unavailable(format!("its folder can't be made: {error}")))?;
        lock = Some(session_file::lock(&own));
        push("--kv-dir", folder.into());
    }
    let name = format!("engine {}", model.sha256.get(..12).unwrap_or_default());
    let (program, env) = (options.program.clone(), options.env.clone());
    Ok(ChildSpec { name, program, args, env, cwd: None, lock, piped: false })
}

/// A socket that is listened on, in a folder of its own that nobody else can enter; gone when
/// dropped.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
    folder: PathBuf,
}

impl Socket {
    #[expect(clippy::disallowed_methods, reason = "two short calls before a child is started")]
    fn bind(parent: &Path) -> Result<Self, Error> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("hf-{}-{number}", std::process::id()));
        let path = folder.join("s");
        let failed = |error: std::io::Error| Error::unavailable(format!("no socket: {error}"));
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(Error::unavailable("the folder for sockets has too long a path"));
        }
        if folder.exists() {
            // Left behind by a process of the same number that was killed.
            std::fs::remove_dir_all(&folder).map_err(failed)?;
        }
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(false).create(&folder).map_err(failed)?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        Ok(Self { listener, path, folder })
    }
}

impl Drop for Socket {
    #[expect(clippy::disallowed_methods, reason = "a folder with one name in it")]
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, "a socket's folder can't be removed");
        }
    }
}
