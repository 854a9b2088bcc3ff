//! A Call's metadata: what its client says of it in a few words.
//!
//! It is kept in the ledger, and conditions of routes read it. Invariant: at most
//! [`ENTRIES_MAX`] entries, each a text, a number, a boolean or null, and none of them long. It
//! must not know which header it came in.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Entries at most, as AI Gateway has it.
pub const ENTRIES_MAX: usize = 5;
/// Characters of an entry's name at most.
pub const NAME_CHARS_MAX: usize = 64;
/// Characters of a text at most.
pub const TEXT_CHARS_MAX: usize = 512;

/// The metadata; empty costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Option<Arc<Map<String, Value>>>);

/// Why something is no metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongMetadata {
    /// Not an object, or one that holds objects or lists.
    #[error("must be a JSON object of texts, numbers and booleans")]
    NoFlatObject,
    /// Too many entries.
    #[error("must be an object of at most {ENTRIES_MAX} entries")]
    TooMany,
    /// A name that is empty or too long.
    #[error("must have names of 1 to {NAME_CHARS_MAX} characters")]
    Name,
    /// A text that is too long.
    #[error("must have texts of at most {TEXT_CHARS_MAX} characters")]
    Text,
}

impl Metadata {
    /// Reads it from JSON.
    ///
    /// # Errors
    /// [`WrongMetadata`].
    pub fn parse(json: &[u8]) -> Result<Self, WrongMetadata> {
        let map: Map<String, Value> =
            serde_json::from_slice(json).map_err(|_| WrongMetadata::NoFlatObject)?;
        Self::checked(map)
    }

    fn checked(map: Map<String, Value>) -> Result<Self, WrongMetadata> {
        if map.len() > ENTRIES_MAX {
            return Err(WrongMetadata::TooMany);
        }
        for (name, value) in &map {
            if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
                return Err(WrongMetadata::Name);
            }
            match value {
                Value::String(text) if text.chars().count() > TEXT_CHARS_MAX => {
                    return Err(WrongMetadata::Text);
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
                Value::Array(_) | Value::Object(_) => return Err(WrongMetadata::NoFlatObject),
            }
        }
        Ok(Self((!map.is_empty()).then(|| Arc::new(map))))
    }

    /// Whether nothing is said.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// One entry.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name)
    }

    /// All entries, in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().flat_map(|map| map.iter()).map(|(name, value)| (name.as_str(), value))
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: Option<Map<String, Value>> = Option::deserialize(deserializer)?;
        Self::checked(map.unwrap_or_default()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_and_flat_is_taken_and_comes_back() {
        let text = r#"{"team":"ü","n":1,"b":true,"x":null,"y":2.5}"#;
        let metadata = Metadata::parse(text.as_bytes()).unwrap();
        assert_eq!(metadata.get("n"), Some(&Value::from(1)));
        assert_eq!(serde_json::to_string(&metadata).unwrap(), text);
        assert_eq!(serde_json::from_str::<Metadata>(text).unwrap(), metadata);
        assert_eq!(serde_json::from_str::<Metadata>("null").unwrap(), Metadata::default());
        assert!(Metadata::parse(b"{}").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_is_refused_by_its_fault() {
        let long = |length: usize| "x".repeat(length);
        for (json, fault) in [
            ("[]".to_owned(), WrongMetadata::NoFlatObject),
            (r#"{"a":[]}"#.to_owned(), WrongMetadata::NoFlatObject),
            (r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}"#.to_owned(), WrongMetadata::TooMany),
            (r#"{"":1}"#.to_owned(), WrongMetadata::Name),
            (format!(r#"{{"{}":1}}"#, long(NAME_CHARS_MAX + 1)), WrongMetadata::Name),
            (format!(r#"{{"a":"{}"}}"#, long(TEXT_CHARS_MAX + 1)), WrongMetadata::Text),
        ] {
            assert_eq!(Metadata::parse(json.as_bytes()), Err(fault), "{json}");
        }
    }
}
