//! Budgets, windows, slices and reservations.

use types::Timestamp;
use types::ids::{BudgetId, SliceId};

use super::Place;
use super::fixtures::{
    ACCOUNT, Make, NOON, TODAY, TOMORROW, amounts, hold, in_window, money, part, rows, settle,
    spend,
};
use crate::budgets::{
    Budget, Dimension, ForgetValues, Origin, Reconcile, Rolling, SEEN_AMOUNT, Scope, Told, TopUp,
    ToppedUp, WindowKey, WindowKind, WindowTotals, Zone,
};
use crate::error::Error;
use crate::ledger::Charge;

/// Budgets are kept per account in order of id, changed by id, and gone once deleted.
pub async fn budgets_are_kept_and_changed(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let mut first = make.budget(5, WindowKind::Day);
    let mut second = make.budget(7, WindowKind::Total);
    second.scope = Scope::Session("sess_x".to_owned());
    if second.id < first.id {
        std::mem::swap(&mut first, &mut second);
    }
    let mut foreign = make.budget(9, WindowKind::Total);
    foreign.account = "f".repeat(32);
    for budget in [&second, &foreign, &first] {
        store.put_budget(budget.clone()).await.unwrap();
    }
    assert_eq!(store.budgets(ACCOUNT).await.unwrap(), [first.clone(), second.clone()]);

    first.limit = money(6);
    first.scope = Scope::Key("ci".to_owned());
    first.version = 2;
    store.put_budget(first.clone()).await.unwrap();
    assert_eq!(store.budgets(ACCOUNT).await.unwrap(), [first.clone(), second.clone()]);

    assert!(store.delete_budget(&second.id).await.unwrap());
    assert!(!store.delete_budget(&second.id).await.unwrap());
    assert_eq!(store.budgets(ACCOUNT).await.unwrap(), [first]);
    assert_eq!(store.budgets(&foreign.account).await.unwrap(), [foreign]);
}

/// A window that nothing was taken from is zero, under the name that was asked for, and can't be
/// reconciled.
pub async fn an_unused_budget_has_no_window(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(5, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    assert_eq!(store.window(&budget.id, None).await.unwrap(), WindowTotals::default());
    let today = WindowTotals { window: TODAY, ..WindowTotals::default() };
    assert_eq!(store.window(&budget.id, Some(TODAY)).await.unwrap(), today);
    let refused = store.reconcile(told(&budget.id, TODAY, Some([1, 1]), None)).await.unwrap_err();
    assert!(matches!(refused, Error::NotFound { what: "window" }), "{refused:?}");
}

/// A claim gets what it wants, then what is left, then nothing.
pub async fn a_claim_takes_at_most_what_is_unclaimed(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let (make, node) = (Make::new(), Make::new().node());
    let budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let mut slices = Vec::new();
    for (wanted, got) in [(60, 60), (60, 40), (60, 0)] {
        let slice = store.claim(make.claim(&budget, TODAY, wanted, &node)).await.unwrap();
        assert_eq!((slice.amount, slice.window), (money(got), TODAY));
        slices.push(slice.id);
    }
    assert_eq!(amounts(&*store, &budget).await, [0, 0, 0, 0, 100]);
    // What is given back can be claimed again.
    store.return_slices(vec![(slices[0].clone(), money(25))]).await.unwrap();
    let slice = store.claim(make.claim(&budget, TODAY, 60, &node)).await.unwrap();
    assert_eq!(slice.amount, money(25));
    assert_eq!(amounts(&*store, &budget).await, [0, 0, 0, 0, 100]);

    let twice = store.claim(crate::budgets::Claim {
        id: slices[1].clone(),
        ..make.claim(&budget, TOMORROW, 1, &node)
    });
    assert!(matches!(twice.await.unwrap_err(), Error::Exists { what: "slice" }));
    assert_eq!(amounts(&*store, &budget).await, [0, 0, 0, 0, 100]);
}

/// Steps and slices share one limit.
pub async fn nothing_is_claimed_of_what_a_step_holds(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Total);
    let window = WindowKey::default();
    store.put_budget(budget.clone()).await.unwrap();
    store.commit(hold(make.reservation(&[&budget], window, 70))).await.unwrap();
    let slice = store.claim(make.claim(&budget, window, 50, &make.node())).await.unwrap();
    assert_eq!(slice.amount, money(30));
    let refused = store.commit(hold(make.reservation(&[&budget], window, 1))).await.unwrap_err();
    let Error::OverLimit { budget: named, free, needed } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((named, free, needed), (budget.id.clone(), money(0), money(1)));
    assert_eq!(amounts(&*store, &budget).await, [0, 0, 0, 70, 30]);
}

