//! Several keys of one provider, as its server sees them.

use futures_util::FutureExt;
use types::ids::SessionId;

use super::*;

const REFUSED: &str =
    r#"{"error":{"message":"wrong key","type":"invalid_request_error","code":"invalid_api_key"}}"#;
const LIMITED: &str =
    r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
const QUOTA: &str =
    r#"{"error":{"message":"no money","type":"insufficient_quota","code":"insufficient_quota"}}"#;
const FORBIDDEN: &str =
    r#"{"error":{"message":"not this model","type":"invalid_request_error","code":null}}"#;

fn with_keys(server: &ScriptedProvider, clock: &Arc<FakeClock>) -> Arc<dyn Execute> {
    let provider = Provider::new("p", "openai-compatible", Some(&server.base_url()), None).unwrap();
    let keys = ["sk-first", "sk-second"].map(Secret::new).to_vec();
    let provider = provider.with_keys(keys).unwrap();
    executor(provider, Arc::clone(clock) as SharedClock, Vault::default(), &Limits::default())
}

/// A request of a session at a model.
fn asked(session: u64, model: &str) -> Attempt {
    let mut attempt = attempt(REQUEST);
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), session);
    let call = Arc::into_inner(attempt.call).unwrap();
    let call = Arc::new(Call { session: Some(SessionId::new(&ids)), ..call });
    attempt.target = Arc::new(Target { upstream_model: model.into(), ..(*attempt.target).clone() });
    attempt.call = call;
    attempt
}

/// The keys that the server was told, by number.
fn told(server: &ScriptedProvider) -> Vec<usize> {
    let key = |request: &testkit::Request| match request.header("authorization") {
        Some("Bearer sk-first") => 1,
        Some("Bearer sk-second") => 2,
        other => panic!("{other:?}"),
    };
    server.requests().iter().map(key).collect()
}

struct Bench {
    server: ScriptedProvider,
    clock: Arc<FakeClock>,
    executor: Arc<dyn Execute>,
}

impl Bench {
    async fn new(replies: Vec<Reply>) -> Self {
        let server = ScriptedProvider::start(replies).await.unwrap();
        let clock = Arc::new(FakeClock::new(Timestamp(0)));
        let executor = with_keys(&server, &clock);
        Self { server, clock, executor }
    }

    /// Whether a Call of a session is answered, and else why not.
    async fn ask(&self, session: u64, model: &str) -> Option<ErrorCode> {
        let events = all(&self.executor, asked(session, model)).await;
        match events.last() {
            Some(OutcomeEvent::Failed(failure)) => Some(failure.code),
            _ => None,
        }
    }
}

fn limited_for(seconds: &str) -> Reply {
    Reply::with_body(429, "application/json", &[("retry-after", seconds)], LIMITED)
}

fn well(times: usize) -> Vec<Reply> {
    (0..times).map(|_| Reply::json(200, ANSWER)).collect()
}

/// The script with something else first.
fn after(first: Vec<Reply>, times: usize) -> Vec<Reply> {
    first.into_iter().chain(well(times)).collect()
}

#[tokio::test]
async fn a_session_stays_with_its_key_and_sessions_are_spread() {
    let bench = Bench::new(well(24)).await;
    for session in 0..8 {
        for _ in 0..3 {
            assert_eq!(bench.ask(session, "m").await, None);
        }
    }
    let told = told(&bench.server);
    assert!(told.chunks(3).all(|of_one| of_one.iter().all(|key| *key == of_one[0])), "{told:?}");
    assert!(told.contains(&1) && told.contains(&2), "{told:?}");
}

#[tokio::test]
async fn a_key_that_is_refused_is_left_alone_and_nobody_notices() {
    let bench = Bench::new(after(vec![Reply::json(401, REFUSED)], 20)).await;
    assert_eq!(bench.ask(1, "m").await, None);
    let keys = told(&bench.server);
    let (bad, good) = (keys[0], keys[1]);
    assert_ne!(bad, good);
    for session in 0..6 {
        assert_eq!(bench.ask(session, "m").await, None);
    }
    assert!(told(&bench.server)[2..].iter().all(|key| *key == good));
    // After half a minute one Call finds that it is well, and new sessions go with it.
    bench.clock.advance(Duration::from_secs(30));
    for session in 10..20 {
        assert_eq!(bench.ask(session, "m").await, None);
    }
    let later = told(&bench.server)[8..].to_vec();
    assert!(later.iter().filter(|key| **key == bad).count() > 1, "{later:?}");
}

