//! Drives one system: so many connections, each sending one request after the other.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use crate::holdfast::KEY;
use crate::systems::System;
use crate::upstream::{LONG_STREAM_TOKENS, LONG_TEXT_EVENTS, TEXT_EVENTS};

mod history;

/// An answer of fewer bytes is no completion.
const ANSWER_BYTES_MIN: usize = 500;
/// What a whole stream ends with, and in how many of its last bytes that is looked for.
const STREAM_END: &[u8] = b"[DONE]";
const TAIL_BYTES: usize = 32;
/// What an event begins with.
const EVENT_START: &[u8] = b"data:";
/// How long one request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A whole answer to a body of about so many bytes.
    Plain { body_bytes: usize },
    /// A whole answer to an agent's history of about 100 kB: tools, their calls and results, with
    /// escapes and letters of many bytes.
    History,
    /// A stream of 53 events.
    Stream,
    /// A stream of 1,000 events.
    LongStream,
}

impl Ask {
    /// Whether the answer is a stream.
    pub(crate) const fn streams(self) -> bool {
        matches!(self, Self::Stream | Self::LongStream)
    }

    /// Text events that a stream must have: none may be lost or put together with another.
    const fn text_events(self) -> usize {
        match self {
            Self::Plain { .. } | Self::History => 0,
            Self::Stream => TEXT_EVENTS,
            Self::LongStream => LONG_TEXT_EVENTS,
        }
    }

    /// The request's body: what a gateway looks for comes first, as in most clients.
    fn body(self, model: &str) -> String {
        const SENTENCE: &str = "You are a careful assistant that answers in one sentence. ";
        let (wanted, tokens) = match self {
            Self::Plain { body_bytes } => (body_bytes, 128),
            Self::Stream => (1_000, 128),
            Self::LongStream => (1_000, LONG_STREAM_TOKENS),
            Self::History => return history::body(model),
        };
        let stream = if self.streams() {
            "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        } else {
            ""
        };
        let question = "What is the capital of France, and on which river does it lie?";
        let rest = 300;
        let filler = SENTENCE.repeat((wanted.saturating_sub(rest) / SENTENCE.len()).max(1));
        let messages = json!([{ "role": "system", "content": filler }, { "role": "user", "content": question }]);
        format!(
            "{{\"model\":\"{model}\",{stream}\"max_tokens\":{tokens},\"temperature\":0.2,\"messages\":{messages}}}"
        )
    }
}

/// What to send, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) system: &'a System,
    pub(crate) ask: Ask,
    pub(crate) connections: usize,
    pub(crate) length: Duration,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) latencies_ms: Vec<f64>,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    /// Events of the stream that had the fewest; zero where nothing streams.
    pub(crate) events_min: usize,
}

/// What one connection saw.
#[derive(Debug, Default)]
struct Seen {
    latencies_ms: Vec<f64>,
    events_min: Option<usize>,
}

impl Load<'_> {
    /// Runs for its length.
    ///
    /// # Errors
    /// A connection that fails, or an answer that is none.
    pub(crate) async fn run(self) -> anyhow::Result<Measured> {
        let began = Instant::now();
        let connections = (0..self.connections).map(|number| self.connection(number, began));
        let seen = try_join_all(connections).await?;
        let events_min = seen.iter().filter_map(|one| one.events_min).min();
        Ok(Measured {
            elapsed: began.elapsed(),
            cpu: Duration::ZERO,
            events_min: events_min.unwrap_or(0),
            latencies_ms: seen.into_iter().flat_map(|one| one.latencies_ms).collect(),
        })
    }

    async fn connection(self, number: usize, began: Instant) -> anyhow::Result<Seen> {
        let stream = TcpStream::connect(self.system.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let body = Bytes::from(self.ask.body(self.system.model));
        let mut seen = Seen::default();
        // Once at least: some systems answer slower than a round is long.
        while seen.latencies_ms.is_empty() || began.elapsed() < self.length {
            let sent = Instant::now();
            let turn = number + seen.latencies_ms.len() * self.connections;
            let keys = &self.system.keys;
            let key = keys.get(turn % keys.len().max(1)).map_or(KEY, String::as_str);
            let request = sender.send_request(self.request(body.clone(), key)?);
            let whole = async { self.whole(request.await?).await };
            let events = tokio::time::timeout(REQUEST_WITHIN, whole)
                .await
                .with_context(|| format!("no whole answer in {REQUEST_WITHIN:?}"))??;
            seen.latencies_ms.push(sent.elapsed().as_secs_f64() * 1e3);
            seen.events_min = Some(seen.events_min.unwrap_or(events).min(events));
        }
        drop(sender);
        driver.abort();
        Ok(seen)
    }

    /// Reads an answer to its end, and holds that it is one. Answers how many events it had.
    async fn whole(&self, response: Response<Incoming>) -> anyhow::Result<usize> {
        let status = response.status();
        let mut answer = response.into_body();
        let (mut bytes, mut events) = (0, 0);
        let mut tail = Vec::with_capacity(2 * TAIL_BYTES);
        let starts = memchr::memmem::Finder::new(EVENT_START);
        while let Some(frame) = answer.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            bytes += data.len();
            if self.ask.streams() {
                // One that begins in the frame before ends within the first bytes of this one.
                let mut seam = tail[tail.len().saturating_sub(EVENT_START.len() - 1)..].to_vec();
                seam.extend_from_slice(&data[..data.len().min(EVENT_START.len() - 1)]);
                events += starts.find_iter(&seam).count() + starts.find_iter(&data).count();
            }
            tail.extend_from_slice(&data[data.len().saturating_sub(TAIL_BYTES)..]);
            tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
        }
        let ends = tail.windows(STREAM_END.len()).any(|window| window == STREAM_END);
        anyhow::ensure!(
            status.is_success() && bytes > ANSWER_BYTES_MIN && (ends || !self.ask.streams()),
            "answered {status} with {bytes} bytes, the end was seen: {ends}"
        );
        let wanted = self.ask.text_events();
        anyhow::ensure!(events >= wanted, "delivered {events} of {wanted} events");
        Ok(events)
    }

    fn request(&self, body: Bytes, key: &str) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(self.system.path)
            .header("host", "bench.local")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        for (name, value) in &self.system.headers {
            request = request.header(*name, value);
        }
        Ok(request.body(Full::new(body))?)
    }
}