/// All budgets of a reservation hold it, or none; the first that refuses, in order of id, is named.
pub async fn a_reservation_is_all_or_none_in_order_of_budget_id(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let mut budgets = [100, 10, 5].map(|limit| make.budget(limit, WindowKind::Day));
    let mut ids: Vec<BudgetId> = budgets.iter().map(|budget| budget.id.clone()).collect();
    ids.sort();
    for (budget, id) in budgets.iter_mut().zip(ids) {
        budget.id = id;
        store.put_budget(budget.clone()).await.unwrap();
    }
    let [wide, middle, narrow] = &budgets;
    // Named in another order than that of the ids.
    let all = make.reservation(&[narrow, wide, middle], TODAY, 20);
    let refused = store.commit(hold(all)).await.unwrap_err();
    let Error::OverLimit { budget, free, needed } = refused else { panic!("{refused:?}") };
    assert_eq!((budget, free, needed), (middle.id.clone(), money(10), money(20)));
    for budget in &budgets {
        assert_eq!(amounts(&*store, budget).await, [0; 5]);
    }

    let fits = make.reservation(&[wide, middle, narrow], TODAY, 5);
    store.commit(hold(fits.clone())).await.unwrap();
    for budget in &budgets {
        assert_eq!(amounts(&*store, budget).await, [0, 0, 0, 5, 0]);
    }
    // One row that names one of the budgets lets go of all that the step held.
    let row = make.row(vec![settle(wide, TODAY, &fits.id, 3)]);
    store.commit(rows(vec![row])).await.unwrap();
    assert_eq!(amounts(&*store, wide).await, [3, 0, 0, 0, 0]);
    assert_eq!(amounts(&*store, middle).await, [0; 5]);
    assert_eq!(amounts(&*store, narrow).await, [0; 5]);
}

/// With a limit below what is taken nothing more is given, and nothing is lost.
pub async fn a_lowered_limit_refuses_all(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let mut budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    store.commit(hold(make.reservation(&[&budget], TODAY, 80))).await.unwrap();
    budget.limit = money(50);
    store.put_budget(budget.clone()).await.unwrap();
    let refused = store.commit(hold(make.reservation(&[&budget], TODAY, 1))).await.unwrap_err();
    assert!(matches!(refused, Error::OverLimit { free, .. } if free == money(0)), "{refused:?}");
    let slice = store.claim(make.claim(&budget, TODAY, 1, &make.node())).await.unwrap();
    assert_eq!(slice.amount, money(0));
    assert_eq!(amounts(&*store, &budget).await, [0, 0, 0, 80, 0]);
}

