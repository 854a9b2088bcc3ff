//! What of a stream was passed on to a client, so that another target can go on with it.
//!
//! Read only when an answer broke off. Whatever is not plainly known to be a piece of the one text
//! makes it one that nobody goes on with: a client that has seen an end, a second choice or a field
//! of a kind that we don't write would read the rest wrongly.

use ::types::format::Begun;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::sse;

/// Fields of a delta that neutral deltas have words for.
const KNOWN: [&str; 6] =
    ["role", "content", "refusal", "reasoning_content", "reasoning", "tool_calls"];

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    created: Option<u64>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    delta: Option<Map<String, Value>>,
    #[serde(default)]
    logprobs: Option<Value>,
    #[serde(default)]
    finish_reason: Option<Value>,
}

impl Choice {
    fn is_plain(&self) -> bool {
        let mut fields = self.delta.iter().flatten();
        self.index.unwrap_or_default() == 0
            && self.logprobs.is_none()
            && self.finish_reason.is_none()
            && fields.all(|(name, value)| value.is_null() || KNOWN.contains(&name.as_str()))
    }
}

/// Reads whole events that were passed on; `false` = nobody can go on behind them.
pub(in crate::openai_chat) fn read_begun(events: &[u8], begun: &mut Begun) -> bool {
    sse::events(events).all(|event| {
        begun.carried_ids |= sse::has_id(event);
        let Some(data) = sse::data(event) else { return true };
        let Ok(chunk) = serde_json::from_slice::<Chunk>(&data) else { return false };
        begun.started = true;
        begun.id = chunk.id.or_else(|| begun.id.take());
        begun.model = chunk.model.or_else(|| begun.model.take());
        begun.created = chunk.created.or(begun.created);
        chunk.choices.iter().flatten().all(Choice::is_plain)
    })
}

#[cfg(test)]
mod tests;
