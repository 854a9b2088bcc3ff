//! Summaries of histories: asked for once, and kept in memory for the requests that follow.
//!
//! A summary is found by the account and the hash of exactly the messages that it stands for, so
//! that a growing history is summarised once per crossing, and what is told stays the same between
//! two. Each builds on the one before it where that is still known. Invariants: nothing is written
//! to disk; whoever asks for the same summary at the same time waits for the one that is made; one
//! that failed is not asked for again at once, by those who waited either; nobody waits for longer
//! than a client may be left without a byte. It must not know what a Call does with it.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use storage::Budget;
use tokio::sync::OnceCell;
use types::call::Credential;
use types::clock::{Monotonic, within};
use types::context::CompactPolicy;
use types::conversation::Conversation;
use types::ids::CallId;
use types::{Call, ErrorCode, Failure, Money, Stop, estimate};

use super::SummaryNote;
use super::edit::{allowance, asked, kept_summary};
use super::replay::Outcome;
use crate::child::{self, Asked, Told};
use crate::run::Pipeline;

/// How long a summary is kept that nobody asks for.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Bytes of all summaries at most; those that were not used for the longest time go first.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of one beside its text.
const ENTRY_OVERHEAD: u64 = 256;
/// How long a summary that could not be had is not asked for again.
const FAILED_FOR: Duration = Duration::from_secs(30);
/// Summaries that one Call may ask for: a history that comes whole, and larger than the
/// summarising model's window, takes several.
const ASKED_MAX: usize = 8;
/// How long one Call waits for all its summaries together: its client sees nothing meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(45);

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
    /// What is held of these budgets for the Call itself while it asks.
    pub(super) own: (&'a [Arc<Budget>], Money),
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

/// Why a summary could not be had.
#[derive(Clone, Copy, Debug)]
struct Missing {
    code: ErrorCode,
    /// What that was charged.
    charged: Money,
    /// Whether limits of who asks are why: others may have it all the same.
    is_askers: bool,
}

impl Missing {
    const fn uncharged(code: ErrorCode) -> Self {
        Self { code, charged: Money::ZERO, is_askers: false }
    }

    fn of(failure: &Failure, charged: Money) -> Self {
        let is_ours = failure.upstream.is_none() && !failure.withheld;
        let by_money = matches!(
            failure.code,
            ErrorCode::BudgetExceeded | ErrorCode::PriceUnknown | ErrorCode::PermissionDenied
        );
        let by_rate = matches!(failure.code, ErrorCode::RateLimited | ErrorCode::TooLarge);
        let is_askers = by_money || (by_rate && is_ours);
        Self { code: failure.code, charged, is_askers }
    }
}

/// A summary that was had: the number of its crossing, its text, and who wrote it for what, if it
/// was written now.
type Made = (usize, Arc<str>, Option<(CallId, Money)>);

/// How far the summaries of one Call are.
#[derive(Clone, Copy)]
struct Progress<'a> {
    /// The keys of all crossings.
    keys: &'a [Key],
    /// The first crossing without a summary.
    from: usize,
    /// The summary of all before it.
    before: Option<&'a str>,
    /// What was charged so far.
    charged: Money,
    /// When the Call waits no longer.
    until: Monotonic,
}

