//! Objectives: what falls under one, what is good, when it burns, and who is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use pipeline::route::choice::Choice;
use pipeline::slo::{MILLION, Metric};
use pipeline::{
    Alert, AlertSink, RouteInfo, SloSettings, SloStatus, Slos, StepTries, Telemetry,
    Told as Listeners,
};
use types::call::{CallKind, RoutePolicy, StepRef};
use types::clock::FakeClock;
use types::error::Billed;
use types::ids::{CallId, SessionId, StepId};
use types::outcome::Start;
use types::{ErrorCode, Failure, Incoming, OutcomeEvent};

use super::summaries;
use super::world::{MORNING, Node, as_step, database, finish, model, price, request, usage};

#[derive(Debug, Default)]
struct Told(Mutex<Vec<Alert>>);

impl AlertSink for Told {
    fn fire(&self, alert: Alert) {
        self.0.lock().unwrap().push(alert);
    }
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// One objective: 90 % within 800 ms, over two windows of 10 s and 60 s.
fn slo(name: &str, metric: Metric) -> SloSettings {
    SloSettings {
        name: name.to_owned(),
        class: None,
        model: None,
        key: None,
        metric,
        threshold: ms(800),
        allowed: MILLION / 10,
        window: Duration::from_secs(7_200),
        short_window: Duration::from_secs(10),
        long_window: Duration::from_secs(60),
        burn_rate: 5.0,
        min_count: 4,
        task_idle: Duration::from_secs(5),
    }
}

struct World {
    node: Node,
    told: Arc<Told>,
    slos: Arc<Slos>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(settings: Vec<SloSettings>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::new(MORNING));
        let told = Arc::new(Told::default());
        let sink = Arc::clone(&told) as Arc<dyn AlertSink>;
        let slos = Arc::new(Slos::new(settings, Arc::clone(&clock) as _, Some(sink)));
        let listeners = Listeners { slos: Some(Arc::clone(&slos)), observer: None };
        let telemetry = Telemetry::new(listeners);
        let policy = RoutePolicy { same_target_max: 1, ..RoutePolicy::OF_ROUTE };
        let route = RouteInfo {
            name: "r".to_owned(),
            aliases: vec!["quick".to_owned()],
            targets: vec!["paid/m".to_owned(), "local/demo".to_owned()],
            choice: None,
            policy,
        };
        let small = RouteInfo {
            name: "small".to_owned(),
            aliases: Vec::new(),
            targets: vec!["paid/m".to_owned()],
            choice: None,
            policy: summaries::policy(),
        };
        let targets =
            serde_json::json!([{"model": "paid/m", "when": "!('fast' in burning)"}, "local/demo"]);
        let targets = serde_json::from_value(targets).unwrap();
        let guarded = RouteInfo {
            name: "guarded".to_owned(),
            aliases: Vec::new(),
            targets: vec!["paid/m".to_owned(), "local/demo".to_owned()],
            choice: Some(Arc::new(Choice { targets, ..Choice::default() })),
            policy: RoutePolicy::OF_ROUTE,
        };
        let routes = vec![route, small, guarded];
        let node = Node::watched(&database(&folder), &clock, 1, routes, telemetry).await;
        node.directory.put_model(model("paid", "n", Some(price()))).await.unwrap();
        // The evaluation's own beat is not started: these tests give it.
        node.furnish().await;
        Self { node, told, slos, _folder: folder }
    }

    /// A Call whose first content comes after `first` and whose end `rest` later.
    async fn call(&self, mut incoming: Incoming, first: Duration, rest: Duration) {
        if let CallKind::Model(model) = &mut incoming.kind {
            // Else a route shows nothing before the end.
            model.head.stream = true;
        }
        let mut answer = self.node.pipeline.run(incoming).await.unwrap();
        let call = answer.call.id.clone();
        Node::begin(&mut answer);
        self.node.clock.advance(first);
        self.node.tell(&call, OutcomeEvent::Start(Start::default()));
        self.node.tell(&call, frame());
        loop {
            let event = answer.next().await.expect("content");
            if matches!(event, OutcomeEvent::Frame { .. }) {
                break;
            }
        }
        self.node.clock.advance(rest);
        self.node.tell(&call, finish(Some(usage(1, 1))));
        while answer.next().await.is_some() {}
    }

