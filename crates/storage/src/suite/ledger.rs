//! The ledger, and the money that its rows move.

use std::time::Duration;

use types::call::Door;
use types::ids::{AttemptId, CallId, ReservationId, SessionId, StepId};
use types::{ErrorCode, Stop, Usage};

use super::Place;
use super::fixtures::{
    ACCOUNT, Make, NOON, TODAY, amounts, hold, money, part, rows, settle, spend,
};
use crate::budgets::WindowKind;
use crate::ledger::{CallFilter, LedgerRow};
use crate::store::Store;

fn noted() -> types::Notes {
    let mut notes = types::Notes::default();
    notes.set("choice", "weight");
    notes
}

/// A row with every field set, and one with none that may be missing, come back as they were.
pub async fn a_row_is_read_as_it_was_written(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Day);
    let bare = make.row(Vec::new());
    let slice = types::ids::SliceId::new(&make.ids);
    let reservation = ReservationId::new(&make.ids);
    let full = LedgerRow {
        parent: Some(bare.call.clone()),
        user: "ada".to_owned(),
        session: Some(SessionId::new(&make.ids)),
        step: Some(StepId::new(&make.ids)),
        task: "nightly".to_owned(),
        door: Door::Session,
        target: "garage/other".to_owned(),
        model_version: Some("qwen3-32b-2026-10".to_owned()),
        error: Some(ErrorCode::StreamCut),
        stop: Some(Stop::ToolCalls),
        usage: Some(Usage {
            input_tokens: 10,
            cached_tokens: 3,
            cache_write_tokens: 2,
            cache_write_1h_tokens: 0,
            output_tokens: 20,
            reasoning_tokens: 5,
            more: types::usage::More {
                searches: 2,
                service_tier: types::ServiceTier::Priority,
                ..types::usage::More::default()
            },
        }),
        price_version: Some("config@2026-11-21".to_owned()),
        reserved: money(99),
        over_bound: true,
        output_cap: Some(4_096),
        dropped: vec!["top_k".to_owned(), "thinking".to_owned()],
        metadata: types::Metadata::parse(br#"{"team":"harbor","n":1}"#).unwrap(),
        notes: noted(),
        first_content_us: Some(500),
        reused_tokens: Some(7),
        ..make.row(vec![
            spend(&budget, TODAY, vec![part(&slice, 0, 0)], 0),
            settle(&budget, TODAY, &reservation, 0),
        ])
    };
    store.commit(rows(vec![bare.clone(), full.clone()])).await.unwrap();
    assert_eq!(store.call(&bare.call).await.unwrap(), std::slice::from_ref(&bare));
    assert_eq!(store.call(&full.call).await.unwrap(), std::slice::from_ref(&full));
    for stop in [Stop::End, Stop::Length, Stop::ContentFilter] {
        for door in [Door::OpenaiChat, Door::OpenaiResponses] {
            let row = LedgerRow { stop: Some(stop), door, ..make.row(Vec::new()) };
            store.commit(rows(vec![row.clone()])).await.unwrap();
            assert_eq!(store.call(&row.call).await.unwrap(), [row]);
        }
    }
    assert_eq!(store.call(&CallId::new(&make.ids)).await.unwrap(), []);
}

/// A row that comes twice, in one commit or another, is kept once and moves its money once.
pub async fn a_row_that_comes_twice_moves_money_once(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let slice = store.claim(make.claim(&budget, TODAY, 50, &make.node())).await.unwrap();
    let held = make.reservation(&[&budget], TODAY, 20);
    store.commit(hold(held.clone())).await.unwrap();
    let first = make.row(vec![spend(&budget, TODAY, vec![part(&slice.id, 5, 1)], 5)]);
    let second = make.row(vec![settle(&budget, TODAY, &held.id, 12)]);
    for _ in 0..2 {
        let twice = vec![first.clone(), second.clone(), first.clone(), second.clone()];
        store.commit(rows(twice)).await.unwrap();
        assert_eq!(amounts(&*store, &budget).await, [17, 0, 0, 0, 44]);
        assert_eq!(store.call(&first.call).await.unwrap(), std::slice::from_ref(&first));
    }
    // Another attempt of the same Call is another row.
    let again = LedgerRow { attempt: AttemptId::new(&make.ids), ..first.clone() };
    store.commit(rows(vec![again.clone()])).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [22, 0, 0, 0, 38]);
    assert_eq!(store.call(&first.call).await.unwrap().len(), 2);
}

