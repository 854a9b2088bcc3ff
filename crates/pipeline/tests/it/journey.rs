//! Plain Calls: from a request to its row in the ledger.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use storage::{Scope, WindowKind};
use types::call::{CallKind, ModelCall, ModelHead, Operation};
use types::clock::FakeClock;
use types::conversation::{Conversation, Message, Part, Role};
use types::error::Billed;
use types::principal::DEFAULT_ACCOUNT;
use types::{CacheWrites, ErrorCode, Failure, Money, OutcomeEvent, Price, Rate, Usage};

use super::world::{
    MORNING, NoFormat, Node, database, dollars, model, node, price, request, rows, totals, usage,
};

#[tokio::test]
async fn a_call_in_no_budgets_scope_is_recorded_and_costs_no_escrow() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let answer = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
    assert_eq!(answer.bill().output_cap, None, "no hard budget, no cap");
    let answer = node.finish(answer, Some(usage(100, 10))).await;
    assert_eq!(answer.bill().cost, Some(dollars("0.0002")));
    node.pipeline.flush().await.unwrap();
    let rows = rows(&node, &answer.call.id).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].cost, rows[0].reserved), (dollars("0.0002"), Money::ZERO));
    assert!(rows[0].charges.is_empty());
    assert_eq!(rows[0].task, answer.call.id.as_str(), "the root Call names the task");
    node.stop().await;
}

#[tokio::test]
async fn the_row_is_written_by_itself_after_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let answer = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
    let answer = node.finish(answer, Some(usage(100, 10))).await;
    // The writer begins to gather when it first runs; from then on only the clock can wake it.
    let mut written = Vec::new();
    while written.is_empty() {
        tokio::task::yield_now().await;
        node.clock.advance(Duration::from_millis(50));
        written = rows(&node, &answer.call.id).await;
    }
    assert_eq!(written[0].cost, dollars("0.0002"));
    node.stop().await;
}

#[tokio::test]
async fn what_a_call_did_not_use_is_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let limit = dollars("1.00");
    node.budget(Scope::Account, limit, WindowKind::Day).await;
    let answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    node.quiet().await;
    let status = node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap().remove(0);
    // 1,000 tokens at the dearest input price ($2 a million), 100 tokens at $10 a million.
    assert_eq!(status.reserved, dollars("0.003"));
    assert_eq!(status.free, limit - dollars("0.003"));
    node.finish(answer, Some(usage(100, 10))).await;
    let status = node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap().remove(0);
    assert_eq!((status.settled, status.reserved), (dollars("0.0002"), Money::ZERO));
    assert_eq!(status.free, limit - dollars("0.0002"));
    node.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_dropped_ends_in_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let budget = node.budget(Scope::Account, dollars("1.00"), WindowKind::Day).await;
    let mut answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    let call = answer.call.id.clone();
    Node::begin(&mut answer);
    drop(answer);
    node.pipeline.flush().await.unwrap();
    let row = rows(&node, &call).await.remove(0);
    assert_eq!((row.error, row.unreconciled), (Some(ErrorCode::Cancelled), dollars("0.003")));
    assert_eq!(totals(&node, &budget).await.unreconciled, dollars("0.003"));

    let unsent = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    let call = unsent.call.id.clone();
    drop(unsent);
    node.pipeline.flush().await.unwrap();
    let row = rows(&node, &call).await.remove(0);
    assert_eq!(row.unreconciled, Money::ZERO, "what was never polled was never sent");
    assert_eq!(totals(&node, &budget).await.unreconciled, dollars("0.003"));
    node.stop().await;
}

#[tokio::test]
async fn failures_are_charged_by_what_is_known_of_their_bill() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let budget = node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    for billed in [Billed::No, Billed::Unknown, usage(10, 1).into()] {
        let mut answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
        let failure = Failure::new(ErrorCode::StreamCut, "cut").billed(billed);
        node.tell(&answer.call.id, OutcomeEvent::Failed(Box::new(failure)));
        assert!(matches!(answer.next().await, Some(OutcomeEvent::Failed(_))));
        assert!(answer.next().await.is_none());
    }
    node.pipeline.flush().await.unwrap();
    let totals = totals(&node, &budget).await;
    assert_eq!((totals.settled, totals.unreconciled), (dollars("0.00002"), dollars("0.003")));
    node.stop().await;
}

#[tokio::test]
async fn a_bill_above_the_bound_is_recorded_and_flagged() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let budget = node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    let answer = node.finish(answer, Some(usage(10, 1_000))).await;
    assert!(answer.bill().over_bound);
    node.pipeline.flush().await.unwrap();
    assert!(rows(&node, &answer.call.id).await[0].over_bound);
    assert_eq!(totals(&node, &budget).await.settled, dollars("0.01001"));
    node.stop().await;
}

