//! Summaries of histories: asked for once, and kept in memory for the requests that follow.
//!
//! A summary is found by the account and the hash of exactly the messages that it stands for, so
//! that a growing history is summarised once per crossing, and what is told stays the same between
//! two. Each builds on the one before it where that is still known. Invariants: nothing is written
//! to disk; whoever asks for the same summary at the same time waits for the one that is made; one
//! that failed is not asked for again at once. It must not know what a Call does with it.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use types::call::Credential;
use types::clock::Monotonic;
use types::context::CompactPolicy;
use types::conversation::Conversation;
use types::ids::CallId;
use types::{Call, ErrorCode, Money, Stop, estimate};

use super::SummaryNote;
use super::edit::{allowance, asked, kept_summary};
use super::replay::Outcome;
use crate::child::{self, Asked, Told};
use crate::run::Pipeline;

/// How long a summary is kept that nobody asks for.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Bytes of all summaries at most; the oldest and least used go first.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of one beside its text.
const ENTRY_OVERHEAD: u64 = 256;
/// How long a summary that could not be had is not asked for again.
const FAILED_FOR: Duration = Duration::from_secs(30);
/// Summaries that one Call may ask for: a history that comes whole, and larger than the
/// summarising model's window, takes several.
const ASKED_MAX: usize = 8;

/// All that are kept.
#[derive(Debug)]
pub(crate) struct Summaries {
    slots: Cache<Key, Arc<Slot>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    sha256: [u8; 32],
    bytes_max: u32,
}

/// A summary that is there, or is being made.
#[derive(Debug, Default)]
struct Slot {
    text: OnceCell<Arc<str>>,
    failed: Mutex<Option<(Monotonic, ErrorCode)>>,
}

/// What is wanted.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) policy: &'a CompactPolicy,
    pub(super) conversation: &'a Conversation,
    pub(super) outcome: &'a Outcome,
    /// Whether a model may be asked; else only what is kept is found.
    pub(super) may_ask: bool,
    /// What asking may cost, where that is limited.
    pub(super) left: Option<Money>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest summary that could be had: the number of its crossing, and its text.
    pub(super) summary: Option<(usize, Arc<str>)>,
    /// Where it is from; `None` = none was due.
    pub(super) note: Option<SummaryNote>,
    /// What was charged for it.
    pub(super) charged: Money,
}

/// Why a summary could not be had, and what that was charged.
struct Missing(ErrorCode, Money);

impl Default for Summaries {
    fn default() -> Self {
        let weigh = |key: &Key, _: &Arc<Slot>| key.bytes_max;
        let slots = Cache::builder().max_capacity(BYTES_MAX).weigher(weigh).time_to_idle(IDLE);
        Self { slots: slots.build() }
    }
}

impl Summaries {
    /// Finds the summary of the last crossing, or has it made.
    pub(super) async fn find(&self, pipeline: &Pipeline, call: &Call, wish: Wish<'_>) -> Found {
        let keys = keys(call, &wish);
        let known = |key: &Key| self.slots.get(key).and_then(|slot| slot.text.get().cloned());
        let kept = keys.iter().enumerate().rev();
        let kept = kept.map(|(number, key)| (number, known(key)));
        let mut summary = kept.into_iter().find_map(|(number, text)| Some((number, text?)));
        let last = keys.len().saturating_sub(1);
        let (mut charged, mut note) = (Money::ZERO, SummaryNote::Kept);
        for _ in 0..ASKED_MAX {
            let from = summary.as_ref().map_or(0, |(number, _)| number + 1);
            if from > last {
                return Found { summary, note: Some(note), charged };
            }
            let before = summary.as_ref().map(|(_, text)| &**text);
            let made = self.make(pipeline, call, wish, (&keys, from, before), charged).await;
            match made {
                Ok((number, text, by, cost)) => {
                    charged = charged.saturating_add(cost);
                    note = by.map_or(SummaryNote::Kept, SummaryNote::Made);
                    summary = Some((number, text));
                }
                Err(Missing(code, cost)) => {
                    charged = charged.saturating_add(cost);
                    return Found { summary, note: Some(SummaryNote::Missing(code)), charged };
                }
            }
        }
        Found { summary, note: Some(SummaryNote::Missing(ErrorCode::TooLarge)), charged }
    }

