//! Chooses the targets of a Call: which of a route's may be asked, and in which order.
//!
//! Between `identify` and `admit`, so that money is held for targets only that can be asked. A
//! plain model's name comes by here without a step. Invariants: nothing is chosen that is not in
//! the route's plan; the same draw, facts and health give the same order; a condition that can't be
//! evaluated is a "no", is counted and noted. It must not know how a target is reached.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use storage::Budget;
use types::call::{Allowed, Plan, Target};
use types::clock::Monotonic;
use types::{Call, ErrorCode, Failure, Ids, Money, Operation};

use super::choice::{Candidate, Choice, Order, Sticky, What};
use super::condition::{Lately, Now, Unknown, Variable};
use super::facts::{BudgetLeft, Facts};
use super::health::Health;
use crate::admit::bound;
use crate::auto;
use crate::execute::attempts::Shared;
use crate::identify::Identified;
use crate::slo::Slos;

/// One Call in so many tries a target whose time nobody knows first.
const EXPLORE: f64 = 1.0 / 16.0;
/// Targets that were left out are noted, so many at most.
const NOTED_MAX: usize = 12;
/// Bits of a hash that make a fraction.
const FRACTION_BITS: u32 = 53;
/// The name under which all of it is noted.
const NOTE: &str = "route";

/// Whether anything is to be chosen.
pub(crate) fn has_to_choose(identified: &Identified) -> bool {
    let Identified { choice, call, .. } = identified;
    choice.is_some() || call.plan.targets.len() > 1 || allowed(call).is_some()
}

/// Puts the chosen targets into the Call's plan, and why into its notes.
pub(crate) async fn choose(
    shared: &Shared,
    mut identified: Identified,
) -> Result<Identified, Failure> {
    let choice = identified.choice.take();
    let needs_budget = |choice: &Arc<Choice>| choice.any_condition(&|when| when.needs_budget());
    let budget_left = match choice.as_ref().is_some_and(needs_budget) {
        true => budget_left(shared, &identified.budgets).await?,
        false => None,
    };
    let slos = shared.recorder.telemetry().slos();
    let world = World {
        health: &shared.health,
        ids: &shared.ids,
        slos: slos.as_deref(),
        now: shared.clock.monotonic(),
    };
    let tiers = shared.recorder.tiers();
    let decision = auto::decided(tiers, &identified.call, &*shared.clock);
    let facts = Facts::new(&identified.call, budget_left).decided(decision.as_ref());
    let mut chosen = chosen(&world, &identified.call, choice.as_deref(), facts);
    if chosen.failed > 0 {
        shared.recorder.count_failed_conditions(chosen.failed);
    }
    if chosen.targets.is_empty() {
        let call = &identified.call;
        return Err(nothing_allowed(call).unwrap_or_else(|| nothing_left(call)));
    }
    let tiered = decision
        .as_ref()
        .and_then(|decision| auto::order(tiers, &identified.call, decision, &mut chosen.targets));
    if choice.is_none() && tiered.is_none() && chosen.targets == identified.call.plan.targets {
        return Ok(identified);
    }
    let unshared = || Failure::new(ErrorCode::Internal, "a call was shared before it was chosen");
    let call = Arc::get_mut(&mut identified.call).ok_or_else(unshared)?;
    call.plan = Arc::new(Plan { targets: chosen.targets, ..Plan::clone(&call.plan) });
    call.pins = chosen.pins;
    if !chosen.note.is_empty() {
        call.notes.set(NOTE, Value::Object(chosen.note));
    }
    if let Some((name, note)) = tiered {
        call.notes.set(name, note);
    }
    Ok(identified)
}

/// What a choice depends on beside the Call.
struct World<'a> {
    health: &'a Health,
    ids: &'a Ids,
    slos: Option<&'a Slos>,
    now: Monotonic,
}

