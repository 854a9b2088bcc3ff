//! Keeps the operator's credentials out of what a provider says.
//!
//! Some providers repeat the key that they were sent in their errors. Whatever of their words goes
//! on (a message, an error's body, a header) goes through here first, and comes out with
//! [`REDACTED`] in the key's place. Answers of models are not looked at: a model was never told the
//! key. Must not know formats beyond JSON.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use types::{Failure, Secret};

/// What stands in the key's place; as the key itself in a JSON text, it needs no escapes.
const REDACTED: &str = "[redacted]";
/// A shorter key is a placeholder such as `none`: replacing it would only maul words.
const KEY_BYTES_MIN: usize = 8;

/// Knows the credentials of one provider.
#[derive(Clone, Debug)]
pub(crate) struct Redactor {
    keys: Arc<[Secret]>,
}

impl Redactor {
    pub(crate) fn new<'a>(keys: impl IntoIterator<Item = &'a Secret>) -> Self {
        let long = |key: &&Secret| key.expose().len() >= KEY_BYTES_MIN;
        let mut keys: Vec<Secret> = keys.into_iter().filter(long).cloned().collect();
        // One may be a part of another: the rest of that would stay.
        keys.sort_by_key(|key| std::cmp::Reverse(key.expose().len()));
        Self { keys: keys.into() }
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(Secret::expose)
    }

    /// Whether a key stands in `text`.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.texts().any(|key| text.contains(key))
    }

    /// Replaces the keys in what a client is told.
    pub(crate) fn clean(&self, failure: &mut Failure) {
        for key in self.texts() {
            if failure.message.contains(key) {
                failure.message = failure.message.replace(key, REDACTED);
            }
            if let Some(param) = failure.param.as_mut().filter(|param| param.contains(key)) {
                *param = param.replace(key, REDACTED).into();
            }
        }
    }

    /// Replaces the keys where they stand in `body` as they were sent.
    pub(crate) fn clean_body(&self, body: Bytes) -> Bytes {
        self.texts().fold(body, |body, key| without(key.as_bytes(), body))
    }

    /// Whether a text of `value` is the key once its escapes are undone.
    pub(crate) fn is_within(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.is_in(text),
            Value::Array(values) => values.iter().any(|value| self.is_within(value)),
            Value::Object(fields) => {
                fields.iter().any(|(name, value)| self.is_in(name) || self.is_within(value))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
}

/// The body with something else in the key's place.
fn without(key: &[u8], body: Bytes) -> Bytes {
    let mut clean = Vec::new();
    let mut rest = body.as_ref();
    while let Some(at) = rest.windows(key.len()).position(|window| window == key) {
        let (before, found) = rest.split_at(at);
        clean.extend_from_slice(before);
        clean.extend_from_slice(REDACTED.as_bytes());
        rest = found.get(key.len()..).unwrap_or_default();
    }
    if clean.is_empty() {
        return body;
    }
    clean.extend_from_slice(rest);
    clean.into()
}

#[cfg(test)]
mod tests;