/// The same where many rows come at once, as they do under load: of those that were there before
/// only the new ones move money, and each row is as it was given.
pub async fn many_rows_in_one_commit_move_their_money_once(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(1_000, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let slice = store.claim(make.claim(&budget, TODAY, 500, &make.node())).await.unwrap();
    let row = || make.row(vec![spend(&budget, TODAY, vec![part(&slice.id, 5, 0)], 5)]);
    let mut given: Vec<_> = std::iter::repeat_with(row).take(20).collect();
    store.commit(rows(given.clone())).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [100, 0, 0, 0, 400]);
    let new = row();
    given.insert(11, new.clone());
    store.commit(rows(given.clone())).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [105, 0, 0, 0, 395]);
    for row in given {
        assert_eq!(store.call(&row.call).await.unwrap(), [row]);
    }
}

/// What a provider bills above the bound is in the window, above the limit if need be.
pub async fn a_bill_over_the_bound_is_recorded_whole(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let slice = store.claim(make.claim(&budget, TODAY, 40, &make.node())).await.unwrap();
    let held = make.reservation(&[&budget], TODAY, 60);
    store.commit(hold(held.clone())).await.unwrap();
    let slices = make.row(vec![spend(&budget, TODAY, vec![part(&slice.id, 40, 0)], 45)]);
    let step = make.row(vec![settle(&budget, TODAY, &held.id, 70)]);
    store.commit(rows(vec![slices, step])).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [115, 0, 0, 0, 0]);
    let slice = store.claim(make.claim(&budget, TODAY, 1, &make.node())).await.unwrap();
    assert_eq!(slice.amount, money(0));
}

/// A charge whose reservation or slice was let go before is a bug of its writer: the bill is kept
/// all the same, no other hold pays for it, and nothing is freed.
pub async fn a_charge_without_its_hold_is_recorded(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let slice = store.claim(make.claim(&budget, TODAY, 10, &make.node())).await.unwrap();
    let held = make.reservation(&[&budget], TODAY, 20);
    let other = make.reservation(&[&budget], TODAY, 30);
    store.commit(hold(held.clone())).await.unwrap();
    store.commit(hold(other)).await.unwrap();
    let settled = make.row(vec![settle(&budget, TODAY, &held.id, 15)]);
    store.commit(rows(vec![settled])).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [15, 0, 0, 30, 10]);
    let again = make.row(vec![settle(&budget, TODAY, &held.id, 4)]);
    store.commit(rows(vec![again])).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [19, 0, 0, 30, 10]);
    let too_much = make.row(vec![spend(&budget, TODAY, vec![part(&slice.id, 12, 3)], 12)]);
    store.commit(rows(vec![too_much])).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [31, 0, 0, 30, 0]);
    let closed = make.row(vec![spend(&budget, TODAY, vec![part(&slice.id, 2, 2)], 2)]);
    store.commit(rows(vec![closed])).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [33, 0, 0, 30, 0]);
}

async fn found(store: &dyn Store, filter: CallFilter) -> Vec<CallId> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    let rows = store.calls(CallFilter { limit, ..filter }).await.unwrap();
    rows.into_iter().map(|row| row.call).collect()
}

