//! The pool by itself: who is served when, from which slice, and what goes back.

use storage::WindowKind;
use storage::budgets::Origin;
use storage::ledger::{Held, SlicePart};
use tokio::sync::oneshot::error::TryRecvError;
use types::clock::FakeClock;
use types::{ErrorCode, Ids};

use super::*;

const NOW: Timestamp = Timestamp(0);

struct Desk {
    ids: Ids,
    budget: Budget,
    pool: Arc<Pool>,
}

fn money(nanodollars: i64) -> Money {
    Money::from_nanodollars(nanodollars)
}

fn desk(limit: i64) -> Desk {
    let ids = Ids::seeded(Arc::new(FakeClock::new(NOW)), 1);
    let budget = Budget {
        id: BudgetId::new(&ids),
        account: "a".to_owned(),
        scope: storage::Scope::Account,
        limit: money(limit),
        window: WindowKind::Day,
        zone: storage::Zone::UTC,
        rule: None,
        version: 1,
        origin: Origin::Api,
        created_at: NOW,
    };
    let pool = Arc::new(Pool::new(&budget));
    Desk { ids, budget, pool }
}

impl Desk {
    fn take(&self, amount: i64) -> (Taken, bool) {
        self.pool.take(&self.budget, money(amount), NOW)
    }

    fn held(&self, amount: i64) -> Hold {
        match self.take(amount).0 {
            Taken::Held(hold) => hold,
            Taken::Wait(_) => panic!("{amount} is not there"),
        }
    }

    fn waits(&self, amount: i64) -> oneshot::Receiver<Result<Hold, Refusal>> {
        match self.take(amount).0 {
            Taken::Held(_) => panic!("{amount} is there"),
            Taken::Wait(answer) => answer,
        }
    }

    fn install(&self, amount: i64, wanted: i64) -> SliceId {
        let id = SliceId::new(&self.ids);
        let (budget, window) =
            (self.budget.id.clone(), WindowKind::Day.at(NOW, &storage::Zone::UTC));
        self.pool.install(
            Slice { id: id.clone(), budget, window, amount: money(amount) },
            money(wanted),
        );
        id
    }

    fn totals(&self, settled: i64) -> WindowTotals {
        WindowTotals { settled: money(settled), ..WindowTotals::default() }
    }
}

#[test]
fn a_slice_is_eight_bounds_or_one_percent() {
    let desk = desk(1_000);
    let _waiting = desk.waits(1);
    let job = desk.pool.next_job(NOW).unwrap();
    assert!(matches!(job, Job::Claim { wanted, .. } if wanted == money(10)), "{job:?}");
    let _waiting_too = desk.waits(5);
    desk.install(1, 8);
    let job = desk.pool.next_job(NOW);
    // The first was served. The claim came short, so that only a look at the whole budget can
    // refuse the second.
    assert!(matches!(job, Some(Job::LookAgain { arrivals: 2, .. })), "{job:?}");
}

#[test]
fn the_next_slice_is_due_at_half_use_and_a_call_may_draw_on_both() {
    let desk = desk(100);
    let mut first = desk.waits(10);
    let first_slice = desk.install(80, 80);
    let first = first.try_recv().unwrap().unwrap();
    assert!(desk.pool.next_job(NOW).is_none(), "70 of 80 are idle");
    let (second, start_worker) = desk.take(35);
    assert!(start_worker, "35 of 80 are idle");
    assert!(matches!(desk.pool.next_job(NOW), Some(Job::Claim { .. })));
    let second_slice = desk.install(20, 20);
    assert!(desk.pool.next_job(NOW).is_none());
    let both = desk.held(50);
    let charge = both.settle(money(40), Money::ZERO).unwrap();
    let Held::Slices(parts) = &charge.held else { panic!("{charge:?}") };
    let charged: Vec<_> = parts.iter().map(|part| (&part.slice, part.charged)).collect();
    assert_eq!(charged, [(&first_slice, money(35)), (&second_slice, money(5))]);
    assert_eq!(desk.pool.idle_in(WindowKey(0)), money(15));
    drop((first, second));
    assert_eq!(desk.pool.idle_in(WindowKey(0)), money(60));
}

