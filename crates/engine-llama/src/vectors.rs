//! The one thread that computes vectors: what `scheduler.rs` is for models that answer.
//!
//! Each turn of the loop: take what came in, put a batch together of texts of all requests, one of
//! each in turns, compute it, send its vectors. So a request of thousands of texts delays one of
//! one text by a batch, and a cancel takes effect within one. Nothing is padded: texts stand behind
//! each other as sequences of their own and do not see each other. A text that no batch holds is
//! computed in parts where a token sees only those before it; other models get batches as large as
//! their longest text. A text fails only if it has no vector by itself, whatever its batch held.
//!
//! It keeps nothing between batches, and must not tokenize: that is done before (`texts.rs`).

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use engine::protocol::{EngineFailure, FailureCode, FromEngine, ReusedFrom, Stats, pack};
use types::clock::SharedClock;

use crate::connection::Outbox;
use crate::llama::{self, Context, Model, Pooling, Token, VectorOptions};
use crate::scheduler::{EVENTS_PER_TURN, Event, cancelled};
use crate::texts::{Text, Texts};

/// Tokens of a batch of several texts. Attention looks at all pairs of a batch's tokens, so more
/// would cost more than it saves.
const BATCH_TOKENS: u32 = 512;
/// Texts of one batch, and requests that are computed at once.
pub(crate) const SEQUENCES: u32 = 64;
/// Tokens of a text at most, unless the operator says another number: what most models were
/// trained for at most, and what memory is taken for.
const CONTEXT_DEFAULT: u32 = 8_192;

/// What computes batches: a model's context, or what tests put in its place.
pub(crate) trait Compute {
    /// Tokens of the largest batch.
    fn room(&self) -> usize;

    /// How the vectors of a text's parts become one.
    fn pooling(&self) -> Pooling;

    /// A vector of each of these texts, not made as long as 1; of the one text's part from its
    /// token `begin` on, if that is not 0.
    ///
    /// # Errors
    /// llama.cpp refused the batch, or a text has no vector of finite numbers. It may be that of
    /// another text that the numbers of one spread to.
    fn batch(&mut self, texts: &[&[Token]], begin: usize) -> Result<Vec<Vec<f32>>, llama::Error>;
}

/// What vectors are computed with.
#[derive(Debug)]
pub(crate) struct Computer {
    context: Context,
    pooling: Pooling,
    /// Tokens that a text may have.
    text_tokens: u32,
}

/// What is known of a model before it is made ready to compute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Tokens that a text may have by the operator's word; 0 = none was said.
    pub(crate) context: u32,
    /// Bytes of state of one token.
    pub(crate) token_bytes: u64,
    /// Bytes of memory for state and results.
    pub(crate) memory_bytes: u64,
    /// Threads that compute.
    pub(crate) threads: u32,
}

impl Computer {
    /// Allocates what is needed for texts as long as the model and the memory allow.
    ///
    /// # Errors
    /// Not enough memory, or the model can't; llama.cpp's log says why.
    pub(crate) fn new(
        model: &Arc<Model>,
        pooling: Pooling,
        sizes: Sizes,
    ) -> Result<Self, llama::Error> {
        let trained = model.context_trained().max(1);
        let most = if sizes.context == 0 { CONTEXT_DEFAULT } else { sizes.context };
        // llama.cpp keeps room for a number per token of the vocabulary for each token of a batch.
        let result_bytes = model.vocab_size() as u64 * size_of::<f32>() as u64;
        let affordable = |bytes: u64| {
            u32::try_from(sizes.memory_bytes / bytes.max(1)).unwrap_or(u32::MAX).max(1)
        };
        let make = |context: u32, batch: u32| {
            let threads = sizes.threads;
            let options = VectorOptions { context, batch, sequences: SEQUENCES, threads };
            Context::for_vectors(Arc::clone(model), options)
        };
        let text_tokens = trained.min(most).min(affordable(sizes.token_bytes));
        let context = make(text_tokens, BATCH_TOKENS)?;
        if context.is_causal() {
            return Ok(Self { context, pooling, text_tokens });
        }
        let text_tokens = text_tokens.min(affordable(sizes.token_bytes + result_bytes));
        if text_tokens <= BATCH_TOKENS {
            return Ok(Self { context, pooling, text_tokens });
        }
        drop(context);
        let context = make(text_tokens, text_tokens)?;
        Ok(Self { context, pooling, text_tokens })
    }

