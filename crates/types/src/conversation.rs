//! The neutral conversation: what a model request says, in no vendor's words.
//!
//! Every wire format parses into it and renders from it, so that formats add up (N + M) and never
//! multiply. What a format says that has no place here travels in [`Conversation::rest`], by name,
//! so that a crossing that loses it can report it. Rendering a growing history must be append-only:
//! nothing here is reordered or trimmed by a later turn.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::price::CacheWrites;

/// A model request without its wire format.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// The history, oldest first; system and developer messages stand where the client put them.
    pub messages: Vec<Message>,
    /// Tools that the model may call.
    pub tools: Vec<ToolDefinition>,
    /// Whether and which.
    pub tool_choice: ToolChoice,
    /// Whether several calls in one answer are allowed; `None` = the model's habit.
    pub parallel_tool_calls: Option<bool>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Output cap in tokens, reasoning included.
    pub output_cap: Option<u64>,
    /// What shape the text must have.
    pub output_shape: OutputShape,
    /// How much the model is to think.
    #[serde(default)]
    pub reasoning: ReasoningAsk,
    /// Where the provider's prompt cache is to keep what stands before, each place once. Apart
    /// from what they mark, so that a history is the same whichever places its client marks now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<CacheMark>,
    /// Fields of the source format that have no place above, by their own names.
    pub rest: Map<String, Value>,
}

impl Conversation {
    /// Every part of every message, and those that stand in tools' results.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.messages.iter().flat_map(Message::all_parts)
    }

    /// Puts parts into a message, in front of the part `at`. Marks stay on what they mark.
    pub fn insert_parts(
        &mut self,
        message: usize,
        at: usize,
        parts: impl IntoIterator<Item = Part>,
    ) {
        let Some(into) = self.messages.get_mut(message) else { return };
        let before = into.parts.len();
        let at = at.min(before);
        into.parts.splice(at..at, parts);
        let added = into.parts.len() - before;
        for mark in &mut self.marks {
            if let MarkPlace::Part { message: of, part } = &mut mark.place
                && *of == message
                && *part >= at
            {
                *part += added;
            }
        }
    }

    /// What its marks ask the provider to keep, by the longest time.
    pub fn cache_writes(&self) -> CacheWrites {
        match self.marks.iter().map(|mark| mark.life).max() {
            None => CacheWrites::Unmarked,
            Some(CacheLife::Minutes) => CacheWrites::Minutes,
            Some(CacheLife::Hour) => CacheWrites::Hour,
        }
    }
}

/// A mark for the provider's prompt cache: what stands up to its place is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CacheMark {
    /// Behind what it stands.
    pub place: MarkPlace,
    /// For how long.
    pub life: CacheLife,
}

/// Behind what a mark stands, in the order in which providers read a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkPlace {
    /// A tool, by its number in [`Conversation::tools`].
    Tool(usize),
    /// A part of a message, by their numbers. What stands in a tool's result is marked with it.
    Part {
        /// In [`Conversation::messages`].
        message: usize,
        /// In [`Message::parts`].
        part: usize,
    },
    /// All there is, whatever comes last.
    End,
}

/// For how long a provider is to keep what is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheLife {
    /// As it usually does: five minutes.
    Minutes,
    /// An hour.
    Hour,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator of the application.
    System,
    /// The developer, where a format tells it from the system.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text { text: text.into() }] }
    }

    /// Every part, and those that stand in tools' results.
    pub fn all_parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().flat_map(|part| {
            let inner: &[Part] = match part {
                Part::ToolResult { parts, .. } => parts,
                Part::Text { .. }
                | Part::Media { .. }
                | Part::ToolCall(_)
                | Part::Reasoning { .. }
                | Part::Refusal { .. } => &[],
            };
            std::iter::once(part).chain(inner)
        })
    }

    /// All text parts, joined.
    pub fn joined_text(&self) -> String {
        joined_text(&self.parts)
    }
}

/// All text among these parts, joined: what a target that takes only text is told.
pub fn joined_text(parts: &[Part]) -> String {
    parts.iter().filter_map(Part::as_text).collect()
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// An image, a sound or a document, as its source format wrote it.
    Media {
        /// `image`, `audio` or `file`.
        kind: String,
        /// Its content as a `data:` address, or the `https:` address where it is; `None` if it is
        /// given in another way (a file's id).
        url: Option<String>,
        /// The document's name or title, if it has one.
        #[serde(default)]
        name: Option<String>,
        /// The part in its source format, for a target of the same format.
        source: Value,
    },
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// What the tool answered.
    ToolResult {
        /// The id of the call.
        call_id: String,
        /// The result, in order.
        parts: Vec<Part>,
        /// Whether the tool says that it failed.
        is_error: bool,
    },
    /// The model's reasoning.
    Reasoning {
        /// Its text or summary.
        text: String,
        /// What the vendor needs back to continue it: opaque, and worth something to that vendor
        /// only.
        signature: Option<String>,
        /// The vendor keeps the text to itself: `text` is empty and `signature` is all there is.
        #[serde(default)]
        redacted: bool,
        /// The format of the vendor that signed it, such as `anthropic_messages`; `None` =
        /// unsigned.
        #[serde(default)]
        origin: Option<String>,
    },
    /// The model declines.
    Refusal {
        /// How it says so.
        text: String,
    },
}