    /// Makes the summary of the farthest crossing that one request to the model can hold.
    async fn make(
        &self,
        pipeline: &Pipeline,
        call: &Call,
        wish: Wish<'_>,
        (keys, from, before): (&[Key], usize, Option<&str>),
        charged: Money,
    ) -> Result<(usize, Arc<str>, Option<CallId>, Money), Missing> {
        let free = |code| Missing(code, Money::ZERO);
        if !wish.may_ask {
            return Err(free(ErrorCode::Unavailable));
        }
        let (number, conversation) = request(pipeline, call, wish, (from, before))
            .ok_or_else(|| free(ErrorCode::ContextLengthExceeded))?;
        let key = keys.get(number).ok_or_else(|| free(ErrorCode::Internal))?;
        let slot = self.slots.get_with(*key, Arc::default);
        slot.check_failed(pipeline.parts.clock.monotonic()).map_err(free)?;
        let mut by = None;
        let made = slot.text.get_or_try_init(|| async {
            let asked = Asked {
                model: &wish.policy.model,
                conversation,
                output_cap: wish.policy.summary_tokens,
                budget: wish.left.map(|left| left.minus_or_zero(charged)),
            };
            let told = Box::pin(child::ask(pipeline, call, asked)).await;
            let told = told.map_err(|(failure, cost)| Missing(failure.code, cost))?;
            let text = usable(&told, wish.policy.summary_tokens)?;
            by = Some((told.call, told.cost));
            Ok(Arc::from(text))
        });
        let made = made.await.cloned();
        match made {
            Ok(text) => {
                let (by, cost) = by.map_or((None, Money::ZERO), |(by, cost)| (Some(by), cost));
                Ok((number, text, by, cost))
            }
            Err(Missing(code, cost)) => {
                slot.fail(pipeline.parts.clock.monotonic(), code);
                // Its code alone: a provider's words may repeat the prompt.
                let (call, model) = (&call.id, &wish.policy.model);
                tracing::warn!(%call, model, %code, "a history could not be summarised");
                Err(Missing(code, cost))
            }
        }
    }
}

impl Slot {
    fn check_failed(&self, now: Monotonic) -> Result<(), ErrorCode> {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            Some((at, code)) if now.saturating_sub(at) < FAILED_FOR => Err(code),
            Some(_) | None => Ok(()),
        }
    }

    fn fail(&self, now: Monotonic, code: ErrorCode) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, code));
    }
}

/// The text of an answer, if it is a summary: one that was cut at its cap still is.
fn usable(told: &Told, summary_tokens: u64) -> Result<String, Missing> {
    let text = match told.stop {
        Stop::End | Stop::Length => kept_summary(&told.text, summary_tokens),
        Stop::ToolCalls | Stop::ContentFilter => None,
    };
    text.ok_or(Missing(ErrorCode::UpstreamFailed, told.cost))
}

/// What the model is asked, up to the farthest crossing that its window has room for.
fn request(
    pipeline: &Pipeline,
    call: &Call,
    wish: Wish<'_>,
    (from, before): (usize, Option<&str>),
) -> Option<(usize, Conversation)> {
    let credential = Credential::Known(Arc::clone(&call.principal));
    let plan = pipeline.plan(&credential, &wish.policy.model).ok()?;
    let window = plan.targets.iter().filter_map(|target| target.context_tokens).min();
    let room = window.map(|window| window.saturating_sub(allowance(wish.policy.summary_tokens)));
    let crossings = &wish.outcome.crossings;
    let begins = match from.checked_sub(1) {
        Some(last) => crossings.get(last)?.cut,
        None => 0,
    };
    (from..crossings.len()).rev().find_map(|number| {
        let crossing = *crossings.get(number)?;
        let asked = asked(wish.conversation, (begins, crossing), wish.outcome, before);
        let fits = room.is_none_or(|room| estimate::tokens(&asked) <= room);
        fits.then_some((number, asked))
    })
}

/// The keys of all crossings: each stands for the messages before its cut.
fn keys(call: &Call, wish: &Wish<'_>) -> Vec<Key> {
    let mut hash = Sha256::new();
    let CompactPolicy { model, summary_tokens, .. } = wish.policy;
    for part in [&*call.principal.account, model] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(summary_tokens.to_le_bytes());
    let bytes_max = allowance(*summary_tokens).saturating_mul(estimate::TOKEN_BYTES);
    let bytes_max = u32::try_from(bytes_max.saturating_add(ENTRY_OVERHEAD)).unwrap_or(u32::MAX);
    let mut done = 0;
    let crossings = wish.outcome.crossings.iter().map(|crossing| {
        for message in wish.conversation.messages.get(done..crossing.cut).unwrap_or_default() {
            // Nothing in a message can't be written, and a hash takes all that is.
            let written = serde_json::to_writer(&mut hash, message);
            if written.is_err() || hash.write_all(b"\n").is_err() {
                tracing::error!("a message can't be written as JSON");
            }
        }
        done = crossing.cut;
        Key { sha256: hash.clone().finalize().into(), bytes_max }
    });
    crossings.collect()
}
