//! No hard budget is ever passed: any interleaving of Calls, steps, ends, abandons, crashes, stops
//! and clock jumps, on the real pipeline and the real store.
//!
//! Calls on routes go on to other targets where one fails, each attempt at its own cost. The
//! harness keeps its own books, of what each attempt may have cost in truth, and compares after
//! every action. The long form runs as many cases as `HOLDFAST_BUDGET_CASES` says.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use pipeline::{
    Answer, BudgetStatus, NewKey, Refused, RouteInfo, StepAdmission, StepIntent, StepRun,
    StepTries, named_session,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use storage::budgets::Budgets;
use storage::{Budget, Commit, Scope, Store, WindowKey, WindowKind};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use types::call::{RoutePolicy, StepRef};
use types::clock::FakeClock;
use types::error::Billed;
use types::ids::{BudgetId, CallId, SessionId, StepId};
use types::principal::DEFAULT_ACCOUNT;
use types::{
    CacheWrites, ErrorCode, Failure, Incoming, Money, OutcomeEvent, Price, Secret, Timestamp, Usage,
};

use super::world::{
    MORNING, Node, as_step, database, dear_price, dollars, finish, model, new_key, price, request,
    rows, usage,
};

/// Cases in the short form: a few seconds.
const CASES: u32 = 400;
/// Actions of a case at most.
const ACTIONS_MAX: usize = 40;
/// The output caps of the Calls, in tokens: bounds from $0.0021 to $0.052.
const CAPS: [u64; 3] = [10, 200, 5_000];
/// Input tokens of each request at most.
const INPUT: u64 = 1_000;

/// What can happen.
#[derive(Clone, Debug)]
enum Action {
    /// A plain Call, waited for.
    Call(Ask),
    /// Several plain Calls at once; they are waited for later.
    Burst(Vec<Ask>),
    /// Whatever was not waited for is waited for now.
    Join,
    /// A Call's client goes before it was admitted.
    Leave,
    /// A step's intent and reservation are committed.
    Step(Ask),
    /// One of the running Calls or steps ends so.
    End(usize, Ending),
    /// The ledger is written.
    Flush,
    /// Time passes.
    Advance(u64),
    /// The wall clock is set, in days from the first.
    Jump(i64),
    /// A limit is raised, in permille of what it was at first.
    Raise(usize, i64),
    /// The process dies.
    Crash,
    /// The process is stopped and started.
    Restart,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
struct Ask {
    cap: Option<usize>,
    key: bool,
    session: bool,
    name: Name,
}

/// What name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Model,
    /// Of targets that cost money, the second twice as much.
    Dear,
    /// With one between them that is free.
    Home,
}

impl Name {
    const fn text(self) -> &'static str {
        match self {
            Self::Model => "paid/m",
            Self::Dear => "route/dear",
            Self::Home => "route/home",
        }
    }

    /// The price of its dearest target.
    fn dearest(self) -> Price {
        match self {
            Self::Model | Self::Home => price(),
            Self::Dear => dear_price(),
        }
    }

    /// The price of its cheapest target.
    fn cheapest(self) -> Price {
        match self {
            Self::Model | Self::Dear => price(),
            Self::Home => Price::free("free"),
        }
    }
}

/// What `target` costs.
fn price_of(target: &str) -> Price {
    match target {
        "paid/m" | "paid/n" => price(),
        "paid/dear" => dear_price(),
        "local/demo" => Price::free("free"),
        other => panic!("{other} is no target"),
    }
}

fn routes() -> Vec<RouteInfo> {
    let policy = RoutePolicy { backoff: Duration::from_millis(50), ..RoutePolicy::OF_ROUTE };
    let route = |name: &str, targets: [&str; 3]| RouteInfo {
        name: name.to_owned(),
        aliases: Vec::new(),
        targets: targets.map(str::to_owned).to_vec(),
        choice: None,
        policy: policy.clone(),
    };
    vec![
        route("dear", ["paid/m", "paid/dear", "paid/n"]),
        route("home", ["paid/m", "local/demo", "paid/n"]),
    ]
}

/// Ways to fail: the next target, the same again, either, none.
const CODES: [ErrorCode; 4] = [
    ErrorCode::ModelNotFound,
    ErrorCode::UpstreamFailed,
    ErrorCode::StreamCut,
    ErrorCode::InvalidRequest,
];

