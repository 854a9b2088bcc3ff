//! Budgets: `GET|POST /api/budgets`, `DELETE /api/budgets/{id}`,
//! `POST /api/budgets/{id}/reconcile`, `POST /api/budgets/{id}/top-up`.
#![expect(
    unused_qualifications,
    reason = "utoipa writes the parameters' type into code of its own"
)]

use axum::extract::{Path, State};
use http::HeaderMap;
use pipeline::{AskedScope, BudgetStatus, Charged, MoreMoney, NewBudget, Reconciliation};
use serde::{Deserialize, Serialize};
use storage::budgets::Origin;
use storage::{Scope, WindowKey, WindowKind, Zone};
use types::ids::BudgetId;
use types::{Failure, Money};
use utoipa::{IntoParams, ToSchema};

use super::keys::Deleted;
use super::{ApiError, ApiFailure, Json, Operator, Parameters, Shared, not_found};

/// What tells a request from others.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A budget with the amounts of its window, in dollars.
#[derive(Serialize, ToSchema)]
pub(crate) struct BudgetView {
    /// Its id.
    id: String,
    /// `"account"`, `{"session": id}` (of the session that forks descend from),
    /// `{"metadata": {"name": …, "value": …}}`, or `{KIND: name}` with one of `key`, `user`,
    /// `task`, `class`, `route`, `gateway`, `model` and `provider`; of a rule `{"each": "user"}`.
    #[schema(value_type = Object)]
    scope: Scope,
    /// Where the scope is another one than was asked for: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// `total`, `hour`, `day`, `week`, `month` or `{"rolling": "24h"}`.
    #[schema(value_type = Object)]
    window: WindowKind,
    /// Where an hour, a day, a week or a month is told.
    #[schema(value_type = String)]
    time_zone: Zone,
    /// The second at which the window began, of a rolling one its newest cell; 0 for a total.
    window_start: i64,
    /// The second at which it ends, of a rolling one its newest cell.
    window_end: Option<i64>,
    /// The limit.
    #[schema(value_type = String)]
    limit_usd: Money,
    /// Cost by reported usage.
    #[schema(value_type = String)]
    settled_usd: Money,
    /// Known attempts whose usage is unknown, at what was reserved.
    #[schema(value_type = String)]
    unreconciled_usd: Money,
    /// Escrow that was open at a crash.
    #[schema(value_type = String)]
    presumed_usd: Money,
    /// Calls in flight.
    #[schema(value_type = String)]
    reserved_usd: Money,
    /// The rest of the limit.
    #[schema(value_type = String)]
    free_usd: Money,
    /// Of that: in no slice.
    #[schema(value_type = String)]
    unclaimed_usd: Money,
    /// `file` or `api`.
    origin: String,
    /// Raised by one at each change.
    version: u64,
    /// The rule that made it, if one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

impl BudgetView {
    fn of(status: &BudgetStatus) -> Self {
        let budget = &status.budget;
        Self {
            id: budget.id.to_string(),
            scope: budget.scope.clone(),
            note: None,
            window: budget.window,
            time_zone: budget.zone.clone(),
            window_start: status.window.0,
            window_end: status.ends_at.map(types::Timestamp::seconds),
            limit_usd: budget.limit,
            settled_usd: status.settled,
            unreconciled_usd: status.unreconciled,
            presumed_usd: status.presumed,
            reserved_usd: status.reserved,
            free_usd: status.free,
            unclaimed_usd: status.unclaimed,
            origin: super::config::origin(budget.origin).to_owned(),
            version: budget.version,
            rule: budget.rule.as_ref().map(ToString::to_string),
        }
    }
}

/// Budgets.
#[derive(Serialize, ToSchema)]
pub(crate) struct BudgetList {
    /// All of the account, by id.
    data: Vec<BudgetView>,
}

/// Budgets of a rule in one answer at most.
const PAGE_MAX: usize = 1_000;

/// Which budgets are listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetQuery {
    /// Those that this rule has made, a page of them; else all but what rules have made.
    rule: Option<String>,
    /// With a rule: those after this id.
    after: Option<String>,
    /// With a rule: at most so many; 1,000 unless it is less.
    limit: Option<usize>,
}