impl Default for Summaries {
    fn default() -> Self {
        let weigh = |key: &Key, _: &Arc<Slot>| key.bytes_max;
        let slots = Cache::builder().max_capacity(BYTES_MAX).weigher(weigh).time_to_idle(IDLE);
        // The default lets what is new go first: a summary that was just paid for.
        Self { slots: slots.eviction_policy(EvictionPolicy::lru()).build() }
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
        let until = pipeline.parts.clock.monotonic().saturating_add(WAIT_MAX);
        let until = call.deadline.map_or(until, |deadline| until.min(deadline));
        for _ in 0..ASKED_MAX {
            let from = summary.as_ref().map_or(0, |(number, _)| number + 1);
            if from > last {
                return Found { summary, note: Some(note), charged };
            }
            let before = summary.as_ref().map(|(_, text)| &**text);
            let progress = Progress { keys: &keys, from, before, charged, until };
            match self.make(pipeline, call, wish, progress).await {
                Ok((number, text, by)) => {
                    note = by.map_or(SummaryNote::Kept, |(by, cost)| {
                        charged = charged.saturating_add(cost);
                        SummaryNote::Made(by)
                    });
                    summary = Some((number, text));
                }
                Err(Missing { code, charged: cost, .. }) => {
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
        progress: Progress<'_>,
    ) -> Result<Made, Missing> {
        let free = Missing::uncharged;
        if !wish.may_ask {
            return Err(free(ErrorCode::Unavailable));
        }
        let clock = &*pipeline.parts.clock;
        let time_max = progress.until.saturating_sub(clock.monotonic());
        if time_max.is_zero() {
            return Err(free(ErrorCode::UpstreamTimeout));
        }
        let (number, conversation) = request(pipeline, call, wish, progress)
            .ok_or_else(|| free(ErrorCode::ContextLengthExceeded))?;
        let key = progress.keys.get(number).ok_or_else(|| free(ErrorCode::Internal))?;
        let slot = self.slots.get_with(*key, Arc::default);
        let mut by = None;
        let made = slot.text.get_or_try_init(|| async {
            // Whoever waited for one that failed does not ask again at once.
            slot.check_failed(clock.monotonic()).map_err(free)?;
            let asked = Asked {
                model: &wish.policy.model,
                conversation,
                output_cap: wish.policy.summary_tokens,
                budget: wish.left.map(|left| left.minus_or_zero(progress.charged)),
                time_max,
                is_parents: false,
                purpose: None,
            };
            let made = ask(pipeline, call, wish, asked).await;
            let (told, text) = made.inspect_err(|missing| {
                let now = clock.monotonic();
                // What its caller's own time ended says nothing about the summary.
                if call.deadline.is_none_or(|deadline| now < deadline) {
                    slot.fail(now, missing);
                }
                // Its code alone: a provider's words may repeat the prompt.
                let (call, model, code) = (&call.id, &wish.policy.model, missing.code);
                tracing::warn!(%call, model, %code, "a history could not be summarised");
            })?;
            by = Some((told.call, told.cost));
            Ok(Arc::from(text))
        });
        // Whoever asks ends by itself in time; others may have begun to ask later.
        let made = within(clock, time_max, made).await.map(|made| made.cloned());
        let text = made.unwrap_or_else(|| Err(free(ErrorCode::UpstreamTimeout)))?;
        Ok((number, text, by))
    }
}

/// Asks for a summary, with the money of the Call itself kept back.
async fn ask(
    pipeline: &Pipeline,
    call: &Call,
    wish: Wish<'_>,
    asked: Asked<'_>,
) -> Result<(Told, String), Missing> {
    let (budgets, own) = wish.own;
    let _held = if own == Money::ZERO {
        Vec::new()
    } else {
        let now = pipeline.parts.clock.now();
        let held = pipeline.shared.escrow.reserve(budgets, own, now).await;
        let missing = Missing::uncharged(ErrorCode::BudgetExceeded);
        held.map_err(|_| Missing { is_askers: true, ..missing })?
    };
    let told = Box::pin(child::ask(&pipeline.shared, call, asked)).await;
    let told = told.map_err(|(failure, cost)| Missing::of(&failure, cost))?;
    let text = usable(&told, wish.policy.summary_tokens)?;
    Ok((told, text))
}

impl Slot {
    fn check_failed(&self, now: Monotonic) -> Result<(), ErrorCode> {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            Some((at, code)) if now.saturating_sub(at) < FAILED_FOR => Err(code),
            Some(_) | None => Ok(()),
        }
    }

    /// A refusal by one caller's limits says nothing of the summary.
    fn fail(&self, now: Monotonic, missing: &Missing) {
        if missing.is_askers {
            return;
        }
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, missing.code));
    }
}

/// The text of an answer, if it is a summary: one that was cut at its cap still is.
fn usable(told: &Told, summary_tokens: u64) -> Result<String, Missing> {
    let text = match told.said.stop {
        Stop::End | Stop::Length => kept_summary(&told.said.text, summary_tokens),
        Stop::ToolCalls | Stop::ContentFilter => None,
    };
    let missing = Missing::uncharged(ErrorCode::UpstreamFailed);
    text.ok_or(Missing { charged: told.cost, ..missing })
}

/// What the model is asked, up to the farthest crossing that its window has room for.
fn request(
    pipeline: &Pipeline,
    call: &Call,
    wish: Wish<'_>,
    Progress { from, before, .. }: Progress<'_>,
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
    let fitting = |number: usize| {
        let crossing = *crossings.get(number)?;
        let asked = asked(wish.conversation, (begins, crossing), wish.outcome, before);
        let fits = room.is_none_or(|room| estimate::tokens(&asked) <= room);
        fits.then_some((number, asked))
    };
    farthest(from, crossings.len(), fitting)
}

/// What `fitting` answers for the largest number from `from` to `end` for which it answers
/// something, where it does for none after one for which it does not. Each is written out to be
/// measured, so that few are tried: the last one, then by halves.
fn farthest<T>(from: usize, end: usize, fitting: impl Fn(usize) -> Option<T>) -> Option<T> {
    let (mut low, mut high) = (from, end.checked_sub(1)?);
    if low > high {
        return None;
    }
    if let Some(found) = fitting(high) {
        return Some(found);
    }
    let mut best = None;
    while low < high {
        let middle = low.midpoint(high);
        match fitting(middle) {
            Some(found) => (best, low) = (Some(found), middle + 1),
            None => high = middle,
        }
    }
    best
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

#[cfg(test)]
mod tests;
