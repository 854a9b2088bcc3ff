//! One schedule: what happens on one to three nodes over one store, chosen by a seed, and what must
//! hold after each step of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use pipeline::{Charged, NewBudget, Reconciliation, named_session};
use storage::budgets::Origin;
use storage::{Budgets, Commit, Scope, SqliteStore, Store, WindowKey, WindowKind};
use types::call::StepRef;
use types::error::Billed;
use types::ids::{CallId, SessionId, StepId};
use types::principal::DEFAULT_ACCOUNT;
use types::{CacheWrites, ErrorCode, Failure, Ids, Money, OutcomeEvent, Price, Timestamp, Usage};

use super::books::{Books, Truth, sum};
use super::chance::Chance;
use super::disk::{Asked, Fate, Gate, Performed, wait};
use super::node::{Ask, Asking, Ended, Flight, Journaled, Node, Running, Waiting};
use super::tally::Tally;
use crate::world::{MORNING, as_step, dear_price, dollars, finish, price, request, usage};

/// The output caps of the Calls, in tokens: bounds from $0.0021 to $0.104.
const CAPS: [u64; 4] = [10, 200, 1_000, 5_000];
/// Input tokens of each request at most.
const INPUT: u64 = 1_000;
/// The cap that a Call without one gets at least.
const LEAST_CAP: u64 = 4_096;
const LIMITS: [&str; 6] = ["0.02", "0.05", "0.11", "0.50", "0.50", "20"];
/// Slices are this many bounds, or this part of the limit.
const SLICE_BOUNDS: i64 = 8;
const SLICE_OF_LIMIT: i64 = 100;
/// Slices of a budget that a node may leave open, beside what is in flight.
const SLICES_OPEN_MAX: i64 = 2;
const STEPS_MIN: usize = 12;
const STEPS_MAX: usize = 48;
/// After so many rounds whatever waits must have come to its end.
const ROUNDS_MAX: usize = 2_000;
const DAY: Duration = Duration::from_secs(86_400);

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Calls,
    Step,
    End,
    Leave,
    Serve,
    Settle,
    GoOn,
    Advance,
    Jump,
    Limit,
    Pause,
    Disk,
    Crash,
    Restart,
    Lost,
}

const HAPPENINGS: [(usize, Happening); 15] = [
    (14, Happening::Calls),
    (5, Happening::Step),
    (16, Happening::End),
    (2, Happening::Leave),
    (14, Happening::Serve),
    (10, Happening::Settle),
    (6, Happening::GoOn),
    (4, Happening::Advance),
    (1, Happening::Jump),
    (1, Happening::Limit),
    (1, Happening::Pause),
    (1, Happening::Disk),
    (2, Happening::Crash),
    (1, Happening::Restart),
    (2, Happening::Lost),
];

/// A step as its session's journal has it.
struct Lost {
    ask: Ask,
    journaled: Journaled,
}

pub(super) struct Play {
    seed: u64,
    chance: Chance,
    store: Arc<SqliteStore>,
    books: Books,
    /// By number; `None` = dead.
    nodes: Vec<Option<Node>>,
    lives: u64,
    ids: Ids,
    now: Timestamp,
    lost: Vec<Lost>,
    /// Steps that have ended, with the life that they ended in.
    journaled: Vec<(u64, Lost)>,
    /// What attempts cost in truth, by budget; what nobody reports too.
    spent: BTreeMap<usize, Money>,
    limits_changed: bool,
    tally: Tally,
    /// What happened, for whoever looks at one seed alone.
    told: Option<Vec<String>>,
}

impl Play {
    /// Plays the schedule of a seed to its end. Answers what was seen.
    pub(super) fn through(store: &Arc<SqliteStore>, seed: u64, tell: bool) -> (Tally, Vec<String>) {
        let mut play = Self::new(store, seed, tell);
        let steps = STEPS_MIN + play.chance.below(STEPS_MAX - STEPS_MIN);
        let is_calm = play.chance.one_in(2);
        for _ in 0..steps {
            let happening = play.chance.weighted(&HAPPENINGS);
            play.happen(happening);
            if is_calm && !play.chance.one_in(4) {
                play.settle();
            }
            play.look();
        }
        play.end();
        (play.tally, play.told.unwrap_or_default())
    }

