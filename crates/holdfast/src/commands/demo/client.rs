//! A plain HTTP client for the demo: what any user's SDK would send, over the public API.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// One user of the platform.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    url: String,
    key: String,
}

/// A response as its stream told it, from its beginning or from where it was picked up.
#[derive(Clone, Debug, Default)]
pub(super) struct Streamed {
    /// Its id.
    pub(super) id: String,
    /// Number of the last event that arrived.
    pub(super) last_event: Option<u64>,
    /// From the request to the first text or tool call.
    pub(super) first_content: Option<Duration>,
    /// From the request to the end.
    pub(super) total: Duration,
    /// The whole response, from its terminal event; `None` = the stream broke off before.
    pub(super) response: Option<Value>,
}

impl Streamed {
    /// The answer's text.
    pub(super) fn text(&self) -> String {
        let output = self.response.as_ref().and_then(|response| response["output"].as_array());
        let items = output.map(Vec::as_slice).unwrap_or_default().iter();
        let parts = items.filter_map(|item| item["content"].as_array()).flatten();
        parts.filter_map(|part| part["text"].as_str()).collect()
    }

    /// The items of the answer of one type.
    pub(super) fn items<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let output = self.response.as_ref().and_then(|response| response["output"].as_array());
        output.into_iter().flatten().filter(move |item| item["type"] == kind)
    }
}

impl Client {
    pub(super) fn new(url: &str, key: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            url: url.to_owned(),
            key: key.to_owned(),
        }
    }

    /// Sends a request.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(Full::from(body.map(Value::to_string).unwrap_or_default()))?;
        self.pool.request(request).await.with_context(|| format!("asking {path}"))
    }

    /// Sends a request and reads its JSON answer, with its status.
    pub(super) async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let answer = self.send(method, path, body).await?;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.context("reading an answer")?.to_bytes();
        Ok((
            status,
            serde_json::from_slice(&bytes).with_context(|| format!("{path} answered no JSON"))?,
        ))
    }

    /// A `GET` that must succeed.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, value) = self.json(Method::GET, path, None).await?;
        if status == 200 { Ok(value) } else { bail!("{path} answered {status}: {value}") }
    }

    /// A `POST` that must succeed.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let (status, value) = self.json(Method::POST, path, Some(body)).await?;
        if status == 200 { Ok(value) } else { bail!("{path} answered {status}: {value}") }
    }

    /// A turn of the agent: a streamed background response with the notes' tools.
    pub(super) async fn turn(
        &self,
        model: &str,
        input: &str,
        previous: Option<&str>,
        task: &str,
    ) -> anyhow::Result<Streamed> {
        let body = json!({
            "model": model,
            "input": input,
            "previous_response_id": previous,
            "tools": [{ "type": "mcp", "server_label": "notes" }],
            "background": true,
            "stream": true,
        });
        let began = Instant::now();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/v1/responses", self.url))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .header("holdfast-task", task)
            .body(Full::from(body.to_string()))?;
        read_stream(
            self.pool.request(request).await.context("starting a turn")?,
            began,
            Streamed::default(),
        )
        .await
    }

    /// A turn without tools, of a history that is sent as a whole or continued.
    pub(super) async fn plain_turn(&self, body: &Value) -> anyhow::Result<Streamed> {
        let began = Instant::now();
        let answer = self.send(Method::POST, "/v1/responses", Some(body)).await?;
        read_stream(answer, began, Streamed::default()).await
    }

    /// Picks a broken stream up behind the last event that arrived.
    pub(super) async fn resume(&self, broken: Streamed) -> anyhow::Result<Streamed> {
        let behind =
            broken.last_event.map(|number| format!("&starting_after={number}")).unwrap_or_default();
        let path = format!("/v1/responses/{}?stream=true{behind}", broken.id);
        let began = Instant::now();
        read_stream(self.send(Method::GET, &path, None).await?, began, broken).await
    }
}

/// Reads events until the terminal one, or until the connection breaks.
async fn read_stream(
    answer: Response<Incoming>,
    began: Instant,
    mut so_far: Streamed,
) -> anyhow::Result<Streamed> {
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    if status != 200 {
        let bytes = body.collect().await?.to_bytes();
        bail!("a stream was refused with {status}: {}", String::from_utf8_lossy(&bytes));
    }
    let mut waiting = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        waiting.extend_from_slice(&data);
        while let Some(end) = waiting.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = waiting.drain(..end + 2).collect();
            take_event(&String::from_utf8_lossy(&event), began, &mut so_far);
        }
    }
    so_far.total = began.elapsed();
    Ok(so_far)
}

fn take_event(event: &str, began: Instant, so_far: &mut Streamed) {
    let data = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect::<String>();
    let Ok(value) = serde_json::from_str::<Value>(&data) else { return };
    so_far.last_event = value["sequence_number"].as_u64().or(so_far.last_event);
    if let Some(id) = value["response"]["id"].as_str() {
        id.clone_into(&mut so_far.id);
    }
    let kind = value["type"].as_str().unwrap_or_default();
    let is_content = kind.ends_with(".delta") || kind == "response.mcp_call.in_progress";
    if is_content && so_far.first_content.is_none() {
        so_far.first_content = Some(began.elapsed());
    }
    if matches!(kind, "response.completed" | "response.failed" | "response.incomplete") {
        so_far.response = Some(value["response"].clone());
    }
}
