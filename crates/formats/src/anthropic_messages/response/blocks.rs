//! The content blocks of an answer, both ways.
//!
//! [`BlockBody`] is a block as it is read. [`Blocks`] makes blocks of neutral deltas: pieces of one
//! kind join, and a call, a signature or another kind begins a new one. It keeps the order in which
//! they began, and at most [`HELD_BYTES_MAX`] bytes.

use std::borrow::Cow;
use std::collections::VecDeque;

use ::types::outcome::Delta;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::anthropic_messages::NAME;
use crate::seal::seal;

/// Bytes of an answer's blocks that are kept at most: as large as an answer in one piece may be.
pub(crate) const HELD_BYTES_MAX: usize = crate::whole::BODY_BYTES_MAX;

/// A content block on the wire. Which fields it has depends on its kind.
#[derive(Deserialize)]
pub(crate) struct BlockBody<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    #[serde(default)]
    pub(crate) text: Option<String>,
    #[serde(default)]
    pub(crate) thinking: Option<String>,
    #[serde(default)]
    pub(crate) signature: Option<String>,
    #[serde(default)]
    pub(crate) data: Option<String>,
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(borrow, default)]
    pub(crate) input: Option<&'a RawValue>,
}

impl BlockBody<'_> {
    /// The id and the name of a tool's call.
    pub(crate) fn take_call(&mut self) -> Option<(String, String)> {
        let full = |text: &String| !text.is_empty();
        Some((self.id.take().filter(full)?, self.name.take().filter(full)?))
    }

    /// A call's input as JSON text; `None` if it says nothing.
    pub(crate) fn arguments(&self) -> Option<String> {
        let input = self.input?.get();
        let inner = input.strip_prefix('{').and_then(|input| input.strip_suffix('}'));
        let empty = input == "null" || inner.is_some_and(|inner| inner.trim_ascii().is_empty());
        (!empty).then(|| input.to_owned())
    }
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Thinking,
    Redacted,
    Tool,
}

/// A block that is to be written.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) kind: Kind,
    /// A call's place among the calls.
    place: u32,
    /// A call's id.
    pub(crate) id: String,
    /// A call's tool.
    pub(crate) name: String,
    /// Its text, or a call's arguments.
    pub(crate) text: String,
    /// What signs it; of a redacted one all there is.
    pub(crate) signature: String,
    /// Nothing more belongs to it.
    pub(crate) ended: bool,
}

impl Block {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            place: 0,
            id: String::new(),
            name: String::new(),
            text: String::new(),
            signature: String::new(),
            ended: false,
        }
    }

    /// Whether a block behind it may begin. Calls come interleaved from some targets, so a call is
    /// whole only when its arguments are.
    pub(crate) fn may_end(&self) -> bool {
        self.ended || self.kind != Kind::Tool || is_object(&self.text)
    }

    /// Whether it is a call whose arguments no client could read. None at all are an empty object.
    pub(crate) fn is_broken(&self) -> bool {
        self.kind == Kind::Tool && !self.text.trim_ascii().is_empty() && !is_object(&self.text)
    }

    const fn bytes(&self) -> usize {
        self.id.len() + self.name.len() + self.text.len() + self.signature.len()
    }
}

/// Whether a text is a whole JSON object.
fn is_object(text: &str) -> bool {
    text.trim_ascii_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// What a delta did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing that this format can say.
    Nothing,
    /// A block began, and has the delta in it.
    Begun,
    /// A block at this place grew by the delta's text.
    Grew(usize),
    /// The last block has ended, with its signature if there is one for this format.
    Ended,
}

/// The blocks of an answer, or those of them that are not yet written.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// Whose signatures can be said.
    origin: &'static str,
    list: VecDeque<Block>,
    held: usize,
    /// Whether any of them, or of those that were, is a call.
    pub(crate) has_calls: bool,
}

impl Default for Blocks {
    fn default() -> Self {
        Self::signed_by(NAME)
    }
}

