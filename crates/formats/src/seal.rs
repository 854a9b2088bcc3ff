//! Signatures of one vendor's reasoning in the words of another format.
//!
//! A format has one opaque text for what its own vendor signed, which clients send back as it is.
//! Another vendor's signature travels there with a prefix that says whose it is, so that it goes
//! back to that vendor and to nobody else.

use crate::{anthropic_messages, bedrock_converse, gemini, openai_responses};

/// What a signature of another format begins with: the version of this form.
const PREFIX: &str = "hf1.";

/// Stands behind the origin where the signature is all there is.
const REDACTED: &str = "_redacted";

/// Whose signatures travel.
const ORIGINS: [&str; 4] =
    [anthropic_messages::NAME, bedrock_converse::NAME, gemini::NAME, openai_responses::NAME];

/// The opaque text of another vendor's signature.
pub(crate) fn seal(signature: &str, redacted: bool, origin: &str) -> String {
    let redacted = if redacted { REDACTED } else { "" };
    format!("{PREFIX}{origin}{redacted}.{signature}")
}

/// The signature in an opaque text, whether it is all there is, and the format of the vendor that
/// made it; `None` if the text is no seal of ours.
pub(crate) fn unseal(sealed: &str) -> Option<(&str, bool, &'static str)> {
    let (origin, signature) = sealed.strip_prefix(PREFIX)?.split_once('.')?;
    let (origin, redacted) = match origin.strip_suffix(REDACTED) {
        Some(origin) => (origin, true),
        None => (origin, false),
    };
    let known = ORIGINS.into_iter().find(|known| *known == origin)?;
    Some((signature, redacted, known))
}

/// Whether a request of this format may carry another vendor's signature: its own vendor would
/// refuse that. What looks like one and is none costs the request its way past the parser only.
pub fn is_carried(format: &str, raw: &[u8]) -> bool {
    let marks: &[&[u8]] = match format {
        anthropic_messages::NAME | openai_responses::NAME => &[b"\"hf1."],
        // In base64, where the field is: any picture may have these letters.
        gemini::NAME => &[b"ignature\":\"aGYxL", b"ignature\": \"aGYxL"],
        _ => &[],
    };
    marks.iter().any(|mark| memchr::memmem::find(raw, mark).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_tells_what_it_carries() {
        let sealed = seal("S", true, gemini::NAME);
        let block = format!(r#"{{"type":"redacted_thinking","data": "{sealed}"}}"#);
        assert!(is_carried(anthropic_messages::NAME, block.as_bytes()));
        let own = block.replace("hf1.", "EpU");
        assert!(!is_carried(anthropic_messages::NAME, own.as_bytes()));
        let item = format!(r#"{{"type":"reasoning","encrypted_content": "{sealed}"}}"#);
        assert!(is_carried(openai_responses::NAME, item.as_bytes()));
        let carried = gemini::signature::carried("S", false, anthropic_messages::NAME);
        for name in ["thoughtSignature\":", "thought_signature\": "] {
            let part = format!("{{\"text\":\"\",\"{name}\"{carried}\"}}");
            assert!(is_carried(gemini::NAME, part.as_bytes()), "{part}");
        }
        assert!(!is_carried(gemini::NAME, br#"{"data":"aGYxLmFu","thoughtSignature":"EpUB"}"#));
    }

    #[test]
    fn what_is_sealed_comes_back_as_whose_it_was() {
        for origin in ORIGINS {
            for redacted in [false, true] {
                let sealed = seal("a.b=", redacted, origin);
                assert_eq!(unseal(&sealed), Some(("a.b=", redacted, origin)));
            }
        }
        for other in ["EpUB", "hf1.x", "hf1.another.x", "hf1._redacted.x", ""] {
            assert_eq!(unseal(other), None, "{other}");
        }
    }
}
