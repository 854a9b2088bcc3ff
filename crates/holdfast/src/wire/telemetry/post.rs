//! Posts something to an address, once, in bounded time.
//!
//! Must not know what is posted, nor when it is to be tried again.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use types::clock::{SharedClock, within};

/// How long one exchange may take.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read at most; nothing in it is needed.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How posts name their sender.
pub(super) const AGENT: &str = concat!("holdfast/", env!("CARGO_PKG_VERSION"));
/// The longest wait that a receiver can ask for.
const WAIT_MAX: Duration = Duration::from_mins(5);

/// Connections to receivers.
pub(super) struct Poster {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    clock: SharedClock,
}

/// Why something was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// No answer: nobody is there, or it took too long.
    NoAnswer(String),
    /// An answer that says no, and when it would like to be asked again.
    Status(StatusCode, Option<Duration>),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(why) => write!(f, "no answer: {why}"),
            Self::Status(status, _) => write!(f, "status {status}"),
        }
    }
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poster")
    }
}

impl Poster {
    pub(super) fn new(clock: SharedClock) -> Self {
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        Self { client: Client::builder(TokioExecutor::new()).build(connector), clock }
    }

    /// Posts it. Dropping this closes the connection.
    ///
    /// # Errors
    /// It was not taken.
    pub(super) async fn post(
        &self,
        to: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(), NotTaken> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = to.clone();
        *request.headers_mut() = headers;
        let exchange = async {
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|error| NotTaken::NoAnswer(error.to_string()))?;
            let (head, body) = answer.into_parts();
            // Read to the end, so that the connection can be used again.
            let _unread = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            match head.status.is_success() {
                true => Ok(()),
                false => Err(NotTaken::Status(head.status, asked_wait(&head.headers))),
            }
        };
        let late = || NotTaken::NoAnswer(format!("not within {EXCHANGE_MAX:?}"));
        within(&*self.clock, EXCHANGE_MAX, exchange).await.unwrap_or_else(|| Err(late()))
    }
}

/// The seconds that a receiver asks to be left alone.
fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}