    fn new(store: &Arc<SqliteStore>, seed: u64, tell: bool) -> Self {
        let mut chance = Chance::new(seed);
        let count = chance.weighted(&[(7, 1), (2, 2), (1, 3)]);
        let clock = Arc::new(types::clock::FakeClock::new(MORNING));
        let mut play = Self {
            seed,
            store: Arc::clone(store),
            books: Books::default(),
            nodes: (0..count).map(|_| None).collect(),
            lives: 0,
            ids: Ids::seeded(clock, Chance::new(seed ^ 0x5eed).next()),
            now: MORNING,
            lost: Vec::new(),
            journaled: Vec::new(),
            spent: BTreeMap::new(),
            limits_changed: false,
            tally: Tally::default(),
            told: tell.then(Vec::new),
            chance,
        };
        play.furnish();
        for number in 0..count {
            play.start(number);
        }
        play
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            let line = what();
            // At once: whoever looks at one seed alone looks at what breaks.
            println!("{line}");
            told.push(line);
        }
    }

    /// Makes the budgets: one to three.
    fn furnish(&mut self) {
        let node = self.fresh();
        let scopes = [
            (Scope::Account, WindowKind::Total),
            (Scope::Key("ci".to_owned()), WindowKind::Day),
            (Scope::Session("s".to_owned()), WindowKind::Total),
        ];
        let sure = self.chance.below(scopes.len());
        let mut budgets = Vec::new();
        for (place, (scope, window)) in scopes.into_iter().enumerate() {
            if place != sure && self.chance.one_in(3) {
                continue;
            }
            let limit = dollars(self.chance.pick::<&str>(&LIMITS));
            let account = DEFAULT_ACCOUNT.to_owned();
            let (zone, origin) = (storage::Zone::UTC, Origin::Api);
            let new = NewBudget { account, scope, limit, window, zone, origin };
            budgets.push(node.runtime.block_on(node.directory.put_budget(new)).unwrap());
        }
        self.books = Books::new(budgets);
        let limits: Vec<_> = self.books.watched.iter().map(|w| w.budget.limit).collect();
        self.tell(|| format!("limits {limits:?}"));
    }

    fn fresh(&mut self) -> Node {
        self.lives += 1;
        let seed = Chance::new(self.seed ^ (self.lives << 48)).next();
        Node::new(Gate::new(&self.store), self.now, (self.lives, seed))
    }

    /// Starts a node, on a disk that works.
    fn start(&mut self, number: usize) {
        let mut node = self.fresh();
        for (place, watched) in self.books.watched.iter().enumerate() {
            node.limits.insert(place, watched.budget.limit);
        }
        let pipeline = Arc::clone(&node.pipeline);
        let started = node.runtime.spawn(async move { pipeline.start().await });
        let mut rounds = 0;
        while !started.is_finished() {
            node.go_on();
            while node.gate.waiting() > 0 {
                self.serve(&node, 0, Fate::Done);
            }
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "a node does not start");
        }
        node.runtime.block_on(started).unwrap().unwrap();
        self.nodes[number] = Some(node);
    }

    /// Does one of the requests that wait at a node's gate.
    fn serve(&mut self, node: &Node, place: usize, fate: Fate) -> bool {
        let request = node.gate.take(place);
        let asked = request.asked.clone();
        // Only what is asked again may be done although it failed.
        let is_twice = fate == Fate::DoneAndFails && asked.is_of_rows();
        let fate = if fate == Fate::DoneAndFails && !is_twice { Fate::Done } else { fate };
        let performed = request.perform(fate);
        self.tell(|| format!("node {} {}: {fate:?} {}", node.life, asked.name(), performed.done));
        let failed = fate != Fate::Done;
        self.tally.served += 1;
        self.tally.failed += u64::from(failed);
        self.tally.twice += u64::from(is_twice);
        self.books.take(&self.store, (node.life, &asked), &performed);
        (performed.answer)();
        failed
    }

    fn alive(&self) -> Vec<usize> {
        let alive = self.nodes.iter().enumerate().filter(|(_, node)| node.is_some());
        alive.map(|(number, _)| number).collect()
    }

    /// Does something with a node, and puts it back.
    fn with<T>(&mut self, number: usize, work: impl FnOnce(&mut Self, &mut Node) -> T) -> T {
        let mut node = self.nodes[number].take().unwrap();
        let result = work(self, &mut node);
        self.nodes[number] = Some(node);
        result
    }

    fn happen(&mut self, happening: Happening) {
        self.tell(|| format!("{happening:?}"));
        let alive = self.alive();
        if alive.is_empty() {
            return self.restart();
        }
        let number = *self.chance.pick(&alive);
        match happening {
            Happening::Calls => {
                let count = if self.chance.one_in(3) { 1 + self.chance.below(8) } else { 1 };
                for _ in 0..count {
                    self.with(number, Self::call);
                }
            }
            Happening::Step => self.with(number, Self::step),
            Happening::End => self.with(number, Self::end_one),
            Happening::Leave => self.with(number, Self::leave),
            Happening::Serve => self.with(number, Self::serve_one),
            Happening::Settle => self.settle(),
            Happening::GoOn => {
                if self.nodes[number].as_ref().is_some_and(|node| !node.paused) {
                    self.go_on(number);
                }
            }
            Happening::Advance => {
                let millis = 1 + self.chance.below(200);
                self.advance(Duration::from_millis(u64::try_from(millis).unwrap()));
            }
            Happening::Jump => {
                // A node's clock is its own: it may be wrong alone.
                let days = u32::try_from(self.chance.below(5)).unwrap();
                let node = self.nodes[number].as_ref().unwrap();
                node.clock.jump_to(Timestamp(MORNING.0 - 86_400_000_000).plus(DAY * days));
                self.now = types::Clock::now(&*node.clock);
            }
            Happening::Limit => self.change_limit(number),
            Happening::Pause => {
                let node = self.nodes[number].as_mut().unwrap();
                node.paused = !node.paused;
            }
            Happening::Disk => {
                let node = self.nodes[number].as_mut().unwrap();
                node.disk_down = !node.disk_down;
            }
            Happening::Crash => self.crash(number),
            Happening::Restart => self.restart(),
            Happening::Lost => self.write_lost(),
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        for node in self.nodes.iter().flatten() {
            node.clock.advance(by);
        }
    }

    // Asking.

    fn asked(&mut self, node: &Node) -> (Ask, types::Incoming) {
        let has_cap = !self.chance.one_in(8);
        let cap = has_cap.then(|| *self.chance.pick(&CAPS));
        let (key, session) = (self.chance.one_in(2), self.chance.one_in(2));
        let dear = self.chance.one_in(3);
        let call = CallId::new(&self.ids);
        let model = if dear { "paid/dear" } else { "paid/m" };
        let mut incoming = request(if key { "ci" } else { "other" }, model, cap);
        incoming.id = Some(call.clone());
        incoming.headers.session_name = session.then(|| "s".to_owned());
        let falls_under = |scope: &Scope| {
            *scope == Scope::Account
                || (key && *scope == Scope::Key("ci".to_owned()))
                || (session && *scope == Scope::Session("s".to_owned()))
        };
        let watched = self.books.watched.iter().enumerate();
        let scope = watched.filter(|(_, watched)| falls_under(&watched.budget.scope));
        let scope = scope.map(|(place, _)| place).collect();
        let since = WindowKind::Day.at(types::Clock::now(&*node.clock), &storage::Zone::UTC);
        (Ask { call, cap, dear, scope, since }, incoming)
    }

    fn wait_for(&mut self, node: &mut Node, ask: Ask, asking: Asking) {
        let limits = ask.scope.iter().map(|at| self.books.watched[*at].budget.limit).collect();
        let alone = node.is_idle();
        let zeros = vec![Money::ZERO; ask.scope.len()];
        for other in &mut node.waiting {
            other.alone = false;
        }
        let (peaks, beside) = (zeros.clone(), zeros);
        node.waiting.push(Waiting { ask, asking, peaks, limits, beside, alone });
        self.see_peaks(node);
        node.go_on();
        self.hear(node);
    }

    fn call(&mut self, node: &mut Node) {
        let (ask, incoming) = self.asked(node);
        self.tell(|| format!("node {} is asked {ask:?}", node.life));
        let asking = node.ask(incoming);
        self.wait_for(node, ask, asking);
    }

    fn step(&mut self, node: &mut Node) {
        let (ask, incoming) = self.asked(node);
        self.tell(|| format!("node {} is asked a step {ask:?}", node.life));
        let session = SessionId::new(&self.ids);
        let named = incoming.headers.session_name.is_some();
        let named = named.then(|| named_session(DEFAULT_ACCOUNT, "u", "s"));
        let root = named.unwrap_or_else(|| session.clone());
        let step = StepRef { begun: false, root, session, step: StepId::new(&self.ids) };
        let asking = node.ask_step(as_step(incoming, step));
        self.wait_for(node, ask, asking);
    }

    /// A client goes before its Call was admitted.
    fn leave(&mut self, node: &mut Node) {
        let is_plain = |waiting: &Waiting| matches!(waiting.asking, Asking::Plain(_));
        let Some(place) = node.waiting.iter().position(is_plain) else { return };
        let Waiting { ask, asking, .. } = node.waiting.swap_remove(place);
        let Asking::Plain(task) = asking else { return };
        task.abort();
        // If it was admitted before, it is dropped unsent.
        drop(node.runtime.block_on(task));
        self.tell(|| format!("{} left", ask.call));
        self.books.tell(&ask.call, truth(&ask, Money::ZERO, Money::ZERO));
        for at in &ask.scope {
            *node.left.entry(*at).or_default() += most(&ask);
            may_have_had(node, *at, most(&ask));
        }
        held_beside(node, &ask);
    }

    /// Takes in who was admitted, and judges who was refused.
    fn hear(&mut self, node: &mut Node) {
        let (mut refused, mut place) = (Vec::new(), 0);
        while place < node.waiting.len() {
            if !node.waiting[place].asking.is_answered() {
                place += 1;
                continue;
            }
            let waiting = node.waiting.remove(place);
            match self.answered(node, waiting) {
                Ok(flight) => node.flights.push(flight),
                Err(turned) => refused.push(*turned),
            }
        }
        self.see_peaks(node);
        let of_several: Vec<_> = refused.iter().map(|(waiting, _)| waiting.ask.clone()).collect();
        for (waiting, _) in &mut refused {
            // Those that still wait, and those that are refused with it.
            let others = node.waiting.iter().map(|other| &other.ask).chain(&of_several);
            let call = waiting.ask.call.clone();
            let others = others.filter(|other| other.call != call && other.scope.len() > 1);
            others.for_each(|other| waiting.may_have_lacked(other));
        }
        for (waiting, failure) in refused {
            if waiting.ask.scope.len() > 1 {
                held_beside(node, &waiting.ask);
            }
            self.judge(node, &waiting, &failure);
        }
    }

    fn answered(&mut self, node: &mut Node, waiting: Waiting) -> Result<Flight, Box<Turned>> {
        let Waiting { ask, asking, peaks, limits, beside, alone } = waiting;
        let rest = |asking| Waiting { ask: ask.clone(), asking, peaks, limits, beside, alone };
        let (running, bound) = match asking {
            Asking::Plain(mut task) => match node.runtime.block_on(&mut task).unwrap() {
                Ok(mut answer) => {
                    node.begin(&mut answer);
                    let cap = ask.cap.or_else(|| answer.bill().output_cap);
                    let bound = match (ask.scope.is_empty(), cap) {
                        (false, Some(cap)) => bound(&ask, cap),
                        (true, _) | (_, None) => Money::ZERO,
                    };
                    (Running::Plain(Box::new(answer)), bound)
                }
                Err(turned) => {
                    return Err(Box::new((rest(Asking::Plain(task)), turned.failure)));
                }
            },
            Asking::Step(mut task, told) => match node.runtime.block_on(&mut task).unwrap() {
                Ok(admission) => {
                    let journaled = told.lock().unwrap().clone().unwrap();
                    let bound = journaled.bound;
                    let _inside = node.runtime.enter();
                    let mut run = node.pipeline.run_step(admission);
                    assert!(run.next().now_or_never().is_none(), "it has begun");
                    (Running::Step(Box::new(run), Box::new(journaled)), bound)
                }
                Err(failure) => {
                    return Err(Box::new((rest(Asking::Step(task, told)), failure)));
                }
            },
        };
        self.tell(|| format!("{} was admitted at {bound}", ask.call));
        self.tally.admitted += 1;
        if matches!(running, Running::Plain(_)) {
            for at in &ask.scope {
                may_have_had(node, *at, bound);
            }
        }
        let until = ask.scope.iter().map(|at| self.latest(node, *at)).collect();
        Ok(Flight { ask, bound, until, running })
    }

    /// The latest window that a Call may count in now.
    fn latest(&self, node: &Node, at: usize) -> WindowKey {
        let watched = &self.books.watched[at];
        let window = watched.budget.window_at(types::Clock::now(&*node.clock));
        watched.latest().map_or(window, |latest| latest.max(window))
    }

    /// Notes what is taken of each budget that somebody waits for.
    fn see_peaks(&mut self, node: &mut Node) {
        let mut waiting = std::mem::take(&mut node.waiting);
        for one in &mut waiting {
            for (place, at) in one.ask.scope.iter().enumerate() {
                let taken = self.taken(node, *at, one.ask.since);
                one.peaks[place] = one.peaks[place].max(taken);
                let limit = self.books.watched[*at].budget.limit;
                one.limits[place] = one.limits[place].min(limit);
            }
        }
        node.waiting = waiting;
    }

    /// What nobody on a node can have of a budget now, by the books: idle parts of its own slices
    /// are free.
    fn taken(&self, node: &Node, at: usize, since: WindowKey) -> Money {
        let watched = &self.books.watched[at];
        let is_daily = watched.budget.window == WindowKind::Day;
        let since = if is_daily { since } else { WindowKey(0) };
        let mut windows: Vec<_> =
            watched.windows.range(since..).map(|(window, _)| *window).collect();
        windows.push(self.latest(node, at));
        let own = |window: WindowKey| {
            let inside = |ask: &Ask, until: &[WindowKey]| {
                let place = ask.scope.iter().position(|scope| *scope == at);
                let from = if is_daily { ask.since } else { WindowKey(0) };
                place.is_some_and(|place| from <= window && window <= until[place])
            };
            let flights = node.flights.iter().filter(|flight| flight.is_plain());
            let flights = flights.filter(|flight| inside(&flight.ask, &flight.until));
            let flights: Money = flights.map(|flight| flight.bound).sum();
            let ended = node.ended.iter().filter(|ended| inside(&ended.ask, &ended.until));
            let ended = ended.filter(|ended| !self.books.is_written(&ended.ask.call));
            flights + ended.map(|ended| ended.charge).sum::<Money>()
        };
        let taken = windows
            .into_iter()
            .map(|window| self.books.beyond(node.life, at, window) + own(window));
        taken.max().unwrap_or_default()
    }

    /// A refusal is right only if the Call's own bound exceeds what some budget has free.
    fn judge(&mut self, node: &mut Node, turned: &Waiting, failure: &Failure) {
        let ask = &turned.ask;
        self.tell(|| format!("{} was refused: {failure}", ask.call));
        if node.failed && matches!(turned.asking, Asking::Plain(_)) {
            // What was claimed for it may still be on its way back.
            ask.scope.iter().for_each(|at| may_have_had(node, *at, most(ask)));
        }
        match failure.code {
            ErrorCode::BudgetExceeded => {}
            ErrorCode::StorageUnavailable if node.failed => return,
            ErrorCode::Overloaded if self.nodes.len() > 1 || self.limits_changed => return,
            _ => panic!("refused for no reason: {failure}"),
        }
        self.tally.refused += 1;
        let is_step = matches!(turned.asking, Asking::Step(..));
        if is_step && !turned.alone {
            return;
        }
        let least = bound(ask, ask.cap.unwrap_or(LEAST_CAP));
        let beside = &turned.beside;
        let short = (0..ask.scope.len())
            .any(|place| least + turned.peaks[place] + beside[place] > turned.limits[place]);
        let exact = beside.iter().all(|held| *held == Money::ZERO);
        self.tally.judged_exactly += u64::from(exact);
        assert!(
            short,
            "{} was refused, although {least} is free: at most {:?} was taken (and {beside:?} beside it) of {:?}",
            ask.call, turned.peaks, turned.limits,
        );
    }

    // Ending.

    fn end_one(&mut self, node: &mut Node) {
        if node.flights.is_empty() {
            return;
        }
        let which = self.chance.below(node.flights.len());
        let how = self.chance.weighted(&[
            (6, Ending::Usage),
            (1, Ending::NoUsage),
            (2, Ending::Refused),
            (1, Ending::Billed),
            (1, Ending::Broken),
            (2, Ending::Abandoned),
        ]);
        self.end_flight(node, which, how);
    }

    fn end_flight(&mut self, node: &mut Node, which: usize, how: Ending) {
        self.see_peaks(node);
        let Flight { ask, bound: held, until, running } = node.flights.swap_remove(which);
        let cap = ask.cap.or_else(|| cap_of(&running)).unwrap_or(0);
        let used = used(u64::try_from(self.chance.below(1_001)).unwrap(), cap);
        let price = price_of(&ask);
        let whole = price.bound(INPUT, cap, CacheWrites::Unread);
        let (settled, unreconciled) = match how {
            Ending::Usage | Ending::Billed => (price.cost(&used), Money::ZERO),
            Ending::Refused => (Money::ZERO, Money::ZERO),
            Ending::NoUsage | Ending::Broken | Ending::Abandoned => (Money::ZERO, whole),
        };
        self.tell(|| format!("{} ends: {how:?} {settled} {unreconciled}", ask.call));
        let in_truth = if unreconciled > Money::ZERO { price.cost(&used) } else { settled };
        for at in &ask.scope {
            *self.spent.entry(*at).or_default() += in_truth;
        }
        self.books.tell(&ask.call, truth(&ask, settled, unreconciled));
        for event in how.events(used) {
            node.targets.tell_nth(&ask.call, 0, event);
        }
        let reads_on = !matches!(how, Ending::Abandoned);
        let inside = node.runtime.enter();
        match running {
            Running::Plain(mut answer) => {
                while reads_on && answer.next().now_or_never().expect("it has ended").is_some() {}
                drop(answer);
                let charge = settled + unreconciled;
                node.ended.push(Ended { ask, bound: held, until, charge });
            }
            Running::Step(mut run, journaled) => {
                while reads_on && run.next().now_or_never().expect("it has ended").is_some() {}
                drop(inside);
                node.write_outcome(*run);
                let journaled = *journaled;
                self.journaled.push((node.life, Lost { ask, journaled }));
            }
        }
    }

    // The store.

    fn serve_one(&mut self, node: &mut Node) {
        let waiting = node.gate.waiting();
        if waiting == 0 {
            return;
        }
        let place = self.chance.below(waiting);
        let fate = self.fate(node);
        node.failed |= self.serve(node, place, fate);
        self.see_peaks(node);
        if !node.paused {
            node.go_on();
        }
        self.hear(node);
    }

    fn fate(&mut self, node: &Node) -> Fate {
        if node.disk_down || self.chance.one_in(40) {
            return Fate::Fails;
        }
        if self.chance.one_in(20) { Fate::DoneAndFails } else { Fate::Done }
    }

    fn go_on(&mut self, number: usize) {
        self.with(number, |play, node| {
            node.go_on();
            play.hear(node);
        });
    }

    /// Lets everything come to rest that can.
    fn settle(&mut self) {
        for number in self.alive() {
            if self.nodes[number].as_ref().is_some_and(|node| !node.paused) {
                self.with(number, Self::settle_node);
            }
        }
    }

    fn settle_node(&mut self, node: &mut Node) {
        for _ in 0..ROUNDS_MAX {
            node.go_on();
            self.hear(node);
            if node.gate.waiting() == 0 {
                return;
            }
            let place = self.chance.below(node.gate.waiting());
            let fate = self.fate(node);
            node.failed |= self.serve(node, place, fate);
            self.see_peaks(node);
        }
        panic!("node {} does not come to rest", node.life);
    }

    fn change_limit(&mut self, number: usize) {
        // Other nodes would not hear of it: only one that starts reads what changed.
        if self.nodes.len() > 1 {
            return;
        }
        let at = self.chance.below(self.books.watched.len());
        let budget = Arc::clone(&self.books.watched[at].budget);
        let limit = dollars(self.chance.pick::<&str>(&LIMITS));
        self.limits_changed = true;
        self.with(number, |play, node| {
            play.see_peaks(node);
            let account = DEFAULT_ACCOUNT.to_owned();
            let (scope, window) = (budget.scope.clone(), budget.window);
            let (zone, origin) = (storage::Zone::UTC, Origin::Api);
            let new = NewBudget { account, scope, limit, window, zone, origin };
            let changed = node.runtime.block_on(node.directory.put_budget(new)).unwrap();
            play.books.watched[at].budget = changed;
            let highest = node.limits.entry(at).or_default();
            *highest = limit.max(*highest);
            play.see_peaks(node);
        });
        self.tell(|| format!("limit {at} is {limit}"));
    }

    // Dying.

    /// The process dies: memory is gone. What was on its way to the store is done, or is not.
    fn crash(&mut self, number: usize) {
        self.tally.crashes += 1;
        self.bury(number);
    }

    fn bury(&mut self, number: usize) {
        let mut node = self.nodes[number].take().unwrap();
        self.tell(|| format!("node {} dies", node.life));
        for request in node.gate.shut() {
            // Only one of them is what the worker waits for; a dead process asks nothing more.
            let fate = if self.chance.one_in(2) { Fate::Done } else { Fate::Fails };
            let asked = request.asked.clone();
            let performed = request.perform(fate);
            self.tell(|| format!("node {} {}: {fate:?} at its death", node.life, asked.name()));
            self.books.take(&self.store, (node.life, &asked), &performed);
        }
        self.check_open(&node);
        for waiting in std::mem::take(&mut node.waiting) {
            let Asking::Step(_, told) = &waiting.asking else { continue };
            let Some(journaled) = told.lock().unwrap().clone() else { continue };
            let is_held = journaled.reservation.as_ref().is_some_and(|id| self.books.holds(id));
            if is_held {
                self.lose(waiting.ask, journaled);
            }
        }
        for flight in std::mem::take(&mut node.flights) {
            let whole = match &flight.running {
                Running::Plain(_) => flight.bound,
                Running::Step(_, journaled) => {
                    let (ask, journaled) = (flight.ask.clone(), Journaled::clone(journaled));
                    if journaled.reservation.is_some() {
                        self.lose(ask, journaled);
                    }
                    continue;
                }
            };
            // It may have been billed in full.
            for at in &flight.ask.scope {
                *self.spent.entry(*at).or_default() += whole;
            }
        }
        // Steps that had ended, and whose rows died with their node, are lost too.
        let (ended, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.journaled)
            .into_iter()
            .partition(|(life, _)| *life == node.life);
        self.journaled = others;
        for (life, lost) in ended {
            let is_held = lost.journaled.reservation.as_ref();
            if is_held.is_some_and(|id| self.books.holds(id)) {
                self.books.forget(&lost.ask.call);
                self.lost.push(lost);
            } else {
                self.journaled.push((life, lost));
            }
        }
    }

    /// A crash lost what became of a step: it may have been billed in full.
    fn lose(&mut self, ask: Ask, journaled: Journaled) {
        for at in &ask.scope {
            *self.spent.entry(*at).or_default() += journaled.bound;
        }
        self.lost.push(Lost { ask, journaled });
    }

    /// What a dead node leaves open is what may be lost, and not more than the bound of CONTRACTS
    /// §2.
    fn check_open(&mut self, node: &Node) {
        for at in 0..self.books.watched.len() {
            let open = self.books.open(node.life, at);
            let of_budget = |ask: &Ask| ask.scope.contains(&at);
            let flights = node.flights.iter().filter(|flight| flight.is_plain());
            let flights = flights.filter(|flight| of_budget(&flight.ask));
            let in_flight: Money = flights.map(|flight| flight.bound).sum();
            let unwritten = node
                .ended
                .iter()
                .filter(|ended| of_budget(&ended.ask) && !self.books.is_written(&ended.ask.call));
            let (mut charges, mut bounds) = (Money::ZERO, Money::ZERO);
            for ended in unwritten {
                charges += ended.charge;
                bounds += ended.bound;
            }
            assert!(
                open >= in_flight + charges,
                "{open} is open, {in_flight} + {charges} is spent"
            );
            let waiting = node.waiting.iter().filter(|waiting| of_budget(&waiting.ask));
            let asks: Vec<_> = waiting.map(|waiting| most(&waiting.ask)).collect();
            let waiting: Money = asks.iter().copied().sum();
            let left = node.left.get(&at).copied().unwrap_or_default();
            let largest = node.largest.get(&at).copied().unwrap_or_default();
            let largest = asks.into_iter().fold(largest, Money::max);
            let limit = node.limits[&at].divided_by(SLICE_OF_LIMIT);
            let slice = largest.times(SLICE_BOUNDS).max(limit);
            let most = in_flight + bounds + waiting + left + slice.times(SLICES_OPEN_MAX);
            assert!(
                open <= most,
                "{open} is open, and {in_flight} in flight + {bounds} unwritten + {waiting} waiting + {left} left + 2 slices of {slice} is less",
            );
            self.tally.presumed += u64::from(open > Money::ZERO);
        }
    }

    /// Ends every node, in one way or the other, and starts them all. (A node that starts takes
    /// everybody else's slices for those of the dead: one data folder has one process.)
    fn restart(&mut self) {
        for number in self.alive() {
            if self.chance.one_in(3) {
                self.crash(number);
            } else {
                let is_clean = self.chance.one_in(2);
                self.stop(number, is_clean);
            }
        }
        for number in 0..self.nodes.len() {
            self.start(number);
        }
        for at in 0..self.books.watched.len() {
            for totals in self.books.watched[at].windows.values() {
                assert_eq!(totals.claimed, Money::ZERO, "a slice is open after a start");
            }
        }
    }

    /// A clean stop: nothing stays open that did not run on.
    fn stop(&mut self, number: usize, ends_all: bool) {
        self.tell(|| format!("node number {number} stops, ending all: {ends_all}"));
        let mut node = self.nodes[number].take().unwrap();
        (node.paused, node.disk_down) = (false, false);
        let pipeline = Arc::clone(&node.pipeline);
        let mut stopped = None;
        for round in 0..ROUNDS_MAX {
            while ends_all && !node.flights.is_empty() {
                self.end_flight(&mut node, 0, Ending::Usage);
            }
            node.go_on();
            self.hear(&mut node);
            while node.gate.waiting() > 0 {
                self.serve(&node, 0, Fate::Done);
            }
            self.see_peaks(&mut node);
            // Steps' rows are written, and who waits has an answer, before the stop begins.
            let is_quiet = node.is_idle() && node.is_written();
            if is_quiet && stopped.is_none() {
                let pipeline = Arc::clone(&pipeline);
                stopped = Some(node.runtime.spawn(async move { pipeline.shutdown().await }));
            }
            if stopped.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
                break;
            }
            if round % 8 == 7 {
                node.clock.advance(Duration::from_millis(500));
            }
        }
        let Some(stopped) = stopped.filter(tokio::task::JoinHandle::is_finished) else {
            panic!("node {} does not stop", node.life);
        };
        node.runtime.block_on(stopped).unwrap().unwrap();
        let runs = node.flights.iter().any(Flight::is_plain);
        for at in 0..self.books.watched.len() {
            let open = self.books.open(node.life, at);
            assert!(runs || open == Money::ZERO, "{open} is open after a clean stop");
        }
        self.now = self.now.max(types::Clock::now(&*node.clock));
        self.nodes[number] = Some(node);
        self.bury(number);
    }

    /// Bills a step whose outcome was lost, or one again that was billed.
    fn write_lost(&mut self) {
        let Some(number) = self.alive().first().copied() else { return };
        let again = self.journaled.iter().position(|(_, lost)| {
            lost.journaled.reservation.is_some() && self.books.is_written(&lost.ask.call)
        });
        let lost = match (self.lost.is_empty(), again) {
            (true, None) => return,
            (true, Some(place)) => {
                self.tally.twice += 1;
                self.journaled.swap_remove(place).1
            }
            (false, _) => {
                let which = self.chance.below(self.lost.len());
                let lost = self.lost.swap_remove(which);
                let bound = lost.journaled.bound;
                self.books.tell(&lost.ask.call, truth(&lost.ask, Money::ZERO, bound));
                lost
            }
        };
        let journaled = &lost.journaled;
        self.with(number, |play, node| {
            play.see_peaks(node);
            let row = node.pipeline.lost_row(&journaled.intent, play.now);
            let commit = Commit { ledger: vec![row], ..Commit::default() };
            let done = wait(play.store.commit(commit.clone())).is_ok();
            let performed = Performed { done, slice: None, answer: Box::new(|| ()) };
            let asked = Asked::Commit(Box::new(commit));
            play.books.take(&play.store, (node.life, &asked), &performed);
            play.see_peaks(node);
        });
        self.journaled.push((0, lost));
    }

    // The end.

    /// What is true after every step, whatever happened, beside what each write was held against.
    fn look(&mut self) {
        for number in self.alive() {
            self.with(number, |play, node| {
                play.see_peaks(node);
                let books = &play.books;
                node.ended.retain(|ended| !books.is_written(&ended.ask.call));
            });
        }
    }

    /// Everything ends; then nothing is reserved, and once the provider's bill is known nothing is
    /// presumed.
    fn end(&mut self) {
        self.tell(|| "the end".to_owned());
        for number in self.alive() {
            self.stop(number, true);
        }
        self.start(0);
        while !self.lost.is_empty() {
            self.write_lost();
        }
        for at in 0..self.books.watched.len() {
            let watched = &self.books.watched[at];
            let mut accounted = Money::ZERO;
            for totals in watched.windows.values() {
                let open = (totals.reserved, totals.claimed);
                assert_eq!(open, (Money::ZERO, Money::ZERO), "{totals:#?}");
                accounted += sum(totals);
            }
            let spent = self.spent.get(&at).copied().unwrap_or_default();
            assert!(accounted >= spent, "{accounted} is accounted for, and {spent} was spent");
            let budget = watched.budget.id.clone();
            let windows: Vec<_> = watched.windows.keys().copied().collect();
            for window in windows {
                self.reconcile(at, window);
            }
            wait(self.store.delete_budget(&budget)).unwrap();
        }
        let node = self.nodes[0].take().unwrap();
        node.gate.shut();
    }

    fn reconcile(&mut self, at: usize, window: WindowKey) {
        let node = self.nodes[0].take().unwrap();
        let budget = self.books.watched[at].budget.id.clone();
        let totals = self.books.watched[at].windows[&window].clone();
        let all = |charged| Some(Charged { charged, seen: None });
        let told = Reconciliation {
            budget,
            window: Some(window),
            presumed: all(totals.presumed.divided_by(2)),
            unreconciled: all(totals.unreconciled),
            operator: "harness".to_owned(),
        };
        let pipeline = Arc::clone(&node.pipeline);
        let done =
            node.runtime.spawn(async move { pipeline.reconcile(DEFAULT_ACCOUNT, told).await });
        while !done.is_finished() {
            node.go_on();
            while node.gate.waiting() > 0 {
                self.serve(&node, 0, Fate::Done);
            }
        }
        let status = node.runtime.block_on(done).unwrap().unwrap();
        let open = [status.presumed, status.unreconciled, status.reserved];
        assert_eq!(open, [Money::ZERO; 3], "{status:#?}");
        let free = status.budget.limit.minus_or_zero(status.settled);
        assert_eq!((status.free, status.unclaimed), (free, free), "{status:#?}");
        self.nodes[0] = Some(node);
    }
}