/// Whatever the clock says afterwards, money is taken from the latest window that was ever opened.
pub async fn a_window_that_ended_never_opens_again(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    store.commit(hold(make.reservation(&[&budget], TODAY, 60))).await.unwrap();
    let slice = store.claim(make.claim(&budget, TOMORROW, 90, &make.node())).await.unwrap();
    assert_eq!((slice.window, slice.amount), (TOMORROW, money(90)));

    // The clock goes back: today had 40 left, but is over.
    let back = store.claim(make.claim(&budget, TODAY, 40, &make.node())).await.unwrap();
    assert_eq!((back.window, back.amount), (TOMORROW, money(10)));
    let refused = store.commit(hold(make.reservation(&[&budget], TODAY, 1))).await.unwrap_err();
    assert!(matches!(refused, Error::OverLimit { free, .. } if free == money(0)), "{refused:?}");
    store.return_slices(vec![(back.id, money(10))]).await.unwrap();
    let held = make.reservation(&[&budget], TODAY, 4);
    store.commit(hold(held.clone())).await.unwrap();
    assert_eq!(in_window(&*store, &budget, Some(TODAY)).await, [0, 0, 0, 60, 0]);
    assert_eq!(in_window(&*store, &budget, Some(TOMORROW)).await, [0, 0, 0, 4, 90]);

    // Its settlement follows it, although the row names the window of the caller's clock.
    let row = make.row(vec![settle(&budget, TODAY, &held.id, 3)]);
    store.commit(rows(vec![row])).await.unwrap();
    assert_eq!(in_window(&*store, &budget, Some(TODAY)).await, [0, 0, 0, 60, 0]);
    assert_eq!(in_window(&*store, &budget, None).await, [3, 0, 0, 0, 90]);
    assert_eq!(store.window(&budget.id, None).await.unwrap().window, TOMORROW);
}

/// What is spent or returned after midnight counts where it was claimed.
pub async fn money_of_a_slice_counts_in_the_window_of_its_claim(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let old = store.claim(make.claim(&budget, TODAY, 50, &make.node())).await.unwrap();
    store.claim(make.claim(&budget, TOMORROW, 50, &make.node())).await.unwrap();
    let row = make.row(vec![spend(&budget, old.window, vec![part(&old.id, 30, 5)], 30)]);
    store.commit(rows(vec![row])).await.unwrap();
    store.return_slices(vec![(old.id.clone(), money(15))]).await.unwrap();
    assert_eq!(in_window(&*store, &budget, Some(TODAY)).await, [30, 0, 0, 0, 0]);
    assert_eq!(in_window(&*store, &budget, Some(TOMORROW)).await, [0, 0, 0, 0, 50]);
}

/// A slice of which nothing remains is closed, and giving back more than remains frees only that.
pub async fn a_slice_that_is_used_up_is_closed(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let mut slices = Vec::new();
    for _ in 0..3 {
        slices.push(store.claim(make.claim(&budget, TODAY, 10, &make.node())).await.unwrap().id);
    }
    let spent = make.row(vec![spend(&budget, TODAY, vec![part(&slices[0], 6, 4)], 6)]);
    store.commit(rows(vec![spent])).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [6, 0, 0, 0, 20]);
    // The second is returned in two parts, twice too often; the first is closed and has nothing to
    // give.
    let parts = [(&slices[1], 3), (&slices[1], 700), (&slices[1], 9), (&slices[0], 5)];
    let parts = parts.map(|(slice, amount)| (SliceId::clone(slice), money(amount)));
    store.return_slices(parts.to_vec()).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [6, 0, 0, 0, 10]);
    // One is still open: nobody else's money was touched.
    assert_eq!(store.presume_open_slices(&make.node()).await.unwrap(), 1);
    assert_eq!(amounts(&*store, &budget).await, [6, 0, 10, 0, 0]);
}

/// At a start, what other nodes' slices still held is presumed spent, once, in the windows of their
/// claims.
pub async fn open_slices_of_other_nodes_are_presumed_spent(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budgets = [100, 50].map(|limit| make.budget(limit, WindowKind::Day));
    let (dead, alive) = (make.node(), make.node());
    for budget in &budgets {
        store.put_budget(budget.clone()).await.unwrap();
    }
    let old = store.claim(make.claim(&budgets[0], TODAY, 40, &dead)).await.unwrap();
    store.claim(make.claim(&budgets[0], TOMORROW, 8, &dead)).await.unwrap();
    store.claim(make.claim(&budgets[0], TOMORROW, 2, &dead)).await.unwrap();
    store.claim(make.claim(&budgets[1], TODAY, 7, &dead)).await.unwrap();
    store.claim(make.claim(&budgets[1], TODAY, 5, &alive)).await.unwrap();
    let row = make.row(vec![spend(&budgets[0], TODAY, vec![part(&old.id, 10, 1)], 10)]);
    store.commit(rows(vec![row])).await.unwrap();
    store.commit(hold(make.reservation(&[&budgets[1]], TODAY, 3))).await.unwrap();

    assert_eq!(store.presume_open_slices(&alive).await.unwrap(), 4);
    assert_eq!(in_window(&*store, &budgets[0], Some(TODAY)).await, [10, 0, 29, 0, 0]);
    assert_eq!(in_window(&*store, &budgets[0], Some(TOMORROW)).await, [0, 0, 10, 0, 0]);
    assert_eq!(amounts(&*store, &budgets[1]).await, [0, 0, 7, 3, 5]);
    assert_eq!(store.presume_open_slices(&alive).await.unwrap(), 0);
    assert_eq!(amounts(&*store, &budgets[1]).await, [0, 0, 7, 3, 5]);
}

