use std::sync::{Mutex, OnceLock, Weak};

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

#[test]
fn an_objective_that_is_no_more_never_begins_to_burn() {
    let (telemetry, clock) = (Telemetry::default(), Arc::new(FakeClock::new(Timestamp(0))));
    let heard = set(&telemetry, &clock, vec![errors("a"), errors("quiet")]);
    let before = telemetry.slos().unwrap();
    before.refused("chat", ErrorCode::Internal);
    before.evaluate();
    telemetry.set(Told::default());
    assert_eq!(heard.all()[2..], [("a".to_owned(), false), ("quiet".to_owned(), false)]);
    // An evaluation that has taken the former objectives already, and what is kept of them.
    let (rows, _) = before.unkept();
    before.evaluate();
    before.load(&rows);
    assert_eq!(heard.all().len(), 4);
    assert_eq!(before.burning().count(), 0);
}

/// Hears whether anybody else could tell of the objective meanwhile.
#[derive(Debug, Default)]
struct InTurn {
    slos: OnceLock<Weak<Slos>>,
    heard: Mutex<Vec<(bool, bool)>>,
}

impl AlertSink for InTurn {
    fn fire(&self, alert: Alert) {
        let slos = self.slos.get().unwrap().upgrade().unwrap();
        let is_alone = slos.objectives[0].telling.try_lock().is_err();
        self.heard.lock().unwrap().push((alert.slo.is_burning, is_alone));
    }
}

#[test]
fn the_end_cannot_be_told_before_the_beginning() {
    let (telemetry, clock) = (Telemetry::default(), Arc::new(FakeClock::new(Timestamp(0))));
    let heard = Arc::new(InTurn::default());
    let sink = Some(Arc::clone(&heard) as Arc<dyn AlertSink>);
    let slos = Arc::new(Slos::new(vec![errors("a")], clock, sink));
    heard.slos.set(Arc::downgrade(&slos)).unwrap();
    telemetry.set(Told { slos: Some(Arc::clone(&slos)), observer: None });
    slos.refused("chat", ErrorCode::Internal);
    slos.evaluate();
    slos.load(&slos.unkept().0);
    telemetry.set(Told::default());
    assert_eq!(*heard.heard.lock().unwrap(), [(true, true), (true, true), (false, true)]);
}

/// A month in slots of an hour.
fn monthly() -> SloSettings {
    SloSettings { window: Duration::from_hours(720), ..errors("a") }
}

/// The ages of what is kept for the error budget, in slots, with their bad events.
fn ages(row: &SloCounts) -> Vec<(u64, u64)> {
    let kept: kept::Kept = serde_json::from_str(&row.counts).unwrap();
    kept.coarse.into_iter().map(|(age, _, bad)| (age, bad)).collect()
}

/// So many processes, each of which counts one bad event and ends a second later.
fn restarted(times: u32, begin: i64) -> Vec<SloCounts> {
    let mut rows = Vec::new();
    for at in 0..i64::from(times) {
        let clock = Arc::new(FakeClock::new(Timestamp::from_millis((begin + at) * 1_000)));
        let slos = Slos::new(vec![monthly()], Arc::clone(&clock) as _, None);
        slos.load(&rows);
        slos.refused("chat", ErrorCode::Internal);
        clock.advance(Duration::from_secs(1));
        rows = slos.unkept().0;
    }
    rows
}

#[test]
fn restarts_within_a_slot_age_nothing() {
    let hour = 1_800_000_000 / 3_600 * 3_600;
    assert_eq!(ages(&restarted(100, hour + 60)[0]), [(0, 100)]);
    // Half of them are before the hour ends.
    assert_eq!(ages(&restarted(100, hour + 3_550)[0]), [(0, 50), (1, 50)]);
}

#[test]
fn a_wall_clock_that_jumps_moves_no_slot() {
    for jump in [-7_200, 7_200] {
        let begin = 1_800_000_060;
        let clock = Arc::new(FakeClock::new(Timestamp::from_millis(begin * 1_000)));
        let slos = Slos::new(vec![monthly()], Arc::clone(&clock) as _, None);
        slos.refused("chat", ErrorCode::Internal);
        clock.jump_to(Timestamp::from_millis((begin + jump) * 1_000));
        slos.refused("chat", ErrorCode::Internal);
        let (rows, _) = slos.unkept();
        assert_eq!(ages(&rows[0]), [(0, 2)]);
        // Nor does what was kept age by it.
        let clock = Arc::new(FakeClock::new(Timestamp::from_millis((begin + jump + 1) * 1_000)));
        let next = Slos::new(vec![monthly()], clock, None);
        next.load(&rows);
        next.refused("chat", ErrorCode::Internal);
        assert_eq!(ages(&next.unkept().0[0]), [(0, 3)]);
    }
}

