//! Headers of AI Gateway that Holdfast has headers of its own for: they are checked by the name
//! that the client sent, and then said in Holdfast's words, which every door reads.
//!
//! Where a client sends both, Holdfast's own counts. A name of AI Gateway's for a provider stands
//! for all configured ones of that vendor.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use types::call::{Allowed, NAME_CHARS_MAX};
use types::ids::SessionId;
use types::{Failure, TraceParent};

use super::super::gateway::providers_of;
use super::{METADATA, text, wrong};
use crate::app::App;
use crate::request;
use crate::request::asks;

pub(super) const NO_AFFINITY: &str = "cf-aig-no-session-affinity";
const SESSION_ID: &str = "cf-aig-session-id";
const TURN_ID: &str = "cf-aig-turn-id";
const ALLOWED_MODELS: &str = "cf-aig-allowed-models";
const ALLOWED_PROVIDERS: &str = "cf-aig-allowed-providers";
const OTEL_TRACE: &str = "cf-aig-otel-trace-id";
const OTEL_SPAN: &str = "cf-aig-otel-parent-span-id";
const BYOK_ALIAS: &str = "cf-aig-byok-alias";
/// The alias of a key that is meant where none is named.
const DEFAULT_ALIAS: &str = "default";
/// Names in one of these lists at most: each may stand for several here.
const NAMES_MAX: usize = 32;

/// Checks what [`take`] says in other words.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Failure> {
    for name in [SESSION_ID, TURN_ID] {
        let fits = |text: &str| (1..=NAME_CHARS_MAX).contains(&text.trim().len());
        if text(headers, name)?.is_some_and(|text| !fits(text)) {
            return Err(wrong(name, &format!("1 to {NAME_CHARS_MAX} characters")));
        }
    }
    if text(headers, SESSION_ID)?.is_some_and(|id| SessionId::parse(id.trim()).is_some()) {
        return Err(wrong(SESSION_ID, "a name of your own, not the id of a session here"));
    }
    for name in [ALLOWED_MODELS, ALLOWED_PROVIDERS] {
        let fits = |text: &str| (1..=NAMES_MAX).contains(&names(text).count());
        if text(headers, name)?.is_some_and(|text| !fits(text)) {
            return Err(wrong(name, &format!("1 to {NAMES_MAX} names with commas between them")));
        }
    }
    if text(headers, BYOK_ALIAS)?.is_some_and(|alias| alias != DEFAULT_ALIAS) {
        let text = format!(
            "{BYOK_ALIAS} chooses no key here: a provider's keys have no names. Leave it out, or \
             send '{DEFAULT_ALIAS}'"
        );
        return Err(Failure::unsupported(BYOK_ALIAS, text));
    }
    Ok(())
}

/// The trace that a request belongs to. Its span may be unknown, which is told by zeros.
pub(super) fn trace(headers: &HeaderMap) -> Result<Option<TraceParent>, Failure> {
    let digits = |name, count: usize| -> Result<Option<String>, Failure> {
        let digits = text(headers, name)?.map(str::to_ascii_lowercase);
        let fits = |text: &String| {
            let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            text.len() == count && is_hex && text.bytes().any(|byte| byte != b'0')
        };
        match digits {
            Some(text) if !fits(&text) => {
                Err(wrong(name, &format!("{count} hexadecimal digits, not all of them 0")))
            }
            digits => Ok(digits),
        }
    };
    let (trace, span) = (digits(OTEL_TRACE, 32)?, digits(OTEL_SPAN, 16)?);
    let Some(trace) = trace else {
        return match span {
            Some(_) => Err(wrong(OTEL_SPAN, &format!("sent beside {OTEL_TRACE}"))),
            None => Ok(None),
        };
    };
    let known = |span: &str| TraceParent::parse(&format!("00-{trace}-{span}-01"));
    Ok(match span {
        Some(span) => known(&span),
        None => known("0000000000000001").map(|trace| TraceParent { span: [0; 8], ..trace }),
    })
}

/// Says what these headers ask in Holdfast's own words.
///
/// # Errors
/// A 400 that names the list which stands for more than can be said.
pub(in super::super) fn take(headers: &mut HeaderMap, app: &App) -> Result<(), Failure> {
    // A gateway's metadata is what a Call's is.
    for (theirs, ours) in
        [(METADATA, request::METADATA), (SESSION_ID, request::SESSION), (TURN_ID, asks::TURN)]
    {
        if let Some(value) = headers.get(theirs).cloned() {
            own(headers, ours, value);
        }
    }
    let off =
        headers.get(NO_AFFINITY).is_some_and(|value| matches!(value.as_bytes(), b"true" | b"1"));
    if off {
        own(headers, asks::NO_AFFINITY, HeaderValue::from_static("true"));
    }
    let all = [
        (ALLOWED_MODELS, asks::ALLOWED_MODELS, models_here as fn(&App, &str) -> Vec<String>),
        (ALLOWED_PROVIDERS, asks::ALLOWED_PROVIDERS, providers_here),
    ];
    for (theirs, ours, here) in all {
        let Some(Ok(text)) = headers.get(theirs).map(HeaderValue::to_str) else { continue };
        let all: Vec<String> = names(text).flat_map(|name| here(app, name)).collect();
        let value = listed(theirs, &all)?;
        own(headers, ours, value);
    }
    Ok(())
}

/// A list with the names here. One that was cut would refuse what its client allows.
fn listed(header: &'static str, all: &[String]) -> Result<HeaderValue, Failure> {
    let most = Allowed::NAMES_MAX;
    if all.len() > most {
        return Err(wrong(header, &format!("names that stand for {most} here at most")));
    }
    HeaderValue::from_str(&all.join(",")).map_err(|_| wrong(header, "names as they can be sent"))
}

/// Sets a header of our own, unless the client did.
fn own(headers: &mut HeaderMap, name: &'static str, value: HeaderValue) {
    headers.entry(HeaderName::from_static(name)).or_insert(value);
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn providers_here(app: &App, slug: &str) -> Vec<String> {
    let known = providers_of(app, slug);
    if known.is_empty() { vec![slug.to_owned()] } else { known }
}

/// A model by its names here. What begins with no provider's name is left as it is.
fn models_here(app: &App, name: &str) -> Vec<String> {
    let Some((slug, model)) = name.split_once('/') else { return vec![name.to_owned()] };
    let known = providers_here(app, slug).into_iter();
    known.map(|provider| format!("{provider}/{model}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_stands_for_too_many_is_refused_and_not_cut() {
        let many = |count| vec!["a/m".to_owned(); count];
        assert!(listed(ALLOWED_MODELS, &many(Allowed::NAMES_MAX)).is_ok());
        let refused = listed(ALLOWED_MODELS, &many(Allowed::NAMES_MAX + 1)).unwrap_err();
        assert_eq!(refused.param.as_deref(), Some(ALLOWED_MODELS));
        assert!(listed(ALLOWED_MODELS, &["a\n".to_owned()]).is_err());
    }
}
