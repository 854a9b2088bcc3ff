//! The attempts of one Call: one after the other, or two beside each other, until a target
//! answers.
//!
//! A name that allows one attempt passes that attempt's events straight through. Else the head of
//! an answer is held until its first content, and an answer that is not streamed until it is whole:
//! up to there another attempt can take its place, and nobody has seen it. After it, one can go on
//! with plain text where its target continues what was begun ([`continued`]). Each attempt has its
//! own row in the ledger. Invariants: no attempt is sent that is not paid for at its bound beside
//! all that earlier ones may have cost; between attempts nothing runs; dropping this ends what
//! runs, and gives back what is held. It must not know a provider or a format.
//!
//! What pays for which attempt: `docs/decisions/0004-attempts-and-money.md`.

mod cascade;
mod continued;
pub(crate) mod drained;
mod failed;
mod hedge;
pub(crate) mod late;
mod money;
mod running;
mod shown;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use storage::Budget;
use types::call::{RoutePolicy, Target};
use types::clock::{Monotonic, SharedClock, Sleep};
use types::error::Billed;
use types::execute::Patience;
use types::ids::AttemptId;
use types::outcome::Delta;
use types::{Call, ErrorCode, Failure, Ids, Money, OutcomeEvent, Sent};

use super::{Wanted, execute};
use crate::admit::{Admission, Escrow, First, Reserved, Short};
use crate::auto::opinion::Tape;
use crate::context::{ContextNote, Edited, Summaries};
use crate::identify::directory::Directory;
use crate::rates::Ticket;
use crate::record::answer::Bill;
use crate::record::meter::Meter;
use crate::record::telemetry::Watch;
use crate::record::{Place, Recorder};
use crate::route::health::{Health, Probe};
use crate::route::{Route, has_choice, went_well};
use cascade::{Cascade, Judging};
use drained::Drains;
use hedge::Hedge;
use money::ToppedUp;
use running::{Paid, Running};
use shown::Shown;

/// Events of an answer that are held back at most: more than any answer has tokens. What comes
/// after them is shown as it comes.
const HELD_EVENTS_MAX: usize = 1 << 17;

/// What the attempts of all Calls share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) escrow: Escrow,
    pub(crate) recorder: Recorder,
    pub(crate) health: Arc<Health>,
    pub(crate) clock: SharedClock,
    pub(crate) ids: Arc<Ids>,
    pub(crate) summaries: Summaries,
    /// Who may ask what, for Calls that a Call spawns.
    pub(crate) directory: Arc<Directory>,
    /// Who reads on what nobody waits for.
    pub(crate) drains: Drains,
}

/// The attempts of one Call.
pub(crate) struct Attempts {
    pub(crate) call: Arc<Call>,
    budgets: Arc<[Arc<Budget>]>,
    shared: Arc<Shared>,
    /// Targets that were not asked yet, in order of preference.
    left: Vec<Route>,
    state: State,
    /// Attempts so far.
    made: u32,
    /// Of these, the last ones at the same target.
    in_a_row: u32,
    /// What those that have ended were charged, and what was paid before them.
    charged: Money,
    /// One of them may have cost money.
    perhaps_billed: bool,
    /// The first failure, and whose it was.
    first: Option<(Arc<Target>, Failure)>,
    /// The bill of those that have ended.
    bill: Bill,
    /// The target of the newest.
    target: Arc<Target>,
    /// The Call as the newest one's target is told it, if that is not as it came.
    edited: Option<Arc<Edited>>,
    /// What follows the event that was answered last.
    ready: VecDeque<OutcomeEvent>,
    /// A second attempt beside the one that runs.
    hedge: Hedge,
    /// Targets that turned the Call away: asked once more, they may take their time.
    turned_away: Vec<Arc<Target>>,
    /// What came of judging its answers, if they are judged.
    cascade: Option<Box<Cascade>>,
    /// What the client has seen, where another attempt may go on with it.
    shown: Shown,
    /// What is held of limits on rate, until the last of them has ended.
    rates: Option<Arc<Ticket>>,
    /// When its time is over, if it was given one.
    late: Option<Sleep>,
}

/// What of an answer is held back, so that another can take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    /// What comes before its content.
    Head,
    /// All of it: nobody is shown a part.
    Whole,
}

