//! What a route does with a history that grows: between route and execute, for each target.
//!
//! A request below every threshold passes as it came, unparsed. Else its history is [replayed], and
//! what is told to a target is the history with old results of tools cleared and old turns
//! summarised; a target with another window may be told something else. Invariants: what is told is
//! smaller than what was reserved for; a summary is paid for beside the Call that wants it, never
//! out of its money; a Call whose summary can't be had goes on without it, and says so.
//!
//! [replayed]: replay

mod edit;
mod replay;
mod summary;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use storage::Budget;
use types::call::{CallKind, ModelCall, Operation, Target};
use types::context::ContextPolicy;
use types::conversation::Conversation;
use types::ids::CallId;
use types::{Call, ErrorCode, Money, Notes, estimate};

use crate::route::Route;
use crate::run::Pipeline;
use replay::{Crossing, Limits, Outcome, replay};
pub(crate) use summary::Summaries;
use summary::{Found, Wish};

/// What was done with the history of a Call before a target was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextNote {
    /// Results of tools that were cleared.
    pub cleared: usize,
    /// Messages that a summary stands for.
    pub compacted: usize,
    /// Tokens of the whole history, estimated.
    pub before: u64,
    /// Tokens of what was told, estimated.
    pub after: u64,
    /// Where the summary is from, if one was due.
    pub summary: Option<SummaryNote>,
}

/// Where a summary is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SummaryNote {
    /// It was written for this Call, by this one.
    Made(CallId),
    /// It was written for an earlier request of the same history.
    Kept,
    /// It could not be had, or not the newest one: more was told than the policy says.
    Missing(ErrorCode),
}

/// As in the response header `holdfast-context`.
impl fmt::Display for ContextNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cleared, compacted, before, after, summary } = self;
        write!(f, "cleared={cleared}; compacted={compacted}; before={before}; after={after}")?;
        match summary {
            None => Ok(()),
            Some(SummaryNote::Made(call)) => write!(f, "; summary={call}"),
            Some(SummaryNote::Kept) => f.write_str("; summary=kept"),
            Some(SummaryNote::Missing(code)) => write!(f, "; summary=missing:{code}"),
        }
    }
}

impl ContextNote {
    /// As in the ledger's notes: numbers, ids and codes only.
    pub(crate) fn to_json(&self) -> Value {
        let summary = self.summary.as_ref().map(|summary| match summary {
            SummaryNote::Made(call) => call.to_string(),
            SummaryNote::Kept => "kept".to_owned(),
            SummaryNote::Missing(code) => format!("missing:{code}"),
        });
        json!({
            "cleared": self.cleared,
            "compacted": self.compacted,
            "before": self.before,
            "after": self.after,
            "summary": summary,
        })
    }
}

/// The note of a ledger row as `holdfast-context` says it.
pub fn shown(notes: &Notes) -> Option<String> {
    let note = notes.get(NOTE)?.as_object()?;
    let pairs = note.iter().filter_map(|(name, value)| match value {
        Value::String(text) => Some(format!("{name}={text}")),
        Value::Number(number) => Some(format!("{name}={number}")),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    Some(pairs.collect::<Vec<_>>().join("; "))
}

/// A Call as one target is told it, and what was done.
#[derive(Debug)]
pub(crate) struct Edited {
    pub(crate) call: Arc<Call>,
    pub(crate) note: ContextNote,
}

/// The note's name in the ledger.
pub(crate) const NOTE: &str = "context";

/// The money of a Call that may want a summary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Purse<'a> {
    /// What was charged for the Call already: counts against its caller's cap.
    pub(crate) spent: Money,
    /// The budgets in which its own money is not held yet. It is while a summary is asked for, so
    /// that the summary can't take it away.
    pub(crate) unheld: &'a [Arc<Budget>],
}

/// What summaries took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fitted {
    /// What they were charged.
    pub(crate) charged: Money,
    /// How long the Call waited for them.
    pub(crate) took: Duration,
}

/// Fits what each candidate is told to its window. Answers what summaries took.
///
/// Dropping the future cancels a summary that is being made.
pub(crate) async fn fit(
    pipeline: &Pipeline,
    call: &Arc<Call>,
    candidates: &mut [Route],
    purse: Purse<'_>,
) -> Fitted {
    let Some(policy) = &call.plan.policy.context else { return Fitted::default() };
    let Some(model) = call.model().filter(|model| model.operation == Operation::Chat) else {
        return Fitted::default();
    };
    let dearest = candidates.iter().map(|route| route.terms.amount).max().unwrap_or_default();
    let began = pipeline.parts.clock.monotonic();
    let is_well = |route: &&Route| !pipeline.shared.health.is_open(&route.target.name, began);
    let first = candidates.iter().find(is_well).or_else(|| candidates.first());
    let Some(first) = first.map(|route| Arc::clone(&route.target)) else {
        return Fitted::default();
    };
    let mut charged = Money::ZERO;
    let mut done: Vec<(Limits, Option<Arc<Edited>>)> = Vec::new();
    for route in candidates {
        let limits = limits(policy, &route.target);
        if !may_cross(&limits, model) {
            continue;
        }
        let known = done.iter().find(|(of, _)| *of == limits).map(|(_, edited)| edited.clone());
        let edited = match known {
            Some(edited) => edited,
            None => {
                // A fallback that is never asked is not worth a summary of its own.
                let may_ask = Arc::ptr_eq(&route.target, &first);
                let own = dearest.saturating_add(purse.spent).saturating_add(charged);
                let left = call.budget.map(|budget| budget.minus_or_zero(own));
                let own = (purse.unheld, dearest);
                let asks = Asks { pipeline, call, policy, may_ask, left, own };
                let (edited, cost) = asks.edited(&limits).await;
                charged = charged.saturating_add(cost);
                done.push((limits, edited.clone()));
                edited
            }
        };
        route.edited = edited;
    }
    let took = pipeline.parts.clock.monotonic().saturating_sub(began);
    Fitted { charged, took }
}

