//! The threads that make requests ready, and what waits for them.
//!
//! Templates and schemas are hostile, and the compilation of one grammar can't be interrupted. So
//! each account has fewer of the threads than there are; a request that takes too long fails, its
//! thread is written off and replaced; and when too many are written off, or one for too long, the
//! engine is to end, whose supervisor starts it again: memory that such a thread takes can't be had
//! back otherwise. Cancelling never waits for any of that. It must not know what preparing is.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use engine::protocol::{Embed, EngineFailure, FailureCode, FromEngine, Generate};
use types::clock::{Monotonic, SharedClock};

use crate::connection::Outbox;
use crate::job::{Place, Wanted};
use crate::kv_store::Owner;
use crate::scheduler::{Event, cancelled};

/// Threads that make requests ready.
const THREADS: usize = 4;
/// Of these, the most that work for one account.
const ACCOUNT_THREADS_MAX: usize = 2;
/// Time that one request may take: honest ones need milliseconds.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Threads that may be written off at the same time.
const WRITTEN_OFF_MAX: usize = 3;
/// How long one may go on working after it was written off.
const WRITTEN_OFF_FOR: Duration = Duration::from_secs(20);
/// How often it is looked who takes too long.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Stack of a thread that compiles clients' schemas: they nest.
const STACK_BYTES: usize = 32 * 1024 * 1024;

/// What has to be made ready.
pub(crate) enum Request {
    /// An answer is wanted.
    Generate(Box<Generate>),
    /// Vectors are wanted.
    Embed(Box<Embed>),
}

impl Request {
    fn id(&self) -> u64 {
        match self {
            Self::Generate(request) => request.id,
            Self::Embed(request) => request.id,
        }
    }

    fn account(&self) -> &str {
        match self {
            Self::Generate(request) => &request.account,
            Self::Embed(request) => &request.account,
        }
    }

    fn session(&self) -> Option<&str> {
        match self {
            Self::Generate(request) => request.session.as_deref(),
            Self::Embed(_) => None,
        }
    }

    /// What takes longest in it.
    fn slow_part(&self) -> &'static str {
        match self {
            Self::Embed(_) => "input",
            Self::Generate(request) if request.schema.is_some() => "schema",
            Self::Generate(request) if request.tools.is_empty() => "messages",
            Self::Generate(_) => "tools",
        }
    }
}

/// A request as it came from the socket.
pub(crate) struct Asked {
    /// The request.
    pub(crate) request: Request,
    /// When it came.
    pub(crate) taken: Monotonic,
    /// Its place among those that wait.
    pub(crate) place: Place,
}

/// What makes a request ready.
pub(crate) type Work = dyn Fn(Asked, &Wanted) -> Result<Event, EngineFailure> + Send + Sync;

/// Requests that are being made ready.
pub(crate) struct Preparing {
    table: Mutex<Table>,
    /// Something waits, or an account has a thread less.
    more: Condvar,
    work: Box<Work>,
    events: SyncSender<Event>,
    out: Outbox,
    clock: SharedClock,
}

#[derive(Default)]
struct Table {
    waiting: VecDeque<Asked>,
    working: Vec<Working>,
    next_ticket: u64,
}

/// A request that has a thread.
struct Working {
    ticket: u64,
    id: u64,
    account: String,
    session: Option<String>,
    /// The field to name if it takes too long.
    param: &'static str,
    since: Monotonic,
    /// Ended once its failure was sent.
    wanted: Wanted,
    is_answered: bool,
    written_off: Option<Monotonic>,
}

/// Whether the engine can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It can.
    Well,
    /// Threads are lost: it must be started again.
    Lost,
}

impl fmt::Debug for Preparing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preparing").finish_non_exhaustive()
    }
}

impl Preparing {
    /// Starts the threads. What is ready goes to `events`, what fails to `out`.
    ///
    /// # Errors
    /// The system has no threads to give.
    pub(crate) fn start(
        work: Box<Work>,
        events: SyncSender<Event>,
        out: Outbox,
        clock: SharedClock,
    ) -> std::io::Result<Arc<Self>> {
        let (table, more) = (Mutex::default(), Condvar::new());
        let preparing = Arc::new(Self { table, more, work, events, out, clock });
        for _ in 0..THREADS {
            preparing.start_thread()?;
        }
        Ok(preparing)
    }

