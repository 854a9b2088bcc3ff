//! One attempt that runs, with the money that it holds and the place where its end is written.
//!
//! Invariant: it ends in exactly one row, by [`Running::end`] or [`Running::abandon`].

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use storage::Charge;
use types::clock::Sleep;
use types::error::Billed;
use types::{ErrorCode, Failure, Money, OutcomeEvent, OutcomeStream, Sent};

use crate::admit::Reserved;
use crate::execute::late;
use crate::record::answer::no_end;
use crate::record::meter::Meter;
use crate::record::{Ended, Place, Settlement};
use crate::route::Route;
use crate::route::health::{Health, Probe};

/// The attempt.
pub(super) struct Running {
    pub(super) route: Route,
    pub(super) outcome: OutcomeStream,
    pub(super) meter: Meter,
    pub(super) money: Paid,
    pub(super) place: Place,
    pub(super) probe: Option<Probe>,
    /// How long the first content may take, and the timer for it.
    pub(super) first_token: Option<(Duration, Sleep)>,
    /// What of it is held back: its head until there is content, or all of it.
    pub(super) held: VecDeque<OutcomeEvent>,
    /// Bytes that are held, while it is to be judged; `None` = it is not.
    pub(super) held_bytes: Option<usize>,
    /// Whether the client may have seen a part of it.
    pub(super) has_content: bool,
    /// What it may repeat of what the client has seen, where it goes on with an answer.
    pub(super) overlap: String,
    /// Whether work has begun: it happens as the stream is polled.
    pub(super) polled: bool,
    /// Whether its target may have been asked since.
    pub(super) sent: Sent,
}

/// Its money.
pub(super) enum Paid {
    /// Held until its cost is known.
    Held(Reserved),
    /// It costs nothing: settled.
    Free(Vec<Charge>),
}

impl Running {
    pub(super) fn poll_event(&mut self, ctx: &mut Context<'_>) -> Poll<OutcomeEvent> {
        self.polled = true;
        if let Poll::Ready(event) = self.outcome.as_mut().poll_next(ctx) {
            let meter = &self.meter;
            let event = event.unwrap_or_else(no_end);
            return Poll::Ready(late::seen(&meter.call, meter.clock(), event));
        }
        let Some((limit, timer)) = &mut self.first_token else { return Poll::Pending };
        match timer.as_mut().poll(ctx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(too_late(*limit, self.sent.may_be())),
        }
    }

    /// What it may be billed if it is given up now.
    pub(super) fn billed_so_far(&self) -> Billed {
        if self.polled && self.sent.may_be() { Billed::Unknown } else { Billed::No }
    }

    /// Ends it in the middle: nobody waits for it any more.
    pub(super) fn give_up(&mut self) {
        let billed = self.billed_so_far();
        if billed == Billed::No {
            self.meter.note_unsent();
        }
        self.meter.abandon(ErrorCode::Cancelled, billed);
    }

    /// Its target answers.
    pub(super) fn has_begun(&mut self) {
        self.first_token = None;
        if let Some(probe) = &self.probe.take() {
            Health::answers(probe);
        }
    }

    /// From here on no other attempt can take its place.
    pub(super) fn shows_content(&mut self) {
        self.has_content = true;
        let is_free = self.meter.terms.amount == Money::ZERO;
        if let Paid::Held(reserved) = &mut self.money
            && is_free
        {
            // What was held for a dearer target need not wait for this one's end.
            let charges = std::mem::take(reserved).settle(Money::ZERO, Money::ZERO);
            self.money = Paid::Free(charges);
        }
    }

    /// Ends it as its meter says: writes its row. Answers what it held if that is handed on, and
    /// then nothing was charged.
    pub(super) fn end(self, hands_on: bool) -> Reserved {
        let Self { outcome, meter, money, place, .. } = self;
        // Cancelled before its money is free again.
        drop(outcome);
        let verdict = meter.verdict();
        let (charges, left) = match money {
            Paid::Held(reserved) if hands_on => (Vec::new(), reserved),
            Paid::Held(reserved) => {
                (reserved.settle(verdict.settled, verdict.unreconciled), Reserved::default())
            }
            Paid::Free(charges) => (charges, Reserved::default()),
        };
        place.fill(Ended { meter, money: Settlement::Done(charges) });
        left
    }

    /// Ends it, whole as it is, because its client went. Only sends a message.
    pub(super) fn leave(self) {
        let Self { meter, money, place, .. } = self;
        let money = match money {
            Paid::Held(reserved) => Settlement::Open(reserved.into_holds()),
            Paid::Free(charges) => Settlement::Done(charges),
        };
        place.fill(Ended { meter, money });
    }

    /// Ends it because its client went. Only sends a message: the recorder settles.
    pub(super) fn abandon(mut self) {
        self.give_up();
        self.leave();
    }
}

/// A target that was asked may have begun, and what it has done may be on the bill.
fn too_late(limit: Duration, was_sent: bool) -> OutcomeEvent {
    let failure = match was_sent {
        true => {
            let message = format!("the provider showed no content within {limit:?}");
            Failure::new(ErrorCode::UpstreamTimeout, message).billed(Billed::Unknown)
        }
        false => {
            let message = format!("nothing could be sent to the provider within {limit:?}");
            let failure = Failure::new(ErrorCode::UpstreamTimeout, message);
            Failure { withheld: true, ..failure }
        }
    };
    OutcomeEvent::Failed(Box::new(failure))
}
