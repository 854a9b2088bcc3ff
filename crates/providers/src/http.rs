//! HTTP/1.1 connections to one provider.
//!
//! A connection is driven by whoever uses it: no task runs beside an exchange, so a stream costs no
//! wake-up of a second task per chunk, what is not read is not fetched (backpressure), and dropping
//! an exchange closes its socket at once. An idle connection is looked at when it is taken out
//! again; one that the peer has closed is thrown away.
//!
//! Must not know what is sent. Nothing is retried, but a request that no byte of was written goes
//! out on another connection.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::response::Parts;
use ::http::{Request, Uri};
use bytes::Bytes;
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::service::Service;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use types::Sent;
use types::clock::{Clock, Monotonic, SharedClock, within};

/// Idle connections that are kept per provider.
const IDLE_MAX: usize = 64;
/// How long an idle connection is kept: shorter than what proxies in front of providers allow.
const IDLE_AGE_MAX: Duration = Duration::from_secs(55);
/// Bytes of a response's head at most. Its headers are as many as hyper's own limit allows: room
/// for those lies on the stack, where any other number would cost each answer an allocation.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a provider may take. All are measured on the clock that the executor was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included. 10 s unless set.
    pub connect: Duration,
    /// From the request to the response's head; a whole answer is computed in it where nothing is
    /// streamed. 600 s unless set.
    pub first_byte: Duration,
    /// Between two pieces of a body. 300 s unless set.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(600),
            stall: Duration::from_secs(300),
        }
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection was made; nothing was sent.
    #[error("connecting: {0}")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No connection was made in time; nothing was sent.
    #[error("connecting took longer than {0:?}")]
    ConnectTimeout(Duration),
    /// The request was sent, at least in part.
    #[error("the exchange: {0}")]
    Exchange(#[source] hyper::Error),
    /// The request was sent and its answer did not begin in time.
    #[error("no answer in {0:?}")]
    FirstByteTimeout(Duration),
    /// The Call's own time was up before anything was sent.
    #[error("the call's time was up before it was sent")]
    OverdueUnsent,
    /// The request was sent, and the Call's own time was up before its answer began.
    #[error("the call's time was up before an answer")]
    Overdue,
}

/// When the Call that is sent must have ended; `None` = whenever.
pub(crate) type Deadline = Option<Monotonic>;

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Connection = http1::Connection<Io, Full<Bytes>>;

/// A connection and the handle to send on it.
struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    connection: Option<Pin<Box<Connection>>>,
}

impl Link {
    /// Lets the connection read and write. Whether it is still there.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        if connection.as_mut().poll(cx).is_ready() {
            self.connection = None;
        }
        self.connection.is_some()
    }

    /// Whether another request can be sent on it.
    async fn is_usable(&mut self) -> bool {
        let alive = poll_fn(|cx| Poll::Ready(self.drive(cx))).await;
        alive && self.sender.is_ready()
    }
}

struct Idle {
    link: Link,
    since: Monotonic,
}

/// The connections to one provider.
pub(crate) struct Client {
    connector: TowerToHyperService<HttpsConnector<HttpConnector>>,
    /// Scheme and authority: all that a connection needs.
    origin: Uri,
    idle: Mutex<VecDeque<Idle>>,
    clock: SharedClock,
    timeouts: Timeouts,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Client {
    /// Connections to the host of `origin`.
    pub(crate) fn new(origin: Uri, timeouts: Timeouts, clock: SharedClock) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let tls = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
        let connector = TowerToHyperService::new(tls.wrap_connector(tcp));
        Self { connector, origin, idle: Mutex::default(), clock, timeouts }
    }

