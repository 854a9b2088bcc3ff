//! What a provider says of our key or of a client's prompt, and where it ends up.

use std::io::{self, Write};
use std::sync::Mutex;

use super::*;

/// The key that `made` gives the provider.
const KEY: &str = "sk-secret";

/// The lines that were logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came of a reply, and what was logged on the way.
async fn logged(reply: Reply, body: &str) -> (Vec<OutcomeEvent>, String) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let events = answered(reply, body).await;
    drop(guard);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (events, text)
}

#[tokio::test]
async fn the_log_has_the_class_of_an_error_and_not_its_words() {
    let body = r#"{"error":{"message":"bad input: my private prompt"}}"#;
    for status in [400, 401, 403, 429, 500] {
        let (events, log) = logged(Reply::json(status, body), REQUEST).await;
        assert!(!log.contains("private"), "{log}");
        assert!(log.contains(&format!("status={status}")), "{log}");
        assert!(log.contains(failure(&events).code.name()), "{log}");
        assert!(log.contains("provider=p") && log.contains("call=hfc_"), "{log}");
    }
    let stream = Reply::stream(&[]).event(CHUNK).event(body).event("[DONE]").end();
    for (reply, request) in [(stream, STREAMED), (Reply::json(200, body), REQUEST)] {
        let (events, log) = logged(reply, request).await;
        assert!(!log.contains("private"), "{log}");
        assert!(log.contains(failure(&events).code.name()), "{log}");
    }
}

#[tokio::test]
async fn our_key_does_not_reach_the_client_in_any_error() {
    let said = format!("Incorrect key: Bearer {KEY}, key={KEY}");
    let body = format!(r#"{{"error":{{"message":"{said}","param":"{KEY}"}}}}"#);
    for status in [400, 401, 402, 403, 404, 422, 429, 500, 503] {
        let (events, log) = logged(Reply::json(status, &body), REQUEST).await;
        let failure = failure(&events);
        let passed = failure.upstream.as_ref().map(|upstream| upstream.body.clone());
        let passed = String::from_utf8(passed.unwrap_or_default().to_vec()).unwrap();
        assert!(!format!("{failure:?}{passed}{log}").contains(KEY), "{status}: {failure:?}");
    }
    let stream = Reply::stream(&[]).event(CHUNK).event(&body).event("[DONE]").end();
    for (reply, request) in [(stream, STREAMED), (Reply::json(200, &body), REQUEST)] {
        let (events, log) = logged(reply, request).await;
        assert!(!format!("{:?}{log}", failure(&events)).contains(KEY));
        assert!(failure(&events).message.contains("[redacted]"));
    }
}

#[tokio::test]
async fn an_error_with_our_key_in_it_still_passes_without_it() {
    let body = format!(r#"{{"error":{{"message":"no {KEY}","code":"x", "more":1e2}}}}"#);
    let events = answered(Reply::json(400, &body), REQUEST).await;
    let upstream = failure(&events).upstream.as_ref().unwrap();
    assert_eq!(
        (upstream.body.as_ref(), upstream.format),
        (body.replace(KEY, "[redacted]").as_bytes(), "openai_chat")
    );
    // Behind escapes it is not replaced, so that ours is rendered instead.
    let body = r#"{"error":{"message":"no \u0073k-secret"}}"#;
    let events = answered(Reply::json(400, body), REQUEST).await;
    assert_eq!(failure(&events).message, "the provider answered 400: no [redacted]");
    assert_eq!(failure(&events).upstream.as_ref().unwrap().format, "");
}

#[tokio::test]
async fn a_header_with_our_key_in_it_is_left_out() {
    let headers = [("x-request-id", KEY), ("request-id", "req_1")];
    let reply = Reply::with_body(200, "application/json", &headers, ANSWER);
    let events = answered(reply, REQUEST).await;
    let OutcomeEvent::Start(start) = &events[0] else { panic!("no start") };
    assert_eq!(start.headers, [("request-id".to_owned(), "req_1".to_owned())]);
}