/// All budgets with their amounts; or those that a rule has made.
#[utoipa::path(get, path = "/api/budgets", params(BudgetQuery), responses((status = 200, body = BudgetList), (status = 404, body = ApiError)))]
pub(crate) async fn list(
    State(app): Shared,
    operator: Operator,
    Parameters(query): Parameters<BudgetQuery>,
) -> Result<axum::Json<BudgetList>, ApiFailure> {
    if let Some(rule) = query.rule {
        let id = |text: String| BudgetId::parse(&text).ok_or_else(|| not_found("budget", &text));
        let (rule, after) = (id(rule)?, query.after.map(id).transpose()?);
        let page = (after.as_ref(), query.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX));
        let all = app.pipeline.rule_status(&operator.0.account, &rule, page).await?;
        return Ok(axum::Json(BudgetList { data: all.iter().map(BudgetView::of).collect() }));
    }
    let all = app.pipeline.budget_status(&operator.0.account).await?;
    Ok(axum::Json(BudgetList { data: all.iter().map(BudgetView::of).collect() }))
}

/// A budget to make or change: one per scope and window.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetCreate {
    /// `"account"`, `{"session": id}`, `{"session": name}` with the `key` or the `user` whose
    /// session it is (needed where keys are of several users), `{"metadata": {"name": …, "value":
    /// …}}`, or `{KIND: name}` with one of `key`, `user`, `task`, `class`, `route`, `gateway`,
    /// `model` and `provider`.
    #[schema(value_type = Object)]
    scope: ScopeText,
    /// Dollars, as a decimal string.
    #[schema(value_type = String)]
    limit_usd: Money,
    /// `total` (default), `hour`, `day`, `week`, `month` or `{"rolling": "24h"}`.
    #[schema(value_type = Option<Object>)]
    window: Option<WindowKind>,
    /// Where an hour, a day, a week or a month is told, such as `Europe/Berlin`; default UTC.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    time_zone: Zone,
}

/// A scope as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum ScopeText {
    /// `"account"`.
    Word(String),
    /// A session's name with its key or user.
    Session(SessionFields),
    /// One kind with its name.
    Of(Scope),
    /// Anything else.
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionFields {
    session: String,
    key: Option<String>,
    user: Option<String>,
}

/// What a scope can be.
const SCOPES: &str = r#"give "account", {"session": id}, {"session": name} with its key or user, {"metadata": {"name": name, "value": value}}, or {KIND: name} with one of key, user, task, class, route, gateway, model and provider; {"each": what} with one of user, key, session, task, model and {"metadata": name} makes a budget for each value"#;

impl ScopeText {
    fn asked(self) -> Result<AskedScope, ApiFailure> {
        match self {
            Self::Word(word) if word == "account" => Ok(AskedScope::Account),
            Self::Session(SessionFields { session, key, user }) => {
                Ok(AskedScope::Session { session, key, user })
            }
            Self::Of(Scope::Key(key)) => Ok(AskedScope::Key(key)),
            Self::Of(scope) => Ok(AskedScope::Of(scope)),
            Self::Word(_) | Self::Other(_) => Err(ApiFailure(Failure::invalid("scope", SCOPES))),
        }
    }
}

/// Makes a budget, or changes the limit of the one of this scope and window.
#[utoipa::path(post, path = "/api/budgets", request_body = BudgetCreate, responses((status = 200, body = BudgetView), (status = 400, body = ApiError)))]
pub(crate) async fn create(
    State(app): Shared,
    operator: Operator,
    Json(create): Json<BudgetCreate>,
) -> Result<axum::Json<BudgetView>, ApiFailure> {
    let window = create.window.unwrap_or(WindowKind::Total);
    let wrong = |message| ApiFailure(Failure::invalid("time_zone", message));
    window.check_zone(&create.time_zone).map_err(wrong)?;
    let found = app.directory.scope(&operator.0.account, create.scope.asked()?).await?;
    let new = NewBudget {
        account: operator.0.account.to_string(),
        scope: found.scope,
        limit: create.limit_usd,
        window,
        zone: create.time_zone,
        origin: Origin::Api,
    };
    let budget = app.directory.put_budget(new).await?;
    let status = app.pipeline.one_budget_status(&operator.0.account, &budget.id).await?;
    Ok(axum::Json(BudgetView { note: found.note, ..BudgetView::of(&status) }))
}

/// Removes a budget.
#[utoipa::path(delete, path = "/api/budgets/{id}", responses((status = 200, body = Deleted), (status = 404, body = ApiError)))]
pub(crate) async fn delete(
    State(app): Shared,
    operator: Operator,
    Path(text): Path<String>,
) -> Result<axum::Json<Deleted>, ApiFailure> {
    let id = BudgetId::parse(&text).ok_or_else(|| not_found("budget", &text))?;
    let deleted = app.directory.delete_budget(&operator.0.account, &id).await?;
    if deleted {
        Ok(axum::Json(Deleted { id: text, deleted }))
    } else {
        Err(not_found("budget", &text))
    }
}

