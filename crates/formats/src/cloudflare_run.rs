//! Cloudflare's Workers AI, text generation: `POST …/ai/run/{model}`.
//!
//! What a request can say is in [`mod@request`], an answer in one piece in `response`, a stream in
//! `stream`, errors in [`errors`]. The shapes follow Cloudflare's model schemas and the types of
//! its SDKs. Texts become vectors in [`embeddings`], by the same address and another body.
//!
//! The format is a client's only. Cloudflare as a provider speaks OpenAI's formats below `ai/v1`,
//! so that nothing is ever asked of an upstream in this one.
//!
//! Invariant: a stream is whole only with its `[DONE]`; one that breaks has none.

use std::borrow::Cow;
use std::collections::VecDeque;

use ::types::call::ModelHead;
use ::types::format::{
    Edits, Format, ReadOptions, ReadResponse, Rendered, WriteOptions, WriteResponse,
};
use ::types::ids::CallId;
use ::types::outcome::OutcomeEvent;
use ::types::{Conversation, ErrorCode, Failure};
use bytes::Bytes;

pub mod embeddings;
pub mod errors;
pub mod request;
pub(crate) mod response;
pub(crate) mod stream;

/// The format's name.
pub const NAME: &str = "cloudflare_run";

/// The format's instance for answers that are text.
pub static CLOUDFLARE_RUN: CloudflareRun = CloudflareRun { json: false };

/// The format's instance for answers that a schema gives the shape: in one piece they are JSON, not
/// text that holds it. <https://developers.cloudflare.com/workers-ai/features/json-mode/>
pub static CLOUDFLARE_RUN_JSON: CloudflareRun = CloudflareRun { json: true };

/// Workers AI's text generation as a [`Format`].
#[derive(Clone, Copy, Debug)]
pub struct CloudflareRun {
    json: bool,
}

impl Format for CloudflareRun {
    fn name(&self) -> &'static str {
        NAME
    }

    fn path(&self, _edits: &Edits<'_>) -> Option<Cow<'static, str>> {
        None
    }

    fn read_head(&self, body: &[u8]) -> Result<ModelHead, Failure> {
        request::read_head(None, body)
    }

    fn parse_request(&self, body: &[u8]) -> Result<Conversation, Failure> {
        request::parse(body)
    }

    fn render_request(
        &self,
        _conversation: &Conversation,
        _edits: &Edits<'_>,
    ) -> Result<Rendered, Failure> {
        Err(not_asked())
    }

    fn patch_request(&self, raw: &Bytes, _head: &ModelHead, _edits: &Edits<'_>) -> Bytes {
        raw.clone()
    }

    fn reader(&self, _options: ReadOptions) -> Box<dyn ReadResponse> {
        Box::new(Unread)
    }

    fn writer(&self, options: WriteOptions) -> Box<dyn WriteResponse> {
        if options.stream {
            Box::new(stream::Writer::default())
        } else {
            Box::new(response::Writer::new(self.json))
        }
    }

    fn parse_error(&self, status: u16, body: &[u8]) -> Failure {
        errors::parse(status, body)
    }

    fn render_error(&self, failure: &Failure, call: Option<&CallId>) -> Bytes {
        errors::render(failure, call)
    }
}

fn not_asked() -> Failure {
    Failure::unsupported("model", "no provider is asked in the words of ai/run")
}

/// Reads what nobody asked for: it fails, whatever came.
struct Unread;

impl ReadResponse for Unread {
    fn push(&mut self, _chunk: Bytes, _events: &mut VecDeque<OutcomeEvent>) {}

    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        let failure = Failure::new(ErrorCode::Internal, not_asked().message);
        events.push_back(OutcomeEvent::Failed(Box::new(failure)));
    }
}

#[cfg(test)]
mod tests;
