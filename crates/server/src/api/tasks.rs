//! What a task took: `GET /api/tasks[/{task}]`.
//!
//! One agent's task is many Calls, and a Call may be several attempts: what that multiplies is
//! shown by kind, in numbers, time and money, and per useful answer. Computed from the ledger when
//! asked.
#![expect(
    unused_qualifications,
    reason = "utoipa writes the parameters' type into code of its own"
)]

use std::collections::{BTreeMap, HashMap, HashSet};

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use storage::{CallFilter, LedgerRow};
use types::{Money, Timestamp};
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, ApiFailure, Operator, Parameters, Shared, not_found};

/// Rows of the ledger that are read for one answer at most.
const ROWS_MAX: usize = 20_000;
/// Rows that are read at a time.
const PAGE: usize = 1_000;
/// Tasks in one answer, unless asked for fewer or more, and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// Which tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct TasksQuery {
    /// Of Calls begun at or after this second since the epoch.
    since: Option<i64>,
    /// At most so many, up to 1,000: those that cost most.
    limit: Option<usize>,
}

/// What a task took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Task {
    /// The client's name for it, else the id of its root Call.
    task: String,
    /// When its first Call came in, in microseconds since the epoch.
    began: i64,
    /// When its last one ended.
    ended: i64,
    /// Calls of models, without those that were made for others.
    model_calls: u64,
    /// Of these: those with a whole answer.
    useful_answers: u64,
    /// Calls of tools.
    tool_calls: u64,
    /// Calls that were made for others: summaries of histories, judges.
    spawned_calls: u64,
    /// Attempts at models, all together.
    attempts: u64,
    /// Of these: after one that had failed.
    retries: u64,
    /// Of these: beside one that was slow.
    hedges: u64,
    /// Of these: whole, and taken the place of by a better one.
    rejected: u64,
    /// Of these: failed, or given up.
    failed: u64,
    /// Tokens of prompts.
    input_tokens: u64,
    /// Tokens of answers.
    output_tokens: u64,
    /// Searches that providers made.
    searches: u64,
    /// Time that attempts at models took, in microseconds, added up.
    model_us: u64,
    /// The same of tools.
    tool_us: u64,
    /// Money by reported usage.
    #[schema(value_type = String)]
    settled_usd: Money,
    /// Money of attempts of which nobody knows the usage: what was reserved.
    #[schema(value_type = String)]
    unreconciled_usd: Money,
    /// Of both together: of attempts that failed or were given up.
    #[schema(value_type = String)]
    failed_usd: Money,
    /// Of answers that a better one took the place of.
    #[schema(value_type = String)]
    rejected_usd: Money,
    /// Of Calls that were made for others.
    #[schema(value_type = String)]
    spawned_usd: Money,
    /// All of it for each useful answer, rounded up; `null` without one.
    #[schema(value_type = Option<String>)]
    usd_per_useful_answer: Option<Money>,
}

/// Tasks.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tasks {
    /// Those that cost most first.
    data: Vec<Task>,
    /// Whether there were more Calls than are looked at: then older ones are missing.
    has_more: bool,
}

/// What the tasks of the newest Calls took, the dearest first.
#[utoipa::path(get, path = "/api/tasks", params(TasksQuery), responses((status = 200, body = Tasks), (status = 400, body = ApiError)))]
pub(crate) async fn list(
    State(app): Shared,
    operator: Operator,
    Parameters(query): Parameters<TasksQuery>,
) -> Result<Json<Tasks>, ApiFailure> {
    let since = query.since.map(|seconds| Timestamp(seconds.saturating_mul(1_000_000)));
    let account = Some(operator.0.account.to_string());
    let filter = CallFilter { account, since, ..CallFilter::default() };
    let (rows, has_more) = read(&app, filter).await?;
    let mut by_task: BTreeMap<&str, Vec<&LedgerRow>> = BTreeMap::new();
    for row in &rows {
        by_task.entry(&row.task).or_default().push(row);
    }
    let mut data: Vec<Task> = by_task.iter().map(|(task, rows)| summed(task, rows)).collect();
    data.sort_by_key(|task| std::cmp::Reverse((task.money(), task.ended)));
    data.truncate(query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX));
    Ok(Json(Tasks { data, has_more }))
}