#[tokio::test]
async fn a_usage_that_cannot_be_true_neither_breaks_the_budget_nor_loses_the_row() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let budget = node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let spent = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    node.finish(spent, Some(usage(100, 10))).await;
    let absurd = 9_000_000_000_000_000_000;
    for told in [usage(absurd, absurd), usage(1, u64::MAX), usage(1_000_000_001, 1)] {
        let answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
        let answer = node.finish(answer, Some(told)).await;
        assert_eq!(answer.bill().cost, None, "nobody knows it");
        node.pipeline.flush().await.unwrap();
        let row = rows(&node, &answer.call.id).await.remove(0);
        assert_eq!((row.usage, row.unreconciled), (None, dollars("0.003")));
    }
    let status = node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap().remove(0);
    assert_eq!((status.settled, status.unreconciled), (dollars("0.0002"), dollars("0.009")));
    assert_eq!(status.free, dollars("0.9908"));
    // The budget goes on, and the most that is believed stays within what it can add up.
    let answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    let answer = node.finish(answer, Some(usage(1_000_000_000, 1_000_000_000))).await;
    assert_eq!((answer.bill().cost, answer.bill().over_bound), (Some(dollars("11000")), true));
    node.pipeline.flush().await.unwrap();
    assert_eq!(totals(&node, &budget).await.settled, dollars("11000.0002"));
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_names_budget_limit_free_and_needed() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let budget = node.budget(Scope::Key("ci".to_owned()), dollars("0.05"), WindowKind::Day).await;
    let refused = node.pipeline.run(request("ci", "paid/m", Some(10_000))).await.unwrap_err();
    let failure = &refused.failure;
    assert_eq!(failure.code, ErrorCode::BudgetExceeded);
    for part in [budget.id.as_str(), "key `ci`", "$0.05 free", "limit of $0.05", "$0.102"] {
        assert!(failure.message.contains(part), "{part} in {}", failure.message);
    }
    let (day, utc) = (WindowKind::Day, storage::Zone::UTC);
    let midnight = day.end(day.at(MORNING, &utc), &utc).unwrap();
    assert_eq!(failure.retry_after, Some(midnight.since(MORNING)));
    assert!(failure.forbids_retry());
    // Another key is not in the budget's scope.
    drop(node.pipeline.run(request("other", "paid/m", Some(10_000))).await.unwrap());
    node.stop().await;
}

#[tokio::test]
async fn a_total_names_no_time_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("0.05"), WindowKind::Total).await;
    let refused = node.pipeline.run(request("ci", "paid/m", Some(10_000))).await.unwrap_err();
    assert_eq!(refused.failure.retry_after, None);
    node.stop().await;
}

#[tokio::test]
async fn the_last_cent_can_be_spent() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    // Ten bounds of $0.003 and not a nanodollar more.
    node.budget(Scope::Account, dollars("0.03"), WindowKind::Total).await;
    let run = || node.pipeline.run(request("ci", "paid/m", Some(100)));
    let calls = futures_util::future::join_all((0..64).map(|_| run())).await;
    let (admitted, refused): (Vec<_>, Vec<_>) = calls.into_iter().partition(Result::is_ok);
    assert_eq!((admitted.len(), refused.len()), (10, 54));
    assert!(
        refused.into_iter().all(|call| call.unwrap_err().failure.code == ErrorCode::BudgetExceeded)
    );
    // A Call that ends frees what it did not use, though it was drawn from an older slice.
    let mut admitted = admitted.into_iter().map(Result::unwrap);
    node.finish(admitted.next().unwrap(), Some(usage(0, 0))).await;
    let again = run().await.unwrap();
    assert_eq!(run().await.unwrap_err().failure.code, ErrorCode::BudgetExceeded);
    drop(admitted);
    drop(again);
    node.stop().await;
}

#[tokio::test]
async fn several_budgets_are_all_held_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    node.budget(Scope::Key("ci".to_owned()), dollars("0.004"), WindowKind::Total).await;
    let first = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    let refused = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap_err();
    assert!(refused.failure.message.contains("key `ci`"), "{}", refused.failure.message);
    node.quiet().await;
    let status = node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap();
    for status in status {
        assert_eq!(status.reserved, dollars("0.003"), "{status:?}");
    }
    node.finish(first, Some(usage(1_000, 100))).await;
    node.pipeline.flush().await.unwrap();
    for status in node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap() {
        assert_eq!((status.settled, status.reserved), (dollars("0.002"), Money::ZERO));
    }
    node.stop().await;
}

