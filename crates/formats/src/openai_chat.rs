//! OpenAI's chat completions (`/v1/chat/completions`), which most servers speak.
//!
//! [`request`] reads and renders requests and edits them byte-exactly, [`response`] reads and
//! writes whole answers, [`stream`] does so piece by piece, [`errors`] both ways too; [`types`] has
//! the shapes of the wire.
//!
//! Invariant: where bytes can pass through they do. A passed-through stream loses only the usage
//! chunk that we asked for ourselves; a stream counts as whole only if some chunk gave a finish
//! reason. Must not know which vendor speaks.

pub mod errors;
pub mod request;
pub mod response;
pub mod stream;
pub mod types;

use std::borrow::Cow;

use ::types::call::{ModelHead, Operation};
use ::types::format::{
    Begun, Edits, Format, ReadOptions, ReadResponse, Rendered, WriteOptions, WriteResponse,
};
use ::types::ids::CallId;
use ::types::{Conversation, Failure};
use bytes::Bytes;

use crate::whole;

use crate::embeddings;

/// The format's one instance.
pub static OPENAI_CHAT: OpenaiChat = OpenaiChat;

/// OpenAI's chat completions as a [`Format`].
#[derive(Clone, Copy, Debug)]
pub struct OpenaiChat;

impl Format for OpenaiChat {
    fn name(&self) -> &'static str {
        "openai_chat"
    }

    fn path(&self, edits: &Edits<'_>) -> Option<Cow<'static, str>> {
        match edits.operation {
            Operation::Chat => {
                let own =
                    request::quirks::prefix_path(edits).map(|path| Cow::Owned(path.to_owned()));
                Some(own.unwrap_or(Cow::Borrowed("/chat/completions")))
            }
            Operation::Embed => Some(Cow::Borrowed("/embeddings")),
            Operation::CountTokens => None,
        }
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
        if options.operation == Operation::Embed {
            Box::new(embeddings::reader(options))
        } else if options.stream {
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

    fn tells_cache_life(&self) -> bool {
        false
    }

    fn parse_error(&self, status: u16, body: &[u8]) -> Failure {
        errors::parse(status, body)
    }

    fn render_error(&self, failure: &Failure, call: Option<&CallId>) -> Bytes {
        errors::render(failure, call)
    }
}
