//! Which tier of a route's targets a Call is for: by rules, and by a small classifier.
//!
//! It only orders the targets that were chosen, so that the other tier is still there if one fails.
//! What is read of a request is bounded, and so is the time that it takes: a body beyond
//! [`BODY_BYTES_MAX`] is a hard task's without being parsed. Every decision says its score and what
//! spoke for it, by names of groups of features. Invariants: not a word of a prompt leaves this
//! module; a Call whose route has no tiers comes by here without a step.

pub mod features;
pub mod model;
pub(crate) mod opinion;
pub(crate) mod tally;

use std::sync::Arc;

use serde_json::{Map, Value, json};
use types::auto::{AutoPolicy, Tier};
use types::call::{ModelCall, Operation, Target};
use types::conversation::{Conversation, Effort};
use types::{Call, Clock, Money, Notes, Usage};

use features::{Features, Group};
use model::Model;
pub(crate) use tally::Tiers;
use tally::{Key, KeyOf};
pub use tally::{Opinions, RouteTally, Saved, Took};

/// A body of so many bytes is a hard task's: it is not parsed to find that out.
pub const BODY_BYTES_MAX: u64 = 256 * 1024;
/// Results of tools of late that say that something failed, from which on a task is hard.
pub const FAILURES: usize = 2;
/// Groups of features that are told.
const REASONS: usize = 3;
/// The notes' names in the ledger.
const NOTE: &str = "auto";
/// The reason of what its caller wished.
const HEADER: &str = "header";
/// The reason of what stays where its task was.
const TASK: &str = "task";
const NOTE_SAVED: &str = "auto_saved";
const NOTE_WOULD_SAVE: &str = "auto_would_save";

/// Which tier a task is for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The tier.
    pub tier: Tier,
    /// How hard the task seems, 0 to 100; `None` = a rule decided, without the classifier.
    pub score: Option<u8>,
    /// What spoke for the tier most, strongest first: names of groups of features, or of a rule.
    pub reasons: Vec<&'static str>,
}

/// Which tier a Call is for, if its route has tiers; `clock` says how long that took.
pub(crate) fn decided(tiers: &Tiers, call: &Call, clock: &dyn Clock) -> Option<Decision> {
    let policy = call.plan.policy.auto.as_deref()?;
    let model = call.model().filter(|model| model.operation == Operation::Chat)?;
    let begun = clock.monotonic();
    let decision = decide(model, policy);
    let decision = match call.has_no_affinity() {
        true => decision,
        false => tiers.stick(call, decision, policy),
    };
    let took = clock.monotonic().saturating_sub(begun);
    tiers.with(&call.plan.name, |tally| tally.took.count(took));
    Some(decision)
}

impl Decision {
    /// The tier that is asked: in shadow mode the strong one, whatever was decided.
    pub(crate) fn asked(&self, policy: &AutoPolicy) -> Tier {
        if policy.shadow { Tier::Strong } else { self.tier }
    }

    /// How hard the task seems, also where a rule said so.
    pub(crate) fn score_or_rule(&self) -> u8 {
        let by_rule = if self.tier == Tier::Strong { 100 } else { 0 };
        self.score.unwrap_or(by_rule)
    }
}

/// Puts the targets of a Call into the order of the tier that was decided. Answers what is to be
/// noted.
pub(crate) fn order(
    tiers: &Tiers,
    call: &Call,
    decision: &Decision,
    targets: &mut [Arc<Target>],
) -> Option<(&'static str, Value)> {
    let policy = call.plan.policy.auto.as_deref()?;
    let asked = decision.asked(policy);
    let place = |target: &Arc<Target>| match policy.tier_of(&target.name) {
        Some(tier) => u8::from(tier != asked),
        None => 2,
    };
    targets.sort_by_key(place);
    tiers.count(&call.plan.name, decision, policy.shadow);
    Some((NOTE, note(decision, policy)))
}

fn note(decision: &Decision, policy: &AutoPolicy) -> Value {
    let Decision { tier, score, reasons } = decision;
    let mut note = Map::new();
    note.insert("tier".to_owned(), json!(tier.name()));
    if let Some(score) = score {
        note.insert("score".to_owned(), json!(score));
    }
    note.insert("reasons".to_owned(), json!(reasons));
    if policy.shadow {
        note.insert("shadow".to_owned(), json!(true));
    }
    Value::Object(note)
}

/// The note of a Call as the response header `holdfast-tier` says it.
pub fn shown(notes: &Notes) -> Option<String> {
    let note = notes.get(NOTE)?;
    let tier = note.get("tier")?.as_str()?;
    let score = note.get("score").map(|score| format!("; score={score}")).unwrap_or_default();
    let reasons = note.get("reasons").and_then(Value::as_array);
    let reasons: Vec<_> = reasons.into_iter().flatten().filter_map(Value::as_str).collect();
    let shadow = if note.get("shadow").is_some() { "; shadow" } else { "" };
    Some(format!("{tier}{score}; reasons={}{shadow}", reasons.join(",")))
}

