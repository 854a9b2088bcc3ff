use super::*;
use types::Timestamp;

const HOUR_MS: i64 = 3_600_000;

fn dollars(text: &str) -> Money {
    Money::parse(text).unwrap()
}

#[test]
fn a_days_limit_is_never_spent_twice_and_a_new_day_has_its_own() {
    let places = Places::default();
    let (route, other): (Arc<str>, Arc<str>) = (Arc::from("route/a"), Arc::from("route/b"));
    let (max, monday) = (dollars("0.10"), Timestamp::from_millis(20 * 24 * HOUR_MS));
    let mut purse = places.purse(&route, max, monday).unwrap();
    assert_eq!(purse.take(), max);
    // Two beside each other could spend the same.
    assert_eq!(places.purse(&route, max, monday).unwrap_err(), Missing::PassedOver);
    assert!(places.purse(&other, max, monday).is_ok());
    purse.pay(dollars("0.04"));
    drop(purse);
    let evening = Timestamp::from_millis(20 * 24 * HOUR_MS + 23 * HOUR_MS);
    let mut purse = places.purse(&route, max, evening).unwrap();
    assert_eq!(purse.take(), dollars("0.06"));
    purse.pay(dollars("0.07"));
    drop(purse);
    assert_eq!(places.purse(&route, max, evening).unwrap_err(), Missing::Refused);
    let tuesday = Timestamp::from_millis(21 * 24 * HOUR_MS);
    // What was taken by somebody who never says what of it was spent is spent.
    assert_eq!(places.purse(&route, max, tuesday).unwrap().take(), max);
    assert_eq!(places.purse(&route, max, tuesday).unwrap_err(), Missing::Refused);
    assert_eq!(places.purse(&route, max, monday).unwrap_err(), Missing::Refused, "it is over");
}

#[test]
fn there_are_so_many_places_and_none_after_a_stop() {
    let places = Places::default();
    let mut held: Vec<_> = std::iter::from_fn(|| places.place()).collect();
    assert_eq!(held.len(), 64);
    held.pop();
    assert!(places.place().is_some());
    places.stop();
    assert!(places.place().is_none());
}

#[test]
fn routes_without_end_do_not_fill_the_memory() {
    let places = Places::default();
    let (max, today) = (dollars("1"), Timestamp::from_millis(20 * 24 * HOUR_MS));
    for number in 0..256 {
        drop(places.purse(&Arc::from(format!("route/{number}")), max, today).unwrap());
    }
    let one_more: Arc<str> = Arc::from("route/more");
    assert_eq!(places.purse(&one_more, max, today).unwrap_err(), Missing::PassedOver);
    let tomorrow = Timestamp::from_millis(21 * 24 * HOUR_MS);
    assert!(places.purse(&one_more, max, tomorrow).is_ok());
}