/// What came of it.
struct Chosen {
    targets: Vec<Arc<Target>>,
    note: Map<String, Value>,
    /// What keeps the Call on the target that answers it.
    pins: Vec<u64>,
    /// Conditions that could not be evaluated.
    failed: u64,
}

fn chosen(world: &World<'_>, call: &Call, choice: Option<&Choice>, facts: Facts<'_>) -> Chosen {
    let mut chooser = Chooser {
        world,
        call,
        facts,
        draw: None,
        cooling: Vec::new(),
        burning: Vec::new(),
        lately: Vec::new(),
        failed: 0,
        by: Vec::new(),
        pins: Vec::new(),
        left_out: Map::new(),
    };
    let listed = match choice {
        Some(choice) => {
            chooser.look_at_health(choice);
            chooser.list(choice)
        }
        None => {
            let mut targets = call.plan.targets.clone();
            targets.retain(|target| chooser.is_allowed(target));
            targets
        }
    };
    let targets = chooser.able(listed);
    let pins = std::mem::take(&mut chooser.pins);
    Chosen { targets, pins, failed: chooser.failed, note: chooser.note() }
}

/// Which targets the caller allows, if not all.
fn allowed(call: &Call) -> Option<&Allowed> {
    call.asks.as_ref()?.allowed.as_ref()
}

/// Why a Call has no target, if none of its name's is among those that its caller allows.
fn nothing_allowed(call: &Call) -> Option<Failure> {
    let (allowed, targets) = (allowed(call)?, &call.plan.targets);
    if targets.iter().any(|target| allowed.allows(target)) {
        return None;
    }
    let names: Vec<&str> = targets.iter().take(NOTED_MAX).map(|target| &*target.name).collect();
    let message = format!(
        "none of the models that `{}` stands for is among those that the request allows: {}",
        call.plan.name,
        names.join(", ")
    );
    Some(Failure::invalid("model", message))
}

fn nothing_left(call: &Call) -> Failure {
    let name = &call.plan.name;
    let message = format!("the conditions of `{name}` leave no model for this call");
    Failure { param: Some("model".into()), ..Failure::new(ErrorCode::ModelNotFound, message) }
}

/// What the budgets in scope have left; each number is of the tightest in it.
async fn budget_left(
    shared: &Shared,
    budgets: &[Arc<Budget>],
) -> Result<Option<BudgetLeft>, Failure> {
    let mut least: Option<BudgetLeft> = None;
    for budget in budgets {
        let one = std::slice::from_ref(budget);
        let free = shared.escrow.tightest_free(one, shared.clock.now()).await?.unwrap_or_default();
        let (free, limit) = (free.nanodollars().max(0), budget.limit.nanodollars().max(1));
        let percent = i128::from(free) * 100 / i128::from(limit);
        let percent = u8::try_from(percent.min(100)).unwrap_or(100);
        let (amount, before) = (Money::from_nanodollars(free), least);
        least = Some(BudgetLeft {
            amount: before.map_or(amount, |before| before.amount.min(amount)),
            percent: before.map_or(percent, |before| before.percent.min(percent)),
        });
    }
    Ok(least)
}

/// One Call's choice, while it is made.
struct Chooser<'a> {
    world: &'a World<'a>,
    call: &'a Call,
    facts: Facts<'a>,
    /// Random in `0.0..1.0`, drawn once and only if it is needed.
    draw: Option<f64>,
    cooling: Vec<&'a str>,
    burning: Vec<&'a str>,
    lately: Vec<Lately<'a>>,
    /// Conditions that could not be evaluated.
    failed: u64,
    /// By what targets were ordered.
    by: Vec<&'static str>,
    pins: Vec<u64>,
    left_out: Map<String, Value>,
}

/// A candidate that may be asked, with its targets in their order.
struct Able<'c> {
    candidate: &'c Candidate,
    targets: Vec<Arc<Target>>,
}

