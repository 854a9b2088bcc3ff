//! OpenAI's Responses API (`/v1/responses`), as Open Responses specifies it.
//!
//! Read [`types`] first: what a create request says ([`CreateResponse`]) and what a response is
//! ([`ResponseSkeleton`]). [`request`] reads the body, [`response`] turns items into neutral
//! messages and renders the response object, [`stream`] turns neutral deltas into the exact events
//! that SDKs insist on.
//!
//! Invariant: whoever drives [`EventWriter`] decides when; what the events look like, how they are
//! numbered and in which order they come is decided here alone. State (stored responses, sessions,
//! tools) is the caller's: this module never resolves an id. `upstream` is the other side: what a
//! provider that speaks this API is asked, and what it answers.

mod client_tools;
pub mod errors;
pub mod request;
pub mod response;
pub mod stream;
mod tool_error;
pub mod types;
mod upstream;

use std::borrow::Cow;

use ::types::call::{ModelHead, Operation};
use ::types::format::{
    Edits, Format, ReadOptions, ReadResponse, Rendered, WriteContext, WriteOptions, WriteResponse,
};
use ::types::ids::CallId;
use ::types::{Conversation, Failure};
use bytes::Bytes;

use crate::whole;

pub use client_tools::called_name;
pub use request::{parse_create, plain_head, read_item};
pub use response::{ResponseSkeleton, ResponseState, items_to_messages};
pub use stream::{
    EventWriter, NewId, PendingMcpCall, event_frame, ids_of, keepalive_event, signature_of,
};
pub use tool_error::McpError;
pub use types::{CreateResponse, FunctionTool, InputItem, ItemKind, McpTool, McpToolFilter, Tool};

/// The format's name, and the origin of the reasoning that its providers sign.
pub(crate) const NAME: &str = "openai_responses";

/// The format's one instance.
pub static OPENAI_RESPONSES: OpenaiResponses = OpenaiResponses;

/// OpenAI's Responses API as a [`Format`].
#[derive(Clone, Copy, Debug)]
pub struct OpenaiResponses;

impl Format for OpenaiResponses {
    fn name(&self) -> &'static str {
        NAME
    }

    fn path(&self, edits: &Edits<'_>) -> Option<Cow<'static, str>> {
        match edits.operation {
            Operation::Chat => Some(Cow::Borrowed("/responses")),
            Operation::CountTokens | Operation::Embed => None,
        }
    }

    fn read_head(&self, body: &[u8]) -> Result<ModelHead, Failure> {
        request::read_head(body)
    }

    fn parse_request(&self, body: &[u8]) -> Result<Conversation, Failure> {
        request::conversation(body)
    }

    fn render_request(
        &self,
        conversation: &Conversation,
        edits: &Edits<'_>,
    ) -> Result<Rendered, Failure> {
        upstream::render::render(conversation, edits)
    }

    fn patch_request(&self, raw: &Bytes, head: &ModelHead, edits: &Edits<'_>) -> Bytes {
        upstream::patch(raw, head, edits)
    }

    fn reader(&self, options: ReadOptions) -> Box<dyn ReadResponse> {
        if options.stream {
            Box::new(upstream::stream::Reader::new(options))
        } else {
            Box::new(whole::Reader::new(options, upstream::body::read))
        }
    }

    fn writer(&self, options: WriteOptions) -> Box<dyn WriteResponse> {
        Box::new(stream::Writer::new(options))
    }

    fn writer_of(
        &self,
        options: WriteOptions,
        context: &WriteContext<'_>,
    ) -> Box<dyn WriteResponse> {
        Box::new(stream::Writer::of(options, context))
    }

    fn tells_cache_life(&self) -> bool {
        false
    }

    fn parse_error(&self, status: u16, body: &[u8]) -> Failure {
        crate::openai_chat::errors::parse(status, body)
    }

    fn render_error(&self, failure: &Failure, call: Option<&CallId>) -> Bytes {
        errors::render(failure, call)
    }
}
