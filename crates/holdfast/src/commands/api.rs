//! Talks to a running server's `/api`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Request, Uri};
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
        let address = self.address(path)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(&address)
            .header("authorization", self.authorization()?)
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

    /// Where a path of `/api` is.
    fn address(&self, path: &str) -> anyhow::Result<Uri> {
        let base = self.url.trim_end_matches('/');
        let address = format!("{base}/api/{path}").parse::<Uri>().ok();
        let usable = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        address.filter(usable).with_context(|| {
            format!("--url must be an address such as http://127.0.0.1:8420, not {:?}", self.url)
        })
    }

    fn authorization(&self) -> anyhow::Result<HeaderValue> {
        let value = HeaderValue::try_from(format!("Bearer {}", self.key()?));
        let mut value = value.context("the key has characters that can't be sent in a header")?;
        value.set_sensitive(true);
        Ok(value)
    }

    #[expect(clippy::disallowed_methods, reason = "a command has nothing else to do meanwhile")]
    fn key(&self) -> anyhow::Result<String> {
        // An empty variable is none, as for the server.
        if let Some(key) = self.key.as_ref().filter(|key| !key.is_empty()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(url: &str, key: Option<&str>) -> ApiArgs {
        let key = key.map(str::to_owned);
        ApiArgs { url: url.to_owned(), key, data: PathBuf::from("/nowhere"), json: false }
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let address = |url: &str| asking(url, None).address("keys").map(|uri| uri.to_string());
        assert_eq!(address("http://h:1/").unwrap(), "http://h:1/api/keys");
        for url in ["127.0.0.1:8420", "localhost", "ftp://h", ""] {
            assert!(address(url).unwrap_err().to_string().starts_with("--url must be"), "{url}");
        }
    }

    #[test]
    fn an_empty_key_is_none() {
        let told = |key| asking("http://h", Some(key)).authorization().unwrap_err().to_string();
        assert!(told("").starts_with("no key: "), "{}", told(""));
        assert!(told("a\nb").starts_with("the key has characters"), "{}", told("a\nb"));
    }
}
