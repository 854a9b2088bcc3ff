//! How a route decided who answers, for doors whose API has words for it.
//!
//! The words are those of Cloudflare's Auto Router where what they say is so; else they say by what
//! the route goes. <https://developers.cloudflare.com/ai-gateway/features/auto-router/>

use pipeline::Answer;
use serde_json::Value;
use types::call::Target;
use types::{Call, Notes};

/// That a route decided, and why so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Routed {
    /// The reason as one word.
    pub(crate) reason: &'static str,
}

/// What is to be said of an answer; `None` where a model was asked for by its own name.
pub(super) fn of(answer: &Answer) -> Option<Routed> {
    let (call, target) = (&*answer.call, &**answer.target());
    if *call.plan.name == *target.name {
        return None;
    }
    Some(Routed { reason: reason(call, target) })
}

fn reason(call: &Call, target: &Target) -> &'static str {
    let targets = &call.plan.targets;
    if targets.first().is_some_and(|first| first.name != target.name) {
        return "fallback_candidate_unavailable";
    }
    if targets.len() == 1 {
        return "forced_by_candidate_pool";
    }
    by(&call.notes)
}

/// By what the targets were put into their order, as the notes tell it.
fn by(notes: &Notes) -> &'static str {
    let auto = notes.get("auto").and_then(|note| note.get("reasons")?.get(0)?.as_str());
    let order = notes.get("route").and_then(|note| note.get("by")).and_then(Value::as_str);
    match (auto, order.unwrap_or_default()) {
        (Some("task"), _) => "pinned_by_turn",
        (Some("header"), _) => "asked_by_tier",
        (Some(_), _) => "cost_optimal_within_pool",
        (None, by) if by.contains("pinned") || by.contains("sticky") => "pinned_by_turn",
        (None, by) if by.contains("price") => "cost_optimal_within_pool",
        (None, by) if by.contains("latency") => "ordered_by_latency",
        (None, by) if by.contains("health") => "ordered_by_health",
        (None, by) if by.contains("weight") => "split_by_weight",
        (None, _) => "first_listed",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_reason_is_what_the_notes_tell() {
        let noted = |name: &str, note: Value| {
            let mut notes = Notes::default();
            notes.set(name, note);
            by(&notes)
        };
        assert_eq!(by(&Notes::default()), "first_listed");
        for (order, reason) in [
            ("price", "cost_optimal_within_pool"),
            ("price, pinned", "pinned_by_turn"),
            ("sticky", "pinned_by_turn"),
            ("weight", "split_by_weight"),
            ("latency: tries an unknown one", "ordered_by_latency"),
            ("health", "ordered_by_health"),
        ] {
            assert_eq!(noted("route", json!({ "by": order })), reason, "{order}");
        }
        for (rule, reason) in [
            ("task", "pinned_by_turn"),
            ("header", "asked_by_tier"),
            ("length", "cost_optimal_within_pool"),
        ] {
            let note = json!({ "tier": "cheap", "reasons": [rule] });
            assert_eq!(noted("auto", note), reason, "{rule}");
        }
    }
}