/// Each filter alone, and together, selects exactly the rows that match.
pub async fn calls_are_found_by_each_filter(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let session = SessionId::new(&make.ids);
    let mut all = Vec::new();
    for minute in 0..4u32 {
        make.clock.jump_to(NOON.plus(Duration::from_secs(60 * u64::from(minute))));
        let started_at = types::Clock::now(&*make.clock);
        all.push(LedgerRow { started_at, ..make.row(Vec::new()) });
    }
    all[1].session = Some(session.clone());
    all[2].session = Some(session.clone());
    all[1].task = "nightly".to_owned();
    all[2].task = all[0].call.as_str().to_owned();
    all[3].account = "f".repeat(32);
    all[3].task = "nightly".to_owned();
    let metadata = |json: &str| types::Metadata::parse(json.as_bytes()).unwrap();
    all[0].metadata = metadata(r#"{"team":"harbor","n":1}"#);
    all[2].metadata = metadata(r#"{"team":"harbor","n":"1"}"#);
    all[3].key = all[1].key.clone();
    store.commit(rows(all.clone())).await.unwrap();
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| all[at].call.clone());
    let account = Some(ACCOUNT.to_owned());
    let task = |task: &str| Some(task.to_owned());
    let any = CallFilter::default;

    let expect = [
        (any(), vec![&d, &c, &b, &a]),
        (CallFilter { account: account.clone(), ..any() }, vec![&c, &b, &a]),
        (CallFilter { session: Some(session.clone()), ..any() }, vec![&c, &b]),
        (CallFilter { task: task("nightly"), ..any() }, vec![&d, &b]),
        (CallFilter { task: task("nightly"), account, ..any() }, vec![&b]),
        // The root Call of a task that has no name of its own, and its children.
        (CallFilter { task: task(a.as_str()), ..any() }, vec![&c, &a]),
        (CallFilter { key: Some(all[1].key.clone()), ..any() }, vec![&d, &b]),
        (CallFilter { since: Some(all[2].started_at), ..any() }, vec![&d, &c]),
        (CallFilter { since: Some(types::Timestamp(all[2].started_at.0 + 1)), ..any() }, vec![&d]),
        (CallFilter { before: Some(c.clone()), ..any() }, vec![&b, &a]),
        (CallFilter { session: Some(session), task: task("nightly"), ..any() }, vec![&b]),
        (CallFilter { task: task("unknown"), ..any() }, vec![]),
        (CallFilter { metadata: metadata(r#"{"team":"harbor"}"#), ..any() }, vec![&c, &a]),
        (CallFilter { metadata: metadata(r#"{"n":1,"team":"harbor"}"#), ..any() }, vec![&a]),
        (CallFilter { metadata: metadata(r#"{"other":null}"#), ..any() }, vec![]),
    ];
    for (filter, calls) in expect {
        let shown = format!("{filter:?}");
        assert_eq!(found(&*store, filter).await.iter().collect::<Vec<_>>(), calls, "{shown}");
    }
}

/// Pages by the last row's Call give every row once, newest first.
pub async fn calls_are_listed_newest_first_and_in_pages(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let mut all: Vec<LedgerRow> = (0..25).map(|_| make.row(Vec::new())).collect();
    // Calls of several attempts, of which the later began later: a page ends among them.
    for at in [3, 9, 15] {
        let of = &mut all[at];
        (of.total_us, of.target_us) = (100, 100);
        let of = of.clone();
        let later = (1..=3).map(|began| LedgerRow {
            total_us: 100 + began,
            target_us: 100,
            call: of.call.clone(),
            ..make.row(Vec::new())
        });
        all.extend(later.collect::<Vec<_>>());
    }
    store.commit(rows(all.clone())).await.unwrap();
    all.sort_by(|one, other| {
        other.call.cmp(&one.call).then_with(|| other.total_us.cmp(&one.total_us))
    });
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let filter = CallFilter { before: before.clone(), limit: 10, ..CallFilter::default() };
        let page = store.calls(filter).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.call.clone());
        assert!(page.len() <= 10 + 3, "a page is filled up with its last Call's attempts only");
        pages.extend(page);
    }
    assert_eq!(pages, all);
}
