//! Limits on what callers may do in a length of time: `GET /api/rate-limits`.

use axum::Json;
use axum::extract::State;
use pipeline::rates::{Kind, RateLimitStatus, RateScope};
use serde::Serialize;
use types::Money;
use utoipa::ToSchema;

use super::{Operator, Shared};

/// A limit with what it has counted since the start.
#[derive(Serialize, ToSchema)]
pub(crate) struct RateLimitView {
    /// Its name.
    name: String,
    /// Whose Calls it counts: all that is said must hold; nothing = all of the account.
    scope: ScopeView,
    /// Whom of these it counts apart: `key`, `user`, `session` or `task`.
    each: Option<&'static str>,
    /// What it counts, and how much of that is used or held for Calls that run.
    amounts: Vec<AmountView>,
    /// The length of time, in seconds.
    per_seconds: f64,
    /// `sliding` or `fixed`.
    technique: &'static str,
    /// The most Calls that run at once.
    concurrency: Option<u32>,
    /// Calls that run; `null` where it counts some apart.
    running: Option<u32>,
    /// Calls that may wait at most; `null` = none.
    queue_calls: Option<u32>,
    /// How long each may, in seconds.
    queue_seconds: Option<f64>,
    /// Calls that wait.
    waiting: u32,
    /// How many it counts apart.
    counted_apart: Option<usize>,
    /// Calls that it refused since the start.
    refused: u64,
}

/// Whose Calls.
#[derive(Serialize, ToSchema)]
pub(crate) struct ScopeView {
    /// The key of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// This user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Of this request class.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    /// Those that ask for this model or route.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
}

/// An amount.
#[derive(Serialize, ToSchema)]
pub(crate) struct AmountView {
    /// `requests`, `tokens`, `input_tokens`, `output_tokens` or `cost_usd`.
    kind: &'static str,
    /// The most; dollars as a decimal string for `cost_usd`, else a number.
    limit: String,
    /// What counts now; `null` where it counts some apart.
    used: Option<String>,
}

impl RateLimitView {
    fn of(status: RateLimitStatus) -> Self {
        let limit = status.limit;
        let RateScope { key, user, class, model } = limit.scope;
        let used = |kind: Kind| status.used.iter().find(|it| it.kind == kind).map(|it| it.used);
        let amounts = limit.most.iter().map(|(kind, most)| AmountView {
            kind: kind.name(),
            limit: written(*kind, *most),
            used: used(*kind).map(|used| written(*kind, used)),
        });
        Self {
            amounts: amounts.collect(),
            scope: ScopeView { key, user, class, model },
            each: limit.each.map(pipeline::rates::Each::name),
            per_seconds: limit.per.as_secs_f64(),
            technique: limit.technique.name(),
            concurrency: limit.concurrency,
            running: status.running,
            queue_calls: limit.queue.as_ref().map(|queue| queue.calls),
            queue_seconds: limit.queue.as_ref().map(|queue| queue.time.as_secs_f64()),
            waiting: status.waiting,
            counted_apart: status.counted_apart,
            refused: status.refused,
            name: limit.name,
        }
    }
}

fn written(kind: Kind, amount: u64) -> String {
    match kind {
        Kind::Cost => {
            let cost = i64::try_from(amount).unwrap_or(i64::MAX);
            Money::from_nanodollars(cost).to_string()
        }
        Kind::Requests | Kind::Tokens | Kind::InputTokens | Kind::OutputTokens => {
            amount.to_string()
        }
    }
}

/// Limits on rate.
#[derive(Serialize, ToSchema)]
pub(crate) struct RateLimitList {
    /// All of the account, by name.
    data: Vec<RateLimitView>,
}

/// All limits on rate with what they have counted. They are made in the configuration file.
#[utoipa::path(get, path = "/api/rate-limits", responses((status = 200, body = RateLimitList)))]
pub(crate) async fn list(State(app): Shared, operator: Operator) -> Json<RateLimitList> {
    let all = app.directory.rates().status(&operator.0.account, app.clock.monotonic());
    Json(RateLimitList { data: all.into_iter().map(RateLimitView::of).collect() })
}
