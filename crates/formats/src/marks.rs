//! Marks for a provider's prompt cache, as clients write them and as they are reported.
//!
//! Anthropic, and those who pass its models on by chat completions, write `cache_control` into what
//! is marked; Bedrock puts a block of its own behind it. Here a mark is a place and a lifetime, and
//! stays with its part while parts become messages. Invariant: no mark is lost without its name.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use types::conversation::{CacheLife, CacheMark, Conversation, MarkPlace, Message, Part, Role};

use crate::json::{Fields, join, without_indices};
use crate::object::Object;

/// The field that marks, as Anthropic calls it.
pub(crate) const FIELD: &str = "cache_control";

/// The name by which a mark is reported that could not be told.
pub fn mark_name(conversation: &Conversation, place: MarkPlace) -> &'static str {
    match place {
        MarkPlace::Tool(_) => "tools.cache_control",
        MarkPlace::Part { message, .. } => name_in(conversation.messages.get(message)),
        MarkPlace::End => FIELD,
    }
}

fn name_in(message: Option<&Message>) -> &'static str {
    match message.map(|message| message.role) {
        Some(Role::System | Role::Developer) => "system.cache_control",
        None | Some(Role::User | Role::Assistant | Role::Tool) => "messages.content.cache_control",
    }
}

/// The names of all marks, for a format that has no word for any.
pub(crate) fn names(conversation: &Conversation) -> impl Iterator<Item = String> {
    conversation.marks.iter().map(|mark| mark_name(conversation, mark.place).to_owned())
}

/// The marks of a conversation by place, for those who write one.
#[derive(Debug, Default)]
pub(crate) struct Marks(BTreeMap<MarkPlace, CacheLife>);

impl Marks {
    pub(crate) fn of(conversation: &Conversation) -> Self {
        Self(conversation.marks.iter().map(|mark| (mark.place, mark.life)).collect())
    }

    /// The same, where whatever comes last is marked as the part that it is.
    pub(crate) fn on_parts(conversation: &Conversation) -> Self {
        let mut marks = Self::of(conversation);
        let last = conversation.messages.iter().enumerate().next_back();
        let place = last.and_then(|(message, last)| {
            let part = last.parts.len().checked_sub(1)?;
            Some(MarkPlace::Part { message, part })
        });
        if let (Some(life), Some(place)) = (marks.end(), place) {
            let at = marks.0.entry(place).or_insert(life);
            *at = life.max(*at);
            marks.0.remove(&MarkPlace::End);
        }
        marks
    }

    /// The longest in a message.
    pub(crate) fn message(&self, message: usize) -> Option<CacheLife> {
        let of = |part| MarkPlace::Part { message, part };
        self.0.range(of(0)..=of(usize::MAX)).map(|(_, life)| *life).max()
    }

    /// Behind this part.
    pub(crate) fn part(&self, message: usize, part: usize) -> Option<CacheLife> {
        self.0.get(&MarkPlace::Part { message, part }).copied()
    }

    /// Behind this tool.
    pub(crate) fn tool(&self, tool: usize) -> Option<CacheLife> {
        self.0.get(&MarkPlace::Tool(tool)).copied()
    }

    /// Behind everything.
    pub(crate) fn end(&self) -> Option<CacheLife> {
        self.0.get(&MarkPlace::End).copied()
    }
}

/// Reports a mark for which nothing of its message could be found that can be marked.
pub(crate) fn report(message: &Message, dropped: &mut Vec<String>) {
    dropped.push(name_in(Some(message)).to_owned());
}

/// Marks behind tools, by the tools' numbers.
pub(crate) type ToolMarks = Vec<(usize, CacheLife)>;

/// A mark in Anthropic's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl CacheControl {
    pub(crate) const fn of(life: CacheLife) -> Self {
        Self { kind: "ephemeral", ttl: ttl(life) }
    }

    /// The same as a tree.
    pub(crate) fn value(life: CacheLife) -> Value {
        let kind = ("type".to_owned(), "ephemeral".into());
        let ttl = ttl(life).map(|ttl| ("ttl".to_owned(), ttl.into()));
        Value::Object(std::iter::once(kind).chain(ttl).collect())
    }
}

/// A lifetime by its name; the usual one needs none.
pub(crate) const fn ttl(life: CacheLife) -> Option<&'static str> {
    match life {
        CacheLife::Minutes => None,
        CacheLife::Hour => Some("1h"),
    }
}

/// The lifetime of this name.
pub(crate) fn life_of(ttl: Option<&str>) -> Option<CacheLife> {
    match ttl {
        None | Some("5m") => Some(CacheLife::Minutes),
        Some("1h") => Some(CacheLife::Hour),
        Some(_) => None,
    }
}

/// What a mark in Anthropic's words says, and what is left of it. One of another kind, or for
/// another time, is none that is known.
fn read(mut mark: Map<String, Value>) -> Option<(CacheLife, Map<String, Value>)> {
    mark.retain(|_, value| !value.is_null());
    if mark.shift_remove("type")? != "ephemeral" {
        return None;
    }
    let life = match mark.shift_remove("ttl") {
        None => life_of(None),
        Some(Value::String(ttl)) => life_of(Some(&ttl)),
        Some(_) => None,
    };
    Some((life?, mark))
}

