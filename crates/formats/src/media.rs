//! What of a request is not text: images, sounds, documents, and tools that a provider runs.
//!
//! A part counts as text only if its type says so and nothing in it says otherwise: servers go by
//! the type, by whichever field is there, or by both. What is not known to be text, or an image,
//! has no bound. Lists are read element by element, without keeping any: a list of millions costs
//! no memory.

use std::borrow::Cow;
use std::fmt;

use ::types::Failure;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fold::{folded, imitated};
use crate::head::{Key, imitation};
use crate::items::CACHE_CONTROL;
use crate::json::{at, join};

/// The fields of a message or an item that are read here.
const MESSAGE_FIELDS: [&str; 3] = ["content", "output", "audio"];
/// What the names of fields have in common that hold what is not text.
const MEDIA_WORDS: [&str; 9] =
    ["image", "video", "audio", "file", "document", "media", "embed", "inline", "url"];
/// Fields that an image may have.
const IMAGE_FIELDS: [&str; 6] =
    ["image", "image_url", "input_image", "url", "file_id", "media_type"];

/// What the names of fields begin with that mark a part for OpenAI's prompt cache.
const CACHE_MARK: &str = "prompt_cache";

/// The field of a file that a provider keeps.
const FILE_ID: &str = "file_id";
/// Marks of Anthropic's prompt cache that hold for as long as usual, without white space: what
/// they cost is within every bound.
const SHORT_MARKS: [&str; 4] = [
    "null",
    r#"{"type":"ephemeral"}"#,
    r#"{"type":"ephemeral","ttl":"5m"}"#,
    r#"{"ttl":"5m","type":"ephemeral"}"#,
];

/// Whether a field marks what is in front of it for a prompt cache, and may have it kept for longer
/// than usual, which costs more.
pub(crate) fn is_long_mark(name: &str, raw: &RawValue) -> bool {
    let mark: String = raw.get().split_ascii_whitespace().collect();
    match name {
        CACHE_CONTROL => !SHORT_MARKS.contains(&mark.as_str()),
        other => other.starts_with(CACHE_MARK) && mark != "null",
    }
}

/// What a list of messages or items holds besides text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Media {
    /// Images, sounds and documents: everything that is not known to be text.
    pub(crate) count: u32,
    /// The first kind of part of which nobody can say beforehand how many tokens it is, or at which
    /// rate they are billed.
    pub(crate) unbounded: Option<&'static str>,
    /// Whether some part has a mark of a prompt cache that may cost more than the usual one.
    pub(crate) marked: bool,
    /// The field of the first part that names a file which a provider keeps.
    pub(crate) kept: Option<&'static str>,
}

impl Media {
    /// Counts what one message or item holds.
    pub(crate) fn add_message(&mut self, fields: Fields<'_>, path: &str) -> Result<(), Failure> {
        message(fields, path, self)
    }

    fn add(&mut self, unbounded: Option<&'static str>) {
        self.count = self.count.saturating_add(1);
        self.unbounded = self.unbounded.or(unbounded);
    }

    fn add_part(&mut self, part: &Part<'_>) {
        self.marked |= part.is_marked;
        self.kept = self.kept.or_else(|| part.names_file.then_some(FILE_ID));
        let kind = part.kind.as_deref().unwrap_or_default();
        match kind {
            "text" | "input_text" | "output_text" | "refusal" | "reasoning_text" => {
                if part.holds_image || part.holds_other {
                    self.add(Some("content"));
                }
            }
            "image_url" | "input_image" | "image" if part.holds_other => self.add(Some("content")),
            kind => self.add(unbounded(kind)),
        }
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

/// What a list of messages or items holds besides text.
pub(crate) fn media_in(list: &RawValue, path: &str) -> Result<Media, Failure> {
    if !may_hold_media(list.get().as_bytes()) {
        return Ok(Media::default());
    }
    let mut media = Media::default();
    let mut index = 0;
    each(list, "an array of objects", path, |fields| {
        let path = at(path, index);
        index += 1;
        message(fields, &path, &mut media)
    })?;
    Ok(media)
}

/// Only content that is a list can hold media, or one part without its list, and an answer in sound
/// that is named again; an escape can hide its name, and a capital letter too.
fn may_hold_media(list: &[u8]) -> bool {
    if memchr::memchr(b'[', list.get(1..).unwrap_or_default()).is_some()
        || memchr::memmem::find(list, br"\u").is_some()
    {
        return true;
    }
    let before = |at: usize| list.get(..at).unwrap_or_default().trim_ascii_end().last();
    let behind = |at: usize| list.get(at + 1..).unwrap_or_default();
    memchr::memchr_iter(b'{', list).any(|at| before(at) == Some(&b':'))
        || memchr::memchr_iter(b'"', list)
            .any(|at| behind(at).get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"audio")))
}

