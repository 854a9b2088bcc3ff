//! An answer that broke off in its middle goes on at a target that continues what was said.
//!
//! The next attempt is asked the same, with the text that the client has seen as the beginning of
//! the answer, and what it says is shown behind that; where only blanks were shown, it begins anew
//! behind them. Invariants: what the client reads is one
//! text, each part of it once; what goes on is plain text, with nothing else begun; an attempt that
//! continues is paid for like any other, what was said counting as its prompt. Anything else ends
//! in an error, as it did. It must not know how a target is told to continue.

use std::sync::Arc;

use serde_json::Value;
use types::call::{CallKind, ModelCall, Operation};
use types::clock::Monotonic;
use types::conversation::{
    Conversation, Effort, Message, OutputShape, ReasoningAsk, Role, ToolChoice,
};
use types::outcome::Start;
use types::usage::Usage;
use types::{Call, Delta, Failure, Money, OutcomeEvent};

use super::running::Running;
use super::shown::Shown;
use super::{Attempts, Held};
use crate::admit::bound::{terms, unlimited};
use crate::context::with_kind;
use crate::execute::decide::Next;
use crate::record::Place;
use crate::route::{Continued, Route};

/// Bytes that stand around a message in a request, at most.
const AROUND_BYTES: u64 = 256;

/// Fields of a client's own request that are as well said of an answer's rest: beside them, a
/// request whose answer passed through is not made anew, since nobody has read what they ask for.
const OF_NO_SHAPE: [&str; 11] = [
    "labels",
    "logit_bias",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_retention",
    "repetition_penalty",
    "safetySettings",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
];

impl Attempts {
    /// What comes after a failure in the middle of an answer: who goes on with it, if anybody can.
    pub(super) fn plan_continued(
        &mut self,
        running: &mut Running,
        failure: &Failure,
        now: Monotonic,
    ) -> Option<(Next, Place)> {
        if self.cascade.is_some() || self.hold() != Held::Head {
            // What is judged is judged whole, and what is not streamed was not shown.
            return None;
        }
        self.shown.read();
        if self.shown.begun().is_some_and(|begun| !begun.started) {
            // Only signs of life passed: what followed would have no beginning.
            return None;
        }
        if self.shown.parts().is_none() {
            self.shown.only_blanks()?;
        }
        let left = std::mem::take(&mut self.left);
        self.left = left.into_iter().filter_map(|route| self.continued(&route)).collect();
        let same = self.continued(&running.route);
        if same.is_none() && self.left.is_empty() {
            return None;
        }
        let (next, place) = self.plan(failure, now)?;
        match (next, same) {
            (Next::Again { .. }, None) if self.left.is_empty() => None,
            (Next::Again { .. }, None) => Some((Next::Elsewhere, place)),
            (Next::Again { .. }, Some(same)) => {
                running.route = same;
                Some((next, place))
            }
            (Next::Elsewhere | Next::Stop, _) => Some((next, place)),
        }
    }

    /// The same target, asked to go on, or to begin anew behind blanks; `None` = it can't.
    fn continued(&self, route: &Route) -> Option<Route> {
        let asked = route.edited.as_ref().map_or(&self.call, |edited| &edited.call);
        let of_whole = route.continued.as_ref().map_or(route.terms, |before| before.of_whole);
        let Some((said, _)) = self.shown.parts() else {
            may_be_made_anew(asked, &self.shown)?;
            let continued = Continued { call: Arc::clone(asked), of_whole, said_tokens: 0 };
            return Some(Route { continued: Some(continued), terms: of_whole, ..route.clone() });
        };
        if !route.executor.continues(&route.target) {
            return None;
        }
        let call = Arc::new(asked_to_continue(asked, said, &self.shown, of_whole.output_cap)?);
        let terms = match (&route.target.price, of_whole.amount) {
            (_, Money::ZERO) => unlimited(&call, &route.target),
            (Some(price), _) => terms(&call, &route.target, price, None),
            (None, _) => of_whole,
        };
        let continued = Continued { call, of_whole, said_tokens: self.shown.tokens() };
        Some(Route { continued: Some(continued), terms, ..route.clone() })
    }

    /// The blanks that an attempt that goes on may repeat.
    pub(super) fn overlap(&self, route: &Route) -> String {
        let blanks =
            self.shown.parts().map(|(_, blanks)| blanks).or_else(|| self.shown.only_blanks());
        blanks.filter(|_| route.continued.is_some()).unwrap_or_default().to_owned()
    }

