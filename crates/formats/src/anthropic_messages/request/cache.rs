//! Marks that ask a provider to keep what stands before them in its prompt cache.
//!
//! Writing there has a price of its own, and another one for an hour than for five minutes. Marks
//! may stand at any depth, so that their name is looked for in the bytes. Invariant: no mark is
//! missed, however it is spelt; what looks like one and is none costs a stricter check only.

use serde::Deserialize;
use types::CacheWrites;

use crate::escapes::has_escaped_letters;

/// What was found of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// The longest that one asks for.
    pub(super) asked: CacheWrites,
    /// One asks for something that is not known.
    pub(super) unusual: bool,
}

/// The parts of `cache_control` around its underscore, which is rare enough to look for.
const BEFORE: &[u8] = b"cache";
const AFTER: &[u8] = b"control\"";

/// The marks in a request.
pub(super) fn marks(body: &[u8]) -> Marks {
    // A name that is spelt with escapes can't be looked for, and nobody honest spells so.
    let hidden = has_escaped_letters(body);
    let asked = if hidden { CacheWrites::Hour } else { CacheWrites::Unmarked };
    let mut marks = Marks { asked, unusual: hidden };
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
            let (asked, unusual) = lifetime(value);
            marks.asked = longer(marks.asked, asked);
            marks.unusual |= unusual;
        }
    }
    marks
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

/// How long a mark asks to be kept, and whether that is unusual; the value stands at the beginning
/// of `text`. What nobody knows is taken to be dear.
fn lifetime(text: &[u8]) -> (CacheWrites, bool) {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Option<Mark>>();
    match values.next() {
        Some(Ok(None)) => (CacheWrites::Unmarked, false),
        Some(Ok(Some(mark))) if mark.kind == "ephemeral" => match mark.ttl.as_deref() {
            None | Some("5m") => (CacheWrites::Minutes, false),
            Some("1h") => (CacheWrites::Hour, false),
            Some(_) => (CacheWrites::Hour, true),
        },
        _ => (CacheWrites::Hour, true),
    }
}

/// The longer of two.
fn longer(left: CacheWrites, right: CacheWrites) -> CacheWrites {
    [CacheWrites::Hour, CacheWrites::Minutes]
        .into_iter()
        .find(|asked| [left, right].contains(asked))
        .unwrap_or(CacheWrites::Unmarked)
}