enum State {
    Trying(Box<Running>),
    Waiting {
        timer: Sleep,
        next: Planned,
    },
    ToppingUp {
        asked: Asked,
        next: Planned,
    },
    /// An answer is whole, and a model is asked how good it is.
    Judging(Box<Judging>),
    Over,
}

/// Money that the budgets were asked for.
type Asked = Pin<Box<dyn Future<Output = Result<ToppedUp, Short>> + Send>>;

/// An attempt that is to be made.
struct Planned {
    route: Route,
    probe: Option<Probe>,
    reserved: Reserved,
    place: Place,
}

impl Attempts {
    /// Starts the first one. `candidates` are the others.
    pub(crate) fn begin(
        admission: Admission,
        first: First,
        candidates: Vec<Route>,
        shared: Arc<Shared>,
    ) -> Box<Self> {
        let Admission { call, budgets, mut reserved, place, spent, .. } = admission;
        let First { route, probe, of_target } = first;
        reserved.of_target = of_target;
        let cascade = Cascade::new(&call, &candidates, &route);
        let goes_on = |route: &Route| route.executor.continues(&route.target);
        let has_fallback = call.plan.policy.attempts_max > 1;
        let may_go_on = has_fallback && (goes_on(&route) || candidates.iter().any(goes_on));
        let late = late::timer(&call, &*shared.clock);
        let mut attempts = Box::new(Self {
            call,
            budgets,
            shared,
            left: candidates,
            state: State::Over,
            made: 0,
            in_a_row: 1,
            charged: spent,
            perhaps_billed: false,
            first: None,
            bill: Bill { cost: Some(Money::ZERO), ..Bill::default() },
            target: Arc::clone(&route.target),
            ready: VecDeque::new(),
            hedge: Hedge::Off,
            turned_away: Vec::new(),
            shown: Shown::new(may_go_on),
            edited: None,
            cascade,
            rates: None,
            late,
        });
        attempts.start(Planned { route, probe, reserved, place });
        attempts
    }

    /// What they use counts for what `ticket` holds.
    pub(crate) fn count_for(&mut self, ticket: Option<Arc<Ticket>>) {
        if let State::Trying(running) = &mut self.state {
            running.meter.rates.clone_from(&ticket);
        }
        self.rates = ticket;
    }

    /// Whether limits on rate have room for one attempt more, `beside` one that runs or after it.
    fn rates_cover(&self, beside: bool) -> bool {
        let now = self.shared.clock.monotonic();
        self.rates.as_ref().is_none_or(|ticket| ticket.cover(beside, now))
    }

    /// The target of the newest attempt: of the answer, once there is one.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Who is told of the Call's end, from its first attempt on.
    pub(crate) fn watched(&self) -> Option<Box<Watch>> {
        let State::Trying(running) = &self.state else { return None };
        let Shared { recorder, clock, .. } = &*self.shared;
        Watch::new(recorder.telemetry(), clock, &self.call, &self.target, running.meter.began)
    }

    /// What reads the answer along, if there is to be a second opinion on its tier.
    pub(crate) fn tape(&self) -> Option<Box<Tape>> {
        Tape::begin(&self.shared, &self.call)
    }

    /// When the running attempt first had content.
    pub(crate) fn first_content(&self) -> Option<Monotonic> {
        match &self.state {
            State::Trying(running) => running.meter.first_content(),
            State::Waiting { .. } | State::ToppingUp { .. } | State::Judging(_) | State::Over => {
                None
            }
        }
    }

    /// What was done with the history that the newest attempt's target was told.
    pub(crate) fn context(&self) -> Option<&ContextNote> {
        self.edited.as_ref().map(|edited| &edited.note)
    }

    /// What those that have ended were charged, and what else was paid for this Call.
    pub(crate) fn charged(&self) -> Money {
        self.charged
    }

    /// What they are charged at most if they are given up now.
    pub(crate) fn at_most(&self) -> Money {
        match &self.state {
            State::Trying(running) if running.billed_so_far() == Billed::No => self.charged,
            State::Trying(running) => self.charged.saturating_add(running.meter.terms.bound),
            State::Judging(judging) => {
                self.charged.saturating_add(judging.running.meter.verdict().charged())
            }
            State::Waiting { .. } | State::ToppingUp { .. } | State::Over => self.charged,
        }
    }

