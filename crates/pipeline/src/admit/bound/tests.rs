//! Caps and bounds: values in, values out. The rule with budgets around it is tested in
//! `tests/it/journey.rs`.

use std::sync::Arc;

use types::call::{Door, Plan, ToolInvocation};
use types::ids::{CallId, KeyId};
use types::principal::Role;
use types::{Ids, Principal, Timestamp};
use types::{Rate, Rates};

use super::*;

fn call(kind: CallKind, key_default: Option<u64>) -> Call {
    let ids = Ids::seeded(Arc::new(types::clock::FakeClock::new(Timestamp(0))), 1);
    let principal = Principal {
        account: Arc::from("a"),
        key: KeyId::new(&ids),
        key_name: Arc::from("k"),
        user: Arc::from("u"),
        role: Role::Member,
        output_cap_default: key_default,
    };
    Call {
        id: CallId::new(&ids),
        parent: None,
        principal: Arc::new(principal),
        session: None,
        session_root: None,
        step: None,
        task: Arc::from("t"),
        class: Arc::from("c"),
        door: Door::Session,
        gateway: None,
        metadata: types::Metadata::default(),
        trace: None,
        notes: types::Notes::default(),
        budget: None,
        deadline: None,
        time: None,
        asks: None,
        pins: Vec::new(),
        started_at: Timestamp(0),
        started: std::time::Duration::ZERO,
        plan: Arc::new(Plan {
            name: Arc::from("m"),
            targets: vec![],
            policy: types::call::RoutePolicy::default(),
        }),
        kind,
    }
}

fn tool() -> CallKind {
    CallKind::Tool(ToolInvocation {
        server: "s".to_owned(),
        tool: "t".to_owned(),
        arguments: serde_json::Value::Null,
        idempotency_key: String::new(),
    })
}

fn target(most: Option<u64>) -> Target {
    sized(most, None)
}

fn sized(most: Option<u64>, context_tokens: Option<u64>) -> Target {
    Target {
        provider: Arc::from("p"),
        name: Arc::from("p/m"),
        upstream_model: Arc::from("m"),
        format: None,
        price: None,
        output_tokens_max: most,
        context_tokens,
        lacks: types::call::Lacks::default(),
        drain: None,
    }
}

#[test]
fn a_default_cap_is_the_least_of_model_key_and_ours() {
    let cap = |most, key| default_cap(&call(tool(), key), &target(most));
    assert_eq!(cap(None, None), 32_768);
    assert_eq!(cap(Some(8_192), None), 8_192);
    assert_eq!(cap(Some(100_000), None), 32_768);
    assert_eq!(cap(Some(100_000), Some(50_000)), 50_000);
    assert_eq!(cap(Some(8_192), Some(1_000)), 1_000);
}

#[test]
fn a_default_cap_fits_the_models_context() {
    let cap = |most, context| default_cap(&call(tool(), None), &sized(most, context));
    assert_eq!(cap(None, Some(2_048)), 2_048);
    assert_eq!(cap(Some(8_192), Some(2_048)), 2_048);
    assert_eq!(cap(Some(1_024), Some(2_048)), 1_024);
    assert_eq!(cap(None, Some(1_000_000)), 32_768);
}

#[test]
fn media_count_as_many_tokens_as_the_dearest_may() {
    let head = |media| ModelHead { body_bytes: 10, media, ..ModelHead::default() };
    assert_eq!(input_tokens_max(&head(0), false), 10 + TEMPLATE_TOKENS_MAX);
    let two = 10 + TEMPLATE_TOKENS_MAX + 2 * MEDIA_TOKENS_MAX;
    assert_eq!(input_tokens_max(&head(2), false), two);
}

#[test]
fn what_nothing_limits_reserves_nothing_and_is_bounded_all_the_same() {
    let price = Price { per_request: Money::from_nanodollars(7), ..Price::free("x") };
    let priced = Target { price: Some(Arc::new(price)), ..target(None) };
    let found = unlimited(&call(tool(), None), &priced);
    assert_eq!((found.amount, found.bound), (Money::ZERO, Money::from_nanodollars(7)));
    let unknown = unlimited(&call(tool(), None), &target(None));
    assert_eq!((unknown.amount, unknown.bound), (Money::ZERO, Money::ZERO));
}

#[test]
fn a_tool_costs_its_fee() {
    let price = Price { per_request: Money::from_nanodollars(7), ..Price::free("x") };
    let terms = terms(&call(tool(), None), &target(None), &price, None);
    assert_eq!(terms, Terms::reserving(Money::from_nanodollars(7), None));
}

#[test]
fn only_a_missing_cap_with_a_price_on_output_needs_to_know_what_is_free() {
    let rates = Rates { output: Rate::from_picodollars(1), ..Rates::default() };
    let price = Price { rates, ..Price::free("x") };
    assert!(!depends_on_free(&call(tool(), None), &price));
}
