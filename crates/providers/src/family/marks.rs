//! Which marks for a prompt cache a model takes from this server.
//!
//! Pure: a conversation in, another one out, with the names of what was left out. Without its marks
//! a request asks for the same answer and costs more, so that one too many is left out, never
//! refused. The oldest go first: what they would keep, the later ones keep too, and a history that
//! grows loses them in the same order.

use std::borrow::Cow;

use formats::{ANTHROPIC_MESSAGES, BEDROCK_CONVERSE, OPENAI_CHAT, mark_name};
use serde::Deserialize;
use types::conversation::{CacheLife, CacheMark, Conversation, MarkPlace};
use types::format::{Format, Quirks};

use super::{Family, Fitted, report, yes};

/// How a model takes marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheMarks {
    /// How many at most; 0 = none.
    pub most: usize,
    /// Whether for an hour too.
    #[serde(default = "yes")]
    pub hour: bool,
    /// Whether behind tools too.
    #[serde(default = "yes")]
    pub tools: bool,
}

/// How Anthropic takes them, whatever the model.
/// <https://platform.claude.com/docs/en/build-with-claude/prompt-caching>
const ANTHROPICS: CacheMarks = CacheMarks { most: 4, hour: true, tools: true };

/// How a model takes marks in a request of this format; `None` = not at all. A model that is not
/// known is told of none but by Anthropic's own format: others refuse them.
pub(super) fn taken(format: &str, quirks: &Quirks, family: Option<&Family>) -> Option<CacheMarks> {
    let own = format == ANTHROPIC_MESSAGES.name();
    let by_chat = format == OPENAI_CHAT.name() && quirks.cache_control.is_some();
    if !own && !by_chat && format != BEDROCK_CONVERSE.name() {
        return None;
    }
    let known = family.and_then(|family| family.cache_marks);
    known.or_else(|| own.then_some(ANTHROPICS)).filter(|marks| marks.most > 0)
}

/// The request with the marks that are taken.
pub(crate) fn fit_marks<'a>(
    format: &str,
    quirks: &Quirks,
    family: Option<&Family>,
    asked: &'a Conversation,
) -> Fitted<'a> {
    let mut dropped = Vec::new();
    if asked.marks.is_empty() {
        return Fitted { conversation: Cow::Borrowed(asked), dropped };
    }
    let taken = taken(format, quirks, family);
    let fits = |mark: &CacheMark| {
        taken.is_some_and(|taken| taken.tools || !matches!(mark.place, MarkPlace::Tool(_)))
    };
    let mut marks: Vec<CacheMark> = asked.marks.iter().copied().filter(fits).collect();
    marks.sort_unstable();
    let most = taken.map_or(0, |taken| taken.most);
    marks.drain(..marks.len().saturating_sub(most));
    for lost in asked.marks.iter().filter(|mark| !marks.contains(mark)) {
        report(&mut dropped, mark_name(asked, lost.place));
    }
    if taken.is_some_and(|taken| !taken.hour) {
        for mark in marks.iter_mut().filter(|mark| mark.life == CacheLife::Hour) {
            mark.life = CacheLife::Minutes;
            report(&mut dropped, "cache_control.ttl");
        }
    }
    if marks == asked.marks {
        return Fitted { conversation: Cow::Borrowed(asked), dropped };
    }
    Fitted { conversation: Cow::Owned(Conversation { marks, ..asked.clone() }), dropped }
}

#[cfg(test)]
mod tests;