    async fn calls(&self, count: usize, first: Duration) {
        for _ in 0..count {
            self.call(ask(), first, Duration::ZERO).await;
        }
    }

    /// A Call that fails after `took`, without content.
    async fn fails(&self, code: ErrorCode, took: Duration) {
        let mut answer = self.node.pipeline.run(ask()).await.unwrap();
        Node::begin(&mut answer);
        self.node.clock.advance(took);
        let failure = Failure::new(code, "as told").billed(Billed::No);
        self.node.tell(&answer.call.id, OutcomeEvent::Failed(Box::new(failure)));
        while answer.next().await.is_some() {}
    }

    fn only(&self) -> SloStatus {
        self.slos.status().remove(0)
    }

    /// Good and bad events since the start, of each objective.
    fn seen(&self) -> Vec<(u64, u64)> {
        self.slos.status().iter().map(|slo| (slo.seen.good, slo.seen.bad)).collect()
    }

    fn told(&self) -> Vec<bool> {
        self.told.0.lock().unwrap().iter().map(|alert| alert.slo.is_burning).collect()
    }
}

#[tokio::test]
async fn a_condition_reads_which_objectives_burn() {
    let world = World::new(vec![slo("fast", Metric::TimeToFirstToken)]).await;
    let asked = || async {
        let answer = world.node.pipeline.run(request("ci", "route/guarded", None)).await.unwrap();
        let target = answer.target().name.to_string();
        world.node.finish(answer, Some(usage(1, 1))).await;
        target
    };
    assert_eq!(asked().await, "paid/m");
    for _ in 0..6 {
        world.call(ask(), ms(900), ms(0)).await;
    }
    assert_eq!(asked().await, "paid/m", "it burns once it has been evaluated");
    world.slos.evaluate();
    assert!(world.only().is_burning);
    assert_eq!(asked().await, "local/demo");
    world.node.clock.advance(Duration::from_secs(120));
    world.slos.evaluate();
    assert_eq!(asked().await, "paid/m");
}

fn frame() -> OutcomeEvent {
    OutcomeEvent::Frame { delta: None, raw: None }
}

fn ask() -> Incoming {
    request("ci", "paid/m", None)
}

fn of_class(class: &str) -> Incoming {
    let mut incoming = ask();
    incoming.headers.class = Some(class.to_owned());
    incoming
}

fn of_task(task: &str) -> Incoming {
    let mut incoming = ask();
    incoming.headers.task = Some(task.to_owned());
    incoming
}

#[tokio::test]
async fn slow_first_content_is_bad_for_its_class_and_for_no_other() {
    let first = Metric::TimeToFirstToken;
    let settings = ["chat", "batch"].map(|class| {
        let class = Some(class.to_owned());
        SloSettings { class, ..slo("s", first) }
    });
    let world = World::new(settings.to_vec()).await;
    world.call(of_class("chat"), ms(801), ms(0)).await;
    world.call(of_class("chat"), ms(800), ms(5_000)).await;
    world.call(of_class("batch"), ms(10), ms(0)).await;
    world.call(of_class("other"), ms(9_000), ms(0)).await;
    assert_eq!(world.seen(), [(1, 1), (1, 0)]);
}

#[tokio::test]
async fn a_model_and_a_key_narrow_an_objective() {
    let first = Metric::TimeToFirstToken;
    let model = |name: &str| SloSettings { model: Some(name.to_owned()), ..slo("s", first) };
    let key = |name: &str| SloSettings { key: Some(name.to_owned()), ..slo("s", first) };
    let names = ["paid/m", "route/r", "quick", "local/demo"].map(model);
    let settings = names.into_iter().chain([key("ci"), key("other")]).collect();
    let world = World::new(settings).await;
    world.call(request("ci", "quick", None), ms(1), ms(0)).await;
    world.call(request("other", "local/demo", None), ms(1), ms(0)).await;
    let counted: Vec<u64> = world.seen().iter().map(|(good, _)| *good).collect();
    assert_eq!(counted, [1, 1, 1, 1, 1, 1], "the answering target, the route and the alias");
}

