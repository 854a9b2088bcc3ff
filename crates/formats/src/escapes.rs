//! Letters of JSON that are written as escapes, behind which a name can hide from a search in
//! bytes.
//!
//! Invariant: none is missed. What the name would have meant it must not know.

/// Whether a letter, a digit or an underscore is written as `\u00..`. No encoder does that.
pub(crate) fn has_escaped_letters(body: &[u8]) -> bool {
    memchr::memmem::find_iter(body, br"\u00").any(|place| {
        let code = body.get(place + 4..place + 6).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let letter = code.is_some_and(|code| code.is_ascii_alphanumeric() || code == b'_');
        // Behind a backslash this is no escape but text that looks like one.
        let slashes = body.get(..place).unwrap_or_default().iter().rev();
        letter && slashes.take_while(|byte| **byte == b'\\').count() % 2 == 0
    })
}