#[tokio::test]
async fn each_choice_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let mut incoming = request("ci", "paid/m", Some(100));
    if let CallKind::Model(model) = &mut incoming.kind {
        model.head.choices = 5;
    }
    let answer = node.pipeline.run(incoming).await.unwrap();
    let answer = node.finish(answer, None).await;
    assert_eq!(answer.bill().cost, None);
    node.pipeline.flush().await.unwrap();
    let row = rows(&node, &answer.call.id).await.remove(0);
    assert_eq!(row.unreconciled, dollars("0.007"), "1,000 tokens in and 5 × 100 out");
    node.stop().await;
}

#[tokio::test]
async fn an_unknown_price_is_not_zero() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    // Without a hard budget it passes, at no known cost.
    let answer = node.pipeline.run(request("ci", "open/anything", None)).await.unwrap();
    assert_eq!(node.finish(answer, Some(usage(1, 1))).await.bill().cost, None);
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    for model in ["paid/unpriced", "open/anything"] {
        let refused = node.pipeline.run(request("ci", model, Some(1))).await.unwrap_err();
        assert_eq!(refused.failure.code, ErrorCode::PriceUnknown);
        assert!(refused.failure.message.contains(model), "{}", refused.failure.message);
    }
    // A local model is free until it is priced.
    let answer = node.pipeline.run(request("ci", "local/demo", None)).await.unwrap();
    assert_eq!(node.finish(answer, Some(usage(1, 1))).await.bill().cost, Some(Money::ZERO));
    node.stop().await;
}

#[tokio::test]
async fn what_is_written_to_a_cache_needs_a_price_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let known = price();
    let mut unknown = price();
    unknown.rates.cache_write = None;
    for (provider, name, price) in [
        ("spoken", "m", known),
        ("spoken", "unpriced", unknown.clone()),
        ("spoken", "free", Price::free("test@free")),
        ("paid", "other", unknown),
    ] {
        node.directory.put_model(model(provider, name, Some(price))).await.unwrap();
    }
    let marked = |model: &str| {
        let mut incoming = request("ci", model, Some(1));
        if let CallKind::Model(model) = &mut incoming.kind {
            model.head.cache_writes = CacheWrites::Minutes;
        }
        incoming
    };
    let answer = node.pipeline.run(marked("spoken/unpriced")).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let refused = node.pipeline.run(marked("spoken/unpriced")).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::PriceUnknown);
    let message = &refused.failure.message;
    assert!(message.contains("cache_write_usd_per_million"), "{message}");
    assert!(message.contains("spoken/unpriced"), "{message}");
    // Without marks, at a price, for nothing, or at a target that is told no marks.
    let plain = request("ci", "spoken/unpriced", Some(1));
    for incoming in [plain, marked("spoken/m"), marked("spoken/free"), marked("paid/other")] {
        let answer = node.pipeline.run(incoming).await.unwrap();
        node.finish(answer, Some(usage(1, 1))).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn an_hour_in_a_cache_is_billed_as_one_where_the_answer_cannot_tell() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let mut priced = price();
    priced.rates.cache_write_1h = Some(Rate::parse_per_million("4").unwrap());
    for (name, price) in [("m", price()), ("hour", priced)] {
        node.directory.put_model(model("spoken", name, Some(price))).await.unwrap();
    }
    let sent = |model: &str, body: &'static str| {
        let mut incoming = request("ci", model, Some(1));
        if let CallKind::Model(model) = &mut incoming.kind {
            model.raw = Some(Bytes::from_static(body.as_bytes()));
            model.head.cache_writes = CacheWrites::Unread;
        }
        incoming
    };
    let hour = r#"{"cache_control":{"type":"ephemeral","ttl":"1h"}}"#;
    let minutes = r#"{"cache_control":{"type":"ephemeral"},"content":"a \"1h\" walk"}"#;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let refused = node.pipeline.run(sent("spoken/m", hour)).await.unwrap_err();
    let message = &refused.failure.message;
    assert!(message.contains("cache_write_1h_usd_per_million"), "{message}");
    for (model, body, cost) in [
        ("spoken/hour", hour, "0.00004"),
        ("spoken/hour", minutes, "0.00002"),
        ("spoken/m", minutes, "0.00002"),
    ] {
        let answer = node.pipeline.run(sent(model, body)).await.unwrap();
        let written = Usage { cache_write_tokens: 10, ..usage(10, 0) };
        let answer = node.finish(answer, Some(written)).await;
        assert_eq!(answer.bill().cost, Some(dollars(cost)), "{model} {body}");
    }
    node.stop().await;
}

