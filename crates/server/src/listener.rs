//! Accepts connections and speaks HTTP/1.1 on them.
//!
//! Slow and many clients are bounded here: a limit on connections, a time to send a request's head,
//! `TCP_NODELAY` (a stream's small frames must not wait for an acknowledgement). Shutting down
//! stops accepting, also when every place is taken, lets running requests end within a time, then
//! closes what is left as if its client had gone.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::clock::{SharedClock, within};

use crate::app::App;
use crate::delivery::{Deliveries, Watched};
use crate::router;

/// A client has this long to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes. Its fields are as many as hyper's own limit allows: room
/// for those lies on the stack, where any other number would cost each request an allocation.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Pause after an accept failed for lack of descriptors or memory: trying at once would only burn
/// the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Requests that run when the server is told to stop have this long.
const DRAIN: Duration = Duration::from_secs(10);

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
}

/// Stops a running listener.
#[derive(Clone, Debug, Default)]
pub struct ListenerHandle {
    stop: CancellationToken,
    cut: CancellationToken,
}

impl ListenerHandle {
    /// Stops accepting; [`Listener::serve`] ends when running requests have ended or their time is
    /// up. Connections that are busy then are closed.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops accepting and closes every connection now. What runs for it ends as it does for a
    /// client that has gone.
    pub fn cut(&self) {
        self.stop.cancel();
        self.cut.cancel();
    }
}

impl Listener {
    /// Binds the address; port 0 picks one.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { tcp: TcpListener::bind(address).await? })
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until stopped. When this ends, connections have ended or are about to: their tasks
    /// are the tracker's.
    pub async fn serve(self, app: Arc<App>, handle: ListenerHandle) {
        let accepting = Accepting {
            tcp: self.tcp,
            slots: Arc::new(Semaphore::new(app.limits.connections_max)),
            clock: Arc::clone(&app.clock),
            tracker: app.tracker.clone(),
            handle,
        };
        accepting.run(|stream| connection(&app, stream)).await;
    }
}

/// What taking connections needs, whatever is spoken on them.
struct Accepting {
    tcp: TcpListener,
    slots: Arc<Semaphore>,
    clock: SharedClock,
    tracker: TaskTracker,
    handle: ListenerHandle,
}

impl Accepting {
    async fn run<C>(self, speak: impl Fn(TcpStream) -> C)
    where
        C: GracefulConnection<Error = hyper::Error> + Send + 'static,
    {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = self.handle.stop.cancelled() => break,
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let connection = graceful.watch(speak(stream));
                    let cut = self.handle.cut.clone();
                    self.tracker.spawn(async move {
                        tokio::select! {
                            // A client that breaks its connection is its own affair; what it
                            // started is told by drops.
                            ended = connection => ended.unwrap_or(()),
                            () = cut.cancelled() => {}
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    self.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.tcp);
        let drained = tokio::select! {
            () = self.handle.cut.cancelled() => Some(()),
            drained = within(self.clock.as_ref(), DRAIN, graceful.shutdown()) => drained,
        };
        if drained.is_none() {
            tracing::warn!("closing connections that were still busy after {DRAIN:?}");
        }
        self.handle.cut();
    }

    /// The next connection, once there is a place for it. Dropping this future loses none.
    async fn accept(&self) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.tcp.accept().await?;
        Ok((stream, slot))
    }
}

fn connection(
    app: &Arc<App>,
    stream: TcpStream,
) -> impl GracefulConnection<Error = hyper::Error> + Send + use<> {
    // Without this a stream's frames wait 40 ms for the client's delayed acknowledgement.
    stream.set_nodelay(true).unwrap_or(());
    let app = Arc::clone(app);
    let deliveries = Deliveries::default();
    let watched = Watched::new(stream, deliveries.clone(), Arc::clone(&app.clock));
    let service = service_fn(move |request| {
        let (app, deliveries) = (Arc::clone(&app), deliveries.clone());
        async move { Ok::<_, Infallible>(router::answer(app, deliveries, request).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false)
        .serve_connection(watched, service)
}

#[cfg(test)]
mod tests;
