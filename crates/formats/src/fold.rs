//! Names that some readers take for others.
//!
//! Go's `encoding/json`, which several model servers are written with, matches a field's name
//! without regard to case, and the last of two that match counts. What is bounded here as one
//! request would be another one there. So a name that folds to one that is read, and is not that
//! one, is refused. Names in other cases mean nothing to any API, so that nobody misses them.

use std::borrow::Cow;

/// Whether a name folds to itself: nearly all do.
pub(crate) fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

/// The name in lower case, by simple case folding as far as it leads to ASCII: two letters beyond
/// ASCII fold to `k` and `s` (<https://pkg.go.dev/encoding/json#Unmarshal>), and to some readers
/// two more are an `i`.
pub(crate) fn folded(name: &str) -> Cow<'_, str> {
    if is_plain(name) {
        return Cow::Borrowed(name);
    }
    let fold = |letter: char| match letter {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        '\u{130}' | '\u{131}' => 'i',
        other => other.to_ascii_lowercase(),
    };
    Cow::Owned(name.chars().map(fold).collect())
}

/// The one of `known` that some readers take `name` for, although it is another.
pub(crate) fn imitated(
    name: &str,
    known: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    match folded(name) {
        Cow::Borrowed(_) => None,
        Cow::Owned(folded) => known.into_iter().find(|known| **known == *folded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_imitates_what_it_folds_to_and_never_itself() {
        let known = || ["max_tokens", "n"];
        for name in ["Max_Tokens", "MAX_TOKENS", "max_to\u{212a}ens", "max_token\u{17f}"] {
            assert_eq!(imitated(name, known()), Some("max_tokens"), "{name}");
        }
        assert_eq!(imitated("N", known()), Some("n"));
        for name in ["max_tokens", "n", "Other", "max_tokens_", "\u{f1}"] {
            assert_eq!(imitated(name, known()), None, "{name}");
        }
    }
}