impl<'a> Chooser<'a> {
    /// Finds out which targets are left alone and which objectives burn, if a condition asks.
    fn look_at_health(&mut self, choice: &Choice) {
        if choice.any_condition(&|when| when.names(Variable::Cooling)) {
            let names = self.call.plan.targets.iter().map(|target| &*target.name);
            let World { health, now, .. } = *self.world;
            self.cooling = names.filter(|name| health.is_open(name, now)).collect();
        }
        if choice.any_condition(&|when| when.names(Variable::Burning)) {
            self.burning = self.world.slos.map(|slos| slos.burning().collect()).unwrap_or_default();
        }
        if choice.any_condition(&|when| when.needs_lately()) {
            let World { health, now, .. } = *self.world;
            let streamed = self.facts.stream();
            let lately = |target: &'a Arc<Target>| {
                let took = health.pace.first_content(&target.name, streamed, now);
                Lately {
                    target: &target.name,
                    failure_percent: health.pace.failure_percent(&target.name, now),
                    latency_ms: took
                        .map_or(0, |took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
                }
            };
            self.lately = self.call.plan.targets.iter().map(lately).collect();
        }
    }

    /// The targets of a choice that may be asked, in their order, each once.
    fn list(&mut self, choice: &Choice) -> Vec<Arc<Target>> {
        let mut able = Vec::with_capacity(choice.targets.len());
        for candidate in &choice.targets {
            if !self.may_be_asked(candidate) {
                continue;
            }
            let targets = match &candidate.what {
                What::Choice(choice) => self.list(choice),
                What::Model(model) => {
                    let mut targets = self.call.plan.targets.iter();
                    let found = targets.find(|target| *target.name == **model);
                    let found = found.filter(|target| self.is_allowed(target));
                    found.cloned().into_iter().collect()
                }
            };
            if !targets.is_empty() {
                able.push(Able { candidate, targets });
            }
        }
        if able.len() > 1 {
            self.order(choice, &mut able);
        }
        self.pin(choice, &mut able);
        if choice.only_first {
            able.truncate(1);
        }
        let mut all: Vec<Arc<Target>> = Vec::new();
        for target in able.into_iter().flat_map(|able| able.targets) {
            if !all.iter().any(|other| Arc::ptr_eq(other, &target)) {
                all.push(target);
            }
        }
        all
    }

    fn is_allowed(&mut self, target: &Target) -> bool {
        let is = allowed(self.call).is_none_or(|allowed| allowed.allows(target));
        if !is {
            self.leave_out(&target.name, "not allowed by the request");
        }
        is
    }

    fn may_be_asked(&mut self, candidate: &Candidate) -> bool {
        let Some(when) = &candidate.when else { return true };
        let Self { cooling, burning, lately, .. } = self;
        let why = match when.holds(&self.facts, Now { cooling, burning, lately }) {
            Ok(true) => return true,
            Ok(false) => "when",
            Err(Unknown::Absent) => "when: not in the metadata",
            Err(Unknown::Failed) => {
                self.failed += 1;
                "when: can't be evaluated"
            }
        };
        self.leave_out(candidate.name(), why);
        false
    }

    fn leave_out(&mut self, target: &str, why: &str) {
        if self.left_out.len() < NOTED_MAX {
            self.left_out.insert(target.to_owned(), Value::from(why));
        }
    }

    fn order(&mut self, choice: &Choice, able: &mut Vec<Able<'_>>) {
        let World { health, now, .. } = *self.world;
        let by = match choice.order {
            Order::Listed if able.iter().any(|able| able.candidate.weight.is_some()) => {
                self.split(choice, able)
            }
            Order::Listed => return,
            Order::Price => {
                able.sort_by_cached_key(|able| {
                    able.targets.first().map(|target| self.cost(target))
                });
                "price"
            }
            Order::Health => {
                able.sort_by_cached_key(|able| {
                    let name = able.targets.first().map_or("", |target| &*target.name);
                    (health.is_open(name, now), health.pace.failures(name, now))
                });
                "health"
            }
            Order::Latency => self.by_latency(able),
        };
        if !self.by.contains(&by) {
            self.by.push(by);
        }
    }