/// Notes what the cheap tier saved by this attempt, or would have saved in shadow mode, at the
/// attempt's own usage: against the first target of the other tier whose price is known.
pub(crate) fn note_saved(
    call: &Call,
    target: &Target,
    (usage, cost): (Usage, Option<Money>),
    notes: &mut Notes,
) -> Option<Saved> {
    let policy = call.plan.policy.auto.as_deref()?;
    let tier = notes.get(NOTE)?.get("tier")?.as_str()?;
    let (cost, answered_by) = (cost?, policy.tier_of(&target.name)?);
    if tier != Tier::Cheap.name() {
        return None;
    }
    let other = |wanted: Tier| {
        let mut targets = call.plan.targets.iter();
        let price = targets.find_map(|target| {
            let price = target.price.as_ref()?;
            (policy.tier_of(&target.name)? == wanted).then_some(price)
        });
        price.map(|price| price.cost(&usage))
    };
    let (name, saved) = match (policy.shadow, answered_by) {
        (true, Tier::Strong) => {
            let amount = cost.minus_or_zero(other(Tier::Cheap)?);
            (NOTE_WOULD_SAVE, Saved { amount, shadow: true })
        }
        (false, Tier::Cheap) => {
            let amount = other(Tier::Strong)?.minus_or_zero(cost);
            (NOTE_SAVED, Saved { amount, shadow: false })
        }
        (true, Tier::Cheap) | (false, Tier::Strong) => return None,
    };
    notes.set(name, saved.amount.to_string());
    Some(saved)
}

/// A step of before a restart.
pub(crate) struct Kept<'a> {
    pub(crate) account: &'a str,
    pub(crate) route: &'a str,
    pub(crate) task: &'a str,
    /// Its Call, and that one's parent.
    pub(crate) calls: (&'a str, Option<&'a str>),
    pub(crate) session: &'a str,
}

/// Remembers that a step's task is hard, if its notes say so. What its caller wished was for that
/// Call alone.
pub(crate) fn keep(tiers: &Tiers, notes: &Notes, step: &Kept<'_>) {
    let Some(note) = notes.get(NOTE) else { return };
    let is_wish = note.get("reasons").is_some_and(|reasons| *reasons == json!([HEADER]));
    if is_wish || note.get("tier").and_then(Value::as_str) != Some(Tier::Strong.name()) {
        return;
    }
    let Kept { account, route, task, calls, session } = *step;
    if let Some(of) = KeyOf::find(task, calls, Some(session)) {
        tiers.remember(&Key { account, route, of });
    }
}

fn decide(model: &ModelCall, policy: &AutoPolicy) -> Decision {
    if let Some(tier) = policy.asked {
        return by_rule(tier, HEADER);
    }
    if model.head.body_bytes > BODY_BYTES_MAX {
        return by_rule(Tier::Strong, "long");
    }
    match model.neutral() {
        Ok(conversation) => judge(&conversation, policy.threshold),
        // It will be refused where it is sent, or it is nothing that we know.
        Err(_) => by_rule(Tier::Strong, "unread"),
    }
}

/// Which tier a conversation is for. `threshold`: the score, 1 to 100, from which on it is the
/// strong one.
pub fn judge(conversation: &Conversation, threshold: u8) -> Decision {
    if conversation.reasoning.effort.is_some_and(|effort| effort >= Effort::High) {
        return by_rule(Tier::Strong, "effort");
    }
    let found = Features::of(conversation);
    if found.failures >= FAILURES {
        return by_rule(Tier::Strong, "failures");
    }
    let judged = Model::trained().judge(&found);
    let score = judged.score();
    let tier = if score >= threshold { Tier::Strong } else { Tier::Cheap };
    let sign = if tier == Tier::Strong { 1.0 } else { -1.0 };
    let mut speaking: Vec<(f64, Group)> =
        judged.by_group().map(|(group, logit)| (logit * sign, group)).collect();
    speaking.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let for_it = speaking.into_iter().filter(|(logit, _)| *logit > 0.0);
    let mut reasons: Vec<_> = for_it.take(REASONS).map(|(_, group)| group.name()).collect();
    if reasons.is_empty() {
        reasons.push("threshold");
    }
    Decision { tier, score: Some(score), reasons }
}

fn by_rule(tier: Tier, rule: &'static str) -> Decision {
    Decision { tier, score: None, reasons: vec![rule] }
}

#[cfg(test)]
mod tests;
