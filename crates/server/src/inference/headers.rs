//! Holdfast's own response headers, the same at every door, and those that say what is left of
//! limits on rate, which each API has names of its own for.

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, IntoHeaderName};
use pipeline::Bill;
use types::error::Headroom;
use types::{Format, Timestamp};

use crate::anthropic::models::rfc3339;

/// Room for the headers of an answer: more than most have.
pub(crate) const USUAL: usize = 12;

/// Who answers.
pub(crate) const MODEL: HeaderName = HeaderName::from_static("holdfast-model");
/// The session that the Call belongs to.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("holdfast-session");
/// What was done with the history.
pub(crate) const CONTEXT: HeaderName = HeaderName::from_static("holdfast-context");
/// What came of judging the answer.
pub(crate) const CASCADE: HeaderName = HeaderName::from_static("holdfast-cascade");
/// Which tier the Call is for.
pub(crate) const TIER: HeaderName = HeaderName::from_static("holdfast-tier");
const DROPPED: HeaderName = HeaderName::from_static("holdfast-dropped");
const OUTPUT_CAP: HeaderName = HeaderName::from_static("holdfast-output-cap");
const COST: HeaderName = HeaderName::from_static("holdfast-cost");
const ATTEMPTS: HeaderName = HeaderName::from_static("holdfast-attempts");

/// Sets one header, if there is something to say that a header can hold.
pub(crate) fn insert(headers: &mut HeaderMap, name: impl IntoHeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

/// What was changed of the request: known when the answer begins.
pub(crate) fn terms(headers: &mut HeaderMap, dropped: &[String], output_cap: Option<u64>) {
    let dropped = dropped.join(",");
    insert(headers, DROPPED, Some(&*dropped).filter(|names| !names.is_empty()));
    if let Some(cap) = output_cap {
        headers.insert(OUTPUT_CAP, cap.into());
    }
}

/// Whether a header speaks of limits on rate.
pub(crate) fn is_of_limits(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-")
}

/// What is left of our own limits on rate, in the words of the door's API; some have none. What a
/// provider says of its own limits goes: a client that reads both could not tell whose they are.
pub(crate) fn limits(headers: &mut HeaderMap, format: &dyn Format, headroom: &Headroom) {
    let others: Vec<HeaderName> =
        headers.keys().filter(|name| is_of_limits(name)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
    let Headroom { at, requests, tokens, input_tokens, output_tokens } = headroom;
    match format.name() {
        "anthropic_messages" => {
            let all = [
                ("requests", requests),
                ("tokens", tokens),
                ("input-tokens", input_tokens),
                ("output-tokens", output_tokens),
            ];
            for (kind, left) in all {
                let Some(left) = left else { continue };
                let name = |field: &str| named(&format!("anthropic-ratelimit-{kind}-{field}"));
                put(headers, name("limit"), left.limit.to_string());
                put(headers, name("remaining"), left.remaining.to_string());
                put(headers, name("reset"), rfc3339(rounded_up(at.plus(left.reset))));
            }
        }
        "openai_chat" | "openai_responses" => {
            for (kind, left) in [("requests", requests), ("tokens", tokens)] {
                let Some(left) = left else { continue };
                let name = |field: &str| named(&format!("x-ratelimit-{field}-{kind}"));
                put(headers, name("limit"), left.limit.to_string());
                put(headers, name("remaining"), left.remaining.to_string());
                put(headers, name("reset"), span(left.reset));
            }
        }
        _ => {}
    }
}

fn named(name: &str) -> Option<HeaderName> {
    HeaderName::try_from(name).ok()
}

fn put(headers: &mut HeaderMap, name: Option<HeaderName>, value: String) {
    if let (Some(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

/// The end of a second that has begun: who comes back then is not too early.
fn rounded_up(time: Timestamp) -> Timestamp {
    time.plus(Duration::from_micros(999_999))
}

/// `1h2m3s`, `6m0s`, `1.5s`, `20ms`: as OpenAI writes how long something takes.
fn span(time: Duration) -> String {
    let millis = time.as_micros().div_ceil(1_000);
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, part) = (millis / 1_000 % 60, millis % 1_000);
    let part = match part {
        0 => String::new(),
        part => format!(".{part:03}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) if (1..1_000).contains(&millis) => format!("{millis}ms"),
        (0, 0) => format!("{seconds}{part}s"),
        (0, _) => format!("{minutes}m{seconds}{part}s"),
        (_, _) => format!("{hours}h{minutes}m{seconds}{part}s"),
    }
}

/// What it cost: known when the answer is whole.
pub(crate) fn bill(headers: &mut HeaderMap, bill: &Bill) {
    insert(headers, COST, bill.cost.map(|cost| cost.to_string()).as_deref());
    headers.insert(ATTEMPTS, bill.attempts.into());
}

#[cfg(test)]
mod tests {
    use formats::anthropic_messages::ANTHROPIC_MESSAGES;
    use formats::gemini::GEMINI;
    use formats::openai_chat::OPENAI_CHAT;
    use types::error::Left;

    use super::*;

    fn told(format: &dyn Format) -> Vec<(String, String)> {
        let left = |limit, remaining, millis| {
            Some(Left { limit, remaining, reset: Duration::from_millis(millis) })
        };
        let headroom = Headroom {
            at: Timestamp::from_millis(1_800_000_000_500),
            requests: left(60, 59, 20),
            tokens: left(1_000, 0, 360_000),
            input_tokens: None,
            output_tokens: left(500, 500, 0),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-remaining-requests", HeaderValue::from_static("4711"));
        headers.insert("anthropic-ratelimit-unified-status", HeaderValue::from_static("allowed"));
        headers.insert("x-request-id", HeaderValue::from_static("r"));
        limits(&mut headers, format, &headroom);
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        let mut all: Vec<_> = headers.iter().map(text).collect();
        all.sort();
        all
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_api_has_names_of_its_own_and_a_providers_are_not_among_ours() {
        let openai = [
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-requests", "20ms"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("x-request-id", "r"),
        ];
        assert_eq!(told(&OPENAI_CHAT), pairs(&openai));
        let anthropic = [
            ("anthropic-ratelimit-output-tokens-limit", "500"),
            ("anthropic-ratelimit-output-tokens-remaining", "500"),
            ("anthropic-ratelimit-output-tokens-reset", "2027-01-15T08:00:01Z"),
            ("anthropic-ratelimit-requests-limit", "60"),
            ("anthropic-ratelimit-requests-remaining", "59"),
            ("anthropic-ratelimit-requests-reset", "2027-01-15T08:00:01Z"),
            ("anthropic-ratelimit-tokens-limit", "1000"),
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "2027-01-15T08:06:01Z"),
            ("x-request-id", "r"),
        ];
        assert_eq!(told(&ANTHROPIC_MESSAGES), pairs(&anthropic));
        assert_eq!(told(&GEMINI), pairs(&[("x-request-id", "r")]));
    }

    #[test]
    fn times_are_written_as_openai_writes_them() {
        let all = [
            (0, "0s"),
            (1, "1ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (3_723_040, "1h2m3.04s"),
        ];
        for (millis, text) in all {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        assert_eq!(span(Duration::from_micros(1)), "1ms");
    }
}
