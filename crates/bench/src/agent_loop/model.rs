//! A model that answers at once: calls of the tool, then a sentence; streamed or not, as it is
//! asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Asked, has_results, micros};

/// The model, on a thread of its own.
pub(super) struct Model {
    pub(super) address: SocketAddr,
    times: Arc<Mutex<Vec<Asked>>>,
}

impl Model {
    /// When it was asked and had answered.
    pub(super) fn times(&self) -> Vec<Asked> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts it. It answers with `calls` tool calls, one after the other, and then with a sentence.
pub(super) fn start(calls: usize) -> anyhow::Result<Model> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let times = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&times);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(serve(listener, calls, kept)));
    Ok(Model { address, times })
}

async fn serve(listener: std::net::TcpListener, calls: usize, times: Arc<Mutex<Vec<Asked>>>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap_or(());
        let times = Arc::clone(&times);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, calls, Arc::clone(&times)));
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that goes is the end of its connection.
            connection.serve_connection(TokioIo::new(stream), service).await.unwrap_or(());
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    calls: usize,
    times: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = micros(SystemTime::now());
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let done = has_results(&request);
    let call = json!([{ "index": 0, "id": format!("call_{at}"), "type": "function", "function": { "name": "noop", "arguments": "{}" } }]);
    let (message, finish) = if done < calls {
        (json!({ "role": "assistant", "content": null, "tool_calls": call }), "tool_calls")
    } else {
        (json!({ "role": "assistant", "content": "done" }), "stop")
    };
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 });
    let stream = request["stream"] == true;
    let head = |object: &str| json!({ "id": "chatcmpl-bench", "object": object, "created": 1, "model": "loop" });
    let text = if stream {
        let chunk = |choices: Value, usage: Value| {
            let mut chunk = head("chat.completion.chunk");
            chunk["choices"] = choices;
            chunk["usage"] = usage;
            format!("data: {chunk}\n\n")
        };
        let choice = |delta: Value, finish: Value| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        [
            chunk(choice(message, Value::Null), Value::Null),
            chunk(choice(json!({}), json!(finish)), Value::Null),
            chunk(json!([]), usage),
            "data: [DONE]\n\n".to_owned(),
        ]
        .concat()
    } else {
        let mut whole = head("chat.completion");
        whole["choices"] = json!([{ "index": 0, "message": message, "finish_reason": finish }]);
        whole["usage"] = usage;
        whole.to_string()
    };
    let content_type = if stream { "text/event-stream" } else { "application/json" };
    let response = Response::builder().header("content-type", content_type).body(Full::from(text));
    let answered = micros(SystemTime::now());
    times.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { at, answered });
    Ok(response.unwrap_or_default())
}
