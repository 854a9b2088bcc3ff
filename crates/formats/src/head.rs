//! The top level of a request, in one pass and without a tree.
//!
//! [`TopLevel`] borrows each field's bytes, so that the few that matter can be typed and their
//! places are known for byte-exact edits. A field that comes twice is refused: readers would
//! disagree about which one counts. Values are skipped without recursion, so depth costs nothing.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use types::Failure;

use crate::fold::{imitated, is_plain};
use crate::json::{join, malformed, parse};

/// Fields at the top level of a request at most. The largest API has about forty.
const FIELDS_MAX: usize = 256;

/// The fields of a request's top level.
#[derive(Debug)]
pub(crate) struct TopLevel<'a> {
    body: &'a [u8],
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> TopLevel<'a> {
    /// Reads the body of a request.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, Failure> {
        let Collected(fields) = parse(body).map_err(|error| malformed(&error))?;
        let too_many = || {
            Failure::new(
                types::ErrorCode::InvalidRequest,
                format!("the body has more than {FIELDS_MAX} fields"),
            )
        };
        let fields = fields.ok_or_else(too_many)?;
        for (index, (name, _)) in fields.iter().enumerate() {
            if fields.iter().take(index).any(|(earlier, _)| earlier == name) {
                let text = format!("'{name}' is given twice");
                return Err(Failure::invalid(name.as_ref(), text));
            }
        }
        Ok(Self { body, fields })
    }

    /// The fields in their order, `null` included.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().map(|(name, raw)| (name.as_ref(), *raw))
    }

    /// The bytes of a field's value, `null` included.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, raw)| *raw)
    }

    /// Where a field's value stands in the body.
    pub(crate) fn span(&self, name: &str) -> Option<Range<usize>> {
        let text = self.raw(name)?.get();
        // The value is a slice of the body, so the distance of their beginnings is its place.
        let start = (text.as_ptr() as usize).checked_sub(self.body.as_ptr() as usize)?;
        let span = start..start.checked_add(text.len())?;
        self.body.get(span.clone()).is_some_and(|found| found == text.as_bytes()).then_some(span)
    }

    /// Where a field can be inserted: directly behind the opening brace.
    pub(crate) fn insert_at(&self) -> usize {
        memchr::memchr(b'{', self.body).map_or(0, |brace| brace + 1)
    }

    /// A field's value; `None` if it is absent or `null`.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        name: &str,
        wanted: &str,
    ) -> Result<Option<T>, Failure> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        typed(raw, name, wanted)
    }

    /// A field's value that must be there.
    pub(crate) fn required<T: DeserializeOwned>(
        &self,
        name: &str,
        wanted: &str,
    ) -> Result<T, Failure> {
        self.get(name, wanted)?.ok_or_else(|| crate::json::missing(name))
    }

    /// Refuses a field that some readers take for one of `known` although it is another. `path` is
    /// where the object stands.
    pub(crate) fn refuse_imitations(
        &self,
        path: &str,
        known: &(impl IntoIterator<Item = &'static str> + Clone),
    ) -> Result<(), Failure> {
        for (name, _) in self.fields.iter().filter(|(name, _)| !is_plain(name)) {
            if let Some(known) = imitated(name, known.clone()) {
                return Err(imitation(&join(path, name), known));
            }
        }
        Ok(())
    }

    /// The model's name: a string that is not empty.
    pub(crate) fn model(&self) -> Result<String, Failure> {
        let model: String = self.required("model", "a string")?;
        if model.is_empty() {
            return Err(Failure::invalid("model", "'model' is empty: name a model"));
        }
        Ok(model)
    }
}

/// A 400 for a field that some readers take for another.
pub(crate) fn imitation(path: &str, known: &str) -> Failure {
    let text =
        format!("'{path}' is no field, and some providers take it for '{known}': write that");
    Failure::invalid(path, text)
}

/// A value of this type; `None` if it is `null`.
pub(crate) fn typed<T: DeserializeOwned>(
    raw: &RawValue,
    path: &str,
    wanted: &str,
) -> Result<Option<T>, Failure> {
    let wrong =
        |_| Failure::invalid(path, format!("invalid value for '{path}': expected {wanted}"));
    serde_json::from_str::<Option<T>>(raw.get()).map_err(wrong)
}

/// The fields; `None` if there are too many.
struct Collected<'a>(Option<Vec<(Cow<'a, str>, &'a RawValue)>>);

impl<'de: 'a, 'a> Deserialize<'de> for Collected<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect).map(Self)
    }
}

/// Collects the fields.
struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Option<Vec<(Cow<'de, str>, &'de RawValue)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some(Key(name)) = map.next_key()? {
            let raw: &'de RawValue = map.next_value()?;
            if fields.len() <= FIELDS_MAX {
                fields.push((name, raw));
            }
        }
        Ok((fields.len() <= FIELDS_MAX).then_some(fields))
    }
}

/// A field's name, its escapes undone.
#[derive(Deserialize)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
