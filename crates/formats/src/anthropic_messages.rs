//! Anthropic's Messages API: `POST /v1/messages` and `/v1/messages/count_tokens`.
//!
//! What a request can say is in [`mod@request`], an answer in one piece in `response`, a stream in
//! `stream`, errors in [`errors`]. The shapes follow Anthropic's API reference and the types of its
//! SDKs.
//!
//! Invariant: a stream is whole only with its `message_stop`; one that ends before is a failure.

use std::borrow::Cow;

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
pub(crate) mod stream;
pub(crate) mod types;

/// The format's name, and the origin of the reasoning that its providers sign.
pub const NAME: &str = "anthropic_messages";

/// The format's one instance.
pub static ANTHROPIC_MESSAGES: AnthropicMessages = AnthropicMessages;

/// Anthropic's Messages API as a [`Format`].
#[derive(Clone, Copy, Debug)]
pub struct AnthropicMessages;

impl Format for AnthropicMessages {
    fn name(&self) -> &'static str {
        NAME
    }

    fn path(&self, edits: &Edits<'_>) -> Option<Cow<'static, str>> {
        match edits.operation {
            Operation::Chat => Some(Cow::Borrowed("/messages")),
            Operation::CountTokens => Some(Cow::Borrowed("/messages/count_tokens")),
            Operation::Embed => None,
        }
    }

    fn wire_headers(&self) -> &'static [&'static str] {
        &["anthropic-version", "anthropic-beta"]
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

    fn read_begun(&self, events: &[u8], begun: &mut Begun) -> bool {
        stream::read_begun(events, begun)
    }

    fn writer(&self, options: WriteOptions) -> Box<dyn WriteResponse> {
        if options.stream {
            Box::new(stream::Writer::new(&options))
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

    fn error_status(&self, failure: &Failure) -> u16 {
        errors::status(failure)
    }
}
