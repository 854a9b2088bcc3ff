//! What the classifier sees of a conversation.
//!
//! Of the last thing that the user says: its words and pieces of words, as numbers of buckets, and
//! measures of its shape. Of the rest: how many tools, results and failures there are. What is
//! quoted or fenced is left out, since a long paste with a trivial question is easy; how long a
//! text is counts for nothing by itself, since short riddles are hard. Of each text only the head
//! and the tail are read. The trainer uses this very code, so that what is learned is what is
//! asked; a change here needs a training (`docs/auto.md`).

mod text;

use types::conversation::{Conversation, Effort, Message, OutputShape, Part, Role};

use text::{Measures, Tokens};

/// Buckets that words are counted in.
pub const BUCKETS: usize = 1 << 14;
/// Messages at the end of the history in which failures are looked for.
const FAILURES_IN: usize = 20;
/// Bytes of a result in which an error is looked for.
const RESULT_BYTES: usize = 256;
/// Bytes of the head of a text that are read.
const HEAD_BYTES: usize = 4_096;
/// Bytes of its tail, where it is longer.
const TAIL_BYTES: usize = 2_048;

/// Groups of features, by which a decision tells its reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The words of what is asked.
    Words,
    /// How many questions it asks.
    Questions,
    /// Marks of code.
    Code,
    /// How long its words are.
    Wording,
    /// Text that is quoted or fenced.
    Paste,
    /// Tools that are declared.
    Tools,
    /// Results of tools in the history.
    Results,
    /// Those of them that say that something failed.
    Failures,
    /// Whether the answer has to follow a schema.
    Schema,
    /// How hard the model is to think.
    Effort,
}

impl Group {
    /// As it is told.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Questions => "questions",
            Self::Code => "code",
            Self::Wording => "wording",
            Self::Paste => "paste",
            Self::Tools => "tools",
            Self::Results => "results",
            Self::Failures => "failures",
            Self::Schema => "schema",
            Self::Effort => "effort",
        }
    }
}

/// The measures, each with the group that it is told by. Their order is that of
/// [`Features::measures`].
pub const MEASURES: [(&str, Group); 13] = [
    ("questions", Group::Questions),
    ("word_length", Group::Wording),
    ("long_words_share", Group::Wording),
    ("quoted", Group::Paste),
    ("media", Group::Paste),
    ("code", Group::Code),
    ("tools", Group::Tools),
    ("has_tools", Group::Tools),
    ("results", Group::Results),
    ("many_results", Group::Results),
    ("failures", Group::Failures),
    ("schema", Group::Schema),
    ("effort", Group::Effort),
];

/// What the classifier sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Buckets of the words of what is asked, each once, ascending.
    pub buckets: Vec<u16>,
    /// The measures, about 0 to 1 each.
    pub measures: [f64; MEASURES.len()],
    /// Results of tools of late that say that something failed.
    pub failures: usize,
}

impl Features {
    /// Those of a conversation.
    pub fn of(conversation: &Conversation) -> Self {
        let messages = &conversation.messages;
        let is_asked = |message: &&Message| {
            message.role == Role::User && message.parts.iter().any(|part| part.as_text().is_some())
        };
        let asked = messages.iter().rev().find(is_asked);
        let texts: Vec<&str> = asked
            .map(|message| message.parts.iter().filter_map(Part::as_text).collect())
            .unwrap_or_default();
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let whole = excerpt(&texts, bytes).to_lowercase();
        let instruction = text::without_quotes(&whole);
        let mut buckets = Tokens::default();
        let of_asked = Measures::of(&instruction, &mut buckets);
        let failures = failures(messages);
        let measures = [
            capped(of_asked.questions, 3) / 3.0,
            of_asked.word_length() / 8.0,
            of_asked.long_words_share(),
            yes(whole.len().saturating_sub(instruction.len()) > 20),
            yes(asked.is_some_and(has_media)),
            capped(text::code(&whole), 5) / 5.0,
            capped(conversation.tools.len(), 10) / 10.0,
            yes(!conversation.tools.is_empty()),
            log2(results(messages)).min(6.0) / 3.0,
            yes(results(messages) > 6),
            capped(failures, 3),
            yes(conversation.output_shape != OutputShape::Text),
            effort(conversation.reasoning.effort),
        ];
        Self { buckets: buckets.into_sorted(), measures, failures }
    }
}

fn effort(asked: Option<Effort>) -> f64 {
    match asked {
        Some(Effort::Off | Effort::Minimal | Effort::Low) => -1.0,
        Some(Effort::Medium) | None => 0.0,
        Some(Effort::High | Effort::Xhigh | Effort::Max) => 1.0,
    }
}

fn has_media(message: &Message) -> bool {
    message.parts.iter().any(|part| matches!(part, Part::Media { .. }))
}

/// The head and the tail of a long text, as it came.
fn excerpt(texts: &[&str], bytes: usize) -> String {
    if bytes <= HEAD_BYTES + TAIL_BYTES {
        return texts.join("\n");
    }
    let mut head = String::new();
    for text in texts {
        head.push_str(first(text, HEAD_BYTES.saturating_sub(head.len())));
        head.push('\n');
    }
    let mut tail: Vec<&str> = Vec::new();
    let mut left = TAIL_BYTES;
    for text in texts.iter().rev() {
        let end = last(text, left);
        left -= end.len();
        tail.push(end);
    }
    tail.reverse();
    head.push_str(&tail.join("\n"));
    head
}

/// So many bytes of a text's beginning, or a few less.
fn first(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// So many bytes of a text's end, or a few less.
fn last(text: &str, bytes: usize) -> &str {
    let begin =
        (text.len().saturating_sub(bytes)..=text.len()).find(|at| text.is_char_boundary(*at));
    text.get(begin.unwrap_or(text.len())..).unwrap_or_default()
}

fn results(messages: &[Message]) -> usize {
    let parts = messages.iter().flat_map(|message| &message.parts);
    parts.filter(|part| matches!(part, Part::ToolResult { .. })).count()
}

/// Results of late that say that something failed.
fn failures(messages: &[Message]) -> usize {
    let late = messages.iter().rev().take(FAILURES_IN).flat_map(|message| &message.parts);
    let failed = late.filter(|part| match part {
        Part::ToolResult { is_error, parts, .. } => {
            *is_error || parts.iter().filter_map(Part::as_text).any(says_failed)
        }
        Part::Text { .. }
        | Part::Media { .. }
        | Part::ToolCall(_)
        | Part::Reasoning { .. }
        | Part::Refusal { .. } => false,
    });
    failed.count()
}

/// Whether a result begins as errors do: most formats have no other way to say so.
fn says_failed(text: &str) -> bool {
    let head = first(text.trim_start(), RESULT_BYTES).to_lowercase();
    let begins = ["error", "fatal:", "traceback (most recent", "exception", "failed", "panic"];
    begins.iter().any(|mark| head.starts_with(mark)) || head.contains("panicked at")
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn capped(count: usize, most: usize) -> f64 {
    number(count.min(most))
}

fn log2(count: usize) -> f64 {
    number(count.saturating_add(1)).log2()
}

fn yes(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
