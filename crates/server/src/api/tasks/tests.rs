use storage::Charge;
use types::call::Door;
use types::clock::FakeClock;
use types::ids::{AttemptId, CallId, KeyId};
use types::{ErrorCode, Ids, Notes, Usage};

use super::*;

/// A row of an attempt at `call`, that cost so many nanodollars.
fn row(ids: &Ids, call: &CallId, kind: &str, cost: i64) -> LedgerRow {
    let key = KeyId::new(ids);
    LedgerRow {
        call: call.clone(),
        attempt: AttemptId::new(ids),
        parent: None,
        account: "default".to_owned(),
        user: key.as_str().to_owned(),
        key,
        session: None,
        step: None,
        task: "t".to_owned(),
        class: "interactive".to_owned(),
        door: Door::OpenaiChat,
        kind: kind.to_owned(),
        name: "p/m".to_owned(),
        target: "p/m".to_owned(),
        model_version: None,
        error: None,
        stop: None,
        usage: Some(Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() }),
        price_version: None,
        cost: Money::from_nanodollars(cost),
        unreconciled: Money::ZERO,
        reserved: Money::ZERO,
        over_bound: false,
        output_cap: None,
        dropped: Vec::new(),
        metadata: types::Metadata::default(),
        notes: Notes::default(),
        started_at: Timestamp(5),
        first_content_us: None,
        total_us: 1_000,
        target_us: 900,
        reused_tokens: None,
        charges: Vec::<Charge>::new(),
    }
}

#[test]
fn a_task_is_the_sum_of_what_its_calls_took() {
    let ids = Ids::seeded(std::sync::Arc::new(FakeClock::new(Timestamp(0))), 1);
    let [one, other, tool, judge] = std::array::from_fn(|_| CallId::new(&ids));
    // A failed attempt and its retry; a rejected answer and a better one, beside a hedge that was
    // given up; a tool; a judge.
    let failed =
        LedgerRow { error: Some(ErrorCode::UpstreamFailed), ..row(&ids, &one, "model", 3) };
    let retry = row(&ids, &one, "model", 10);
    let mut notes = Notes::default();
    notes.set("hedge", "second");
    let hedge = LedgerRow {
        error: Some(ErrorCode::Cancelled),
        cost: Money::ZERO,
        unreconciled: Money::from_nanodollars(7),
        usage: None,
        notes,
        ..row(&ids, &other, "model", 0)
    };
    let rejected = row(&ids, &other, "model", 1);
    let better = row(&ids, &other, "model", 20);
    let judged = LedgerRow { parent: Some(other), ..row(&ids, &judge, "model", 2) };
    let tool = row(&ids, &tool, "tool", 0);
    let newest_first = [&judged, &tool, &better, &rejected, &hedge, &retry, &failed];
    let money = Money::from_nanodollars;
    let expected = Task {
        task: "t".to_owned(),
        began: 5,
        ended: 1_005,
        model_calls: 2,
        useful_answers: 2,
        tool_calls: 1,
        spawned_calls: 1,
        attempts: 6,
        retries: 1,
        hedges: 1,
        rejected: 1,
        failed: 2,
        input_tokens: 60,
        output_tokens: 12,
        searches: 0,
        model_us: 5_400,
        tool_us: 900,
        settled_usd: money(36),
        unreconciled_usd: money(7),
        failed_usd: money(10),
        rejected_usd: money(1),
        spawned_usd: money(2),
        usd_per_useful_answer: Some(money(22)),
    };
    assert_eq!(summed("t", &newest_first), expected);
    assert_eq!(summed("t", &[]).usd_per_useful_answer, None, "nothing is divided by nothing");
}