#[tokio::test]
async fn a_call_that_shows_nothing_is_slow_only_after_the_threshold() {
    let both = [Metric::TimeToFirstToken, Metric::Errors].map(|metric| slo("s", metric));
    let world = World::new(both.to_vec()).await;
    world.fails(ErrorCode::UpstreamFailed, ms(100)).await;
    assert_eq!(world.seen(), [(0, 0), (0, 1)]);
    world.fails(ErrorCode::UpstreamTimeout, ms(900)).await;
    assert_eq!(world.seen(), [(0, 1), (0, 2)]);
    world.fails(ErrorCode::InvalidRequest, ms(100)).await;
    assert_eq!(world.seen(), [(0, 1), (0, 2)], "the client's mistake is nobody's fault");
    world.calls(1, ms(1)).await;
    assert_eq!(world.seen(), [(1, 1), (1, 2)]);
    let mut gone = world.node.pipeline.run(ask()).await.unwrap();
    Node::begin(&mut gone);
    drop(gone);
    assert_eq!(world.seen(), [(1, 1), (1, 2)], "who goes early says nothing");
    let mut gone = world.node.pipeline.run(ask()).await.unwrap();
    Node::begin(&mut gone);
    world.node.clock.advance(ms(801));
    drop(gone);
    assert_eq!(world.seen(), [(1, 2), (1, 2)], "who goes late had waited too long");
}

#[tokio::test]
async fn a_fallback_is_part_of_its_calls_time_and_no_fault() {
    let metrics = [Metric::TimeToFirstToken, Metric::Errors, Metric::PolicyTime];
    let world = World::new(metrics.map(|metric| slo("s", metric)).to_vec()).await;
    let mut answer = world.node.pipeline.run(request("ci", "quick", None)).await.unwrap();
    let call = answer.call.id.clone();
    Node::begin(&mut answer);
    world.node.clock.advance(ms(700));
    let failure = Failure::new(ErrorCode::UpstreamFailed, "as told").billed(Billed::No);
    world.node.tell(&call, OutcomeEvent::Failed(Box::new(failure)));
    Node::begin(&mut answer);
    world.node.clock.advance(ms(200));
    world.node.tell(&call, OutcomeEvent::Start(Start::default()));
    world.node.tell(&call, frame());
    world.node.tell(&call, finish(Some(usage(1, 1))));
    while answer.next().await.is_some() {}
    drop(answer);
    assert_eq!(world.seen(), [(0, 1), (1, 0), (1, 0)]);
}

#[tokio::test]
async fn it_burns_while_both_windows_do_and_tells_of_each_change_once() {
    let world = World::new(vec![slo("s", Metric::TimeToFirstToken)]).await;
    world.slos.evaluate();
    assert_eq!(world.slos.is_burning("s"), Some(false));
    assert_eq!(world.slos.is_burning("other"), None);
    world.calls(3, ms(900)).await;
    world.slos.evaluate();
    assert_eq!(world.slos.is_burning("s"), Some(false), "three events are too few");
    world.calls(1, ms(900)).await;
    for _ in 0..2 {
        world.slos.evaluate();
        assert_eq!(world.slos.is_burning("s"), Some(true));
    }
    assert_eq!(world.told(), [true]);
    let since = world.only().since;
    // The short window is clean again while the long one still burns.
    world.node.clock.advance(Duration::from_secs(12));
    world.slos.evaluate();
    let now = world.only();
    assert!(!now.is_burning && now.long.burn_rate >= 5.0 && now.short.counts.all() == 0);
    assert!(now.since > since);
    assert_eq!(world.told(), [true, false]);
    // One bad second in a good minute is no alert.
    world.calls(40, ms(1)).await;
    world.node.clock.advance(Duration::from_secs(15));
    world.calls(4, ms(900)).await;
    world.slos.evaluate();
    let now = world.only();
    assert!(now.short.burn_rate >= 5.0 && now.long.burn_rate < 5.0 && !now.is_burning);
    assert_eq!(world.told(), [true, false]);
}

#[tokio::test]
async fn the_budget_is_what_the_objective_allows_in_its_window() {
    let world = World::new(vec![slo("s", Metric::TimeToFirstToken)]).await;
    assert!(world.only().budget_left >= 1.0, "nothing happened");
    world.calls(19, ms(1)).await;
    world.calls(1, ms(900)).await;
    // One of twenty is half of what is allowed.
    assert!((world.only().budget_left - 0.5).abs() < 1e-9);
    world.calls(3, ms(900)).await;
    assert!(world.only().budget_left < 0.0);
    world.node.clock.advance(Duration::from_secs(7_200 + 20));
    let later = world.only();
    assert_eq!((later.budget.counts.all(), later.seen.all()), (0, 23));
}

