//! A store that can be made to lose its lease at any commit, before or after the commit is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use storage::budgets::{Claim, ForgetValues, Reconcile, TopUp, ToppedUp};
use storage::models::Taken;
use storage::responses::{ItemRow, PostQuery};
use storage::sessions::{Session, SessionFilter};
use storage::{
    Budget, Budgets, CallFilter, Chain, Commit, Committed, Deletion, Error, Forgotten, Journal,
    JournalQuery, JournalRow, Key, Keys, Ledger, LedgerRow, Model, Models, Objects, ObjectsChange,
    Pending, Response, ResponseEvent, Responses, RouteVersion, Sessions, Slice, SloCounts, Slos,
    Store, WindowKey, WindowTotals,
};
use tokio_util::sync::CancellationToken;
use types::ids::{BudgetId, CallId, KeyId, NodeId, ResponseId, SessionId, SliceId};
use types::{Money, Timestamp};

/// What happens at the commit at which it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing of it is done.
    Lost,
    /// It is done, and nobody learns of it.
    Unanswered,
}

#[derive(Debug)]
pub(super) struct Faulty {
    inner: Arc<dyn Store>,
    commits: AtomicU64,
    /// Commits that succeed before the one that fails; negative = none ever fails.
    left: AtomicI64,
    fault: Fault,
    struck: CancellationToken,
    /// Rows of the journal in one answer.
    page: usize,
    /// Bytes of a chain that are read at most, if fewer than are asked for.
    chain_bytes: u64,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Self::failing(inner, -1, Fault::Lost)
    }

    pub(super) fn failing(inner: Arc<dyn Store>, after: i64, fault: Fault) -> Arc<Self> {
        let left = AtomicI64::new(after);
        let struck = CancellationToken::new();
        Arc::new(Self {
            inner,
            commits: AtomicU64::new(0),
            left,
            fault,
            struck,
            page: usize::MAX,
            chain_bytes: u64::MAX,
        })
    }

    /// Gives the journal in pages of so many rows.
    pub(super) fn paged(inner: Arc<dyn Store>, page: usize) -> Arc<Self> {
        let made = Self::new(inner);
        Arc::new(Self { page, ..Arc::try_unwrap(made).unwrap() })
    }

    /// Finds chains of more bytes than this too long.
    pub(super) fn short_of_room(inner: Arc<dyn Store>, chain_bytes: u64) -> Arc<Self> {
        let made = Self::new(inner);
        Arc::new(Self { chain_bytes, ..Arc::try_unwrap(made).unwrap() })
    }

    /// Lets every commit succeed from now on.
    pub(super) fn heal(&self) {
        self.left.store(-1, Ordering::SeqCst);
    }

    /// Waits until a commit has failed.
    pub(super) async fn struck(&self) {
        self.struck.cancelled().await;
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }
}

impl Store for Faulty {
    fn commit(&self, commit: Commit) -> Pending<Committed> {
        // The pipeline's own rows of plain Calls are no part of a turn.
        self.commits.fetch_add(1, Ordering::SeqCst);
        let left = self.left.load(Ordering::SeqCst);
        if left > 0 {
            self.left.fetch_sub(1, Ordering::SeqCst);
        }
        if left != 0 {
            return self.inner.commit(commit);
        }
        let struck = self.struck.clone();
        let session = commit.fences.first().map(|fence| fence.session.clone());
        let session = session.or_else(|| commit.journal.first().map(|row| row.session.clone()));
        let fenced = session.map(|session| Error::Fenced { session });
        let done = (self.fault == Fault::Unanswered).then(|| self.inner.commit(commit));
        // Whatever comes after the crash is lost, answered or not.
        Box::pin(async move {
            if let Some(done) = done {
                done.await?;
                struck.cancel();
                std::future::pending::<()>().await;
            }
            struck.cancel();
            Err(fenced.unwrap_or(Error::Exists { what: "crash" }))
        })
    }
}

impl Ledger for Faulty {
    fn calls(&self, filter: CallFilter) -> Pending<Vec<LedgerRow>> {
        self.inner.calls(filter)
    }
    fn call(&self, id: &CallId) -> Pending<Vec<LedgerRow>> {
        self.inner.call(id)
    }
}

impl Keys for Faulty {
    fn keys(&self) -> Pending<Vec<Key>> {
        self.inner.keys()
    }
    fn put_key(&self, key: Key) -> Pending<()> {
        self.inner.put_key(key)
    }
    fn put_key_with_budget(&self, key: Key, budget: Budget) -> Pending<()> {
        self.inner.put_key_with_budget(key, budget)
    }
    fn delete_key(&self, id: &KeyId) -> Pending<bool> {
        self.inner.delete_key(id)
    }
}

impl Models for Faulty {
    fn models(&self) -> Pending<Vec<Model>> {
        self.inner.models()
    }
    fn put_model(&self, model: Model) -> Pending<()> {
        self.inner.put_model(model)
    }
    fn delete_model(&self, name: &str) -> Pending<bool> {
        self.inner.delete_model(name)
    }
    fn taken(&self) -> Pending<Vec<Taken>> {
        self.inner.taken()
    }
    fn put_taken(&self, taken: Vec<Taken>) -> Pending<()> {
        self.inner.put_taken(taken)
    }
}