fn told(
    budget: &BudgetId,
    window: WindowKey,
    presumed: Option<[i64; 2]>,
    unreconciled: Option<[i64; 2]>,
) -> Reconcile {
    let told = |[seen, charged]: [i64; 2]| Told { seen: money(seen), charged: money(charged) };
    Reconcile {
        budget: budget.clone(),
        window,
        presumed: presumed.map(told),
        unreconciled: unreconciled.map(told),
        operator: "ops".to_owned(),
        at: NOON,
    }
}

/// Reconciling moves what was charged to `settled` and frees the rest, of the amounts that were
/// told alone.
pub async fn what_the_provider_charged_replaces_what_was_presumed(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(100, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let slice = store.claim(make.claim(&budget, TODAY, 60, &make.node())).await.unwrap();
    let mut charge = spend(&budget, TODAY, vec![part(&slice.id, 20, 0)], 0);
    charge.unreconciled = money(20);
    store.commit(rows(vec![make.row(vec![charge])])).await.unwrap();
    store.presume_open_slices(&make.node()).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [0, 20, 40, 0, 0]);

    let nothing = store.reconcile(told(&budget.id, TODAY, None, None)).await.unwrap();
    assert_eq!((nothing.presumed, nothing.unreconciled), (money(40), money(20)));
    // What came after the operator looked stays.
    let one = store.reconcile(told(&budget.id, TODAY, Some([30, 15]), None)).await.unwrap();
    assert_eq!((one.settled, one.presumed, one.unreconciled), (money(15), money(10), money(20)));
    // What somebody else has taken meanwhile is not taken twice, and nothing else is done either.
    let late = told(&budget.id, TODAY, Some([30, 15]), Some([20, 20]));
    let refused = store.reconcile(late).await.unwrap_err();
    assert!(matches!(refused, Error::NotFound { what: SEEN_AMOUNT }), "{refused:?}");
    assert_eq!(amounts(&*store, &budget).await, [15, 20, 10, 0, 0]);
    store.reconcile(told(&budget.id, TODAY, Some([10, 0]), None)).await.unwrap();
    // More than was held: the provider's bill is the truth.
    store.reconcile(told(&budget.id, TODAY, None, Some([20, 30]))).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [45, 0, 0, 0, 0]);
    let free = store.claim(make.claim(&budget, TODAY, 100, &make.node())).await.unwrap();
    assert_eq!(free.amount, money(55));
    for wrong in [[0, -1], [-1, 0]] {
        let refused = store.reconcile(told(&budget.id, TODAY, Some(wrong), None)).await;
        assert!(matches!(refused.unwrap_err(), Error::Internal(_)));
    }
}

/// A budget that was deleted gives no slices and stops no step; what was held in it can still be
/// settled.
pub async fn a_deleted_budget_limits_nothing_and_its_windows_stay_readable(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let budget = make.budget(10, WindowKind::Day);
    store.put_budget(budget.clone()).await.unwrap();
    let held = make.reservation(&[&budget], TODAY, 10);
    store.commit(hold(held.clone())).await.unwrap();
    store.delete_budget(&budget.id).await.unwrap();
    store.commit(hold(make.reservation(&[&budget], TODAY, 99))).await.unwrap();
    let slice = store.claim(make.claim(&budget, TODAY, 5, &make.node())).await.unwrap();
    assert_eq!(slice.amount, money(0));
    assert_eq!(amounts(&*store, &budget).await, [0, 0, 0, 10, 0]);
    let row = make.row(vec![settle(&budget, TODAY, &held.id, 8)]);
    store.commit(rows(vec![row])).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [8, 0, 0, 0, 0]);
    // Made again under its id, it goes on where it was.
    store.put_budget(budget.clone()).await.unwrap();
    let slice = store.claim(make.claim(&budget, TODAY, 5, &make.node())).await.unwrap();
    assert_eq!(slice.amount, money(2));
}

