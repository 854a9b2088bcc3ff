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

use super::serve::DATA_DEFAULT;
use super::{output, serve};

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Under which the options of every question stand, below a command's own.
const HEADING: &str = "Asking a server";
/// Where a server is that says nothing else.
const URL_DEFAULT: &str = "http://127.0.0.1:8420";

/// Where the server is and with which key.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ApiArgs {
    /// Address of the server; else `<data>/server.url`, else http://127.0.0.1:8420.
    #[arg(long, env = "HOLDFAST_URL", global = true, help_heading = HEADING)]
    url: Option<String>,
    /// Admin key; else `<data>/admin.key`.
    #[arg(
        long,
        env = "HOLDFAST_ADMIN_KEY",
        hide_env_values = true,
        global = true,
        help_heading = HEADING
    )]
    key: Option<String>,
    /// Data folder in which `server.url` and `admin.key` are looked for.
    #[arg(long, default_value = DATA_DEFAULT, global = true, help_heading = HEADING)]
    data: PathBuf,
    /// Print the answer as JSON.
    #[arg(long, global = true, help_heading = HEADING)]
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

    /// The same, done once for each `key`.
    pub(crate) async fn post_once(
        &self,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> anyhow::Result<Value> {
        self.send_as(Method::POST, path, Some(body), key).await
    }

    /// A `PUT` of a JSON body.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PUT, path, Some(body)).await
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
        self.send_as(method, path, body, None).await
    }

    async fn send_as(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Value> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1();
        let client =
            Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector.build());
        let base = self.base();
        let address = address(&base.url, path)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(&address)
            .header("authorization", self.authorization()?)
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::from(body))?;
        let answer = client.request(request).await.with_context(|| {
            format!(
                "no server answers at {} ({}); start one with `holdfast serve`, or name it by --url or by its --data folder",
                base.url, base.told_by
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

    /// Where the server is, and who said so.
    fn base(&self) -> Base {
        // An empty variable is none, as for the server.
        if let Some(url) = self.url.as_ref().filter(|url| !url.is_empty()) {
            return Base { url: url.clone(), told_by: "as it was named".to_owned() };
        }
        match serve::folder::server_of(&self.data) {
            Some(url) => {
                let file = self.data.join(serve::folder::URL_FILE);
                Base { url, told_by: format!("from {}", file.display()) }
            }
            None => Base { url: URL_DEFAULT.to_owned(), told_by: "the usual address".to_owned() },
        }
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
            let file = path.display();
            format!("no key: give --key, set HOLDFAST_ADMIN_KEY, or name the data folder by --data ({file} can't be read)")
        })?;
        Ok(key.trim().to_owned())
    }
}

/// A server's address and who told it.
struct Base {
    url: String,
    told_by: String,
}

/// Where a path of `/api` is.
fn address(base: &str, path: &str) -> anyhow::Result<Uri> {
    let address = format!("{}/api/{path}", base.trim_end_matches('/')).parse::<Uri>().ok();
    let usable = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    address
        .filter(usable)
        .with_context(|| format!("--url must be an address such as {URL_DEFAULT}, not {base:?}"))
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
    use std::path::Path;

    use super::*;

    fn asking(url: Option<&str>, key: Option<&str>, data: &Path) -> ApiArgs {
        let own = |text: Option<&str>| text.map(str::to_owned);
        ApiArgs { url: own(url), key: own(key), data: data.to_owned(), json: false }
    }

    #[test]
    fn the_server_of_the_data_folder_is_found() {
        let data = tempfile::tempdir().unwrap();
        let base = |url| asking(url, None, data.path()).base().url;
        assert_eq!(base(None), URL_DEFAULT);
        serve::folder::tell(data.path(), "http://127.0.0.1:9").unwrap();
        assert_eq!(base(None), "http://127.0.0.1:9");
        assert_eq!(base(Some("")), "http://127.0.0.1:9");
        assert_eq!(base(Some("http://h:1")), "http://h:1");
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let address = |url: &str| address(url, "keys").map(|uri| uri.to_string());
        assert_eq!(address("http://h:1/").unwrap(), "http://h:1/api/keys");
        for url in ["127.0.0.1:8420", "localhost", "ftp://h", ""] {
            assert!(address(url).unwrap_err().to_string().starts_with("--url must be"), "{url}");
        }
    }

    #[test]
    fn an_empty_key_is_none() {
        let nowhere = Path::new("/nowhere");
        let told = |key| asking(None, Some(key), nowhere).authorization().unwrap_err().to_string();
        assert!(told("").starts_with("no key: "), "{}", told(""));
        assert!(told("a\nb").starts_with("the key has characters"), "{}", told("a\nb"));
    }
}
