//! Drives one system: so many connections, each sending one request after the other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::holdfast::KEY;

/// What to send, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) path: &'static str,
    pub(super) model: &'static str,
    pub(super) stream: bool,
    pub(super) connections: usize,
    pub(super) length: Duration,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) latencies_ms: Vec<f64>,
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
}

impl Load {
    /// Runs for its length.
    pub(super) async fn run(self) -> anyhow::Result<Measured> {
        let began = Instant::now();
        let connections = (0..self.connections).map(|_| self.connection(began));
        let latencies = try_join_all(connections).await?;
        Ok(Measured {
            latencies_ms: latencies.concat(),
            elapsed: began.elapsed(),
            cpu: Duration::ZERO,
        })
    }

    async fn connection(self, began: Instant) -> anyhow::Result<Vec<f64>> {
        let stream = TcpStream::connect(self.address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let body = Bytes::from(self.body());
        let mut latencies = Vec::new();
        while began.elapsed() < self.length {
            let sent = Instant::now();
            let request = Request::post(self.path)
                .header("host", "bench.local")
                .header("authorization", format!("Bearer {KEY}"))
                .header("content-type", "application/json")
                .body(Full::new(body.clone()))?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let mut answer = response.into_body();
            let mut bytes = 0;
            while let Some(frame) = answer.frame().await {
                bytes += frame?.into_data().map(|data| data.len()).unwrap_or(0);
            }
            anyhow::ensure!(
                status.is_success() && bytes > 500,
                "answered {status} with {bytes} bytes"
            );
            latencies.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        drop(sender);
        driver.abort();
        Ok(latencies)
    }

    /// About 1 kB, as a short agent's turn is.
    fn body(&self) -> String {
        let filler = "You are a careful assistant that answers in one sentence. ".repeat(12);
        let stream = if self.stream {
            "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
        } else {
            ""
        };
        format!(
            "{{\"model\":\"{}\",{stream}\"max_tokens\":128,\"temperature\":0.2,\"messages\":[{{\"role\":\"system\",\"content\":\"{filler}\"}},{{\"role\":\"user\",\"content\":\"What is the capital of France, and on which river does it lie?\"}}]}}",
            self.model
        )
    }
}