    /// Sends a request in origin form and waits for the head of its answer, until `deadline` at
    /// most. `sent` says whether a part of it may have been written.
    ///
    /// Dropping this future closes the connection.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Deadline,
        sent: &Sent,
    ) -> Result<(Parts, Exchange), SendError> {
        if time_left(deadline, self.clock.as_ref()).is_zero() {
            return Err(SendError::OverdueUnsent);
        }
        let mut request = request;
        while let Some(mut link) = self.take_idle() {
            if !link.is_usable().await {
                continue;
            }
            match self.exchange(link, request, deadline, sent).await {
                // The peer closed it in the moment before: nothing was written.
                Err(Broken::Unsent(unsent)) => request = *unsent,
                Err(Broken::Sent(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
        let link = self.connect(deadline).await?;
        match self.exchange(link, request, deadline, sent).await {
            Ok(answer) => Ok(answer),
            Err(Broken::Sent(error)) => Err(error),
            Err(Broken::Unsent(_)) => {
                Err(SendError::Connect("the connection was closed at once".into()))
            }
        }
    }

    /// Keeps the connection of an exchange whose body has been read to its end.
    pub(crate) fn give_back(&self, exchange: Exchange, cx: &mut Context<'_>) {
        let mut link = exchange.link;
        if !link.drive(cx) || !link.sender.is_ready() {
            return;
        }
        let now = self.clock.monotonic();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.len() >= IDLE_MAX || idle.front().is_some_and(|oldest| is_old(oldest, now)) {
            idle.pop_front();
        }
        idle.push_back(Idle { link, since: now });
    }

    /// [`Self::give_back`] where no task is at hand.
    pub(crate) async fn keep(&self, exchange: Exchange) {
        let mut exchange = Some(exchange);
        poll_fn(|cx| {
            if let Some(exchange) = exchange.take() {
                self.give_back(exchange, cx);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The connection that was used last: the others may grow old.
    fn take_idle(&self) -> Option<Link> {
        let now = self.clock.monotonic();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = idle.pop_back()?;
        if is_old(&newest, now) {
            idle.clear();
            return None;
        }
        Some(newest.link)
    }

    async fn connect(&self, deadline: Deadline) -> Result<Link, SendError> {
        let (limit, left) = (self.timeouts.connect, time_left(deadline, self.clock.as_ref()));
        let connecting = async {
            let io = self.connector.call(self.origin.clone()).await.map_err(SendError::Connect)?;
            let mut builder = http1::Builder::new();
            builder.max_header_size(HEAD_BYTES_MAX);
            let (sender, connection) =
                builder.handshake(io).await.map_err(|error| SendError::Connect(error.into()))?;
            Ok(Link { sender, connection: Some(Box::pin(connection)) })
        };
        let made = within(self.clock.as_ref(), limit.min(left), Box::pin(connecting)).await;
        let late =
            if left < limit { SendError::OverdueUnsent } else { SendError::ConnectTimeout(limit) };
        made.unwrap_or(Err(late))
    }

    async fn exchange(
        &self,
        mut link: Link,
        request: Request<Full<Bytes>>,
        deadline: Deadline,
        sent: &Sent,
    ) -> Result<(Parts, Exchange), Broken> {
        let (limit, left) = (self.timeouts.first_byte, time_left(deadline, self.clock.as_ref()));
        // From here on the connection may write.
        sent.now();
        let mut answer = Box::pin(link.sender.try_send_request(request));
        let mut connection = link.connection.take();
        let head = poll_fn(|cx| {
            if let Some(running) = &mut connection
                && running.as_mut().poll(cx).is_ready()
            {
                connection = None;
            }
            answer.as_mut().poll(cx)
        });
        let head = within(self.clock.as_ref(), limit.min(left), head).await;
        drop(answer);
        link.connection = connection;
        match head {
            None if left < limit => Err(Broken::Sent(SendError::Overdue)),
            None => Err(Broken::Sent(SendError::FirstByteTimeout(limit))),
            Some(Err(error)) => {
                let broken = Broken::of(error);
                if matches!(broken, Broken::Unsent(_)) {
                    sent.not_yet();
                }
                Err(broken)
            }
            Some(Ok(response)) => {
                let (parts, body) = response.into_parts();
                Ok((parts, Exchange { body, link }))
            }
        }
    }
}

/// What is left until a Call must have ended.
pub(crate) fn time_left(deadline: Deadline, clock: &dyn Clock) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_sub(clock.monotonic()))
}

fn is_old(idle: &Idle, now: Monotonic) -> bool {
    now.saturating_sub(idle.since) > IDLE_AGE_MAX
}

/// Why an exchange got no answer.
enum Broken {
    /// Nothing was written: the request can go out elsewhere.
    Unsent(Box<Request<Full<Bytes>>>),
    Sent(SendError),
}

impl Broken {
    fn of(mut error: TrySendError<Request<Full<Bytes>>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None => Self::Sent(SendError::Exchange(error.into_error())),
        }
    }
}

/// An answer whose body is being read.
pub(crate) struct Exchange {
    body: Incoming,
    link: Link,
}

impl Exchange {
    /// The next bytes of the body; `None` at its end. An error means that it was cut.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        // The body asks, the connection fetches, the body has it: one round each, without a
        // wake-up.
        if let Poll::Ready(data) = self.poll_frame(cx) {
            return Poll::Ready(data);
        }
        self.link.drive(cx);
        self.poll_frame(cx)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            // What is no data are trailers, which say nothing that is used.
            if let Ok(data) = frame.into_data() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}
