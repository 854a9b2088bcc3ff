//! What a request holds besides text, in one pass and without a tree.
//!
//! Anthropic's blocks nest: a tool's result, a document or a search result holds blocks of its own,
//! and each may be an image. Invariant: nothing is counted as text that is not known to be text. A
//! field that comes twice, or in other letters (some servers take those for the same), is refused.

use std::borrow::Cow;
use std::fmt;

use ::types::Failure;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::fold::imitated;

/// Lists of blocks within blocks at most; a document in a tool's result is the deepest there is.
const DEPTH_MAX: u8 = 3;

/// Characters of a reader's reason that are repeated.
const REASON_CHARS_MAX: usize = 200;

/// What was found besides text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Images and documents.
    pub(super) media: u32,
    /// What can't be bounded, or is billed apart.
    pub(super) surcharge: Option<&'static str>,
}

impl Found {
    /// Takes in what was found elsewhere.
    pub(super) fn join(&mut self, other: Self) {
        self.media = self.media.saturating_add(other.media);
        self.surcharge = self.surcharge.or(other.surcharge);
    }

    const fn media(surcharge: Option<&'static str>) -> Self {
        Self { media: 1, surcharge }
    }

    const fn billed(surcharge: &'static str) -> Self {
        Self { media: 0, surcharge: Some(surcharge) }
    }
}

/// What is in `messages`.
pub(super) fn messages(list: &RawValue) -> Result<Found, Failure> {
    let text = "expected messages, each with a string or a list of blocks as its content";
    let Messages(found) = read(list, "messages", text)?;
    Ok(found)
}

/// What is in `system`.
pub(super) fn system(content: &RawValue) -> Result<Found, Failure> {
    let mut reader = serde_json::Deserializer::from_str(content.get());
    let text = "expected a string or a list of text blocks";
    let found = Content { depth: 0 }.deserialize(&mut reader);
    found.map_err(|error| wrong("system", text, &error))
}

/// What is in `tools`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tools {
    /// How many.
    pub(super) count: u64,
    /// How many of them Anthropic defines and the client runs.
    pub(super) defined: u64,
    /// Searches that Anthropic may make, at most.
    pub(super) searches: u64,
    /// Set if one is run by Anthropic without a bound, or is not known.
    pub(super) surcharge: Option<&'static str>,
}

/// Tools that Anthropic defines and a client runs, by the beginning of their type.
const CLIENT_TOOLS: [&str; 4] = ["bash_", "computer_2", "memory_", "text_editor_"];

/// The search whose results are read as they are: newer ones run code over them, billed apart.
const SEARCH: &str = "web_search_20250305";

/// What is in `tools`.
pub(super) fn tools(list: &RawValue) -> Result<Tools, Failure> {
    let tools: Option<Tools> = read(list, "tools", "expected a list of tools")?;
    Ok(tools.unwrap_or_default())
}

impl Tools {
    fn add(&mut self, kind: Option<&str>, uses_max: Option<u64>) {
        self.count = self.count.saturating_add(1);
        match kind {
            Some(SEARCH) if uses_max.is_some() => {
                self.searches = self.searches.saturating_add(uses_max.unwrap_or(0));
            }
            None | Some("custom") => {}
            Some(kind) if CLIENT_TOOLS.iter().any(|known| kind.starts_with(known)) => {
                self.defined = self.defined.saturating_add(1);
            }
            Some(_) => self.surcharge = Some("tools"),
        }
    }
}

impl<'de> Deserialize<'de> for Tools {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_seq(ToolsVisitor)
    }
}

struct ToolsVisitor;

impl<'de> Visitor<'de> for ToolsVisitor {
    type Value = Tools;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tools")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tools, A::Error> {
        // Nothing is kept: a list of millions costs no memory.
        let mut tools = Tools::default();
        while let Some(Kind(kind, uses_max)) = list.next_element()? {
            tools.add(kind.as_deref(), uses_max);
        }
        Ok(tools)
    }
}