#[tokio::test]
async fn a_task_is_timed_from_its_first_call_to_its_last() {
    let world = World::new(vec![slo("s", Metric::TaskTime)]).await;
    world.call(of_task("short"), ms(100), ms(100)).await;
    world.call(of_task("long"), ms(100), ms(100)).await;
    world.node.clock.advance(ms(500));
    world.call(of_task("long"), ms(100), ms(100)).await;
    world.slos.evaluate();
    assert_eq!(world.seen(), [(0, 1)], "the long one is late already");
    world.node.clock.advance(ms(5_000));
    world.slos.evaluate();
    assert_eq!(world.seen(), [(1, 1)], "the short one is over");
    world.calls(1, ms(700)).await;
    assert_eq!(world.seen(), [(2, 1)], "a Call of no task is one by itself");
    world.call(ask(), ms(700), ms(200)).await;
    assert_eq!(world.seen(), [(2, 2)]);
}

#[tokio::test]
async fn the_steps_of_a_turn_are_one_task() {
    let metrics = [Metric::TaskTime, Metric::TimeToFirstToken, Metric::PolicyTime];
    let world = World::new(metrics.map(|metric| slo("s", metric)).to_vec()).await;
    let root = CallId::new(&world.node.ids);
    let session = SessionId::new(&world.node.ids);
    for number in 0..3 {
        let step = StepId::new(&world.node.ids);
        let step = StepRef { begun: false, session: session.clone(), root: session.clone(), step };
        let mut incoming = as_step(of_task(root.as_str()), step);
        incoming.id = (number == 0).then(|| root.clone());
        incoming.parent = (number > 0).then(|| root.clone());
        let admission = world.node.pipeline.admit_step(incoming).await.unwrap();
        let call = admission.call.id.clone();
        let mut run = world.node.pipeline.run_step(admission);
        world.node.tell(&call, OutcomeEvent::Start(Start::default()));
        world.node.clock.advance(ms(300));
        world.node.tell(&call, frame());
        world.node.tell(&call, finish(Some(usage(1, 1))));
        while run.next().await.is_some() {}
        drop(run.into_row());
    }
    world.slos.evaluate();
    assert_eq!(world.seen(), [(0, 1), (3, 0), (3, 0)]);
}

#[tokio::test]
async fn the_tries_of_a_step_are_told_of_as_one_call() {
    let metrics = [Metric::TimeToFirstToken, Metric::Errors, Metric::PolicyTime];
    let world = World::new(metrics.map(|metric| slo("s", metric)).to_vec()).await;
    let session = SessionId::new(&world.node.ids);
    let step = StepId::new(&world.node.ids);
    let step = StepRef { begun: false, session: session.clone(), root: session, step };
    let id = CallId::new(&world.node.ids);
    let failure = || Failure::new(ErrorCode::UpstreamFailed, "as told").billed(Billed::No);
    let mut tries = StepTries::default();
    for last in [false, true] {
        let incoming = as_step(request("ci", "quick", None), step.clone());
        let incoming = Incoming { id: Some(id.clone()), ..incoming };
        let admission = world.node.pipeline.admit_step_again(incoming, &mut tries).await.unwrap();
        let mut run = world.node.pipeline.run_step(admission);
        world.node.clock.advance(ms(300));
        if last {
            world.node.tell(&id, OutcomeEvent::Start(Start::default()));
            world.node.tell(&id, frame());
            world.node.tell(&id, finish(Some(usage(1, 1))));
        } else {
            world.node.tell(&id, OutcomeEvent::Failed(Box::new(failure())));
        }
        while run.next().await.is_some() {}
        let again = (!last).then(|| run.next_try(&mut tries, &failure())).flatten();
        assert_eq!(again.is_some(), !last);
        drop(run.into_row());
    }
    assert_eq!(world.seen(), [(1, 0), (1, 0), (1, 0)]);
}

