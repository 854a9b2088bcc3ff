//! Where a Call stands in a trace that began elsewhere: W3C's `traceparent`.
//! <https://www.w3.org/TR/trace-context/#traceparent-header>

/// Characters of the header's first version: `00-` 32 digits `-` 16 digits `-` 2 digits.
const LENGTH: usize = 55;

/// The caller's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span in it that the Call is below; zeros where only the trace is known.
    pub span: [u8; 8],
    /// Whether the caller keeps the trace.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads the header; `None` if it says nothing that can be used, which is to be ignored.
    pub fn parse(text: &str) -> Option<Self> {
        let is_first = text.get(..2)? == "00";
        let goes_on = text.as_bytes().get(LENGTH);
        // Later versions may say more behind a dash.
        if text.get(..2)? == "ff" || goes_on.is_some_and(|byte| is_first || *byte != b'-') {
            return None;
        }
        let mut parts = text.get(..LENGTH)?.split('-');
        let (version, trace) = (digits::<1>(parts.next()?)?, digits::<16>(parts.next()?)?);
        let (span, flags) = (digits::<8>(parts.next()?)?, digits::<1>(parts.next()?)?);
        let is_set = trace != [0; 16] && span != [0; 8] && version != [0xff];
        is_set.then_some(Self { trace, span, is_sampled: flags[0] & 1 == 1 })
    }
}

/// Bytes as lower-case hex digits.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 2 * N || !text.bytes().all(is_hex) {
        return None;
    }
    let mut bytes = [0; N];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_says() {
        let parent =
            TraceParent::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!((parent.trace[0], parent.trace[15]), (0x0a, 0x9c));
        assert_eq!((parent.span[0], parent.span[7], parent.is_sampled), (0xb7, 0x31, true));
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more";
        assert!(!TraceParent::parse(later).unwrap().is_sampled);
    }

    #[test]
    fn what_is_not_one_is_ignored() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-é1",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }
}
