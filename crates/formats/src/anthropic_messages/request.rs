//! Requests, both ways.

use ::types::call::ModelHead;
use ::types::format::{Edits, Rendered};
use ::types::{Conversation, Failure};
use bytes::Bytes;

fn not_yet() -> Failure {
    Failure::unsupported("model", "the Messages API is not offered yet")
}

pub(super) fn read_head(_body: &[u8]) -> Result<ModelHead, Failure> {
    Err(not_yet())
}

pub(super) fn parse(_body: &[u8]) -> Result<Conversation, Failure> {
    Err(not_yet())
}

pub(super) fn render(
    _conversation: &Conversation,
    _edits: &Edits<'_>,
) -> Result<Rendered, Failure> {
    Err(not_yet())
}

pub(super) fn patch(raw: &Bytes, _head: &ModelHead, _edits: &Edits<'_>) -> Bytes {
    raw.clone()
}

/// About how many input tokens a request has, where nobody can be asked.
///
/// # Errors
/// A 400 that names the field.
pub fn count_estimate(_body: &[u8]) -> Result<u64, Failure> {
    Err(not_yet())
}
