use types::{Rate, Rates};

use super::*;

fn price() -> Price {
    let rates = Rates { output: Rate::from_picodollars(1_000), ..Rates::default() };
    Price { rates, ..Price::free("x") }
}

fn money(nanodollars: i64) -> Money {
    Money::from_nanodollars(nanodollars)
}

fn held(nanodollars: i64) -> Terms {
    Terms { amount: money(nanodollars), bound: money(nanodollars), output_cap: None }
}

fn used(output_tokens: u64) -> Billed {
    Usage { output_tokens, ..Usage::default() }.into()
}

#[test]
fn an_unknown_bill_is_charged_at_what_was_reserved() {
    let verdict = judge(Some(&price()), held(50), &Billed::Unknown);
    assert_eq!((verdict.unreconciled, verdict.settled), (money(50), Money::ZERO));
    assert_eq!(verdict.cost, None, "nobody knows it");
    let free = judge(Some(&Price::free("x")), held(0), &Billed::Unknown);
    assert_eq!(free.cost, Some(Money::ZERO));
}

#[test]
fn an_unknown_bill_is_not_zero_because_nothing_was_reserved() {
    let terms = Terms { amount: Money::ZERO, ..held(50) };
    let verdict = judge(Some(&price()), terms, &Billed::Unknown);
    assert_eq!((verdict.unreconciled, verdict.cost), (money(50), None));
    assert!(!judge(Some(&price()), terms, &used(51)).over_bound, "nothing was to be kept to");
}

#[test]
fn a_known_bill_is_settled_even_above_the_bound() {
    let verdict = judge(Some(&price()), held(50), &used(50));
    assert_eq!((verdict.settled, verdict.over_bound), (money(50), false));
    let verdict = judge(Some(&price()), held(50), &used(51));
    assert_eq!((verdict.settled, verdict.over_bound), (money(51), true));
    // Without a hard budget nothing was bounded.
    assert!(!judge(Some(&price()), held(0), &used(51)).over_bound);
}

#[test]
fn what_was_not_billed_costs_nothing_and_what_has_no_price_is_unknown() {
    assert_eq!(judge(Some(&price()), held(50), &Billed::No).cost, Some(Money::ZERO));
    assert_eq!(judge(None, held(0), &used(5)), Verdict::default());
}

#[test]
fn a_clock_that_went_back_makes_no_negative_time() {
    assert_eq!(wall_micros(Timestamp(5), Timestamp(9)), 0);
    assert_eq!(wall_micros(Timestamp(9), Timestamp(5)), 4);
}
