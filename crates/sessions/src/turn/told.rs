//! The conversation of a turn as its models are told it.
//!
//! A history may be large, so it is held once: the items before the turn are said when it begins
//! and dropped, what the turn's own steps add is appended, and a model step shares what is there.
//! Its length is counted as it grows, so that no step writes it out only to measure it.
//!
//! Invariant: the messages are those that all the items, read at once, would give. It must not
//! know the journal, the stream or what a step costs.

use std::io;
use std::sync::Arc;

use formats::openai_responses::{
    CreateResponse, InputItem, OPENAI_RESPONSES, items_to_messages, read_item,
};
use serde::Serialize;
use serde_json::Value;
use types::call::{ModelCall, ModelHead};
use types::conversation::{Conversation, Message, Part, Role, ToolChoice};
use types::{ErrorCode, Failure};

use super::Offer;

/// A conversation that grows.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Copied before it grows only if somebody still reads what a step before was told.
    conversation: Arc<Conversation>,
    /// Items of the turn's own output that are in it.
    own_items: usize,
    /// Bytes of its messages as JSON, with what stands between them.
    messages_bytes: u64,
    /// Bytes of all that is not messages.
    frame_bytes: u64,
    media: u32,
}

impl Told {
    /// What `request` says after the items before it and its own input.
    ///
    /// # Errors
    /// A 400 that names the item that can't be said.
    pub(crate) fn new(
        request: &CreateResponse,
        items: &[InputItem],
        offer: &Offer,
    ) -> Result<Self, Failure> {
        let mut conversation = request.conversation(items_to_messages(items)?);
        conversation.tools.extend(offer.definitions.iter().cloned());
        let messages = std::mem::take(&mut conversation.messages);
        let frame_bytes = written(&conversation)?;
        let media = media_of(&messages);
        let messages_bytes = bytes_of_all(&messages)?;
        conversation.messages = messages;
        let conversation = Arc::new(conversation);
        Ok(Self { conversation, own_items: 0, messages_bytes, frame_bytes, media })
    }

    /// Appends the items of the turn's output that are not in it yet. Those that are never change.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn add(&mut self, output: &[(u64, Value)]) -> Result<(), Failure> {
        let new = output.get(self.own_items..).unwrap_or_default();
        let items = new.iter().map(|(_, item)| read_item(item.clone(), "output"));
        let items = items.collect::<Result<Vec<InputItem>, Failure>>()?;
        let mut messages = items_to_messages(&items)?;
        self.own_items = output.len();
        if messages.is_empty() {
            return Ok(());
        }
        self.media = self.media.saturating_add(media_of(&messages));
        let conversation = Arc::make_mut(&mut self.conversation);
        // What a model says right after an answer is a part of that answer.
        if let Some(last) = conversation.messages.last_mut()
            && (last.role, messages[0].role) == (Role::Assistant, Role::Assistant)
        {
            self.messages_bytes = self.messages_bytes.saturating_sub(written(last)? + 1);
            last.parts.append(&mut messages.remove(0).parts);
            self.messages_bytes += written(last)? + 1;
        }
        self.messages_bytes += bytes_of_all(&messages)?;
        conversation.messages.append(&mut messages);
        Ok(())
    }

    /// A tool that must be called is called once: after its result the model is free to answer.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn free_choice(&mut self) -> Result<(), Failure> {
        match self.conversation.tool_choice {
            ToolChoice::Auto | ToolChoice::None => return Ok(()),
            ToolChoice::Required | ToolChoice::Named { .. } => {}
        }
        let conversation = Arc::make_mut(&mut self.conversation);
        let before = written(&conversation.tool_choice)?;
        conversation.tool_choice = ToolChoice::Auto;
        self.frame_bytes = self.frame_bytes.saturating_sub(before) + written(&ToolChoice::Auto)?;
        Ok(())
    }

    /// What a model is asked now.
    pub(crate) fn model_call(&self, request: &CreateResponse) -> ModelCall {
        let head = ModelHead {
            model: request.model.clone(),
            stream: true,
            output_cap: request.max_output_tokens,
            choices: 1,
            include_usage: true,
            body_bytes: self.bytes(),
            media: self.media,
            ..ModelHead::default()
        };
        ModelCall::from_neutral(&OPENAI_RESPONSES, head, Arc::clone(&self.conversation))
    }

    /// As [`bytes_of`] counts it. Between messages stands a comma, and behind the last one none.
    fn bytes(&self) -> u64 {
        self.frame_bytes + self.messages_bytes.saturating_sub(1)
    }
}

/// Bytes of these messages, with what separates each from the next.
fn bytes_of_all(messages: &[Message]) -> Result<u64, Failure> {
    messages.iter().try_fold(0, |bytes, message| Ok(bytes + written(message)? + 1))
}

/// An upper bound on the tokens of a conversation.
pub(crate) fn bytes_of(conversation: &Conversation) -> Result<u64, Failure> {
    written(conversation)
}

/// Pictures, sounds and files in a conversation.
pub(crate) fn media_in(conversation: &Conversation) -> u32 {
    media_of(&conversation.messages)
}

fn media_of(messages: &[Message]) -> u32 {
    let parts = messages.iter().flat_map(Message::all_parts);
    let media = parts.filter(|part| matches!(part, Part::Media { .. })).count();
    u32::try_from(media).unwrap_or(u32::MAX)
}

/// How long something is as JSON; nothing of it is kept.
pub(super) fn written(value: &impl Serialize) -> Result<u64, Failure> {
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value)
        .map_err(|_| Failure::new(ErrorCode::Internal, "a conversation can't be written"))?;
    Ok(count.0)
}

#[cfg(test)]
mod tests;