    /// The beginning of an attempt that goes on with an answer: the client is told nothing, unless
    /// what passed through is from here on to be written.
    pub(super) fn begins_behind(&self) -> Option<OutcomeEvent> {
        let begun = self.shown.begun()?;
        Some(OutcomeEvent::Start(Start { status: 200, begun: Some(begun), ..Start::default() }))
    }
}

/// A Call for the rest of an answer; `None` = what is asked for can't be given in two parts.
fn asked_to_continue(call: &Call, said: &str, shown: &Shown, set_cap: Option<u64>) -> Option<Call> {
    let neutral = may_be_made_anew(call, shown)?;
    let model = call.model()?;
    if !may_continue(&neutral) {
        return None;
    }
    if neutral.messages.last().is_some_and(|last| last.role == Role::Assistant) {
        // A beginning of the client's own would stand there as a turn that is over.
        return None;
    }
    let cap = model.head.output_cap.or(set_cap);
    let output_cap = cap.map(|cap| cap.saturating_sub(shown.tokens()));
    if output_cap == Some(0) {
        return None;
    }
    let mut neutral = Conversation::clone(&neutral);
    neutral.messages.push(Message::text(Role::Assistant, said));
    neutral.output_cap = output_cap;
    let mut head = model.head.clone();
    head.output_cap = output_cap;
    let more = (said.len() as u64).saturating_add(AROUND_BYTES);
    head.body_bytes = head.body_bytes.saturating_add(more);
    let kind = ModelCall::from_neutral(model.format, head, Arc::new(neutral));
    Some(with_kind(call, CallKind::Model(kind.with_wire(model.wire.clone()))))
}

/// What is asked for, if its answer can be written here.
fn may_be_made_anew(call: &Call, shown: &Shown) -> Option<Arc<Conversation>> {
    let model = call.model()?;
    if model.operation != Operation::Chat || model.head.choices > 1 {
        return None;
    }
    let neutral = model.neutral().ok()?;
    let is_known = |(name, value): (&String, &Value)| {
        OF_NO_SHAPE.contains(&name.as_str())
            || matches!(value, Value::Null | Value::Bool(false))
            || (name == "n" && *value == 1)
    };
    let was_read = shown.begun().is_none() || neutral.rest.iter().all(is_known);
    was_read.then_some(neutral)
}

/// What the client is told that a whole answer took: the prompt once, and as output all that it
/// read. The last attempt counted what was said before as its input; the sum stays as it counted.
pub(super) fn usage_of_whole(usage: &Usage, said_tokens: u64) -> Usage {
    let said = said_tokens.min(usage.input_tokens);
    let input_tokens = usage.input_tokens - said;
    let cached_tokens = usage.cached_tokens.min(input_tokens);
    let cache_write_tokens = usage.cache_write_tokens.min(input_tokens - cached_tokens);
    Usage {
        input_tokens,
        cached_tokens,
        cache_write_tokens,
        cache_write_1h_tokens: usage.cache_write_1h_tokens.min(cache_write_tokens),
        output_tokens: usage.output_tokens.saturating_add(said),
        reasoning_tokens: usage.reasoning_tokens,
        more: usage.more,
    }
}

/// Whether the rest of an answer to this is as good as the end of a whole one.
fn may_continue(asked: &Conversation) -> bool {
    let thinks = match &asked.reasoning {
        ReasoningAsk { budget_tokens: Some(_), .. } | ReasoningAsk { adaptive: true, .. } => true,
        ReasoningAsk { effort, .. } => effort.is_some_and(|effort| effort != Effort::Off),
    };
    let is_open = matches!(asked.tool_choice, ToolChoice::Auto | ToolChoice::None);
    !thinks && is_open && matches!(asked.output_shape, OutputShape::Text)
}

/// What of an event is new, of an attempt that may repeat the blanks in `overlap`.
pub(super) fn without(overlap: &mut String, event: OutcomeEvent) -> Option<OutcomeEvent> {
    if overlap.is_empty() || matches!(event, OutcomeEvent::Start(_)) {
        return Some(event);
    }
    let OutcomeEvent::Frame { raw: None, delta: Some(Delta::Text { text }) } = event else {
        overlap.clear();
        return Some(event);
    };
    let same = text.chars().zip(overlap.chars()).take_while(|(one, other)| one == other);
    let same: usize = same.map(|(one, _)| one.len_utf8()).sum();
    overlap.drain(..same);
    let text = text.get(same..).unwrap_or_default().to_owned();
    if text.is_empty() {
        return None;
    }
    overlap.clear();
    Some(OutcomeEvent::Frame { raw: None, delta: Some(Delta::Text { text }) })
}

#[cfg(test)]
mod tests;
