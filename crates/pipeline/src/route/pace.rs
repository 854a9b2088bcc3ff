//! How targets did lately: the time to their first content, and how often they failed.
//!
//! Kept for Calls that have a choice, and read by routes that choose by it. Both fade: a time that
//! is old says nothing, so that its target counts as unknown and is tried again. Invariant: it
//! orders targets and leaves none out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use types::clock::Monotonic;

/// Targets at most. Where there are more, the one that was not heard of for the longest goes.
const TARGETS_MAX: usize = 4_096;
/// What the newest time counts for in the mean.
const NEWEST: f64 = 0.3;
/// A time that is older says nothing any more.
const FRESH_FOR: Duration = Duration::from_secs(5 * 60);
/// After so long a failure counts for half.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Times of one target that are kept for its percentiles, each way.
const TIMES_MAX: usize = 64;
/// With fewer of them nobody knows a percentile.
const TIMES_MIN: usize = 20;
/// Attempts that a share of failures is of at least. All of them fade alike, so that nothing else
/// would lower the share of a target that nobody asks any more because of it.
const EVIDENCE_MIN: f64 = 5.0;
/// Failures are told in thousandths.
const THOUSAND: f64 = 1_000.0;
const HUNDRED: f64 = 100.0;

/// How all targets did lately.
#[derive(Debug, Default)]
pub(crate) struct Pace(RwLock<HashMap<Arc<str>, Arc<Mutex<Lately>>>>);

/// How one target did lately.
#[derive(Debug, Default)]
struct Lately {
    /// To the first content of a stream.
    streamed: Option<Mean>,
    /// To a whole answer.
    whole: Option<Mean>,
    streamed_times: Times,
    whole_times: Times,
    failures: f64,
    failed_at: Monotonic,
    /// Answers, which fade as failures do.
    answers: f64,
    answered_at: Monotonic,
}

/// The last times of one kind.
#[derive(Debug, Default)]
struct Times {
    kept: Vec<Time>,
    /// Where the next one goes, once there are as many as are kept.
    next: usize,
}

/// One of them, small: there are many targets.
#[derive(Clone, Copy, Debug)]
struct Time {
    micros: u32,
    at_second: u32,
}

#[derive(Clone, Copy, Debug)]
struct Mean {
    seconds: f64,
    at: Monotonic,
}

impl Pace {
    /// An answer's first content came after `took`; of one that is not streamed, all of it.
    pub(crate) fn answered(
        &self,
        target: &Arc<str>,
        streamed: bool,
        took: Duration,
        now: Monotonic,
    ) {
        let lately = self.find_or_make(target);
        let mut lately = lock(&lately);
        let mean = if streamed { &mut lately.streamed } else { &mut lately.whole };
        let newest = took.as_secs_f64();
        let seconds = match mean.filter(|mean| mean.is_fresh(now)) {
            Some(before) => before.seconds + (newest - before.seconds) * NEWEST,
            None => newest,
        };
        *mean = Some(Mean { seconds, at: now });
        lately.answers = fade(lately.answers, lately.answered_at, now) + 1.0;
        lately.answered_at = now;
        lately.times(streamed).add(took, now);
    }

    /// An attempt was given up that had shown nothing for `waited`: its time would have been at
    /// least that. Without it, the slow ones would be missing among the times.
    pub(crate) fn given_up(
        &self,
        target: &Arc<str>,
        streamed: bool,
        waited: Duration,
        now: Monotonic,
    ) {
        let lately = self.find_or_make(target);
        lock(&lately).times(streamed).add(waited, now);
    }

    /// The time to the first content that so many of a hundred answers were within lately; `None` =
    /// there were too few.
    pub(crate) fn percentile(
        &self,
        target: &str,
        streamed: bool,
        percent: u8,
        now: Monotonic,
    ) -> Option<Duration> {
        let lately = self.find(target)?;
        let mut lately = lock(&lately);
        lately.times(streamed).percentile(percent, now)
    }

    /// An attempt failed.
    pub(crate) fn failed(&self, target: &Arc<str>, now: Monotonic) {
        let lately = self.find_or_make(target);
        let mut lately = lock(&lately);
        lately.failures = lately.faded(now) + 1.0;
        lately.failed_at = now;
    }

