//! Tables on the terminal.

use serde_json::Value;

/// Rows under their headings, columns as wide as their widest cell.
pub(crate) fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            let cells =
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([headings[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = headings.iter().map(|&heading| heading.to_owned()).collect();
    let mut lines = vec![line(&head)];
    lines.extend(rows.iter().map(|row| line(row)));
    if rows.is_empty() {
        lines.push("(none)".to_owned());
    }
    lines.join("\n")
}

/// The rows of an answer's `data`, one cell per field.
pub(crate) fn rows(answer: &Value, fields: &[&str]) -> Vec<Vec<String>> {
    let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    data.iter().map(|row| fields.iter().map(|field| cell(&row[*field])).collect()).collect()
}

/// A value as a cell: one line, without what a terminal would act on. Models, tools and clients
/// wrote some of it.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shown(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            shown(&value.to_string())
        }
    }
}

/// A time in microseconds since the epoch as people read it, in UTC and to the second.
pub(crate) fn time(micros: &Value) -> String {
    let Some(micros) = micros.as_i64() else { return cell(micros) };
    let seconds = micros.div_euclid(1_000_000);
    let (day, second) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
    let (year, month, day) = civil(day);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Seconds of a day: UTC as computers count it has no leap seconds.
const DAY_SECONDS: i64 = 86_400;

/// Year, month and day of the day `days` after 1 January 1970 in the Gregorian calendar. Years are
/// counted from March, so that the leap day is a year's last.
const fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    /// Days from 1 March of the year 0 to 1 January 1970.
    const EPOCH: i64 = 719_468;
    let since = days + EPOCH;
    let (era, day) = (since.div_euclid(DAYS_OF_400_YEARS), since.rem_euclid(DAYS_OF_400_YEARS));
    // Less the leap days before: every 4 years, not every 100, but every 400.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // March to July and August to December have 153 days each.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// Whose money or Calls: `account`, `key NAME`, `session NAME`, `metadata NAME=VALUE`.
pub(crate) fn scope(scope: &Value) -> String {
    let Some((kind, of)) = scope.as_object().and_then(|scope| scope.iter().next()) else {
        return cell(scope);
    };
    let of = match (of.get("name"), of.get("value")) {
        (Some(name), Some(value)) => format!("{}={}", cell(name), cell(value)),
        (_, _) => self::scope(of),
    };
    format!("{} {of}", shown(kind))
}

/// Over which time: `day`, `day Europe/Berlin`, `rolling 24h`.
pub(crate) fn window(window: &Value, zone: &Value) -> String {
    let zone = zone.as_str().filter(|zone| *zone != "UTC");
    match (window.get("rolling"), zone) {
        (Some(length), _) => format!("rolling {}", cell(length)),
        (None, Some(zone)) => format!("{} {}", cell(window), shown(zone)),
        (None, None) => cell(window),
    }
}

fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let answer = json!({ "data": [{ "id": "a", "n": 12 }, { "id": "long", "n": null }] });
        let fields = ["id", "n"];
        assert_eq!(render(&fields, &rows(&answer, &fields)), "id    n\na     12\nlong  -");
        assert_eq!(render(&fields, &[]), "id  n\n(none)");
    }

    #[test]
    fn times_and_scopes_can_be_read() {
        for (seconds, expected) in [
            (0_i64, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (1_709_251_200, "2024-03-01 00:00:00"),
            (1_795_275_002, "2026-11-21 15:30:02"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
        ] {
            assert_eq!(time(&json!(seconds * 1_000_000 + 999_999)), expected);
        }
        assert_eq!(time(&Value::Null), "-");
        assert_eq!(scope(&json!("account")), "account");
        assert_eq!(scope(&json!({ "key": "agent" })), "key agent");
        assert_eq!(scope(&json!({ "session": "nightly" })), "session nightly");
    }

    #[test]
    fn what_others_wrote_stays_on_its_line() {
        assert_eq!(cell(&json!("a\n\u{1b}[2Jb ü")), "a\\n\\u{1b}[2Jb ü");
    }
}