/// How a Call ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// With a usage, in permille of the bound.
    Usage(u64),
    /// Whole, and nobody said what it used.
    NoUsage,
    /// Refused by its target, in one of the ways to fail.
    Refused(usize),
    /// Cut off before there was content, in one of the ways to fail.
    Cut(usize),
    /// The same, and the target says what it costs: so much in permille.
    Billed(usize, u64),
    /// Cut in the middle.
    Broken,
    /// Its client goes after its target was asked.
    Abandoned,
}

fn ask() -> impl Strategy<Value = Ask> {
    let name = prop_oneof![3 => Just(Name::Model), 3 => Just(Name::Dear), 2 => Just(Name::Home)];
    (prop::option::weighted(0.9, 0..CAPS.len()), any::<bool>(), any::<bool>(), name)
        .prop_map(|(cap, key, session, name)| Ask { cap, key, session, name })
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        6 => (0..=1_000u64).prop_map(Ending::Usage),
        1 => Just(Ending::NoUsage),
        2 => (0..CODES.len()).prop_map(Ending::Refused),
        2 => (0..CODES.len()).prop_map(Ending::Cut),
        1 => (0..CODES.len(), 0..=1_000u64).prop_map(|(code, by)| Ending::Billed(code, by)),
        1 => Just(Ending::Broken),
        1 => Just(Ending::Abandoned),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => ask().prop_map(Action::Call),
        3 => prop::collection::vec(ask(), 1..12).prop_map(Action::Burst),
        2 => Just(Action::Join),
        1 => Just(Action::Leave),
        4 => ask().prop_map(Action::Step),
        14 => (any::<usize>(), ending()).prop_map(|(which, how)| Action::End(which, how)),
        2 => Just(Action::Flush),
        2 => (1..200u64).prop_map(Action::Advance),
        1 => (-1..4i64).prop_map(Action::Jump),
        1 => (0..3usize, 1_000..3_000i64).prop_map(|(which, by)| Action::Raise(which, by)),
        1 => Just(Action::Crash),
        1 => Just(Action::Restart),
    ]
}

fn limits() -> impl Strategy<Value = [Money; 3]> {
    let limit = || prop_oneof![Just("0.004"), Just("0.03"), Just("0.11"), Just("0.50"), Just("20")];
    [limit(), limit(), limit()].prop_map(|texts| texts.map(dollars))
}

/// A Call that runs.
enum Running {
    Plain(Box<Answer>),
    Step(Box<StepRun>, Box<StepIntent>),
}

struct Flight {
    call: CallId,
    running: Running,
    /// What it holds of each budget at most; exactly that, if it is not on a route.
    bound: Money,
    budgets: Vec<BudgetId>,
    ask: Ask,
    /// How many of its attempts were told how they end.
    told: usize,
}

impl Flight {
    fn may_hold_less(&self) -> bool {
        self.ask.name != Name::Model && matches!(self.running, Running::Plain(_))
    }
}

/// What the harness knows of one budget, over all of its windows.
#[derive(Clone, Debug, Default)]
struct Book {
    /// What ended Calls cost by their usage.
    settled: Money,
    /// What Calls were charged whose usage nobody knows.
    unreconciled: Money,
    /// What was presumed at crashes.
    presumed: Money,
    /// What was ended since the ledger was last known to be written: the charges that a crash may
    /// lose…
    unwritten: Money,
    /// … and their bounds, which it may presume.
    unwritten_bounds: Money,
    /// The largest bound of a Call that got its money in this life: slices are sized by it.
    largest_bound: Money,
}

/// What a Call can have been reserved at, at most.
fn most(ask: &Ask) -> Money {
    ask.name.dearest().bound(INPUT, ask.cap.map_or(32_768, |cap| CAPS[cap]), CacheWrites::Unread)
}

type Pending = (Ask, JoinHandle<Result<Answer, Box<Refused>>>);

struct World {
    folder: tempfile::TempDir,
    clock: Arc<FakeClock>,
    runtime: Runtime,
    node: Option<Node>,
    lives: u64,
    budgets: Vec<Arc<Budget>>,
    first_limits: [Money; 3],
    flights: Vec<Flight>,
    /// Calls that have ended since the ledger was written, with the rows that they must have.
    ended: Vec<(CallId, usize)>,
    pending: Vec<Pending>,
    /// Something ended, or a window, while Calls were not waited for: what is free may have grown
    /// after a refusal.
    freed: bool,
    books: HashMap<BudgetId, Book>,
    windows: BTreeSet<WindowKey>,
}

