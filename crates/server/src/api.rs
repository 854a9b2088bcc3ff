//! `/api`: Holdfast's own questions and changes, described by an OpenAPI document at
//! `/api/openapi.json`.
//!
//! Every endpoint but the document itself needs a key with the admin role and answers for that
//! key's account only; the document says so too. Errors have one shape, [`ApiError`]. Lists are
//! newest first and bounded.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use types::{ErrorCode, Failure, Principal};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::app::App;
use crate::control::ConfigProblem;
use crate::request;

mod auto;
mod budgets;
mod calls;
mod config;
mod keys;
mod limits;
mod metrics;
mod models;
mod rate_limits;
mod routes;
mod sessions;
mod slos;
mod tasks;

pub(crate) use models::price_now;
pub use slos::{SloView, SloWindow, SloWindows};

/// What handlers share.
type Shared = State<Arc<App>>;

/// The OpenAPI document of `/api`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Calls, sessions, keys, budgets, models, routes, objectives, providers' limits, \
                       metrics and configuration."
    ),
    paths(
        calls::list,
        calls::get,
        tasks::list,
        tasks::get,
        sessions::list,
        sessions::get,
        sessions::resolve,
        keys::list,
        keys::create,
        keys::delete,
        budgets::list,
        budgets::create,
        budgets::delete,
        budgets::reconcile,
        budgets::top_up,
        models::list,
        models::create,
        models::delete,
        routes::list,
        routes::get,
        routes::create,
        routes::put,
        routes::delete,
        routes::versions,
        routes::rollback,
        config::get,
        config::reload,
        config::health,
        slos::list,
        slos::get,
        auto::list,
        limits::get,
        rate_limits::list,
        metrics::get,
    ),
    modifiers(&AdminKey),
    security(("admin_key" = []))
)]
struct Document;

/// How requests show who asks.
struct AdminKey;

impl Modify for AdminKey {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some(
            "A key with the admin role. All that is described here needs one; this document does \
             not."
                .to_owned(),
        );
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("admin_key", SecurityScheme::Http(scheme));
    }
}

/// All endpoints.
pub(crate) fn router(app: Arc<App>) -> Router {
    let limit = app.limits.body_bytes_max;
    Router::new()
        .route("/api/openapi.json", get(|| async { axum::Json(openapi()) }))
        .route("/api/calls", get(calls::list))
        .route("/api/calls/{id}", get(calls::get))
        .route("/api/tasks", get(tasks::list))
        .route("/api/tasks/{*task}", get(tasks::get))
        .route("/api/sessions", get(sessions::list))
        .route("/api/sessions/{id}", get(sessions::get))
        .route("/api/sessions/{id}/steps/{step}/resolve", post(sessions::resolve))
        .route("/api/keys", get(keys::list).post(keys::create))
        .route("/api/keys/{id}", axum::routing::delete(keys::delete))
        .route("/api/budgets", get(budgets::list).post(budgets::create))
        .route("/api/budgets/{id}", axum::routing::delete(budgets::delete))
        .route("/api/budgets/{id}/reconcile", post(budgets::reconcile))
        .route("/api/budgets/{id}/top-up", post(budgets::top_up))
        .route("/api/models", get(models::list).post(models::create))
        .route("/api/models/{*name}", axum::routing::delete(models::delete))
        .route("/api/slos", get(slos::list))
        .route("/api/slos/{name}", get(slos::get))
        .route("/api/routes", get(routes::list).post(routes::create))
        .route("/api/routes/versions", get(routes::versions))
        .route("/api/routes/rollback", post(routes::rollback))
        .route("/api/routes/{name}", get(routes::get).put(routes::put).delete(routes::delete))
        .route("/api/config", get(config::get))
        .route("/api/config/reload", post(config::reload))
        .route("/api/health", get(config::health))
        .route("/api/auto", get(auto::list))
        .route("/api/limits", get(limits::get))
        .route("/api/rate-limits", get(rate_limits::list))
        .route("/metrics", get(metrics::get))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::extract::DefaultBodyLimit::max(limit))
        .with_state(app)
}

async fn nothing_here(request: Request) -> ApiFailure {
    let message = format!("there is nothing at {}", request.uri().path());
    ApiFailure(Failure::new(ErrorCode::NotFound, message))
}

async fn wrong_method(request: Request) -> ApiFailure {
    let message = format!("{} is not offered at {}", request.method(), request.uri().path());
    ApiFailure(Failure::new(ErrorCode::MethodNotAllowed, message))
}

/// The administrator who asks.
pub(crate) struct Operator(pub(crate) Arc<Principal>);

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = ApiFailure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiFailure> {
        let principal = app
            .pipeline
            .authenticate(&request::credential(&parts.headers))
            .await
            .map_err(ApiFailure)?;
        if principal.is_admin() {
            return Ok(Self(principal));
        }
        let message =
            format!("the key {} has not the admin role, which /api needs", principal.key_name);
        Err(ApiFailure(Failure::new(ErrorCode::PermissionDenied, message)))
    }
}

/// A JSON body whose errors look like all others.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: serde::de::DeserializeOwned> axum::extract::FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiFailure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiFailure> {
        let (limit, clock) = (app.limits.body_bytes_max, app.clock.as_ref());
        let bytes = request::body(request.into_body(), limit, clock).await?;
        let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
        let read = serde_path_to_error::deserialize(&mut deserializer);
        let read = read.map_err(|error| ApiFailure(wrong_body(&error)))?;
        deserializer.end().map_err(|error| {
            ApiFailure(Failure::invalid("body", format!("the body is wrong: {error}")))
        })?;
        Ok(Self(read))
    }
}

