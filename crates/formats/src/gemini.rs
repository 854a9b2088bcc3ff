//! Google's Gemini API: `generateContent`, `streamGenerateContent` and `countTokens`.
//!
//! What a request can say is in [`mod@request`], an answer in one piece in `response`, a stream in
//! `stream`, errors in [`errors`]. The shapes follow Google's API reference and the types of its
//! SDKs. The model and whether the answer is streamed stand in the path: whoever takes a request in
//! fills them into its head, and nothing of them is in the body.
//!
//! Invariant: a stream is whole only with a `finishReason`, or with the reason why the prompt was
//! blocked; there is no last event. One that closes before is a failure.

use std::borrow::Cow;
use std::fmt::Write;

use ::types::call::{ModelHead, Operation};
use ::types::format::{
    Begun, Edits, Format, ReadOptions, ReadResponse, Rendered, WriteOptions, WriteResponse,
};
use ::types::ids::CallId;
use ::types::{Conversation, Failure};
use bytes::Bytes;

use crate::whole;

pub mod errors;
pub mod request;
pub(crate) mod response;
pub(crate) mod signature;
pub(crate) mod stream;
pub(crate) mod types;

/// The format's name, and the origin of the reasoning that its providers sign.
pub const NAME: &str = "gemini";

/// The format's one instance.
pub static GEMINI: Gemini = Gemini;

/// Google's Gemini API as a [`Format`].
#[derive(Clone, Copy, Debug)]
pub struct Gemini;

impl Format for Gemini {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Google's Python SDK takes one for a chunk, and raises.
    fn takes_comments(&self) -> bool {
        false
    }

    fn path(&self, edits: &Edits<'_>) -> Option<Cow<'static, str>> {
        let method = match (edits.operation, edits.stream) {
            (Operation::Chat, false) => ":generateContent",
            // Without it the stream would be one JSON list.
            (Operation::Chat, true) => ":streamGenerateContent?alt=sse",
            (Operation::CountTokens, _) => ":countTokens",
            (Operation::Embed, _) => return None,
        };
        Some(Cow::Owned(format!("/{}{method}", resource(edits.model))))
    }

    fn read_head(&self, body: &[u8]) -> Result<ModelHead, Failure> {
        request::read_head(body)
    }

    fn parse_request(&self, body: &[u8]) -> Result<Conversation, Failure> {
        request::parse(body)
    }

    fn render_request(
        &self,
        conversation: &Conversation,
        edits: &Edits<'_>,
    ) -> Result<Rendered, Failure> {
        request::render(conversation, edits)
    }

    fn patch_request(&self, raw: &Bytes, head: &ModelHead, edits: &Edits<'_>) -> Bytes {
        request::patch(raw, head, edits)
    }

    fn reader(&self, options: ReadOptions) -> Box<dyn ReadResponse> {
        if options.stream {
            Box::new(stream::Reader::new(options))
        } else {
            Box::new(whole::Reader::new(options, response::read_body))
        }
    }

    fn read_begun(&self, events: &[u8], begun: &mut Begun) -> bool {
        stream::read_begun(events, begun)
    }

    fn writer(&self, options: WriteOptions) -> Box<dyn WriteResponse> {
        if options.stream {
            Box::new(stream::Writer::new(options))
        } else {
            Box::new(response::Writer::new(options))
        }
    }

    fn parse_error(&self, status: u16, body: &[u8]) -> Failure {
        errors::parse(status, body)
    }

    fn render_error(&self, failure: &Failure, call: Option<&CallId>) -> Bytes {
        errors::render(failure, call)
    }
}

/// A model's name as a path: `models/…`, or `tunedModels/…` where it says so itself.
fn resource(model: &str) -> String {
    let known = ["models/", "tunedModels/"].iter().any(|kind| model.starts_with(kind));
    let mut path = if known { String::new() } else { "models/".to_owned() };
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing into a string can't fail.
            let _ok = write!(path, "%{byte:02X}");
        }
    }
    path
}

#[cfg(test)]
mod tests;