/// What one task took.
#[utoipa::path(get, path = "/api/tasks/{task}", responses((status = 200, body = Tasks), (status = 404, body = ApiError)))]
pub(crate) async fn get(
    State(app): Shared,
    operator: Operator,
    Path(task): Path<String>,
) -> Result<Json<Tasks>, ApiFailure> {
    let account = Some(operator.0.account.to_string());
    let filter = CallFilter { account, task: Some(task.clone()), ..CallFilter::default() };
    let (rows, has_more) = read(&app, filter).await?;
    if rows.is_empty() {
        return Err(not_found("task", &task));
    }
    let rows: Vec<&LedgerRow> = rows.iter().collect();
    Ok(Json(Tasks { data: vec![summed(&task, &rows)], has_more }))
}

/// The newest rows, and whether there are more.
async fn read(
    app: &crate::app::App,
    mut filter: CallFilter,
) -> Result<(Vec<LedgerRow>, bool), ApiFailure> {
    app.pipeline.flush().await?;
    filter.limit = PAGE;
    let mut rows: Vec<LedgerRow> = Vec::new();
    while rows.len() < ROWS_MAX {
        let page = app.store.calls(filter.clone()).await?;
        let is_last = page.len() < PAGE;
        filter.before = page.last().map(|row| row.call.clone());
        rows.extend(page);
        if is_last {
            return Ok((rows, false));
        }
    }
    Ok((rows, true))
}

/// What rows of one task, newest first, come to.
fn summed(task: &str, rows: &[&LedgerRow]) -> Task {
    let mut sum = Task { task: task.to_owned(), began: i64::MAX, ..Task::default() };
    let mut calls: HashMap<&str, Attempts> = HashMap::new();
    let mut others: HashSet<&str> = HashSet::new();
    // Oldest first: an attempt after a failed one is another try.
    for row in rows.iter().rev() {
        sum.take(row);
        let is_new = !others.contains(row.call.as_str());
        if row.kind == "tool" {
            sum.tool_us = sum.tool_us.saturating_add(row.target_us);
            sum.tool_calls += u64::from(is_new);
            others.insert(row.call.as_str());
        } else {
            sum.model_us = sum.model_us.saturating_add(row.target_us);
            let call = calls.entry(row.call.as_str()).or_default();
            call.spawned = row.parent.is_some() && row.step.is_none();
            sum.attempt(row, call);
        }
    }
    for call in calls.values() {
        sum.spawned_calls += u64::from(call.spawned);
        sum.model_calls += u64::from(!call.spawned);
        sum.useful_answers += u64::from(!call.spawned && call.whole > 0);
        // Of several whole answers the last one is given.
        sum.rejected += call.whole.saturating_sub(1);
        sum.rejected_usd += call.whole_usd - call.last_usd;
    }
    let answers = i64::try_from(sum.useful_answers).unwrap_or(i64::MAX);
    let all = sum.money().nanodollars();
    let each = (answers > 0).then(|| all / answers + i64::from(all % answers > 0));
    sum.usd_per_useful_answer = each.map(Money::from_nanodollars);
    sum
}

/// The attempts of one Call of a model.
#[derive(Default)]
struct Attempts {
    spawned: bool,
    failed_before: bool,
    whole: u64,
    /// What all whole answers cost, and the last of them.
    whole_usd: Money,
    last_usd: Money,
}

impl Task {
    fn money(&self) -> Money {
        self.settled_usd + self.unreconciled_usd
    }

    fn take(&mut self, row: &LedgerRow) {
        self.settled_usd += row.cost;
        self.unreconciled_usd += row.unreconciled;
        let total = i64::try_from(row.total_us).unwrap_or(i64::MAX);
        self.began = self.began.min(row.started_at.0);
        self.ended = self.ended.max(row.started_at.0.saturating_add(total));
        let Some(usage) = &row.usage else { return };
        self.input_tokens = self.input_tokens.saturating_add(usage.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(usage.output_tokens);
        self.searches = self.searches.saturating_add(usage.more.searches);
    }

    fn attempt(&mut self, row: &LedgerRow, call: &mut Attempts) {
        let money = row.cost + row.unreconciled;
        let is_hedge = row.notes.get("hedge").and_then(|note| note.as_str()) == Some("second");
        self.attempts += 1;
        self.hedges += u64::from(is_hedge);
        self.retries += u64::from(call.failed_before && !is_hedge);
        if call.spawned {
            self.spawned_usd += money;
        }
        match row.error {
            Some(_) => {
                call.failed_before |= !is_hedge;
                self.failed += 1;
                self.failed_usd += money;
            }
            None => {
                call.whole += 1;
                call.whole_usd += money;
                call.last_usd = money;
            }
        }
    }
}

#[cfg(test)]
mod tests;