/// Names the field where there is one: its place in the text then tells nothing more.
fn wrong_body(error: &serde_path_to_error::Error<serde_json::Error>) -> Failure {
    let (path, inner) = (error.path().to_string(), error.inner());
    if matches!(path.as_str(), "." | "?") {
        return Failure::invalid("body", format!("the body is wrong: {inner}"));
    }
    let (place, message) =
        (format!(" at line {} column {}", inner.line(), inner.column()), inner.to_string());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    Failure::invalid(path.clone(), format!("the body is wrong: {path}: {message}"))
}

/// axum's words for a wrong query begin with its own; then come the parameter and what is wrong.
fn wrong_query(told: &str) -> Failure {
    let told = told.strip_prefix("Failed to deserialize query string: ").unwrap_or(told);
    let param = told.split_once(": ").map_or("query", |(param, _)| param);
    Failure::invalid(param.to_owned(), format!("the query is wrong: {told}"))
}

/// Query parameters whose errors look like all others.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: serde::de::DeserializeOwned> FromRequestParts<Arc<App>> for Parameters<T> {
    type Rejection = ApiFailure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiFailure> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query
            .map(|query| Self(query.0))
            .map_err(|error| ApiFailure(wrong_query(&error.body_text())))
    }
}

/// The body of every error of `/api`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiError {
    error: ApiErrorBody,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
struct ApiErrorBody {
    /// The stable code, as in docs/errors/.
    code: &'static str,
    /// What is wrong and what to do.
    message: String,
    /// The field at fault.
    param: Option<String>,
    /// All that is wrong with a configuration that was to be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<ConfigProblem>>,
}

/// A failure on its way out.
#[derive(Debug)]
pub(crate) struct ApiFailure(pub(crate) Failure);

impl From<Failure> for ApiFailure {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<storage::Error> for ApiFailure {
    fn from(error: storage::Error) -> Self {
        Self(store_failure(&error))
    }
}

impl IntoResponse for ApiFailure {
    fn into_response(self) -> Response {
        error_of(self.0, None)
    }
}

fn error_of(failure: Failure, problems: Option<Vec<ConfigProblem>>) -> Response {
    let status = StatusCode::from_u16(failure.code.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let error = ApiErrorBody {
        code: failure.code.name(),
        message: failure.message,
        param: failure.param.map(String::from),
        problems,
    };
    (status, axum::Json(ApiError { error })).into_response()
}

/// What the store's errors are to a client; the details go to the log only.
pub(crate) fn store_failure(error: &storage::Error) -> Failure {
    match error {
        storage::Error::Exists { what } => Failure::new(
            ErrorCode::Conflict,
            format!("{what} of that name exists already; choose another"),
        ),
        storage::Error::Unavailable(source) => {
            tracing::error!(%source, "the store cannot write");
            Failure::new(
                ErrorCode::StorageUnavailable,
                "the store cannot write now, its disk is full, read-only or failing: try again later",
            )
        }
        storage::Error::NotFound { what } => {
            Failure::new(ErrorCode::NotFound, format!("there is no such {what}"))
        }
        storage::Error::Fenced { .. }
        | storage::Error::OverLimit { .. }
        | storage::Error::NewerVersion { .. }
        | storage::Error::Internal(_) => {
            tracing::error!(%error, "the store failed");
            Failure::new(ErrorCode::Internal, "the store failed; the log says how")
        }
    }
}

pub(crate) fn not_found(what: &str, id: &str) -> ApiFailure {
    ApiFailure(Failure::new(ErrorCode::NotFound, format!("there is no {what} {id}")))
}

#[cfg(test)]
mod tests {
    use super::{wrong_body, wrong_query};
    use crate::api::calls::CallsQuery;
    use axum::extract::Query;

    fn refused(body: &str) -> (Option<String>, String) {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            #[expect(dead_code, reason = "only read")]
            limit_usd: types::Money,
        }
        let mut deserializer = serde_json::Deserializer::from_str(body);
        let error = serde_path_to_error::deserialize::<_, Body>(&mut deserializer).unwrap_err();
        let failure = wrong_body(&error);
        (failure.param.map(String::from), failure.message)
    }

    #[test]
    fn a_wrong_body_names_its_field() {
        let (param, message) = refused(r#"{"limit_usd": "much"}"#);
        assert_eq!(param.as_deref(), Some("limit_usd"));
        assert!(message.starts_with("the body is wrong: limit_usd: is not"), "{message}");
        assert!(!message.contains("column"), "{message}");
        let (param, message) = refused("{");
        assert_eq!(param.as_deref(), Some("body"));
        assert!(message.contains("line 1"), "{message}");
    }

    #[test]
    fn a_wrong_query_names_its_parameter() {
        for (query, param) in [("limit=x", "limit"), ("sesion=a", "sesion")] {
            let uri = format!("/api/calls?{query}").parse().unwrap();
            let error = Query::<CallsQuery>::try_from_uri(&uri).unwrap_err();
            let failure = wrong_query(&error.body_text());
            assert!(failure.message.contains(param), "{}", failure.message);
        }
    }

    #[test]
    fn the_document_says_which_key_is_needed() {
        let document = serde_json::to_value(super::openapi()).unwrap();
        assert_eq!(document["security"], serde_json::json!([{ "admin_key": [] }]));
        let scheme = &document["components"]["securitySchemes"]["admin_key"];
        assert_eq!((&scheme["type"], &scheme["scheme"]), (&"http".into(), &"bearer".into()));
        let described = document["paths"].as_object().unwrap();
        assert!(!described.contains_key("/api/openapi.json"), "it needs no key");
    }
}
