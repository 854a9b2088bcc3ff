//! The store as a node of the simulation sees it: the real one, behind a queue whose keeper decides
//! what is done when, what fails, and which answer never comes.
//!
//! What moves money goes through the queue. Everything else (keys, models, limits) is done at once:
//! it is not what is tried here. Whoever keeps the queue calls [`Request::perform`], which does it
//! on the real store and waits, so that no thread's speed decides anything.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use storage::budgets::{Claim, ForgetValues, Reconcile, TopUp, ToppedUp};
use storage::models::Taken;
use storage::responses::{ItemRow, PostQuery};
use storage::sessions::{Session, SessionFilter};
use storage::{
    Budget, Budgets, CallFilter, Chain, Commit, Committed, Deletion, Error, Forgotten, Journal,
    JournalQuery, JournalRow, Key, Keys, Ledger, LedgerRow, Model, Models, Objects, ObjectsChange,
    Pending, Response, ResponseEvent, Responses, RouteVersion, Sessions, Slice, SloCounts, Slos,
    SqliteStore, Store, WindowKey, WindowTotals,
};
use tokio::sync::oneshot;
use types::ids::{BudgetId, CallId, KeyId, NodeId, ResponseId, SessionId, SliceId};
use types::{Money, Timestamp};

/// What is asked of the store.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Look(BudgetId),
    Claim(Claim),
    Return(Vec<(SliceId, Money)>),
    Presume,
    Reconcile(Reconcile),
    Commit(Box<Commit>),
}

impl Asked {
    /// By what requests are told apart, in an order that no hash decides.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Look(budget) => format!("look {budget}"),
            Self::Claim(claim) => format!("claim {} {}", claim.budget, claim.wanted),
            Self::Return(parts) => format!("return {parts:?}"),
            Self::Presume => "presume".to_owned(),
            Self::Reconcile(told) => format!("reconcile {}", told.budget),
            Self::Commit(commit) => {
                let rows = commit.ledger.iter().map(|row| row.attempt.as_str());
                let held = commit.reservations.iter().map(|held| held.id.as_str());
                format!("commit {:?}", rows.chain(held).collect::<Vec<_>>())
            }
        }
    }

    /// Whether asking it twice does it once, so that it may be done although it failed: the store
    /// promises it of rows alone.
    pub(super) fn is_of_rows(&self) -> bool {
        match self {
            Self::Commit(commit) => commit.reservations.is_empty(),
            Self::Look(_)
            | Self::Claim(_)
            | Self::Return(_)
            | Self::Presume
            | Self::Reconcile(_) => false,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// Nothing of it is done.
    Fails,
    /// It is done, and the answer is that it could not be.
    DoneAndFails,
}

/// What came of a request.
pub(super) struct Performed {
    /// Whether the store did it.
    pub(super) done: bool,
    /// What was claimed.
    pub(super) slice: Option<Slice>,
    /// Tells whoever asked.
    pub(super) answer: Box<dyn FnOnce()>,
}

type Work = Box<dyn FnOnce(Fate) -> Performed + Send>;

/// Something that waits to be done.
pub(super) struct Request {
    pub(super) asked: Asked,
    work: Work,
}

impl Request {
    pub(super) fn perform(self, fate: Fate) -> Performed {
        (self.work)(fate)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.asked.name())
    }
}

/// One node's way to the store.
#[derive(Debug)]
pub(super) struct Gate {
    store: Arc<SqliteStore>,
    queue: Mutex<Vec<Request>>,
    /// Its node is dead: nothing comes through any more.
    shut: AtomicBool,
}

impl Gate {
    pub(super) fn new(store: &Arc<SqliteStore>) -> Arc<Self> {
        let (store, queue, shut) = (Arc::clone(store), Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { store, queue, shut })
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().unwrap().len()
    }

    /// Takes the request of that place, by name.
    pub(super) fn take(&self, place: usize) -> Request {
        let mut queue = self.queue.lock().unwrap();
        queue.sort_by_cached_key(|request| request.asked.name());
        queue.remove(place)
    }

    /// Lets nothing through any more. Answers what was on its way.
    pub(super) fn shut(&self) -> Vec<Request> {
        self.shut.store(true, Ordering::SeqCst);
        let mut queue = std::mem::take(&mut *self.queue.lock().unwrap());
        queue.sort_by_cached_key(|request| request.asked.name());
        queue
    }

