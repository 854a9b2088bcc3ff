//! What clients are told when money is short: the budget, its limit, what is free, what is needed,
//! and when it ends.

use storage::{Budget, WindowKey, WindowKind};
use types::{ErrorCode, Failure, Money, Timestamp};

/// The 429 of a budget that has too little left.
pub(crate) fn exceeded(
    budget: &Budget,
    window: WindowKey,
    free: Money,
    needed: Money,
    now: Timestamp,
) -> Failure {
    let what = describe(budget);
    let limit = budget.limit;
    let message = format!(
        "{what} has ${free} free of its limit of ${limit}, and this call may cost up to ${needed}: \
         set a lower output cap, or have the limit raised"
    );
    let failure = Failure::new(ErrorCode::BudgetExceeded, message);
    match budget.window_end(window) {
        Some(end) => failure.retry_after(end.since(now)),
        None => failure,
    }
}

/// A hard budget cannot hold a Call whose price nobody knows.
pub(crate) fn price_unknown(model: &str, budget: Option<&Budget>) -> Failure {
    let who = limit(budget);
    let message = format!(
        "the model `{model}` has no price for its input and output tokens, and {who} is a hard limit: \
         price it in the configuration, or with `holdfast models add` (a price of 0 marks it free)"
    );
    Failure { param: Some("model".into()), ..Failure::new(ErrorCode::PriceUnknown, message) }
}

/// Nor one that writes to a prompt cache at a price that nobody knows: such tokens cost more than
/// others.
pub(crate) fn cache_price_unknown(model: &str, setting: &str, budget: Option<&Budget>) -> Failure {
    let who = limit(budget);
    let message = format!(
        "the request marks parts to be kept in a prompt cache, the model `{model}` has no price for \
         tokens written there for so long, and {who} is a hard limit: set `{setting}` in the \
         model's price in the configuration, or leave the marks out"
    );
    Failure { param: Some("model".into()), ..Failure::new(ErrorCode::PriceUnknown, message) }
}

/// What must not be passed: a budget, or what the request itself allows.
fn limit(budget: Option<&Budget>) -> String {
    budget.map_or_else(|| "the header holdfast-budget".to_owned(), describe)
}

/// A hard budget cannot hold a Call that is billed by rates that nobody knows.
pub(crate) fn surcharge(field: &'static str, model: &str) -> Failure {
    let message = format!(
        "nobody can say beforehand what `{field}` costs with `{model}` (its tokens can't be \
         counted, or have other rates), so that no hard budget can hold it: leave it out, or use a \
         key without a budget"
    );
    Failure::unsupported(field, message)
}

/// `budget bud_… (key `ci`, per day)`.
fn describe(budget: &Budget) -> String {
    let window = match budget.window {
        WindowKind::Total => "in total".to_owned(),
        WindowKind::Rolling(length) => format!("in any {length}"),
        WindowKind::Hour | WindowKind::Day | WindowKind::Week | WindowKind::Month => {
            let zone = (!budget.zone.is_utc()).then(|| format!(" in {}", budget.zone.name()));
            format!("per {}{}", budget.window, zone.unwrap_or_default())
        }
    };
    format!("budget {} ({}, {window})", budget.id, budget.scope)
}