fn message(fields: Fields<'_>, path: &str, media: &mut Media) -> Result<(), Failure> {
    for (name, raw) in fields {
        match &*name {
            "content" | "output" => content(raw, &join(path, &name), media)?,
            "audio" if raw.get() != "null" => media.add(Some("audio")),
            other => refuse_imitation(other, path, &MESSAGE_FIELDS)?,
        }
    }
    Ok(())
}

fn content(raw: &RawValue, path: &str, media: &mut Media) -> Result<(), Failure> {
    match raw.get().as_bytes().first() {
        Some(b'[') => each(raw, "a string or an array of parts", path, |fields| {
            media.add_part(&Part::read(fields, path)?);
            Ok(())
        }),
        // No API takes a part without its list; some server may.
        Some(b'{') => {
            media.add(Some("content"));
            let part: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            let names_file = part.get(FILE_ID).is_some_and(|id| !id.is_null());
            media.kept = media.kept.or_else(|| names_file.then_some(FILE_ID));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What a part says that it is, and what it holds.
#[derive(Debug, Default)]
struct Part<'a> {
    kind: Option<Cow<'a, str>>,
    holds_image: bool,
    holds_other: bool,
    is_marked: bool,
    names_file: bool,
}

impl<'a> Part<'a> {
    fn read(fields: Fields<'a>, path: &str) -> Result<Self, Failure> {
        let mut part = Self::default();
        for (name, raw) in fields {
            if name == "type" {
                let wrong = |_| expected("a string or an array of parts", path);
                part.kind = serde_json::from_str(raw.get()).map_err(wrong)?;
                continue;
            }
            refuse_imitation(&name, path, &["type"])?;
            let name = folded(&name);
            if raw.get() == "null" {
                continue;
            }
            part.is_marked |= is_long_mark(&name, raw);
            part.names_file |= name == FILE_ID;
            if IMAGE_FIELDS.contains(&&*name) {
                part.holds_image = true;
            } else if MEDIA_WORDS.iter().any(|word| name.contains(word)) {
                part.holds_other = true;
            }
        }
        Ok(part)
    }
}

/// What a request's `tools` are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tools {
    /// There is one at least.
    pub(crate) any: bool,
    /// Some tool is run by the provider, which bills it apart and feeds its results to the model.
    pub(crate) unbounded: Option<&'static str>,
}

/// What a chat request's `tools` are.
pub(crate) fn tools_in(list: Option<&RawValue>) -> Result<Tools, Failure> {
    const PATH: &str = "tools";
    let mut tools = Tools::default();
    let Some(list) = list.filter(|list| list.get() != "null") else { return Ok(tools) };
    each(list, "an array of objects", PATH, |fields| {
        tools.any = true;
        let mut is_clients = false;
        for (name, raw) in fields {
            refuse_imitation(&name, PATH, &["type"])?;
            is_clients |= name == "type" && matches!(raw.get(), r#""function""# | r#""custom""#);
        }
        if !is_clients {
            tools.unbounded = Some(PATH);
        }
        Ok(())
    })?;
    Ok(tools)
}

pub(crate) fn refuse_imitation(
    name: &str,
    path: &str,
    known: &[&'static str],
) -> Result<(), Failure> {
    match imitated(name, known.iter().copied()) {
        Some(known) => Err(imitation(&join(path, name), known)),
        None => Ok(()),
    }
}

fn expected(wanted: &str, path: &str) -> Failure {
    Failure::invalid(path, format!("invalid value for '{path}': expected {wanted}"))
}

/// The fields of one object.
pub(crate) type Fields<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// Hands the objects of a list to `take`, one by one.
pub(crate) fn each<'a>(
    list: &'a RawValue,
    wanted: &str,
    path: &str,
    take: impl FnMut(Fields<'a>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut refused = None;
    let objects = Objects { take, refused: &mut refused };
    let mut reader = serde_json::Deserializer::from_str(list.get());
    let read = reader.deserialize_seq(objects);
    match (refused, read) {
        (Some(failure), _) => Err(failure),
        (None, Err(_)) => Err(expected(wanted, path)),
        (None, Ok(())) => Ok(()),
    }
}

struct Objects<'r, F> {
    take: F,
    refused: &'r mut Option<Failure>,
}

impl<'de, F: FnMut(Fields<'de>) -> Result<(), Failure>> Visitor<'de> for Objects<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(fields) = list.next_element_seed(Object)? {
            if self.refused.is_some() {
                continue;
            }
            if let Err(failure) = (self.take)(fields) {
                *self.refused = Some(failure);
            }
        }
        Ok(())
    }
}

/// Fields of one object that are looked at; what has more is nothing that any API knows.
const FIELDS_MAX: usize = 64;

struct Object;

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(Key(name)) = map.next_key()? {
            if fields.len() == FIELDS_MAX {
                let _rest: IgnoredAny = map.next_value()?;
                let text = format!("more than {FIELDS_MAX} fields in one object");
                return Err(serde::de::Error::custom(text));
            }
            fields.push((name, map.next_value()?));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests;
