//! What a limit on rate may be: it counts something, over a length of time that memory can hold.

use std::time::Duration;

use pipeline::rates::{
    PER_MAX, PER_MIN, QUEUE_CALLS_MAX, QUEUE_TIME_MAX, RATE_LIMITS_MAX, WEIGHT_MAX,
};

use super::super::{Problems, RateLimitEntry};
use super::names;

/// Adds every problem.
pub(crate) fn all(limits: &[RateLimitEntry], problems: &mut Problems) {
    names("rate_limits", limits.iter().map(|limit| limit.name.as_str()), problems);
    if limits.len() > RATE_LIMITS_MAX {
        problems.add("rate_limits", format!("are more than {RATE_LIMITS_MAX}"));
    }
    for (index, limit) in limits.iter().enumerate() {
        one(limit, &|field: &str| format!("rate_limits[{index}].{field}"), problems);
    }
}

fn one(limit: &RateLimitEntry, at: &dyn Fn(&str) -> String, problems: &mut Problems) {
    let most = limit.most();
    for (kind, _) in most.iter().filter(|(_, most)| *most == 0) {
        problems.add(at(kind.name()), "must be more than 0: a limit of 0 lets nobody in");
    }
    if limit.concurrency == Some(0) {
        problems.add(at("concurrency"), "must be at least 1: a limit of 0 lets nobody in");
    }
    if most.is_empty() && limit.concurrency.is_none() {
        let message = "limits nothing: set requests, tokens, input_tokens, output_tokens, cost_usd \
                       or concurrency";
        problems.add(at("name"), message);
    }
    match limit.per {
        None if !most.is_empty() => {
            problems.add(at("per"), "is missing: the length of time, as in \"1m\"");
        }
        Some(_) if most.is_empty() => {
            problems
                .add(at("per"), "means nothing where only concurrency is limited: leave it out");
        }
        Some(per) if !(PER_MIN..=PER_MAX).contains(&per) => {
            let days = PER_MAX.as_secs() / 86_400;
            let message = format!("must be {PER_MIN:?} to {days} days; what is longer is a budget");
            problems.add(at("per"), message);
        }
        Some(_) | None => {}
    }
    let Some(queue) = &limit.queue else { return };
    if queue.calls == 0 || queue.calls > QUEUE_CALLS_MAX {
        problems.add(at("queue.calls"), format!("must be 1 to {QUEUE_CALLS_MAX}"));
    }
    if queue.time == Duration::ZERO || queue.time > QUEUE_TIME_MAX {
        problems
            .add(at("queue.time"), format!("must be longer than 0 and at most {QUEUE_TIME_MAX:?}"));
    }
    for (class, _) in queue.weights.iter().filter(|(_, weight)| !(1..=WEIGHT_MAX).contains(*weight))
    {
        problems.add(at(&format!("queue.weights.{class}")), format!("must be 1 to {WEIGHT_MAX}"));
    }
}
