//! Notes on an attempt: why this target, what was decided on the way.
//!
//! They stand in its ledger row and in `/api/calls`. Invariant: names, numbers and codes only,
//! never a word of a prompt or an answer; a row's notes stay small, whoever adds to them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Entries of one row at most; what comes later is left out.
pub const ENTRIES_MAX: usize = 32;
/// Bytes of one note as JSON at most; a longer one is left out, and `cut` says so.
pub const NOTE_BYTES_MAX: usize = 1_024;
/// What says that a note was too long, or one too many.
const CUT: &str = "cut";

/// The notes; none cost nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(Option<Box<Map<String, Value>>>);

impl Notes {
    /// Writes a note, in the place of an earlier one of that name.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        let map = self.0.get_or_insert_default();
        let is_new = !map.contains_key(name);
        let fits = value.to_string().len() <= NOTE_BYTES_MAX;
        let (name, value) = match fits && !(is_new && map.len() >= ENTRIES_MAX) {
            true => (name, value),
            false => (CUT, Value::Bool(true)),
        };
        map.insert(name.to_owned(), value);
    }

    /// Adds the notes of somebody else.
    pub fn extend(&mut self, others: &Self) {
        for (name, value) in others.0.iter().flat_map(|map| map.iter()) {
            self.set(name, value.clone());
        }
    }

    /// One note.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Serialize for Notes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: Option<Map<String, Value>> = Option::deserialize(deserializer)?;
        Ok(Self(map.filter(|map| !map.is_empty()).map(Box::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_stay_few_and_short() {
        let mut notes = Notes::default();
        assert!(notes.is_empty());
        notes.set("why", "weight");
        notes.set("why", "sticky");
        assert_eq!(notes.get("why"), Some(&Value::from("sticky")));
        assert_eq!(notes.get("cut"), None);
        notes.set("long", "x".repeat(NOTE_BYTES_MAX));
        assert_eq!((notes.get("long"), notes.get("cut")), (None, Some(&Value::Bool(true))));
        for number in 0..100 {
            notes.set(&format!("n{number}"), number);
        }
        let map = serde_json::to_value(&notes).unwrap();
        assert_eq!(map.as_object().unwrap().len(), ENTRIES_MAX);
        assert_eq!(serde_json::from_value::<Notes>(map).unwrap(), notes);
    }
}