/// In memory where there is such a folder: a crash is the process's death here, so that no disk has
/// to be waited for.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

impl World {
    fn new(limits: [Money; 3]) -> Self {
        let folder = scratch();
        let clock = Arc::new(FakeClock::new(MORNING));
        let runtime = runtime();
        let (node, budgets) = runtime.block_on(async {
            let node = Node::start_with(&database(&folder), &clock, 1, routes()).await;
            node.furnish().await;
            for (name, price) in [("n", price()), ("dear", dear_price())] {
                node.directory.put_model(model("paid", name, Some(price))).await.unwrap();
            }
            // One user's, so that both mean the same session by its name.
            for name in ["ci", "other"] {
                let key = NewKey { user: Some("u".to_owned()), ..new_key(name) };
                let secret = Secret::new(format!("hf_{name}"));
                node.directory.put_key_with_secret(key, &secret).await.unwrap();
            }
            let mut budgets = vec![
                node.budget(Scope::Account, limits[0], WindowKind::Total).await,
                node.budget(Scope::Key("ci".to_owned()), limits[1], WindowKind::Day).await,
                node.budget(Scope::Session("s".to_owned()), limits[2], WindowKind::Total).await,
            ];
            budgets.sort_by(|left, right| left.id.cmp(&right.id));
            (node, budgets)
        });
        let books = budgets.iter().map(|budget| (budget.id.clone(), Book::default())).collect();
        let windows =
            BTreeSet::from([WindowKey(0), WindowKind::Day.at(MORNING, &storage::Zone::UTC)]);
        Self {
            folder,
            clock,
            runtime,
            node: Some(node),
            lives: 1,
            budgets,
            first_limits: limits,
            flights: Vec::new(),
            ended: Vec::new(),
            pending: Vec::new(),
            freed: false,
            books,
            windows,
        }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    /// The budgets that an ask falls under, by the harness's own reading of the scopes.
    fn in_scope(&self, ask: Ask) -> Vec<BudgetId> {
        let falls_under = |scope: &Scope| match scope {
            Scope::Account => true,
            Scope::Key(_) => ask.key,
            Scope::Session(_) => ask.session,
            Scope::User(_)
            | Scope::Task(_)
            | Scope::Class(_)
            | Scope::Metadata { .. }
            | Scope::Route(_)
            | Scope::Gateway(_)
            | Scope::Model(_)
            | Scope::Provider(_)
            | Scope::Each(_) => false,
        };
        let budgets = self.budgets.iter().filter(|budget| falls_under(&budget.scope));
        budgets.map(|budget| budget.id.clone()).collect()
    }

    fn incoming(ask: Ask) -> Incoming {
        let key = if ask.key { "ci" } else { "other" };
        let mut incoming = request(key, ask.name.text(), ask.cap.map(|cap| CAPS[cap]));
        incoming.headers.session_name = ask.session.then(|| "s".to_owned());
        incoming
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Call(ask) => self.call(*ask),
            Action::Burst(asks) => self.burst(asks),
            Action::Join => self.join(),
            Action::Leave => self.leave(),
            Action::Step(ask) => self.step(*ask),
            Action::End(which, how) => self.end(*which, *how),
            Action::Flush => self.flush(),
            Action::Advance(millis) => {
                self.clock.advance(Duration::from_millis(*millis));
                self.runtime.block_on(tokio::task::yield_now());
            }
            Action::Jump(days) => {
                let micros = MORNING.0 + days * 86_400_000_000;
                self.clock.jump_to(Timestamp(micros));
                self.freed = !self.pending.is_empty();
                self.windows.insert(WindowKind::Day.at(Timestamp(micros), &storage::Zone::UTC));
            }
            Action::Raise(which, permille) => self.raise(*which, *permille),
            Action::Crash => self.crash(),
            Action::Restart => self.restart(),
        }
        self.check_durable();
    }

