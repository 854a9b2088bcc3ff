//! Keeps the operator's credential out of what a provider says.
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

/// Knows the credential of one provider.
#[derive(Clone, Debug)]
pub(crate) struct Redactor {
    key: Option<Arc<Secret>>,
}

impl Redactor {
    pub(crate) fn new(key: Option<&Secret>) -> Self {
        let key = key.filter(|key| key.expose().len() >= KEY_BYTES_MIN);
        Self { key: key.map(|key| Arc::new(key.clone())) }
    }

    /// Whether the key stands in `text`.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.key.as_ref().is_some_and(|key| text.contains(key.expose()))
    }

    /// Replaces the key in what a client is told.
    pub(crate) fn clean(&self, failure: &mut Failure) {
        let Some(key) = &self.key else { return };
        let key = key.expose();
        if failure.message.contains(key) {
            failure.message = failure.message.replace(key, REDACTED);
        }
        if let Some(param) = failure.param.as_mut().filter(|param| param.contains(key)) {
            *param = param.replace(key, REDACTED).into();
        }
    }

    /// Replaces the key where it stands in `body` as it was sent.
    pub(crate) fn clean_body(&self, body: Bytes) -> Bytes {
        let Some(key) = &self.key else { return body };
        let key = key.expose().as_bytes();
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

#[cfg(test)]
mod tests;