#[tokio::test]
async fn counting_tokens_costs_nothing_however_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let budget = node.budget(Scope::Account, dollars("0.001"), WindowKind::Total).await;
    let counting = |model: &str| {
        let mut incoming = request("ci", model, None);
        if let CallKind::Model(model) = &mut incoming.kind {
            model.operation = Operation::CountTokens;
            model.head.surcharge = Some("document");
        }
        incoming
    };
    let refused = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded, "asking costs more than there is");
    for model in ["paid/m", "paid/unpriced"] {
        let answer = node.pipeline.run(counting(model)).await.unwrap();
        let answer = node.finish(answer, None).await;
        assert_eq!(answer.bill().cost, Some(Money::ZERO));
        assert_eq!(answer.bill().output_cap, None);
    }
    let mut abandoned = node.pipeline.run(counting("paid/m")).await.unwrap();
    Node::begin(&mut abandoned);
    let call = abandoned.call.id.clone();
    drop(abandoned);
    node.pipeline.flush().await.unwrap();
    let row = rows(&node, &call).await.remove(0);
    assert_eq!((row.cost, row.unreconciled, row.reserved), (Money::ZERO, Money::ZERO, Money::ZERO));
    let totals = totals(&node, &budget).await;
    assert_eq!((totals.settled, totals.unreconciled), (Money::ZERO, Money::ZERO));
    node.stop().await;
}

#[tokio::test]
async fn what_no_bound_holds_is_refused_under_a_hard_budget_alone() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let searching = |model: &str| {
        let mut incoming = request("ci", model, Some(1));
        if let CallKind::Model(model) = &mut incoming.kind {
            model.head.surcharge = Some("web_search_options");
        }
        incoming
    };
    let answer = node.pipeline.run(searching("paid/m")).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let refused = node.pipeline.run(searching("paid/m")).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::Unsupported);
    assert_eq!(refused.failure.param.as_deref(), Some("web_search_options"));
    let answer = node.pipeline.run(searching("local/demo")).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    node.stop().await;
}

#[tokio::test]
async fn a_document_in_a_sessions_request_has_no_bound_and_an_image_has() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let with = |kind: &str| {
        let part =
            Part::Media { kind: kind.to_owned(), url: None, name: None, source: Value::Null };
        let message = Message { role: Role::User, parts: vec![part] };
        let conversation = Conversation { messages: vec![message], ..Conversation::default() };
        let mut incoming = request("ci", "paid/m", Some(1));
        if let CallKind::Model(model) = &mut incoming.kind {
            let head = ModelHead { media: 1, ..model.head.clone() };
            *model = ModelCall::from_neutral(&NoFormat, head, Arc::new(conversation));
        }
        incoming
    };
    let answer = node.pipeline.run(with("file")).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let refused = node.pipeline.run(with("file")).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::Unsupported);
    assert_eq!(refused.failure.param.as_deref(), Some("input_file"));
    let with_field = |name: &str, value: Value| {
        let mut incoming = with("image");
        if let CallKind::Model(model) = &mut incoming.kind {
            let mut conversation = Conversation::clone(&model.neutral().unwrap());
            conversation.rest.insert(name.to_owned(), value);
            let head = model.head.clone();
            *model = ModelCall::from_neutral(&NoFormat, head, Arc::new(conversation));
        }
        incoming
    };
    // What multiplies the bill unseen, and what is billed by other rates.
    for (name, value) in [("n", Value::from(128)), ("service_tier", Value::from("priority"))] {
        let refused = node.pipeline.run(with_field(name, value)).await.unwrap_err();
        assert_eq!(refused.failure.param.as_deref(), Some(name));
    }
    for (name, value) in [("n", Value::from(1)), ("service_tier", Value::from("auto"))] {
        let answer = node.pipeline.run(with_field(name, value)).await.unwrap();
        node.finish(answer, Some(usage(1, 1))).await;
    }
    let answer = node.pipeline.run(with("image")).await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    node.stop().await;
}