    fn call(&mut self, ask: Ask) {
        // Alone: what is free cannot change while it is admitted, so that a refusal can be judged.
        self.join();
        let before = self.statuses();
        let node = self.node.as_ref().unwrap();
        let result = self.runtime.block_on(node.pipeline.run(Self::incoming(ask)));
        if let Err(refused) = &result {
            self.judge(ask, &refused.failure, &before, Money::ZERO);
        }
        self.admitted(ask, result);
    }

    /// A refusal is right only if the bound exceeds what some budget has free, less what others
    /// held for a moment.
    fn judge(&self, ask: Ask, failure: &Failure, before: &[BudgetStatus], held: Money) {
        assert_eq!(failure.code, ErrorCode::BudgetExceeded, "{failure}");
        let least_cap = ask.cap.map_or(4_096, |cap| CAPS[cap]);
        let bound = ask.name.cheapest().bound(INPUT, least_cap, CacheWrites::Unread);
        let scope = self.in_scope(ask);
        let short = before
            .iter()
            .filter(|status| scope.contains(&status.budget.id))
            .any(|status| bound + held > status.free);
        assert!(short, "refused {bound} although every budget has enough: {before:#?}");
    }

    fn burst(&mut self, asks: &[Ask]) {
        for ask in asks {
            let pipeline = Arc::clone(&self.node().pipeline);
            let incoming = Self::incoming(*ask);
            let run = async move { pipeline.run(incoming).await };
            let task = self.runtime.spawn(run);
            self.pending.push((*ask, task));
        }
        // They get so far that some have been admitted and some wait for the store.
        self.runtime.block_on(tokio::task::yield_now());
    }

    fn join(&mut self) {
        // On a route, what is refused for a dear target is asked for again for a cheap one.
        let mut asked_twice = Vec::new();
        let refused_ones: Vec<_> = std::mem::take(&mut self.pending)
            .into_iter()
            .filter_map(|(ask, task)| {
                let result = self.runtime.block_on(task).unwrap();
                let failure = result.as_ref().err().map(|refused| refused.failure.clone());
                if failure.is_none() && ask.name != Name::Model {
                    asked_twice.push(ask);
                }
                self.admitted(ask, result);
                failure.map(|failure| (ask, failure))
            })
            .collect();
        if std::mem::take(&mut self.freed) || refused_ones.is_empty() {
            return;
        }
        // Nothing ended meanwhile, so that what is free only shrank: what would fit now was refused
        // wrongly. Only those that one budget refused held, until then, what they had of others.
        let after = self.statuses();
        let asks = refused_ones.iter().map(|(ask, _)| ask).chain(&asked_twice);
        let in_several = asks.filter(|ask| self.in_scope(**ask).len() > 1);
        let held: Money = in_several.map(most).sum();
        for (ask, failure) in refused_ones {
            let own = if self.in_scope(ask).len() > 1 { most(&ask) } else { Money::ZERO };
            self.judge(ask, &failure, &after, held - own);
        }
    }

    fn leave(&mut self) {
        if let Some((ask, task)) = self.pending.pop() {
            task.abort();
            // If it was admitted before, it is dropped unsent, and its end waits to be written.
            drop(self.runtime.block_on(task));
            for budget in self.in_scope(ask) {
                let book = self.books.get_mut(&budget).unwrap();
                book.unwritten_bounds += most(&ask);
                book.largest_bound = book.largest_bound.max(most(&ask));
            }
        }
    }

    fn admitted(&mut self, ask: Ask, result: Result<Answer, Box<Refused>>) {
        // One that was refused leaves nothing behind that was claimed for it.
        let Ok(mut answer) = result else { return };
        Node::begin(&mut answer);
        let bound = match ask.name {
            Name::Model => {
                let set = || answer.bill().output_cap.unwrap();
                price().bound(INPUT, ask.cap.map_or_else(set, |cap| CAPS[cap]), CacheWrites::Unread)
            }
            Name::Dear | Name::Home => most(&ask),
        };
        for budget in self.in_scope(ask) {
            let book = self.books.get_mut(&budget).unwrap();
            book.largest_bound = book.largest_bound.max(bound);
        }
        self.flights.push(Flight {
            call: answer.call.id.clone(),
            running: Running::Plain(Box::new(answer)),
            bound,
            budgets: self.in_scope(ask),
            ask,
            told: 0,
        });
    }

