//! Requests: the head in one pass, and the whole of one that a model of our own answers.
//!
//! Nothing is answered in tokens, so that the input alone is the bill. A provider may put marks or
//! an instruction around each text, hence a margin per text; what could cost more is a surcharge,
//! which a hard budget refuses.

use std::fmt;

use ::types::call::{HeadSpans, ModelHead};
use ::types::surcharge::{FIELDS, surcharge};
use ::types::{CacheWrites, Extras, Failure};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::head::TopLevel;
use crate::json::{at, missing};

/// Texts of one request at most, as OpenAI has it.
pub const TEXTS_MAX: usize = 2_048;
/// Marks around a text at most, in tokens: BERT's has two, others one or none.
const MARKS_MAX: u64 = 16;
/// Tokens of an instruction that a server keeps for a task and puts before each text, with the
/// marks: the longest known ones have about 30.
const INSTRUCTION_MAX: u64 = 64;

/// Fields that only say what is wanted, and the bookkeeping around it.
const PLAIN: [&str; 18] = [
    "model",
    "input",
    "dimensions",
    "encoding_format",
    "user",
    // The same in the words of Cohere, Mistral, NVIDIA, Voyage, Jina, vLLM and others.
    "output_dimension",
    "output_dtype",
    "embedding_type",
    "embedding_types",
    "normalize",
    "normalized",
    "truncate",
    "truncation",
    "truncate_prompt_tokens",
    "add_special_tokens",
    "late_chunking",
    "priority",
    "metadata",
];
/// Fields by which a server puts an instruction of its own before each text.
const TASKS: [&str; 4] = ["input_type", "prompt_name", "task", "task_type"];
/// What to write instead of something that is no such field.
const INPUT_TYPE: &str = "a string, an array of strings or an array of tokens";

/// Reads what every stage needs.
///
/// # Errors
/// A 400 that names the field.
pub fn read_head(body: &[u8]) -> Result<ModelHead, Failure> {
    let top = TopLevel::read(body)?;
    top.refuse_imitations("", &PLAIN.into_iter().chain(TASKS).chain(FIELDS))?;
    let input = top.raw("input").ok_or_else(|| missing("input"))?;
    let shape = shape_of(input)?;
    let has_task = TASKS.iter().any(|name| top.raw(name).is_some());
    let added = if has_task { INSTRUCTION_MAX } else { MARKS_MAX };
    let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let billed_apart = surcharge(|name| Some(top.raw(name)?.get().into()));
    Ok(ModelHead {
        model: top.model()?,
        stream: false,
        output_cap: Some(0),
        choices: 1,
        include_usage: true,
        body_bytes: bytes.saturating_add(shape.texts.saturating_mul(added)),
        media: 0,
        tools: false,
        surcharge: billed_apart
            .or_else(|| shape.has_others.then_some("input"))
            .or_else(|| has_unknown_fields(&top).then_some("unknown fields")),
        cache_writes: CacheWrites::Unread,
        extras: Extras::default(),
        spans: HeadSpans {
            model: top.span("model"),
            stream_options: None,
            output_cap: None,
            insert_at: top.insert_at(),
        },
    })
}

/// Whether there is a field that may add text to each input, or ask for something else.
fn has_unknown_fields(top: &TopLevel<'_>) -> bool {
    let known =
        |name: &str| PLAIN.into_iter().chain(TASKS).chain(FIELDS).any(|known| known == name);
    top.fields().any(|(name, raw)| raw.get() != "null" && !known(name))
}

/// What an input consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shape {
    /// Texts, or lists of tokens.
    texts: u64,
    /// Whether it has objects (pictures and the like), for which no bound is known.
    has_others: bool,
}

fn shape_of(input: &RawValue) -> Result<Shape, Failure> {
    let wrong =
        || Failure::invalid("input", format!("invalid type for 'input': expected {INPUT_TYPE}"));
    match serde_json::from_str(input.get()).map_err(|_| wrong())? {
        Element::Text => Ok(Shape { texts: 1, has_others: false }),
        Element::Other => Ok(Shape { texts: 1, has_others: true }),
        // One list of tokens is one text.
        Element::List { numbers, texts, has_others } => {
            Ok(Shape { texts: texts + u64::from(numbers > 0), has_others })
        }
        Element::Number | Element::Nothing => Err(wrong()),
    }
}

/// A JSON value, as far as it matters what it is.
enum Element {
    Text,
    Number,
    /// `null` and the like.
    Nothing,
    List {
        numbers: u64,
        texts: u64,
        has_others: bool,
    },
    Other,
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(INPUT_TYPE)
    }

    fn visit_str<E>(self, _: &str) -> Result<Element, E> {
        Ok(Element::Text)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Element, E> {
        Ok(Element::Number)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Element, E> {
        Ok(Element::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Element, E> {
        Ok(Element::Number)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Element, E> {
        Ok(Element::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Element, E> {
        Ok(Element::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Element::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
        let (mut numbers, mut texts, mut has_others) = (0, 0, false);
        while let Some(element) = seq.next_element()? {
            match element {
                Element::Number => numbers += 1,
                Element::Text | Element::Nothing => texts += 1,
                Element::Other => {
                    texts += 1;
                    has_others = true;
                }
                Element::List { texts: inner, has_others: others, .. } => {
                    texts += 1;
                    // Whatever a list of anything but tokens means to a server.
                    has_others |= others || inner > 0;
                }
            }
        }
        Ok(Element::List { numbers, texts, has_others })
    }
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of the numbers' bytes, each four, the lowest first.
    Base64,
}

/// A request, as a model of our own reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The texts, none of them empty.
    pub texts: Vec<String>,
    /// Numbers that a vector is to have.
    pub dimensions: Option<usize>,
    /// How vectors are to be written.
    pub encoding: Encoding,
}

/// Reads a request for a model of our own.
///
/// # Errors
/// A 400 that names what such a model can't be asked, or what is wrong.
pub fn ask(body: &[u8]) -> Result<Ask, Failure> {
    let top = TopLevel::read(body)?;
    let input = top.raw("input").ok_or_else(|| missing("input"))?;
    let dimensions: Option<usize> = top.get("dimensions", "a positive integer")?;
    if dimensions == Some(0) {
        return Err(Failure::invalid("dimensions", "'dimensions' must be at least 1"));
    }
    let encoding: Option<Encoding> = top.get("encoding_format", "'float' or 'base64'")?;
    Ok(Ask { texts: texts_of(input)?, dimensions, encoding: encoding.unwrap_or_default() })
}

fn texts_of(input: &RawValue) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Many(Vec<String>),
    }
    let shape = shape_of(input)?;
    if shape.texts > TEXTS_MAX as u64 {
        let text =
            format!("'input' has {} texts: at most {TEXTS_MAX} go into one request", shape.texts);
        return Err(Failure::invalid("input", text));
    }
    let texts = match serde_json::from_str(input.get()) {
        Ok(Texts::One(text)) => vec![text],
        Ok(Texts::Many(texts)) => texts,
        Err(_) => {
            let text = "a local model takes texts only: numbers of tokens are those of another \
                        tokenizer (in LangChain: check_embedding_ctx_length=False)";
            return Err(Failure::unsupported("input", text));
        }
    };
    if texts.is_empty() {
        return Err(Failure::invalid("input", "'input' is empty: give at least one text"));
    }
    if let Some(index) = texts.iter().position(String::is_empty) {
        let path = at("input", index);
        let text = format!("'{path}' is an empty string");
        return Err(Failure::invalid("input", text));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests;
