//! Marks that ask a provider to keep what stands before them in its prompt cache.
//!
//! Writing there has a price of its own, and another one for an hour than for five minutes. Marks
//! may stand at any depth, so that their name is looked for in the bytes. Invariant: no mark is
//! missed, however it is spelt; what looks like one and is none costs a stricter check only.

use serde::Deserialize;

/// What was found of marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// There is one.
    pub(super) any: bool,
    /// One asks for more than five minutes, or for something that is not known.
    pub(super) unusual: bool,
}

/// The parts of `cache_control` around its underscore, which is rare enough to look for.
const BEFORE: &[u8] = b"cache";
const AFTER: &[u8] = b"control\"";

/// The marks in a request.
pub(super) fn marks(body: &[u8]) -> Marks {
    // A name that is spelt with escapes can't be looked for, and nobody honest spells so.
    let hidden = has_escaped_letters(body);
    let mut marks = Marks { any: hidden, unusual: hidden };
    for place in memchr::memchr_iter(b'_', body) {
        let before = place.checked_sub(BEFORE.len()).and_then(|start| body.get(start..place));
        let after = body.get(place + 1..place + 1 + AFTER.len());
        let is = |found: Option<&[u8]>, wanted: &[u8]| {
            found.is_some_and(|found| found.eq_ignore_ascii_case(wanted))
        };
        if !(is(before, BEFORE) && is(after, AFTER)) {
            continue;
        }
        // In a text the quote is escaped, so that this is a field's name or a text's end.
        let rest = body.get(place + 1 + AFTER.len()..).unwrap_or_default().trim_ascii_start();
        if let Some(value) = rest.strip_prefix(b":") {
            let lasts = lifetime(value);
            marks.any |= lasts != Lifetime::None;
            marks.unusual |= lasts == Lifetime::Unusual;
        }
    }
    marks
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
    None,
    FiveMinutes,
    Unusual,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    ttl: Option<String>,
    /// Who shares it, which costs nothing.
    #[serde(default, rename = "scope")]
    _scope: Option<String>,
}

/// How long a mark asks to be kept; the value stands at the beginning of `text`.
fn lifetime(text: &[u8]) -> Lifetime {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Option<Mark>>();
    match values.next() {
        Some(Ok(None)) => Lifetime::None,
        Some(Ok(Some(mark)))
            if mark.kind == "ephemeral" && mark.ttl.as_deref().is_none_or(|ttl| ttl == "5m") =>
        {
            Lifetime::FiveMinutes
        }
        _ => Lifetime::Unusual,
    }
}

/// Whether a letter, a digit or an underscore is written as `\u00..`. No encoder does that.
fn has_escaped_letters(body: &[u8]) -> bool {
    memchr::memmem::find_iter(body, br"\u00").any(|place| {
        let code = body.get(place + 4..place + 6).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let letter = code.is_some_and(|code| code.is_ascii_alphanumeric() || code == b'_');
        // Behind a backslash this is no escape but text that looks like one.
        let slashes = body.get(..place).unwrap_or_default().iter().rev();
        letter && slashes.take_while(|byte| **byte == b'\\').count() % 2 == 0
    })
}