    /// The mean time to the first content; `None` = nobody knows.
    pub(crate) fn first_content(
        &self,
        target: &str,
        streamed: bool,
        now: Monotonic,
    ) -> Option<Duration> {
        let lately = self.find(target)?;
        let lately = lock(&lately);
        let mean = if streamed { lately.streamed } else { lately.whole };
        let seconds = mean.filter(|mean| mean.is_fresh(now))?.seconds;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Failures lately, in thousandths of one.
    pub(crate) fn failures(&self, target: &str, now: Monotonic) -> u64 {
        let Some(lately) = self.find(target) else { return 0 };
        let thousandths = lock(&lately).faded(now) * THOUSAND;
        Duration::try_from_secs_f64(thousandths).map_or(u64::MAX, |whole| whole.as_secs())
    }

    /// Of a hundred attempts lately so many failed, rounded down; fewer than five count as five, so
    /// that a target that nobody asks comes back.
    pub(crate) fn failure_percent(&self, target: &str, now: Monotonic) -> u8 {
        let Some(lately) = self.find(target) else { return 0 };
        let lately = lock(&lately);
        let failed = lately.faded(now);
        let all = failed + fade(lately.answers, lately.answered_at, now);
        let percent = HUNDRED * failed / all.max(EVIDENCE_MIN);
        let whole = Duration::try_from_secs_f64(percent).map_or(0, |percent| percent.as_secs());
        u8::try_from(whole).unwrap_or(u8::MAX)
    }

    fn find(&self, target: &str) -> Option<Arc<Mutex<Lately>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(target).map(Arc::clone)
    }

    /// Forgets some targets.
    pub(crate) fn forget(&self, which: impl Fn(&str) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|target, _| !which(target));
    }

    fn find_or_make(&self, target: &Arc<str>) -> Arc<Mutex<Lately>> {
        if let Some(known) = self.find(target) {
            return known;
        }
        let mut targets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if targets.len() >= TARGETS_MAX && !targets.contains_key(target) {
            let heard = targets.iter().map(|(name, lately)| (lock(lately).heard_at(), name));
            if let Some(oldest) = heard.min().map(|(_, name)| Arc::clone(name)) {
                targets.remove(&oldest);
            }
        }
        Arc::clone(targets.entry(Arc::clone(target)).or_default())
    }
}

impl Lately {
    const fn times(&mut self, streamed: bool) -> &mut Times {
        if streamed { &mut self.streamed_times } else { &mut self.whole_times }
    }

    /// When it was last heard of.
    fn heard_at(&self) -> Monotonic {
        let answered = [self.streamed, self.whole].into_iter().flatten().map(|mean| mean.at);
        answered.fold(self.failed_at, Monotonic::max)
    }

    fn faded(&self, now: Monotonic) -> f64 {
        fade(self.failures, self.failed_at, now)
    }
}

/// What a number of then counts for now.
fn fade(number: f64, then: Monotonic, now: Monotonic) -> f64 {
    let since = now.saturating_sub(then).as_secs_f64();
    number * (-since / HALF_LIFE.as_secs_f64()).exp2()
}

impl Times {
    fn add(&mut self, took: Duration, now: Monotonic) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let time = Time { micros, at_second: second(now) };
        match self.kept.get_mut(self.next) {
            Some(oldest) => *oldest = time,
            None => self.kept.push(time),
        }
        self.next = (self.next + 1) % TIMES_MAX;
    }

    fn percentile(&self, percent: u8, now: Monotonic) -> Option<Duration> {
        let fresh_since = second(now.saturating_sub(FRESH_FOR));
        let is_fresh = |time: &&Time| time.at_second >= fresh_since;
        let mut micros: Vec<u32> =
            self.kept.iter().filter(is_fresh).map(|time| time.micros).collect();
        if micros.len() < TIMES_MIN {
            return None;
        }
        // The nearest rank, from 1.
        let rank = (micros.len() * usize::from(percent)).div_ceil(100).clamp(1, micros.len());
        let (_, found, _) = micros.select_nth_unstable(rank - 1);
        Some(Duration::from_micros(u64::from(*found)))
    }
}

fn second(at: Monotonic) -> u32 {
    u32::try_from(at.as_secs()).unwrap_or(u32::MAX)
}

impl Mean {
    fn is_fresh(&self, now: Monotonic) -> bool {
        now.saturating_sub(self.at) < FRESH_FOR
    }
}