type Turned = (Waiting, Failure);

/// How a Call ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Usage,
    /// Whole, and nobody said what it used.
    NoUsage,
    /// Refused by its target.
    Refused,
    /// The same, and the target says what it costs.
    Billed,
    /// Cut in the middle.
    Broken,
    /// Its client goes.
    Abandoned,
}

impl Ending {
    /// What a target is told to answer.
    fn events(self, used: Usage) -> Vec<OutcomeEvent> {
        let failed = |code, billed| {
            OutcomeEvent::Failed(Box::new(Failure::new(code, "the target").billed(billed)))
        };
        match self {
            Self::Usage => vec![finish(Some(used))],
            Self::NoUsage => vec![finish(None)],
            Self::Refused => vec![failed(ErrorCode::InvalidRequest, Billed::No)],
            Self::Billed => vec![failed(ErrorCode::InvalidRequest, used.into())],
            Self::Broken => {
                let content = OutcomeEvent::Frame { raw: None, delta: None };
                vec![content, failed(ErrorCode::StreamCut, Billed::Unknown)]
            }
            Self::Abandoned => Vec::new(),
        }
    }
}

impl Flight {
    fn is_plain(&self) -> bool {
        matches!(self.running, Running::Plain(_))
    }
}

impl Asking {
    fn is_answered(&self) -> bool {
        match self {
            Self::Plain(task) => task.is_finished(),
            Self::Step(task, _) => task.is_finished(),
        }
    }
}