    fn step(&mut self, ask: Ask) {
        self.join();
        let node = self.node.as_ref().unwrap();
        let session = SessionId::new(&node.ids);
        let named = ask.session.then(|| named_session(DEFAULT_ACCOUNT, "u", "s"));
        let root = named.unwrap_or_else(|| session.clone());
        let step = StepRef { begun: false, root, session, step: StepId::new(&node.ids) };
        let incoming = as_step(Self::incoming(ask), step);
        let admitted = self.runtime.block_on(async {
            let admission = node.pipeline.admit_step(incoming).await.unwrap();
            commit_intent(node, admission).await
        });
        let (admission, refused) = match admitted {
            Ok(admission) => (admission, None),
            Err((admission, failure)) => (admission, Some(failure)),
        };
        let reservation = admission.reservation.as_ref();
        let bound = reservation.map_or(Money::ZERO, |reservation| reservation.amount);
        if let Some(failure) = refused {
            assert_eq!(failure.code, ErrorCode::BudgetExceeded, "{failure}");
            let statuses = self.statuses();
            let scope = self.in_scope(ask);
            let in_scope = statuses.iter().filter(|status| scope.contains(&status.budget.id));
            let short = in_scope.into_iter().any(|status| bound > status.free);
            assert!(short, "a step was refused {bound} wrongly: {statuses:#?}");
            return;
        }
        let intent = admission.intent();
        let mut run = self.node().pipeline.run_step(admission);
        assert!(run.next().now_or_never().is_none());
        let flight = Flight {
            call: intent.call.clone(),
            running: Running::Step(Box::new(run), Box::new(intent)),
            bound,
            budgets: self.in_scope(ask),
            ask,
            told: 0,
        };
        self.flights.push(flight);
    }

    fn end(&mut self, which: usize, how: Ending) {
        if self.flights.is_empty() {
            return;
        }
        let flight = self.flights.swap_remove(which % self.flights.len());
        self.freed = !self.pending.is_empty();
        if let Some(flight) = self.end_attempt(flight, how) {
            self.flights.push(flight);
        }
    }

    /// Ends the newest attempt of a Call, if one runs. Answers what goes on.
    fn end_attempt(&mut self, mut flight: Flight, how: Ending) -> Option<Flight> {
        let node = self.node.as_ref().unwrap();
        let (made, target, cap) = node.targets.newest(&flight.call);
        let runs = made > flight.told;
        if runs && !matches!(how, Ending::Abandoned) {
            told(&how, &target, cap_of(&flight.ask, cap))
                .into_iter()
                .for_each(|event| node.tell(&flight.call, event));
        }
        let cost = match runs {
            true => cost(&how, &price_of(&target), cap_of(&flight.ask, cap)),
            // It waits, or asks for money: nothing is asked of anybody.
            false => (Money::ZERO, Money::ZERO),
        };
        flight.told = made;
        let is_step = matches!(flight.running, Running::Step(..));
        self.charge(&flight, cost, is_step);
        let Flight { call, running, bound, budgets, ask, told } = flight;
        let answer = match running {
            Running::Step(mut run, _) => {
                let node = self.node.as_ref().unwrap();
                let read_on = !matches!(how, Ending::Abandoned);
                self.runtime.block_on(async {
                    while read_on && run.next().await.is_some() {}
                    let ledger = vec![run.into_row()];
                    node.store.commit(Commit { ledger, ..Commit::default() }).await.unwrap();
                });
                return None;
            }
            Running::Plain(answer) => answer,
        };
        let going_on = match how {
            Ending::Abandoned => None,
            Ending::Usage(_)
            | Ending::NoUsage
            | Ending::Refused(_)
            | Ending::Cut(_)
            | Ending::Billed(..)
            | Ending::Broken => {
                if !runs {
                    self.clock.advance(Duration::from_millis(100));
                }
                self.runtime.block_on(async { read_on(answer) })
            }
        };
        let Some(answer) = going_on else {
            let node = self.node.as_ref().unwrap();
            let (made, ..) = node.targets.newest(&call);
            self.ended.push((call, made));
            return None;
        };
        let running = Running::Plain(answer);
        Some(Flight { call, running, bound, budgets, ask, told })
    }