impl Part {
    /// A piece of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    /// A tool's result of one text.
    pub fn tool_result(
        call_id: impl Into<String>,
        text: impl Into<String>,
        is_error: bool,
    ) -> Self {
        Self::ToolResult { call_id: call_id.into(), parts: vec![Self::text(text)], is_error }
    }

    /// Reasoning that nobody signed.
    pub fn reasoning(text: impl Into<String>) -> Self {
        Self::Reasoning { text: text.into(), signature: None, redacted: false, origin: None }
    }

    /// Its text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            Self::Media { .. }
            | Self::ToolCall(_)
            | Self::ToolResult { .. }
            | Self::Reasoning { .. }
            | Self::Refusal { .. } => None,
        }
    }
}

/// How much the model is asked to think, and whether it shows that. Nothing set = its habit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasoningAsk {
    /// How hard.
    pub effort: Option<Effort>,
    /// Tokens that it may think at most.
    pub budget_tokens: Option<u64>,
    /// The model decides how much (Anthropic's `adaptive`).
    pub adaptive: bool,
    /// Whether the client wants to read it.
    pub shown: Option<bool>,
}

/// How hard a model is to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// Not at all.
    #[serde(rename = "none")]
    Off,
    /// As little as it can.
    Minimal,
    /// Little.
    Low,
    /// As usual.
    Medium,
    /// Much.
    High,
    /// More than much.
    Xhigh,
    /// As much as it can.
    Max,
}

impl Effort {
    /// Every effort, from none to the most.
    pub const ALL: [Self; 7] =
        [Self::Off, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::Xhigh, Self::Max];

    /// Its name as OpenAI and Anthropic spell it; both call no thinking `none`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The effort of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.name() == name)
    }
}

/// A model's call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id that its result names.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as JSON text, exactly as the model wrote it.
    pub arguments: String,
}

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema of its arguments; `None` = any object.
    pub parameters: Option<Value>,
    /// Whether the arguments must satisfy the schema exactly.
    pub strict: Option<bool>,
}

/// Whether the model may or must call a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Named {
        /// The tool.
        name: String,
    },
}

/// How tokens are drawn. `None` = the model's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 = greedy.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// The most likely tokens only.
    pub top_k: Option<u32>,
    /// Makes drawing repeatable.
    pub seed: Option<i64>,
    /// Penalty on tokens by how often they stand in the text.
    pub frequency_penalty: Option<f64>,
    /// Penalty on tokens that stand in the text.
    pub presence_penalty: Option<f64>,
    /// Texts that end the answer and are not part of it.
    pub stop: Vec<String>,
}

/// What shape the text must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputShape {
    /// Any text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON of this schema.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// JSON Schema.
        schema: Value,
        /// Whether it must be satisfied exactly.
        strict: Option<bool>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(message: usize, part: usize, life: CacheLife) -> CacheMark {
        CacheMark { place: MarkPlace::Part { message, part }, life }
    }

    #[test]
    fn marks_stay_on_what_they_mark_where_parts_come_in() {
        let said = |texts: &[&str]| Message {
            role: Role::Assistant,
            parts: texts.iter().map(|text| Part::text(*text)).collect(),
        };
        let end = CacheMark { place: MarkPlace::End, life: CacheLife::Minutes };
        let short = CacheLife::Minutes;
        let mut whole = Conversation {
            messages: vec![said(&["a", "b"]), said(&["c"])],
            marks: vec![part(0, 0, short), part(0, 1, short), part(1, 0, short), end],
            ..Conversation::default()
        };
        whole.insert_parts(0, 1, [Part::text("x"), Part::text("y")]);
        assert_eq!(whole.messages[0], said(&["a", "x", "y", "b"]));
        assert_eq!(whole.marks, [part(0, 0, short), part(0, 3, short), part(1, 0, short), end]);
        whole.insert_parts(1, 99, [Part::text("z")]);
        assert_eq!(whole.marks[2], part(1, 0, short));
        whole.insert_parts(7, 0, [Part::text("nowhere")]);
        assert_eq!(whole.messages.len(), 2);
    }

    #[test]
    fn the_longest_mark_says_what_is_written() {
        let with = |lives: &[CacheLife]| {
            let marks = lives.iter().enumerate().map(|(at, life)| part(0, at, *life)).collect();
            Conversation { marks, ..Conversation::default() }.cache_writes()
        };
        assert_eq!(with(&[]), CacheWrites::Unmarked);
        assert_eq!(with(&[CacheLife::Minutes]), CacheWrites::Minutes);
        assert_eq!(with(&[CacheLife::Hour, CacheLife::Minutes]), CacheWrites::Hour);
    }
}
