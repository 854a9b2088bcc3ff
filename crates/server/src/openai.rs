//! The doors of OpenAI's API.

use std::sync::Arc;

use formats::openai_chat::OPENAI_CHAT;
use http::header::UPGRADE;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming as HyperBody;
use types::format::Format;

use crate::app::App;
use crate::body::Body;
use crate::delivery::Deliveries;
use crate::{anthropic, gemini, router};

pub(crate) mod chat;
pub(crate) mod embeddings;
mod events;
mod models;
pub(crate) mod responses;

/// Renders errors where no better format is known: OpenAI's error object is what most clients read.
pub(crate) static ERRORS: &dyn Format = &OPENAI_CHAT;

/// Answers what lies under `/v1/`, other than chat completions.
pub(crate) async fn route(
    app: Arc<App>,
    deliveries: Deliveries,
    request: Request<HyperBody>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let rest = path.trim_start_matches("/v1/").trim_end_matches('/');
    let (resource, below) = rest.split_once('/').unwrap_or((rest, ""));
    match (resource, below) {
        ("models", _) if gemini::is_spoken(request.headers()) => gemini::route(app, request).await,
        ("models", "") if anthropic::is_spoken(request.headers()) => {
            router::only(&app, &Method::GET, request, anthropic::models::list).await
        }
        ("models", name) if anthropic::is_spoken(request.headers()) => {
            let name = percent_decoded(name);
            let get = |app, request| anthropic::models::get(app, request, name);
            router::only(&app, &Method::GET, request, get).await
        }
        ("models", "") => router::only(&app, &Method::GET, request, models::list).await,
        ("models", name) => {
            let name = percent_decoded(name);
            router::only(&app, &Method::GET, request, |app, request| {
                models::get(app, request, name)
            })
            .await
        }
        ("embeddings", "") => router::only(&app, &Method::POST, request, embeddings::create).await,
        ("responses", _) if asks_websocket(request.headers()) => {
            router::upgrade_refused(&app.ids, request.uri().path())
        }
        ("responses", "") => {
            let create = |app, request| responses::create(app, deliveries, request);
            router::only(&app, &Method::POST, request, create).await
        }
        ("responses", below) => {
            let below = below.to_owned();
            responses::one(app, request, &below).await
        }
        _ => router::not_found(&app, &path),
    }
}

/// Whether a client wants to go on as a WebSocket.
fn asks_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = upgrade.flat_map(|value| value.split(','));
    protocols.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// Model names hold slashes; clients send them percent-encoded or not.
pub(crate) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(code) => {
                decoded.push(code);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, UPGRADE};

    use super::{asks_websocket, percent_decoded};

    #[test]
    fn a_websocket_is_told_from_other_upgrades() {
        let asks = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(UPGRADE, value.parse().unwrap());
            }
            asks_websocket(&headers)
        };
        assert!(asks(&["websocket"]) && asks(&["h2c, WebSocket"]) && asks(&["h2c", "websocket"]));
        assert!(!asks(&[]) && !asks(&["h2c"]) && !asks(&["websockets"]));
    }

    #[test]
    fn names_come_encoded_or_not() {
        for (text, name) in [
            ("local/demo", "local/demo"),
            ("local%2Fdemo", "local/demo"),
            ("%40cf%2fmeta", "@cf/meta"),
            ("50%", "50%"),
            ("%zz%", "%zz%"),
            ("a%2", "a%2"),
        ] {
            assert_eq!(percent_decoded(text), name);
        }
    }
}