    /// Tokens that a text may have.
    pub(crate) fn text_tokens(&self) -> u32 {
        self.text_tokens
    }

    fn decode(&mut self, texts: &[&[Token]], begin: usize) -> Result<Vec<Vec<f32>>, llama::Error> {
        self.context.batch_clear();
        for (sequence, text) in (0u32..).zip(texts) {
            for (place, token) in (begin..).zip(*text) {
                let added = self.context.batch_add(*token, place, sequence, true);
                added.ok_or(llama::Error::Vector)?;
            }
        }
        self.context.decode()?;
        (0u32..).zip(texts).map(|(sequence, _)| self.vector(sequence)).collect()
    }

    fn vector(&self, sequence: u32) -> Result<Vec<f32>, llama::Error> {
        let vector = self.context.vector(sequence);
        let vector = vector.filter(|vector| vector.iter().all(|number| number.is_finite()));
        vector.map(<[f32]>::to_vec).ok_or(llama::Error::Vector)
    }
}

impl Compute for Computer {
    fn room(&self) -> usize {
        self.context.batch_room()
    }

    fn pooling(&self) -> Pooling {
        self.pooling
    }

    fn batch(&mut self, texts: &[&[Token]], begin: usize) -> Result<Vec<Vec<f32>>, llama::Error> {
        if begin == 0 {
            self.context.forget_all();
        }
        let vectors = self.decode(texts, begin);
        if vectors.is_err() {
            // What attention masks it multiplies by zero, which makes no zero of NaN.
            self.context.wipe();
        }
        vectors
    }
}

/// What the parts of a text have, pooled as llama.cpp pools what a batch has.
struct Pooled {
    pooling: Pooling,
    /// Tokens of the text.
    whole: usize,
    vector: Vec<f32>,
}

impl Pooled {
    /// Takes the next part's vector.
    fn add(&mut self, part: usize, vector: Vec<f32>) {
        match self.pooling {
            Pooling::Last => self.vector = vector,
            Pooling::Cls if self.vector.is_empty() => self.vector = vector,
            Pooling::Cls => {}
            Pooling::Mean => {
                self.vector.resize(vector.len(), 0.0);
                let share = share(part, self.whole);
                self.vector.iter_mut().zip(&vector).for_each(|(sum, one)| *sum += one * share);
            }
        }
    }
}

/// What part of a text so many of its tokens are.
#[expect(clippy::cast_precision_loss, reason = "a text has fewer tokens than a float can tell")]
fn share(part: usize, whole: usize) -> f32 {
    part as f32 / whole as f32
}

/// The same direction, as long as 1; `None` if it has none.
fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let length = vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length <= 0.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a number of at most 1 fits")]
    let scaled = vector.iter().map(|number| (f64::from(*number) / length) as f32);
    Some(scaled.collect())
}

/// Computes what is asked.
#[derive(Debug)]
pub(crate) struct Vectors<C> {
    computer: C,
    out: Outbox,
    clock: SharedClock,
    /// Requests with texts that are not computed; whose turn it is first.
    waiting: VecDeque<Box<Texts>>,
    stats: Stats,
}

/// A text in the batch, and whose it is.
struct Taken {
    id: u64,
    text: Text,
}

impl<C: Compute> Vectors<C> {
    /// Nothing is asked yet.
    pub(crate) fn new(computer: C, out: Outbox, clock: SharedClock) -> Self {
        Self { computer, out, clock, waiting: VecDeque::new(), stats: Stats::default() }
    }

