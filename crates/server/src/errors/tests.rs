//! What the log has of a failure.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use formats::openai_chat::OPENAI_CHAT;
use types::clock::FakeClock;
use types::error::UpstreamError;
use types::{Ids, Timestamp};

use super::*;

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

fn logged(failure: Failure) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    tracing::subscriber::with_default(subscriber, || {
        drop(response(&OPENAI_CHAT, &refused(&ids, failure)));
    });
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn what_a_provider_said_is_not_logged() {
    for code in ErrorCode::ALL {
        let said = "the provider answered 400: bad input: my private prompt";
        let upstream = UpstreamError {
            status: 400,
            body: said.into(),
            content_type: "application/json".to_owned(),
            format: "openai_chat",
        };
        let failure = Failure { upstream: Some(Box::new(upstream)), ..Failure::new(*code, said) };
        let log = logged(failure);
        assert!(log.contains(code.name()) && log.contains("hfc_"), "{log}");
        assert!(!log.contains("private"), "{log}");
    }
}

#[test]
fn what_a_client_sent_is_not_logged() {
    let failure =
        Failure::invalid("messages", "messages: invalid type: string \"my private prompt\"");
    let log = logged(failure);
    assert!(log.contains("param=\"messages\"") && log.contains("status=400"), "{log}");
    assert!(!log.contains("private"), "{log}");
}

#[test]
fn a_name_makes_no_line_of_its_own() {
    let forged = "x\n2026-01-01T00:00:00Z  INFO holdfast: all is well\u{1b}[0m";
    for failure in [
        Failure::new(ErrorCode::PriceUnknown, format!("the model {forged} has no price")),
        Failure::invalid(forged, "wrong"),
    ] {
        let log = logged(failure);
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("all is well") && !log.contains('\u{1b}'), "{log}");
    }
}

#[test]
fn our_own_reasons_are_logged() {
    let log = logged(Failure::new(ErrorCode::Internal, "a bug"));
    assert!(log.contains("ERROR") && log.contains("reason=\"a bug\""), "{log}");
}

#[test]
fn a_refusal_of_ours_says_to_the_millisecond_when_to_come_back() {
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    let millis = |failure: Failure| {
        let response = response(&OPENAI_CHAT, &refused(&ids, failure));
        response.headers().get(RETRY_AFTER_MS).cloned()
    };
    let ours = Failure::new(ErrorCode::RateLimited, "no room");
    let ours = ours.retry_after(Duration::from_millis(250));
    assert_eq!(millis(ours).unwrap(), "250");
    assert_eq!(millis(Failure::new(ErrorCode::RateLimited, "no room")), None);
}