    /// Starts the thread that looks who takes too long.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        let preparing = Arc::clone(self);
        let watch = move || {
            let waits = (Mutex::new(()), Condvar::new());
            loop {
                let guard = waits.0.lock().unwrap_or_else(PoisonError::into_inner);
                drop(waits.1.wait_timeout(guard, LOOK_EVERY));
                if preparing.look() == Health::Lost {
                    tracing::error!("preparing hangs: the engine ends, to be started again");
                    // An error means that the scheduler has ended already.
                    drop(preparing.events.send(Event::Stop));
                    return;
                }
            }
        };
        Builder::new().name("watch".to_owned()).spawn(watch)?;
        Ok(())
    }

    fn start_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let preparing = Arc::clone(self);
        let builder = Builder::new().name("prepare".to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || while preparing.one() {})?;
        Ok(())
    }

    /// Takes a request; its place bounds how many wait.
    pub(crate) fn push(&self, asked: Asked) {
        self.table().waiting.push_back(asked);
        self.more.notify_one();
    }

    /// Ends a request that is not ready yet. `false`: it is not here, or has gone on to the
    /// scheduler.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        let mut table = self.table();
        let waited = table.waiting.len();
        table.waiting.retain(|asked| asked.request.id() != id);
        let mut found = table.waiting.len() < waited;
        for working in table.working.iter_mut().filter(|working| working.id == id) {
            found |= working.end();
        }
        if found {
            self.out.send(FromEngine::Failed { id, failure: cancelled() });
        }
        found
    }

    /// Ends every request of a session that is not ready yet.
    pub(crate) fn forget(&self, owner: &Owner) {
        let is_its = |account: &str, session: Option<&str>| {
            account == owner.account && session == Some(owner.session.as_str())
        };
        let table = self.table();
        let waiting = table.waiting.iter().map(|asked| &asked.request);
        let waiting = waiting.filter(|it| is_its(it.account(), it.session()));
        let working = table.working.iter();
        let working = working.filter(|it| is_its(&it.account, it.session.as_deref()));
        let ids: Vec<_> = waiting.map(Request::id).chain(working.map(|it| it.id)).collect();
        drop(table);
        for id in ids {
            self.cancel(id);
        }
    }

    /// Makes one request ready, waiting for one. `false`: the thread was written off.
    fn one(&self) -> bool {
        let (ticket, wanted, asked) = self.next();
        let id = asked.request.id();
        // A bug that a template or a schema finds must fail its own request only.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.work)(asked, &wanted)));
        let outcome = outcome.unwrap_or_else(|_panic| {
            Err(EngineFailure::new(FailureCode::Internal, "the request could not be prepared"))
        });
        let mut table = self.table();
        let Some(at) = table.working.iter().position(|working| working.ticket == ticket) else {
            return false;
        };
        let working = table.working.swap_remove(at);
        // Under the lock: who cancels finds it either here or behind what is sent now.
        match outcome {
            _ if working.is_answered => {}
            // An error means that the scheduler has ended and wants nothing more.
            Ok(event) => drop(self.events.send(event)),
            Err(failure) => self.out.send(FromEngine::Failed { id, failure }),
        }
        self.more.notify_one();
        working.written_off.is_none()
    }

    /// The oldest request whose account has a thread left.
    fn next(&self) -> (u64, Wanted, Asked) {
        let mut table = self.table();
        loop {
            if let Some(next) = table.take(self.clock.monotonic()) {
                return next;
            }
            table = self.more.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Fails what takes too long, and replaces its threads.
    pub(crate) fn look(self: &Arc<Self>) -> Health {
        let now = self.clock.monotonic();
        let mut table = self.table();
        let mut replacements = 0;
        for working in &mut table.working {
            let is_late = now.saturating_sub(working.since) >= READY_WITHIN;
            if working.written_off.is_some() || !is_late {
                continue;
            }
            working.written_off = Some(now);
            replacements += 1;
            if working.end() {
                tracing::warn!(id = working.id, "a request takes too long to prepare");
                let failure = too_long(working.param);
                self.out.send(FromEngine::Failed { id: working.id, failure });
            }
        }
        let written_off = table.working.iter().filter_map(|working| working.written_off);
        let too_many = written_off.clone().count() > WRITTEN_OFF_MAX;
        let too_old = written_off.min().is_some_and(|first| now >= first + WRITTEN_OFF_FOR);
        drop(table);
        if too_many || too_old {
            return Health::Lost;
        }
        for _ in 0..replacements {
            if let Err(error) = self.start_thread() {
                tracing::error!(%error, "no thread to replace one that hangs");
            }
        }
        Health::Well
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, now: Monotonic) -> Option<(u64, Wanted, Asked)> {
        let has_thread = |asked: &Asked| {
            let same = self.working.iter().filter(|it| it.account == asked.request.account());
            same.count() < ACCOUNT_THREADS_MAX
        };
        let at = self.waiting.iter().position(has_thread)?;
        let asked = self.waiting.remove(at)?;
        self.next_ticket += 1;
        let wanted = Wanted::new();
        let request = &asked.request;
        self.working.push(Working {
            ticket: self.next_ticket,
            id: request.id(),
            account: request.account().to_owned(),
            session: request.session().map(str::to_owned),
            param: request.slow_part(),
            since: now,
            wanted: wanted.clone(),
            is_answered: false,
            written_off: None,
        });
        Some((self.next_ticket, wanted, asked))
    }
}

impl Working {
    /// Nobody waits for it any more. `false`: so it was before.
    fn end(&mut self) -> bool {
        self.wanted.end();
        !std::mem::replace(&mut self.is_answered, true)
    }
}

fn too_long(param: &str) -> EngineFailure {
    let code = match param {
        "messages" | "input" => FailureCode::InvalidRequest,
        _ => FailureCode::UnsupportedSchema,
    };
    let seconds = READY_WITHIN.as_secs();
    let message = format!("this takes longer than {seconds} s to prepare; make it simpler");
    EngineFailure::new(code, message).param(param)
}