    /// Runs until it is told to stop or nobody can tell it anything any more.
    pub(crate) fn run(mut self, mailbox: &Receiver<Event>) {
        while self.receive(mailbox) && self.step(mailbox) {}
        let message = "the engine is stopping; ask again in a moment";
        let failure = EngineFailure::new(FailureCode::ShuttingDown, message);
        for texts in std::mem::take(&mut self.waiting) {
            self.out.send(FromEngine::Failed { id: texts.id, failure: failure.clone() });
        }
    }

    /// Takes what came in, waiting if there is nothing to compute. `false`: stop.
    fn receive(&mut self, mailbox: &Receiver<Event>) -> bool {
        if self.waiting.is_empty() {
            let Ok(event) = mailbox.recv() else { return false };
            if !self.handle(event) {
                return false;
            }
        }
        self.look(mailbox)
    }

    /// Takes what came in, and ends what is overdue. `false`: stop.
    fn look(&mut self, mailbox: &Receiver<Event>) -> bool {
        let goes_on = mailbox.try_iter().take(EVENTS_PER_TURN).all(|event| self.handle(event));
        self.end_overdue();
        goes_on
    }

    fn handle(&mut self, event: Event) -> bool {
        match event {
            Event::Texts(texts) => self.waiting.push_back(texts),
            Event::Cancel(id) => self.end(id, &cancelled()),
            Event::Flush(id) => self.out.send(FromEngine::Flushed { id }),
            Event::Drop(id, _) => self.out.send(FromEngine::Dropped { id }),
            Event::Stats(id) => self.report(id),
            // What makes requests ready refuses answers, and vectors need no window.
            Event::Job(_) | Event::Ack(..) | Event::Wake => {}
            Event::Stop => return false,
        }
        true
    }

    /// Ends a request, if it is still there.
    fn end(&mut self, id: u64, failure: &EngineFailure) {
        if let Some(at) = self.waiting.iter().position(|texts| texts.id == id) {
            self.waiting.remove(at);
            self.out.send(FromEngine::Failed { id, failure: failure.clone() });
        }
    }

    fn end_overdue(&mut self) {
        let now = self.clock.monotonic();
        let overdue = self.waiting.iter().filter(|it| it.deadline.is_some_and(|at| at <= now));
        let overdue: Vec<_> = overdue.map(|texts| texts.id).collect();
        for id in overdue {
            let message = "the deadline passed before every vector was computed";
            self.end(id, &EngineFailure::new(FailureCode::DeadlineExceeded, message));
        }
    }

    fn report(&self, id: u64) {
        let active = self.waiting.iter().filter(|texts| texts.is_started).count();
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let (active, waiting) = (count(active), count(self.waiting.len() - active));
        let stats = Stats { active, waiting, ..self.stats.clone() };
        self.out.send(FromEngine::Stats { id, stats });
    }

    /// Computes one batch. `false`: stop.
    fn step(&mut self, mailbox: &Receiver<Event>) -> bool {
        let batch = self.take();
        let tokens: usize = batch.iter().map(|taken| taken.text.tokens.len()).sum();
        self.stats.prefilled_tokens += tokens as u64;
        let is_sent = batch.len() > 1 && self.together(&batch);
        if !is_sent && !batch.iter().all(|taken| self.alone(taken, mailbox)) {
            return false;
        }
        self.end_whole();
        true
    }

    /// Computes texts in one batch and sends their vectors. `false`: not all have one, and none was
    /// sent, as which of them is at fault only shows by themselves.
    fn together(&mut self, batch: &[Taken]) -> bool {
        let texts: Vec<&[Token]> = batch.iter().map(|taken| &*taken.text.tokens).collect();
        let vectors = self.computer.batch(&texts, 0).map(|vectors| {
            let vectors: Option<Vec<_>> = vectors.iter().map(|vector| unit(vector)).collect();
            vectors.filter(|vectors| vectors.len() == batch.len())
        });
        match vectors {
            Ok(Some(vectors)) => {
                for (taken, vector) in batch.iter().zip(vectors) {
                    self.send(taken, Some(vector));
                }
                return true;
            }
            Ok(None) => tracing::warn!("texts of a batch have no vector: computing each alone"),
            Err(error) => tracing::warn!(%error, "a batch failed: computing its texts alone"),
        }
        false
    }

