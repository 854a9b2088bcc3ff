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

use crate::json::{at, join, malformed};

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
        let mut reader = serde_json::Deserializer::from_slice(body);
        let fields = reader.deserialize_map(Collect).map_err(|error| malformed(&error))?;
        reader.end().map_err(|error| malformed(&error))?;
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

    /// The model's name: a string that is not empty.
    pub(crate) fn model(&self) -> Result<String, Failure> {
        let model: String = self.required("model", "a string")?;
        if model.is_empty() {
            return Err(Failure::invalid("model", "'model' is empty: name a model"));
        }
        Ok(model)
    }
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

/// What a list of messages or items holds besides text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Media {
    /// Images, sounds and documents: everything that is not known to be text.
    pub(crate) count: u32,
    /// The first kind of part of which nobody can say beforehand how many tokens it is, or at which
    /// rate they are billed.
    pub(crate) unbounded: Option<&'static str>,
}

/// Images, sounds and documents in a list of messages or items.
pub(crate) fn count_media(list: &RawValue, path: &str) -> Result<u32, Failure> {
    Ok(media_in(list, path)?.count)
}

/// What a list of messages or items holds besides text.
pub(crate) fn media_in(list: &RawValue, path: &str) -> Result<Media, Failure> {
    let text = list.get();
    if !may_hold_media(text.as_bytes()) {
        return Ok(Media::default());
    }
    let wrong = |_| {
        Failure::invalid(path, format!("invalid value for '{path}': expected an array of objects"))
    };
    let messages: Vec<MessageHead<'_>> = serde_json::from_str(text).map_err(wrong)?;
    let mut media = Media::default();
    for (index, message) in messages.iter().enumerate() {
        for (name, raw) in [("content", message.content), ("output", message.output)] {
            let path = || join(&at(path, index), name);
            if let Some(raw) = raw {
                media_parts(raw, path, &mut media)?;
            }
        }
        if message.audio.is_some_and(|raw| raw.get() != "null") {
            media.add(Some("audio"));
        }
    }
    Ok(media)
}

impl Media {
    fn add(&mut self, unbounded: Option<&'static str>) {
        self.count = self.count.saturating_add(1);
        self.unbounded = self.unbounded.or(unbounded);
    }
}

/// The kind of a part whose tokens have no bound. An image has one, whatever its address; a
/// document has as many pages as it likes in few bytes, or lies at the provider under an id; sound
/// has rates of its own; and of a kind that is not known nothing is.
fn unbounded(kind: &str) -> Option<&'static str> {
    match kind {
        "image_url" | "input_image" | "image" => None,
        "file" => Some("file"),
        "input_file" => Some("input_file"),
        "input_audio" | "audio" => Some("input_audio"),
        _ => Some("content"),
    }
}

/// Only content that is a list can hold media, and an answer in sound that is named again; an
/// escape can hide its name.
fn may_hold_media(list: &[u8]) -> bool {
    memchr::memchr(b'[', list.get(1..).unwrap_or_default()).is_some()
        || [&b"audio"[..], br"\u"].iter().any(|text| memchr::memmem::find(list, text).is_some())
}

fn media_parts(
    raw: &RawValue,
    path: impl Fn() -> String,
    media: &mut Media,
) -> Result<(), Failure> {
    if !raw.get().starts_with('[') {
        return Ok(());
    }
    let wrong = |_| {
        let path = path();
        let text = format!("invalid value for '{path}': expected a string or an array of parts");
        Failure::invalid(path, text)
    };
    let parts: Vec<PartHead> = serde_json::from_str(raw.get()).map_err(wrong)?;
    let kinds = parts.iter().map(|part| part.kind.as_deref().unwrap_or("text"));
    let is_text = |kind: &&str| matches!(*kind, "text" | "input_text" | "output_text" | "refusal");
    kinds.filter(|kind| !is_text(kind)).for_each(|kind| media.add(unbounded(kind)));
    Ok(())
}

#[derive(Deserialize)]
struct MessageHead<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PartHead {
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

/// Collects the fields; `None` if there are too many.
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

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