    fn charge(&mut self, flight: &Flight, (settled, unreconciled): (Money, Money), is_step: bool) {
        for budget in &flight.budgets {
            let book = self.books.get_mut(budget).unwrap();
            book.settled += settled;
            book.unreconciled += unreconciled;
            if !is_step {
                book.unwritten += settled + unreconciled;
                book.unwritten_bounds += flight.bound;
            }
        }
    }

    fn flush(&mut self) {
        self.runtime.block_on(self.node().pipeline.flush()).unwrap();
        for (call, attempts) in std::mem::take(&mut self.ended) {
            let rows = self.runtime.block_on(rows(self.node(), &call));
            assert_eq!(rows.len(), attempts, "{rows:#?}");
        }
        for book in self.books.values_mut() {
            (book.unwritten, book.unwritten_bounds) = (Money::ZERO, Money::ZERO);
        }
    }

    fn raise(&mut self, which: usize, permille: i64) {
        let limit = self.first_limits[which].times(permille).divided_by(1_000);
        let scopes = [Scope::Account, Scope::Key("ci".to_owned()), Scope::Session("s".to_owned())];
        let budget = self.budgets.iter().find(|budget| budget.scope == scopes[which]).unwrap();
        if limit <= budget.limit {
            return;
        }
        let (scope, window) = (budget.scope.clone(), budget.window);
        // A Call that came before is judged by the limit of then.
        self.join();
        let raised = self.runtime.block_on(self.node().budget(scope, limit, window));
        let place = self.budgets.iter_mut().find(|budget| budget.id == raised.id).unwrap();
        *place = raised;
    }

    /// All statuses, which writes the ledger first.
    fn statuses(&mut self) -> Vec<BudgetStatus> {
        self.flush();
        let node = self.node.as_ref().unwrap();
        let statuses = self.runtime.block_on(async {
            node.quiet().await;
            node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap()
        });
        for status in &statuses {
            let all = [status.settled, status.unreconciled, status.presumed, status.reserved];
            let all: Money = all.into_iter().sum();
            assert!(all <= status.budget.limit, "{status:#?}");
            assert_eq!(all + status.free, status.budget.limit, "{status:#?}");
            assert!(status.unclaimed <= status.free, "{status:#?}");
            self.check_reserved(status);
        }
        statuses
    }

    /// In a budget with one window, what is shown as reserved is exactly what Calls in flight hold.
    fn check_reserved(&self, status: &BudgetStatus) {
        if status.budget.window != WindowKind::Total || !self.pending.is_empty() {
            return;
        }
        let flights = self.flights.iter();
        let inside = flights.filter(|flight| flight.budgets.contains(&status.budget.id));
        let (less, exact): (Vec<_>, Vec<_>) = inside.partition(|flight| flight.may_hold_less());
        let least: Money = exact.iter().map(|flight| flight.bound).sum();
        let most: Money = less.iter().map(|flight| flight.bound).sum();
        let within = least..=least + most;
        assert!(within.contains(&status.reserved), "{within:?}: {status:#?}");
        let book = &self.books[&status.budget.id];
        assert_eq!((status.settled, status.unreconciled), (book.settled, book.unreconciled));
        assert_eq!(status.presumed, book.presumed);
    }

    /// After every action, in every window: what is taken durably never exceeds the limit.
    fn check_durable(&self) {
        for budget in &self.budgets {
            for window in self.windows_of(budget) {
                let totals = self.totals(budget, window);
                assert!(totals.taken() <= budget.limit, "{totals:#?} of {}", budget.limit);
            }
        }
    }

    /// Every window in which money of `budget` may be.
    fn windows_of(&self, budget: &Budget) -> impl Iterator<Item = WindowKey> {
        let is_total = budget.window == WindowKind::Total;
        self.windows.iter().copied().filter(move |window| is_total == (window.0 == 0))
    }

    fn totals(&self, budget: &Budget, window: WindowKey) -> storage::WindowTotals {
        self.runtime.block_on(self.node().store.window(&budget.id, Some(window))).unwrap()
    }

    /// The amounts of all windows together.
    fn sums(&self, budget: &Budget) -> storage::WindowTotals {
        let mut sums = storage::WindowTotals::default();
        for window in self.windows_of(budget) {
            let totals = self.totals(budget, window);
            sums.settled += totals.settled;
            sums.unreconciled += totals.unreconciled;
            sums.presumed += totals.presumed;
            sums.reserved += totals.reserved;
            sums.claimed += totals.claimed;
        }
        sums
    }

