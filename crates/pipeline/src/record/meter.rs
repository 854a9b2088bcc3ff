//! Watches one attempt's events and says what it cost.
//!
//! Usage is only ever read from `Finish` and `Failed`. Invariant: an attempt that may have been
//! billed and whose usage nobody knows is charged at its bound, never at zero: with a budget at
//! what was reserved for it, without one in its row alone.

use std::sync::Arc;

use storage::{Charge, LedgerRow};
use types::call::{CallKind, Target};
use types::clock::{Clock, Monotonic, SharedClock};
use types::error::Billed;
use types::ids::AttemptId;
use types::{Call, ErrorCode, Failure, Money, Notes, OutcomeEvent, Price, Stop, Timestamp, Usage};

use super::answer::Bill;
use super::metrics::Facts;
use super::telemetry::AttemptEnded;
use crate::admit::Terms;
use crate::admit::bound::{by_cache_life, costs_nothing};
use crate::auto::{Saved, note_saved};
use crate::rates::Ticket;

/// Tokens that a provider can report for one attempt: a thousand times the longest context there
/// is.
const REPORTED_TOKENS_MAX: u64 = 1_000_000_000;

/// The note on an attempt whose answer has something in it that its price does not say.
const NOTE_UNPRICED: &str = "unpriced";
/// The note on an attempt that was not sent, because it would have passed its target's limits.
const NOTE_SENT: &str = "sent";

/// One attempt, watched.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) call: Arc<Call>,
    pub(crate) target: Arc<Target>,
    pub(crate) attempt: AttemptId,
    pub(crate) terms: Terms,
    /// Why it was made, and as it was: of the Call, then of the attempt.
    pub(crate) notes: Notes,
    clock: SharedClock,
    pub(crate) began: Monotonic,
    first_content: Option<Monotonic>,
    reused_tokens: Option<u64>,
    end: Option<End>,
    bill: Bill,
    /// What its tier saved.
    pub(crate) saved: Option<Saved>,
    /// What its Call holds of limits on rate, until it has ended.
    pub(crate) rates: Option<Arc<Ticket>>,
}

/// How an attempt ended.
#[derive(Debug)]
struct End {
    at: Monotonic,
    error: Option<ErrorCode>,
    stop: Option<Stop>,
    usage: Option<Usage>,
    model_version: Option<String>,
    verdict: Verdict,
}

/// What is charged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Usage × price, where both are known.
    pub(crate) cost: Option<Money>,
    /// Goes to `settled`.
    pub(crate) settled: Money,
    /// Goes to `unreconciled`.
    pub(crate) unreconciled: Money,
    /// More than the bound.
    pub(crate) over_bound: bool,
}

impl Verdict {
    /// All that is charged.
    pub(crate) const fn charged(&self) -> Money {
        self.settled.saturating_add(self.unreconciled)
    }
}

impl Meter {
    pub(crate) fn new(
        call: Arc<Call>,
        target: Arc<Target>,
        attempt: AttemptId,
        terms: Terms,
        clock: SharedClock,
    ) -> Self {
        let (began, notes) = (clock.monotonic(), call.notes.clone());
        let bill = Bill { attempts: 1, output_cap: terms.output_cap, ..Bill::default() };
        Self {
            call,
            target,
            attempt,
            terms,
            notes,
            clock,
            began,
            first_content: None,
            reused_tokens: None,
            end: None,
            bill,
            saved: None,
            rates: None,
        }
    }

    /// What it measures time by.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Takes an event in. Answers the verdict if it was the last one.
    pub(crate) fn observe(&mut self, event: &OutcomeEvent) -> Option<Verdict> {
        match event {
            OutcomeEvent::Start(start) => {
                self.reused_tokens = start.reused_tokens;
                self.bill.dropped.clone_from(&start.dropped);
                self.bill.output_cap = self.bill.output_cap.or(start.output_cap);
                self.notes.extend(&start.notes);
                None
            }
            OutcomeEvent::Frame { .. } => {
                if self.first_content.is_none() {
                    self.first_content = Some(self.clock.monotonic());
                }
                None
            }
            OutcomeEvent::Finish(finish) => {
                let billed = Billed::from(finish.usage);
                let end = self.end(None, billed);
                end.stop = Some(finish.stop);
                end.model_version.clone_from(&finish.model_version);
                Some(end.verdict)
            }
            OutcomeEvent::Failed(failure) => {
                self.note(failure);
                Some(self.end(Some(failure.code), failure.billed.clone()).verdict)
            }
        }
    }

