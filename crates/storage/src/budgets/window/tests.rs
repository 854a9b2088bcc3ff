use super::*;

fn at(text: &str) -> Timestamp {
    let moment: jiff::Timestamp = text.parse().unwrap();
    Timestamp(moment.as_microsecond())
}

fn text(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap().to_string()
}

/// Beginning and end of the window in which a moment lies.
fn window(kind: WindowKind, now: &str, zone: &str) -> (String, String) {
    let zone = Zone::parse(zone).unwrap();
    let key = kind.at(at(now), &zone);
    (text(key.0), text(kind.end(key, &zone).unwrap().seconds()))
}

fn is(kind: WindowKind, now: &str, zone: &str, [from, to]: [&str; 2]) {
    assert_eq!(window(kind, now, zone), (from.to_owned(), to.to_owned()), "{kind} {now} {zone}");
}

#[test]
fn calendar_windows_begin_and_end_where_the_zone_says() {
    is(
        WindowKind::Day,
        "2026-11-22T09:00:00Z",
        "UTC",
        ["2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"],
    );
    is(
        WindowKind::Week,
        "2026-11-22T23:59:59Z",
        "UTC",
        ["2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"],
    );
    is(
        WindowKind::Month,
        "2026-11-22T09:00:00Z",
        "Europe/Berlin",
        ["2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"],
    );
    // Half past an hour of UTC is a whole one in India.
    is(
        WindowKind::Hour,
        "2026-11-22T09:29:59Z",
        "Asia/Kolkata",
        ["2026-11-22T08:30:00Z", "2026-11-22T09:30:00Z"],
    );
    // 2028 is a leap year.
    is(
        WindowKind::Month,
        "2028-02-29T12:00:00Z",
        "America/New_York",
        ["2028-02-01T05:00:00Z", "2028-03-01T05:00:00Z"],
    );
}

#[test]
fn a_day_of_the_change_of_clocks_has_23_or_25_hours() {
    is(
        WindowKind::Day,
        "2026-03-29T12:00:00Z",
        "Europe/Berlin",
        ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"],
    );
    is(
        WindowKind::Day,
        "2026-10-25T22:59:59Z",
        "Europe/Berlin",
        ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"],
    );
    is(
        WindowKind::Week,
        "2026-10-25T12:00:00Z",
        "Europe/Berlin",
        ["2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z"],
    );
    // The hour that comes twice is two windows.
    let zone = Zone::parse("Europe/Berlin").unwrap();
    let first = WindowKind::Hour.at(at("2026-10-25T00:30:00Z"), &zone);
    let second = WindowKind::Hour.at(at("2026-10-25T01:30:00Z"), &zone);
    assert_eq!(second.0 - first.0, 3_600);
    // In Cairo the clock skips midnight on a Friday in April.
    is(
        WindowKind::Day,
        "2026-04-24T10:00:00Z",
        "Africa/Cairo",
        ["2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"],
    );
}

/// At every moment the window has begun and has not ended, and windows follow each other.
#[test]
fn windows_cover_time_without_gaps_and_never_go_back() {
    let rolling = WindowKind::Rolling(Rolling::parse("30h").unwrap());
    let kinds = [WindowKind::Hour, WindowKind::Day, WindowKind::Week, WindowKind::Month, rolling];
    for name in ["UTC", "Europe/Berlin", "Africa/Cairo", "Asia/Kolkata", "America/Sao_Paulo"] {
        let zone = Zone::parse(name).unwrap();
        for kind in kinds {
            let mut last = WindowKey(i64::MIN);
            for step in 0..3_000 {
                let now = Timestamp((1_700_000_000 + step * 13_007) * 1_000_000);
                let key = kind.at(now, &zone);
                let end = kind.end(key, &zone).unwrap();
                assert!(key.0 <= now.seconds() && now < end, "{kind} {name} {now:?}");
                assert!(key >= last, "{kind} {name} {now:?}");
                assert!(kind.at(end, &zone) > key, "{kind} {name} {now:?}");
                last = key;
            }
        }
    }
}

#[test]
fn a_rolling_window_is_its_last_60_cells() {
    let kind = WindowKind::Rolling(Rolling::parse("1h").unwrap());
    let now = kind.at(at("2026-11-22T09:00:30Z"), &Zone::UTC);
    assert_eq!(text(now.0), "2026-11-22T09:00:00Z");
    assert!(kind.counts(now, now));
    assert!(kind.counts(WindowKey(now.0 - 59 * 60), now));
    assert!(!kind.counts(WindowKey(now.0 - 60 * 60), now));
    assert!(!kind.counts(WindowKey(now.0 + 60), now));
    assert!(WindowKind::Day.counts(now, now) && !WindowKind::Day.counts(WindowKey(0), now));
}

#[test]
fn what_is_written_is_read_and_what_is_none_says_what_would_be() {
    for text in ["\"total\"", "\"hour\"", "\"week\"", r#"{"rolling":"24h"}"#, r#"{"rolling":"7d"}"#]
    {
        let kind: WindowKind = serde_json::from_str(text).unwrap();
        let again = serde_json::to_string(&kind).unwrap();
        assert_eq!(serde_json::from_str::<WindowKind>(&again).unwrap(), kind, "{text}");
        assert_eq!(WindowKind::parse(&kind.to_string()).unwrap(), kind);
    }
    assert_eq!(Rolling::parse("1440m").unwrap().to_string(), "1d");
    for text in ["", "h", "24", "+1h", "90s", "0s", "9999d", "1é", "24 h"] {
        assert_eq!(Rolling::parse(text), Err(WrongWindow::Rolling), "{text}");
    }
    let wrong = serde_json::from_str::<WindowKind>("\"year\"").unwrap_err().to_string();
    assert!(wrong.contains("\"month\" or") && wrong.contains("`year`"), "{wrong}");
    let wrong = serde_json::from_str::<Zone>("\"Europe/Atlantis\"").unwrap_err().to_string();
    assert!(wrong.contains("Europe/Berlin") && wrong.contains("`Europe/Atlantis`"), "{wrong}");
    let zone: Zone = serde_json::from_str("\"europe/berlin\"").unwrap();
    assert_eq!((zone.name(), zone.is_utc()), ("Europe/Berlin", false));
    assert_eq!(Zone::parse("utc").unwrap(), Zone::UTC);
}
