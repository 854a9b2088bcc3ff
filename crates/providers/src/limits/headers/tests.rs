use ::http::header::{HeaderName, HeaderValue};

use super::*;

/// 2026-11-21T22:42:58Z.
const NOW: Timestamp = Timestamp(1_795_300_978_000_000);

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    });
    pairs.collect()
}

/// What is read, as `name limit remaining reset_ms`.
fn read(pairs: &[(&'static str, &str)]) -> Vec<String> {
    let told = Told::read(&headers(pairs), NOW);
    let shown = told.readings.iter().map(|reading| {
        let limit = reading.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        let reset = reading.reset.map(|reset| reset.after.as_millis());
        format!("{} {limit} {} {reset:?}", reading.kind.name, reading.remaining)
    });
    shown.collect()
}

#[test]
fn openai_says_durations() {
    let told = read(&[
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-limit-tokens", "150000"),
        ("x-ratelimit-remaining-tokens", "149984"),
        ("x-ratelimit-reset-tokens", "6m0s"),
    ]);
    assert_eq!(told, ["requests 60 59 Some(1000)", "tokens 150000 149984 Some(360000)"]);
}

#[test]
fn anthropic_says_dates() {
    let told = read(&[
        ("anthropic-ratelimit-requests-limit", "1000"),
        ("anthropic-ratelimit-requests-remaining", "999"),
        ("anthropic-ratelimit-requests-reset", "2026-11-21T22:42:59Z"),
        ("anthropic-ratelimit-input-tokens-limit", "80000"),
        ("anthropic-ratelimit-input-tokens-remaining", "79000"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-11-22T00:43:00.5+02:00"),
        ("anthropic-ratelimit-output-tokens-remaining", "7"),
    ]);
    let expected = [
        "anthropic_requests 1000 999 Some(1000)",
        "anthropic_input_tokens 80000 79000 Some(2500)",
        "anthropic_output_tokens - 7 None",
    ];
    assert_eq!(told, expected);
}

#[test]
fn others_say_seconds_and_times_since_the_epoch() {
    let told = read(&[
        ("x-ratelimit-remaining-tokens-minute", "10"),
        ("x-ratelimit-reset-tokens-minute", "33.25"),
        ("x-ratelimit-limit", "20"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1795300980000"),
    ]);
    assert_eq!(told, ["tokens_minute - 10 Some(33250)", "all_requests 20 0 Some(2000)"]);
    let told = read(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "1795300981")]);
    assert_eq!(told, ["draft_requests - 0 Some(3000)"]);
}

#[test]
fn what_cannot_be_read_says_nothing() {
    for (remaining, reset) in [("many", "1s"), ("", "1s"), ("-1", "1s")] {
        let pairs =
            [("x-ratelimit-remaining-requests", remaining), ("x-ratelimit-reset-requests", reset)];
        assert_eq!(read(&pairs), Vec::<String>::new(), "{remaining}");
    }
    for reset in [
        "soon",
        "",
        "-3",
        "NaN",
        "1x",
        "2026-13-01T00:00:00Z",
        "99999-01-01T00:00:00Z",
        "s",
        "1..5s",
    ] {
        let pairs =
            [("x-ratelimit-remaining-requests", "1"), ("x-ratelimit-reset-requests", reset)];
        assert_eq!(read(&pairs), ["requests - 1 None"], "{reset}");
    }
}

#[test]
fn no_reset_is_longer_than_a_day() {
    for reset in ["999999h", "4102444800", "2100-01-01T00:00:00Z", "99999999"] {
        let pairs =
            [("x-ratelimit-remaining-requests", "1"), ("x-ratelimit-reset-requests", reset)];
        assert_eq!(read(&pairs), ["requests - 1 Some(86400000)"], "{reset}");
    }
}

#[test]
fn go_durations_are_read() {
    let cases = [
        ("1h2m3.5s", 3_723_500),
        ("12ms", 12),
        ("6m0s", 360_000),
        ("1d", 86_400_000),
        ("250us", 0),
    ];
    for (text, millis) in cases {
        assert_eq!(spelled(text).map(|time| time.as_millis()), Some(millis), "{text}");
    }
    assert_eq!(spelled(""), None);
}

#[test]
fn days_are_counted_as_the_calendar_does() {
    let cases = [
        ((1970, 1, 1), 0),
        ((2000, 2, 29), 11_016),
        ((2026, 11, 21), 20_778),
        ((1969, 12, 31), -1),
    ];
    for ((year, month, day), days) in cases {
        assert_eq!(days_since_epoch(year, month, day), Some(days));
    }
}

#[test]
fn the_wait_that_is_asked_for_is_read_in_every_way() {
    let wait = |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs), NOW);
    assert_eq!(wait(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
    assert_eq!(
        wait(&[("retry-after", "2"), ("retry-after-ms", "150")]),
        Some(Duration::from_millis(150))
    );
    assert_eq!(
        wait(&[("retry-after", "Sat, 21 Nov 2026 22:43:08 GMT")]),
        Some(Duration::from_secs(10))
    );
    assert_eq!(wait(&[("retry-after", "9999999")]), Some(WAIT_MAX));
    assert_eq!(wait(&[("retry-after", "later")]), None);
}

#[test]
fn an_offset_that_no_place_has_is_no_date() {
    for offset in ["+9223372036854775807:00", "+24:00", "-02:60", "+-2:00", "+02:-1", "+2"] {
        assert_eq!(date(&format!("2026-11-21T22:42:58{offset}")), None, "{offset}");
    }
    let zulu = date("2026-11-21T22:42:58Z").unwrap();
    let east = date("2026-11-22T22:41:58+23:59").unwrap();
    assert_eq!(zulu, east);
}
