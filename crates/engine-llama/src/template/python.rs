//! What templates expect of Python: `json.dumps` and `strftime`, byte for byte where models saw it
//! in training.

use std::fmt::Write as _;

use serde_json::Value;
use types::Timestamp;

/// Length of a text made by `strftime`, in bytes.
const TIME_BYTES_MAX: usize = 1024;

/// `json.dumps(value, ensure_ascii=False, indent=indent)`: `", "` and `": "` between, or lines if
/// indented.
pub(super) fn json_dumps(value: &Value, indent: Option<usize>) -> String {
    let mut out = String::new();
    dump(value, indent.map(|width| (width.min(16), 0)), &mut out);
    out
}

/// `lines`: width of an indent, and depth.
fn dump(value: &Value, lines: Option<(usize, usize)>, out: &mut String) {
    let deeper = lines.map(|(width, depth)| (width, depth + 1));
    match value {
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "[" } else { separator(lines) });
                new_line(deeper, out);
                dump(item, deeper, out);
            }
            new_line(lines, out);
            out.push(']');
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (key, field)) in fields.iter().enumerate() {
                out.push_str(if index == 0 { "{" } else { separator(lines) });
                new_line(deeper, out);
                out.push_str(&text(key));
                out.push_str(": ");
                dump(field, deeper, out);
            }
            new_line(lines, out);
            out.push('}');
        }
        Value::String(string) => out.push_str(&text(string)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            out.push_str(&value.to_string());
        }
    }
}

fn separator(lines: Option<(usize, usize)>) -> &'static str {
    if lines.is_some() { "," } else { ", " }
}

fn new_line(lines: Option<(usize, usize)>, out: &mut String) {
    if let Some((width, depth)) = lines {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', width * depth));
    }
}

fn text(string: &str) -> String {
    // serde_json escapes exactly what Python escapes with ensure_ascii=False, U+007F aside, which
    // neither does.
    Value::from(string).to_string()
}

/// `datetime.now(UTC).strftime(format)` for the directives that templates use; others stay as they
/// are.
pub(super) fn strftime(format: &str, now: Timestamp) -> String {
    let time = Civil::from(now);
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if out.len() > TIME_BYTES_MAX {
            break;
        }
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('-') => {
                let plain = time.directive(letters.next());
                out.push_str(plain.trim_start_matches('0'));
            }
            directive => out.push_str(&time.directive(directive)),
        }
    }
    out
}

struct Civil {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    seconds: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

impl Civil {
    /// The proleptic Gregorian date in UTC (Howard Hinnant's `civil_from_days`).
    fn from(now: Timestamp) -> Self {
        let days = now.seconds().div_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: usize::try_from(month - 1).unwrap_or(0),
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            weekday: usize::try_from(days.rem_euclid(7)).unwrap_or(0),
            seconds: now.seconds().rem_euclid(86_400),
        }
    }

    fn directive(&self, directive: Option<char>) -> String {
        let (hour, minute) = (self.seconds / 3_600, self.seconds / 60 % 60);
        let mut out = String::new();
        let written = match directive {
            Some('Y') => write!(out, "{}", self.year),
            Some('y') => write!(out, "{:02}", self.year.rem_euclid(100)),
            Some('m') => write!(out, "{:02}", self.month + 1),
            Some('B') => write!(out, "{}", MONTHS[self.month]),
            Some('b') => write!(out, "{}", &MONTHS[self.month][..3]),
            Some('d') => write!(out, "{:02}", self.day),
            Some('A') => write!(out, "{}", DAYS[self.weekday]),
            Some('a') => write!(out, "{}", &DAYS[self.weekday][..3]),
            Some('H') => write!(out, "{hour:02}"),
            Some('I') => write!(out, "{:02}", (hour + 11) % 12 + 1),
            Some('p') => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            Some('M') => write!(out, "{minute:02}"),
            Some('S') => write!(out, "{:02}", self.seconds % 60),
            Some('Z') => write!(out, "UTC"),
            Some('%') => write!(out, "%"),
            Some(other) => write!(out, "%{other}"),
            None => write!(out, "%"),
        };
        written.map_or_else(|_cannot_fail| String::new(), |()| out)
    }
}