impl Slos for Faulty {
    fn slo_counts(&self) -> Pending<Vec<SloCounts>> {
        self.inner.slo_counts()
    }

    fn put_slo_counts(&self, counts: Vec<SloCounts>, names: Vec<String>) -> Pending<()> {
        self.inner.put_slo_counts(counts, names)
    }
}

impl Objects for Faulty {
    fn route_versions(&self, limit: usize) -> Pending<Vec<RouteVersion>> {
        self.inner.route_versions(limit)
    }
    fn route_version(&self, number: u64) -> Pending<Option<RouteVersion>> {
        self.inner.route_version(number)
    }
    fn change_objects(&self, change: ObjectsChange) -> Pending<()> {
        self.inner.change_objects(change)
    }
    fn try_write(&self) -> Pending<()> {
        self.inner.try_write()
    }
}

impl Budgets for Faulty {
    fn budgets(&self, account: &str) -> Pending<Vec<Budget>> {
        self.inner.budgets(account)
    }
    fn put_budget(&self, budget: Budget) -> Pending<()> {
        self.inner.put_budget(budget)
    }
    fn delete_budget(&self, id: &BudgetId) -> Pending<bool> {
        self.inner.delete_budget(id)
    }
    fn window(&self, id: &BudgetId, window: Option<WindowKey>) -> Pending<WindowTotals> {
        self.inner.window(id, window)
    }
    fn claim(&self, claim: Claim) -> Pending<Slice> {
        self.inner.claim(claim)
    }
    fn return_slices(&self, parts: Vec<(SliceId, Money)>) -> Pending<()> {
        self.inner.return_slices(parts)
    }
    fn presume_open_slices(&self, node: &NodeId) -> Pending<u64> {
        self.inner.presume_open_slices(node)
    }
    fn reconcile(&self, reconcile: Reconcile) -> Pending<WindowTotals> {
        self.inner.reconcile(reconcile)
    }
    fn forget_values(&self, forget: Vec<ForgetValues>) -> Pending<Vec<BudgetId>> {
        self.inner.forget_values(forget)
    }
    fn top_up(&self, top_up: TopUp) -> Pending<ToppedUp> {
        self.inner.top_up(top_up)
    }
}

impl Sessions for Faulty {
    fn session(&self, id: &SessionId) -> Pending<Option<Session>> {
        self.inner.session(id)
    }
    fn sessions(&self, filter: SessionFilter) -> Pending<Vec<Session>> {
        self.inner.sessions(filter)
    }
    fn name_session(&self, new: Session) -> Pending<Session> {
        self.inner.name_session(new)
    }
    fn acquire(&self, session: &SessionId, node: &NodeId) -> Pending<Option<Session>> {
        self.inner.acquire(session, node)
    }
    fn expire_sessions(&self, unused_since: Timestamp, now: Timestamp) -> Pending<u64> {
        self.inner.expire_sessions(unused_since, now)
    }
    fn forgotten(&self, after: u64, limit: usize) -> Pending<Vec<Forgotten>> {
        self.inner.forgotten(after, limit)
    }
    fn forgotten_everywhere(&self, number: u64) -> Pending<()> {
        self.inner.forgotten_everywhere(number)
    }
}

impl Journal for Faulty {
    fn journal(&self, query: JournalQuery) -> Pending<Vec<JournalRow>> {
        self.inner.journal(JournalQuery { limit: query.limit.min(self.page), ..query })
    }
}

impl Responses for Faulty {
    fn response(&self, id: &ResponseId) -> Pending<Option<Response>> {
        self.inner.response(id)
    }
    fn chain(&self, id: &ResponseId, bytes_max: u64) -> Pending<Chain> {
        self.inner.chain(id, bytes_max.min(self.chain_bytes))
    }
    fn responses_of(&self, session: &SessionId) -> Pending<Vec<Response>> {
        self.inner.responses_of(session)
    }
    fn open_responses(&self) -> Pending<Vec<Response>> {
        self.inner.open_responses()
    }
    fn response_events(
        &self,
        id: &ResponseId,
        from: u64,
        limit: usize,
    ) -> Pending<Vec<ResponseEvent>> {
        self.inner.response_events(id, from, limit)
    }
    fn item(&self, account: &str, user: &str, item: &str) -> Pending<Option<ItemRow>> {
        self.inner.item(account, user, item)
    }
    fn find_post(&self, query: PostQuery) -> Pending<Option<Response>> {
        self.inner.find_post(query)
    }
    fn mark_delivered(&self, id: &ResponseId, at: Timestamp) -> Pending<()> {
        self.inner.mark_delivered(id, at)
    }
    fn delete_response(&self, id: &ResponseId, at: Timestamp) -> Pending<Deletion> {
        self.inner.delete_response(id, at)
    }
}