fn read<'a, T: Deserialize<'a>>(
    raw: &'a RawValue,
    path: &'static str,
    wanted: &str,
) -> Result<T, Failure> {
    serde_json::from_str(raw.get()).map_err(|error| wrong(path, wanted, &error))
}

/// The reason without its place, which would be counted from the field.
fn wrong(path: &'static str, wanted: &str, error: &serde_json::Error) -> Failure {
    let why = error.to_string();
    let why = why.split(" at line ").next().unwrap_or_default();
    // It may repeat the value, whose length nobody bounds.
    let why: String = why.chars().take(REASON_CHARS_MAX).collect();
    Failure::invalid(path, format!("invalid value for '{path}': {wanted} ({why})"))
}

/// A name of ours in the letters that we read, `None` for any other name.
fn known<E: Error>(name: &str, names: &'static [&'static str]) -> Result<Option<&'static str>, E> {
    if let Some(known) = names.iter().find(|known| **known == name) {
        return Ok(Some(known));
    }
    match imitated(name, names.iter().copied()) {
        Some(known) => Err(E::custom(format_args!("'{known}' is spelt in other letters"))),
        None => Ok(None),
    }
}

fn once<T, E: Error>(slot: &mut Option<T>, value: T, name: &'static str) -> Result<(), E> {
    match slot.replace(value) {
        Some(_) => Err(E::duplicate_field(name)),
        None => Ok(()),
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// All messages.
struct Messages(Found);

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_seq(MessagesVisitor)
    }
}

struct MessagesVisitor;

impl<'de> Visitor<'de> for MessagesVisitor {
    type Value = Messages;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Messages, A::Error> {
        let mut found = Found::default();
        while let Some(Message(message)) = list.next_element()? {
            found.join(message);
        }
        Ok(Messages(found))
    }
}

/// One message.
struct Message(Found);

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_map(MessageVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        const NAMES: &[&str] = &["clear_at", "content", "output_config", "role"];
        let mut content = None;
        let mut found = Found::default();
        while let Some(Text(name)) = map.next_key()? {
            match known::<A::Error>(&name, NAMES)? {
                Some("content") => {
                    once(&mut content, map.next_value_seed(Content { depth: 0 })?, "content")?;
                }
                Some(_) => drop(map.next_value::<IgnoredAny>()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                    found.join(Found::billed("messages"));
                }
            }
        }
        found.join(content.unwrap_or_default());
        Ok(Message(found))
    }
}

/// The content of a message or a block: a text, or a list of blocks.
#[derive(Clone, Copy)]
struct Content {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Content {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Found, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of blocks")
    }

