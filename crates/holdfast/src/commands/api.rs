//! Talks to a running server's `/api`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::output;

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where the server is and with which key.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ApiArgs {
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:8420", global = true)]
    url: String,
    /// Admin key; else `HOLDFAST_ADMIN_KEY`, else `<data>/admin.key`.
    #[arg(long, env = "HOLDFAST_ADMIN_KEY", hide_env_values = true, global = true)]
    key: Option<String>,
    /// Data folder in which `admin.key` is looked for.
    #[arg(long, default_value = "holdfast-data", global = true)]
    data: PathBuf,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl ApiArgs {
    /// A `GET`.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// A `POST` of a JSON body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// A `DELETE`.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::DELETE, path, None).await
    }

    /// Prints the answer as JSON if that was asked for, else as `show` shows it.
    pub(crate) fn print(
        &self,
        answer: &Value,
        show: impl FnOnce(&Value) -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            return output::say(serde_json::to_string_pretty(answer)?);
        }
        output::say(show(answer))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1();
        let client =
            Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector.build());
        let address = format!("{}/api/{path}", self.url.trim_end_matches('/'));
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(&address)
            .header("authorization", format!("Bearer {}", self.key()?))
            .header("content-type", "application/json")
            .body(Full::from(body))?;
        let answer = client.request(request).await.with_context(|| {
            format!(
                "no server answers at {}; start one with `holdfast serve`, or name it by --url",
                self.url
            )
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body =
            body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
        let value: Value = serde_json::from_slice(&body)
            .with_context(|| format!("{address} answered {status} and no JSON"))?;
        if status.is_success() {
            return Ok(value);
        }
        let text = |name: &str| value["error"][name].as_str().unwrap_or_default().to_owned();
        bail!("{} ({}, HTTP {})", text("message"), text("code"), status.as_u16())
    }

    #[expect(clippy::disallowed_methods, reason = "a command has nothing else to do meanwhile")]
    fn key(&self) -> anyhow::Result<String> {
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        let path = self.data.join("admin.key");
        let key = std::fs::read_to_string(&path).with_context(|| {
            format!("no key: give --key, set HOLDFAST_ADMIN_KEY, or name the data folder by --data ({} can't be read)", path.display())
        })?;
        Ok(key.trim().to_owned())
    }
}

/// A text as a part of a path.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