    /// What all of them cost.
    pub(crate) fn bill(&self) -> Bill {
        match &self.state {
            State::Trying(running) => self.with(running.meter.bill()),
            State::Judging(judging) => self.with(judging.running.meter.bill()),
            State::Waiting { .. } | State::ToppingUp { .. } | State::Over => self.bill.clone(),
        }
    }

    /// Whether nothing more will come.
    pub(crate) fn are_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The answer's next event; `None` after its last.
    pub(crate) fn poll_event(&mut self, ctx: &mut Context<'_>) -> Poll<Option<OutcomeEvent>> {
        if let Some(event) = self.ready.pop_front() {
            return Poll::Ready(Some(event));
        }
        loop {
            if let Some(event) = self.poll_late(ctx) {
                self.rates = None;
                return Poll::Ready(Some(event));
            }
            let answered = match &mut self.state {
                State::Over => return Poll::Ready(None),
                State::Trying(running) => match running.poll_event(ctx) {
                    Poll::Ready(event) => self.take(event),
                    Poll::Pending => ready!(self.poll_hedge(ctx)),
                },
                State::Waiting { timer, .. } => {
                    ready!(timer.as_mut().poll(ctx));
                    self.waited()
                }
                State::ToppingUp { asked, .. } => {
                    let answer = ready!(asked.as_mut().poll(ctx));
                    self.topped_up(answer)
                }
                State::Judging(judging) => {
                    let verdict = ready!(judging.asked.as_mut().poll(ctx));
                    self.told(&verdict)
                }
            };
            if answered.is_some() {
                if self.are_over() {
                    // Whoever waits for its place need not wait for its reader.
                    self.rates = None;
                }
                return Poll::Ready(answered);
            }
        }
    }

    fn policy(&self) -> &RoutePolicy {
        &self.call.plan.policy
    }

    /// Takes an event of the running attempt. Answers what the client may see of it now.
    fn take(&mut self, mut event: OutcomeEvent) -> Option<OutcomeEvent> {
        if let OutcomeEvent::Failed(failure) = event {
            return self.failed(*failure);
        }
        if self.thinks_anew(&event) {
            let text = "the rest of an answer came as the thinking before another one";
            // It would do so again, and is well but for that.
            let failure = Failure::new(ErrorCode::Unsupported, text).billed(Billed::Unknown);
            return self.failed(failure);
        }
        let hold = self.hold();
        let State::Trying(running) = &mut self.state else { return Some(event) };
        let hold = if running.takes_to_judge(&event) { Held::Whole } else { hold };
        let is_last = running.meter.observe(&event).is_some();
        if let (Some(continued), OutcomeEvent::Finish(finish)) =
            (&running.route.continued, &mut event)
        {
            let of_whole = |usage| continued::usage_of_whole(&usage, continued.said_tokens);
            finish.usage = finish.usage.map(of_whole);
        }
        let goes_on = running.route.continued.is_some();
        if goes_on && matches!(event, OutcomeEvent::Start(_)) {
            // The answer that it goes on with has begun.
            event = self.begins_behind()?;
        }
        let State::Trying(running) = &mut self.state else { return Some(event) };
        let is_content = matches!(event, OutcomeEvent::Frame { .. });
        if is_content && !running.has_content {
            running.has_begun();
        }
        if (is_content || is_last) && !matches!(self.hedge, Hedge::Off) {
            self.end_hedge();
        }
        let State::Trying(running) = &mut self.state else { return Some(event) };
        let event = continued::without(&mut running.overlap, event)?;
        if hold == Held::Head {
            self.shown.see(self.call.model().map(|model| model.format), &event);
        }
        let held_back = match hold {
            Held::Nothing => false,
            Held::Head => !is_content,
            Held::Whole => running.held.len() < HELD_EVENTS_MAX,
        };
        if held_back && !is_last && !running.has_content {
            running.held.push_back(event);
            return None;
        }
        if is_last && running.is_judged() {
            running.held.push_back(event);
            return self.judge();
        }
        if is_content && !running.has_content {
            running.shows_content();
        }
        let held = std::mem::take(&mut running.held);
        if is_last {
            self.finished();
        }
        if held.is_empty() {
            return Some(event);
        }
        self.ready = held;
        self.ready.push_back(event);
        self.ready.pop_front()
    }