/// A rolling window counts its newest sixty cells together, and what is in an older one is free
/// again.
pub async fn a_rolling_window_counts_sixty_cells(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let hour = WindowKind::Rolling(Rolling::parse("1h").unwrap());
    let budget = make.budget(100, hour);
    store.put_budget(budget.clone()).await.unwrap();
    assert_eq!(store.budgets(ACCOUNT).await.unwrap(), std::slice::from_ref(&budget));
    let cell = |number: i64| WindowKey(TODAY.0 + number * 60);
    for (number, amount) in [(0, 30), (1, 20), (59, 40)] {
        let slice = store.claim(make.claim(&budget, cell(number), amount, &make.node())).await;
        let slice = slice.unwrap();
        assert_eq!((slice.amount, slice.window), (money(amount), cell(number)));
        let spent = spend(&budget, cell(number), vec![part(&slice.id, amount, 0)], amount);
        store.commit(rows(vec![make.row(vec![spent])])).await.unwrap();
    }
    let full = store.claim(make.claim(&budget, cell(59), 50, &make.node())).await.unwrap();
    assert_eq!(full.amount, money(10), "90 are spent within the hour");
    assert_eq!(amounts(&*store, &budget).await, [90, 0, 0, 0, 10]);
    // A clock that goes back opens no cell again.
    let late = make.reservation(&[&budget], cell(2), 1);
    let refused = store.commit(hold(late)).await.unwrap_err();
    assert!(matches!(refused, Error::OverLimit { .. }), "{refused:?}");
    // The first cell leaves; what is open in a cell stays where it was claimed.
    let next = store.claim(make.claim(&budget, cell(60), 50, &make.node())).await.unwrap();
    assert_eq!((next.amount, next.window), (money(30), cell(60)));
    assert_eq!(in_window(&*store, &budget, Some(cell(59))).await, [90, 0, 0, 0, 10]);
    assert_eq!(amounts(&*store, &budget).await, [60, 0, 0, 0, 40]);

    store.presume_open_slices(&make.node()).await.unwrap();
    assert_eq!(amounts(&*store, &budget).await, [60, 0, 40, 0, 0]);
    let cleared = told(&budget.id, cell(60), Some([15, 12]), None);
    let after = store.reconcile(cleared).await.unwrap();
    assert_eq!((after.settled, after.presumed), (money(72), money(25)));
    let too_much = store.reconcile(told(&budget.id, cell(60), Some([26, 0]), None)).await;
    assert!(matches!(too_much.unwrap_err(), Error::NotFound { what: SEEN_AMOUNT }));
    let rest = store.reconcile(told(&budget.id, cell(60), Some([25, 0]), None)).await.unwrap();
    assert_eq!((rest.settled, rest.presumed), (money(72), money(0)));
}

/// A top-up raises the limit once for each key, and says whether it did.
pub async fn a_top_up_raises_the_limit_once(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let mut budget = make.budget(10, WindowKind::Total);
    budget.zone = Zone::parse("Europe/Berlin").unwrap();
    store.put_budget(budget.clone()).await.unwrap();
    let top_up = |key: &str, amount: i64| TopUp {
        budget: budget.id.clone(),
        key: key.to_owned(),
        amount: money(amount),
        operator: "ops".to_owned(),
        at: NOON,
    };
    let first = store.top_up(top_up("a", 5)).await.unwrap();
    assert_eq!(first, ToppedUp { limit: money(15), version: 2, is_new: true });
    let again = store.top_up(top_up("a", 5)).await.unwrap();
    assert_eq!(again, ToppedUp { limit: money(15), version: 2, is_new: false });
    let other = store.top_up(top_up("a", 6)).await.unwrap_err();
    assert!(matches!(other, Error::Exists { .. }), "{other:?}");
    let second = store.top_up(top_up("b", 1)).await.unwrap();
    assert_eq!(second, ToppedUp { limit: money(16), version: 3, is_new: true });
    let kept = store.budgets(ACCOUNT).await.unwrap().remove(0);
    assert_eq!((kept.limit, kept.version, kept.origin), (money(16), 3, Origin::Api));
    assert_eq!(kept.zone, budget.zone);
    store.delete_budget(&budget.id).await.unwrap();
    let gone = store.top_up(top_up("c", 1)).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound { .. }), "{gone:?}");
}

