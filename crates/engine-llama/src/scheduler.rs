//! The one thread that owns the model's state: continuous batching over all sequences.
//!
//! Each turn of the loop: take what came in, admit what waits, put one batch together (the next
//! token of every generation first, then at most [`PREFILL_TOKENS_MAX`] tokens of prompts, in
//! turns), compute it, draw a token for each sequence that has logits. So a cancel takes effect
//! within one batch, a long prompt delays others by one chunk, and a reader that does not
//! acknowledge stops only its own sequence.
//!
//! It must not render, compile or touch files: that is done before (`job.rs`) and elsewhere
//! (`kv_store/thread.rs`).

mod admit;
mod run;
mod slots;
mod step;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use engine::protocol::{EngineFailure, FailureCode, FromEngine, Stats};
use types::clock::SharedClock;

use crate::connection::Outbox;
use crate::job::{Job, JobOwner};
use crate::kv_store::{Found, Owner, Reply, Request, Saved, StoreThread};
use crate::llama::Context;
use crate::texts::Texts;
use crate::vocab::Vocab;
use run::{Draining, Phase, Run};
use slots::Slots;

/// Tokens of prompts in one batch. It bounds how long a running answer waits for its next token.
pub(crate) const PREFILL_TOKENS_MAX: usize = 256;
/// How often deadlines are looked at while nothing can be computed.
const IDLE_LOOK: Duration = Duration::from_millis(20);
/// Events that are handled before the next batch.
pub(crate) const EVENTS_PER_TURN: usize = 512;
/// Replies of the store that may wait: more than a turn of the loop can cause, so that the store
/// never waits for the scheduler while the scheduler waits for the store.
pub(crate) const REPLIES_MAX: usize = 4 * EVENTS_PER_TURN;

/// What comes in.
#[derive(Debug)]
pub(crate) enum Event {
    /// A generation that is ready to run.
    Job(Box<Job>),
    /// Texts that are ready to become vectors: for `vectors.rs`.
    Texts(Box<Texts>),
    /// End a request.
    Cancel(u64),
    /// Deltas were taken by their reader.
    Ack(u64, u32),
    /// Write all state to disk.
    Flush(u64),
    /// Forget a session.
    Drop(u64, Owner),
    /// Ask for figures.
    Stats(u64),
    /// The state store has replied: look there.
    Wake,
    /// Save everything and end.
    Stop,
}

/// What a scheduler works with.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The model's state.
    pub(crate) context: Context,
    /// Sequences of it.
    pub(crate) sequences: u32,
    /// The model's vocabulary.
    pub(crate) vocab: Arc<Vocab>,
    /// Where sessions' state is kept; none = in memory only.
    pub(crate) store: Option<StoreThread>,
    /// What the store says.
    pub(crate) replies: Receiver<Reply>,
}

/// The scheduler.
#[derive(Debug)]
pub(crate) struct Scheduler {
    context: Context,
    context_tokens: u32,
    vocab: Arc<Vocab>,
    store: Option<StoreThread>,
    replies: Receiver<Reply>,
    out: Outbox,
    clock: SharedClock,
    slots: Slots,
    waiting: VecDeque<Box<Job>>,
    runs: Vec<Run>,
    draining: Vec<Draining>,
    /// Which prompt is computed first in the next batch.
    turn: usize,
    next_ticket: u64,
    stats: Stats,
}

impl Scheduler {
    /// A scheduler over all sequences of the context.
    pub(crate) fn new(parts: Parts, out: Outbox, clock: SharedClock) -> Self {
        let Parts { context, sequences, vocab, store, replies } = parts;
        let context_tokens = context.context_per_sequence();
        Self {
            context,
            context_tokens,
            vocab,
            store,
            replies,
            out,
            clock,
            slots: Slots::new(sequences),
            waiting: VecDeque::new(),
            runs: Vec::new(),
            draining: Vec::new(),
            turn: 0,
            next_ticket: 0,
            stats: Stats::default(),
        }
    }

    /// Runs until it is told to stop or nobody can tell it anything any more; then saves every
    /// session.
    pub(crate) fn run(mut self, mailbox: &Receiver<Event>) {
        loop {
            if !self.receive(mailbox) {
                break;
            }
            self.end_overdue();
            self.admit();
            self.save_one();
            self.step();
        }
        self.stop();
    }

