//! Requests: the head, byte-exact edits, and the way to and from the neutral form.
//!
//! [`read_head`] and [`patch`] are the hot path of a pass-through and build no tree. [`parse`] and
//! [`render`] are for crossings, where formats differ. Fields may be spelt in camel case or with
//! underscores, as Google's own servers take both. What a request may be billed beyond its text is
//! looked for in `scan`, which errs on the dear side: what is not known is not free.
//! <https://ai.google.dev/api/generate-content>

mod head;
mod parse;
mod render;
mod scan;

use ::types::Failure;
use ::types::call::{ModelHead, Operation};
use ::types::format::Edits;
use bytes::Bytes;

pub(super) use head::read_head;
pub(super) use parse::parse;
pub(super) use render::render;

use crate::edit::{Edit, apply, text};
use crate::head::TopLevel;
use crate::object::camel;

/// What an id begins with that was made here for a call of a model that gave it none: it is not
/// told to Google.
pub(super) const MADE_ID: &str = "gemini_";
/// Where the request stands in one that is to be counted, if it is a whole one.
const COUNTED: &str = "generateContentRequest";
const CONFIG: &str = "generationConfig";
const OUTPUT_CAP: &str = "maxOutputTokens";

/// About how many input tokens a request has, where nobody can be asked. Rather too many than too
/// few: clients keep to a context's limit by it.
///
/// # Errors
/// A 400 that names the field.
pub fn count_estimate(body: &[u8]) -> Result<u64, Failure> {
    Ok(::types::estimate::tokens(&parse(body)?))
}

/// Replaces only what `edits` names. Bytes that need no edit are shared, not copied.
pub(super) fn patch(raw: &Bytes, head: &ModelHead, edits: &Edits<'_>) -> Bytes {
    let mut list: Vec<Edit> = Vec::with_capacity(1);
    if let Some(span) = &head.spans.model {
        // A request that is to be counted may name the model again, and must name the same.
        list.push((span.clone(), text(&super::resource(edits.model))));
    }
    let answers = edits.operation == Operation::Chat;
    let cap = edits.output_cap.filter(|cap| answers && head.output_cap != Some(*cap));
    if let Some(cap) = cap {
        match &head.spans.output_cap {
            Some(span) => list.push((span.clone(), cap.to_string().into_bytes())),
            None => list.extend(new_cap(raw, cap)),
        }
    }
    apply(raw, list)
}

/// The edit that sets a cap where the client set none.
fn new_cap(raw: &Bytes, cap: u64) -> Option<Edit> {
    // The head was read of these bytes, so that they can be read.
    let top = TopLevel::read(raw).ok()?;
    let given = top.fields().map(|(name, _)| name).find(|name| camel(name) == CONFIG);
    let Some(given) = given else {
        let at = top.insert_at();
        // The object is never empty (it has contents), so a comma always follows.
        let field = format!("\"{CONFIG}\":{{\"{OUTPUT_CAP}\":{cap}}},");
        return Some((at..at, field.into_bytes()));
    };
    let (span, config) = (top.span(given)?, top.raw(given)?.get());
    let Some(inner) = config.strip_prefix('{') else {
        let config = format!("{{\"{OUTPUT_CAP}\":{cap}}}");
        return Some((span, config.into_bytes()));
    };
    let comma = if inner.trim_start().starts_with('}') { "" } else { "," };
    let at = span.start + 1;
    Some((at..at, format!("\"{OUTPUT_CAP}\":{cap}{comma}").into_bytes()))
}

#[cfg(test)]
mod tests;
