//! Reading fields of a JSON object with errors that name the field, and editing bytes in place.
//!
//! [`Fields`] takes known fields out of an object one by one; what is left is the unknown rest.
//! `null` reads as absent everywhere, as the vendors' own SDKs send it so.

use serde::Deserialize;
use serde_json::{Map, Value};
use types::Failure;

/// The path of a field below another.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The path of an element of a list.
pub(crate) fn at(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Names of fields that are reported at most: they travel in one header.
const NAMES_MAX: usize = 32;
/// Characters of such a name at most.
const NAME_CHARS_MAX: usize = 128;

/// A path without its indices: what is lost in every message of a history is one loss.
pub(crate) fn without_indices(path: &str) -> String {
    let mut inside = false;
    let outside = path.chars().filter(|c| {
        inside = *c == '[' || (inside && *c != ']');
        !inside && *c != ']'
    });
    outside.collect()
}

/// The names of what is lost, as they are reported: each once, and never more than a header holds.
/// They are the client's words, which a header must not take as they come.
pub(crate) fn field_names(names: Vec<String>) -> Vec<String> {
    let mut shown = Vec::new();
    for name in names {
        let visible = |c: char| if c.is_ascii_graphic() && c != ',' { c } else { '?' };
        let name = without_indices(&name).chars().take(NAME_CHARS_MAX).map(visible).collect();
        if shown.len() < NAMES_MAX && !shown.contains(&name) {
            shown.push(name);
        }
    }
    shown
}

/// A 400 for a field of the wrong type.
pub(crate) fn wrong_type(path: &str, wanted: &str, found: &Value) -> Failure {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Failure::invalid(path, format!("invalid type for '{path}': expected {wanted}, got {found}"))
}

/// A 400 for a field that must be there.
pub(crate) fn missing(path: &str) -> Failure {
    Failure::invalid(path, format!("missing required parameter: '{path}'"))
}

/// Reads JSON. That its bytes are text is looked at once for all of them, and not again in each
/// value that is passed on as it is.
///
/// # Errors
/// As `serde_json::from_slice`.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        // It may stand in a value that nobody reads; else the error says its place.
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// A 400 for a body that is not JSON, or not JSON of this shape.
pub(crate) fn malformed(error: &serde_json::Error) -> Failure {
    let (line, column) = (error.line(), error.column());
    let what = if error.is_eof() { "it ends too early" } else { "it can't be parsed" };
    Failure::new(
        types::ErrorCode::InvalidRequest,
        format!("the body is not a valid JSON object: {what} (line {line}, column {column})"),
    )
}

/// The fields of an object, taken one by one.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Where the object stands in the body.
    pub(crate) path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The fields of `value`.
    pub(crate) fn of(value: Value, path: &str) -> Result<Self, Failure> {
        match value {
            Value::Object(map) => Ok(Self { path: path.to_owned(), map }),
            other => Err(wrong_type(path, "an object", &other)),
        }
    }

    /// The path of one of its fields.
    pub(crate) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Looks at a field.
    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }

    /// Takes a field; `null` is absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a string.
    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.path_of(name), "a string", &other)),
        }
    }

    /// Takes a string that must be there.
    pub(crate) fn required_string(&mut self, name: &str) -> Result<String, Failure> {
        self.string(name)?.ok_or_else(|| missing(&self.path_of(name)))
    }

    /// Takes a boolean.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.path_of(name), "a boolean", &other)),
        }
    }

    /// Takes a whole number that is not negative.
    pub(crate) fn unsigned(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(wrong_type(&self.path_of(name), "a non-negative integer", &value)),
        }
    }

    /// Takes a whole number.
    pub(crate) fn signed(&mut self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_i64() {
            Some(number) => Ok(Some(number)),
            None => Err(wrong_type(&self.path_of(name), "an integer", &value)),
        }
    }

    /// Takes a number.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f64>, Failure> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(wrong_type(&self.path_of(name), "a number", &value)),
        }
    }

    /// Takes a list.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Failure> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(wrong_type(&self.path_of(name), "an array", &other)),
        }
    }

    /// Takes an object.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>, Failure> {
        let path = self.path_of(name);
        self.take(name).map(|value| Self::of(value, &path)).transpose()
    }

    /// What was not taken.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_message_loses_is_named_once() {
        let lost = (0..20_000).map(|index| format!("messages[{index}].content[0].cache_control"));
        let lost = lost.chain(["sparkle".to_owned()]).collect();
        assert_eq!(field_names(lost), ["messages.content.cache_control", "sparkle"]);
    }

    #[test]
    fn a_clients_own_words_fit_into_a_header() {
        let many: Vec<String> = (0..100).map(|index| format!("f{index}")).collect();
        assert_eq!(field_names(many).len(), NAMES_MAX);
        let odd = vec!["a\nb, é".to_owned(), "x".repeat(10_000)];
        assert_eq!(field_names(odd), ["a?b???".to_owned(), "x".repeat(NAME_CHARS_MAX)]);
    }
}