    /// What of an answer is held back.
    /// Whether an attempt that was given words to go on with begins to think: some servers take
    /// what a model says before its mark for that, which would be the rest of the answer.
    fn thinks_anew(&self, event: &OutcomeEvent) -> bool {
        let State::Trying(running) = &self.state else { return false };
        let goes_on = running.route.continued.as_ref().is_some_and(|it| it.said_tokens > 0);
        goes_on && matches!(event, OutcomeEvent::Frame { delta: Some(Delta::Reasoning { .. }), .. })
    }

    fn hold(&self) -> Held {
        let streams = self.call.model().is_some_and(|model| model.head.stream);
        match self.policy().attempts_max > 1 {
            false => Held::Nothing,
            true if streams => Held::Head,
            true => Held::Whole,
        }
    }

    fn finished(&mut self) {
        let State::Trying(running) = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        let mut running = *running;
        self.tell_well(&running);
        self.note_given(&mut running.meter, None);
        self.end(running, false);
    }

    fn tell_well(&self, running: &Running) {
        if has_choice(&self.call) {
            let now = self.shared.clock.monotonic();
            went_well(&self.shared.health, &running.meter, now);
        }
    }

    fn start(&mut self, planned: Planned) {
        let running = self.run(planned);
        self.target = Arc::clone(&running.route.target);
        self.edited.clone_from(&running.route.edited);
        self.state = State::Trying(Box::new(running));
        self.set_hedge();
    }

    fn run(&mut self, planned: Planned) -> Running {
        let Planned { route, probe, reserved, place } = planned;
        let attempt = AttemptId::new(&self.shared.ids);
        let policy = &self.call.plan.policy;
        self.made += 1;
        let takes_it = |other: &Route| !self.turned_away.contains(&other.target);
        let goes_on = self.made < policy.attempts_max && self.left.iter().any(takes_it);
        let patience =
            Patience { wait_max: policy.local_wait_max, queue_max: policy.local_queue_max };
        let waits = !goes_on || self.turned_away.contains(&route.target);
        let wanted = Wanted {
            decode: route.continued.is_some(),
            continues: route.continued.as_ref().is_some_and(|it| it.said_tokens > 0),
            hold_preamble: policy.attempts_max > 1,
            logprobs: goes_on && self.wants_logprobs(),
            patience: (!waits).then_some(patience),
        };
        let sent = Sent::default();
        let overlap = self.overlap(&route);
        let outcome = execute(&self.call, &route, attempt.clone(), wanted, &sent);
        let streams = self.call.model().is_some_and(|model| model.head.stream);
        let limit = policy.first_token_at(&route.target).filter(|_| goes_on && streams);
        let first_token = limit.map(|limit| (limit, self.shared.clock.sleep(limit)));
        let (call, clock) = (Arc::clone(&self.call), Arc::clone(&self.shared.clock));
        let mut meter = Meter::new(call, Arc::clone(&route.target), attempt, route.terms, clock);
        meter.rates.clone_from(&self.rates);
        route.note(&mut meter.notes);
        // The beginning of an answer that is continued was shown: nobody can take it back.
        let is_judged = goes_on && self.cascade.is_some() && route.continued.is_none();
        Running {
            route,
            outcome,
            meter,
            money: Paid::Held(reserved),
            place,
            probe,
            first_token,
            held: VecDeque::new(),
            held_bytes: is_judged.then_some(0),
            has_content: false,
            overlap,
            polled: false,
            sent,
        }
    }

    /// Ends an attempt: its row, and what is left for the next one if its money is handed on.
    fn end(&mut self, running: Running, hands_on: bool) -> Reserved {
        self.bill = self.with(running.meter.bill());
        self.charged = self.charged.saturating_add(running.meter.verdict().charged());
        running.end(hands_on)
    }

    /// The bill of those that have ended and this one.
    fn with(&self, newest: &Bill) -> Bill {
        let cost = match (self.bill.cost, newest.cost) {
            (Some(before), Some(cost)) => Some(before.saturating_add(cost)),
            (Some(_) | None, _) => None,
        };
        let over_bound = self.bill.over_bound || newest.over_bound;
        Bill { cost, attempts: self.made, over_bound, ..newest.clone() }
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        // What waits holds nothing but money, which gives itself back.
        match std::mem::replace(&mut self.state, State::Over) {
            State::Trying(running) => self.shared.drains.take(*running),
            State::Judging(judging) => judging.running.leave(),
            State::Waiting { .. } | State::ToppingUp { .. } | State::Over => {}
        }
        if let Some(rival) = self.take_rival() {
            rival.abandon();
        }
    }
}
