//! What limits have counted: one cell for each whom a limit counts apart.
//!
//! A cell has a short lock of its own, held for no await. Cells are locked in the order of
//! [`Cells::id`], so that several can be held at once. Invariants: who is counted apart is
//! remembered for as long as anything counts, runs or waits; their number is bounded, and one who
//! can't be remembered is not admitted.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use types::clock::Monotonic;

use super::queue::Queue;
use super::subject::Subject;
use super::window::{Technique, Window};
use super::{KINDS, Kind};

/// Locks that those whom one limit counts apart are spread over.
const SHARDS: usize = 16;
/// Those whom one limit counts apart, at most: 128 Ki, each some hundred bytes.
pub(super) const SUBJECTS_MAX: usize = 131_072;
/// Of one shard.
const SHARD_MAX: usize = SUBJECTS_MAX / SHARDS;
/// Below so many nobody looks who of them can be forgotten.
const SWEEP_MIN: usize = 64;
/// After a shard was found to be full, it is looked through again no sooner.
const FULL_FOR: Duration = Duration::from_millis(100);

/// What is counted, and how: cells of another shape begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) kinds: Vec<Kind>,
    pub(super) technique: Technique,
    pub(super) per: Duration,
    pub(super) is_each: bool,
}

/// All that one limit has counted. Outlives a change of its numbers.
#[derive(Debug)]
pub(super) struct Cells {
    /// In which order they are locked.
    pub(super) id: u64,
    pub(super) shape: Shape,
    /// Calls that wait.
    pub(super) waiting: AtomicU32,
    /// Calls that were refused, by what was used up; the last is of those that run.
    pub(super) refused: [AtomicU64; KINDS + 1],
    one: Option<Arc<Cell>>,
    each: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    cells: HashMap<Subject, Arc<Cell>>,
    /// With so many it is looked through for who can be forgotten.
    sweep_at: usize,
    full_until: Monotonic,
}

/// What was counted of one.
#[derive(Debug)]
pub(super) struct Cell {
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// The latest moment at which anybody looked: threads come here out of order.
    pub(super) now: Monotonic,
    /// By the shape's kinds.
    pub(super) windows: Box<[Window]>,
    pub(super) running: u32,
    pub(super) queue: Option<Box<Queue>>,
}

impl Cells {
    pub(super) fn new(shape: Shape) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let one = (!shape.is_each).then(|| Arc::new(Cell::new(&shape)));
        let shards = if shape.is_each { SHARDS } else { 0 };
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            one,
            each: (0..shards).map(|_| Mutex::default()).collect(),
            shape,
            waiting: AtomicU32::new(0),
            refused: Default::default(),
            hasher: RandomState::new(),
        }
    }

    /// The cell of `subject`, made if there is none; `None` = too many are remembered.
    pub(super) fn cell(&self, subject: &Subject, now: Monotonic) -> Option<Arc<Cell>> {
        if let Some(one) = &self.one {
            return Some(Arc::clone(one));
        }
        let mut shard = self.shard(subject)?;
        if let Some(cell) = shard.cells.get(subject) {
            return Some(Arc::clone(cell));
        }
        if !shard.has_room(now, self.shape.per) {
            return None;
        }
        let cell = Arc::new(Cell::new(&self.shape));
        shard.cells.insert(subject.clone(), Arc::clone(&cell));
        Some(cell)
    }

    /// The cell of `subject` to look at: one that is not remembered, if there is none.
    pub(super) fn peek(&self, subject: &Subject) -> Arc<Cell> {
        let shard = self.shard(subject);
        let found = shard.and_then(|shard| shard.cells.get(subject).map(Arc::clone));
        found.unwrap_or_else(|| Arc::new(Cell::new(&self.shape)))
    }

    /// The only cell, where nobody is counted apart.
    pub(super) const fn one(&self) -> Option<&Arc<Cell>> {
        self.one.as_ref()
    }

    /// How many are remembered.
    pub(super) fn subjects(&self) -> usize {
        self.each.iter().map(|shard| lock(shard).cells.len()).sum()
    }

    /// Tells everybody who waits to look again: the limit is another by now, or is no more.
    pub(super) fn call_all(&self) {
        let call = |cell: &Arc<Cell>| {
            if let Some(queue) = &cell.lock().queue {
                queue.call_all();
            }
        };
        self.one.iter().for_each(call);
        for shard in &self.each {
            let cells: Vec<_> = lock(shard).cells.values().cloned().collect();
            cells.iter().for_each(call);
        }
    }

    fn shard(&self, subject: &Subject) -> Option<MutexGuard<'_, Shard>> {
        let hash = self.hasher.hash_one(subject);
        let place = usize::try_from(hash % SHARDS as u64).ok()?;
        self.each.get(place).map(lock)
    }
}

impl Shard {
    /// Whether one more can be remembered: those of whom nothing counts any more are forgotten.
    fn has_room(&mut self, now: Monotonic, per: Duration) -> bool {
        if self.cells.len() < self.sweep_at.clamp(SWEEP_MIN, SHARD_MAX) {
            return true;
        }
        if self.cells.len() >= SHARD_MAX && now < self.full_until {
            return false;
        }
        self.cells.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.is_idle(now, per));
        self.sweep_at = self.cells.len().saturating_mul(2);
        self.full_until = now.saturating_add(FULL_FOR);
        self.cells.len() < SHARD_MAX
    }
}

impl Cell {
    fn new(shape: &Shape) -> Self {
        let windows = shape.kinds.iter().map(|_| Window::new(shape.technique)).collect();
        let state = State { now: Monotonic::ZERO, windows, running: 0, queue: None };
        Self { state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The state as it is at `now`.
    pub(super) fn at(&self, now: Monotonic, per: Duration) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.pass(now, per);
        state
    }

    fn is_idle(&self, now: Monotonic, per: Duration) -> bool {
        let state = self.at(now, per);
        let waits = state.queue.as_ref().is_some_and(|queue| !queue.is_empty());
        state.running == 0 && !waits && state.windows.iter().all(|window| window.used() == 0)
    }
}

impl State {
    fn pass(&mut self, now: Monotonic, per: Duration) {
        self.now = self.now.max(now);
        for window in &mut self.windows {
            window.pass(self.now, per);
        }
    }

    /// Tells who is next that something has come back.
    pub(super) fn call_next(&self) {
        if let Some(queue) = &self.queue {
            queue.call_next();
        }
    }
}

/// Whoever panicked held it for arithmetic only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
