//! A scripted HTTP/1.1 server that plays a provider, faults included.
//!
//! It speaks raw bytes over TCP on purpose: a server library would refuse to cut a body, to break a
//! chunk or to reset a connection. Each request takes the next [`Reply`], is recorded, and can be
//! asserted on afterwards. Nothing here waits for time: a reply that stalls waits until
//! [`ScriptedProvider::release`], or for ever.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

/// Bytes of a request at most.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method and path, such as `POST /v1/chat/completions`.
    pub line: String,
    /// Headers with lower-case names, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Which connection it came on, from 0.
    pub connection: usize,
}

impl Request {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a connection does next.
#[derive(Clone, Debug)]
enum Step {
    Send(Bytes),
    /// Waits for [`ScriptedProvider::release`].
    Stall,
    /// Closes the connection in order.
    Close,
    /// Closes it with a TCP reset.
    Reset,
}

/// An answer, as steps of a connection.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    steps: Vec<Step>,
}

impl Reply {
    /// An answer with a body of known length.
    pub fn with_body(
        status: u16,
        content_type: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        let length = body.len().to_string();
        let mut all = vec![("content-type", content_type), ("content-length", length.as_str())];
        all.extend_from_slice(headers);
        Self::default().send(head(status, &all)).send(body.to_owned())
    }

    /// A JSON answer.
    pub fn json(status: u16, body: &str) -> Self {
        Self::with_body(status, "application/json", &[], body)
    }

    /// The beginning of a chunked event stream; add events, then [`Self::end`] or a fault.
    pub fn stream(headers: &[(&str, &str)]) -> Self {
        let mut all = vec![("content-type", "text/event-stream"), ("transfer-encoding", "chunked")];
        all.extend_from_slice(headers);
        Self::default().send(head(200, &all))
    }

    /// A whole stream: each text as the data of one event in a chunk of its own.
    pub fn events(events: &[&str]) -> Self {
        let begun = Self::stream(&[]);
        events.iter().fold(begun, |reply, event| reply.event(event)).end()
    }

    /// One event in a chunk of its own.
    #[must_use]
    pub fn event(self, data: &str) -> Self {
        self.chunk(&format!("data: {data}\n\n"))
    }

    /// One chunk of a chunked body.
    #[must_use]
    pub fn chunk(self, text: &str) -> Self {
        self.send(format!("{:x}\r\n{text}\r\n", text.len()))
    }

    /// The end of a chunked body.
    #[must_use]
    pub fn end(self) -> Self {
        self.send("0\r\n\r\n")
    }

    /// Bytes as they are: half a head, a broken chunk.
    #[must_use]
    pub fn send(mut self, bytes: impl Into<Bytes>) -> Self {
        self.steps.push(Step::Send(bytes.into()));
        self
    }

    /// Every byte of what was added so far in a write of its own.
    #[must_use]
    pub fn dripped(mut self) -> Self {
        let steps = std::mem::take(&mut self.steps);
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    let single = |at: usize| Step::Send(bytes.slice(at..=at));
                    self.steps.extend((0..bytes.len()).map(single));
                }
                other => self.steps.push(other),
            }
        }
        self
    }

    /// Waits until [`ScriptedProvider::release`].
    #[must_use]
    pub fn stall(mut self) -> Self {
        self.steps.push(Step::Stall);
        self
    }

    /// Closes the connection, whole body or not.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.steps.push(Step::Close);
        self
    }

    /// Resets the connection.
    #[must_use]
    pub fn reset(mut self) -> Self {
        self.steps.push(Step::Reset);
        self
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> String {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text + "\r\n"
}

#[derive(Debug)]
struct Shared {
    replies: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<Request>>,
    /// Permits are releases.
    releases: Semaphore,
    arrived: Notify,
    stalled: Semaphore,
    closed: Semaphore,
}

/// The server. Dropping it closes every connection.
#[derive(Debug)]
pub struct ScriptedProvider {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl ScriptedProvider {
    /// A server on a free port of the loopback that gives these replies in order, then 500s.
    ///
    /// # Errors
    /// The listener could not be made.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            replies: Mutex::new(replies.into_iter().collect()),
            requests: Mutex::default(),
            releases: Semaphore::new(0),
            arrived: Notify::new(),
            stalled: Semaphore::new(0),
            closed: Semaphore::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Its base URL, `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The requests so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a reply behind the others.
    pub fn add(&self, reply: Reply) {
        self.shared.replies.lock().unwrap_or_else(PoisonError::into_inner).push_back(reply);
    }

    /// Lets one stalled reply go on.
    pub fn release(&self) {
        self.shared.releases.add_permits(1);
    }

    /// Ends once `count` requests have come.
    pub async fn has_requests(&self, count: usize) {
        loop {
            let arrived = self.shared.arrived.notified();
            if self.requests().len() >= count {
                return;
            }
            arrived.await;
        }
    }

    /// Ends once another reply stalls: everything before it was written.
    pub async fn has_stalled(&self) {
        if let Ok(permit) = self.shared.stalled.acquire().await {
            permit.forget();
        }
    }

    /// Ends once another connection was closed, by either side.
    pub async fn has_closed(&self) {
        if let Ok(permit) = self.shared.closed.acquire().await {
            permit.forget();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A connection that breaks is what tests are about.
            let _ended = serve(stream, number, &shared).await;
            shared.closed.add_permits(1);
        });
        number += 1;
    }
}

async fn serve(mut stream: TcpStream, number: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, number).await? {
        shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        shared.arrived.notify_waiters();
        let reply = shared.replies.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let none_left = || Reply::json(500, r#"{"error":{"message":"no reply is scripted"}}"#);
        for step in reply.unwrap_or_else(none_left).steps {
            match step {
                Step::Send(bytes) => stream.write_all(&bytes).await?,
                Step::Stall => stall(&mut stream, shared).await?,
                Step::Close => return Ok(()),
                Step::Reset => return stream.set_zero_linger(),
            }
        }
    }
    Ok(())
}

/// Waits for a release, or for the client to go.
async fn stall(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    shared.stalled.add_permits(1);
    let mut byte = [0u8; 1];
    tokio::select! {
        released = shared.releases.acquire() => {
            if let Ok(permit) = released {
                permit.forget();
            }
            Ok(())
        }
        read = stream.read(&mut byte) => match read? {
            0 => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        },
    }
}

/// The next request of a connection; `None` if the client went instead.
pub(crate) async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    connection: usize,
) -> io::Result<Option<Request>> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if buffer.len() > REQUEST_BYTES_MAX || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer.split_to(head_end + 4)).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse::<usize>().ok()).unwrap_or(0);
    while buffer.len() < length.min(REQUEST_BYTES_MAX) {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer.split_to(length.min(buffer.len())).freeze();
    Ok(Some(Request { line, headers, body, connection }))
}
