//! One JSON request.

use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Posts a JSON body and reads the JSON answer.
pub(crate) async fn post(url: &str, key: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = send(url, key, path, &[], body).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    let value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{path} answered {status} and no JSON"))?;
    if status.is_success() { Ok(value) } else { bail!("{path} answered {status}: {value}") }
}

/// Posts a JSON body and reads a stream of events: those with content, with the milliseconds after
/// which they came.
pub(crate) async fn stream(
    url: &str,
    key: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> anyhow::Result<Vec<(f64, Value)>> {
    let began = Instant::now();
    let answer = send(url, key, path, headers, body).await?;
    let status = answer.status();
    let mut body = answer.into_body();
    let (mut waiting, mut events) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        waiting.extend_from_slice(&data);
        while let Some(end) = waiting.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = waiting.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&event).into_owned();
            let data: String =
                text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            if let Ok(value) = serde_json::from_str(&data) {
                events.push((began.elapsed().as_secs_f64() * 1e3, value));
            }
        }
    }
    if status.is_success() {
        Ok(events)
    } else {
        bail!("{path} answered {status}: {}", String::from_utf8_lossy(&waiting))
    }
}

async fn send(
    url: &str,
    key: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> anyhow::Result<http::Response<Incoming>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
    let mut request = Request::post(format!("{url}{path}"))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body.to_string()))?;
    client.request(request).await.with_context(|| format!("asking {path}"))
}
