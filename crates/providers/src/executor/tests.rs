use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use insta::assert_snapshot;
use testkit::{Reply, ScriptedProvider};
use types::call::{Call, CallKind, Door, ModelCall, Plan, Target};
use types::clock::{Clock, FakeClock, SystemClock, Timestamp};
use types::error::Billed;
use types::ids::{AttemptId, CallId, Ids, KeyId};
use types::outcome::{Delta, OutcomeEvent};
use types::principal::{DEFAULT_ACCOUNT, Principal, Role};
use types::{Attempt, ErrorCode, Failure, Format, Secret, Sent};

use super::*;
use crate::http::Timeouts;

mod bedrock;
mod contract;
mod embeddings;
mod families;
mod gemini;
mod keys;
mod messages;
mod responses;
mod secrets;

const CHUNK: &str = r#"{"id":"c","model":"m-2","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#;
const LAST: &str =
    r#"{"id":"c","model":"m-2","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str =
    r#"{"id":"c","model":"m-2","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
const ANSWER: &str = r#"{"id":"c","model":"m-2","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;

const REQUEST: &str =
    r#"{"model":"p/m",  "messages":[{"role":"user","content":"caf\u00e9"}], "x":1e2}"#;
const STREAMED: &str = r#"{"model":"p/m","stream":true,"messages":[]}"#;

fn made(server: &ScriptedProvider, clock: SharedClock) -> Arc<dyn Execute> {
    let key = Some(Secret::new("sk-secret"));
    let provider = Provider::new("p", "openai-compatible", Some(&server.base_url()), key).unwrap();
    executor(provider, clock, Vault::default(), &Limits::default())
}

fn attempt(body: &str) -> Attempt {
    attempt_of(&formats::OPENAI_CHAT, &formats::OPENAI_CHAT, body)
}

/// A request in one format at a target of another, or of the same.
fn attempt_of(asked: &'static dyn Format, spoken: &'static dyn Format, body: &str) -> Attempt {
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let ids = Ids::seeded(clock, 1);
    let raw = Bytes::from(body.to_owned());
    let head = asked.read_head(&raw).unwrap();
    let target = Arc::new(Target {
        provider: "p".into(),
        name: "p/m".into(),
        upstream_model: "m".into(),
        format: Some(spoken),
        price: None,
        output_tokens_max: None,
        context_tokens: None,
        lacks: types::call::Lacks::default(),
        drain: None,
    });
    let key = KeyId::new(&ids);
    let call = Call {
        id: CallId::new(&ids),
        parent: None,
        principal: Arc::new(Principal {
            account: DEFAULT_ACCOUNT.into(),
            user: key.as_str().into(),
            key,
            key_name: "test".into(),
            role: Role::Member,
            output_cap_default: None,
        }),
        session: None,
        session_root: None,
        step: None,
        task: "t".into(),
        class: "interactive".into(),
        door: Door::OpenaiChat,
        gateway: None,
        metadata: types::Metadata::default(),
        trace: None,
        notes: Notes::default(),
        budget: None,
        deadline: None,
        time: None,
        asks: None,
        pins: Vec::new(),
        started_at: Timestamp(0),
        started: Duration::ZERO,
        plan: Arc::new(Plan {
            name: "p/m".into(),
            targets: vec![Arc::clone(&target)],
            policy: types::call::RoutePolicy::default(),
        }),
        kind: CallKind::Model(ModelCall::from_raw(asked, head, raw)),
    };
    Attempt {
        id: AttemptId::new(&ids),
        call: Arc::new(call),
        target,
        output_cap: None,
        decode: false,
        continues: false,
        hold_preamble: false,
        logprobs: false,
        patience: None,
        sent: Sent::default(),
    }
}

async fn all(executor: &Arc<dyn Execute>, attempt: Attempt) -> Vec<OutcomeEvent> {
    executor.execute(attempt).collect().await
}