#[tokio::test]
async fn an_account_without_money_is_left_alone() {
    let bench = Bench::new(after(vec![Reply::json(429, QUOTA)], 4)).await;
    for _ in 0..3 {
        assert_eq!(bench.ask(1, "m").await, None);
    }
    let keys = told(&bench.server);
    assert!(keys[1..].iter().all(|key| *key != keys[0]), "{keys:?}");
}

#[tokio::test]
async fn a_429_goes_on_with_the_other_key_and_holds_up_no_other_model() {
    let limited = limited_for("20");
    let bench = Bench::new(after(vec![limited], 4)).await;
    assert_eq!(bench.ask(1, "m").await, None);
    assert_eq!(bench.ask(1, "other").await, None);
    assert_eq!(bench.ask(1, "m").await, None);
    let keys = told(&bench.server);
    assert_ne!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[3], "the model is cooling with that key");
}

#[tokio::test]
async fn a_key_that_may_not_use_a_model_is_used_for_others() {
    let bench = Bench::new(after(vec![Reply::json(403, FORBIDDEN)], 4)).await;
    assert_eq!(bench.ask(1, "m").await, None);
    assert_eq!(bench.ask(1, "m").await, None);
    let keys = told(&bench.server);
    assert!(keys[1] != keys[0] && keys[2] != keys[0], "{keys:?}");
    // A session that has not moved, so that it would go with the first key of its own.
    let mut others = Vec::new();
    for session in 2..10 {
        bench.server.add(Reply::json(200, ANSWER));
        assert_eq!(bench.ask(session, "other").await, None);
        others = told(&bench.server)[3..].to_vec();
    }
    assert!(others.contains(&keys[0]), "{others:?}");
}

#[tokio::test]
async fn where_all_keys_are_refused_the_client_hears_it() {
    let replies = vec![Reply::json(401, REFUSED), Reply::json(401, REFUSED)];
    let bench = Bench::new(after(replies, 2)).await;
    assert_eq!(bench.ask(1, "m").await, Some(ErrorCode::UpstreamCredentials));
    assert_eq!(told(&bench.server).len(), 2, "each was asked once");
    // And one is asked all the same: it may be well again.
    assert_eq!(bench.ask(1, "m").await, None);
}

#[tokio::test]
async fn where_one_key_is_limited_and_the_other_refused_the_wait_is_told() {
    for replies in [
        vec![Reply::json(401, REFUSED), limited_for("7")],
        vec![limited_for("7"), Reply::json(401, REFUSED)],
    ] {
        let bench = Bench::new(replies).await;
        let events = all(&bench.executor, asked(1, "m")).await;
        let failure = failure(&events);
        assert_eq!(failure.code, ErrorCode::RateLimited);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn limits_that_are_used_up_are_known_without_asking() {
    let told = [
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "30s"),
    ];
    let reply = Reply::with_body(200, "application/json", &told, ANSWER);
    let server = ScriptedProvider::start([reply, Reply::json(200, ANSWER)]).await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let executor = made(&server, Arc::clone(&clock) as SharedClock);
    all(&executor, asked(1, "m")).await;
    let events = all(&executor, asked(2, "m")).await;
    let limited = failure(&events);
    assert_eq!((limited.code, limited.billed.clone()), (ErrorCode::RateLimited, Billed::No));
    assert_eq!(limited.retry_after, Some(Duration::from_secs(30)));
    assert_eq!(server.requests().len(), 1);
    clock.advance(Duration::from_secs(30));
    all(&executor, asked(2, "m")).await;
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn of_two_limited_keys_the_sooner_one_says_when_to_come_back() {
    for waits in [["60", "5"], ["5", "60"]] {
        let bench = Bench::new(waits.map(limited_for).into()).await;
        let events = all(&bench.executor, asked(1, "m")).await;
        let failure = failure(&events);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(5)));
        assert!(!failure.withheld, "both were asked");
    }
}

#[tokio::test]
async fn what_waits_for_a_limit_was_not_sent() {
    let used_up = [
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "2s"),
    ];
    let reply = Reply::with_body(200, "application/json", &used_up, ANSWER);
    let server = ScriptedProvider::start([reply, Reply::default().stall()]).await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let executor = made(&server, Arc::clone(&clock) as SharedClock);
    let first = asked(1, "m");
    let sent = first.sent.clone();
    all(&executor, first).await;
    assert!(sent.may_be());
    let second = asked(2, "m");
    let sent = second.sent.clone();
    let mut events = executor.execute(second);
    assert!(events.next().now_or_never().is_none());
    assert!(!sent.may_be(), "it waits");
    clock.advance(Duration::from_secs(2));
    tokio::select! {
        biased;
        _ = events.next() => panic!("there is no answer"),
        () = server.has_stalled() => {}
    }
    assert!(sent.may_be());
}