#[test]
fn nobody_overtakes_who_waits() {
    let desk = desk(100);
    let mut large = desk.waits(50);
    let mut small = desk.waits(1);
    desk.install(20, 20);
    assert_eq!(
        small.try_recv().unwrap_err(),
        TryRecvError::Empty,
        "20 are there, but it is second"
    );
    desk.install(40, 40);
    let large = large.try_recv().unwrap().unwrap();
    assert!(small.try_recv().unwrap().is_ok());
    drop(large);
}

#[test]
fn who_has_gone_is_passed_over_and_its_money_comes_back() {
    let desk = desk(100);
    drop(desk.waits(50));
    let mut second = desk.waits(10);
    desk.install(20, 20);
    let hold = second.try_recv().unwrap().unwrap();
    drop(hold);
    assert_eq!(desk.pool.idle_in(WindowKey(0)), money(20));
}

#[test]
fn what_an_older_slice_frees_goes_back_with_its_row() {
    let desk = desk(1_000);
    let mut first = desk.waits(10);
    let oldest = desk.install(10, 10);
    let first = first.try_recv().unwrap().unwrap();
    for _ in 0..2 {
        desk.install(80, 80);
    }
    let charge = first.settle(money(4), Money::ZERO).unwrap();
    let part = SlicePart { slice: oldest, charged: money(4), returned: money(6) };
    assert_eq!(charge.held, Held::Slices(vec![part]));
    assert_eq!(desk.pool.idle_in(WindowKey(0)), money(160));
}

#[test]
fn a_bill_above_what_was_held_is_charged_whole() {
    let desk = desk(100);
    let mut waiting = desk.waits(10);
    desk.install(80, 80);
    let hold = waiting.try_recv().unwrap().unwrap();
    let charge = hold.settle(money(15), Money::ZERO).unwrap();
    assert_eq!(charge.settled, money(15));
    assert!(matches!(&charge.held, Held::Slices(parts) if parts[0].charged == money(10)));
}

#[test]
fn a_new_window_returns_what_is_idle_and_a_late_slice_of_the_old_one() {
    let desk = desk(1_000);
    let mut waiting = desk.waits(10);
    desk.install(80, 80);
    let hold = waiting.try_recv().unwrap().unwrap();
    let tomorrow = Timestamp(86_400_000_000);
    let job = desk.pool.next_job(tomorrow);
    assert!(matches!(&job, Some(Job::Return(parts)) if parts[0].amount == money(70)), "{job:?}");
    let late = desk.install(80, 80);
    let job = desk.pool.next_job(tomorrow);
    assert!(matches!(&job, Some(Job::Return(parts)) if parts[0].slice == late), "{job:?}");
    // The clock goes back: the old window stays closed.
    let (taken, _) = desk.take(1);
    assert!(matches!(taken, Taken::Wait(_)));
    let charge = hold.settle(money(3), Money::ZERO).unwrap();
    assert_eq!(charge.window, WindowKey(0), "the window of its reservation");
    assert!(matches!(&charge.held, Held::Slices(parts) if parts[0].returned == money(7)));
}

#[test]
fn nothing_is_claimed_for_who_came_since_the_look_and_needs_too_much() {
    let desk = desk(100);
    let mut before = desk.waits(50);
    desk.install(0, 400);
    let Some(Job::LookAgain { arrivals, .. }) = desk.pool.next_job(NOW) else { panic!() };
    let mut after = desk.waits(50);
    assert!(desk.pool.refuse(&desk.totals(70), arrivals).answer().is_none());
    assert!(before.try_recv().unwrap().is_err());
    // It is looked for next, and refused: a herd at a used-up budget is not told to come again.
    let next = desk.pool.next_job(NOW);
    let Some(Job::LookAgain { arrivals, .. }) = next else { panic!("{next:?}") };
    assert!(desk.pool.refuse(&desk.totals(70), arrivals).answer().is_none());
    assert!(matches!(after.try_recv().unwrap(), Err(Refusal::Exceeded { .. })));
}

