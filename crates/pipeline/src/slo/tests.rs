use std::sync::Mutex;

use types::clock::FakeClock;

use super::*;
use crate::record::telemetry::{Telemetry, Told};

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<(String, bool)>>);

impl AlertSink for Heard {
    fn fire(&self, alert: Alert) {
        let heard = (alert.slo.settings.name, alert.slo.is_burning);
        self.0.lock().unwrap().push(heard);
    }
}

impl Heard {
    fn all(&self) -> Vec<(String, bool)> {
        self.0.lock().unwrap().clone()
    }
}

fn errors(name: &str) -> SloSettings {
    SloSettings {
        name: name.to_owned(),
        class: None,
        model: None,
        key: None,
        metric: Metric::Errors,
        threshold: Duration::ZERO,
        allowed: MILLION / 10,
        window: Duration::from_secs(7_200),
        short_window: Duration::from_secs(10),
        long_window: Duration::from_secs(60),
        burn_rate: 5.0,
        min_count: 1,
        task_idle: Duration::from_secs(5),
    }
}

fn changed(name: &str) -> SloSettings {
    SloSettings { allowed: MILLION / 20, ..errors(name) }
}

/// The next configuration's objectives, told from now on.
fn set(telemetry: &Telemetry, clock: &Arc<FakeClock>, all: Vec<SloSettings>) -> Arc<Heard> {
    let (heard, before) = (Arc::new(Heard::default()), telemetry.slos());
    let sink = Some(Arc::clone(&heard) as Arc<dyn AlertSink>);
    let slos = Slos::after(before.as_deref(), all, Arc::clone(clock) as _, sink);
    telemetry.set(Told { slos: Some(Arc::new(slos)), observer: None });
    heard
}

fn bad(telemetry: &Telemetry) -> Vec<(String, u64)> {
    let all = telemetry.slos().unwrap().status();
    all.into_iter().map(|slo| (slo.settings.name, slo.budget.counts.bad)).collect()
}

fn counted(all: &[(&str, u64)]) -> Vec<(String, u64)> {
    all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn an_objective_that_is_set_as_before_goes_on_and_others_begin_anew() {
    let (telemetry, clock) = (Telemetry::default(), Arc::new(FakeClock::new(Timestamp(0))));
    set(&telemetry, &clock, vec![errors("a"), errors("b"), errors("c")]);
    let before = telemetry.slos().unwrap();
    before.refused("chat", ErrorCode::Internal);
    set(&telemetry, &clock, vec![errors("new"), changed("b"), errors("a")]);
    assert_eq!(bad(&telemetry), counted(&[("new", 0), ("b", 0), ("a", 1)]));
    // What began with the former ones counts in those that stay.
    before.refused("chat", ErrorCode::Internal);
    assert_eq!(bad(&telemetry), counted(&[("new", 0), ("b", 0), ("a", 2)]));
    telemetry.set(Told::default());
    assert!(telemetry.slos().is_none());
}

#[test]
fn who_was_told_that_an_objective_burns_is_told_that_it_is_no_more() {
    let (telemetry, clock) = (Telemetry::default(), Arc::new(FakeClock::new(Timestamp(0))));
    let first = set(&telemetry, &clock, vec![errors("stays"), errors("goes"), errors("changes")]);
    telemetry.slos().unwrap().refused("chat", ErrorCode::Internal);
    telemetry.slos().unwrap().evaluate();
    assert_eq!(first.all().len(), 3);
    let second = set(&telemetry, &clock, vec![errors("stays"), changed("changes")]);
    let ended = [("goes".to_owned(), false), ("changes".to_owned(), false)];
    assert_eq!(first.all()[3..], ended);
    assert_eq!(telemetry.slos().unwrap().is_burning("stays"), Some(true));
    // The end of what goes on is told to whoever is told by then, and only once.
    clock.advance(Duration::from_secs(120));
    telemetry.slos().unwrap().evaluate();
    telemetry.set(Told::default());
    assert_eq!(second.all(), [("stays".to_owned(), false)]);
    assert_eq!(first.all().len(), 5);
}
