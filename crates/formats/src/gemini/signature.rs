//! Thought signatures, of Google's own models and of others.
//!
//! A signature is opaque bytes in base64, which clients of this API decode and encode again. What
//! another vendor signed travels in it with its origin, so that it goes back to that vendor and to
//! nobody else. <https://ai.google.dev/gemini-api/docs/thought-signatures>

use super::NAME;
use crate::seal::{seal, unseal};

/// What Google takes for the signature of a call that no model of its own made.
pub(super) const SKIP: &str = "skip_thought_signature_validator";

/// Whose a signature is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) text: String,
    /// It is all there is of the reasoning.
    pub(super) redacted: bool,
    pub(super) origin: &'static str,
}

/// The signature as clients of this API carry it.
pub(crate) fn carried(signature: &str, redacted: bool, origin: &str) -> String {
    if origin == NAME {
        return signature.to_owned();
    }
    encode(seal(signature, redacted, origin).as_bytes())
}

/// What a client carried; `None` if it signs nothing.
pub(super) fn read(carried: &str) -> Option<Signature> {
    if carried.is_empty() || carried == SKIP {
        return None;
    }
    let foreign = decode(carried).and_then(|bytes| String::from_utf8(bytes).ok());
    Some(match foreign.as_deref().and_then(unseal) {
        Some((text, redacted, origin)) => Signature { text: text.to_owned(), redacted, origin },
        None => Signature { text: carried.to_owned(), redacted: false, origin: NAME },
    })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let six = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            let letter = ALPHABET.get(six).copied().unwrap_or(b'A');
            out.push(if place > three.len() { '=' } else { char::from(letter) });
        }
    }
    out
}

/// Reads both alphabets, padded or not: SDKs differ in what they write.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in text.trim_end_matches('=').bytes() {
        let letter = match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
        let six = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 6 | u32::try_from(six).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 255).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_vendor_signed_comes_back_as_theirs() {
        for (text, redacted) in [("sig", false), ("a.b+/=", true), ("", false)] {
            for origin in ["anthropic_messages", "openai_responses"] {
                let given = carried(text, redacted, origin);
                let decoded = decode(&given).unwrap();
                assert_eq!(encode(&decoded), given);
                let text = text.to_owned();
                let expected = Some(Signature { text, redacted, origin });
                assert_eq!(read(&given), expected);
                let by_python = given.replace('+', "-").replace('/', "_");
                assert_eq!(read(&by_python), expected);
                assert_eq!(read(by_python.trim_end_matches('=')), expected);
            }
        }
    }

    #[test]
    fn googles_own_stays_as_it_is() {
        for text in ["EpUBCpIB", "not base64 !", "hf1.x"] {
            assert_eq!(carried(text, false, NAME), text);
            let expected = Signature { text: text.to_owned(), redacted: false, origin: NAME };
            assert_eq!(read(text), Some(expected));
        }
        assert_eq!(read(SKIP), None);
        assert_eq!(read(""), None);
    }
}
