//! OpenAI's Responses API (`/v1/responses`), as Open Responses specifies it.
//!
//! Read [`types`] first: what a create request says ([`CreateResponse`]) and what a response is
//! ([`ResponseSkeleton`]). [`request`] reads the body, [`response`] turns items into neutral
//! messages and renders the response object, [`stream`] turns neutral deltas into the exact events
//! that SDKs insist on.
//!
//! Invariant: whoever drives [`EventWriter`] decides when; what the events look like, how they are
//! numbered and in which order they come is decided here alone. State (stored responses, sessions,
//! tools) is the caller's: this module never resolves an id. As the format of an upstream it is not
//! offered: such a target is refused with a typed failure.

pub mod errors;
pub mod request;
pub mod response;
pub mod stream;
mod tool_error;
pub mod types;

use std::borrow::Cow;
use std::collections::VecDeque;

use ::types::call::{ModelHead, Operation};
use ::types::format::{
    Edits, Format, ReadOptions, ReadResponse, Rendered, WriteOptions, WriteResponse,
};
use ::types::ids::CallId;
use ::types::outcome::OutcomeEvent;
use ::types::{Conversation, Failure};
use bytes::Bytes;

pub use request::{parse_create, read_item};
pub use response::{ResponseSkeleton, ResponseState, items_to_messages};
pub use stream::{
    EventWriter, NewId, PendingMcpCall, event_frame, ids_of, keepalive_event, signature_of,
};
pub use tool_error::McpError;
pub use types::{CreateResponse, FunctionTool, InputItem, ItemKind, McpTool, McpToolFilter, Tool};

/// The format's one instance.
pub static OPENAI_RESPONSES: OpenaiResponses = OpenaiResponses;

/// OpenAI's Responses API as a [`Format`].
#[derive(Clone, Copy, Debug)]
pub struct OpenaiResponses;

impl Format for OpenaiResponses {
    fn name(&self) -> &'static str {
        "openai_responses"
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
        _conversation: &Conversation,
        _edits: &Edits<'_>,
    ) -> Result<Rendered, Failure> {
        Err(errors::no_upstream())
    }

    fn patch_request(&self, raw: &Bytes, _head: &ModelHead, _edits: &Edits<'_>) -> Bytes {
        raw.clone()
    }

    fn reader(&self, _options: ReadOptions) -> Box<dyn ReadResponse> {
        Box::new(Refusing { told: false })
    }

    fn writer(&self, options: WriteOptions) -> Box<dyn WriteResponse> {
        Box::new(stream::Writer::new(options))
    }

    fn parse_error(&self, status: u16, body: &[u8]) -> Failure {
        crate::openai_chat::errors::parse(status, body)
    }

    fn render_error(&self, failure: &Failure, call: Option<&CallId>) -> Bytes {
        errors::render(failure, call)
    }
}

/// Says that no upstream of this format is offered, once.
struct Refusing {
    told: bool,
}

impl ReadResponse for Refusing {
    fn push(&mut self, _chunk: Bytes, events: &mut VecDeque<OutcomeEvent>) {
        self.end(events);
    }

    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        if !std::mem::replace(&mut self.told, true) {
            events.push_back(OutcomeEvent::Failed(Box::new(errors::no_upstream())));
        }
    }
}