    /// Takes everything that came in, waiting if there is nothing to compute. `false`: stop.
    fn receive(&mut self, mailbox: &Receiver<Event>) -> bool {
        if !self.runs.iter().any(Run::can_compute) {
            let first = if self.is_empty() {
                mailbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                mailbox.recv_timeout(IDLE_LOOK)
            };
            let goes_on = match first {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            if !goes_on {
                return false;
            }
        }
        for event in mailbox.try_iter().take(EVENTS_PER_TURN) {
            if !self.handle(event) {
                return false;
            }
        }
        while let Ok(reply) = self.replies.try_recv() {
            self.store_replied(reply);
        }
        true
    }

    fn is_empty(&self) -> bool {
        self.runs.is_empty()
            && self.waiting.is_empty()
            && self.draining.is_empty()
            && !(self.store.is_some() && self.slots.any_dirty())
    }

    /// Handles one event; `false`: stop.
    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Job(job) => self.waiting.push_back(job),
            // What makes requests ready refuses these, as this model generates.
            Event::Texts(texts) => {
                self.out.send(FromEngine::Failed { id: texts.id, failure: cancelled() });
            }
            Event::Cancel(id) => self.end(id, &cancelled()),
            Event::Ack(id, deltas) => self.acknowledge(id, deltas),
            Event::Flush(id) => self.flush(id),
            Event::Drop(id, owner) => self.drop_session(id, owner),
            Event::Stats(id) => self.report(id),
            Event::Wake => {}
            Event::Stop => return false,
        }
        true
    }

    /// Ends the generation `id`, wherever it is, if it is still there.
    fn end(&mut self, id: u64, failure: &EngineFailure) {
        if let Some(at) = self.waiting.iter().position(|job| job.id == id) {
            self.waiting.remove(at);
        } else if let Some(at) = self.runs.iter().position(|run| run.job.id == id) {
            self.release(at);
        } else if let Some(at) = self.draining.iter().position(|draining| draining.id == id) {
            self.draining.remove(at);
        } else {
            return;
        }
        self.out.send(FromEngine::Failed { id, failure: failure.clone() });
    }

    /// Takes a run out; what its sequence holds stays there for the next turn.
    fn release(&mut self, at: usize) -> Run {
        let run = self.runs.remove(at);
        let restoring = matches!(run.phase, Phase::Restoring { .. });
        self.slots.release(run.slot, restoring);
        run
    }

    fn end_overdue(&mut self) {
        let now = self.clock.monotonic();
        let waiting = self.waiting.iter().map(|job| (job.id, job.deadline));
        let runs = self.runs.iter().map(|run| (run.job.id, run.job.deadline));
        let draining = self.draining.iter().map(|draining| (draining.id, draining.deadline));
        let overdue =
            |(_, deadline): &(u64, Option<Duration>)| deadline.is_some_and(|at| at <= now);
        let overdue: Vec<_> = waiting.chain(runs).chain(draining).filter(overdue).collect();
        for (id, _) in overdue {
            let message = "the deadline passed before the answer was whole";
            self.end(id, &EngineFailure::new(FailureCode::DeadlineExceeded, message));
        }
    }

    fn acknowledge(&mut self, id: u64, deltas: u32) {
        if let Some(run) = self.runs.iter_mut().find(|run| run.job.id == id) {
            run.sending.acknowledge(deltas);
            run.sending.flush(id, &self.out);
        }
        if let Some(at) = self.draining.iter().position(|draining| draining.id == id) {
            let draining = &mut self.draining[at];
            draining.sending.acknowledge(deltas);
            if draining.flush(&self.out) {
                self.draining.remove(at);
            }
        }
    }

    fn flush(&mut self, id: u64) {
        self.save_all();
        match &self.store {
            Some(store) => store.send(Request::Flush { id }),
            None => self.out.send(FromEngine::Flushed { id }),
        }
    }

    fn drop_session(&mut self, id: u64, owner: Owner) {
        let job_owner =
            JobOwner { account: owner.account.clone(), session: Some(owner.session.clone()) };
        let is_its = |job: &Job| job.owner == job_owner;
        let waiting = self.waiting.iter().filter(|job| is_its(job)).map(|job| job.id);
        let runs = self.runs.iter().filter(|run| is_its(&run.job)).map(|run| run.job.id);
        let ids: Vec<_> = waiting.chain(runs).collect();
        for running in ids {
            self.end(running, &cancelled());
        }
        if let Some(slot) = self.slots.idle_of(&job_owner) {
            self.slots.forget(slot);
            self.context.clear(slots::sequence(slot));
        }
        match &self.store {
            Some(store) => store.send(Request::Drop { id, owner }),
            None => self.out.send(FromEngine::Dropped { id }),
        }
    }

    fn report(&mut self, id: u64) {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let stats = Stats {
            active: count(self.runs.len()),
            waiting: count(self.waiting.len()),
            held_sessions: count(self.slots.sessions()),
            ..self.stats.clone()
        };
        self.out.send(FromEngine::Stats { id, stats });
    }

    fn store_replied(&mut self, reply: Reply) {
        match reply {
            Reply::Saved(saved, bytes) => {
                self.stats.saved_states += u64::from(saved == Saved::Done);
                self.stats.disk_bytes = bytes;
            }
            Reply::Loaded { ticket, found } => self.restored(ticket, found),
            Reply::Dropped { id } => self.out.send(FromEngine::Dropped { id }),
            Reply::Flushed { id } => self.out.send(FromEngine::Flushed { id }),
        }
    }

    /// A state was looked for on disk: the generation that waits for it goes on, with it or
    /// without.
    fn restored(&mut self, ticket: u64, found: Found) {
        self.stats.discarded_states += u64::from(found == Found::Discarded);
        let is_it =
            |run: &Run| matches!(run.phase, Phase::Restoring { ticket: it } if it == ticket);
        let Some(at) = self.runs.iter().position(is_it) else { return };
        if let Found::State(state) = found {
            let slot = self.runs[at].slot;
            let sequence = slots::sequence(slot);
            let fits = state.held.len() <= self.context_tokens as usize
                && self.context.set_state(sequence, &state.bytes)
                && self.context.held(sequence) == state.held.len();
            if fits {
                self.stats.restored_states += 1;
                self.slots.restored(slot, state.held, state.tail);
            } else {
                self.stats.discarded_states += 1;
                self.context.clear(sequence);
            }
        }
        self.begin(at, true);
    }

    /// Hands one session's state to the store, if one is unsaved and there is room: never more than
    /// one per batch.
    fn save_one(&mut self) {
        let Some(slot) = self.slots.oldest_dirty() else { return };
        let Some((owner, state)) = self.state_of(slot) else { return };
        let Some(store) = &self.store else { return };
        if store.try_send(Request::Save(owner, state)).is_ok() {
            self.slots.saved(slot);
        }
    }

    /// Hands every unsaved idle session's state to the store, waiting for room.
    fn save_all(&mut self) {
        while let Some(slot) = self.slots.oldest_dirty() {
            self.save_now(slot);
        }
    }

    fn save_now(&mut self, slot: usize) {
        if let (Some((owner, state)), Some(store)) = (self.state_of(slot), &self.store) {
            store.send(Request::Save(owner, state));
        }
        self.slots.saved(slot);
    }

    fn stop(mut self) {
        let message = "the engine is stopping; ask again in a moment";
        let failure = EngineFailure::new(FailureCode::ShuttingDown, message);
        let waiting = self.waiting.iter().map(|job| job.id);
        let ids: Vec<_> = waiting.chain(self.runs.iter().map(|run| run.job.id)).collect();
        for id in ids {
            self.end(id, &failure);
        }
        for mut draining in std::mem::take(&mut self.draining) {
            draining.sending.acknowledge(u32::MAX);
            draining.flush(&self.out);
        }
        self.save_all();
        // Dropping the store waits until all of it is written.
    }
}

/// The failure of what was cancelled.
pub(crate) fn cancelled() -> EngineFailure {
    EngineFailure::new(FailureCode::Cancelled, "cancelled")
}
