use super::*;

fn rate(per_million: &str) -> Rate {
    Rate::parse_per_million(per_million).unwrap()
}

fn rates(input: &str, output: &str) -> Rates {
    Rates { input: rate(input), output: rate(output), ..Rates::default() }
}

fn price(rates: Rates) -> Price {
    Price { rates, ..Price::free("test") }
}

fn dollars(text: &str) -> Money {
    Money::parse(text).unwrap()
}

/// A model whose longer prompts cost twice as much, with every rate that there is.
fn full() -> Price {
    let short = Rates {
        cached_input: Some(rate("0.10")),
        cache_write: Some(rate("1.25")),
        cache_write_1h: Some(rate("2.00")),
        reasoning: Some(rate("6.00")),
        ..rates("1.00", "4.00")
    };
    let long = Rates {
        cached_input: Some(rate("0.20")),
        cache_write: Some(rate("2.50")),
        cache_write_1h: Some(rate("4.00")),
        reasoning: Some(rate("12.00")),
        ..rates("2.00", "8.00")
    };
    Price { steps: vec![Step { above: 1_000, rates: long }], ..price(short) }
}

#[test]
fn a_cost_is_rounded_up_once() {
    // Two tokens at a third of a nanodollar each and one at another third: 0.999… of a nanodollar
    // is one, not three.
    let price = price(rates("0.000333", "0.000333"));
    let usage = Usage { input_tokens: 2, output_tokens: 1, ..Usage::default() };
    assert_eq!(price.cost(&usage), Money::from_nanodollars(1));
}

#[test]
fn cached_tokens_are_part_of_the_input_and_billed_once() {
    let price = price(Rates { cached_input: Some(rate("0.10")), ..rates("1.00", "2.00") });
    let usage =
        Usage { input_tokens: 1_000, cached_tokens: 900, output_tokens: 10, ..Usage::default() };
    assert_eq!(price.cost(&usage), dollars("0.00021"));
    let absurd = Usage { cached_tokens: 5_000, ..usage };
    assert_eq!(price.cost(&absurd), dollars("0.00012"));
}

#[test]
fn what_is_kept_for_an_hour_and_what_is_thought_have_rates_of_their_own() {
    let usage = Usage {
        input_tokens: 1_000,
        cached_tokens: 100,
        cache_write_tokens: 500,
        cache_write_1h_tokens: 200,
        output_tokens: 100,
        reasoning_tokens: 40,
        ..Usage::default()
    };
    // 400 × 1 + 100 × 0.1 + 300 × 1.25 + 200 × 2 + 60 × 4 + 40 × 6, in millionths.
    assert_eq!(full().cost(&usage), dollars("0.001665"));
    let plain = price(Rates { cache_write: Some(rate("1.25")), ..rates("1.00", "4.00") });
    // Without rates of their own they cost what they are part of.
    assert_eq!(plain.cost(&usage), dollars("0.001525"));
    let absurd = Usage { cache_write_1h_tokens: 9_000, reasoning_tokens: 9_000, ..usage };
    assert_eq!(full().cost(&absurd), dollars("0.00201"));
}

#[test]
fn a_step_holds_for_all_tokens_of_a_prompt_that_is_longer_than_it() {
    let usage = |input_tokens| Usage { input_tokens, output_tokens: 10, ..Usage::default() };
    assert_eq!(full().cost(&usage(1_000)), dollars("0.00104"));
    assert_eq!(full().cost(&usage(1_001)), dollars("0.002082"));
}

#[test]
fn a_bound_is_never_below_a_cost_within_it() {
    for input_tokens in [0, 1, 999, 1_000, 1_001, 5_000] {
        for (cached, written, hour) in [(0, 0, 0), (9_000, 0, 0), (0, 9_000, 0), (0, 9_000, 9_000)]
        {
            for reasoning_tokens in [0, 50, 100] {
                let usage = Usage {
                    input_tokens,
                    cached_tokens: cached,
                    cache_write_tokens: written,
                    cache_write_1h_tokens: hour,
                    output_tokens: 100,
                    reasoning_tokens,
                    ..Usage::default()
                };
                let cost = full().cost(&usage);
                assert!(cost <= full().bound(input_tokens, 100, CacheWrites::Hour), "{usage:?}");
                assert!(
                    cost <= full().bound(5_000, 100, CacheWrites::Unread),
                    "a shorter prompt than was thought"
                );
            }
        }
    }
}

#[test]
fn a_cheaper_step_lowers_no_bound() {
    let mut price = full();
    price.steps = vec![Step { above: 10, rates: rates("0.50", "0.50") }];
    let short = Usage { input_tokens: 10, output_tokens: 10, ..Usage::default() };
    assert!(price.cost(&short) <= price.bound(100, 10, CacheWrites::Unmarked));
}

#[test]
fn only_what_asks_for_an_hour_is_bounded_at_its_price() {
    let bound = |writes| full().bound(1_000, 0, writes);
    assert_eq!(bound(CacheWrites::Unmarked), dollars("0.00125"));
    assert_eq!(bound(CacheWrites::Minutes), dollars("0.00125"));
    assert_eq!(bound(CacheWrites::Hour), dollars("0.002"));
    assert_eq!(bound(CacheWrites::Unread), dollars("0.002"));
}

#[test]
fn output_tokens_for_an_amount_stay_within_it() {
    for (price, input) in [(price(rates("0.10", "0.40")), 1_000), (full(), 900), (full(), 2_000)] {
        let amount = dollars("0.05");
        let tokens = price.output_tokens_for(amount, input, CacheWrites::Minutes).unwrap();
        assert!(price.bound(input, tokens, CacheWrites::Minutes) <= amount);
        assert!(price.bound(input, tokens + 1, CacheWrites::Minutes) > amount);
    }
    let free = Price::free("free");
    assert_eq!(free.output_tokens_for(dollars("0.01"), 1_000, CacheWrites::Hour), None);
    assert!(free.is_free() && !free.bills_output());
    let late = Price { steps: full().steps, ..Price::free("late") };
    assert!(late.bills_output(), "what only long prompts pay for is paid for");
}

#[test]
fn a_price_travels_as_json_and_old_ones_are_still_read() {
    let written = serde_json::to_string(&full()).unwrap();
    assert_eq!(serde_json::from_str::<Price>(&written).unwrap(), full());
    let old = r#"{"version":"file@1","input":"1.00","output":"4.00","per_request":"0.00"}"#;
    let read: Price = serde_json::from_str(old).unwrap();
    assert_eq!(read, Price { version: "file@1".to_owned(), ..price(rates("1.00", "4.00")) });
    assert_eq!(serde_json::to_string(&read).unwrap(), old);
}