    /// Computes a text by itself, in parts if no batch holds it, as long as somebody waits for it.
    /// `false`: stop.
    fn alone(&mut self, taken: &Taken, mailbox: &Receiver<Event>) -> bool {
        let (tokens, pooling) = (&taken.text.tokens, self.computer.pooling());
        let mut pooled = Pooled { pooling, whole: tokens.len(), vector: Vec::new() };
        let mut begin = 0;
        for part in tokens.chunks(self.computer.room().max(1)) {
            if !self.look(mailbox) {
                return false;
            }
            if !self.is_there(taken.id) {
                return true;
            }
            match self.computer.batch(&[part], begin) {
                Ok(vectors) => {
                    pooled.add(part.len(), vectors.into_iter().next().unwrap_or_default())
                }
                Err(error) => {
                    tracing::error!(%error, "a text could not be computed");
                    self.send(taken, None);
                    return true;
                }
            }
            begin += part.len();
        }
        self.send(taken, unit(&pooled.vector));
        true
    }

    fn is_there(&self, id: u64) -> bool {
        self.waiting.iter().any(|texts| texts.id == id)
    }

    /// Ends the requests of which every vector was sent.
    fn end_whole(&mut self) {
        let mut at = 0;
        while let Some(texts) = self.waiting.get(at) {
            if texts.left.is_empty() {
                let (id, prompt_tokens) = (texts.id, texts.prompt_tokens);
                self.waiting.remove(at);
                self.out.send(FromEngine::Embedded { id, prompt_tokens });
            } else {
                at += 1;
            }
        }
    }

    /// Sends a vector; without one its request has failed.
    fn send(&mut self, taken: &Taken, vector: Option<Vec<f32>>) {
        let Taken { id, text } = taken;
        if !self.is_there(*id) {
            return;
        }
        match vector {
            Some(vector) => {
                let (index, numbers) = (text.index, pack(&vector));
                self.out.send(FromEngine::Vector { id: *id, index, numbers });
            }
            None => {
                let message = format!("'input[{}]' has no vector by this model", text.index);
                self.end(*id, &EngineFailure::new(FailureCode::Internal, message));
            }
        }
    }

    /// Takes a batch of texts: one of each request in turns, or one that fills a batch by itself. A
    /// request whose next text does not fit keeps its turn, and the others go on without it. That
    /// looks at every request at most once for each text.
    fn take(&mut self) -> Vec<Taken> {
        let (mut batch, mut tokens) = (Vec::new(), 0);
        while batch.len() < SEQUENCES as usize {
            let fits = |texts: &Texts| {
                texts.left.front().is_some_and(|text| {
                    batch.is_empty() || tokens + text.tokens.len() <= BATCH_TOKENS as usize
                })
            };
            let Some(at) = self.waiting.iter().position(|texts| fits(texts)) else { break };
            let Some(mut texts) = self.waiting.remove(at) else { break };
            if let Some(text) = texts.left.pop_front() {
                tokens += text.tokens.len();
                batch.push(Taken { id: texts.id, text });
            }
            if !std::mem::replace(&mut texts.is_started, true) {
                let (id, prompt_tokens) = (texts.id, texts.prompt_tokens);
                let reused_from = ReusedFrom::Nothing;
                let started =
                    FromEngine::Started { id, prompt_tokens, reused_tokens: 0, reused_from };
                self.out.send(started);
            }
            self.waiting.push_back(texts);
        }
        batch
    }
}
