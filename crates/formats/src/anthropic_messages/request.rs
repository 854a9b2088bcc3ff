//! Requests: the head in one pass, byte-exact edits, and the way to and from the neutral form.
//!
//! [`read_head`] and [`patch`] are the hot path of a pass-through and build no tree. [`parse`] and
//! [`render`] are for crossings, where formats differ. What a request may be billed beyond its
//! text is looked for in `scan`, which errs on the dear side: what is not known is not free.
//! <https://platform.claude.com/docs/en/api/messages>

mod cache;
mod estimate;
mod head;
mod parse;
mod render;
mod scan;

use ::types::call::{ModelHead, Operation};
use ::types::format::Edits;
use bytes::Bytes;

pub use estimate::count_estimate;
pub(super) use head::read_head;
pub(super) use parse::parse;
pub(crate) use parse::reasoning;
pub(super) use render::render;
pub(crate) use render::{input_schema, thinking};

use crate::edit::{Edit, apply, put, text};

/// The field of the output cap.
const OUTPUT_CAP: &str = "max_tokens";

/// Replaces only what `edits` names. Bytes that need no edit are shared, not copied.
pub(super) fn patch(raw: &Bytes, head: &ModelHead, edits: &Edits<'_>) -> Bytes {
    let mut list: Vec<Edit> = Vec::with_capacity(2);
    let spans = &head.spans;
    if edits.model != head.model {
        let value = text(edits.model);
        list.push(put(spans.model.clone(), "model", value, spans.insert_at));
    }
    // Counting takes no cap, and refuses fields that it doesn't know.
    let answers = edits.operation == Operation::Chat;
    let cap = edits.output_cap.filter(|cap| answers && head.output_cap != Some(*cap));
    if let Some(cap) = cap {
        let value = cap.to_string().into_bytes();
        list.push(put(spans.output_cap.clone(), OUTPUT_CAP, value, spans.insert_at));
    }
    apply(raw, list)
}

#[cfg(test)]
mod tests;
