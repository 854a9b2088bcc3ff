//! From the queue into a slot: where a generation runs, and how much of its prompt is held there
//! already.

use engine::protocol::{EngineFailure, FailureCode, FromEngine, ReusedFrom};

use super::Scheduler;
use super::run::{Phase, Run};
use super::slots::{self, Place};
use crate::job::{Job, context_exceeded};
use crate::kv_store::{Owner, Request, State};
use crate::prompt;

impl Scheduler {
    /// Gives slots to what waits, oldest first; a session's next turn waits for its last.
    pub(super) fn admit(&mut self) {
        let mut at = 0;
        while at < self.waiting.len() {
            let job = &self.waiting[at];
            let has_session = job.owner.session.is_some();
            if has_session && self.runs.iter().any(|run| run.job.owner == job.owner) {
                at += 1;
                continue;
            }
            let Some(place) = self.slots.find(&job.owner, &job.tokens) else { return };
            let Some(job) = self.waiting.remove(at) else { return };
            if let Err(job) = self.start(job, place) {
                self.waiting.insert(at, job);
                return;
            }
        }
    }

    /// Starts a job in a slot; gives it back if the store has no room for its question now.
    fn start(&mut self, mut job: Box<Job>, place: Place) -> Result<(), Box<Job>> {
        let (slot, phase) = match place {
            Place::Held(slot) => (slot, Phase::Prefill),
            Place::Empty(slot) => {
                let Some(phase) = self.ask_store(&job) else { return Err(job) };
                self.evict(slot);
                (slot, phase)
            }
        };
        self.slots.take(slot, &job.owner, job.persist);
        job.place = None;
        let reading = matches!(phase, Phase::Restoring { .. });
        self.runs.push(Run::new(job, slot, phase));
        if !reading {
            self.begin(self.runs.len() - 1, false);
        }
        Ok(())
    }

    /// Asks for the session's state on disk, if it can have one. `None`: there is no room for the
    /// question.
    fn ask_store(&mut self, job: &Job) -> Option<Phase> {
        let (Some(store), Some(session)) = (&self.store, &job.owner.session) else {
            return Some(Phase::Prefill);
        };
        if !job.persist {
            return Some(Phase::Prefill);
        }
        let ticket = self.next_ticket;
        let owner = Owner { account: job.owner.account.clone(), session: session.clone() };
        store.try_send(Request::Load { ticket, owner }).ok()?;
        self.next_ticket += 1;
        Some(Phase::Restoring { ticket })
    }

    /// Empties an idle slot; an unsaved session is saved first.
    fn evict(&mut self, slot: usize) {
        if self.slots.get(slot).is_unsaved() {
            self.save_now(slot);
        }
        self.slots.forget(slot);
        self.context.clear(slots::sequence(slot));
    }

    /// A session's state as it is saved; `None` if the slot holds no session or nothing.
    pub(super) fn state_of(&mut self, slot: usize) -> Option<(Owner, State)> {
        self.store.as_ref()?;
        let held = self.slots.get(slot);
        let owner = held.owner()?;
        let session = owner.session.clone()?;
        let owner = Owner { account: owner.account.clone(), session };
        let (tokens, tail) = (held.held.clone(), held.tail.clone());
        let bytes = self.context.state(slots::sequence(slot));
        Some((owner, State { held: tokens, tail, bytes }))
    }

    /// The slot holds what it will hold: makes the prompt's tokens and keeps what is common.
    pub(super) fn begin(&mut self, at: usize, from_disk: bool) {
        let run = &mut self.runs[at];
        let slot = self.slots.get_mut(run.slot);
        let mut spelled = slot.held.clone();
        spelled.append(&mut slot.tail);
        let plain = &run.job.tokens;
        let tokens = prompt::extend(self.vocab.as_ref(), &spelled, &run.job.prompt, plain);
        let room = tokens
            .as_ref()
            .map_or(0, |tokens| (self.context_tokens as usize).saturating_sub(tokens.len()));
        let Ok(tokens) = tokens else {
            return self.refuse(at, &too_long());
        };
        if room == 0 {
            return self.refuse(at, &context_exceeded(tokens.len(), self.context_tokens));
        }
        // The last token is computed in any case: its logits are needed.
        let mut reused = prompt::common_prefix(&slot.held, &tokens).min(tokens.len() - 1);
        let sequence = slots::sequence(run.slot);
        if reused < slot.held.len() && !self.context.truncate(sequence, reused) {
            // Recurrent and sliding-window models can't go back a part of the way.
            self.context.clear(sequence);
            reused = 0;
        }
        slot.held.truncate(reused);
        run.reused = reused;
        run.reused_from = match (reused, from_disk) {
            (0, _) => ReusedFrom::Nothing,
            (_, true) => ReusedFrom::Disk,
            (_, false) => ReusedFrom::Memory,
        };
        run.tokens_max = run.job.tokens_max.min(u32::try_from(room).unwrap_or(u32::MAX));
        run.prompt = tokens;
        run.phase = Phase::Prefill;
        self.stats.reused_tokens += reused as u64;
        self.out.send(FromEngine::Started {
            id: run.job.id,
            prompt_tokens: run.prompt.len() as u64,
            reused_tokens: reused as u64,
            reused_from: run.reused_from,
        });
    }

    fn refuse(&mut self, at: usize, failure: &EngineFailure) {
        let id = self.runs[at].job.id;
        self.end(id, failure);
    }
}

fn too_long() -> EngineFailure {
    EngineFailure::new(FailureCode::ContextLengthExceeded, "the prompt is too long to be tokenized")
}