    /// What a Call can cost at a target at most; what nobody knows is dearest.
    fn cost(&self, target: &Target) -> Money {
        if bound::costs_nothing(self.call) {
            return Money::ZERO;
        }
        let price = target.price.as_deref();
        price.map_or(Money::MAX, |price| bound::terms(self.call, target, price, None).bound)
    }

    /// Those with a share first: a random order by weight, the same for the same key. When a target
    /// joins, only Calls move that move to it.
    fn split(&mut self, choice: &Choice, able: &mut [Able<'_>]) -> &'static str {
        let key = choice.sticky.as_ref().and_then(|sticky| self.key(sticky));
        let by = if key.is_some() { "sticky" } else { "weight" };
        let key = key.unwrap_or_else(|| self.draw().to_bits().to_le_bytes().to_vec());
        let rank = |able: &Able<'_>| match able.candidate.weight.unwrap_or(0) {
            0 => f64::INFINITY,
            weight => -fraction(&key, able.candidate.name()).ln() / f64::from(weight),
        };
        able.sort_by(|one, other| rank(one).total_cmp(&rank(other)));
        by
    }

    /// The target that answered last before all others, while it is well: where Calls stay together
    /// and are not a split's. It passes over none before it that is there by its own condition.
    fn pin(&mut self, choice: &Choice, able: &mut Vec<Able<'_>>) {
        let sticky = choice.sticky.as_ref().filter(|_| choice.pins());
        let Some(pin) = sticky.and_then(|sticky| self.pin_of(sticky)) else { return };
        let operation = self.call.model().map(|model| model.operation);
        if operation != Some(Operation::CountTokens) {
            self.pins.push(pin);
        }
        let World { health, now, .. } = *self.world;
        let Some(name) = health.pins.find(pin).filter(|name| !health.is_open(name, now)) else {
            return;
        };
        let place = |able: &Able<'_>| able.targets.iter().position(|target| target.name == name);
        let found = able.iter().enumerate().find_map(|(index, able)| Some((index, place(able)?)));
        let Some((index, place)) = found else { return };
        let goes_by_conditions =
            |choice: &Choice| choice.order == Order::Listed || choice.only_first;
        let before = able[..index].iter().any(|before| before.candidate.when.is_some());
        let within = match &able[index].candidate.what {
            What::Model(_) => false,
            What::Choice(choice) => {
                place > 0 && goes_by_conditions(choice) && choice.any_condition(&|_| true)
            }
        };
        if within || before && goes_by_conditions(choice) {
            return;
        }
        able[..=index].rotate_right(1);
        able[0].targets[..=place].rotate_right(1);
        self.by.push("pinned");
    }

    /// What its Call has in common with others that stay with it; of a session without a name its
    /// task, if that has one.
    fn pin_of(&self, sticky: &Sticky) -> Option<u64> {
        let call = self.call;
        let of_task = || {
            let is_named = *call.task != *call.id.as_str();
            is_named.then(|| self.key(&Sticky::Task)).flatten()
        };
        let key = match sticky {
            Sticky::Session => self.key(sticky).or_else(of_task),
            Sticky::Task => of_task(),
            Sticky::User | Sticky::Key | Sticky::Metadata(_) => self.key(sticky),
        };
        Some(bits(&key?, &call.plan.name))
    }

    /// The fastest first, those that nobody knows last; now and then one of these first, so that
    /// they become known.
    fn by_latency(&mut self, able: &mut Vec<Able<'_>>) -> &'static str {
        let World { health, now, .. } = *self.world;
        let (pace, streamed) = (&health.pace, self.facts.stream());
        let time = |able: &Able<'_>| {
            let target = able.targets.first()?;
            pace.first_content(&target.name, streamed, now)
        };
        able.sort_by_cached_key(|able| {
            let time = time(able);
            (time.is_none(), time)
        });
        let known = able.iter().take_while(|able| time(able).is_some()).count();
        let unknown = able.len() - known;
        let draw = self.draw();
        if known == 0 || unknown == 0 || draw >= EXPLORE {
            return "latency";
        }
        // Each of them equally often.
        let places = u32::try_from(unknown).unwrap_or(u32::MAX);
        let turn =
            (1..places).filter(|place| draw >= EXPLORE * f64::from(*place) / f64::from(places));
        let explored = able.remove(known + turn.count());
        able.insert(0, explored);
        "latency: tries an unknown one"
    }

    fn draw(&mut self) -> f64 {
        *self.draw.get_or_insert_with(|| self.world.ids.fraction())
    }

    /// What Calls must have in common to stay on one target.
    fn key(&self, sticky: &Sticky) -> Option<Vec<u8>> {
        let call = self.call;
        let text = match sticky {
            Sticky::Session | Sticky::Task if call.has_no_affinity() => return None,
            Sticky::Session => call.session_root.as_ref()?.as_str().to_owned(),
            Sticky::User => call.principal.user.as_ref().to_owned(),
            Sticky::Key => call.principal.key.as_str().to_owned(),
            Sticky::Task => call.task.as_ref().to_owned(),
            Sticky::Metadata(name) => call.metadata.get(name)?.to_string(),
        };
        // Not another account's: nobody can aim at a target that others use.
        Some(format!("{}\n{text}", call.principal.account).into_bytes())
    }

    /// Those that take what is asked, as far as the catalogue knows; those whose window seems too
    /// small come last. If none is left, all stay: the first one's own refusal says why.
    fn able(&mut self, targets: Vec<Arc<Target>>) -> Vec<Arc<Target>> {
        let is_chat = self.call.model().is_some_and(|model| model.operation == Operation::Chat);
        if targets.len() < 2 || !is_chat {
            return targets;
        }
        let lacks = |target: &Arc<Target>| -> Option<&'static str> {
            let lacks = target.lacks;
            if lacks.media && self.facts.media() > 0 {
                return Some("takes no images");
            }
            if lacks.schema && self.facts.wants_schema() {
                return Some("takes no schema");
            }
            None
        };
        let tokens = self.facts.input_tokens();
        let small = |target: &Arc<Target>| target.context_tokens.is_some_and(|most| tokens > most);
        let why: Vec<Option<&str>> = targets.iter().map(lacks).collect();
        if why.iter().all(Option::is_none) && !targets.iter().any(small) {
            return targets;
        }
        if why.iter().all(Option::is_some) {
            return targets;
        }
        let mut able = Vec::with_capacity(targets.len());
        for (target, why) in targets.into_iter().zip(why) {
            match why {
                Some(why) => self.leave_out(&target.name, why),
                None => able.push(target),
            }
        }
        able.sort_by_key(|target| small(target));
        able
    }

    fn note(self) -> Map<String, Value> {
        let mut note = Map::new();
        if !self.by.is_empty() {
            note.insert("by".to_owned(), json!(self.by.join(", ")));
        }
        if !self.left_out.is_empty() {
            note.insert("left_out".to_owned(), Value::Object(self.left_out));
        }
        note
    }
}

/// A number in `0.0..1.0`, never quite either, that is the same for the same key and name.
fn fraction(key: &[u8], name: &str) -> f64 {
    exact(bits(key, name) >> (u64::BITS - FRACTION_BITS))
}

fn bits(key: &[u8], name: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(name.as_bytes());
    let digest = hash.finalize();
    digest.iter().take(8).fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte))
}

#[expect(clippy::cast_precision_loss, reason = "a number of 53 bits is exact")]
fn exact(bits: u64) -> f64 {
    (bits as f64 + 0.5) / (1_u64 << FRACTION_BITS) as f64
}

#[cfg(test)]
mod tests;
