//! Embeddings by `ai/run`: `text` in, `shape` and `data` out.
//!
//! A request is told in the words of `/v1/embeddings`, by which every provider of vectors is asked;
//! the numbers of the answer stand in Workers AI's as they came.

use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::response::unreadable;
use crate::head::TopLevel;
use crate::json::{field_names, missing};

/// Ways in which a text's tokens become one vector that ask for what the model does anyway.
const POOLING_USUAL: [&str; 1] = ["mean"];

/// A request in the words of `/v1/embeddings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its body.
    pub body: Bytes,
    /// Names of the fields that can't be said there.
    pub dropped: Vec<String>,
}

/// An input of texts as such a request.
///
/// # Errors
/// A 400 that names the field.
pub fn ask(model: &str, input: &[u8]) -> Result<Asked, Failure> {
    let top = TopLevel::read(input)?;
    top.refuse_imitations("", &["text", "model", "pooling"])?;
    let text = top.raw("text").ok_or_else(|| missing("text"))?;
    if !matches!(text.get().as_bytes().first(), Some(b'"' | b'[')) {
        let wrong = "invalid type for 'text': expected a string or an array of strings";
        return Err(Failure::invalid("text", wrong));
    }
    let pooling: Option<String> = top.get("pooling", "a string")?;
    if let Some(other) = pooling.filter(|asked| !POOLING_USUAL.contains(&asked.as_str())) {
        let text = format!("pooling '{other}' is not offered: the model's own is applied");
        return Err(Failure::unsupported("pooling", text));
    }
    let model = Value::from(model);
    let text = text.get();
    let body = format!(r#"{{"model":{model},"input":{text},"encoding_format":"float"}}"#);
    let others = top.fields().map(|(name, _)| name);
    let others = others.filter(|name| !["text", "model", "pooling"].contains(name));
    let dropped = field_names(others.map(str::to_owned).collect());
    Ok(Asked { body: Bytes::from(body), dropped })
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Vec<Vector<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Vector<'a> {
    #[serde(borrow)]
    embedding: &'a RawValue,
    #[serde(default)]
    index: u64,
}

/// An answer of `/v1/embeddings` as one of `ai/run`, in Cloudflare's envelope.
///
/// # Errors
/// `upstream_failed` if it has no vectors that can be read.
pub fn answer(body: &[u8]) -> Result<Bytes, Failure> {
    let mut answer: Answer<'_> =
        serde_json::from_slice(body).map_err(|_| unreadable("has no vectors"))?;
    answer.data.sort_by_key(|vector| vector.index);
    let lists = answer.data.iter().map(|vector| vector.embedding);
    let lists: Vec<&RawValue> = lists.collect();
    let length = lists.first().map_or(0, |list| numbers_in(list.get()));
    if lists.iter().any(|list| !list.get().starts_with('[') || numbers_in(list.get()) != length) {
        return Err(unreadable("has vectors of several lengths, or none"));
    }
    let data = serde_json::to_string(&lists);
    let data = data.map_err(|_| Failure::new(ErrorCode::Internal, "vectors can't be written"))?;
    let usage =
        answer.usage.map(|usage| format!(r#","usage":{}"#, usage.get())).unwrap_or_default();
    let shape = json!([lists.len(), length]);
    let result = format!(r#"{{"shape":{shape},"data":{data}{usage}}}"#);
    let body = format!(r#"{{"result":{result},"success":true,"errors":[],"messages":[]}}"#);
    Ok(Bytes::from(body))
}

/// How many numbers a flat list has.
fn numbers_in(list: &str) -> usize {
    let empty = list.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(*b"[]");
    if empty { 0 } else { memchr::memchr_iter(b',', list.as_bytes()).count() + 1 }
}

#[cfg(test)]
mod tests;