    /// The process dies: memory is gone, the store's file is what it is.
    fn crash(&mut self) {
        let node = self.node.take().unwrap();
        let flights = std::mem::take(&mut self.flights);
        self.ended.clear();
        let old = std::mem::replace(&mut self.runtime, runtime());
        // Those that were not waited for may have been admitted, and their claims made.
        let mut perhaps = HashMap::<BudgetId, Money>::new();
        for (ask, _) in std::mem::take(&mut self.pending) {
            for budget in self.in_scope(ask) {
                let book = self.books.get_mut(&budget).unwrap();
                book.largest_bound = book.largest_bound.max(most(&ask));
                *perhaps.entry(budget).or_default() += most(&ask);
            }
        }
        drop(old);
        let store = Arc::clone(&node.store);
        drop(node);
        let (mut intents, mut in_flight) = (Vec::new(), HashMap::<BudgetId, Money>::new());
        for flight in flights {
            let is_step = matches!(flight.running, Running::Step(..));
            for budget in &flight.budgets {
                if flight.may_hold_less() {
                    *perhaps.entry(budget.clone()).or_default() += flight.bound;
                } else if !is_step {
                    *in_flight.entry(budget.clone()).or_default() += flight.bound;
                }
            }
            if let Running::Step(_, intent) = flight.running {
                intents.push((*intent, flight.budgets, flight.bound));
            }
        }
        self.runtime.block_on(store.close()).unwrap();
        self.open(&intents);
        self.check_after_crash(&in_flight, &perhaps);
    }

    fn open(&mut self, intents: &[(StepIntent, Vec<BudgetId>, Money)]) {
        self.lives += 1;
        let (path, clock) = (database(&self.folder), Arc::clone(&self.clock));
        let node = Node::start_with(&path, &clock, self.lives, routes());
        let node = self.runtime.block_on(node);
        let lost = intents.iter().map(|(intent, ..)| node.pipeline.lost_row(intent, MORNING));
        let ledger = lost.collect();
        let commit = Commit { ledger, ..Commit::default() };
        self.runtime.block_on(node.store.commit(commit)).unwrap();
        for (_, budgets, bound) in intents {
            for budget in budgets {
                self.books.get_mut(budget).unwrap().unreconciled += *bound;
            }
        }
        self.node = Some(node);
    }

    fn check_after_crash(
        &mut self,
        in_flight: &HashMap<BudgetId, Money>,
        perhaps: &HashMap<BudgetId, Money>,
    ) {
        for budget in self.budgets.clone() {
            let sums = self.sums(&budget);
            assert_eq!((sums.reserved, sums.claimed), (Money::ZERO, Money::ZERO), "{sums:#?}");
            let book = self.books.get_mut(&budget.id).unwrap();
            let largest_bound = std::mem::take(&mut book.largest_bound);
            let largest_claim = largest_bound.times(8).max(budget.limit.divided_by(100));
            let in_flight = in_flight.get(&budget.id).copied().unwrap_or_default();
            let presumed = sums.presumed - book.presumed;
            let perhaps = perhaps.get(&budget.id).copied().unwrap_or_default();
            let most = in_flight + perhaps + book.unwritten_bounds + largest_claim.times(2);
            assert!(presumed <= most, "presumed {presumed}, at most {most} was open");
            // Nothing that was spent is forgotten: it was written, or it is presumed.
            let (written, spent) =
                (sums.settled + sums.unreconciled, book.settled + book.unreconciled);
            assert!(written <= spent && spent - written <= book.unwritten, "{sums:#?} {book:#?}");
            let lost = spent - written;
            assert!(presumed >= lost + in_flight, "{presumed} < {lost} + {in_flight}");
            (book.settled, book.unreconciled) = (sums.settled, sums.unreconciled);
            book.presumed = sums.presumed;
            (book.unwritten, book.unwritten_bounds) = (Money::ZERO, Money::ZERO);
        }
    }

