//! Errors of the Messages API, both ways.

use ::types::Failure;
use ::types::ids::CallId;
use bytes::Bytes;

/// The error of an upstream that answered with this status and body.
pub fn parse(status: u16, body: &[u8]) -> Failure {
    crate::openai_chat::errors::parse(status, body)
}

/// An error body.
pub fn render(failure: &Failure, call: Option<&CallId>) -> Bytes {
    crate::openai_chat::errors::render(failure, call)
}

/// The HTTP status of an error.
pub fn status(failure: &Failure) -> u16 {
    failure.status()
}
