//! Tasks that run, each timed from its first Call's arrival to its last Call's end.
//!
//! A task is all Calls of one account with one task name. Nobody says that it is over: it is, once
//! none of its Calls has run for `idle`. One that runs longer than allowed is bad at once and not
//! only when it ends. Invariants: each task is counted once; at most [`TASKS_MAX`] are followed,
//! further ones are not counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use types::clock::Monotonic;

/// Tasks that are followed at once.
pub(super) const TASKS_MAX: usize = 16_384;

/// Whose task, and which.
pub(super) type Name = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Open {
    first: Monotonic,
    last: Monotonic,
    running: u32,
    is_counted: bool,
}

/// The tasks that one objective follows.
#[derive(Debug, Default)]
pub(super) struct Tasks(HashMap<Name, Open>);

impl Tasks {
    /// A Call of a task has begun. Whether it can be the first one is for the caller to say.
    pub(super) fn begun(&mut self, name: Name, at: Monotonic, opens: bool) {
        let has_room = opens && self.0.len() < TASKS_MAX;
        match self.0.get_mut(&name) {
            Some(open) => open.running = open.running.saturating_add(1),
            None if has_room => {
                let open = Open { first: at, last: at, running: 1, is_counted: false };
                self.0.insert(name, open);
            }
            None => {}
        }
    }

    /// A Call of a task has ended.
    pub(super) fn ended(&mut self, name: &Name, at: Monotonic) {
        if let Some(open) = self.0.get_mut(name) {
            open.running = open.running.saturating_sub(1);
            open.last = open.last.max(at);
        }
    }

    /// Counts tasks that are over or late by now: for each, whether it is bad.
    pub(super) fn sweep(
        &mut self,
        now: Monotonic,
        threshold: Duration,
        idle: Duration,
        mut count: impl FnMut(bool),
    ) {
        self.0.retain(|_, open| {
            let is_over = open.running == 0 && now.saturating_sub(open.last) >= idle;
            // A task that only waits may have ended in time.
            let seen = if open.running == 0 { open.last } else { now };
            let is_late = seen.saturating_sub(open.first) > threshold;
            if !open.is_counted && (is_over || is_late) {
                open.is_counted = true;
                count(is_late);
            }
            !is_over
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn name(task: &str) -> Name {
        (Arc::from("a"), Arc::from(task))
    }

    fn swept(tasks: &mut Tasks, now: u64) -> Vec<bool> {
        let mut counted = Vec::new();
        tasks.sweep(seconds(now), seconds(10), seconds(5), |is_bad| counted.push(is_bad));
        counted
    }

    #[test]
    fn a_task_is_over_when_none_of_its_calls_has_run_for_a_while() {
        let mut tasks = Tasks::default();
        tasks.begun(name("t"), seconds(0), true);
        tasks.ended(&name("t"), seconds(1));
        tasks.begun(name("t"), seconds(3), true);
        tasks.ended(&name("t"), seconds(9));
        assert_eq!(swept(&mut tasks, 13), Vec::<bool>::new());
        assert_eq!(swept(&mut tasks, 14), [false], "nine seconds long");
        assert_eq!(swept(&mut tasks, 30), Vec::<bool>::new(), "counted once");
    }

    #[test]
    fn a_late_task_is_bad_at_once_and_once() {
        let mut tasks = Tasks::default();
        tasks.begun(name("t"), seconds(0), true);
        assert_eq!(swept(&mut tasks, 10), Vec::<bool>::new());
        assert_eq!(swept(&mut tasks, 11), [true]);
        tasks.ended(&name("t"), seconds(12));
        assert_eq!(swept(&mut tasks, 40), Vec::<bool>::new());
        tasks.begun(name("t"), seconds(41), true);
        tasks.ended(&name("t"), seconds(42));
        assert_eq!(swept(&mut tasks, 60), [false], "the same name again is another task");
    }

    #[test]
    fn a_task_that_waits_for_its_client_is_not_late_by_that_alone() {
        let mut tasks = Tasks::default();
        tasks.begun(name("t"), seconds(0), true);
        tasks.ended(&name("t"), seconds(9));
        let mut counted = Vec::new();
        let late = |tasks: &mut Tasks, counted: &mut Vec<bool>| {
            tasks.sweep(seconds(12), seconds(10), seconds(5), |is_bad| counted.push(is_bad));
        };
        late(&mut tasks, &mut counted);
        assert_eq!(counted, Vec::<bool>::new());
        tasks.begun(name("t"), seconds(13), true);
        late(&mut tasks, &mut counted);
        assert_eq!(counted, [true], "it went on, and is late");
    }

    #[test]
    fn a_long_call_keeps_its_task_open() {
        let mut tasks = Tasks::default();
        tasks.begun(name("t"), seconds(0), true);
        tasks.begun(name("t"), seconds(0), true);
        tasks.ended(&name("t"), seconds(1));
        assert_eq!(swept(&mut tasks, 9), Vec::<bool>::new());
        tasks.ended(&name("t"), seconds(9));
        assert_eq!(swept(&mut tasks, 14), [false]);
    }

    #[test]
    fn a_call_that_may_open_no_task_still_joins_one() {
        let mut tasks = Tasks::default();
        tasks.begun(name("t"), seconds(0), false);
        assert!(tasks.0.is_empty());
        tasks.begun(name("t"), seconds(1), true);
        tasks.begun(name("t"), seconds(2), false);
        tasks.ended(&name("t"), seconds(3));
        assert_eq!(swept(&mut tasks, 9), Vec::<bool>::new(), "one still runs");
    }

    #[test]
    fn tasks_are_bounded() {
        let mut tasks = Tasks::default();
        for n in 0..=TASKS_MAX {
            tasks.begun(name(&n.to_string()), seconds(0), true);
        }
        tasks.begun(name("0"), seconds(0), true);
        assert_eq!(tasks.0.len(), TASKS_MAX);
    }
}
