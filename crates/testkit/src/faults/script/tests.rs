use super::super::answers::WORDS;
use super::*;

const APIS: [Api; 4] = [Api::Chat, Api::Messages, Api::Gemini, Api::Responses];

fn asked(model: &str, api: Api, stream: bool) -> Asked {
    let (model, role) = (model.to_owned(), Role::Primary);
    Asked { role, api, model, stream, usage_asked: true, prefilled: false, said: 0 }
}

fn first(asked: &Asked) -> Script {
    script(asked, Before { requests: 0, since_first: Duration::ZERO }, 1.0)
}

/// All that is sent, as text.
fn sent(script: &Script) -> String {
    let sent = script.steps.iter().map(|step| match step {
        Step::Send(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Step::Wait(_) | Step::Hang | Step::Close | Step::Reset => String::new(),
    });
    sent.collect()
}

fn words(script: &Script) -> usize {
    let sent = sent(script);
    (1..=WORDS).filter(|number| sent.contains(&format!("w{number:02}"))).count()
}

#[test]
fn a_model_without_a_fault_is_well_in_every_format() {
    for api in APIS {
        for stream in [true, false] {
            let script = first(&asked("any-model", api, stream));
            assert_eq!((script.status, words(&script)), (200, WORDS), "{api:?} {stream}");
        }
    }
}

#[test]
fn what_fails_once_is_well_the_second_time() {
    for (model, status) in [("s01-a", 429), ("s03-a", 500), ("s05-a", 0)] {
        let asked = asked(model, Api::Chat, true);
        assert_eq!(first(&asked).status, status);
        let before = Before { requests: 1, since_first: Duration::ZERO };
        assert_eq!(words(&script(&asked, before, 1.0)), WORDS);
    }
    let asked = asked("s15-a", Api::Chat, true);
    let after = |seconds| Before { requests: 9, since_first: Duration::from_secs(seconds) };
    assert_eq!(script(&asked, after(59), 1.0).status, 503);
    assert_eq!(script(&asked, after(60), 1.0).status, 200);
}

#[test]
fn the_wait_that_is_asked_for_is_scaled() {
    let asked = asked("s01-a", Api::Messages, false);
    let before = Before { requests: 0, since_first: Duration::ZERO };
    assert!(sent(&script(&asked, before, 0.1)).contains("retry-after: 0.2\r\n"));
    assert!(sent(&script(&asked, before, 1.0)).contains("retry-after: 2\r\n"));
}

#[test]
fn a_cut_stream_has_no_end() {
    for api in APIS {
        let script = first(&asked("s08-a", api, true));
        assert_eq!(words(&script), WORDS_BEFORE_CUT);
        assert_eq!(script.steps.last(), Some(&Step::Close));
        let text = sent(&script);
        for end in ["[DONE]", "message_stop", "finishReason", "\"stop\"", "\r\n0\r\n\r\n"] {
            assert!(!text.contains(end), "{api:?} {end}");
        }
        let early = first(&asked("s08e-a", api, true));
        assert!(sent(&early).ends_with("\r\n0\r\n\r\n"));
    }
}

#[test]
fn a_broken_piece_is_no_json_and_is_followed_by_the_rest() {
    for api in APIS {
        let script = first(&asked("s10-a", api, true));
        assert_eq!(words(&script), WORDS);
        let sent = sent(&script);
        let broken = sent.split("data: ").find(|piece| piece.contains("bro\n")).unwrap();
        let broken = broken.trim_end();
        assert!(serde_json::from_str::<Value>(broken).is_err(), "{api:?}: {broken}");
        assert!(!words_before(&sent, broken).contains("w21"), "{api:?}");
    }
}

fn words_before<'a>(sent: &'a str, piece: &str) -> &'a str {
    sent.split_once(piece).unwrap().0
}

#[test]
fn a_body_that_breaks_off_promises_more_and_one_that_is_no_json_does_not() {
    let cut = first(&asked("s08-a", Api::Chat, false));
    assert_eq!(cut.steps.last(), Some(&Step::Close));
    assert!(words(&cut) < WORDS);
    let broken = sent(&first(&asked("s10-a", Api::Chat, false)));
    let (head, body) = broken.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert!(serde_json::from_str::<Value>(body).is_err());
}

#[test]
fn only_the_primary_fails_and_only_a_prefill_is_refused_by_the_fallback() {
    let mut asked = asked("s14-a", Api::Messages, true);
    assert_eq!(words(&first(&asked)), WORDS_BEFORE_CUT);
    asked.role = Role::Fallback;
    assert_eq!(words(&first(&asked)), WORDS);
    asked.prefilled = true;
    assert_eq!(first(&asked).status, 400);
}