/// What another process, whose clock has just begun, makes of what was kept at 0.
fn loaded(rows: &[SloCounts], at: i64, all: Vec<SloSettings>) -> (Arc<Slos>, Arc<Heard>) {
    let clock = Arc::new(FakeClock::new(Timestamp::from_millis(at)));
    let telemetry = Telemetry::default();
    let heard = set(&telemetry, &clock, all);
    let slos = telemetry.slos().unwrap();
    slos.load(rows);
    (slos, heard)
}

#[test]
fn what_was_kept_goes_on_at_its_age() {
    let (telemetry, clock) = (Telemetry::default(), Arc::new(FakeClock::new(Timestamp(0))));
    set(&telemetry, &clock, vec![errors("a"), errors("b")]);
    let slos = telemetry.slos().unwrap();
    assert!(slos.unkept().0.is_empty(), "nothing was counted");
    for _ in 0..3 {
        slos.refused("chat", ErrorCode::Internal);
    }
    slos.evaluate();
    let (rows, marks) = slos.unkept();
    assert_eq!(slos.unkept().0.len(), 2, "nobody has said that it is kept");
    marks.into_iter().for_each(Mark::set);
    assert!(slos.unkept().0.is_empty());
    slos.refused("chat", ErrorCode::Internal);
    assert_eq!(slos.unkept().0.len(), 2);

    let (later, heard) = loaded(&rows, 30_000, vec![errors("a"), changed("b"), errors("c")]);
    let bad = |slos: &Slos| -> Vec<_> {
        let of = |one: SloStatus| [one.short, one.long, one.budget].map(|one| one.counts.bad);
        slos.status().into_iter().map(of).collect()
    };
    assert_eq!(bad(&later), [[0, 3, 3], [0; 3], [0; 3]]);
    assert_eq!(later.is_burning("a"), Some(true));
    // It may not have been heard before the crash: once more, and its end once.
    assert_eq!(heard.all(), [("a".to_owned(), true)]);
    later.evaluate();
    assert_eq!(heard.all()[1..], [("a".to_owned(), false)]);
    assert_eq!(bad(&loaded(&rows, 70_000, vec![errors("a")]).0), [[0, 0, 3]]);
    assert_eq!(bad(&loaded(&rows, 8_000_000, vec![errors("a")]).0), [[0, 0, 0]]);
    // A clock that was set back loses nothing.
    assert_eq!(bad(&loaded(&rows, -5_000, vec![errors("a")]).0), [[3, 3, 3]]);
}

#[test]
fn what_cannot_be_read_loads_nothing() {
    let (telemetry, clock) = (Telemetry::default(), Arc::new(FakeClock::new(Timestamp(0))));
    set(&telemetry, &clock, vec![errors("a")]);
    telemetry.slos().unwrap().refused("chat", ErrorCode::Internal);
    let [row] = &telemetry.slos().unwrap().unkept().0[..] else { panic!() };
    for counts in ["", "{}", "[]", &row.counts.replace("fine", "wrong")] {
        let row = SloCounts { counts: counts.to_owned(), ..row.clone() };
        let (slos, _) = loaded(&[row], 0, vec![errors("a")]);
        assert_eq!(slos.status()[0].budget.counts, Counts::default());
    }
    // Ages and counts that no process wrote neither fail nor overflow.
    let most = u64::MAX;
    let wild = format!(
        r#"{{"fine":[[{most},1,1],[0,{most},{most}]],"coarse":[[0,{most},{most}]],"is_burning":false,"since":{}}}"#,
        i64::MIN
    );
    let row = SloCounts { counts: wild, at: Timestamp(i64::MIN), ..row.clone() };
    let (slos, _) = loaded(&[row], 0, vec![errors("a")]);
    slos.evaluate();
    slos.refused("chat", ErrorCode::Internal);
}