/// The raw bytes of the frames and what came at the end, as text.
fn shown(events: &[OutcomeEvent]) -> String {
    let lines = events.iter().map(|event| match event {
        OutcomeEvent::Start(start) => format!("start {}", start.status),
        OutcomeEvent::Frame { raw: Some(raw), .. } => {
            format!("raw {:?}", String::from_utf8_lossy(raw))
        }
        OutcomeEvent::Frame { delta, .. } => format!("delta {delta:?}"),
        OutcomeEvent::Finish(finish) => {
            let raw = finish.raw.as_ref().map(|raw| String::from_utf8_lossy(raw).into_owned());
            let usage = finish.usage.map(|usage| (usage.input_tokens, usage.output_tokens));
            format!("finish {:?} {usage:?} {:?} {raw:?}", finish.stop, finish.model_version)
        }
        OutcomeEvent::Failed(failure) => format!("failed {failure} {:?}", failure.billed),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn failure(events: &[OutcomeEvent]) -> &Failure {
    match events.last() {
        Some(OutcomeEvent::Failed(failure)) => failure,
        other => panic!("no failure but {other:?}"),
    }
}

async fn answered(reply: Reply, body: &str) -> Vec<OutcomeEvent> {
    let server = ScriptedProvider::start([reply]).await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    all(&executor, attempt(body)).await
}

#[tokio::test]
async fn a_json_answer_passes_through_and_its_usage_is_read() {
    let events = answered(Reply::json(200, ANSWER), REQUEST).await;
    let raw = format!("raw {ANSWER:?}");
    assert_eq!(
        shown(&events),
        format!("start 200\n{raw}\nfinish End Some((3, 1)) Some(\"m-2\") None")
    );
}

#[tokio::test]
async fn the_request_keeps_every_byte_but_the_model() {
    let server = ScriptedProvider::start([Reply::json(200, ANSWER)]).await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    let attempt = attempt(REQUEST);
    let (call, try_id) = (attempt.call.id.clone(), attempt.id.clone());
    all(&executor, attempt).await;
    let request = server.requests().remove(0);
    assert_eq!(
        request.body,
        r#"{"model":"m",  "messages":[{"role":"user","content":"caf\u00e9"}], "x":1e2}"#
    );
    assert_eq!(request.line, "POST /v1/chat/completions");
    assert_eq!(request.header("authorization"), Some("Bearer sk-secret"));
    assert_eq!(request.header("x-client-request-id"), Some(call.as_str()));
    assert_eq!(request.header("holdfast-attempt"), Some(try_id.as_str()));
    assert_eq!(request.header("accept"), Some("application/json"));
}

#[tokio::test]
async fn a_stream_passes_through_without_the_usage_that_nobody_asked_for() {
    let server = ScriptedProvider::start([Reply::events(&[CHUNK, LAST, USAGE, "[DONE]"])]);
    let server = server.await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    let events = all(&executor, attempt(STREAMED)).await;
    let raw: Vec<u8> = events
        .iter()
        .filter_map(|event| match event {
            OutcomeEvent::Frame { raw, .. } => raw.clone(),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(String::from_utf8(raw).unwrap(), format!("data: {CHUNK}\n\ndata: {LAST}\n\n"));
    let end = shown(&events[events.len() - 1..]);
    assert_eq!(end, r#"finish End Some((3, 1)) Some("m-2") Some("data: [DONE]\n\n")"#);
    let body = server.requests()[0].json();
    assert_eq!(body["stream_options"]["include_usage"], true);
}

#[tokio::test]
async fn deltas_are_decoded_where_they_are_wanted() {
    let server = ScriptedProvider::start([Reply::events(&[CHUNK, LAST, USAGE, "[DONE]"])]);
    let server = server.await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    let attempt = Attempt { decode: true, ..attempt(STREAMED) };
    let events = all(&executor, attempt).await;
    let text = Delta::Text { text: "hi".to_owned() };
    assert!(matches!(&events[1], OutcomeEvent::Frame { raw: None, delta: Some(d) } if *d == text));
    let end = shown(&events[2..]);
    assert_eq!(end, r#"finish End Some((3, 1)) Some("m-2") None"#);
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_whole_answer() {
    let stream = Reply::events(&[CHUNK, LAST, "[DONE]"]);
    let refused = Reply::json(429, r#"{"error":{"message":"later"}}"#);
    let replies = [Reply::json(200, ANSWER), stream, refused, Reply::json(200, ANSWER)];
    let server = ScriptedProvider::start(replies).await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    for body in [REQUEST, STREAMED, REQUEST, REQUEST] {
        all(&executor, attempt(body)).await;
    }
    let connections: Vec<usize> = server.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0, 0, 0, 0]);
}

#[tokio::test]
async fn a_connection_that_the_peer_closed_is_not_used() {
    let replies = [Reply::json(200, ANSWER).close(), Reply::json(200, ANSWER)];
    let server = ScriptedProvider::start(replies).await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    all(&executor, attempt(REQUEST)).await;
    server.has_closed().await;
    let events = all(&executor, attempt(REQUEST)).await;
    assert!(matches!(events.last(), Some(OutcomeEvent::Finish(_))), "{}", shown(&events));
}

#[tokio::test]
async fn dropping_an_attempt_closes_its_connection() {
    let server = ScriptedProvider::start([Reply::stream(&[]).event(CHUNK).stall()]).await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    let mut stream = executor.execute(attempt(STREAMED));
    assert!(matches!(stream.next().await, Some(OutcomeEvent::Start(_))));
    server.has_stalled().await;
    drop(stream);
    server.has_closed().await;
}

#[tokio::test]
async fn a_refusal_keeps_the_providers_bytes_and_costs_nothing() {
    let body = r#"{"error":{"message":"no such thing","type":"invalid_request_error","param":"foo","code":null}}"#;
    let headers = [("retry-after", "7")];
    let reply = Reply::with_body(400, "application/json", &headers, body);
    let events = answered(reply, REQUEST).await;
    let failure = failure(&events);
    assert_eq!(failure.code, ErrorCode::InvalidRequest);
    assert_eq!(failure.param.as_deref(), Some("foo"));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(failure.billed, Billed::No);
    let upstream = failure.upstream.as_ref().unwrap();
    assert_eq!((upstream.status, upstream.format), (400, "openai_chat"));
    assert_eq!(upstream.body, body);
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let headers = [("retry-after-ms", "1500"), ("retry-after", "60")];
    let body = r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#;
    let events = answered(Reply::with_body(429, "application/json", &headers, body), REQUEST).await;
    let failure = failure(&events);
    assert_eq!(failure.code, ErrorCode::RateLimited);
    assert_eq!(failure.retry_after, Some(Duration::from_millis(1_500)));
}

#[tokio::test]
async fn a_page_of_a_proxy_is_a_failure() {
    let html = "<html>busy</html>";
    let ok = answered(Reply::with_body(200, "text/html", &[], html), REQUEST).await;
    assert_snapshot!(shown(&ok), @"failed upstream_failed: the provider 'p' answered with content of type 'text/html' instead of JSON Unknown");
    let bad = answered(Reply::with_body(502, "text/html", &[], html), REQUEST).await;
    assert_snapshot!(shown(&bad), @"failed upstream_failed: the provider answered 502 without an error that can be read Unknown");
    let upstream = failure(&bad).upstream.as_ref().unwrap();
    assert_eq!(upstream.format, "");
}

#[tokio::test]
async fn a_server_error_that_the_provider_said_itself_costs_nothing() {
    let body = r#"{"error":{"message":"internal","type":"server_error"}}"#;
    let events = answered(Reply::json(500, body), REQUEST).await;
    assert_snapshot!(shown(&events), @"failed upstream_failed: the provider answered 500: internal No");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let reply = Reply::with_body(302, "text/plain", &[("location", "http://169.254.169.254/")], "");
    let events = answered(reply, REQUEST).await;
    assert_snapshot!(shown(&events), @"failed upstream_failed: the provider 'p' answered with a redirect (302), which is not followed: its base_url is wrong No");
}

#[tokio::test]
async fn nobody_there_costs_nothing() {
    let provider =
        Provider::new("p", "openai-compatible", Some("http://127.0.0.1:1/v1"), None).unwrap();
    let executor =
        executor(provider, Arc::new(SystemClock::new()), Vault::default(), &Limits::default());
    let events = all(&executor, attempt(REQUEST)).await;
    assert_snapshot!(shown(&events), @"failed upstream_unreachable: the provider 'p' could not be reached No");
}

#[tokio::test]
async fn no_answer_to_a_request_may_have_cost() {
    let closed = answered(Reply::default().close(), REQUEST).await;
    assert_snapshot!(shown(&closed), @"failed upstream_failed: the provider 'p' closed the connection without an answer Unknown");
    let reset = answered(Reply::default().send("HTTP/1.1 200").reset(), REQUEST).await;
    assert_eq!(failure(&reset).billed, Billed::Unknown);
    let garbage = answered(Reply::default().send("garbage\r\n\r\n").close(), REQUEST).await;
    assert_snapshot!(shown(&garbage), @"failed upstream_failed: the provider 'p' answered with something that is no HTTP Unknown");
}

#[tokio::test]
async fn huge_headers_are_refused() {
    let huge = "x".repeat(200 * 1024);
    let reply = Reply::with_body(200, "application/json", &[("x-huge", &huge)], ANSWER);
    let events = answered(reply, REQUEST).await;
    assert_eq!(failure(&events).code, ErrorCode::UpstreamFailed);
}

#[tokio::test]
async fn a_stream_that_is_cut_is_a_failure_wherever_it_is_cut() {
    let begun = || Reply::stream(&[]).event(CHUNK);
    let cuts = [
        ("closed", begun().close()),
        ("reset", begun().stall().reset()),
        ("ended in order", begun().end()),
        ("done without a reason", begun().event("[DONE]").end()),
        ("in the middle of an event", begun().chunk("data: {\"choi").close()),
        ("a broken chunk", begun().send("zz\r\n").close()),
    ];
    for (name, reply) in cuts {
        let server = ScriptedProvider::start([reply]).await.unwrap();
        server.release();
        let executor = made(&server, Arc::new(SystemClock::new()));
        let events = all(&executor, attempt(STREAMED)).await;
        assert_eq!(failure(&events).code, ErrorCode::StreamCut, "{name}");
        assert_eq!(failure(&events).billed, Billed::Unknown, "{name}");
    }
}

#[tokio::test]
async fn a_finish_reason_makes_a_stream_whole_without_done() {
    for reply in [
        Reply::stream(&[]).event(CHUNK).event(LAST).end(),
        Reply::stream(&[]).event(CHUNK).event(LAST).close(),
    ] {
        let events = answered(reply, STREAMED).await;
        assert!(matches!(events.last(), Some(OutcomeEvent::Finish(_))), "{}", shown(&events));
    }
}

#[tokio::test]
async fn a_json_answer_that_is_cut_is_a_failure() {
    let half = &ANSWER[..60];
    let reply = Reply::default()
        .send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{half}"
        ))
        .close();
    let events = answered(reply, REQUEST).await;
    assert_eq!(failure(&events).code, ErrorCode::StreamCut);
}

#[tokio::test]
async fn a_dripped_answer_is_the_same_answer() {
    let reply = Reply::events(&[CHUNK, LAST, USAGE, "[DONE]"]).dripped();
    let events = answered(reply, STREAMED).await;
    assert_eq!(
        shown(&events[events.len() - 1..]),
        r#"finish End Some((3, 1)) Some("m-2") Some("data: [DONE]\n\n")"#
    );
}

/// Moves the clock until the attempt ends: whoever sleeps is woken, nobody waits for real time.
async fn ended_by_the_clock(
    clock: &FakeClock,
    mut events: OutcomeStream,
    step: Duration,
) -> Vec<OutcomeEvent> {
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(event) => seen.push(event),
                None => return seen,
            },
            () = tokio::task::yield_now() => clock.advance(step),
        }
    }
}

#[tokio::test]
async fn an_answer_that_does_not_begin_times_out() {
    let server = ScriptedProvider::start([Reply::default().stall()]).await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let executor = made(&server, Arc::<FakeClock>::clone(&clock));
    let mut events = executor.execute(attempt(REQUEST));
    tokio::select! {
        biased;
        _ = events.next() => panic!("it ended before its time"),
        () = server.has_stalled() => {}
    }
    let seen = ended_by_the_clock(&clock, events, Duration::from_secs(60)).await;
    assert_snapshot!(shown(&seen), @"failed upstream_timeout: the provider 'p' did not answer in 600 s Unknown");
    assert!(clock.monotonic() >= Timeouts::default().first_byte);
    server.has_closed().await;
}

#[tokio::test]
async fn a_stream_that_stalls_times_out() {
    let server = ScriptedProvider::start([Reply::stream(&[]).event(CHUNK).stall()]).await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let executor = made(&server, Arc::<FakeClock>::clone(&clock));
    let mut events = executor.execute(attempt(STREAMED));
    assert!(matches!(events.next().await, Some(OutcomeEvent::Start(_))));
    assert!(matches!(events.next().await, Some(OutcomeEvent::Frame { .. })));
    let seen = ended_by_the_clock(&clock, events, Duration::from_secs(100)).await;
    assert_snapshot!(shown(&seen), @"failed upstream_timeout: the provider 'p' sent nothing for 300 s in the middle of its answer Unknown");
}

#[tokio::test]
async fn an_answer_ends_when_its_call_must_have_ended() {
    let server = ScriptedProvider::start([Reply::stream(&[]).event(CHUNK).stall()]).await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let executor = made(&server, Arc::<FakeClock>::clone(&clock));
    let mut events = executor.execute(due_at(attempt(STREAMED), 100));
    assert!(matches!(events.next().await, Some(OutcomeEvent::Start(_))));
    assert!(matches!(events.next().await, Some(OutcomeEvent::Frame { .. })));
    let seen = ended_by_the_clock(&clock, events, Duration::from_secs(10)).await;
    assert_snapshot!(shown(&seen), @"failed upstream_timeout: the provider 'p' did not end its answer in the time of a call Unknown");
    assert!(clock.monotonic() < Timeouts::default().stall, "it was not the stall");
    server.has_closed().await;
}

fn due_at(mut attempt: Attempt, seconds: u64) -> Attempt {
    let call = Arc::get_mut(&mut attempt.call).unwrap();
    call.deadline = Some(Duration::from_secs(seconds));
    attempt
}

#[tokio::test]
async fn an_answer_that_has_not_begun_when_its_call_must_have_ended_may_have_cost() {
    let server = ScriptedProvider::start([Reply::default().stall()]).await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let executor = made(&server, Arc::<FakeClock>::clone(&clock));
    let mut events = executor.execute(due_at(attempt(REQUEST), 100));
    tokio::select! {
        biased;
        _ = events.next() => panic!("it ended before its time"),
        () = server.has_stalled() => {}
    }
    let seen = ended_by_the_clock(&clock, events, Duration::from_secs(10)).await;
    assert_snapshot!(shown(&seen), @"failed upstream_timeout: the provider 'p' did not end its answer in the time of a call Unknown");
    assert!(clock.monotonic() < Timeouts::default().first_byte, "it was not the first byte");
    server.has_closed().await;
}

#[tokio::test]
async fn a_call_whose_time_is_up_while_it_connects_costs_nothing() {
    // It takes the connection and never shakes hands.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/v1", silent.local_addr().unwrap());
    let provider = Provider::new("p", "openai-compatible", Some(&url), None).unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let executor =
        executor(provider, Arc::<FakeClock>::clone(&clock), Vault::default(), &Limits::default());
    let mut events = executor.execute(due_at(attempt(REQUEST), 5));
    let _connection = tokio::select! {
        biased;
        _ = events.next() => panic!("it ended before its time"),
        accepted = silent.accept() => accepted.unwrap(),
    };
    let seen = ended_by_the_clock(&clock, events, Duration::from_secs(1)).await;
    assert_eq!(
        (failure(&seen).code, failure(&seen).billed.clone()),
        (ErrorCode::UpstreamTimeout, Billed::No)
    );
    assert!(clock.monotonic() < Timeouts::default().connect, "it was not the connection");
}

#[tokio::test]
async fn a_call_whose_time_is_up_is_not_sent() {
    let server = ScriptedProvider::start([Reply::json(200, ANSWER)]).await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    clock.advance(Duration::from_secs(100));
    let executor = made(&server, clock);
    let seen = all(&executor, due_at(attempt(REQUEST), 100)).await;
    assert_eq!(
        (failure(&seen).code, failure(&seen).billed.clone()),
        (ErrorCode::UpstreamTimeout, Billed::No)
    );
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn an_error_is_told_though_its_body_does_not_end() {
    let head = "HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n";
    let reply = Reply::default().send(head).send(r#"{"error":"#).stall();
    let server = ScriptedProvider::start([reply]).await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let executor = made(&server, Arc::<FakeClock>::clone(&clock));
    let mut events = executor.execute(attempt(REQUEST));
    tokio::select! {
        biased;
        _ = events.next() => panic!("it ended before its time"),
        () = server.has_stalled() => {}
    }
    let seen = ended_by_the_clock(&clock, events, Duration::from_millis(100)).await;
    assert_eq!(failure(&seen).code, ErrorCode::InvalidRequest);
    assert!(clock.monotonic() < Duration::from_secs(30), "{:?}", clock.monotonic());
}

#[tokio::test]
async fn what_a_provider_says_of_our_credentials_is_kept_from_the_client() {
    let said = "Incorrect API key provided: sk-abc***xyz";
    let body = format!(r#"{{"error":{{"message":"{said}","code":"invalid_api_key"}}}}"#);
    for status in [401, 403] {
        let events = answered(Reply::json(status, &body), REQUEST).await;
        let failure = failure(&events);
        assert_eq!(failure.code, ErrorCode::UpstreamCredentials, "{status}");
        assert_eq!((failure.status(), failure.forbids_retry()), (502, true));
        assert_eq!((failure.upstream.as_ref(), failure.billed.clone()), (None, Billed::No));
        assert!(failure.message.contains("'p'"), "{}", failure.message);
        assert!(!failure.message.contains("sk-"), "{}", failure.message);
    }
    let body = r#"{"error":{"message":"violence","code":"content_filter"}}"#;
    let events = answered(Reply::json(403, body), REQUEST).await;
    assert_snapshot!(shown(&events), @"failed content_filtered: the provider 'p' refused the content (403) No");
}

#[tokio::test]
async fn a_whole_answer_does_not_wait_long_for_the_end_of_its_body() {
    let reply = Reply::stream(&[]).event(LAST).event("[DONE]").stall();
    let server = ScriptedProvider::start([reply]).await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let executor = made(&server, Arc::<FakeClock>::clone(&clock));
    let mut events = executor.execute(attempt(STREAMED));
    assert!(matches!(events.next().await, Some(OutcomeEvent::Start(_))));
    assert!(matches!(events.next().await, Some(OutcomeEvent::Frame { .. })));
    let seen = ended_by_the_clock(&clock, events, Duration::from_millis(10)).await;
    assert!(matches!(seen.last(), Some(OutcomeEvent::Finish(_))), "{}", shown(&seen));
    assert!(clock.monotonic() < Duration::from_secs(1));
}

#[tokio::test]
async fn only_harmless_headers_reach_the_client() {
    let headers = [
        ("x-request-id", "req_1"),
        ("x-ratelimit-remaining-tokens", "9"),
        ("openai-organization", "the-operator"),
        ("set-cookie", "a=b"),
    ];
    let events =
        answered(Reply::with_body(200, "application/json", &headers, ANSWER), REQUEST).await;
    let OutcomeEvent::Start(start) = &events[0] else { panic!("no start") };
    let names: Vec<&str> = start.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-request-id", "x-ratelimit-remaining-tokens"]);
    assert_eq!(start.content_type.as_deref(), Some("application/json"));
}

#[tokio::test]
async fn an_error_in_a_stream_is_a_failure() {
    let error = r#"{"error":{"message":"out of memory","type":"server_error"}}"#;
    let reply = Reply::stream(&[]).event(CHUNK).event(error).event("[DONE]").end();
    let events = answered(reply, STREAMED).await;
    assert_snapshot!(shown(&events[events.len() - 1..]), @"failed upstream_failed: the provider failed in its answer: out of memory Unknown");
}

#[tokio::test]
async fn a_cap_is_only_ever_lowered() {
    let replies = [Reply::json(200, ANSWER), Reply::json(200, ANSWER), Reply::json(200, ANSWER)];
    let server = ScriptedProvider::start(replies).await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    for client in ["", r#""max_tokens":10,"#, r#""max_tokens":1000,"#] {
        let body = format!(r#"{{{client}"model":"p/m","messages":[]}}"#);
        let attempt = Attempt { output_cap: Some(100), ..attempt(&body) };
        all(&executor, attempt).await;
    }
    let sent: Vec<String> = server
        .requests()
        .iter()
        .map(|request| String::from_utf8_lossy(&request.body).into_owned())
        .collect();
    assert_eq!(
        sent,
        [
            r#"{"max_completion_tokens":100,"model":"m","messages":[]}"#,
            r#"{"max_tokens":10,"model":"m","messages":[]}"#,
            r#"{"max_tokens":100,"model":"m","messages":[]}"#,
        ]
    );
}
