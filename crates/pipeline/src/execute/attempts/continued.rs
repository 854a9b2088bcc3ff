//! An answer that broke off in its middle goes on at a target that continues what was said.
//!
//! The next attempt is asked the same, with the text that the client has seen as the beginning of
//! the answer, and what it says is shown behind that. Invariants: what the client reads is one
//! text, each part of it once; what goes on is plain text, with nothing else begun; an attempt that
//! continues is paid for like any other, what was said counting as its prompt. Anything else ends
//! in an error, as it did. It must not know how a target is told to continue.

use std::sync::Arc;

use types::call::{CallKind, ModelCall, Operation};
use types::clock::Monotonic;
use types::conversation::{
    Conversation, Effort, Message, OutputShape, ReasoningAsk, Role, ToolChoice,
};
use types::{Call, Delta, Failure, Money, OutcomeEvent, estimate};

use super::Attempts;
use super::running::Running;
use crate::admit::bound::{terms, unlimited};
use crate::context::with_kind;
use crate::execute::decide::Next;
use crate::record::Place;
use crate::route::{Continued, Route};

/// Bytes of an answer at most that can be continued: it is a part of the next prompt.
const SHOWN_BYTES_MAX: usize = 256 * 1024;
/// Bytes that stand around a message in a request, at most.
const AROUND_BYTES: u64 = 256;

/// What a client has seen of an answer.
#[derive(Debug, Default)]
pub(super) struct Shown {
    text: String,
    /// The pieces that it came in: each has at least one token.
    pieces: u64,
    /// It has something that can't be continued.
    is_mixed: bool,
}

impl Shown {
    /// The client is shown an event.
    pub(super) fn see(&mut self, event: &OutcomeEvent) {
        let OutcomeEvent::Frame { raw, delta } = event else { return };
        match delta {
            // Nobody has read what a target's own bytes say.
            _ if raw.is_some() => self.is_mixed = true,
            Some(Delta::Text { text }) if !self.is_mixed => {
                self.pieces += 1;
                self.text.push_str(text);
                self.is_mixed = self.text.len() > SHOWN_BYTES_MAX;
            }
            // What was thought before it spoke is over. One that begins anew is not.
            Some(Delta::Reasoning { .. }) if self.text.is_empty() => {}
            None | Some(Delta::Text { .. }) => {}
            Some(
                Delta::Reasoning { .. }
                | Delta::ReasoningSignature { .. }
                | Delta::Refusal { .. }
                | Delta::ToolCallStart { .. }
                | Delta::ToolCallArguments { .. }
                | Delta::ToolResult { .. },
            ) => self.is_mixed = true,
        }
        if self.is_mixed {
            self.text = String::new();
        }
    }

    /// What a target is given to continue, and the blanks behind that: providers refuse a beginning
    /// that ends in some, and tokens begin with them.
    fn parts(&self) -> Option<(&str, &str)> {
        let said = self.text.trim_end();
        (!self.is_mixed && !said.is_empty()).then(|| (said, &self.text[said.len()..]))
    }

    /// Tokens of it, at least.
    fn tokens(&self) -> u64 {
        self.pieces.max(self.text.len() as u64 / (2 * estimate::TOKEN_BYTES))
    }
}

impl Attempts {
    /// What comes after a failure in the middle of an answer: who goes on with it, if anybody can.
    pub(super) fn plan_continued(
        &mut self,
        running: &mut Running,
        failure: &Failure,
        now: Monotonic,
    ) -> Option<(Next, Place)> {
        if self.cascade.is_some() {
            // What is judged is judged whole.
            return None;
        }
        self.shown.parts()?;
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

    /// The same target, asked to go on; `None` = it can't.
    fn continued(&self, route: &Route) -> Option<Route> {
        if !route.executor.continues(&route.target) {
            return None;
        }
        let asked = route.edited.as_ref().map_or(&self.call, |edited| &edited.call);
        let of_whole = route.continued.as_ref().map_or(route.terms, |before| before.of_whole);
        let call = Arc::new(asked_to_continue(asked, &self.shown, of_whole.output_cap)?);
        let terms = match (&route.target.price, of_whole.amount) {
            (_, Money::ZERO) => unlimited(&call, &route.target),
            (Some(price), _) => terms(&call, &route.target, price, None),
            (None, _) => of_whole,
        };
        Some(Route { continued: Some(Continued { call, of_whole }), terms, ..route.clone() })
    }

    /// The blanks that an attempt that goes on may repeat.
    pub(super) fn overlap(&self, route: &Route) -> String {
        match self.shown.parts() {
            Some((_, blanks)) if route.continued.is_some() => blanks.to_owned(),
            Some(_) | None => String::new(),
        }
    }
}

/// A Call for the rest of an answer; `None` = what is asked for can't be given in two parts.
fn asked_to_continue(call: &Call, shown: &Shown, set_cap: Option<u64>) -> Option<Call> {
    let (said, _) = shown.parts()?;
    let model = call.model()?;
    if model.operation != Operation::Chat || model.head.choices > 1 {
        return None;
    }
    let neutral = model.neutral().ok().filter(|asked| may_continue(asked))?;
    let cap = model.head.output_cap.or(set_cap);
    let output_cap = cap.map(|cap| cap.saturating_sub(shown.tokens()).max(1));
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
    if overlap.is_empty() {
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
