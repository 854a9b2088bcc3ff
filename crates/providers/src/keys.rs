//! The keys of one provider: which one a Call is sent with.
//!
//! The Calls of a session go with the same key, because providers keep prompts by key; those of no
//! session with one per user. Another key is taken while that one is refused, or while its limits
//! would make the Call wait and another's would not; the session then stays there. A key that is
//! refused is out for a while, it alone; one that is refused for a model, for that model alone. If
//! none is well, one is asked all the same: only providers know.
//!
//! Must not know what a key is, beyond the header that says it, and never shows it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use moka::sync::Cache;
use types::auto::AutoJudge;
use types::call::{ModelCall, Operation};
use types::clock::{Monotonic, SharedClock};
use types::{Call, Notes};

use crate::limits::{Cost, Entrant, Entry, Gate, Gates, Health, Late, Outage, Pass, Ranked, Told};

/// A Call waits so long for its session's own key before it goes with another.
const STICKY_WAIT_MAX: Duration = Duration::from_secs(1);
/// Sessions that are known to have moved to another key.
const MOVED_MAX: u64 = 16_384;
/// How long a session that is not heard of stays there: longer than providers keep prompts.
const MOVED_LIFE: Duration = Duration::from_secs(60 * 60);
/// Bytes of a request per token of its prompt: of English as JSON, about.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens of a prompt with media at most, as an estimate: most of its bytes are not read as text.
const MEDIA_TOKENS_MAX: u64 = 16_384;
/// The longest wait of a Call that has no deadline.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The note that says which of several keys it was, from 1.
const NOTE_KEY: &str = "key";
/// The note that says for how many milliseconds the provider's limits were waited for.
const NOTE_WAITED: &str = "limit_waited_ms";

/// The keys of one provider.
pub(crate) struct Keys {
    keys: Vec<Arc<Key>>,
    moved: Cache<u64, usize>,
    clock: SharedClock,
}

/// One key, and what is known of it.
struct Key {
    header: Option<(HeaderName, HeaderValue)>,
    outage: Mutex<Outage>,
    gates: Gates,
    /// Calls that are under way.
    in_flight: AtomicU64,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

impl Key {
    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Call that needs a key.
pub(crate) struct Ask<'a> {
    call: &'a Call,
    /// The model's name at the provider.
    model: &'a Arc<str>,
    cost: Cost,
    /// It waits no longer than until then.
    until: Monotonic,
    /// Keys that it was refused with, a bit each.
    tried: u32,
}

impl<'a> Ask<'a> {
    /// What an attempt at `model` needs, beginning at `now`.
    pub(crate) fn new(
        (call, asked): (&'a Call, &ModelCall),
        (model, output_cap): (&'a Arc<str>, Option<u64>),
        now: Monotonic,
    ) -> Self {
        let text = asked.head.body_bytes / BYTES_PER_TOKEN + 1;
        let input = if asked.head.media > 0 { text.min(MEDIA_TOKENS_MAX) } else { text };
        let cap = output_cap.or(asked.head.output_cap);
        let cap = if asked.operation == Operation::Embed { Some(0) } else { cap };
        let choices = asked.head.choices.max(1);
        let cost = Cost {
            requests: 1,
            input,
            output: cap.unwrap_or(0).saturating_mul(choices),
            uncapped: if cap.is_none() { choices } else { 0 },
        };
        let until = now.saturating_add(call.plan.policy.wait_max.min(WAIT_MAX));
        let until = call.deadline.map_or(until, |deadline| until.min(deadline));
        Self { call, model, cost, until, tried: 0 }
    }

    /// What is to be kept together: the session, else the user.
    fn flow(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match &self.call.session {
            Some(session) => session.as_str().hash(&mut hasher),
            None => self.call.principal.user.hash(&mut hasher),
        }
        hasher.finish()
    }

    fn entrant(&self, flow: u64) -> Entrant {
        let deadline = self.call.deadline.unwrap_or(Monotonic::MAX);
        let ranked = Ranked { rank: rank(&self.call.class), flow, deadline };
        Entrant { ranked, cost: self.cost, until: self.until }
    }

    const fn has_tried(&self, index: usize) -> bool {
        self.tried & (1 << index) != 0
    }
}

/// How urgent a class is; 0 is the most.
fn rank(class: &str) -> u8 {
    match class {
        "interactive" => 0,
        "background" | "batch" | AutoJudge::CLASS => 2,
        _ => 1,
    }
}

/// Why there is no key for a Call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// It was refused with all of them.
    Tried,
    /// It would have to wait for longer than it may.
    Late {
        /// In how long it would be let in.
        retry_after: Duration,
    },
}

/// Where a key stands, to one Call.
struct Standing {
    index: usize,
    health: Health,
    wait: Duration,
}

impl Keys {
    /// Keys by the headers that say them; none at all is one that is not said.
    pub(crate) fn new(headers: Vec<(HeaderName, HeaderValue)>, clock: SharedClock) -> Self {
        let mut headers: Vec<_> = headers.into_iter().map(Some).collect();
        if headers.is_empty() {
            headers.push(None);
        }
        let key = |header| {
            let (outage, gates, in_flight) =
                (Mutex::default(), Gates::default(), AtomicU64::new(0));
            Arc::new(Key { header, outage, gates, in_flight })
        };
        let keys = headers.into_iter().map(key).collect();
        let moved = Cache::builder().max_capacity(MOVED_MAX).time_to_idle(MOVED_LIFE).build();
        Self { keys, moved, clock }
    }