    fn queued<T: Send + 'static>(
        &self,
        asked: Asked,
        ask: impl FnOnce(&SqliteStore) -> Pending<T> + Send + 'static,
        claimed: fn(&T) -> Option<Slice>,
    ) -> Pending<T> {
        if self.shut.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        let (reply, answer) = oneshot::channel();
        let store = Arc::clone(&self.store);
        let work = move |fate: Fate| {
            let result = match fate {
                Fate::Fails => Err(broken()),
                Fate::Done | Fate::DoneAndFails => wait(ask(&store)),
            };
            let slice = result.as_ref().ok().and_then(claimed);
            let done = result.is_ok();
            let told = if fate == Fate::DoneAndFails { Err(broken()) } else { result };
            // Whoever asked may be gone.
            let answer = Box::new(move || drop(reply.send(told)));
            Performed { done, slice, answer }
        };
        self.queue.lock().unwrap().push(Request { asked, work: Box::new(work) });
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(broken())) })
    }
}

fn broken() -> Error {
    Error::unavailable("the simulated disk fails")
}

/// Waits for the store's threads.
pub(super) fn wait<T>(mut pending: Pending<T>) -> Result<T, Error> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut ctx = Context::from_waker(&waker);
    loop {
        match pending.as_mut().poll(&mut ctx) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn at_once<T: Send + 'static>(pending: Pending<T>) -> Pending<T> {
    let result = wait(pending);
    Box::pin(std::future::ready(result))
}

impl Store for Gate {
    fn commit(&self, commit: Commit) -> Pending<Committed> {
        let asked = Asked::Commit(Box::new(commit.clone()));
        self.queued(asked, move |store| store.commit(commit), |_| None)
    }
}

impl Budgets for Gate {
    fn budgets(&self, account: &str) -> Pending<Vec<Budget>> {
        at_once(self.store.budgets(account))
    }
    fn put_budget(&self, budget: Budget) -> Pending<()> {
        at_once(self.store.put_budget(budget))
    }
    fn delete_budget(&self, id: &BudgetId) -> Pending<bool> {
        at_once(self.store.delete_budget(id))
    }
    fn forget_values(&self, forget: Vec<ForgetValues>) -> Pending<Vec<BudgetId>> {
        at_once(self.store.forget_values(forget))
    }
    fn top_up(&self, top_up: TopUp) -> Pending<ToppedUp> {
        at_once(self.store.top_up(top_up))
    }
    fn window(&self, id: &BudgetId, window: Option<WindowKey>) -> Pending<WindowTotals> {
        let (asked, id) = (Asked::Look(id.clone()), id.clone());
        self.queued(asked, move |store| store.window(&id, window), |_| None)
    }
    fn claim(&self, claim: Claim) -> Pending<Slice> {
        let asked = Asked::Claim(claim.clone());
        self.queued(asked, move |store| store.claim(claim), |slice| Some(slice.clone()))
    }
    fn return_slices(&self, parts: Vec<(SliceId, Money)>) -> Pending<()> {
        let asked = Asked::Return(parts.clone());
        self.queued(asked, move |store| store.return_slices(parts), |()| None)
    }
    fn presume_open_slices(&self, node: &NodeId) -> Pending<u64> {
        let node = node.clone();
        self.queued(Asked::Presume, move |store| store.presume_open_slices(&node), |_| None)
    }
    fn reconcile(&self, told: Reconcile) -> Pending<WindowTotals> {
        let asked = Asked::Reconcile(told.clone());
        self.queued(asked, move |store| store.reconcile(told), |_| None)
    }
}

impl Ledger for Gate {
    fn calls(&self, filter: CallFilter) -> Pending<Vec<LedgerRow>> {
        at_once(self.store.calls(filter))
    }
    fn call(&self, id: &CallId) -> Pending<Vec<LedgerRow>> {
        at_once(self.store.call(id))
    }
}

impl Keys for Gate {
    fn keys(&self) -> Pending<Vec<Key>> {
        at_once(self.store.keys())
    }
    fn put_key(&self, key: Key) -> Pending<()> {
        at_once(self.store.put_key(key))
    }
    fn put_key_with_budget(&self, key: Key, budget: Budget) -> Pending<()> {
        at_once(self.store.put_key_with_budget(key, budget))
    }
    fn delete_key(&self, id: &KeyId) -> Pending<bool> {
        at_once(self.store.delete_key(id))
    }
}