/// What a rule has made is as the rule is, limits as it does, and is forgotten when it is over.
pub async fn what_a_rule_has_made_is_as_the_rule_is(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let mut rule = make.budget(10, WindowKind::Day);
    rule.scope = Scope::Each(Dimension::Task);
    store.put_budget(rule.clone()).await.unwrap();
    let value = |task: &str| Budget {
        id: BudgetId::new(&make.ids),
        scope: Scope::Task(task.to_owned()),
        rule: Some(rule.id.clone()),
        ..rule.clone()
    };
    let values = [value("a"), value("b"), value("hfc_c"), value("d"), value("e"), value("f")];
    for value in &values {
        store.put_budget(value.clone()).await.unwrap();
        store.put_budget(value.clone()).await.unwrap();
    }
    rule.limit = money(20);
    rule.version = 2;
    store.put_budget(rule.clone()).await.unwrap();
    let kept = store.budgets(ACCOUNT).await.unwrap();
    assert_eq!(kept.len(), 7);
    for value in &values {
        let kept = kept.iter().find(|kept| kept.id == value.id).unwrap();
        let as_rule = Budget { limit: money(20), version: 2, ..value.clone() };
        assert_eq!(*kept, as_rule);
    }
    let slice = store.claim(make.claim(&values[0], TODAY, 50, &make.node())).await.unwrap();
    assert_eq!(slice.amount, money(20));
    let held = make.reservation(&[&values[1]], TODAY, 21);
    assert!(matches!(store.commit(hold(held)).await, Err(Error::OverLimit { .. })));
    for (value, window) in [(1, TODAY), (2, TOMORROW), (3, TOMORROW)] {
        let spent = spend(&values[value], window, vec![], 5);
        store.commit(rows(vec![make.row(vec![spent])])).await.unwrap();
    }
    let open = Charge { unreconciled: money(5), ..spend(&values[5], TODAY, vec![], 0) };
    store.commit(rows(vec![make.row(vec![open])])).await.unwrap();
    let forget = |made_before: Timestamp| {
        vec![ForgetValues { rule: rule.id.clone(), made_before, since: TOMORROW }]
    };
    assert_eq!(store.forget_values(forget(NOON)).await.unwrap(), []);
    let mut forgotten = store.forget_values(forget(Timestamp(NOON.0 + 1))).await.unwrap();
    forgotten.sort();
    // The first has a slice open, the fourth is used tomorrow, the sixth is to be reconciled; the
    // third is a Call's own.
    let mut expected = [&values[1], &values[2], &values[4]].map(|value| value.id.clone());
    expected.sort();
    assert_eq!(forgotten, expected);
    // Who was identified before is held to the rule all the same.
    let held = make.reservation(&[&values[1]], TODAY, 16);
    assert!(matches!(store.commit(hold(held)).await, Err(Error::OverLimit { .. })));
    let slice = store.claim(make.claim(&values[4], TODAY, 50, &make.node())).await.unwrap();
    assert_eq!(slice.amount, money(20));
    // Their windows stay.
    store.put_budget(values[1].clone()).await.unwrap();
    let again = store.claim(make.claim(&values[1], TODAY, 50, &make.node())).await.unwrap();
    assert_eq!(again.amount, money(15));
    store.delete_budget(&rule.id).await.unwrap();
    assert_eq!(store.budgets(ACCOUNT).await.unwrap(), []);
}