    /// Notes what is to be known of a failure.
    pub(crate) fn note(&mut self, failure: &Failure) {
        if failure.withheld {
            self.note_unsent();
        }
    }

    /// Notes that its target was never asked.
    pub(crate) fn note_unsent(&mut self) {
        self.notes.set(NOTE_SENT, false);
    }

    /// Ends it without a last event: its client went, or it was given up, or failed.
    pub(crate) fn abandon(&mut self, code: ErrorCode, billed: Billed) -> Verdict {
        self.end(Some(code), billed).verdict
    }

    fn end(&mut self, error: Option<ErrorCode>, billed: Billed) -> &mut End {
        let billed = self.believed(billed);
        let verdict = judge(self.target.price.as_deref(), self.terms, &billed);
        if verdict.over_bound {
            let (call, bound, cost) = (&self.call.id, self.terms.amount, verdict.settled);
            let target = &*self.target.name;
            tracing::error!(%call, target, %bound, %cost, "billed more than the bound: it was wrong");
        }
        (self.bill.cost, self.bill.over_bound) = (verdict.cost, verdict.over_bound);
        if let Some(rates) = self.rates.take() {
            rates.report(&billed, verdict.charged());
        }
        if let (Billed::Usage(usage), Some(price)) = (&billed, &self.target.price)
            && let Some(lacks) = price.lacks(usage)
        {
            self.notes.set(NOTE_UNPRICED, lacks);
        }
        let usage = match billed {
            Billed::Usage(usage) => Some(*usage),
            Billed::No | Billed::Unknown => None,
        };
        if let Some(usage) = usage.filter(|_| error.is_none()) {
            let bill = (usage, verdict.cost);
            self.saved = note_saved(&self.call, &self.target, bill, &mut self.notes);
        }
        self.end.insert(End {
            at: self.clock.monotonic(),
            error,
            stop: None,
            usage,
            model_version: None,
            verdict,
        })
    }

    /// Counting tokens is free, however it ends. A usage that no request can have is as good as
    /// none: its cost would only poison every sum.
    fn believed(&self, billed: Billed) -> Billed {
        match billed {
            _ if costs_nothing(&self.call) => Billed::No,
            Billed::Usage(ref usage)
                if usage.input_tokens > REPORTED_TOKENS_MAX
                    || usage.output_tokens > REPORTED_TOKENS_MAX =>
            {
                let (call, target) = (&self.call.id, &*self.target.name);
                tracing::error!(%call, target, ?usage, "the reported usage can't be true");
                Billed::Unknown
            }
            Billed::Usage(usage) => {
                Billed::from(Some(by_cache_life(*usage, &self.call, &self.target)))
            }
            Billed::No | Billed::Unknown => billed,
        }
    }

    /// What it costs so far.
    pub(crate) fn bill(&self) -> &Bill {
        &self.bill
    }

    /// What is charged; nothing before the end.
    pub(crate) fn verdict(&self) -> Verdict {
        self.end.as_ref().map(|end| end.verdict).unwrap_or_default()
    }

    /// Whether the last event has been seen.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// What is counted of it, once it has ended.
    pub(crate) fn facts(&self) -> Option<Facts> {
        let End { at, error, usage, .. } = self.end.as_ref()?;
        let since = |moment: Monotonic| moment.saturating_sub(self.began);
        let first_content = self.first_content.map(since);
        Some(Facts { error: *error, usage: *usage, took: since(*at), first_content })
    }

    /// When the first content came.
    pub(crate) const fn first_content(&self) -> Option<Monotonic> {
        self.first_content
    }