/// The policy's thresholds for one target.
fn limits(policy: &ContextPolicy, target: &Target) -> Limits {
    let window = target.context_tokens;
    let clear = policy.clear.as_ref();
    let compact = policy.compact.as_ref();
    Limits {
        clear_at: clear.and_then(|clear| clear.at.for_window(window)),
        keep_results: clear.map_or(0, |clear| clear.keep_results),
        clear_at_least: clear.map_or(0, |clear| clear.at_least_tokens),
        exclude: clear.map(|clear| clear.exclude_tools.clone()).unwrap_or_default(),
        compact_at: compact.and_then(|compact| compact.at.for_window(window)),
        keep_tokens: compact.map_or(0, |compact| compact.keep_tokens),
        summary_tokens: compact.map_or(0, |compact| edit::allowance(compact.summary_tokens)),
        crossings_max: None,
    }
}

/// Whether a request is large enough for any of it. Asked before it is parsed.
fn may_cross(limits: &Limits, model: &ModelCall) -> bool {
    let least = [limits.clear_at, limits.compact_at].into_iter().flatten().min();
    let most = estimate::most(model.head.body_bytes, model.head.media);
    least.is_some_and(|least| most > least)
}

/// A Call that may want a summary.
struct Asks<'a> {
    pipeline: &'a Pipeline,
    call: &'a Arc<Call>,
    policy: &'a ContextPolicy,
    may_ask: bool,
    left: Option<Money>,
    /// Its own money, as in [`Wish::own`].
    own: (&'a [Arc<Budget>], Money),
}

impl Asks<'_> {
    /// The Call as a target with these limits is told it, if that is not as it came; and what the
    /// summary was charged.
    async fn edited(&self, limits: &Limits) -> (Option<Arc<Edited>>, Money) {
        let Some(model) = self.call.model() else { return (None, Money::ZERO) };
        // What can't be parsed is refused where it is rendered, or passes through.
        let Ok(conversation) = model.neutral() else { return (None, Money::ZERO) };
        let outcome = replay(&conversation, limits);
        let mut found = Found::default();
        let asked = self.policy.compact.as_ref().filter(|_| !outcome.crossings.is_empty());
        if let Some(policy) = asked {
            let (may_ask, left, own) = (self.may_ask, self.left, self.own);
            let (conversation, outcome) = (&conversation, &outcome);
            let wish = Wish { policy, conversation, outcome, may_ask, left, own };
            found = self.pipeline.shared.summaries.find(self.pipeline, self.call, wish).await;
        }
        let charged = found.charged;
        let has = found.summary.as_ref().map_or(0, |(number, _)| number + 1);
        // Without the newest summary more of the history is told: as it stood before that one.
        let outcome = match has == outcome.crossings.len() {
            true => outcome,
            false => {
                let limits = Limits { crossings_max: Some(has), ..limits.clone() };
                replay(&conversation, &limits)
            }
        };
        (edited_call(self.call, model, &conversation, (outcome, found)).map(Arc::new), charged)
    }
}

fn edited_call(
    call: &Call,
    model: &ModelCall,
    conversation: &Conversation,
    (outcome, found): (Outcome, Found),
) -> Option<Edited> {
    if outcome.cleared.is_empty() && outcome.crossings.is_empty() && found.note.is_none() {
        return None;
    }
    let crossing: Option<Crossing> = outcome.crossings.last().copied();
    let text = found.summary.as_ref().map(|(_, text)| &**text);
    let told = edit::edited(conversation, &outcome, crossing.zip(text));
    let cut = crossing.map_or(0, |crossing| crossing.cut);
    let note = ContextNote {
        cleared: outcome.cleared.iter().filter(|(message, _)| *message >= cut).count(),
        compacted: conversation.messages.len()
            + usize::from(crossing.is_some_and(|crossing| {
                // A summary that could not be joined to a user's message is one of its own.
                crossing.kept.is_none() && told_alone(conversation, crossing)
            }))
            - told.messages.len(),
        before: outcome.before,
        after: estimate::tokens(&told),
        summary: found.note,
    };
    let kind = ModelCall::from_neutral(model.format, model.head.clone(), Arc::new(told));
    let kind = CallKind::Model(kind.with_wire(model.wire.clone()));
    Some(Edited { call: Arc::new(with_kind(call, kind)), note })
}

/// Whether the summary stands in a message of its own.
fn told_alone(conversation: &Conversation, crossing: Crossing) -> bool {
    use types::conversation::Role;
    conversation.messages.get(crossing.cut).is_some_and(|message| message.role != Role::User)
}

/// The same Call, asking something else.
pub(crate) fn with_kind(call: &Call, kind: CallKind) -> Call {
    Call {
        id: call.id.clone(),
        parent: call.parent.clone(),
        principal: Arc::clone(&call.principal),
        session: call.session.clone(),
        session_root: call.session_root.clone(),
        step: call.step.clone(),
        task: Arc::clone(&call.task),
        class: Arc::clone(&call.class),
        door: call.door,
        gateway: call.gateway.clone(),
        metadata: call.metadata.clone(),
        trace: call.trace,
        notes: call.notes.clone(),
        budget: call.budget,
        deadline: call.deadline,
        time: call.time,
        asks: call.asks.clone(),
        pins: call.pins.clone(),
        started_at: call.started_at,
        started: call.started,
        plan: Arc::clone(&call.plan),
        kind,
    }
}

#[cfg(test)]
mod tests;
