//! Byte-exact edits of a request: a few values are replaced, every other byte stays as it came.
//!
//! A client's request is never written anew on its way to a provider that speaks the same format:
//! signed history would lose its signature, and what a provider's prompt cache knows its place.
//! Where the values stand is read beforehand, by [`crate::head::TopLevel`].

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// A byte range and what it becomes. An insertion replaces an empty range.
pub(crate) type Edit = (Range<usize>, Vec<u8>);

/// Sets a field: in its place if it has one, else at `insert_at`, directly behind the brace.
pub(crate) fn put(
    span: Option<Range<usize>>,
    name: &str,
    value: Vec<u8>,
    insert_at: usize,
) -> Edit {
    match span {
        Some(span) => (span, value),
        None => {
            // The object is never empty (it has a model), so a comma always follows.
            let mut field = text(name);
            field.push(b':');
            field.extend(value);
            field.push(b',');
            (insert_at..insert_at, field)
        }
    }
}

/// Makes the edits, which do not overlap. Bytes that need none are shared, not copied.
pub(crate) fn apply(raw: &Bytes, mut list: Vec<Edit>) -> Bytes {
    if list.is_empty() {
        return raw.clone();
    }
    // An insertion goes before what is taken out at the same place.
    list.sort_by_key(|(span, _)| (span.start, span.end));
    let added: usize = list.iter().map(|(_, bytes)| bytes.len()).sum();
    let mut out = BytesMut::with_capacity(raw.len() + added);
    let mut at = 0;
    for (span, bytes) in list {
        out.put_slice(raw.get(at..span.start).unwrap_or_default());
        out.put_slice(&bytes);
        at = span.end;
    }
    out.put_slice(raw.get(at..).unwrap_or_default());
    out.freeze()
}

/// A text as JSON.
pub(crate) fn text(value: &str) -> Vec<u8> {
    serde_json::Value::from(value).to_string().into_bytes()
}