/// Takes the mark of an object. One that is not understood stays, so that it is reported.
pub(crate) fn take(fields: &mut Object<'_>, rest: &mut Map<String, Value>) -> Option<CacheLife> {
    let given = fields.top().raw(FIELD).map(RawValue::get).filter(|text| *text != "null")?;
    let (life, left) = read(serde_json::from_str(given).ok()?)?;
    fields.take(FIELD);
    keep(&fields.path_of(FIELD), left, rest);
    Some(life)
}

/// As [`take`], of an object that is a tree.
pub(crate) fn take_value(fields: &mut Fields, rest: &mut Map<String, Value>) -> Option<CacheLife> {
    let given = fields.peek(FIELD).and_then(Value::as_object)?.clone();
    let (life, left) = read(given)?;
    fields.take(FIELD);
    keep(&fields.path_of(FIELD), left, rest);
    Some(life)
}

fn keep(path: &str, left: Map<String, Value>, rest: &mut Map<String, Value>) {
    for (name, value) in left {
        rest.entry(join(&without_indices(path), &name)).or_insert(value);
    }
}

/// Parts as they are read, and the marks behind them.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    pub(crate) parts: Vec<Part>,
    marks: BTreeMap<usize, CacheLife>,
}

impl Marked {
    pub(crate) fn push(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// Marks the last part; whether there is one. Of two marks at one place the longer counts.
    pub(crate) fn mark(&mut self, life: CacheLife) -> bool {
        let Some(last) = self.parts.len().checked_sub(1) else { return false };
        let at = self.marks.entry(last).or_insert(life);
        *at = life.max(*at);
        true
    }

    /// Adds parts with their marks.
    pub(crate) fn append(&mut self, more: Self) {
        let shift = self.parts.len();
        self.parts.extend(more.parts);
        self.marks.extend(more.marks.into_iter().map(|(part, life)| (part + shift, life)));
    }

    /// Adds a part that holds others: their marks are its own.
    pub(crate) fn hold(&mut self, inner: Self, part: impl FnOnce(Vec<Part>) -> Part) {
        let longest = inner.marks.values().max().copied();
        self.push(part(inner.parts));
        if let Some(life) = longest {
            self.mark(life);
        }
    }

    /// Those parts of which this holds, and the others.
    pub(crate) fn partition(self, is: impl Fn(&Part) -> bool) -> (Self, Self) {
        let (mut those, mut others) = (Self::default(), Self::default());
        for (at, part) in self.parts.into_iter().enumerate() {
            let to = if is(&part) { &mut those } else { &mut others };
            to.push(part);
            if let Some(life) = self.marks.get(&at) {
                to.mark(*life);
            }
        }
        (those, others)
    }
}

/// A history as it is read, with its marks.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) messages: Vec<Message>,
    pub(crate) marks: Vec<CacheMark>,
}

impl History {
    pub(crate) fn push(&mut self, role: Role, said: Marked) {
        let message = self.messages.len();
        let marks = said.marks.into_iter();
        self.marks.extend(
            marks.map(|(part, life)| CacheMark { place: MarkPlace::Part { message, part }, life }),
        );
        self.messages.push(Message { role, parts: said.parts });
    }

    /// The messages, and all marks in order: those of the tools, and one for everything.
    pub(crate) fn finish(
        self,
        tools: impl IntoIterator<Item = (usize, CacheLife)>,
        end: Option<CacheLife>,
    ) -> (Vec<Message>, Vec<CacheMark>) {
        let of_tools = tools.into_iter().map(|(tool, life)| (MarkPlace::Tool(tool), life));
        let end = end.map(|life| (MarkPlace::End, life));
        let marks = of_tools.chain(end).map(|(place, life)| CacheMark { place, life });
        let mut marks: Vec<CacheMark> = marks.chain(self.marks).collect();
        marks.sort_unstable();
        (self.messages, marks)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The conversation with marks at some of its places, which are chosen by number.
    pub(crate) fn marked(
        conversation: Conversation,
        wishes: &[(usize, bool)],
        end: bool,
    ) -> Conversation {
        let can_be = |part: &Part| !matches!(part, Part::Reasoning { .. });
        let parts = conversation.messages.iter().enumerate().flat_map(|(message, said)| {
            let parts = said.parts.iter().enumerate().filter(|(_, part)| can_be(part));
            parts.map(move |(part, _)| MarkPlace::Part { message, part })
        });
        let tools = (0..conversation.tools.len()).map(MarkPlace::Tool);
        let places = tools.chain(parts).chain(end.then_some(MarkPlace::End));
        let places: Vec<MarkPlace> = places.collect();
        let life = |hour| if hour { CacheLife::Hour } else { CacheLife::Minutes };
        let chosen = wishes.iter().filter_map(|(at, hour)| {
            Some((*places.get(at.checked_rem(places.len())?)?, life(*hour)))
        });
        let chosen: BTreeMap<MarkPlace, CacheLife> = chosen.collect();
        let marks = chosen.into_iter().map(|(place, life)| CacheMark { place, life }).collect();
        Conversation { marks, ..conversation }
    }
}
