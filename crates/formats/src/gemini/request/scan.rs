//! What a request holds besides text, in one pass and without a tree.
//!
//! A walk knows where it is: among the turns, in a part, in its data. Google takes one object where
//! a list of them is meant, and so does the walk. Invariant: nothing is counted as text that is not
//! known to be text. A function's answer may hold parts, whose nesting the JSON reader bounds.

use std::borrow::Cow;
use std::fmt;

use ::types::Failure;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::object::camel;

/// Characters of a reader's reason that are repeated.
const REASON_CHARS_MAX: usize = 200;
/// Images whose tokens are bounded.
const IMAGES: [&str; 5] = ["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"];
/// Tools that Google runs, which are billed apart and feed their results to the model.
const BILLED_TOOLS: [&str; 9] = [
    "googleSearch",
    "googleSearchRetrieval",
    "codeExecution",
    "urlContext",
    "googleMaps",
    "fileSearch",
    "computerUse",
    "enterpriseWebSearch",
    "retrieval",
];

/// What was found besides text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Images, sounds and documents.
    pub(super) media: u32,
    /// What can't be bounded, or is billed apart.
    pub(super) surcharge: Option<&'static str>,
    /// There is a function that the model may call.
    pub(super) any: bool,
}

/// What is in `contents`.
pub(super) fn contents(raw: &RawValue) -> Result<Found, Failure> {
    if raw.get().starts_with('[') || raw.get().starts_with('{') {
        return walk(raw, Place::Content, "contents");
    }
    let text = "invalid type for 'contents': expected a list of contents";
    Err(Failure::invalid("contents", text))
}

/// What is in `systemInstruction`.
pub(super) fn system(raw: &RawValue) -> Result<Found, Failure> {
    walk(raw, Place::Content, "systemInstruction")
}

/// What is in `tools`.
pub(super) fn tools(raw: &RawValue) -> Result<Found, Failure> {
    walk(raw, Place::Tool, "tools")
}

fn walk(raw: &RawValue, place: Place, path: &'static str) -> Result<Found, Failure> {
    let mut found = Found::default();
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    let walked = Walk { place, found: &mut found }.deserialize(&mut reader);
    walked.map_err(|error| {
        let why = error.to_string();
        let why = why.split(" at line ").next().unwrap_or_default();
        // It may repeat the value, whose length nobody bounds.
        let why: String = why.chars().take(REASON_CHARS_MAX).collect();
        Failure::invalid(path, format!("invalid value for '{path}' ({why})"))
    })?;
    Ok(found)
}

/// Where the walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A turn, or a list of them.
    Content,
    /// A part of one.
    Part,
    /// Media in a part.
    Blob,
    /// The type of such media.
    MediaType,
    /// Media that lie elsewhere.
    File,
    /// What a function answered.
    FunctionResponse,
    /// A tool.
    Tool,
    /// Functions of the client.
    Functions,
    /// What is billed by this name if it says anything.
    Billed(&'static str),
}

impl Place {
    /// Where a field leads; `None` = what it says is text.
    fn field(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Content, "role")
            | (Self::Part, "text" | "thought" | "thoughtSignature" | "functionCall")
            | (Self::Blob, "data" | "displayName")
            | (
                Self::FunctionResponse,
                "id" | "name" | "response" | "willContinue" | "scheduling",
            )
            | (Self::MediaType | Self::File | Self::Functions | Self::Billed(_), _) => None,
            (Self::Content, "parts") | (Self::FunctionResponse, "parts") => Some(Self::Part),
            (Self::Part, "inlineData") => Some(Self::Blob),
            (Self::Part, "fileData") => Some(Self::File),
            (Self::Part, "functionResponse") => Some(Self::FunctionResponse),
            (Self::Blob, "mimeType") => Some(Self::MediaType),
            (Self::Tool, "functionDeclarations") => Some(Self::Functions),
            (Self::Tool, name) => {
                let known = BILLED_TOOLS.into_iter().find(|known| *known == name);
                Some(Self::Billed(known.unwrap_or("tools")))
            }
            // What a server did, and what is not known.
            (Self::Content | Self::Part | Self::FunctionResponse, _) => {
                Some(Self::Billed("contents"))
            }
            (Self::Blob, _) => Some(Self::Billed("inlineData")),
        }
    }
}

struct Walk<'f> {
    place: Place,
    found: &'f mut Found,
}

impl Walk<'_> {
    fn bill(&mut self, name: &'static str) {
        self.found.surcharge = self.found.surcharge.or(Some(name));
    }

    /// A value that is no object and no list.
    fn scalar(&mut self) {
        match self.place {
            Place::MediaType | Place::Blob => self.bill("inlineData"),
            Place::File => self.bill("fileData"),
            Place::Billed(name) => self.bill(name),
            Place::Content
            | Place::Part
            | Place::FunctionResponse
            | Place::Tool
            | Place::Functions => {}
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the API")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        match self.place {
            Place::Blob => self.found.media = self.found.media.saturating_add(1),
            Place::File => {
                self.found.media = self.found.media.saturating_add(1);
                self.bill("fileData");
            }
            Place::Functions => self.found.any = true,
            Place::Billed(name) => self.bill(name),
            Place::MediaType => self.bill("inlineData"),
            Place::Content | Place::Part | Place::FunctionResponse | Place::Tool => {}
        }
        let mut has_type = false;
        while let Some(Name(name)) = map.next_key()? {
            match self.place.field(&camel(&name)) {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(place) => {
                    has_type |= place == Place::MediaType;
                    map.next_value_seed(Walk { place, found: &mut *self.found })?;
                }
            }
        }
        if self.place == Place::Blob && !has_type {
            self.bill("inlineData");
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        // Nothing is kept: a list of millions costs no memory.
        while list.next_element_seed(Walk { place: self.place, found: &mut *self.found })?.is_some()
        {
        }
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        if !(self.place == Place::MediaType && IMAGES.contains(&text)) {
            self.scalar();
        }
        Ok(())
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        // A type that is not said may be any.
        if self.place == Place::MediaType {
            self.scalar();
        }
        Ok(())
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        if value {
            self.scalar();
        }
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, _number: u64) -> Result<(), E> {
        self.scalar();
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, _number: i64) -> Result<(), E> {
        self.scalar();
        Ok(())
    }

    fn visit_f64<E: Error>(mut self, _number: f64) -> Result<(), E> {
        self.scalar();
        Ok(())
    }
}
