//! How much is judged at once, and what that may cost in a day.
//!
//! Invariants: no more answers are held than there are places; of a day's limit no two opinions
//! spend the same; after a stop none goes on.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use types::{Money, Timestamp};

use super::Missing;

/// Answers that are held to be judged at most: those that are read along, wait or are judged.
const HELD_MAX: usize = 64;
/// Of these, those that are judged at once.
const AT_ONCE_MAX: usize = 4;
/// Routes whose day is followed at most; those of days that are over go first.
const ROUTES_MAX: usize = 256;
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// The places.
#[derive(Debug)]
pub(crate) struct Places {
    held: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    stop: CancellationToken,
    days: Mutex<BTreeMap<Arc<str>, Day>>,
}

/// What was spent for one route in a day.
#[derive(Debug, Default)]
struct Day {
    number: i64,
    spent: Money,
    /// Somebody is spending.
    is_taken: bool,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            held: Arc::new(Semaphore::new(HELD_MAX)),
            turns: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            stop: CancellationToken::new(),
            days: Mutex::default(),
        }
    }
}

/// A place of an answer that is held.
#[derive(Debug)]
pub(super) struct Place {
    turns: Arc<Semaphore>,
    _held: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until it may be judged; for as long as what is answered is kept.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }
}

impl Places {
    /// A place, if one is left.
    pub(super) fn place(&self) -> Option<Place> {
        if self.stop.is_cancelled() {
            return None;
        }
        let held = Arc::clone(&self.held).try_acquire_owned().ok()?;
        Some(Place { turns: Arc::clone(&self.turns), _held: held })
    }

    /// Does something, or drops it at a stop.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match select(pin!(self.stop.cancelled()), pin!(work)).await {
            Either::Left(_) => None,
            Either::Right((done, _)) => Some(done),
        }
    }

    /// Ends all that runs, and begins nothing more.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// What is left of a day for a route: whoever has it spends alone.
    pub(super) fn purse(
        &self,
        route: &Arc<str>,
        day_max: Money,
        now: Timestamp,
    ) -> Result<Purse<'_>, Missing> {
        let number = now.seconds().div_euclid(SECONDS_PER_DAY);
        let mut days = self.days();
        if !days.contains_key(route) && days.len() >= ROUTES_MAX {
            days.retain(|_, day| day.number >= number || day.is_taken);
            if days.len() >= ROUTES_MAX {
                return Err(Missing::PassedOver);
            }
        }
        let day = days.entry(Arc::clone(route)).or_default();
        if day.is_taken {
            return Err(Missing::PassedOver);
        }
        // A day that is over does not come again, whatever the clock says.
        if day.number < number {
            *day = Day { number, ..Day::default() };
        }
        let left = day_max.minus_or_zero(day.spent);
        if left == Money::ZERO {
            return Err(Missing::Refused);
        }
        day.is_taken = true;
        Ok(Purse { places: self, route: Arc::clone(route), left, is_open: AtomicBool::new(false) })
    }

    fn days(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Day>> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an opinion may spend of its route's day.
#[derive(Debug)]
pub(super) struct Purse<'a> {
    places: &'a Places,
    route: Arc<str>,
    left: Money,
    /// Somebody has what is left, and has not said what of it was spent.
    is_open: AtomicBool,
}

impl Purse<'_> {
    /// What is left, for a Call that may spend all of it: until it is paid, it is spent.
    pub(super) fn take(&self) -> Money {
        self.is_open.store(true, Ordering::Relaxed);
        self.left
    }

    pub(super) fn pay(&mut self, cost: Money) {
        *self.is_open.get_mut() = false;
        self.left = self.left.minus_or_zero(cost);
        if let Some(day) = self.places.days().get_mut(&self.route) {
            day.spent = day.spent.saturating_add(cost);
        }
    }
}

impl Drop for Purse<'_> {
    fn drop(&mut self) {
        if let Some(day) = self.places.days().get_mut(&self.route) {
            day.is_taken = false;
            if *self.is_open.get_mut() {
                day.spent = day.spent.saturating_add(self.left);
            }
        }
    }
}
