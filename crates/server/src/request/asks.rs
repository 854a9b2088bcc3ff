//! Headers by which a caller says which way its Call may take: within which time, to which targets,
//! with what dropped.
//!
//! Invariant: a wrong value is a 400 that names its header, never a Call that goes another way than
//! it was told to. What comes of them is for the pipeline.

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderValue;
use types::Failure;
use types::call::{Allowed, NAME_CHARS_MAX, RouteAsk};
use types::clock::duration;

/// How long a Call may take in all.
pub(crate) const DEADLINE: &str = "holdfast-deadline";
/// Whether what can't be told is refused.
pub(crate) const STRICT: &str = "holdfast-strict";
/// Which models may be asked.
pub(crate) const ALLOWED_MODELS: &str = "holdfast-allowed-models";
/// Which providers may be asked.
pub(crate) const ALLOWED_PROVIDERS: &str = "holdfast-allowed-providers";
/// Whether a Call need not stay where its session was.
pub(crate) const NO_AFFINITY: &str = "holdfast-no-affinity";
/// The client's turn that a Call is of.
pub(crate) const TURN: &str = "holdfast-turn";

/// What a caller asks about the way of its Call; `None` where it asks nothing.
pub(super) fn asks(headers: &HeaderMap) -> Result<Option<Box<RouteAsk>>, Failure> {
    let (models, providers) = (list(headers, ALLOWED_MODELS)?, list(headers, ALLOWED_PROVIDERS)?);
    let is_limited = models.is_some() || providers.is_some();
    let asks = RouteAsk {
        time: time(headers)?,
        strict: switch(headers, STRICT)?,
        allowed: is_limited.then_some(Allowed { models, providers }),
        no_affinity: switch(headers, NO_AFFINITY)?,
        turn: name(headers, TURN)?,
    };
    Ok((asks != RouteAsk::default()).then(|| Box::new(asks)))
}

/// Words after the header's name that say what is wrong with it.
fn wrong(header: &'static str, must: &str) -> Failure {
    Failure::invalid(header, format!("the header {header} must {must}"))
}

fn text<'a>(headers: &'a HeaderMap, header: &'static str) -> Result<Option<&'a str>, Failure> {
    let value = headers.get(header).map(HeaderValue::to_str).transpose();
    value.map(|text| text.map(str::trim)).map_err(|_| wrong(header, "be visible ASCII"))
}

/// Yes or no; what is not said is no.
fn switch(headers: &HeaderMap, header: &'static str) -> Result<bool, Failure> {
    match text(headers, header)? {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(wrong(header, "be true or false")),
    }
}

fn name(headers: &HeaderMap, header: &'static str) -> Result<Option<String>, Failure> {
    match text(headers, header)? {
        None => Ok(None),
        Some(name) if (1..=NAME_CHARS_MAX).contains(&name.len()) => Ok(Some(name.to_owned())),
        Some(_) => Err(wrong(header, &format!("have 1 to {NAME_CHARS_MAX} characters"))),
    }
}

/// A list of names with commas between them.
fn list(headers: &HeaderMap, header: &'static str) -> Result<Option<Vec<String>>, Failure> {
    let Some(text) = text(headers, header)? else { return Ok(None) };
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.take(Allowed::NAMES_MAX + 1).map(str::to_owned).collect();
    if !(1..=Allowed::NAMES_MAX).contains(&names.len()) {
        let most = Allowed::NAMES_MAX;
        return Err(wrong(header, &format!("name 1 to {most}, with commas between them")));
    }
    Ok(Some(names))
}

/// A time as the configuration has it (`1500ms`, `30s`, `2m`, `1h`), or a number of seconds.
fn time(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(text) = text(headers, DEADLINE)? else { return Ok(None) };
    let seconds = || text.parse().ok().map(Duration::from_secs);
    match duration(text).or_else(seconds).filter(|time| !time.is_zero()) {
        Some(time) => Ok(Some(time)),
        None => Err(wrong(DEADLINE, "be a time above 0, such as 30s or 1500ms, or whole seconds")),
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    fn of(header: &'static str, value: &str) -> Result<RouteAsk, Failure> {
        asks(&headers(&[(header, value)])).map(|asks| *asks.unwrap_or_default())
    }

    #[test]
    fn a_deadline_is_a_time_from_now() {
        for (text, millis) in [("1500ms", 1_500), ("30s", 30_000), ("2m", 120_000), ("7", 7_000)] {
            let time = of(DEADLINE, text).unwrap().time;
            assert_eq!(time, Some(Duration::from_millis(millis)), "{text}");
        }
        let wrong = ["", "0", "0s", "-1", "1.5", "s", "1w", "99999999999999999h", "é"];
        for text in wrong.into_iter().chain(["2026-01-01T00:00:00Z", "18446744073709551616"]) {
            let failure = of(DEADLINE, text).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some(DEADLINE), "{text}");
        }
    }

    #[test]
    fn nothing_asked_is_nothing_kept() {
        assert_eq!(asks(&headers(&[])).unwrap(), None);
        assert_eq!(asks(&headers(&[(STRICT, "false")])).unwrap(), None);
        // What SDKs say of their own patience shortens nothing: they count it themselves.
        let stainless = [("x-stainless-timeout", "1"), ("x-stainless-read-timeout", "1")];
        assert_eq!(asks(&headers(&stainless)).unwrap(), None);
    }

    #[test]
    fn lists_are_read_or_their_header_named() {
        let asked = of(ALLOWED_MODELS, " a/m , b/*,").unwrap().allowed.unwrap();
        let expected = Some(vec!["a/m".to_owned(), "b/*".to_owned()]);
        assert_eq!(asked, Allowed { models: expected, providers: None });
        let many = "a,".repeat(Allowed::NAMES_MAX + 1);
        for text in ["", " , ", &many] {
            let failure = of(ALLOWED_PROVIDERS, text).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some(ALLOWED_PROVIDERS), "{text}");
        }
    }

    #[test]
    fn switches_and_names_are_checked() {
        assert!(of(STRICT, "true").unwrap().strict && of(NO_AFFINITY, "true").unwrap().no_affinity);
        assert!(of(STRICT, "yes").is_err() && of(NO_AFFINITY, "").is_err());
        assert_eq!(of(TURN, "t-1").unwrap().turn.as_deref(), Some("t-1"));
        assert!(of(TURN, "").is_err() && of(TURN, &"t".repeat(129)).is_err());
    }
}