impl Blocks {
    /// The blocks of a format that can say the signatures of this origin.
    pub(crate) const fn signed_by(origin: &'static str) -> Self {
        Self { origin, list: VecDeque::new(), held: 0, has_calls: false }
    }

    /// Takes a piece of the answer.
    pub(crate) fn take(&mut self, delta: &Delta) -> Change {
        match delta {
            Delta::Text { text } | Delta::Refusal { text } => self.extend(Kind::Text, text),
            Delta::Reasoning { text } => self.extend(Kind::Thinking, text),
            Delta::ReasoningSignature { signature, redacted, origin } => {
                if origin != self.origin && self.origin == NAME {
                    // Another vendor's: a client of this API carries it back to us.
                    return self.sign(&seal(signature, *redacted, origin), *redacted, true);
                }
                self.sign(signature, *redacted, origin == self.origin)
            }
            Delta::ToolCallStart { index, id, name } => {
                self.has_calls = true;
                let (id, name) = (id.clone(), name.clone());
                self.begin(Block { place: *index, id, name, ..Block::new(Kind::Tool) })
            }
            Delta::ToolCallArguments { index, json } => self.arguments(*index, json),
            // Only a Tool Call's outcome has it, and this format is of models.
            Delta::ToolResult { .. } => Change::Nothing,
        }
    }

    /// A block of text is open, whose beginning somebody else wrote.
    pub(crate) fn go_on_with_text(&mut self) {
        self.list.push_back(Block::new(Kind::Text));
    }

    /// Whether it holds more than it may.
    pub(crate) const fn too_large(&self) -> bool {
        self.held > HELD_BYTES_MAX
    }

    /// The first block.
    pub(crate) fn first(&self) -> Option<&Block> {
        self.list.front()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Forgets the first block's text, which nobody needs again.
    pub(crate) fn forget_first_text(&mut self) {
        if let Some(first) = self.list.front_mut() {
            self.held = self.held.saturating_sub(first.text.len());
            first.text.clear();
        }
    }

    /// Takes the first block away.
    pub(crate) fn pop_first(&mut self) -> Option<Block> {
        let first = self.list.pop_front()?;
        self.held = self.held.saturating_sub(first.bytes());
        Some(first)
    }

    fn begin(&mut self, block: Block) -> Change {
        self.held = self.held.saturating_add(block.bytes());
        self.list.push_back(block);
        Change::Begun
    }

    fn extend(&mut self, kind: Kind, text: &str) -> Change {
        if text.is_empty() {
            return Change::Nothing;
        }
        let last = self.list.len().saturating_sub(1);
        match self.list.back_mut() {
            Some(block) if block.kind == kind && !block.ended => {
                block.text.push_str(text);
                self.held = self.held.saturating_add(text.len());
                Change::Grew(last)
            }
            _ => self.begin(Block { text: text.to_owned(), ..Block::new(kind) }),
        }
    }

    fn sign(&mut self, signature: &str, redacted: bool, ours: bool) -> Change {
        if let Some(block) = self.list.back_mut().filter(|_| !redacted)
            && block.kind == Kind::Thinking
            && !block.ended
        {
            block.ended = true;
            if ours {
                block.signature.push_str(signature);
                self.held = self.held.saturating_add(signature.len());
            }
            return Change::Ended;
        }
        if !ours {
            return Change::Nothing;
        }
        let kind = if redacted { Kind::Redacted } else { Kind::Thinking };
        let signature = signature.to_owned();
        self.begin(Block { signature, ended: true, ..Block::new(kind) })
    }

    fn arguments(&mut self, place: u32, json: &str) -> Change {
        let called = |block: &Block| block.kind == Kind::Tool && block.place == place;
        let Some(at) = self.list.iter().rposition(called).filter(|_| !json.is_empty()) else {
            return Change::Nothing;
        };
        if let Some(block) = self.list.get_mut(at) {
            block.text.push_str(json);
            self.held = self.held.saturating_add(json.len());
        }
        Change::Grew(at)
    }
}