#[test]
fn only_those_are_refused_who_arrived_before_the_look_and_need_too_much() {
    let desk = desk(100);
    let mut before = desk.waits(50);
    let mut modest = desk.waits(20);
    desk.install(0, 400);
    let Some(Job::LookAgain { arrivals, .. }) = desk.pool.next_job(NOW) else { panic!() };
    let mut after = desk.waits(50);
    let wanted = desk.pool.refuse(&desk.totals(70), arrivals).answer().unwrap();
    assert_eq!((wanted.needed, wanted.size), (money(20), money(160)), "for the one who needs 20");
    let refused = before.try_recv().unwrap().unwrap_err();
    assert!(matches!(refused, Refusal::Exceeded { free } if free == money(30)), "{refused:?}");
    desk.install(30, 160);
    assert!(modest.try_recv().unwrap().is_ok());
    assert_eq!(after.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[test]
fn a_store_that_does_not_answer_fails_who_waits_and_keeps_what_was_to_return() {
    let desk = desk(100);
    let mut waiting = desk.waits(50);
    let (mut drain, start_worker) = desk.pool.drain();
    assert!(!start_worker, "one is at work");
    desk.install(20, 20);
    let Some(Job::Return(parts)) = desk.pool.next_job(NOW) else { panic!() };
    desk.pool.fail(&Failure::new(ErrorCode::StorageUnavailable, "told to"), parts);
    assert!(matches!(waiting.try_recv().unwrap(), Err(Refusal::Failed(_))));
    assert!(drain.try_recv().unwrap().is_err());
    let (taken, start_worker) = desk.take(1);
    assert!(matches!(taken, Taken::Wait(_)) && start_worker);
    assert!(matches!(desk.pool.next_job(NOW), Some(Job::Return(_))), "tried again");
}

#[test]
fn what_is_being_claimed_for_a_refused_call_goes_back_before_it_is_told() {
    let desk = desk(1_000);
    let mut small = desk.waits(1);
    desk.install(100, 100);
    let small = small.try_recv().unwrap().unwrap();
    assert!(small.settle(money(1), Money::ZERO).is_some());
    assert!(desk.pool.next_job(NOW).is_none());
    // Large enough that more is claimed at its size, while another budget refuses it.
    let large = desk.held(60);
    let job = desk.pool.next_job(NOW).unwrap();
    assert!(matches!(job, Job::Claim { wanted, .. } if wanted == money(480)), "{job:?}");
    drop(large);
    let (mut told, start_worker) = desk.pool.hand_in().unwrap();
    assert!(!start_worker, "it is at work");
    let slice = desk.install(480, 480);
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
    let Some(Job::Return(parts)) = desk.pool.next_job(NOW) else { panic!("it stays open") };
    assert!(parts.iter().any(|part| part.slice == slice && part.amount == money(480)));
    drop(desk.pool.next_job(NOW));
    assert!(told.try_recv().unwrap().is_ok());
}

#[test]
fn a_look_that_a_new_window_overtakes_refuses_nobody() {
    let desk = desk(100);
    let mut waiting = desk.waits(10);
    desk.install(5, 80);
    let Some(Job::LookAgain { arrivals, .. }) = desk.pool.next_job(NOW) else { panic!() };
    let tomorrow = Timestamp(24 * 60 * 60 * 1_000_000);
    let window = desk.pool.window(&desk.budget, tomorrow);
    let looked = desk.pool.refuse(&desk.totals(95), arrivals);
    assert!(looked.answer().is_none());
    assert_eq!(waiting.try_recv().unwrap_err(), TryRecvError::Empty);
    // What is left of the old one goes back, and the new one is claimed of.
    assert!(matches!(desk.pool.next_job(tomorrow), Some(Job::Return(_))));
    let job = desk.pool.next_job(tomorrow);
    assert!(matches!(job, Some(Job::Claim { window: new, .. }) if new == window), "{job:?}");
}

#[test]
fn a_pool_that_nobody_asks_is_over_although_its_window_is_not() {
    let desk = desk(100);
    let _waiting = desk.waits(10);
    assert!(!desk.pool.is_over(Timestamp(1), NOW));
    assert!(desk.pool.is_over(Timestamp(1), Timestamp(1)));
}
