use std::time::Duration;

use formats::OPENAI_CHAT;
use formats::embeddings::{TEXTS_MAX, read_head};
use types::call::{Call, CallKind, Door, ModelCall, Plan, RoutePolicy, Target};
use types::clock::{FakeClock, Timestamp};
use types::ids::{AttemptId, CallId, Ids, KeyId};
use types::principal::{DEFAULT_ACCOUNT, Principal, Role};

use super::*;
use crate::model::tests::tiny;

fn attempt(operation: Operation, body: &str) -> Attempt {
    let ids = Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), 1);
    let raw = Bytes::copy_from_slice(body.as_bytes());
    let head = read_head(&raw).unwrap();
    let target = Arc::new(Target {
        provider: "local".into(),
        name: "local/tiny".into(),
        upstream_model: "tiny".into(),
        format: None,
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
        door: Door::OpenaiEmbeddings,
        gateway: None,
        metadata: types::Metadata::default(),
        trace: None,
        notes: types::Notes::default(),
        budget: None,
        deadline: None,
        time: None,
        asks: None,
        pins: Vec::new(),
        started_at: Timestamp(0),
        started: Duration::ZERO,
        plan: Arc::new(Plan {
            name: "local/tiny".into(),
            targets: vec![Arc::clone(&target)],
            policy: RoutePolicy::default(),
        }),
        kind: CallKind::Model(
            ModelCall::from_raw(&OPENAI_CHAT, head, raw).for_operation(operation),
        ),
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
        sent: types::Sent::default(),
    }
}

async fn events(operation: Operation, rest: &str) -> Vec<OutcomeEvent> {
    let models = StaticModels::new(1);
    models.register("tiny", tiny(r#"{"matryoshka_dimensions": [2]}"#));
    let body = format!(r#"{{"model":"local/tiny",{rest}}}"#);
    models.execute(attempt(operation, &body)).collect().await
}

/// The body of the answer, and the tokens of its usage.
async fn answered(rest: &str) -> (String, u64) {
    match events(Operation::Embed, rest).await.as_slice() {
        [
            OutcomeEvent::Start(start),
            OutcomeEvent::Frame { raw: Some(raw), delta: None },
            OutcomeEvent::Finish(finish),
        ] => {
            assert_eq!(start.content_type.as_deref(), Some("application/json"));
            let body = String::from_utf8(raw.to_vec()).unwrap();
            (body, finish.usage.unwrap().input_tokens)
        }
        other => panic!("{other:?}"),
    }
}

async fn refused(operation: Operation, rest: &str) -> Failure {
    match events(operation, rest).await.as_slice() {
        [OutcomeEvent::Failed(failure)] => failure.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn texts_become_vectors_in_their_order() {
    let (body, tokens) = answered(r#""input":["red","green nothing"]"#).await;
    assert_eq!(
        body,
        r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,0,0]},{"object":"embedding","index":1,"embedding":[0,1,0]}],"model":"local/tiny","usage":{"prompt_tokens":3,"total_tokens":3}}"#
    );
    assert_eq!(tokens, 3);
}

#[tokio::test]
async fn large_requests_give_the_same_on_a_thread_of_their_own() {
    let many = vec![r#""red green""#; AT_ONCE_BYTES_MAX / 8].join(",");
    let (body, tokens) = answered(&format!(r#""input":[{many}]"#)).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let data = body["data"].as_array().unwrap();
    assert_eq!((data.len(), tokens), (AT_ONCE_BYTES_MAX / 8, AT_ONCE_BYTES_MAX as u64 / 4));
    let (one, _) = answered(r#""input":"red green""#).await;
    let one: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert!(data.iter().all(|row| row["embedding"] == one["data"][0]["embedding"]));
}

#[tokio::test]
async fn fewer_numbers_are_given_where_the_model_allows_it() {
    let (body, _) = answered(r#""input":"red","dimensions":2,"encoding_format":"base64""#).await;
    assert!(body.contains(r#""embedding":"AACAPwAAAAA=""#), "{body}");
    let failure = refused(Operation::Embed, r#""input":"red","dimensions":1"#).await;
    assert_eq!(
        (failure.code, failure.param.as_deref()),
        (ErrorCode::InvalidRequest, Some("dimensions"))
    );
}

#[tokio::test]
async fn too_much_is_refused_by_name() {
    let many = vec!["\"a\""; TEXTS_MAX + 1].join(",");
    let long = "a".repeat(TEXT_BYTES_MAX + 1);
    for input in [format!("[{many}]"), format!("\"{long}\"")] {
        let failure = refused(Operation::Embed, &format!(r#""input":{input}"#)).await;
        assert_eq!(
            (failure.code, failure.param.as_deref()),
            (ErrorCode::InvalidRequest, Some("input"))
        );
    }
}

#[tokio::test]
async fn it_answers_nothing() {
    for operation in [Operation::Chat, Operation::CountTokens] {
        let failure = refused(operation, r#""input":"red""#).await;
        assert_eq!(failure.code, ErrorCode::Unsupported);
        assert!(failure.message.contains("local/tiny"), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_name_that_is_forgotten_is_not_found() {
    let models = StaticModels::new(1);
    models.register("tiny", tiny("{}"));
    models.remove("tiny");
    let attempt = attempt(Operation::Embed, r#"{"model":"local/tiny","input":"red"}"#);
    let events: Vec<_> = models.execute(attempt).collect().await;
    assert!(
        matches!(events.as_slice(), [OutcomeEvent::Failed(failure)] if failure.code == ErrorCode::ModelNotFound)
    );
}

#[test]
fn nothing_more_is_computed_for_somebody_who_has_gone() {
    let model = tiny("{}");
    let raw = Bytes::from_static(br#"{"model":"local/tiny","input":"red"}"#);
    let work = Work { raw, name: "local/tiny".into(), target: "local/tiny".into() };
    let stopped = work.run(&model, &AtomicBool::new(true)).err().unwrap();
    assert_eq!(stopped.code, ErrorCode::Cancelled);
    assert_eq!(work.run(&model, &AtomicBool::new(false)).unwrap().tokens, 1);
}
