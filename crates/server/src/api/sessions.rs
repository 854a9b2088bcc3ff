//! Sessions: `GET /api/sessions[/{id}]`, `POST /api/sessions/{id}/steps/{step}/resolve`.
#![expect(
    unused_qualifications,
    reason = "utoipa writes the parameters' type into code of its own"
)]

use std::sync::Arc;

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use sessions::{Decision, SessionDetail, SessionSummary, Step};
use storage::{SessionFilter, SessionState};
use types::ids::SessionId;
use types::{ErrorCode, Failure};
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, ApiFailure, Json, Operator, Parameters, Shared};

/// Sessions in one answer, unless asked for fewer or more.
const LIMIT_DEFAULT: usize = 100;
/// Sessions in one answer at most.
const LIMIT_MAX: usize = 1_000;

/// Which sessions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionsQuery {
    /// `idle`, `running` or `in_doubt`.
    #[param(value_type = Option<String>)]
    state: Option<SessionState>,
    /// Of this user.
    user: Option<String>,
    /// Made before this session (paging).
    before: Option<String>,
    /// At most so many, up to 1,000.
    limit: Option<usize>,
}

/// A list of sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionList {
    /// Newest first, each with the step that is in doubt, if one is.
    #[schema(value_type = Vec<Object>)]
    data: Vec<SessionSummary>,
}

/// Sessions and what they wait for.
#[utoipa::path(get, path = "/api/sessions", params(SessionsQuery), responses((status = 200, body = SessionList), (status = 400, body = ApiError)))]
pub(crate) async fn list(
    State(app): Shared,
    operator: Operator,
    Parameters(query): Parameters<SessionsQuery>,
) -> Result<axum::Json<SessionList>, ApiFailure> {
    let before = |text: String| {
        SessionId::parse(&text)
            .ok_or_else(|| Failure::invalid("before", format!("\"{text}\" is no id of a session")))
    };
    let filter = SessionFilter {
        account: Some(operator.0.account.to_string()),
        user: query.user,
        state: query.state,
        before: query.before.map(before).transpose()?,
        limit: query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX),
    };
    Ok(axum::Json(SessionList { data: app.sessions.list(filter).await? }))
}

/// A session with its turns and their steps.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionView {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    session: SessionDetail,
}

/// One session with its steps.
#[utoipa::path(get, path = "/api/sessions/{id}", responses((status = 200, body = SessionView), (status = 404, body = ApiError)))]
pub(crate) async fn get(
    State(app): Shared,
    operator: Operator,
    Path(id): Path<String>,
) -> Result<axum::Json<SessionView>, ApiFailure> {
    Ok(axum::Json(SessionView { session: app.sessions.show(&operator.0.account, &id).await? }))
}

/// A decision: `{"decision":"done","output":…}`, `{"decision":"failed","message":…}` or
/// `{"decision":"retry"}`.
#[derive(Deserialize, ToSchema)]
#[serde(transparent)]
pub(crate) struct Resolve {
    #[schema(value_type = Object)]
    decision: Decision,
}

/// A step as people see it.
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
pub(crate) struct StepView {
    #[schema(value_type = Object)]
    step: Step,
}

/// Settles a step in doubt; the same response goes on.
#[utoipa::path(post, path = "/api/sessions/{id}/steps/{step}/resolve", request_body = Resolve, responses((status = 200, body = StepView), (status = 404, body = ApiError)))]
pub(crate) async fn resolve(
    State(app): Shared,
    operator: Operator,
    Path((session, step)): Path<(String, String)>,
    Json(resolve): Json<Resolve>,
) -> Result<axum::Json<StepView>, ApiFailure> {
    let (sessions, principal) = (Arc::clone(&app.sessions), operator.0);
    // To its end, whether or not the operator stays: a decision must not stop half-way.
    let decided = app.tracker.spawn(async move {
        let (account, name) = (&principal.account, &principal.key_name);
        sessions.resolve(account, &session, &step, resolve.decision, name).await
    });
    let broken = |_| Failure::new(ErrorCode::Internal, "the decision broke off; the log says how");
    let step = decided.await.map_err(broken)??;
    Ok(axum::Json(StepView { step }))
}