    /// Whether the Call could be sent with another key.
    pub(crate) fn has_more(&self, ask: &Ask<'_>) -> bool {
        (0..self.keys.len()).any(|index| !ask.has_tried(index))
    }

    /// A key for the Call, once it may be sent. Dropping this leaves the queue.
    pub(crate) async fn acquire(&self, ask: &mut Ask<'_>) -> Result<Permit, NoKey> {
        let (index, flow) = self.choose(ask)?;
        let Some(key) = self.keys.get(index) else { return Err(NoKey::Tried) };
        ask.tried |= 1 << index;
        let probes = self.probe(key, ask.model);
        let key = Arc::clone(key);
        key.in_flight.fetch_add(1, Ordering::Relaxed);
        let model = Arc::clone(ask.model);
        let clock = Arc::clone(&self.clock);
        let alone = self.keys.len() == 1;
        let (pass, waited) = (None, Duration::ZERO);
        // What is only counted has limits of its own, of which nothing is learned.
        let counts = ask.call.model().is_some_and(ModelCall::only_counts);
        let cost = Some(ask.cost).filter(|_| !counts);
        let mut permit = Permit { key, index, model, pass, cost, waited, probes, alone, clock };
        if counts {
            return Ok(permit);
        }
        let Some(gate) = permit.key.gates.find(ask.model) else { return Ok(permit) };
        let flow = flow.unwrap_or_else(|| ask.flow());
        let began = self.clock.monotonic();
        let late = |Late { retry_after }| NoKey::Late { retry_after };
        permit.pass = Some(match gate.enter(ask.entrant(flow)).map_err(late)? {
            Entry::Pass(pass) => pass,
            Entry::Wait(waiting) => {
                let pass = waiting.await.map_err(late)?;
                permit.waited = self.clock.monotonic().saturating_sub(began);
                pass
            }
        });
        Ok(permit)
    }

    /// The key to take, and what the Call is kept together with, if that was needed.
    fn choose(&self, ask: &Ask<'_>) -> Result<(usize, Option<u64>), NoKey> {
        if self.keys.len() == 1 {
            return if ask.has_tried(0) { Err(NoKey::Tried) } else { Ok((0, None)) };
        }
        let flow = ask.flow();
        let entrant = ask.entrant(flow);
        let mut standings: Vec<Standing> = self
            .order(flow)
            .into_iter()
            .filter(|index| !ask.has_tried(*index))
            .filter_map(|index| self.standing(index, ask, &entrant))
            .collect();
        if ask.tried != 0 {
            // It had its chance: one that is known to be refused need not be asked too.
            standings.retain(|standing| standing.health != Health::Out);
        }
        let own = standings.first().map(|standing| standing.index);
        let sticky = |standing: &&Standing| {
            standing.health != Health::Out && standing.wait <= STICKY_WAIT_MAX
        };
        let chosen = match standings.first().filter(sticky) {
            Some(standing) => standing,
            None => {
                let best = standings
                    .iter()
                    .min_by_key(|standing| (standing.health == Health::Out, standing.wait));
                best.ok_or(NoKey::Tried)?
            }
        };
        if Some(chosen.index) != own && chosen.health != Health::Out {
            self.moved.insert(flow, chosen.index);
        }
        Ok((chosen.index, Some(flow)))
    }

    /// The keys in the order in which a flow prefers them.
    fn order(&self, flow: u64) -> Vec<usize> {
        let moved = self.moved.get(&flow);
        let weight = |index: usize| {
            let mut hasher = DefaultHasher::new();
            (flow, index).hash(&mut hasher);
            (moved != Some(index), hasher.finish())
        };
        let mut order: Vec<usize> = (0..self.keys.len()).collect();
        order.sort_by_cached_key(|index| weight(*index));
        order
    }