fn price_of(ask: &Ask) -> Price {
    if ask.dear { dear_price() } else { price() }
}

fn bound(ask: &Ask, cap: u64) -> Money {
    price_of(ask).bound(INPUT, cap, CacheWrites::Unread)
}

/// What a Call can have been reserved at, at most.
fn most(ask: &Ask) -> Money {
    bound(ask, ask.cap.unwrap_or(32_768))
}

fn cap_of(running: &Running) -> Option<u64> {
    match running {
        Running::Plain(answer) => answer.bill().output_cap,
        Running::Step(run, _) => run.bill().output_cap,
    }
}

fn used(permille: u64, cap: u64) -> Usage {
    usage(INPUT * permille / 1_000, cap * permille / 1_000)
}

fn truth(ask: &Ask, settled: Money, unreconciled: Money) -> Truth {
    Truth { scope: ask.scope.clone(), settled, unreconciled, since: ask.since }
}

fn may_have_had(node: &mut Node, at: usize, bound: Money) {
    let largest = node.largest.entry(at).or_default();
    *largest = bound.max(*largest);
}

/// Whoever waits beside a Call that got nothing may have found less for a moment: one that falls
/// under several budgets holds what it has of the first while it asks for the next.
fn held_beside(node: &mut Node, ask: &Ask) {
    node.waiting.iter_mut().for_each(|other| other.may_have_lacked(ask));
}

impl Waiting {
    /// Another one may have held as much as it asks for.
    fn may_have_lacked(&mut self, other: &Ask) {
        for (place, at) in self.ask.scope.iter().enumerate() {
            if other.scope.contains(at) {
                self.beside[place] += most(other);
            }
        }
    }
}