#[tokio::test]
async fn a_missing_cap_is_lowered_to_what_the_tightest_budget_affords() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("100.00"), WindowKind::Total).await;
    let cap = |node: &Node| node.targets.attempts.lock().unwrap().last().unwrap().1;
    drop(node.pipeline.run(request("ci", "paid/m", None)).await.unwrap());
    assert_eq!(cap(&node), Some(32_768));
    // A quarter of $0.60, less $0.002 for the input, at $10 a million.
    node.budget(Scope::Key("ci".to_owned()), dollars("0.60"), WindowKind::Day).await;
    let answer = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
    assert_eq!((cap(&node), answer.bill().output_cap), (Some(14_800), Some(14_800)));
    drop(answer);
    // Never below 4,096; what can't afford that refuses.
    node.budget(Scope::Key("ci".to_owned()), dollars("0.05"), WindowKind::Day).await;
    drop(node.pipeline.run(request("ci", "paid/m", None)).await.unwrap());
    assert_eq!(cap(&node), Some(4_096));
    node.budget(Scope::Key("ci".to_owned()), dollars("0.04"), WindowKind::Day).await;
    let refused = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded);
    assert!(refused.failure.message.contains("$0.04296"), "{}", refused.failure.message);
    node.stop().await;
}

#[tokio::test]
async fn the_callers_own_limit_holds_without_any_budget() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let with_limit = |cap, limit| {
        let mut incoming = request("ci", "paid/m", cap);
        incoming.headers.budget = Some(dollars(limit));
        incoming
    };
    drop(node.pipeline.run(with_limit(Some(100), "0.003")).await.unwrap());
    let refused = node.pipeline.run(with_limit(Some(100), "0.0029")).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::BudgetExceeded);
    assert!(refused.failure.message.contains("holdfast-budget"), "{}", refused.failure.message);
    let capped = node.pipeline.run(with_limit(None, "0.102")).await.unwrap();
    assert_eq!(capped.bill().output_cap, Some(10_000));
    drop(capped);
    node.stop().await;
}

#[tokio::test]
async fn a_new_day_starts_at_zero_and_never_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("0.004"), WindowKind::Day).await;
    let spend = async || {
        let answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await?;
        Ok::<_, Box<pipeline::Refused>>(node.finish(answer, Some(usage(1_000, 100))).await)
    };
    drop(spend().await.unwrap());
    assert!(spend().await.is_err());
    let tomorrow = MORNING.plus(Duration::from_secs(86_400));
    node.clock.jump_to(tomorrow);
    drop(spend().await.unwrap());
    node.clock.jump_to(MORNING);
    assert!(spend().await.is_err(), "tomorrow was opened, and it is spent");
    node.stop().await;
}

#[tokio::test]
async fn a_raised_limit_admits_and_a_lowered_one_refuses_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("0.002"), WindowKind::Total).await;
    let run = || node.pipeline.run(request("ci", "paid/m", Some(100)));
    assert!(run().await.is_err());
    node.budget(Scope::Account, dollars("0.10"), WindowKind::Total).await;
    drop(run().await.unwrap());
    // The slice that is open holds $0.024, but the limit no longer does.
    node.budget(Scope::Account, dollars("0.002"), WindowKind::Total).await;
    assert!(run().await.is_err());
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_was_never_started_stops() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::new(MORNING));
    Node::made(&database(&folder), &clock, 1, Vec::new()).await.stop().await;
}

#[tokio::test]
async fn a_stopped_pipeline_takes_no_calls() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.pipeline.shutdown().await.unwrap();
    let refused = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::Unavailable);
}

#[tokio::test]
async fn a_store_that_cannot_write_stops_what_costs_money() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let answer = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    node.store.close().await.unwrap();
    node.finish(answer, Some(usage(1, 1))).await;
    let failure = node.pipeline.flush().await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::StorageUnavailable);
    let refused = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::StorageUnavailable);
    // What costs nothing goes on.
    drop(node.pipeline.run(request("ci", "local/demo", Some(100))).await.unwrap());
}

#[tokio::test]
async fn every_attempt_is_counted_once_for_prometheus() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    for _ in 0..2 {
        let answer = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
        node.finish(answer, Some(usage(100, 10))).await;
    }
    let dropped = node.pipeline.run(request("ci", "paid/m", None)).await.unwrap();
    drop(dropped);
    node.pipeline.flush().await.unwrap();
    let text = node.pipeline.metrics();
    for line in [
        r#"holdfast_attempts_total{holdfast_door="openai_chat",holdfast_target="paid/m",outcome="ok"} 2"#,
        r#"holdfast_attempts_total{holdfast_door="openai_chat",holdfast_target="paid/m",outcome="cancelled"} 1"#,
        r#"holdfast_tokens_total{holdfast_door="openai_chat",holdfast_target="paid/m",kind="input"} 200"#,
        r#"holdfast_cost_nanousd_total{holdfast_door="openai_chat",holdfast_target="paid/m",kind="settled"} 400000"#,
        r#"gen_ai_client_operation_duration_seconds_count{holdfast_door="openai_chat",holdfast_target="paid/m"} 3"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
