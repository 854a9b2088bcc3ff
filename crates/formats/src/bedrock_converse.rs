//! Amazon Bedrock's Converse API: `POST /model/{id}/converse` and `/converse-stream`.
//!
//! What a request can say is in [`mod@request`], an answer in one piece in `response`, a stream in
//! `stream`, errors in [`errors`]. The shapes follow the service model of AWS's SDKs. The model and
//! whether the answer is streamed stand in the path, and nothing of them is in the body.
//!
//! Invariant: a stream is whole only with its `messageStop`; the usage follows it, in `metadata`. A
//! stream that ends before, or within a frame, is a failure.

use std::borrow::Cow;

use ::types::call::{ModelHead, Operation};
use ::types::format::{
    Edits, Format, ReadOptions, ReadResponse, Rendered, WriteOptions, WriteResponse,
};
use ::types::ids::CallId;
use ::types::{Conversation, Failure};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::whole;

pub mod errors;
mod media;
pub mod request;
pub(crate) mod response;
pub(crate) mod stream;
pub(crate) mod types;

/// The format's name, and the origin of the reasoning that its models sign. Claude's signatures on
/// Bedrock are not Anthropic's: neither takes the other's.
pub const NAME: &str = "bedrock_converse";

/// What stands in a path as it is: RFC 3986's unreserved characters, as AWS's SDKs have it. The
/// signature is over this spelling.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The format's one instance.
pub static BEDROCK_CONVERSE: BedrockConverse = BedrockConverse;

/// Amazon Bedrock's Converse API as a [`Format`].
#[derive(Clone, Copy, Debug)]
pub struct BedrockConverse;

impl Format for BedrockConverse {
    fn name(&self) -> &'static str {
        NAME
    }

    fn path(&self, edits: &Edits<'_>) -> Option<Cow<'static, str>> {
        let method = match (edits.operation, edits.stream) {
            (Operation::Chat, false) => "converse",
            (Operation::Chat, true) => "converse-stream",
            (Operation::CountTokens | Operation::Embed, _) => return None,
        };
        Some(Cow::Owned(format!("/model/{}/{method}", utf8_percent_encode(edits.model, PLAIN))))
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
            Box::new(whole::Reader::new(options, response::read))
        }
    }

    fn writer(&self, options: WriteOptions) -> Box<dyn WriteResponse> {
        if options.stream {
            Box::new(stream::Writer::new())
        } else {
            Box::new(response::Writer::new())
        }
    }

    fn stream_type(&self) -> &'static str {
        "application/vnd.amazon.eventstream"
    }

    fn parse_error(&self, status: u16, body: &[u8]) -> Failure {
        errors::parse(status, "", body)
    }

    fn error_header(&self) -> Option<&'static str> {
        Some("x-amzn-errortype")
    }

    fn parse_named_error(&self, status: u16, name: &str, body: &[u8]) -> Failure {
        errors::parse(status, name, body)
    }

    fn render_error(&self, failure: &Failure, _call: Option<&CallId>) -> Bytes {
        errors::render(failure)
    }

    fn error_status(&self, failure: &Failure) -> u16 {
        errors::status(failure)
    }
}
