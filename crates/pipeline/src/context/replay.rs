//! What of a history is cleared and compacted: found by walking it from its first message on.
//!
//! At each place where a request may have ended, the size of what that request told its target is
//! held against the thresholds, and what crosses one stays cleared or compacted from there on. So
//! the outcome for a history is a prefix of the outcome for a longer one, without any memory
//! between requests: what is told to a target is append-only between crossings, byte for byte.
//!
//! Invariants: a cut never stands between a call and its result; what the model has not answered
//! yet stays; so do system and developer messages, and the user's last one. One pass, linear in
//! the number of parts. Values in, values out.

use std::collections::HashMap;

use types::conversation::{Conversation, Message, Part, Role};
use types::estimate::{frame_tokens, message_tokens, part_tokens, text_tokens};

/// What stands in the place of a result that was cleared.
pub(super) const CLEARED: &str =
    "[Old tool result cleared to save context. Call the tool again if it is needed.]";

/// The thresholds of a policy for one target, in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) clear_at: Option<u64>,
    pub(super) keep_results: usize,
    pub(super) clear_at_least: u64,
    pub(super) exclude: Vec<String>,
    pub(super) compact_at: Option<u64>,
    pub(super) keep_tokens: u64,
    /// What a summary is taken for, whatever it turns out to be.
    pub(super) summary_tokens: u64,
    /// Later crossings are left out; `None` = all count.
    pub(super) crossings_max: Option<usize>,
}

/// A place of a result: its message, and its part there.
pub(super) type Place = (usize, usize);

/// One compaction: all before `cut` is told by a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossing {
    /// The first message that is told as it is.
    pub(super) cut: usize,
    /// The user's last message, where it stands before the cut: it is told as it is.
    pub(super) kept: Option<usize>,
    /// Results before this place in order were cleared when it was made.
    pub(super) cleared: usize,
}

/// What is done with a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Results that are cleared, in order.
    pub(super) cleared: Vec<Place>,
    /// Compactions, each further on than the one before; the last one counts.
    pub(super) crossings: Vec<Crossing>,
    /// The size of the whole history.
    pub(super) before: u64,
    /// The size of what is left of it.
    pub(super) after: u64,
}

/// Walks a history.
pub(super) fn replay(conversation: &Conversation, limits: &Limits) -> Outcome {
    let mut walk = Walk::new(conversation, limits);
    for (at, message) in conversation.messages.iter().enumerate() {
        walk.add(at, message);
        if matches!(message.role, Role::User | Role::Tool) {
            walk.clear();
            walk.compact(at);
        }
    }
    walk.outcome.after = walk.live;
    walk.outcome
}

/// A place where a cut is right.
#[derive(Clone, Copy)]
struct Cut {
    /// The first message behind it.
    at: usize,
    /// Tokens of system and developer messages before it.
    systems: u64,
    /// Tokens from there to the next one, as they are told.
    tokens: u64,
}

/// A result that may be cleared.
#[derive(Clone, Copy)]
struct Clearable {
    place: Place,
    /// How many tokens that saves.
    saves: u64,
    /// Its number among all results, those that always stay included.
    number: usize,
}

struct Walk<'a> {
    limits: &'a Limits,
    outcome: Outcome,
    /// Tokens of each message as it is told.
    tokens: Vec<u64>,
    /// The size of what is told.
    live: u64,
    /// Tools that were called, by the call's id.
    tools: HashMap<&'a str, &'a str>,
    /// Calls without a result, by id.
    open: HashMap<&'a str, usize>,
    open_calls: usize,
    results: usize,
    /// How many results the model has seen.
    seen: usize,
    clearable: Vec<Clearable>,
    /// Where the first one stands that is neither cleared nor compacted away.
    next: usize,
    /// What those from `next` on save that stand before `looked`.
    saves: u64,
    looked: usize,
    cuts: Vec<Cut>,
    /// The last cut that leaves enough behind it, as a place in `cuts`; and what it leaves.
    best: usize,
    tail: u64,
    systems: u64,
    last_user: Option<usize>,
    /// Messages up to the model's last answer, that one included: what follows is new to it.
    answered: usize,
    frame: u64,
}

impl<'a> Walk<'a> {
    fn new(conversation: &Conversation, limits: &'a Limits) -> Self {
        let frame = frame_tokens(conversation);
        Self {
            limits,
            outcome: Outcome { before: frame, ..Outcome::default() },
            tokens: Vec::with_capacity(conversation.messages.len()),
            live: frame,
            tools: HashMap::new(),
            open: HashMap::new(),
            open_calls: 0,
            results: 0,
            seen: 0,
            clearable: Vec::new(),
            next: 0,
            saves: 0,
            looked: 0,
            cuts: Vec::new(),
            best: 0,
            tail: 0,
            systems: 0,
            last_user: None,
            answered: 0,
            frame,
        }
    }