impl Models for Gate {
    fn models(&self) -> Pending<Vec<Model>> {
        at_once(self.store.models())
    }
    fn put_model(&self, model: Model) -> Pending<()> {
        at_once(self.store.put_model(model))
    }
    fn delete_model(&self, name: &str) -> Pending<bool> {
        at_once(self.store.delete_model(name))
    }
    fn taken(&self) -> Pending<Vec<Taken>> {
        at_once(self.store.taken())
    }
    fn put_taken(&self, taken: Vec<Taken>) -> Pending<()> {
        at_once(self.store.put_taken(taken))
    }
}

impl Slos for Gate {
    fn slo_counts(&self) -> Pending<Vec<SloCounts>> {
        at_once(self.store.slo_counts())
    }
    fn put_slo_counts(&self, counts: Vec<SloCounts>, names: Vec<String>) -> Pending<()> {
        at_once(self.store.put_slo_counts(counts, names))
    }
}

impl Objects for Gate {
    fn route_versions(&self, limit: usize) -> Pending<Vec<RouteVersion>> {
        at_once(self.store.route_versions(limit))
    }
    fn route_version(&self, number: u64) -> Pending<Option<RouteVersion>> {
        at_once(self.store.route_version(number))
    }
    fn change_objects(&self, change: ObjectsChange) -> Pending<()> {
        at_once(self.store.change_objects(change))
    }
    fn try_write(&self) -> Pending<()> {
        at_once(self.store.try_write())
    }
}

impl Sessions for Gate {
    fn session(&self, id: &SessionId) -> Pending<Option<Session>> {
        at_once(self.store.session(id))
    }
    fn sessions(&self, filter: SessionFilter) -> Pending<Vec<Session>> {
        at_once(self.store.sessions(filter))
    }
    fn name_session(&self, new: Session) -> Pending<Session> {
        at_once(self.store.name_session(new))
    }
    fn acquire(&self, session: &SessionId, node: &NodeId) -> Pending<Option<Session>> {
        at_once(self.store.acquire(session, node))
    }
    fn expire_sessions(&self, unused_since: Timestamp, now: Timestamp) -> Pending<u64> {
        at_once(self.store.expire_sessions(unused_since, now))
    }
    fn forgotten(&self, after: u64, limit: usize) -> Pending<Vec<Forgotten>> {
        at_once(self.store.forgotten(after, limit))
    }
    fn forgotten_everywhere(&self, number: u64) -> Pending<()> {
        at_once(self.store.forgotten_everywhere(number))
    }
}

impl Journal for Gate {
    fn journal(&self, query: JournalQuery) -> Pending<Vec<JournalRow>> {
        at_once(self.store.journal(query))
    }
}

impl Responses for Gate {
    fn response(&self, id: &ResponseId) -> Pending<Option<Response>> {
        at_once(self.store.response(id))
    }
    fn chain(&self, id: &ResponseId, bytes_max: u64) -> Pending<Chain> {
        at_once(self.store.chain(id, bytes_max))
    }
    fn responses_of(&self, session: &SessionId) -> Pending<Vec<Response>> {
        at_once(self.store.responses_of(session))
    }
    fn open_responses(&self) -> Pending<Vec<Response>> {
        at_once(self.store.open_responses())
    }
    fn response_events(
        &self,
        id: &ResponseId,
        from: u64,
        limit: usize,
    ) -> Pending<Vec<ResponseEvent>> {
        at_once(self.store.response_events(id, from, limit))
    }
    fn item(&self, account: &str, user: &str, item: &str) -> Pending<Option<ItemRow>> {
        at_once(self.store.item(account, user, item))
    }
    fn find_post(&self, query: PostQuery) -> Pending<Option<Response>> {
        at_once(self.store.find_post(query))
    }
    fn mark_delivered(&self, id: &ResponseId, at: Timestamp) -> Pending<()> {
        at_once(self.store.mark_delivered(id, at))
    }
    fn delete_response(&self, id: &ResponseId, at: Timestamp) -> Pending<Deletion> {
        at_once(self.store.delete_response(id, at))
    }
}