    fn standing(&self, index: usize, ask: &Ask<'_>, entrant: &Entrant) -> Option<Standing> {
        let key = self.keys.get(index)?;
        let now = self.clock.monotonic();
        let mut health = key.outage().health(now);
        let mut wait = Duration::ZERO;
        if let Some(gate) = key.gates.find(ask.model) {
            health = health.max(gate.with_outage(|outage| outage.health(now)));
            wait = gate.wait(entrant);
        }
        Some(Standing { index, health, wait })
    }

    /// Takes the place of the one Call that finds out whether a key is well again, if it is not.
    fn probe(&self, key: &Key, model: &str) -> bool {
        if self.keys.len() == 1 {
            return false;
        }
        let now = self.clock.monotonic();
        let take = |outage: &mut Outage| {
            let is_ill = outage.health(now) != Health::Well;
            if is_ill {
                outage.probe();
            }
            is_ill
        };
        let of_key = take(&mut key.outage());
        let of_model = key.gates.find(model).is_some_and(|gate| gate.with_outage(take));
        of_key || of_model
    }

    /// What is known of each key, in the order of the configuration.
    pub(crate) fn seen(&self) -> Vec<SeenKey> {
        let now = self.clock.monotonic();
        let seen = |key: &Arc<Key>| {
            let outage = key.outage();
            SeenKey {
                refused_for: outage.left(now),
                is_well: outage.health(now) == Health::Well,
                in_flight: key.in_flight.load(Ordering::Relaxed),
                models: key.gates.seen(),
            }
        };
        self.keys.iter().map(seen).collect()
    }
}

/// What is known of a key, to be shown.
pub(crate) struct SeenKey {
    pub(crate) refused_for: Duration,
    pub(crate) is_well: bool,
    pub(crate) in_flight: u64,
    pub(crate) models: Vec<(Arc<str>, crate::limits::Seen)>,
}

/// What of a key a provider refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The key, or its account's money.
    Key,
    /// The key, for this model.
    Model,
    /// Any more of it for now.
    Limit,
}

/// A Call that may be sent with a key, until its answer has ended.
pub(crate) struct Permit {
    key: Arc<Key>,
    /// Which key it is, from 0.
    index: usize,
    model: Arc<str>,
    pass: Option<Pass>,
    /// What it takes of the limits; `None` = nothing of those that are known.
    cost: Option<Cost>,
    /// How long it was in the queue.
    waited: Duration,
    /// Whether it finds out whether its key is well again.
    probes: bool,
    /// Whether there is no other: then it is asked, whatever it answered before.
    alone: bool,
    clock: SharedClock,
}

impl Permit {
    /// Which key it is, from 1, as the configuration has them.
    pub(crate) const fn number(&self) -> usize {
        self.index + 1
    }

    /// What of it is worth a note: which of several keys, and how long it waited.
    pub(crate) fn note(&self, notes: &mut Notes) {
        if !self.alone {
            notes.set(NOTE_KEY, self.number());
        }
        if let Ok(millis @ 1..) = u64::try_from(self.waited.as_millis()) {
            notes.set(NOTE_WAITED, millis);
        }
    }

    /// Says the key.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.key.header {
            headers.insert(name, value.clone());
        }
    }

    /// The answer has begun well.
    pub(crate) fn answered(&mut self, headers: &HeaderMap) {
        let told = Told::read(headers, self.clock.now());
        if self.pass.is_none() && !told.readings.is_empty() {
            self.adopt();
        }
        if self.probes {
            self.key.outage().end();
        }
        if let Some(pass) = &self.pass {
            pass.answered(&told);
            if self.probes {
                pass.gate().with_outage(Outage::end);
            }
        }
    }

    /// The provider would not take the Call with this key.
    pub(crate) fn refused(&mut self, refused: Refused, told: &Told) {
        let now = self.clock.monotonic();
        match refused {
            Refused::Key | Refused::Model if self.alone => {}
            Refused::Key => self.key.outage().begin(now),
            Refused::Model => {
                if let Some(gate) = self.gate() {
                    gate.with_outage(|outage| outage.begin(now));
                }
            }
            Refused::Limit => {
                if self.pass.is_none() {
                    self.adopt();
                }
                if let Some(pass) = &self.pass {
                    pass.limited(told);
                }
            }
        }
    }

    /// The answer is whole.
    pub(crate) fn used(&self, output_tokens: u64) {
        if let Some(pass) = &self.pass {
            pass.used(output_tokens);
        }
    }

    fn gate(&self) -> Option<Arc<Gate>> {
        self.key.gates.find_or_make(&self.model, &self.clock)
    }

    fn adopt(&mut self) {
        let Some(cost) = self.cost else { return };
        let others = self.key.in_flight.load(Ordering::Relaxed);
        self.pass = self.gate().map(|gate| gate.adopt(others, cost));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.key.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.probes {
            self.key.outage().probed();
            if let Some(gate) = self.key.gates.find(&self.model) {
                gate.with_outage(Outage::probed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
