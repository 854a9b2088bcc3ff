//! Events of a stream as neutral deltas.
//!
//! Blocks have numbers; Tool Calls get places from 0 without gaps, whatever stands between them.
//! A signature is told when its block ends, because a later one replaces it, and a call's input
//! that came with its beginning counts only if no piece of it follows. Blocks of tools that the
//! provider runs itself are left out: no other format has words for them.

use std::borrow::Cow;
use std::collections::VecDeque;

use ::types::Failure;
use ::types::outcome::{Delta, OutcomeEvent};
use serde::Deserialize;

use crate::anthropic_messages::NAME;
use crate::anthropic_messages::response::blocks::BlockBody;
use crate::anthropic_messages::response::decoded;
use crate::whole::failed;

/// Tool calls in one answer at most.
const CALLS_MAX: u32 = 1_024;

/// Blocks that have begun and not ended at most. Some servers forget to end them.
const OPEN_MAX: usize = 4_096;

#[derive(Deserialize)]
struct BlockStart<'a> {
    index: u64,
    #[serde(borrow)]
    content_block: BlockBody<'a>,
}

#[derive(Deserialize)]
struct BlockDelta<'a> {
    index: u64,
    #[serde(borrow)]
    delta: Piece<'a>,
}

#[derive(Deserialize)]
struct BlockStop {
    index: u64,
}

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    partial_json: Option<String>,
}

/// A block that has begun.
enum Block {
    Text,
    Thinking {
        signature: Option<String>,
    },
    Tool {
        place: u32,
        /// The input that came with its beginning, until a piece replaces it.
        input: Option<String>,
    },
    LeftOut,
}

/// Turns events into deltas.
#[derive(Default)]
pub(super) struct Decoder {
    open: Vec<(u64, Block)>,
    calls: u32,
}

impl Decoder {
    /// The deltas of `content_block_start`.
    pub(super) fn start(
        &mut self,
        data: &[u8],
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        let start: BlockStart<'_> = serde_json::from_slice(data).map_err(|_| unreadable())?;
        if self.open.len() >= OPEN_MAX {
            return Err(failed("the provider's stream has too many open content blocks"));
        }
        let mut body = start.content_block;
        let block = match body.kind.as_ref() {
            "text" => {
                send(full(body.text).map(|text| Delta::Text { text }), events);
                Block::Text
            }
            "thinking" => {
                send(full(body.thinking).map(|text| Delta::Reasoning { text }), events);
                Block::Thinking { signature: full(body.signature) }
            }
            "redacted_thinking" => {
                send(full(body.data).map(|data| signed(data, true)), events);
                Block::LeftOut
            }
            "tool_use" => {
                let Some((id, name)) = body.take_call() else {
                    return Err(failed("the provider's stream has a tool call without id or name"));
                };
                if self.calls >= CALLS_MAX {
                    return Err(failed("the provider's stream has too many tool calls"));
                }
                let place = self.calls;
                self.calls += 1;
                send(Some(Delta::ToolCallStart { index: place, id, name }), events);
                Block::Tool { place, input: body.arguments() }
            }
            _ => Block::LeftOut,
        };
        self.open.push((start.index, block));
        Ok(())
    }

    /// The delta of `content_block_delta`.
    pub(super) fn delta(
        &mut self,
        data: &[u8],
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        let BlockDelta { index, delta } = serde_json::from_slice(data).map_err(|_| unreadable())?;
        let open = self.open.iter_mut().rev().find(|(number, _)| *number == index);
        let Some((_, block)) = open else {
            return Err(failed("the provider's stream goes on with a block that has not begun"));
        };
        match (block, delta.kind.as_ref()) {
            (Block::Text, "text_delta") => {
                send(full(delta.text).map(|text| Delta::Text { text }), events);
            }
            (Block::Thinking { .. }, "thinking_delta") => {
                send(full(delta.thinking).map(|text| Delta::Reasoning { text }), events);
            }
            (Block::Thinking { signature }, "signature_delta") => {
                *signature = full(delta.signature);
            }
            (Block::Tool { place, input }, "input_json_delta") => {
                if let Some(json) = full(delta.partial_json) {
                    *input = None;
                    send(Some(Delta::ToolCallArguments { index: *place, json }), events);
                }
            }
            // Citations, and what may come.
            _ => {}
        }
        Ok(())
    }

    /// The deltas of `content_block_stop`.
    pub(super) fn stop(
        &mut self,
        data: &[u8],
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        let BlockStop { index } = serde_json::from_slice(data).map_err(|_| unreadable())?;
        if let Some(at) = self.open.iter().rposition(|(number, _)| *number == index) {
            let (_, block) = self.open.remove(at);
            send(last_of(block), events);
        }
        Ok(())
    }

    /// The message has ended, and with it whatever is open.
    pub(super) fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        self.open.drain(..).for_each(|(_, block)| send(last_of(block), events));
    }
}

/// What a block says at its end.
fn last_of(block: Block) -> Option<Delta> {
    match block {
        Block::Thinking { signature } => Some(signed(signature?, false)),
        Block::Tool { place, input } => {
            Some(Delta::ToolCallArguments { index: place, json: input? })
        }
        Block::Text | Block::LeftOut => None,
    }
}

fn signed(signature: String, redacted: bool) -> Delta {
    Delta::ReasoningSignature { signature, redacted, origin: NAME.to_owned() }
}

fn full(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn send(delta: Option<Delta>, events: &mut VecDeque<OutcomeEvent>) {
    events.extend(delta.map(decoded));
}

fn unreadable() -> Failure {
    failed("the provider's stream has a content block that can't be read")
}
