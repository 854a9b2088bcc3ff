//! Events of a stream as neutral deltas.
//!
//! Blocks have numbers; Tool Calls get places from 0 without gaps, whatever stands between them.
//! Only a call's block says that it begins: a block of text or reasoning begins with its first
//! piece. A signature is told when its block ends, because it may come in pieces.

use std::collections::VecDeque;

use ::types::Failure;
use ::types::outcome::{Delta, OutcomeEvent};
use data_encoding::BASE64;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{read, unreadable};
use crate::anthropic_messages::response::decoded;
use crate::bedrock_converse::response::{full, no_text, signed};
use crate::whole::failed;

/// Tool calls in one answer at most.
const CALLS_MAX: u32 = 1_024;
/// Blocks that have begun and not ended at most.
const OPEN_MAX: usize = 4_096;
/// Bytes of a signature at most.
const SIGNATURE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart {
    content_block_index: u64,
    start: Begun,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begun {
    #[serde(default)]
    tool_use: Option<ToolUse>,
    #[serde(default)]
    image: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse {
    #[serde(default)]
    tool_use_id: String,
    #[serde(default)]
    name: String,
    /// A tool that the provider runs itself.
    #[serde(default, rename = "type")]
    kind: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta {
    content_block_index: u64,
    delta: Piece,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    tool_use: Option<Input>,
    #[serde(default)]
    reasoning_content: Option<ReasoningPiece>,
    #[serde(default)]
    image: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    input: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningPiece {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStop {
    content_block_index: u64,
}

/// A block that has begun and says more than its pieces did.
enum Block {
    Tool { place: u32 },
    Reasoning { signature: String, redacted: Vec<u8> },
    LeftOut,
}

/// Turns events into deltas.
#[derive(Default)]
pub(super) struct Blocks {
    open: Vec<(u64, Block)>,
    calls: u32,
}

impl Blocks {
    /// The deltas of `contentBlockStart`.
    pub(super) fn start(
        &mut self,
        payload: &[u8],
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        let BlockStart { content_block_index, start } = read(payload)?;
        if start.image.is_some() {
            return Err(no_text());
        }
        let block = match start.tool_use {
            Some(call) if call.kind.is_none() => {
                if call.tool_use_id.is_empty() || call.name.is_empty() {
                    return Err(failed("the provider's stream has a tool call without id or name"));
                }
                if self.calls >= CALLS_MAX {
                    return Err(failed("the provider's stream has too many tool calls"));
                }
                let place = self.calls;
                self.calls += 1;
                let (id, name) = (call.tool_use_id, call.name);
                send(Some(Delta::ToolCallStart { index: place, id, name }), events);
                Block::Tool { place }
            }
            // Tools that the provider runs itself: no other format has words for them.
            _ => Block::LeftOut,
        };
        self.open(content_block_index, block)
    }

    /// The deltas of `contentBlockDelta`.
    pub(super) fn delta(
        &mut self,
        payload: &[u8],
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        let BlockDelta { content_block_index: index, delta } = read(payload)?;
        if delta.image.is_some() {
            return Err(no_text());
        }
        send(full(delta.text).map(|text| Delta::Text { text }), events);
        if let Some(piece) = delta.reasoning_content {
            self.reasoning(index, piece, events)?;
        }
        let Some(json) = full(delta.tool_use.and_then(|call| call.input)) else { return Ok(()) };
        match self.find(index) {
            Some(Block::Tool { place }) => {
                send(Some(Delta::ToolCallArguments { index: *place, json }), events);
                Ok(())
            }
            Some(Block::LeftOut) => Ok(()),
            Some(Block::Reasoning { .. }) | None => {
                Err(failed("the provider's stream goes on with a call that has not begun"))
            }
        }
    }

    /// The deltas of `contentBlockStop`.
    pub(super) fn stop(
        &mut self,
        payload: &[u8],
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        let BlockStop { content_block_index } = read(payload)?;
        if let Some(at) = self.open.iter().rposition(|(number, _)| *number == content_block_index) {
            let (_, block) = self.open.remove(at);
            last_of(block, events);
        }
        Ok(())
    }

    /// The message has ended, and with it whatever is open.
    pub(super) fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        self.open.drain(..).for_each(|(_, block)| last_of(block, events));
    }

    fn open(&mut self, index: u64, block: Block) -> Result<(), Failure> {
        if self.open.len() >= OPEN_MAX {
            return Err(failed("the provider's stream has too many open content blocks"));
        }
        self.open.push((index, block));
        Ok(())
    }

    fn find(&mut self, index: u64) -> Option<&mut Block> {
        self.open.iter_mut().rev().find(|(number, _)| *number == index).map(|(_, block)| block)
    }

    fn reasoning(
        &mut self,
        index: u64,
        piece: ReasoningPiece,
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        send(full(piece.text).map(|text| Delta::Reasoning { text }), events);
        let (sign, hidden) = (full(piece.signature), full(piece.redacted_content));
        if sign.is_none() && hidden.is_none() {
            return Ok(());
        }
        if self.find(index).is_none() {
            let (signature, redacted) = (String::new(), Vec::new());
            self.open(index, Block::Reasoning { signature, redacted })?;
        }
        let Some(Block::Reasoning { signature, redacted }) = self.find(index) else {
            return Err(unreadable());
        };
        signature.push_str(&sign.unwrap_or_default());
        // Each piece is encoded by itself.
        let hidden = BASE64.decode(hidden.unwrap_or_default().as_bytes());
        redacted.extend_from_slice(&hidden.map_err(|_| unreadable())?);
        if signature.len().max(redacted.len()) > SIGNATURE_BYTES_MAX {
            return Err(failed("the provider's stream has a signature that is too large"));
        }
        Ok(())
    }
}

/// What a block says at its end.
fn last_of(block: Block, events: &mut VecDeque<OutcomeEvent>) {
    let Block::Reasoning { signature, redacted } = block else { return };
    send(full(Some(signature)).map(|signature| signed(signature, false)), events);
    send(full(Some(BASE64.encode(&redacted))).map(|data| signed(data, true)), events);
}

fn send(delta: Option<Delta>, events: &mut VecDeque<OutcomeEvent>) {
    events.extend(delta.map(decoded));
}
