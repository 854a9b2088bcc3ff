//! What a model thought before it called a tool, for clients that can't send it back.
//!
//! Some vendors sign their models' reasoning and want it back with the tool's result: Anthropic's
//! `signature`, Gemini's `thoughtSignature`. A client of another format has no field for it and
//! drops it, and then the model goes on without its own thoughts, or the vendor refuses. So what
//! was said before a tool call is kept under the call's id and put back in front of it when the
//! same account sends the call to a target of the same format.
//!
//! Invariants: nothing leaves the account that it was said to; nothing is written to disk; what a
//! client sent itself is never replaced. It must not know how a vendor spells it.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use types::Conversation;
use types::conversation::{Message, Part, Role};
use types::outcome::{Delta, OutcomeEvent};

/// How long after a call its reasoning can be put back. A tool that takes longer is rare, and
/// prompts are not to be kept for longer than they are of use.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// Bytes that are kept of all accounts; the oldest and least used go first.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes that are kept of what was said before one call. Longer reasoning is not put back: half of
/// it would be refused.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that an entry costs beside its texts.
const ENTRY_OVERHEAD: usize = 256;

/// Keeps it, for all providers of a process.
#[derive(Clone, Debug)]
pub struct Vault {
    entries: Cache<Key, Arc<Thoughts>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    account: Arc<str>,
    call_id: String,
}

/// What was said before a call.
#[derive(Clone, Debug, Default, PartialEq)]
struct Thoughts {
    /// Before the text that stands in front of the call.
    before_text: Vec<Part>,
    /// Directly before the call.
    before_call: Vec<Part>,
}

impl Default for Vault {
    fn default() -> Self {
        let weigh = |key: &Key, thoughts: &Arc<Thoughts>| {
            let bytes = key.call_id.len() + thoughts.bytes() + ENTRY_OVERHEAD;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let entries = Cache::builder().max_capacity(BYTES_MAX).weigher(weigh).time_to_live(LIFE);
        Self { entries: entries.build() }
    }
}

impl Vault {
    /// The conversation with what its client could not send back to a target of `format`; `None` if
    /// there is nothing to add.
    pub(crate) fn complete(
        &self,
        account: &Arc<str>,
        format: &str,
        conversation: &Conversation,
    ) -> Option<Conversation> {
        let mut found = Vec::new();
        for (at, message) in conversation.messages.iter().enumerate() {
            // A client that sends reasoning of the target's own knows what it does.
            if message.role != Role::Assistant || message.parts.iter().any(|p| is_of(p, format)) {
                continue;
            }
            for (place, id) in calls_of(message) {
                let key = Key { account: Arc::clone(account), call_id: id.to_owned() };
                let kept = self.entries.get(&key).filter(|thoughts| thoughts.are_of(format));
                found.extend(kept.map(|thoughts| (at, place, thoughts)));
            }
        }
        if found.is_empty() {
            return None;
        }
        let mut whole = conversation.clone();
        // From behind, so that the places in front stay true.
        for (at, place, thoughts) in found.into_iter().rev() {
            let Some(message) = whole.messages.get(at) else { continue };
            let texts = message.parts.get(..place).unwrap_or_default().iter().rev();
            let texts = texts.take_while(|part| part.as_text().is_some()).count();
            let (before_call, before_text) = (&thoughts.before_call, &thoughts.before_text);
            whole.insert_parts(at, place, before_call.iter().cloned());
            whole.insert_parts(at, place - texts, before_text.iter().cloned());
        }
        Some(whole)
    }

    /// Watches one answer to `account`.
    pub(crate) fn watch(&self, account: &Arc<str>) -> Watch {
        Watch {
            vault: self.clone(),
            account: Arc::clone(account),
            open: String::new(),
            thoughts: Thoughts::default(),
        }
    }
}

fn is_of(part: &Part, format: &str) -> bool {
    matches!(part, Part::Reasoning { origin: Some(origin), .. } if origin == format)
}

/// The calls of a message: where they stand, and their ids.
fn calls_of(message: &Message) -> impl Iterator<Item = (usize, &str)> {
    let parts = message.parts.iter().enumerate();
    parts.filter_map(|(place, part)| match part {
        Part::ToolCall(call) => Some((place, call.id.as_str())),
        Part::Text { .. }
        | Part::Media { .. }
        | Part::ToolResult { .. }
        | Part::Reasoning { .. }
        | Part::Refusal { .. } => None,
    })
}

impl Thoughts {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.before_text.iter().chain(&self.before_call)
    }

    fn are_of(&self, format: &str) -> bool {
        self.parts().all(|part| is_of(part, format))
    }

    fn bytes(&self) -> usize {
        let bytes = self.parts().map(|part| match part {
            Part::Reasoning { text, signature, .. } => {
                text.len() + signature.as_ref().map_or(0, String::len)
            }
            _ => 0,
        });
        bytes.sum()
    }
}

/// Watches the deltas of an answer for signed reasoning and the calls that follow it.
pub(crate) struct Watch {
    vault: Vault,
    account: Arc<str>,
    /// Reasoning that is not signed yet.
    open: String,
    /// What is signed and waits for a call.
    thoughts: Thoughts,
}

impl Watch {
    /// Looks at one event of the answer.
    pub(crate) fn see(&mut self, event: &OutcomeEvent) {
        let OutcomeEvent::Frame { delta: Some(delta), .. } = event else { return };
        match delta {
            Delta::Reasoning { text } => {
                if self.open.len() <= ENTRY_BYTES_MAX {
                    self.open.push_str(text);
                }
            }
            Delta::ReasoningSignature { signature, redacted, origin } => {
                let text = std::mem::take(&mut self.open);
                self.thoughts.before_call.push(Part::Reasoning {
                    text: if *redacted { String::new() } else { text },
                    signature: Some(signature.clone()),
                    redacted: *redacted,
                    origin: Some(origin.clone()),
                });
            }
            Delta::Text { .. } => {
                self.open.clear();
                let before = std::mem::take(&mut self.thoughts.before_call);
                self.thoughts.before_text.extend(before);
            }
            Delta::ToolCallStart { id, .. } => self.keep(id),
            Delta::Refusal { .. } | Delta::ToolCallArguments { .. } | Delta::ToolResult { .. } => {}
        }
    }

    fn keep(&mut self, call_id: &str) {
        self.open.clear();
        let thoughts = std::mem::take(&mut self.thoughts);
        if thoughts.parts().next().is_none() || thoughts.bytes() > ENTRY_BYTES_MAX {
            return;
        }
        let key = Key { account: Arc::clone(&self.account), call_id: call_id.to_owned() };
        self.vault.entries.insert(key, Arc::new(thoughts));
    }
}

#[cfg(test)]
mod tests;
