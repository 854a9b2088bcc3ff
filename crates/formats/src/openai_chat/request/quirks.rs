//! Where a server of this format differs from OpenAI's own, in requests.
//!
//! What differs is data of a vendor's row ([`Quirks`]); here is what it does. A rendered request is
//! written as the server takes it, and what it would refuse is left out and reported. In a request
//! that passes through, only the output cap's name and `stream_options` are mended: the first
//! because a server that does not know the name would answer without the cap, the second because
//! it is Holdfast that asks for it. All else is between the client and the server. Must not know
//! vendors.

use std::borrow::Cow;
use std::ops::Range;

use ::types::call::{HeadSpans, ModelHead};
use ::types::format::{Edits, Quirks};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{LOGPROBS, OUTPUT_CAP, OUTPUT_CAP_OLD};
use crate::edit::{Edit, put};
use crate::head::TopLevel;

/// Letters and digits of a tool call's id where a server takes short ones only.
const SHORT_ID_CHARS: usize = 9;

/// The format as its owner has it.
static NONE: Quirks = Quirks {
    old_output_cap: false,
    no_stream_options: false,
    no_developer_role: false,
    reasoning_field: None,
    short_call_ids: false,
    no_user_after_tool: false,
    continue_fields: false,
    prefix_path: None,
    cache_control: None,
    no_done: false,
    drops: Vec::new(),
    refuses: Vec::new(),
};

/// The target's quirks.
pub(super) fn of<'a>(edits: &Edits<'a>) -> &'a Quirks {
    edits.quirks.unwrap_or(&NONE)
}

/// Whether the server takes the field that asks for log probabilities.
pub(super) fn has_logprobs(edits: &Edits<'_>) -> bool {
    let quirks = of(edits);
    !quirks.drops.iter().chain(&quirks.refuses).any(|name| name == LOGPROBS)
}

/// The path of a request for an answer's rest, where it has one of its own.
pub(crate) fn prefix_path<'a>(edits: &Edits<'a>) -> Option<&'a str> {
    edits.quirks.filter(|_| edits.continues)?.prefix_path.as_deref()
}

/// The name of the output cap's field.
pub(super) const fn cap_field(quirks: &Quirks) -> &'static str {
    if quirks.old_output_cap { OUTPUT_CAP_OLD } else { OUTPUT_CAP }
}

/// A tool call's id as the server takes it. One that does not fit becomes a hash of itself, so that
/// a call and its result go on to agree.
pub(super) fn call_id<'a>(id: &'a str, quirks: &Quirks) -> Cow<'a, str> {
    let fits = id.len() == SHORT_ID_CHARS && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !quirks.short_call_ids || fits {
        return Cow::Borrowed(id);
    }
    let letter = |byte: &u8| match byte % 62 {
        digit @ 0..10 => char::from(b'0' + digit),
        upper @ 10..36 => char::from(b'A' + upper - 10),
        lower => char::from(b'a' + lower - 36),
    };
    Cow::Owned(Sha256::digest(id).iter().take(SHORT_ID_CHARS).map(letter).collect())
}

/// Sets the cap that `edits` asks for, and lets the client's own go by the name that the server
/// knows.
pub(super) fn cap_edits(raw: &Bytes, head: &ModelHead, edits: &Edits<'_>, list: &mut Vec<Edit>) {
    let (spans, name) = (&head.spans, cap_field(of(edits)));
    let wanted = edits.output_cap.filter(|cap| head.output_cap != Some(*cap));
    let key = spans.output_cap.as_ref().and_then(|value| key_before(raw, value));
    let renamed = key.filter(|key| {
        name == OUTPUT_CAP_OLD && raw.get(key.clone()) != Some(b"\"max_tokens\"".as_slice())
    });
    let Some(key) = renamed else {
        let value = wanted.map(|cap| cap.to_string().into_bytes());
        let edit = value.map(|value| put(spans.output_cap.clone(), name, value, spans.insert_at));
        list.extend(edit);
        return;
    };
    let Some(cap) = wanted.or(head.output_cap) else { return };
    let value = cap.to_string().into_bytes();
    // A field of the old name can only be `null` beside one of the new.
    let old = TopLevel::read(raw).ok().and_then(|top| top.span(OUTPUT_CAP_OLD));
    match (old, &spans.output_cap) {
        (Some(old), Some(new)) => {
            list.push((new.clone(), b"null".to_vec()));
            list.push((old, value));
        }
        (Some(_), None) => {}
        (None, new) => {
            list.push((key, b"\"max_tokens\"".to_vec()));
            list.extend(new.clone().filter(|_| wanted.is_some()).map(|span| (span, value)));
        }
    }
}

/// Takes the client's `stream_options` out.
pub(super) fn without_stream_options(raw: &Bytes, spans: &HeadSpans) -> Option<Edit> {
    let value = spans.stream_options.as_ref()?;
    let key = key_before(raw, value)?;
    let behind = raw.get(value.end..)?;
    let blank = behind.len() - behind.trim_ascii_start().len();
    let span = if behind.get(blank) == Some(&b',') {
        key.start..value.end + blank + 1
    } else {
        // The last field goes with the comma before it: there is one, for a request has a model.
        let comma = raw.get(..key.start)?.trim_ascii_end().len().checked_sub(1)?;
        comma..value.end
    };
    Some((span, Vec::new()))
}

/// Where the name of a field stands whose value stands at `value`, quotes included. The names that
/// are looked for here have no quotes within.
fn key_before(raw: &Bytes, value: &Range<usize>) -> Option<Range<usize>> {
    let before = raw.get(..value.start)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let inner = before.strip_suffix(b"\"")?;
    let start = memchr::memrchr(b'"', inner)?;
    Some(start..before.len())
}

#[cfg(test)]
mod tests;