#[tokio::test]
async fn a_summary_is_no_call_of_a_client_and_its_time_is_no_policy() {
    let metrics = [Metric::TimeToFirstToken, Metric::Errors, Metric::PolicyTime, Metric::TaskTime];
    let world = World::new(metrics.map(|metric| slo("s", metric)).to_vec()).await;
    let node = &world.node;
    for ends_well in [true, false] {
        // Of another history each time: none is kept.
        let mut incoming = summaries::history(if ends_well { "ab" } else { "cd" });
        if let CallKind::Model(model) = &mut incoming.kind {
            (model.head.model, model.head.stream) = ("route/small".to_owned(), true);
        }
        node.targets.script("paid/n", []);
        let before = node.targets.calls_at("paid/n");
        let mut run = Box::pin(node.pipeline.run(incoming));
        assert!(run.as_mut().now_or_never().is_none());
        let mut made = node.targets.calls_at("paid/n");
        made.retain(|call| !before.contains(call));
        world.node.clock.advance(ms(900));
        if ends_well {
            node.tell(&made[0], super::attempts::text());
            node.tell(&made[0], finish(Some(usage(1, 1))));
        } else {
            let failure = Failure::new(ErrorCode::UpstreamFailed, "as told").billed(Billed::No);
            node.tell(&made[0], OutcomeEvent::Failed(Box::new(failure)));
        }
        let mut answer = run.await.unwrap();
        let call = answer.call.id.clone();
        Node::begin(&mut answer);
        for event in [OutcomeEvent::Start(Start::default()), frame(), finish(Some(usage(1, 1)))] {
            node.tell(&call, event);
        }
        while answer.next().await.is_some() {}
    }
    // The client waited too long for both; nothing of that was policy, and no Call failed.
    assert_eq!(world.seen()[..3], [(0, 2), (2, 0), (2, 0)]);
    world.node.clock.advance(ms(5_100));
    world.slos.evaluate();
    assert_eq!(world.seen()[3], (0, 2), "a summary is no task of its own");
}

#[tokio::test]
async fn a_step_whose_last_try_fails_is_one_fault() {
    let world = World::new(vec![slo("s", Metric::Errors)]).await;
    let session = SessionId::new(&world.node.ids);
    let step = StepId::new(&world.node.ids);
    let step = StepRef { begun: false, session: session.clone(), root: session, step };
    let mut tries = StepTries::default();
    let admission = world.node.pipeline.admit_step(as_step(ask(), step)).await.unwrap();
    let id = admission.call.id.clone();
    let mut run = world.node.pipeline.run_step(admission);
    let failure = Failure::new(ErrorCode::UpstreamFailed, "as told").billed(Billed::No);
    world.node.tell(&id, OutcomeEvent::Failed(Box::new(failure.clone())));
    while run.next().await.is_some() {}
    assert_eq!(run.next_try(&mut tries, &failure), None, "a plain name is asked once");
    drop(run.into_row());
    drop(tries);
    assert_eq!(world.seen(), [(0, 1)]);
}

#[tokio::test]
async fn a_refusal_is_a_fault_only_where_it_is_ours() {
    let world = World::new(vec![slo("s", Metric::Errors)]).await;
    let unknown = world.node.pipeline.run(request("nobody", "paid/m", None)).await.unwrap_err();
    assert_eq!(unknown.failure.code, ErrorCode::Unauthenticated);
    assert_eq!(world.seen(), [(0, 0)]);
    world.node.pipeline.start().await.unwrap();
    world.node.pipeline.shutdown().await.unwrap();
    let stopping = world.node.pipeline.run(ask()).await.unwrap_err();
    assert_eq!(stopping.failure.code, ErrorCode::Unavailable);
    assert_eq!(world.seen(), [(0, 1)]);
    let text = world.node.pipeline.metrics();
    let refused = r#"holdfast_refused_total{code="unauthenticated",class="unidentified"} 1"#;
    assert!(text.contains(refused), "{text}");
    assert!(text.contains(r#"holdfast_slo_events_total{slo="s",result="bad"} 1"#), "{text}");
    assert!(text.contains(r#"holdfast_slo_budget_left{slo="s"} -9"#), "{text}");
    assert!(text.contains(r#"holdfast_slo_burning{slo="s"} 0"#), "{text}");
}

#[tokio::test]
async fn the_beat_evaluates_by_itself_and_ends_with_the_pipeline() {
    let world = World::new(vec![slo("s", Metric::TimeToFirstToken)]).await;
    world.node.pipeline.start().await.unwrap();
    world.calls(4, ms(900)).await;
    while world.slos.is_burning("s") != Some(true) {
        tokio::task::yield_now().await;
        world.node.clock.advance(ms(100));
    }
    assert_eq!(world.told(), [true]);
    // Waits for the beat's task too.
    world.node.stop().await;
}