    fn visit_str<E: Error>(self, _text: &str) -> Result<Found, E> {
        Ok(Found::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Found, E> {
        Ok(Found::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        let mut found = Found::default();
        while let Some(block) = list.next_element_seed(Block { depth: self.depth })? {
            found.join(block);
        }
        Ok(found)
    }
}

/// A block of content.
#[derive(Clone, Copy)]
struct Block {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Block {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Found, D::Error> {
        reader.deserialize_map(self)
    }
}

/// Fields of blocks that say nothing but text, whatever the block.
const TEXT_FIELDS: &[&str] = &[
    "cache_control",
    "caller",
    "context",
    "data",
    "file_id",
    "id",
    "input",
    "is_error",
    "media_type",
    "name",
    "signature",
    "text",
    "thinking",
    "title",
    "tool_use_id",
    "toolset_name",
    "transformations",
    "url",
];

/// The fields of a block, or of the source of one, that say what it is.
#[derive(Default)]
struct Shape<'a> {
    /// A field that no block has: servers go by the type, or by whichever field is there.
    odd: bool,
    kind: Option<Option<Text<'a>>>,
    source: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
    citations: Option<&'a RawValue>,
}

impl<'a> Shape<'a> {
    fn read<A: MapAccess<'a>>(mut map: A) -> Result<Self, A::Error> {
        const NAMES: &[&str] = &["type", "source", "content", "citations"];
        let mut shape = Self::default();
        while let Some(Text(name)) = map.next_key()? {
            match known::<A::Error>(&name, NAMES)? {
                Some("type") => once(&mut shape.kind, map.next_value()?, "type")?,
                Some("source") => once(&mut shape.source, map.next_value()?, "source")?,
                Some("content") => once(&mut shape.content, map.next_value()?, "content")?,
                Some("citations") => once(&mut shape.citations, map.next_value()?, "citations")?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    shape.odd |= !TEXT_FIELDS.contains(&&*name);
                }
            }
        }
        Ok(shape)
    }

    fn kind(&self) -> Option<&str> {
        self.kind.as_ref()?.as_ref().map(|Text(kind)| &**kind)
    }

    /// Instructions and marks are added for them, as many as there are sentences.
    fn is_cited(&self) -> bool {
        let usual = |raw: &RawValue| matches!(raw.get(), "null" | "[]" | r#"{"enabled":false}"#);
        self.citations.is_some_and(|raw| !usual(raw))
    }
}

impl<'de> Visitor<'de> for Block {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Found, A::Error> {
        let shape = Shape::read(map)?;
        if shape.odd {
            return Ok(Found::media(Some("content")));
        }
        let (holds_blocks, has_source) = (shape.content.is_some(), shape.source.is_some());
        match shape.kind() {
            Some("text" | "thinking" | "redacted_thinking" | "tool_use")
                if !holds_blocks && !has_source =>
            {
                Ok(Found::default())
            }
            Some("image") if !holds_blocks => Ok(Found::media(None)),
            Some("tool_result") if has_source => Ok(Found::media(Some("content"))),
            Some("tool_result" | "search_result") => {
                let mut found = self.within(shape.content)?;
                if shape.is_cited() {
                    found.join(Found::billed("citations"));
                }
                Ok(found)
            }
            Some("document") if !holds_blocks => self.document(&shape),
            // What a server did or will do, what lies in a container, and what is not known.
            Some(_) | None => Ok(Found::media(Some("content"))),
        }
    }
}

impl Block {
    fn document<E: Error>(self, shape: &Shape<'_>) -> Result<Found, E> {
        let source = shape.source.map(|raw| serde_json::from_str::<Source<'_>>(raw.get()));
        let source = source.transpose().map_err(E::custom)?.map(|Source(source)| source);
        let known = source.as_ref().filter(|source| !source.odd);
        let mut found = match known.and_then(Shape::kind) {
            Some("text") => Found::default(),
            Some("content") => self.within(known.and_then(|source| source.content))?,
            // Pages are not bounded by bytes, and what lies elsewhere is not by anything.
            _ => Found::media(Some("document")),
        };
        if shape.is_cited() {
            found.join(Found::billed("citations"));
        }
        Ok(found)
    }

    fn within<E: Error>(self, content: Option<&RawValue>) -> Result<Found, E> {
        let Some(content) = content else { return Ok(Found::default()) };
        let depth = self.depth + 1;
        if depth > DEPTH_MAX {
            return Ok(Found::media(Some("content")));
        }
        let mut reader = serde_json::Deserializer::from_str(content.get());
        Content { depth }.deserialize(&mut reader).map_err(E::custom)
    }
}

/// The source of a document.
struct Source<'a>(Shape<'a>);

impl<'de> Deserialize<'de> for Source<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_map(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = Source<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source of a document")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Shape::read(map).map(Source)
    }
}

/// The type of a tool.
struct Kind<'a>(Option<Cow<'a, str>>, Option<u64>);

impl<'de: 'a, 'a> Deserialize<'de> for Kind<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_map(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tool")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut kind: Option<Option<Text<'de>>> = None;
        let mut uses: Option<&RawValue> = None;
        while let Some(Text(name)) = map.next_key()? {
            match known::<A::Error>(&name, &["type", "max_uses"])? {
                Some("type") => once(&mut kind, map.next_value()?, "type")?,
                Some(_) => once(&mut uses, map.next_value()?, "max_uses")?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let uses = uses.and_then(|uses| uses.get().parse().ok());
        Ok(Kind(kind.flatten().map(|Text(kind)| kind), uses))
    }
}