    /// What an exporter is told, once it has ended.
    pub(crate) fn ended(&self) -> Option<AttemptEnded> {
        let end = self.end.as_ref()?;
        let since = |moment: Monotonic| moment.saturating_sub(self.began);
        Some(AttemptEnded {
            call: Arc::clone(&self.call),
            target: Arc::clone(&self.target),
            attempt: self.attempt.clone(),
            began: self.began.saturating_sub(self.call.started),
            first_content: self.first_content.map(since),
            took: since(end.at),
            error: end.error,
            stop: end.stop,
            usage: end.usage,
            model_version: end.model_version.clone(),
        })
    }

    /// The row of the ledger.
    pub(crate) fn row(&self, charges: Vec<Charge>) -> LedgerRow {
        let Self { call, target, began, end, .. } = self;
        let end = end.as_ref();
        let verdict = self.verdict();
        let ended = end.map_or(*began, |end| end.at);
        let (kind, name) = kind_and_name(call);
        LedgerRow {
            call: call.id.clone(),
            attempt: self.attempt.clone(),
            parent: call.parent.clone(),
            account: call.principal.account.as_ref().to_owned(),
            key: call.principal.key.clone(),
            user: call.principal.user.as_ref().to_owned(),
            session: call.session.clone(),
            step: call.step.clone(),
            task: call.task.as_ref().to_owned(),
            class: call.class.as_ref().to_owned(),
            door: call.door,
            kind: kind.to_owned(),
            name,
            target: target.name.as_ref().to_owned(),
            error: end.and_then(|end| end.error),
            stop: end.and_then(|end| end.stop),
            usage: end.and_then(|end| end.usage),
            model_version: end.and_then(|end| end.model_version.clone()),
            price_version: target.price.as_ref().map(|price| price.version.clone()),
            cost: verdict.settled,
            unreconciled: verdict.unreconciled,
            reserved: self.terms.amount,
            over_bound: verdict.over_bound,
            output_cap: self.terms.output_cap,
            dropped: self.bill.dropped.clone(),
            metadata: call.metadata.clone(),
            notes: self.notes.clone(),
            started_at: call.started_at,
            first_content_us: self.first_content.map(|at| micros(at, call.started)),
            total_us: micros(ended, call.started),
            target_us: micros(ended, *began),
            reused_tokens: self.reused_tokens,
            charges,
        }
    }
}

/// The ledger's words for what was asked.
pub(crate) fn kind_and_name(call: &Call) -> (&'static str, String) {
    match &call.kind {
        CallKind::Model(model) => ("model", model.head.model.clone()),
        CallKind::Tool(tool) => ("tool", format!("{}/{}", tool.server, tool.tool)),
    }
}

fn micros(later: Monotonic, earlier: Monotonic) -> u64 {
    u64::try_from(later.saturating_sub(earlier).as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds of wall-clock time between two moments; zero if the clock went back.
pub(crate) fn wall_micros(later: Timestamp, earlier: Timestamp) -> u64 {
    u64::try_from(later.since(earlier).as_micros()).unwrap_or(u64::MAX)
}

/// What an attempt is charged, by what is known of its bill.
fn judge(price: Option<&Price>, terms: Terms, billed: &Billed) -> Verdict {
    match (billed, price) {
        (Billed::No, _) => Verdict { cost: Some(Money::ZERO), ..Verdict::default() },
        // The answer has something in it of which nobody knows the price.
        (Billed::Usage(usage), Some(price)) if price.lacks(usage).is_some() => {
            Verdict { unreconciled: terms.bound, ..Verdict::default() }
        }
        (Billed::Usage(usage), Some(price)) => {
            let cost = price.cost(usage);
            let over_bound = terms.amount > Money::ZERO && cost > terms.amount;
            Verdict { cost: Some(cost), settled: cost, unreconciled: Money::ZERO, over_bound }
        }
        (Billed::Usage(_), None) => Verdict::default(),
        (Billed::Unknown, price) => {
            let is_free = price.is_some_and(Price::is_free);
            let cost = is_free.then_some(Money::ZERO);
            Verdict { cost, unreconciled: terms.bound, ..Verdict::default() }
        }
    }
}

#[cfg(test)]
mod tests;
