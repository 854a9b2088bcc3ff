use super::*;

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
fn sums_stop_at_the_ends_of_the_range() {
    let one = Money::from_nanodollars(1);
    assert_eq!(Money::MAX + one, Money::MAX);
    assert_eq!([Money::MAX, Money::MAX].into_iter().sum::<Money>(), Money::MAX);
    let least = Money::from_nanodollars(i64::MIN);
    assert_eq!(least - one, least);
}
