//! The ledger: `GET /api/calls[/{id}]`.
#![expect(
    unused_qualifications,
    reason = "utoipa writes the parameters' type into code of its own"
)]

use std::cmp::Ordering;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use storage::{CallFilter, LedgerRow};
use types::ids::{CallId, KeyId, SessionId};
use types::{Metadata, Money, Timestamp};
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, ApiFailure, Operator, Parameters, Shared, not_found};

/// Rows in one answer, unless asked for fewer or more.
const LIMIT_DEFAULT: usize = 100;
/// Rows in one answer at most.
const LIMIT_MAX: usize = 1_000;

/// Which Calls.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallsQuery {
    /// Of this session.
    session: Option<String>,
    /// Of this task.
    task: Option<String>,
    /// With the key of this id.
    key: Option<String>,
    /// Whose metadata has each entry of this JSON object.
    metadata: Option<String>,
    /// Begun at or after this second since the epoch.
    since: Option<i64>,
    /// Older than this Call (paging).
    before: Option<String>,
    /// At most so many, up to 1,000; a Call's attempts stay together.
    limit: Option<usize>,
}

/// A list of Calls.
#[derive(Serialize, ToSchema)]
pub(crate) struct Calls {
    /// Newest first; one row per attempt.
    #[schema(value_type = Vec<Object>)]
    data: Vec<CallView>,
    /// Whether there may be more.
    has_more: bool,
}

/// A ledger row as it is shown: money in dollars, times in microseconds.
#[derive(Serialize)]
pub(crate) struct CallView {
    #[serde(flatten)]
    row: LedgerRow,
    /// How its cost and what was reserved came to differ.
    why: &'static str,
}

impl CallView {
    fn of(row: LedgerRow) -> Self {
        let why = why(&row);
        Self { row, why }
    }
}

/// Why a row costs what it does, and not what was reserved for it.
fn why(row: &LedgerRow) -> &'static str {
    let is_open = row.unreconciled > Money::ZERO;
    match row.cost.cmp(&row.reserved) {
        _ if row.over_bound => "over_bound",
        _ if row.notes.get("unpriced").is_some() => "unpriced",
        _ if is_open => "usage_unknown",
        _ if row.error.is_some() && row.usage.is_none() => "not_billed",
        _ if row.reserved == Money::ZERO => "unreserved",
        Ordering::Less => "below_bound",
        Ordering::Equal | Ordering::Greater => "as_reserved",
    }
}

/// Finished Calls with usage, cost and timings.
#[utoipa::path(get, path = "/api/calls", params(CallsQuery), responses((status = 200, body = Calls), (status = 400, body = ApiError)))]
pub(crate) async fn list(
    State(app): Shared,
    operator: Operator,
    Parameters(query): Parameters<CallsQuery>,
) -> Result<Json<Calls>, ApiFailure> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let filter = CallFilter {
        account: Some(operator.0.account.to_string()),
        session: query
            .session
            .as_deref()
            .map(|text| id(text, "session", "session", SessionId::parse))
            .transpose()?,
        task: query.task,
        key: query.key.as_deref().map(|text| id(text, "key", "key", KeyId::parse)).transpose()?,
        metadata: query.metadata.as_deref().map(metadata).transpose()?.unwrap_or_default(),
        since: query.since.map(|seconds| Timestamp(seconds.saturating_mul(1_000_000))),
        before: query
            .before
            .as_deref()
            .map(|text| id(text, "before", "call", CallId::parse))
            .transpose()?,
        limit,
    };
    app.pipeline.flush().await?;
    let rows = app.store.calls(filter).await?;
    let has_more = rows.len() >= limit;
    Ok(Json(Calls { data: rows.into_iter().map(CallView::of).collect(), has_more }))
}

fn id<T>(
    text: &str,
    param: &'static str,
    what: &str,
    parse: fn(&str) -> Option<T>,
) -> Result<T, ApiFailure> {
    parse(text).ok_or_else(|| {
        ApiFailure(types::Failure::invalid(param, format!("\"{text}\" is no id of a {what}")))
    })
}

fn metadata(text: &str) -> Result<Metadata, ApiFailure> {
    Metadata::parse(text.as_bytes())
        .map_err(|wrong| ApiFailure(types::Failure::invalid("metadata", wrong.to_string())))
}

/// One Call: a row per attempt, oldest first.
#[utoipa::path(get, path = "/api/calls/{id}", responses((status = 200, body = Calls), (status = 404, body = ApiError)))]
pub(crate) async fn get(
    State(app): Shared,
    operator: Operator,
    Path(text): Path<String>,
) -> Result<Json<Calls>, ApiFailure> {
    let call = CallId::parse(&text).ok_or_else(|| not_found("call", &text))?;
    app.pipeline.flush().await?;
    let mut rows = app.store.call(&call).await?;
    rows.retain(|row| row.account.as_str() == &*operator.0.account);
    if rows.is_empty() {
        return Err(not_found("call", &text));
    }
    Ok(Json(Calls { data: rows.into_iter().map(CallView::of).collect(), has_more: false }))
}
