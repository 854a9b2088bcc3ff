//! The one thread that computes vectors: what `scheduler.rs` is for models that answer.
//!
//! Each turn of the loop: take what came in, put a batch together of texts of all requests, one of
//! each in turns, compute it, send its vectors. So a request of thousands of texts delays one of
//! one text by a batch, and a cancel takes effect within one. Nothing is padded: texts stand behind
//! each other as sequences of their own and do not see each other. A text that no batch holds is
//! computed in parts where a token sees only those before it; other models get batches as large as
//! their longest text.
//!
//! It keeps nothing between batches, and must not tokenize: that is done before (`texts.rs`).

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

    /// The vectors of texts that fit one batch, or of one that does not.
    fn compute(&mut self, texts: &[&[Token]]) -> Result<Vec<Vec<f32>>, llama::Error> {
        self.context.forget_all();
        if let [text] = texts
            && text.len() > self.context.batch_room()
        {
            return Ok(vec![self.in_parts(text)?]);
        }
        self.context.batch_clear();
        for (sequence, text) in (0u32..).zip(texts) {
            self.add(text, 0, sequence)?;
        }
        self.context.decode()?;
        (0u32..).zip(texts).map(|(sequence, _)| self.vector(sequence)).collect()
    }

    /// The vector of a text of which each batch holds a part: what the parts have is pooled as
    /// llama.cpp pools what a batch has.
    fn in_parts(&mut self, text: &[Token]) -> Result<Vec<f32>, llama::Error> {
        let mut pooled: Vec<f32> = Vec::new();
        let mut begin = 0;
        for part in text.chunks(self.context.batch_room()) {
            self.context.batch_clear();
            self.add(part, begin, 0)?;
            self.context.decode()?;
            let vector = self.vector(0)?;
            pooled = match self.pooling {
                Pooling::Last => vector,
                Pooling::Cls if begin > 0 => pooled,
                Pooling::Cls => vector,
                Pooling::Mean => {
                    pooled.resize(vector.len(), 0.0);
                    let share = share(part.len(), text.len());
                    pooled.iter().zip(&vector).map(|(sum, one)| sum + one * share).collect()
                }
            };
            begin += part.len();
        }
        Ok(pooled)
    }

    fn add(&mut self, tokens: &[Token], begin: usize, sequence: u32) -> Result<(), llama::Error> {
        for (place, token) in (begin..).zip(tokens) {
            let added = self.context.batch_add(*token, place, sequence, true);
            added.ok_or(llama::Error::Context)?;
        }
        Ok(())
    }

    fn vector(&self, sequence: u32) -> Result<Vec<f32>, llama::Error> {
        self.context.vector(sequence).map(<[f32]>::to_vec).ok_or(llama::Error::Context)
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
pub(crate) struct Vectors {
    computer: Computer,
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

impl Vectors {
    /// Nothing is asked yet.
    pub(crate) fn new(computer: Computer, out: Outbox, clock: SharedClock) -> Self {
        Self { computer, out, clock, waiting: VecDeque::new(), stats: Stats::default() }
    }

    /// Runs until it is told to stop or nobody can tell it anything any more.
    pub(crate) fn run(mut self, mailbox: &Receiver<Event>) {
        while self.receive(mailbox) {
            self.end_overdue();
            self.step();
        }
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
        mailbox.try_iter().take(EVENTS_PER_TURN).all(|event| self.handle(event))
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

    /// Computes one batch.
    fn step(&mut self) {
        let batch = self.take();
        if batch.is_empty() {
            return;
        }
        let tokens: Vec<&[Token]> = batch.iter().map(|taken| &*taken.text.tokens).collect();
        self.stats.prefilled_tokens += tokens.iter().map(|text| text.len() as u64).sum::<u64>();
        match self.computer.compute(&tokens) {
            Ok(vectors) => {
                for (taken, vector) in batch.iter().zip(&vectors) {
                    self.send(taken, unit(vector));
                }
            }
            Err(error) => {
                tracing::error!(%error, "a batch of texts could not be computed");
                batch.iter().for_each(|taken| self.send(taken, None));
            }
        }
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
        if !self.waiting.iter().any(|texts| texts.id == *id) {
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

    /// Takes a batch of texts: one of each request in turns, or one that fills a batch by itself.
    fn take(&mut self) -> Vec<Taken> {
        let (mut batch, mut tokens) = (Vec::new(), 0);
        while batch.len() < SEQUENCES as usize {
            let Some(at) = self.waiting.iter().position(|texts| !texts.left.is_empty()) else {
                break;
            };
            self.waiting.rotate_left(at);
            let Some(texts) = self.waiting.front_mut() else { break };
            let length = texts.left.front().map_or(0, |text| text.tokens.len());
            if !batch.is_empty() && tokens + length > BATCH_TOKENS as usize {
                break;
            }
            let Some(text) = texts.left.pop_front() else { break };
            tokens += length;
            batch.push(Taken { id: texts.id, text });
            if !std::mem::replace(&mut texts.is_started, true) {
                let (id, prompt_tokens) = (texts.id, texts.prompt_tokens);
                let reused_from = ReusedFrom::Nothing;
                let started =
                    FromEngine::Started { id, prompt_tokens, reused_tokens: 0, reused_from };
                self.out.send(started);
            }
            self.waiting.rotate_left(1);
        }
        batch
    }
}
