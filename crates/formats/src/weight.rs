//! How large a tree a request would be, told before it is built.
//!
//! A value of the tree takes a hundred bytes and more where it stood in two: a body of a few
//! megabytes of `0,` was a gigabyte before anybody counted its items. The count is one pass over
//! the bytes, without memory, and may read text that is not JSON.

use ::types::{ErrorCode, Failure};
use serde_json::value::RawValue;

/// Values in one request at most, as counted here: twenty thousand items of a dozen values each.
pub(crate) const VALUES_MAX: usize = 262_144;

/// Refuses a body whose tree would be too large.
pub(crate) fn check_values(body: &[u8]) -> Result<(), Failure> {
    if count(body).values <= VALUES_MAX {
        return Ok(());
    }
    let text = format!("the body has more than {VALUES_MAX} values");
    Err(Failure::new(ErrorCode::InvalidRequest, text))
}

/// Refuses a list that is too long. What is no list is for others to refuse.
pub(crate) fn check_length(
    list: Option<&RawValue>,
    path: &str,
    most: usize,
    what: &str,
) -> Result<(), Failure> {
    let Some(list) = list.filter(|list| list.get().starts_with('[')) else { return Ok(()) };
    // Between so many elements stands one comma less.
    if count(list.get().as_bytes()).commas_outside < most {
        return Ok(());
    }
    Err(Failure::invalid(path, format!("'{path}' has more than {most} {what}")))
}

#[derive(Debug, Default)]
struct Count {
    /// Brackets and commas: at least half of the values.
    values: usize,
    /// Commas between the elements of the outermost list or object.
    commas_outside: usize,
}

fn count(text: &[u8]) -> Count {
    let mut count = Count::default();
    let (mut depth, mut at) = (0usize, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at + 1),
            b'[' | b'{' => {
                count.values += 1;
                depth += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => {
                count.values += 1;
                count.commas_outside += usize::from(depth == 1);
            }
            _ => {}
        }
        at += 1;
    }
    count
}

/// The place of the quote that ends a string which begins at `at`.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found;
        if text.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> (usize, usize) {
        let Count { values, commas_outside } = count(text.as_bytes());
        (values, commas_outside)
    }

    #[test]
    fn what_stands_in_strings_is_not_counted() {
        assert_eq!(counted(r#"[1,[2,3],{"a":4,"b":5}]"#), (7, 2));
        assert_eq!(counted(r#"["[,{","\"[,","\\",2]"#), (4, 3));
        assert_eq!(counted(r#"["open"#), (1, 0));
        assert_eq!(counted(r#"["\"#), (1, 0));
        assert_eq!(counted("]]1,"), (1, 0));
    }

    #[test]
    fn a_list_may_be_as_long_as_it_may_be() {
        let list = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert!(check_length(Some(&list("[0,0]")), "x", 2, "items").is_ok());
        let refused = check_length(Some(&list("[0,0,0]")), "x", 2, "items").unwrap_err();
        assert_eq!(refused.message, "'x' has more than 2 items");
        assert!(check_length(Some(&list("\"0,0,0\"")), "x", 2, "items").is_ok());
    }
}
