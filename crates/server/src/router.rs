//! Picks a door by method and path. Data-path routes are matched by hand; `/api` is axum's.

use std::sync::Arc;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming as HyperBody;
use tower::ServiceExt;
use types::{ErrorCode, Failure, Format, Ids};

use crate::app::App;
use crate::body::Body;
use crate::delivery::Deliveries;
use crate::{anthropic, api, cloudflare, errors, gemini, openai, readiness};

/// What SDKs put behind their base URL.
const DOORS: [&str; 6] = ["chat", "completions", "embeddings", "messages", "models", "responses"];

/// Answers one request.
pub(crate) async fn answer(
    app: Arc<App>,
    deliveries: Deliveries,
    request: Request<HyperBody>,
) -> Response<Body> {
    if cloudflare::gateway::is_asked(&request) {
        return cloudflare::gateway::route(app, deliveries, request).await;
    }
    let path = request.uri().path();
    if gemini::is_path(path) {
        return gemini::route(app, request).await;
    }
    if path.starts_with("/v1/") {
        return under_v1(app, deliveries, request).await;
    }
    if cloudflare::is_path(path) {
        return cloudflare::route(app, deliveries, request).await;
    }
    if path == "/api" || path.starts_with("/api/") || path == "/metrics" {
        return in_axum(app, request).await;
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(&app).await,
        "/" => text(StatusCode::OK, "Holdfast is up. The API is under /v1 and /api.\n"),
        _ => not_found(&app, path),
    }
}

/// Answers what lies under `/v1/`.
pub(crate) async fn under_v1(
    app: Arc<App>,
    deliveries: Deliveries,
    request: Request<HyperBody>,
) -> Response<Body> {
    let path = request.uri().path();
    match path.strip_prefix("/v1/").unwrap_or_default().trim_end_matches('/') {
        "chat/completions" => only(&app, &Method::POST, request, openai::chat::create).await,
        "messages" => only(&app, &Method::POST, request, anthropic::messages).await,
        "messages/count_tokens" => {
            only(&app, &Method::POST, request, anthropic::count_tokens::create).await
        }
        _ => openai::route(app, deliveries, request).await,
    }
}

/// Runs `door` if the method is the only one offered.
pub(crate) async fn only<F, R>(
    app: &Arc<App>,
    method: &Method,
    request: Request<HyperBody>,
    door: F,
) -> Response<Body>
where
    F: FnOnce(Arc<App>, Request<HyperBody>) -> R,
    R: Future<Output = Response<Body>>,
{
    if request.method() == method {
        return door(Arc::clone(app), request).await;
    }
    method_not_allowed(app, request.uri().path(), method.as_str())
}

/// A 405 that says which methods there are.
pub(crate) fn method_not_allowed(app: &App, path: &str, allowed: &str) -> Response<Body> {
    let failure = Failure::new(ErrorCode::MethodNotAllowed, format!("use {allowed} on this path"));
    let mut response = errors::response(errors_at(path), &errors::refused(&app.ids, failure));
    if let Ok(value) = allowed.parse() {
        response.headers_mut().insert(http::header::ALLOW, value);
    }
    response
}

/// A 426 for a WebSocket where there is none: clients that try one first (Codex does) go on over
/// HTTP after this status, and only after this one.
pub(crate) fn upgrade_refused(ids: &Ids, path: &str) -> Response<Body> {
    let message = format!("WebSockets are not offered at {path}: send the request over HTTP");
    let failure = Failure::unsupported("upgrade", message);
    let mut response = errors::response(openai::ERRORS, &errors::refused(ids, failure));
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

/// A 404 for a path that nothing answers.
pub(crate) fn not_found(app: &App, path: &str) -> Response<Body> {
    let message = match misplaced(path) {
        Some(base) => format!("there is nothing at {path}: the API is under /v1, {base}"),
        None => format!("there is nothing at {path}"),
    };
    let failure = Failure::new(ErrorCode::NotFound, message);
    errors::response(errors_at(path), &errors::refused(&app.ids, failure))
}

/// The format in which a client that asks for this path reads errors.
pub(crate) fn errors_at(path: &str) -> &'static dyn Format {
    if cloudflare::is_path(path) {
        return cloudflare::errors_at(path);
    }
    if gemini::is_path(path) {
        return gemini::ERRORS;
    }
    if anthropic::is_path(path) { anthropic::ERRORS } else { openai::ERRORS }
}

/// What is wrong with the base URL of a client that asks for this path, if that is it.
fn misplaced(path: &str) -> Option<&'static str> {
    let (first, _) = path.strip_prefix('/')?.split_once('/').unwrap_or((path.get(1..)?, ""));
    if DOORS.contains(&first) {
        return Some("so that a client's base URL ends in /v1");
    }
    path.starts_with("/v1/v1/").then_some("and the client's base URL has it twice")
}

async fn in_axum(app: Arc<App>, request: Request<HyperBody>) -> Response<Body> {
    let request = request.map(axum::body::Body::new);
    match api::router(app).oneshot(request).await {
        Ok(response) => response.map(Body::Axum),
        Err(never) => match never {},
    }
}

async fn ready(app: &App) -> Response<Body> {
    let down: Vec<String> = readiness::parts(app)
        .await
        .into_iter()
        .filter(|part| part.state == "down")
        .map(|part| format!("{}: {}\n", part.part, part.reason.unwrap_or_default()))
        .collect();
    if down.is_empty() {
        text(StatusCode::OK, "ready\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, down.concat())
    }
}

fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(text));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use types::Timestamp;
    use types::clock::FakeClock;

    use super::*;

    #[test]
    fn a_websocket_is_refused_by_the_status_after_which_clients_go_on_over_http() {
        let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
        let response = upgrade_refused(&ids, "/v1/responses");
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.headers()[UPGRADE], "HTTP/1.1");
        assert!(response.headers().contains_key("holdfast-call-id"));
    }

    #[test]
    fn a_base_url_without_the_version_is_recognised() {
        for path in ["/chat/completions", "/responses", "/responses/resp_1", "/models"] {
            assert!(misplaced(path).is_some_and(|why| why.contains("ends in /v1")), "{path}");
        }
        assert!(misplaced("/v1/v1/models").is_some_and(|why| why.contains("twice")));
        for path in ["/", "", "/chatter", "/v1/nothing", "/favicon.ico", "//models"] {
            assert_eq!(misplaced(path), None, "{path}");
        }
    }
}
