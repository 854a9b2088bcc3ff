//! A provider that costs as little as possible: fixed answers, plain or as a stream of which every
//! event is a write.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

/// Text events of a stream; with the role, the finish and the usage chunk, 53 events.
pub(crate) const TEXT_EVENTS: usize = 50;
/// Text events of a long stream: 1,000 events with those.
pub(crate) const LONG_TEXT_EVENTS: usize = 997;
/// The output cap that asks for a long stream.
pub(crate) const LONG_STREAM_TOKENS: u32 = 1_000;
/// How far from a body's start and end its switches are looked for: messages lie between.
const SWITCHES_WITHIN: usize = 4_096;

/// Serves until killed; prints its address first.
pub(crate) fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("{}", json!({ "address": listener.local_addr()?.to_string() }));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new();
                // A client that goes is the end of its connection.
                connection
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await
                    .unwrap_or(());
            });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<Either<Full<Bytes>, Events>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let (content_type, body) = if has(&body, "\"stream\":", "true") {
        let long = has(&body, "_tokens\":", &LONG_STREAM_TOKENS.to_string());
        let texts = if long { LONG_TEXT_EVENTS } else { TEXT_EVENTS };
        ("text/event-stream", Either::Right(Events { next: 0, texts }))
    } else {
        ("application/json", Either::Left(Full::new(Bytes::from_static(PLAIN.as_bytes()))))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// Whether a member whose name ends so has a value, with or without a space before it: gateways
/// write `max_tokens` as `max_completion_tokens`.
fn has(body: &[u8], member: &str, value: &str) -> bool {
    let near_start = body.get(..SWITCHES_WITHIN).unwrap_or(body);
    let near_end = body.get(body.len().saturating_sub(SWITCHES_WITHIN)..).unwrap_or(body);
    [near_start, near_end].into_iter().any(|part| {
        let mut ends = part.windows(member.len()).enumerate();
        ends.any(|(at, window)| {
            window == member.as_bytes()
                && part[at + member.len()..].trim_ascii_start().starts_with(value.as_bytes())
        })
    })
}

/// About 600 bytes, as a short completion is.
const PLAIN: &str = r#"{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,"model":"bench-model-2026-01-01","choices":[{"index":0,"message":{"role":"assistant","content":"The capital of France is Paris, which has been the seat of its government for most of its history, and lies on the Seine.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":190,"completion_tokens":28,"total_tokens":218,"prompt_tokens_details":{"cached_tokens":0}},"service_tier":"default","system_fingerprint":"fp_bench"}"#;

/// A stream of events, one frame each.
struct Events {
    next: usize,
    texts: usize,
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        // Every second poll yields, so that hyper writes each event by itself, as a model that
        // thinks would.
        let turn = this.next;
        this.next += 1;
        if turn % 2 == 1 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(event(turn / 2, this.texts).map(|event| Ok(Frame::data(event))))
    }
}

fn event(number: usize, texts: usize) -> Option<Bytes> {
    let chunk = |delta: &str, finish: &str| {
        let head = r#"{"id":"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG","object":"chat.completion.chunk","created":1741570283,"model":"bench-model-2026-01-01","#;
        Bytes::from(format!(
            "data: {head}\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        ))
    };
    match number {
        0 => Some(chunk(r#"{"role":"assistant","content":""}"#, "null")),
        n if n <= texts => Some(chunk(r#"{"content":" word"}"#, "null")),
        n if n == texts + 1 => Some(chunk("{}", "\"stop\"")),
        n if n == texts + 2 => Some(Bytes::from_static(
            b"data: {\"id\":\"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG\",\"object\":\"chat.completion.chunk\",\"created\":1741570283,\"model\":\"bench-model-2026-01-01\",\"choices\":[],\"usage\":{\"prompt_tokens\":190,\"completion_tokens\":50,\"total_tokens\":240}}\n\n",
        )),
        n if n == texts + 3 => Some(Bytes::from_static(b"data: [DONE]\n\n")),
        _ => None,
    }
}
