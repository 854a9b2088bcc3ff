//! One batch: put together, computed, and a token drawn for each sequence that has logits.

use engine::protocol::{EngineFailure, FailureCode, FromEngine, StopReason, TokenUsage};

use super::run::{Draining, Phase, Run};
use super::slots;
use super::{PREFILL_TOKENS_MAX, Scheduler};
use crate::constraint::{self, Drawn};
use crate::llama::Token;

/// A run's part of the batch.
#[derive(Debug)]
struct Part {
    id: u64,
    slot: usize,
    tokens: Vec<Token>,
    /// Whether the last of them needs logits.
    draws: bool,
    /// Where the last of them stands in the batch.
    index: i32,
}

impl Scheduler {
    /// Computes one batch, if there is something to compute.
    pub(super) fn step(&mut self) {
        let mut parts = self.parts();
        if parts.is_empty() {
            return;
        }
        // llama.cpp computes neighbouring sequences together, in this order.
        parts.sort_by_key(|part| part.slot);
        self.context.batch_clear();
        for part in &mut parts {
            self.add(part);
        }
        if let Err(error) = self.context.decode() {
            tracing::error!(%error, "a batch failed");
            return self.fail_batch(&parts);
        }
        for part in parts {
            self.computed(&part);
        }
    }

    /// What belongs into the batch: every generation's next token, then prompts in turns.
    fn parts(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut prompts = Vec::new();
        for run in self.runs.iter().filter(|run| run.can_compute()) {
            match run.phase {
                Phase::Decode { next } => parts.push(Part::new(run, vec![next], true)),
                Phase::Prefill => prompts.push(run),
                Phase::Restoring { .. } => {}
            }
        }
        if prompts.is_empty() {
            return parts;
        }
        self.turn = (self.turn + 1) % prompts.len();
        prompts.rotate_left(self.turn);
        let mut room = PREFILL_TOKENS_MAX;
        for run in prompts {
            let held = self.slots.get(run.slot).held.len();
            let count = room.min(run.prompt.len() - held);
            if count == 0 {
                break;
            }
            room -= count;
            let draws = held + count == run.prompt.len();
            parts.push(Part::new(run, run.prompt[held..held + count].to_vec(), draws));
        }
        parts
    }

    fn add(&mut self, part: &mut Part) {
        let held = self.slots.get(part.slot).held.len();
        let last = part.tokens.len().saturating_sub(1);
        for (offset, token) in part.tokens.iter().enumerate() {
            let draws = part.draws && offset == last;
            let sequence = slots::sequence(part.slot);
            // The batch has room for every sequence and a whole chunk, see `main.rs`.
            if let Some(index) = self.context.batch_add(*token, held + offset, sequence, draws) {
                part.index = index;
            }
        }
    }

    /// What is held is unknown after a failed batch: its sequences are emptied, its generations
    /// fail.
    fn fail_batch(&mut self, parts: &[Part]) {
        for part in parts {
            let message = "the model could not be computed";
            let failure = EngineFailure::new(FailureCode::Internal, message);
            self.fail(part.id, part.slot, &failure);
        }
    }

    fn fail(&mut self, id: u64, slot: usize, failure: &EngineFailure) {
        self.end(id, failure);
        self.slots.forget(slot);
        self.context.clear(slots::sequence(slot));
    }

    fn computed(&mut self, part: &Part) {
        self.slots.get_mut(part.slot).held.extend_from_slice(&part.tokens);
        let Some(at) = self.runs.iter().position(|run| run.job.id == part.id) else { return };
        if matches!(self.runs[at].phase, Phase::Prefill) {
            self.stats.prefilled_tokens += part.tokens.len() as u64;
        }
        if !part.draws {
            return;
        }
        match self.draw(at, part.index) {
            Ok(drawn) => self.drawn(at, drawn),
            Err(error) => {
                let failure = EngineFailure::new(failure_code(&error), error.to_string());
                tracing::warn!(id = part.id, %error, "no token could be drawn");
                self.fail(part.id, part.slot, &failure);
            }
        }
    }

    fn draw(&mut self, at: usize, index: i32) -> Result<Drawn, constraint::Error> {
        let run = &mut self.runs[at];
        let logits = self.context.logits(index).ok_or(constraint::Error::Logits)?;
        let left = run.tokens_max.saturating_sub(run.drawn + 1) as usize;
        let job = run.job.as_mut();
        let marker_part = job.output.open_marker_part();
        job.constraint.draw(&mut job.sampler, &self.vocab, logits, marker_part, left)
    }

    /// A token was drawn: its text is read and sent, and the generation goes on or ends.
    fn drawn(&mut self, at: usize, drawn: Drawn) {
        let run = &mut self.runs[at];
        if run.drawn == 0 {
            let waited = self.clock.monotonic().saturating_sub(run.job.taken);
            run.first_token_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        }
        run.drawn += 1;
        self.stats.decoded_tokens += 1;
        run.job.sampler.accept(drawn.token);
        let mut pieces = Vec::new();
        run.job.output.push(self.vocab.output_text(drawn.token), &mut pieces);
        run.sending.push(&mut pieces, 1);
        run.phase = Phase::Decode { next: drawn.token };
        if let Some(stop) = stop_reason(run, drawn) {
            return self.finish(at, stop, drawn.token);
        }
        run.sending.flush(run.job.id, &self.out);
    }

    fn finish(&mut self, at: usize, stop: StopReason, last: Token) {
        // The last token was drawn and not computed: its state is missing, its text is not.
        self.slots.get_mut(self.runs[at].slot).tail = vec![last];
        let mut run = self.release(at);
        let mut pieces = Vec::new();
        run.job.output.finish(&mut pieces);
        run.sending.push(&mut pieces, 0);
        let usage = TokenUsage {
            prompt_tokens: run.prompt.len() as u64,
            reused_tokens: run.reused as u64,
            completion_tokens: u64::from(run.drawn),
            first_token_us: run.first_token_us,
        };
        let id = run.job.id;
        let done = Some(FromEngine::Done { id, stop, usage });
        let deadline = run.job.deadline;
        let mut draining = Draining { id, deadline, sending: run.sending, done };
        if !draining.flush(&self.out) {
            self.draining.push(draining);
        }
    }
}

impl Part {
    fn new(run: &Run, tokens: Vec<Token>, draws: bool) -> Self {
        Self { id: run.job.id, slot: run.slot, tokens, draws, index: 0 }
    }
}

const fn failure_code(error: &constraint::Error) -> FailureCode {
    match error {
        constraint::Error::Logits => FailureCode::Internal,
        // The matcher has limits too, and it is the request's schema that passes one.
        constraint::Error::Grammar(_) => FailureCode::UnsupportedSchema,
    }
}

fn stop_reason(run: &Run, drawn: Drawn) -> Option<StopReason> {
    let output = &run.job.output;
    if output.stopped() {
        return Some(StopReason::End);
    }
    if drawn.ends {
        return Some(match (drawn.cut, output.calls()) {
            (true, _) => StopReason::Length,
            (false, 0) => StopReason::End,
            (false, _) => StopReason::ToolCalls,
        });
    }
    (run.drawn >= run.tokens_max).then_some(StopReason::Length)
}
