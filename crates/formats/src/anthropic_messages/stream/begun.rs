//! What of a stream was passed on to a client, so that another target can go on with it.
//!
//! Read only when an answer broke off. What goes on is the block of text that is open, or one
//! behind the last that ended. A client that has seen why the model stopped, a block of another
//! kind or a citation would read the rest wrongly: nobody goes on there.

use std::borrow::Cow;

use ::types::format::Begun;
use serde::Deserialize;
use serde_json::Value;

use super::{Kind, MessageDelta};
use crate::sse;
use crate::sse::reading::Fields;

#[derive(Deserialize)]
struct Block<'a> {
    index: u32,
    #[serde(borrow, default)]
    content_block: Option<Typed<'a>>,
    #[serde(borrow, default)]
    delta: Option<Typed<'a>>,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    citations: Option<Value>,
}

/// Reads whole events that were passed on; `false` = nobody can go on behind them.
pub(crate) fn read_begun(events: &[u8], begun: &mut Begun) -> bool {
    sse::events(events).all(|event| read(event, begun).unwrap_or(false))
}

/// Reads one event; `None` if it can't be read.
fn read(event: &[u8], begun: &mut Begun) -> Option<bool> {
    let fields = Fields::of(event);
    begun.carried_ids |= fields.has_id;
    let data = fields.data.as_deref().unwrap_or_default();
    Some(match Kind::of(&fields)? {
        Kind::MessageStart => {
            begun.started = true;
            true
        }
        Kind::Other => true,
        Kind::BlockStart => {
            let block: Block<'_> = serde_json::from_slice(data).ok()?;
            let started = block.content_block?;
            begun.block = block.index;
            begun.is_open = started.kind == "text";
            started.citations.is_none_or(|cited| cited.is_null())
                && matches!(&*started.kind, "text" | "thinking" | "redacted_thinking")
        }
        Kind::BlockDelta => {
            let block: Block<'_> = serde_json::from_slice(data).ok()?;
            let known = ["text_delta", "thinking_delta", "signature_delta"];
            block.index == begun.block && known.contains(&&*block.delta?.kind)
        }
        Kind::BlockStop => {
            let block: Block<'_> = serde_json::from_slice(data).ok()?;
            begun.is_open = false;
            let is_last = block.index == begun.block;
            begun.block = block.index.saturating_add(1);
            is_last
        }
        Kind::MessageDelta => {
            let said: MessageDelta<'_> = serde_json::from_slice(data).ok()?;
            said.delta.stop_reason.is_none()
        }
        Kind::MessageStop | Kind::Error => false,
    })
}

#[cfg(test)]
mod tests;
