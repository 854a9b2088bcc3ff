//! Answers: a provider's, passed on as it came, and those of models of our own.
//!
//! The reader hands the body on in one frame and reads its usage and its model. A body without
//! vectors is a failure that may have been billed. At most [`BODY_BYTES_MAX`] bytes are held.

use ::types::Failure;
use ::types::format::ReadOptions;
use ::types::outcome::{Delta, Finish};
use ::types::usage::Usage;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::request::Encoding;
use crate::openai_chat::errors;
use crate::whole::{self, failed, no_answer};

/// Bytes of an answer's body at most: 2,048 vectors of 3,072 numbers take 75 MiB when written out.
const BODY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes of a written number, about.
const NUMBER_BYTES: usize = 13;

/// Reads a JSON answer.
pub(crate) fn reader(options: ReadOptions) -> whole::Reader {
    whole::Reader::new(options, read).with_limit(BODY_BYTES_MAX)
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    model: Option<String>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

fn read(body: &[u8], _options: &ReadOptions) -> Result<(Vec<Delta>, Finish), Failure> {
    let answer: Answer<'_> = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(error) => {
            let said = || errors::parse_in_answer(body);
            return Err(no_answer(Some(&error), "list of embeddings", said));
        }
    };
    if !answer.data.get().starts_with('[') {
        return Err(failed("the provider answered without a list of embeddings"));
    }
    let finish = Finish {
        usage: answer.usage.and_then(usage_of),
        model_version: answer.model,
        ..Finish::default()
    };
    Ok((Vec::new(), finish))
}

#[derive(Deserialize)]
struct UsageBody {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    /// All that some servers give (Voyage), and the same: nothing is answered in tokens.
    #[serde(default)]
    total_tokens: Option<u64>,
}

fn usage_of(raw: &RawValue) -> Option<Usage> {
    let body: UsageBody = serde_json::from_str(raw.get()).ok()?;
    let input_tokens = body.prompt_tokens.or(body.total_tokens)?;
    Some(Usage { input_tokens, ..Usage::default() })
}

/// Vectors that a model of our own has made.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    /// The numbers of all vectors, one vector behind the other.
    pub numbers: &'a [f32],
    /// Numbers of one vector, at least 1.
    pub dimensions: usize,
    /// Tokens that the texts had.
    pub tokens: u64,
}

/// Writes an answer. `model` is the name that the client asked for.
pub fn render(model: &str, vectors: Vectors<'_>, encoding: Encoding) -> Bytes {
    let capacity = vectors.numbers.len().saturating_mul(NUMBER_BYTES).saturating_add(256);
    let mut out = BytesMut::with_capacity(capacity.min(BODY_BYTES_MAX));
    out.put_slice(b"{\"object\":\"list\",\"data\":[");
    for (index, vector) in vectors.numbers.chunks_exact(vectors.dimensions.max(1)).enumerate() {
        if index > 0 {
            out.put_slice(b",");
        }
        out.put_slice(
            format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":").as_bytes(),
        );
        match encoding {
            Encoding::Float => put_numbers(vector, &mut out),
            Encoding::Base64 => put_base64(vector, &mut out),
        }
        out.put_slice(b"}");
    }
    let (model, tokens) = (Value::from(model), vectors.tokens);
    let end = format!(
        "],\"model\":{model},\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}"
    );
    out.put_slice(end.as_bytes());
    out.freeze()
}

/// The shortest decimals that read back as the same numbers.
fn put_numbers(vector: &[f32], out: &mut BytesMut) {
    for (place, number) in vector.iter().enumerate() {
        out.put_slice(if place == 0 { b"[" } else { b"," });
        // JSON has no infinity, and a model that gives one is refused when it is read.
        let number = if number.is_finite() { *number } else { 0.0 };
        out.put_slice(number.to_string().as_bytes());
    }
    out.put_slice(b"]");
}

fn put_base64(vector: &[f32], out: &mut BytesMut) {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    out.put_slice(b"\"");
    out.put_slice(data_encoding::BASE64.encode(&bytes).as_bytes());
    out.put_slice(b"\"");
}

#[cfg(test)]
mod tests;