/// Money that is put to what a budget in total allows.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopUpRequest {
    /// Dollars, as a decimal string.
    #[schema(value_type = String)]
    amount_usd: Money,
}

/// Raises the limit of a budget in total. The same `Idempotency-Key` again raises it no more.
#[utoipa::path(post, path = "/api/budgets/{id}/top-up", request_body = TopUpRequest, responses((status = 200, body = BudgetView), (status = 400, body = ApiError), (status = 404, body = ApiError), (status = 409, body = ApiError)))]
pub(crate) async fn top_up(
    State(app): Shared,
    operator: Operator,
    Path(text): Path<String>,
    headers: HeaderMap,
    Json(request): Json<TopUpRequest>,
) -> Result<axum::Json<BudgetView>, ApiFailure> {
    let id = BudgetId::parse(&text).ok_or_else(|| not_found("budget", &text))?;
    let key = headers.get(IDEMPOTENCY_KEY).map(|key| key.to_str().map(str::to_owned));
    let wrong = |_| Failure::invalid(IDEMPOTENCY_KEY, "must be visible ASCII");
    let key = key.transpose().map_err(wrong).map_err(ApiFailure)?;
    let (amount, operator_name) = (request.amount_usd, operator.0.key_name.to_string());
    let asked = MoreMoney { amount, key, operator: operator_name };
    let status = app.pipeline.top_up(&operator.0.account, &id, asked).await?;
    Ok(axum::Json(BudgetView::of(&status)))
}

/// What the provider really charged, in dollars.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReconcileRequest {
    /// The second at which the window began; absent = the one that the budget is in.
    window: Option<i64>,
    /// Of what is presumed; the rest is freed.
    #[schema(value_type = Option<String>)]
    presumed_charged_usd: Option<Money>,
    /// Of what is unreconciled; the rest is freed.
    #[schema(value_type = Option<String>)]
    unreconciled_charged_usd: Option<Money>,
    /// What was presumed when it was looked at: so much is moved, and what has come since stays. A
    /// 409 if less is there. Absent = all that is there.
    #[schema(value_type = Option<String>)]
    presumed_seen_usd: Option<Money>,
    /// What was unreconciled when it was looked at, likewise.
    #[schema(value_type = Option<String>)]
    unreconciled_seen_usd: Option<Money>,
}

/// Moves what was really charged to `settled` and frees the rest.
#[utoipa::path(post, path = "/api/budgets/{id}/reconcile", request_body = ReconcileRequest, responses((status = 200, body = BudgetView), (status = 404, body = ApiError)))]
pub(crate) async fn reconcile(
    State(app): Shared,
    operator: Operator,
    Path(text): Path<String>,
    Json(request): Json<ReconcileRequest>,
) -> Result<axum::Json<BudgetView>, ApiFailure> {
    if request.presumed_charged_usd.is_none() && request.unreconciled_charged_usd.is_none() {
        let message = "give presumed_charged_usd, unreconciled_charged_usd or both";
        return Err(ApiFailure(Failure::invalid("presumed_charged_usd", message)));
    }
    let part = |name, charged: Option<Money>, seen: Option<Money>| match (charged, seen) {
        (Some(charged), seen) => Ok(Some(Charged { charged, seen })),
        (None, Some(_)) => {
            let message = "give what was charged of it, too";
            Err(ApiFailure(Failure::invalid(name, message)))
        }
        (None, None) => Ok(None),
    };
    let ReconcileRequest { presumed_charged_usd, presumed_seen_usd, .. } = request;
    let ReconcileRequest { unreconciled_charged_usd, unreconciled_seen_usd, .. } = request;
    let reconciliation = Reconciliation {
        budget: BudgetId::parse(&text).ok_or_else(|| not_found("budget", &text))?,
        window: request.window.map(WindowKey),
        presumed: part("presumed_charged_usd", presumed_charged_usd, presumed_seen_usd)?,
        unreconciled: part(
            "unreconciled_charged_usd",
            unreconciled_charged_usd,
            unreconciled_seen_usd,
        )?,
        operator: operator.0.key_name.to_string(),
    };
    let status = app.pipeline.reconcile(&operator.0.account, reconciliation).await?;
    Ok(axum::Json(BudgetView::of(&status)))
}