    fn add(&mut self, at: usize, message: &'a Message) {
        let tokens = message_tokens(message);
        let holds_results = message.parts.iter().any(is_result);
        if self.open_calls == 0
            && !holds_results
            && matches!(message.role, Role::User | Role::Assistant)
        {
            self.cuts.push(Cut { at, systems: self.systems, tokens: 0 });
            if self.cuts.len() == self.best + 1 {
                self.tail = 0;
            }
        }
        self.tokens.push(tokens);
        self.outcome.before = self.outcome.before.saturating_add(tokens);
        self.live = self.live.saturating_add(tokens);
        if let Some(newest) = self.cuts.last_mut() {
            newest.tokens = newest.tokens.saturating_add(tokens);
            self.tail = self.tail.saturating_add(tokens);
        }
        match message.role {
            Role::System | Role::Developer => self.systems = self.systems.saturating_add(tokens),
            Role::User if !holds_results => self.last_user = Some(at),
            Role::Assistant => (self.seen, self.answered) = (self.results, at + 1),
            Role::User | Role::Tool => {}
        }
        for (part_at, part) in message.parts.iter().enumerate() {
            self.add_part((at, part_at), part);
        }
    }

    fn add_part(&mut self, place: Place, part: &'a Part) {
        match part {
            Part::ToolCall(call) => {
                self.tools.insert(&call.id, &call.name);
                *self.open.entry(&call.id).or_default() += 1;
                self.open_calls += 1;
            }
            Part::ToolResult { call_id, .. } => {
                if let Some(open) = self.open.get_mut(call_id.as_str()).filter(|open| **open > 0) {
                    *open -= 1;
                    self.open_calls -= 1;
                }
                let tool = self.tools.get(call_id.as_str());
                let stays = tool.is_some_and(|tool| self.limits.exclude.iter().any(|e| e == tool));
                let note = text_tokens(&[call_id]).saturating_add(text_tokens(&[CLEARED]));
                let saves = part_tokens(part).saturating_sub(note);
                if !stays && saves > 0 {
                    self.clearable.push(Clearable { place, saves, number: self.results });
                }
                self.results += 1;
            }
            Part::Text { .. }
            | Part::Media { .. }
            | Part::Reasoning { .. }
            | Part::Refusal { .. } => {}
        }
    }

    /// Clears what may be cleared, if that is due.
    fn clear(&mut self) {
        let Some(clear_at) = self.limits.clear_at else { return };
        let until = self.results.saturating_sub(self.limits.keep_results).min(self.seen);
        while let Some(clearable) = self.clearable.get(self.looked).filter(|c| c.number < until) {
            self.saves = self.saves.saturating_add(clearable.saves);
            self.looked += 1;
        }
        if self.live <= clear_at || self.saves == 0 || self.saves < self.limits.clear_at_least {
            return;
        }
        let tail_from = self.cuts.get(self.best).map_or(usize::MAX, |cut| cut.at);
        for clearable in self.clearable.get(self.next..self.looked).unwrap_or_default() {
            let at = clearable.place.0;
            if let Some(tokens) = self.tokens.get_mut(at) {
                *tokens = tokens.saturating_sub(clearable.saves);
            }
            let before = self.cuts.partition_point(|cut| cut.at <= at);
            if let Some(cut) = before.checked_sub(1).and_then(|last| self.cuts.get_mut(last)) {
                cut.tokens = cut.tokens.saturating_sub(clearable.saves);
            }
            if at >= tail_from {
                self.tail = self.tail.saturating_sub(clearable.saves);
            }
            self.outcome.cleared.push(clearable.place);
        }
        self.live = self.live.saturating_sub(self.saves);
        (self.next, self.saves) = (self.looked, 0);
    }

    /// Cuts off the oldest turns, if that is due and saves more than a summary takes.
    fn compact(&mut self, at: usize) {
        let Some(compact_at) = self.limits.compact_at else { return };
        self.move_cut();
        if self.live <= compact_at || self.open_calls > 0 {
            return;
        }
        let Some(Cut { at: cut, systems, .. }) = self.cuts.get(self.best).copied() else { return };
        let is_further = self.outcome.crossings.last().is_none_or(|last| cut > last.cut);
        if !is_further || self.tail < self.limits.keep_tokens || cut > at {
            return;
        }
        let kept = self.last_user.filter(|user| *user < cut);
        let kept_tokens = kept.and_then(|user| self.tokens.get(user)).copied().unwrap_or_default();
        let told = [self.frame, systems, kept_tokens, self.limits.summary_tokens, self.tail];
        let told: u64 = told.iter().fold(0, |sum, tokens| sum.saturating_add(*tokens));
        let pays = self.live.saturating_sub(told) > self.limits.summary_tokens;
        let allowed = self.limits.crossings_max;
        if !pays || allowed.is_some_and(|most| self.outcome.crossings.len() >= most) {
            return;
        }
        let cleared = self.outcome.cleared.len();
        self.outcome.crossings.push(Crossing { cut, kept, cleared });
        self.live = told;
        // What is not told any more can't be cleared.
        while let Some(gone) = self.clearable.get(self.next).filter(|c| c.place.0 < cut) {
            if self.next < self.looked {
                self.saves = self.saves.saturating_sub(gone.saves);
            }
            self.next += 1;
        }
        self.looked = self.looked.max(self.next);
    }

    /// Moves the cut on as long as enough is left behind it.
    fn move_cut(&mut self) {
        let answered = self.answered;
        while self.cuts.get(self.best + 1).is_some_and(|next| next.at <= answered) {
            let between = self.cuts.get(self.best).map_or(0, |cut| cut.tokens);
            if self.tail.saturating_sub(between) < self.limits.keep_tokens {
                return;
            }
            self.tail = self.tail.saturating_sub(between);
            self.best += 1;
        }
    }
}

fn is_result(part: &Part) -> bool {
    matches!(part, Part::ToolResult { .. })
}
