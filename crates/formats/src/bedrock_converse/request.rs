//! Requests: the head in one pass, byte-exact edits, and the way to and from the neutral form.
//!
//! The model and whether the answer is streamed stand in the path, so that the head has neither:
//! whoever takes a request in fills them in. The output cap stands in `inferenceConfig`.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>

mod head;
mod parse;
mod render;

use ::types::call::ModelHead;
use ::types::format::Edits;
use bytes::Bytes;

pub(super) use head::read_head;
pub(super) use parse::parse;
pub(super) use render::render;

use crate::edit::{Edit, apply, put};
use crate::head::TopLevel;

/// The object with the output cap, and the cap's name in it.
const INFERENCE: &str = "inferenceConfig";
const OUTPUT_CAP: &str = "maxTokens";
/// Where Claude says which stop sequence it met, in one piece and in a stream.
const STOP_TEXT_PATHS: [&str; 2] = ["/stop_sequence", "/delta/stop_sequence"];

/// Sets the output cap where `edits` names one. All else stays, and the model is in the path.
pub(super) fn patch(raw: &Bytes, head: &ModelHead, edits: &Edits<'_>) -> Bytes {
    let cap = edits.output_cap.filter(|cap| head.output_cap != Some(*cap));
    let edit = cap.and_then(|cap| cap_edit(raw, head, cap));
    apply(raw, edit.into_iter().collect())
}

fn cap_edit(raw: &Bytes, head: &ModelHead, cap: u64) -> Option<Edit> {
    let value = cap.to_string().into_bytes();
    if let Some(span) = head.spans.output_cap.clone() {
        return Some((span, value));
    }
    let top = TopLevel::read(raw).ok()?;
    let whole = || [b"{\"maxTokens\":", value.as_slice(), b"}"].concat();
    match top.span(INFERENCE).filter(|span| raw.get(span.start) == Some(&b'{')) {
        Some(span) => {
            let inner = TopLevel::read(raw.get(span.clone())?).ok()?;
            if inner.fields().next().is_none() {
                return Some((span, whole()));
            }
            Some(put(None, OUTPUT_CAP, value, span.start + inner.insert_at()))
        }
        None => Some(put(top.span(INFERENCE), INFERENCE, whole(), head.spans.insert_at)),
    }
}

#[cfg(test)]
mod tests;