    /// A clean end leaves nothing reserved and no slice open.
    fn restart(&mut self) {
        self.join();
        let mut rounds = 0;
        while !self.flights.is_empty() {
            self.end(0, Ending::Usage(300));
            self.runtime.block_on(self.node().quiet());
            rounds += 1;
            assert!(rounds < 1_000, "a Call comes to no end");
        }
        let node = self.node.take().unwrap();
        self.runtime.block_on(node.stop());
        self.open(&[]);
        for budget in self.budgets.clone() {
            let sums = self.sums(&budget);
            let book = self.books.get_mut(&budget.id).unwrap();
            assert_eq!((sums.reserved, sums.claimed), (Money::ZERO, Money::ZERO), "{sums:#?}");
            assert_eq!((sums.settled, sums.unreconciled), (book.settled, book.unreconciled));
            assert_eq!(sums.presumed, book.presumed, "a clean stop presumes nothing");
            book.largest_bound = Money::ZERO;
            (book.unwritten, book.unwritten_bounds) = (Money::ZERO, Money::ZERO);
        }
    }
}

/// The output cap of an attempt, in tokens.
fn cap_of(ask: &Ask, set: Option<u64>) -> u64 {
    ask.cap.map_or_else(|| set.unwrap(), |cap| CAPS[cap])
}

/// What a target of this name is told to answer.
fn told(how: &Ending, target: &str, cap: u64) -> Vec<OutcomeEvent> {
    let failed =
        |code, billed| OutcomeEvent::Failed(Box::new(Failure::new(code, target).billed(billed)));
    match *how {
        Ending::Usage(permille) => vec![finish(Some(used(permille, cap)))],
        Ending::NoUsage => vec![finish(None)],
        Ending::Refused(code) => vec![failed(CODES[code], Billed::No)],
        Ending::Cut(code) => vec![failed(CODES[code], Billed::Unknown)],
        Ending::Billed(code, permille) => {
            vec![failed(CODES[code], used(permille, cap).into())]
        }
        Ending::Broken => {
            let content = OutcomeEvent::Frame { raw: None, delta: None };
            vec![content, failed(ErrorCode::StreamCut, Billed::Unknown)]
        }
        Ending::Abandoned => Vec::new(),
    }
}

/// What such an attempt costs: settled, and unreconciled.
fn cost(how: &Ending, price: &Price, cap: u64) -> (Money, Money) {
    match *how {
        Ending::Usage(permille) | Ending::Billed(_, permille) => {
            (price.cost(&used(permille, cap)), Money::ZERO)
        }
        Ending::Refused(_) => (Money::ZERO, Money::ZERO),
        Ending::NoUsage | Ending::Cut(_) | Ending::Broken | Ending::Abandoned => {
            (Money::ZERO, price.bound(INPUT, cap, CacheWrites::Unread))
        }
    }
}

fn used(permille: u64, cap: u64) -> Usage {
    usage(INPUT * permille / 1_000, cap * permille / 1_000)
}

/// Reads an answer as far as it comes. Answers it if it goes on.
fn read_on(mut answer: Box<Answer>) -> Option<Box<Answer>> {
    loop {
        match answer.next().now_or_never() {
            None => return Some(answer),
            Some(Some(_)) => {}
            Some(None) => return None,
        }
    }
}

/// As a session does it: once more after making room, then the refusal.
async fn commit_intent(
    node: &Node,
    admission: StepAdmission,
) -> Result<StepAdmission, (StepAdmission, Failure)> {
    let commit = || {
        let reservations = admission.reservation.clone().into_iter().collect();
        node.store.commit(Commit { reservations, ..Commit::default() })
    };
    if commit().await.is_ok() {
        return Ok(admission);
    }
    node.pipeline.make_room(&admission).await.unwrap();
    match commit().await {
        Ok(_) => Ok(admission),
        Err(error) => {
            let failure = node.pipeline.over_limit(&admission, &error, &mut StepTries::default());
            Err((admission, failure))
        }
    }
}

#[test]
fn no_budget_is_passed_under_any_interleaving() {
    let cases = std::env::var("HOLDFAST_BUDGET_CASES").ok().and_then(|text| text.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(CASES),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let actions = prop::collection::vec(action(), 1..ACTIONS_MAX);
    let result = TestRunner::new(config).run(&(limits(), actions), |(limits, actions)| {
        let mut world = World::new(limits);
        for action in &actions {
            world.act(action);
        }
        world.join();
        world.statuses();
        world.restart();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
