use super::*;

fn price(input: &str, output: &str) -> Price {
    Price {
        input: Rate::parse_per_million(input).unwrap(),
        output: Rate::parse_per_million(output).unwrap(),
        ..Price::free("test")
    }
}

#[test]
fn decimal_strings_travel_both_ways() {
    for (text, nanodollars, shown) in [
        ("5.00", 5_000_000_000, "5.00"),
        ("0.000000001", 1, "0.000000001"),
        ("12", 12_000_000_000, "12.00"),
        ("0.10", 100_000_000, "0.10"),
        ("0.1230000000000", 123_000_000, "0.123"),
    ] {
        let money = Money::parse(text).unwrap();
        assert_eq!((money.nanodollars(), money.to_string().as_str()), (nanodollars, shown));
    }
    assert_eq!(Money::from_nanodollars(-1_500_000_000).to_string(), "-1.50");
    let shown = |nanodollars| Money::from_nanodollars(nanodollars).to_string();
    assert_eq!([shown(0), shown(-1), shown(10_020_000_000)], ["0.00", "-0.000000001", "10.02"]);
    assert_eq!(shown(i64::MAX), "9223372036.854775807");
    assert_eq!(shown(i64::MIN), "-9223372036.854775808");
}

#[test]
fn what_is_no_amount_is_refused_with_the_reason() {
    for text in ["", "-1", "+1", "1e3", "1.", ".5", "1_000", "0x1", "NaN", "1,5"] {
        assert_eq!(Money::parse(text), Err(ParseMoneyError::NotANumber), "{text}");
    }
    assert_eq!(Money::parse("0.0000000001"), Err(ParseMoneyError::TooPrecise(9)));
    assert_eq!(Money::parse("99999999999"), Err(ParseMoneyError::TooLarge));
}

#[test]
fn a_cost_is_rounded_up_once() {
    // Two tokens at a third of a nanodollar each and one at another third: 0.999… of a nanodollar
    // is one, not three.
    let price = price("0.000333", "0.000333");
    let usage = Usage { input_tokens: 2, output_tokens: 1, ..Usage::default() };
    assert_eq!(price.cost(&usage), Money::from_nanodollars(1));
}

#[test]
fn cached_tokens_are_part_of_the_input_and_billed_once() {
    let price = Price {
        cached_input: Some(Rate::parse_per_million("0.10").unwrap()),
        ..price("1.00", "2.00")
    };
    let usage =
        Usage { input_tokens: 1_000, cached_tokens: 900, output_tokens: 10, ..Usage::default() };
    assert_eq!(price.cost(&usage), Money::parse("0.00021").unwrap());
    let absurd = Usage { cached_tokens: 5_000, ..usage };
    assert_eq!(price.cost(&absurd), Money::parse("0.00012").unwrap());
}

#[test]
fn a_bound_is_never_below_a_cost_within_it() {
    let price = Price {
        cache_write: Some(Rate::parse_per_million("1.25").unwrap()),
        ..price("1.00", "4.00")
    };
    let bound = price.bound(1_000, 100);
    for (cached, written) in [(0, 0), (1_000, 0), (0, 1_000), (300, 300)] {
        let usage = Usage {
            input_tokens: 1_000,
            cached_tokens: cached,
            cache_write_tokens: written,
            output_tokens: 100,
            reasoning_tokens: 0,
        };
        assert!(price.cost(&usage) <= bound);
    }
}

#[test]
fn output_tokens_for_an_amount_stay_within_it() {
    let price = price("0.10", "0.40");
    let amount = Money::parse("0.01").unwrap();
    let tokens = price.output_tokens_for(amount, 1_000).unwrap();
    assert!(price.bound(1_000, tokens) <= amount);
    assert!(price.bound(1_000, tokens + 1) > amount);
    assert_eq!(Price::free("free").output_tokens_for(amount, 1_000), None);
}

#[test]
fn sums_stop_at_the_ends_of_the_range() {
    let one = Money::from_nanodollars(1);
    assert_eq!(Money::MAX + one, Money::MAX);
    assert_eq!([Money::MAX, Money::MAX].into_iter().sum::<Money>(), Money::MAX);
    let least = Money::from_nanodollars(i64::MIN);
    assert_eq!(least - one, least);
}