fn lock(lately: &Mutex<Lately>) -> MutexGuard<'_, Lately> {
    lately.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Monotonic {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_mean_follows_and_is_forgotten() {
        let (pace, target) = (Pace::default(), Arc::from("a/m"));
        assert_eq!(pace.first_content("a/m", true, at(0)), None);
        pace.answered(&target, true, Duration::from_millis(100), at(1));
        pace.answered(&target, true, Duration::from_millis(200), at(2));
        let mean = pace.first_content("a/m", true, at(3)).unwrap();
        assert!(mean > Duration::from_millis(129) && mean < Duration::from_millis(131), "{mean:?}");
        assert_eq!(pace.first_content("a/m", false, at(3)), None, "a whole answer is another time");
        assert_eq!(pace.first_content("a/m", true, at(302)), None);
    }

    #[test]
    fn the_one_not_heard_of_for_the_longest_makes_room() {
        let pace = Pace::default();
        let name = |number: usize| Arc::from(format!("open/{number}"));
        pace.answered(&name(0), true, Duration::from_millis(100), at(2));
        (1..TARGETS_MAX).for_each(|number| pace.failed(&name(number), at(1)));
        pace.answered(&name(TARGETS_MAX), true, Duration::from_millis(100), at(3));
        assert!(pace.first_content("open/0", true, at(3)).is_some());
        assert!(pace.first_content(&name(TARGETS_MAX), true, at(3)).is_some());
        assert_eq!(pace.0.read().unwrap().len(), TARGETS_MAX);
    }

    #[test]
    fn a_percentile_is_of_the_newest_times_and_needs_enough_of_them() {
        let (pace, target) = (Pace::default(), Arc::from("a/m"));
        let millis = Duration::from_millis;
        (1..20).for_each(|number| pace.answered(&target, true, millis(number), at(1)));
        assert_eq!(pace.percentile("a/m", true, 95, at(1)), None, "19 are too few");
        pace.given_up(&target, true, millis(500), at(1));
        assert_eq!(pace.percentile("a/m", true, 95, at(1)), Some(millis(19)));
        assert_eq!(pace.percentile("a/m", true, 96, at(1)), Some(millis(500)));
        assert_eq!(pace.percentile("a/m", true, 50, at(1)), Some(millis(10)));
        assert_eq!(
            pace.percentile("a/m", false, 95, at(1)),
            None,
            "of whole answers none is known"
        );
        (0..64).for_each(|_| pace.answered(&target, true, millis(7), at(2)));
        assert_eq!(pace.percentile("a/m", true, 99, at(2)), Some(millis(7)), "64 are kept");
        assert_eq!(pace.percentile("a/m", true, 99, at(303)), None, "what is old says nothing");
    }

    #[test]
    fn failures_are_a_share_of_what_was_asked_lately() {
        let (pace, target) = (Pace::default(), Arc::from("a/m"));
        assert_eq!(pace.failure_percent("a/m", at(0)), 0);
        (0..30).for_each(|_| pace.answered(&target, true, Duration::from_millis(1), at(0)));
        (0..10).for_each(|_| pace.failed(&target, at(0)));
        assert_eq!(pace.failure_percent("a/m", at(0)), 25);
        assert_eq!(pace.failure_percent("a/m", at(60)), 25, "both fade alike");
        (0..10).for_each(|_| pace.failed(&target, at(120)));
        assert_eq!(pace.failure_percent("a/m", at(120)), 62);
    }

    #[test]
    fn a_target_that_nobody_asks_any_more_comes_back() {
        let (pace, target) = (Pace::default(), Arc::from("a/m"));
        (0..64).for_each(|_| pace.failed(&target, at(0)));
        assert_eq!(pace.failure_percent("a/m", at(0)), 100);
        assert!(pace.failure_percent("a/m", at(600)) < 20);
        pace.failed(&target, at(60_000));
        assert_eq!(pace.failure_percent("a/m", at(60_000)), 20, "one alone says little");
    }

    #[test]
    fn failures_fade() {
        let (pace, target) = (Pace::default(), Arc::from("a/m"));
        assert_eq!(pace.failures("a/m", at(0)), 0);
        pace.failed(&target, at(0));
        pace.failed(&target, at(60));
        assert_eq!(pace.failures("a/m", at(60)), 1_500);
        assert_eq!(pace.failures("a/m", at(120)), 750);
    }
}
