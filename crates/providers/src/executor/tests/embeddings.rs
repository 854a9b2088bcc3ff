//! Embeddings at a provider: what is asked where, and what its answer comes to.

use formats::{ANTHROPIC_MESSAGES, OPENAI_CHAT};
use types::call::Operation;

use super::*;

const ASKED: &str =
    r#"{"input":["caf\u00e9", "b"],  "model":"p/m","encoding_format":"base64","x":1e2}"#;
const ANSWER: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPw=="}],"model":"m-2","usage":{"prompt_tokens":3,"total_tokens":3}}"#;

fn embed(spoken: &'static dyn Format) -> Attempt {
    let mut attempt = attempt_of(&OPENAI_CHAT, spoken, REQUEST);
    let raw = Bytes::from(ASKED);
    let head = formats::embeddings::read_head(&raw).unwrap();
    let model = ModelCall::from_raw(&OPENAI_CHAT, head, raw).for_operation(Operation::Embed);
    Arc::get_mut(&mut attempt.call).unwrap().kind = CallKind::Model(model);
    attempt
}

#[tokio::test]
async fn a_request_and_its_answer_keep_every_byte_but_the_model() {
    let server = ScriptedProvider::start([Reply::json(200, ANSWER)]).await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    let events = all(&executor, embed(&OPENAI_CHAT)).await;
    let request = server.requests().remove(0);
    assert_eq!(request.line, "POST /v1/embeddings");
    assert_eq!(request.body, ASKED.replace("p/m", "m"));
    let raw = format!("raw {ANSWER:?}");
    assert_eq!(
        shown(&events),
        format!("start 200\n{raw}\nfinish End Some((3, 0)) Some(\"m-2\") None")
    );
}

#[tokio::test]
async fn an_api_without_embeddings_is_not_asked() {
    let server = ScriptedProvider::start([]).await.unwrap();
    let executor = made(&server, Arc::new(SystemClock::new()));
    let events = all(&executor, embed(&ANTHROPIC_MESSAGES)).await;
    let failure = failure(&events);
    assert_eq!((failure.code, failure.billed.clone()), (ErrorCode::Unsupported, Billed::No));
    assert_snapshot!(failure.message, @"the model p/m is at the provider p, whose API (anthropic_messages) has no embeddings");
    assert!(server.requests().is_empty());
}
