//! Nodes that end at the worst moment, and the next one that takes over.
//!
//! A crash is a runtime that is dropped: whatever awaited something never goes on. The store's own
//! thread may still write what it was handed, as a disk may after a kill.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use storage::{JournalQuery, SessionState};
use types::auto::Tier;

use super::node::{
    Asked, Late, Node, Say, Setup, assert_numbered, events, names, open, patient, with_notes,
};
use super::store::{Fault, Faulty};
use crate::{Decision, PostIdentity, StepState};

const HARD: &str = "Design a lock-free multi-producer queue in Rust, prove that it is linearizable, \
                    and analyse the memory ordering of each atomic operation.";

/// Runs `work` in a process of its own, so to say.
pub(super) fn process<F: Future>(work: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    let output = runtime.block_on(work);
    runtime.shutdown_background();
    output
}

fn background() -> Value {
    with_notes(&json!({ "background": true, "stream": true }))
}

/// What is in the journal of the only session: (kind, call).
async fn journal(node: &Node) -> Vec<(String, Option<String>)> {
    let sessions = node.sessions.list(super::node::all()).await.unwrap();
    let Some(summary) = sessions.first() else { return Vec::new() };
    let query = JournalQuery {
        session: summary.session.id.clone(),
        response: None,
        after: 0,
        limit: 1_000,
    };
    let rows = node.store.journal(query).await.unwrap();
    let pair = |row: storage::JournalRow| (row.kind, row.call.map(|call| call.as_str().to_owned()));
    rows.into_iter().map(pair).collect()
}

/// Settles what is in doubt by the tool server's own log, as an operator would.
async fn settle(node: &Node, response: &str) {
    let step = node.in_doubt(response).await;
    let happened = node.effects().iter().any(|(_, key)| key == step.id.as_str());
    let decision = if happened {
        Decision::Done { output: "Note 6 is saved".to_owned() }
    } else {
        Decision::Retry
    };
    let sessions = node.sessions.list(super::node::all()).await.unwrap();
    let session = &sessions[0].session;
    assert_eq!(session.state, SessionState::InDoubt);
    let account = session.account.clone();
    let resolved = node.sessions.resolve(
        &account,
        session.id.as_str(),
        step.id.as_str(),
        decision,
        "operator",
    );
    patient(resolved).await.unwrap();
}

/// One run that ends at the `k`-th commit, and the one that takes over. False if it ended before.
fn crash_at(k: i64, fault: Fault) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (mut asked, response) = process(first_run(folder.path(), k, fault));
    process(async {
        let node = Node::start(folder.path()).await;
        node.script.auto.store(true, Ordering::SeqCst);
        let before = journal(&node).await;
        let recovered = node.sessions.recover().await.unwrap();
        if before.is_empty() {
            assert_eq!(recovered.open + recovered.in_doubt, 0);
            assert!(asked.is_empty(), "the model was asked before its intent was durable");
            return;
        }
        let id = node.store.sessions(super::node::all()).await.unwrap()[0].newest.clone().unwrap();
        assert!(response.is_none_or(|response| response == id.as_str()));
        if node.sessions.inner.live(&id).is_some() && may_fall_in_doubt(&before) {
            settle(&node, id.as_str()).await;
        }
        let key = node.key("ci").await;
        let sent = events(node.sessions.events(&key, id.as_str(), None).await.unwrap()).await;
        assert_numbered(&sent, 0);
        assert_eq!(names(&sent).last(), Some(&"response.completed"), "k = {k}, {fault:?}");
        assert_eq!(node.effects().len(), 1, "k = {k}, {fault:?}: {before:?}");
        asked.extend(node.script.asked());
        assert_asked_once(&before, &asked, asked.len() - node.script.asked().len());
        let done = journal(&node).await;
        assert_eq!(done[..before.len()], before[..], "nothing journaled is changed");
        let outcomes = done.iter().filter(|(kind, _)| kind == "model_outcome").count();
        assert_eq!(outcomes, 2);
    });
    true
}

async fn first_run(folder: &Path, k: i64, fault: Fault) -> (Vec<Asked>, Option<String>) {
    let store = Faulty::failing(open(folder), k, fault);
    let node = Node::start_with(folder, store.clone(), Setup::default()).await;
    node.script.auto.store(true, Ordering::SeqCst);
    let posted = tokio::select! {
        posted = node.try_post(background(), PostIdentity::default()) => posted.ok(),
        () = store.struck() => None,
    };
    let response = posted.as_ref().map(|turn| turn.response_id().as_str().to_owned());
    if let Some(turn) = &posted {
        tokio::select! {
            () = patient(store.struck()) => {}
            ended = turn.wait() => drop(ended),
        }
    }
    (node.script.asked(), response)
}

/// Whether a tool's intent is the last thing known of it.
fn may_fall_in_doubt(journal: &[(String, Option<String>)]) -> bool {
    let last = journal.iter().rev().find(|(kind, _)| kind.starts_with("tool_"));
    last.is_some_and(|(kind, _)| kind == "tool_intent")
}

/// No Call whose outcome was in the journal at the crash is asked for again.
fn assert_asked_once(journal: &[(String, Option<String>)], asked: &[Asked], first_run: usize) {
    let finished: Vec<&str> = journal
        .iter()
        .filter(|(kind, _)| kind == "model_outcome")
        .filter_map(|(_, call)| call.as_deref())
        .collect();
    for again in &asked[first_run..] {
        assert!(!finished.contains(&again.call.as_str()), "{} was asked again", again.call);
    }
    let mut attempts: Vec<&str> = asked.iter().map(|asked| asked.attempt.as_str()).collect();
    attempts.sort_unstable();
    attempts.dedup();
    assert_eq!(attempts.len(), asked.len(), "no attempt is made twice");
}

#[test]
fn a_crash_at_any_commit_repeats_nothing_that_is_known() {
    for k in 0..6 {
        assert!(crash_at(k, Fault::Lost));
        assert!(crash_at(k, Fault::Unanswered));
    }
}

#[test]
fn a_crash_while_a_writing_tool_runs_leaves_its_step_in_doubt() {
    for effect in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let delay = if effect {
            "HOLDFAST_DEMO_TOOL_DELAY_AFTER_MS"
        } else {
            "HOLDFAST_DEMO_TOOL_DELAY_MS"
        };
        process(async {
            let setup = Setup { env: vec![(delay, "60000".to_owned())], ..Setup::default() };
            let node = Node::start_with(folder.path(), open(folder.path()), setup).await;
            node.script.auto.store(true, Ordering::SeqCst);
            let turn = node.post(background()).await;
            node.tool_began(1).await;
            if effect {
                node.has_effect().await;
            }
            drop(turn);
        });
        process(async {
            let node = Node::start(folder.path()).await;
            node.script.auto.store(true, Ordering::SeqCst);
            let recovered = node.sessions.recover().await.unwrap();
            // It may have fallen in doubt by the time that they are counted.
            assert_eq!(recovered.open + recovered.in_doubt, 1);
            let id = node.store.sessions(super::node::all()).await.unwrap()[0].newest.clone();
            let id = id.unwrap().as_str().to_owned();
            settle(&node, &id).await;
            let key = node.key("ci").await;
            let sent = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
            assert_eq!(names(&sent).last(), Some(&"response.completed"));
            assert_eq!(node.effects().len(), 1);
            // The model's first step was finished before the crash: only the one after the tool was
            // asked.
            assert_eq!(node.script.asked().len(), 1);
        });
    }
}

#[test]
fn a_cut_answer_is_asked_again_and_its_item_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let id = process(async {
        let node = Node::start(folder.path()).await;
        node.script.say([Say::Slow("Once ", "upon a time.")]);
        let turn = node.post(json!({ "input": "tell", "background": true, "stream": true })).await;
        node.has_event(turn.response_id().as_str(), "response.output_text.delta").await;
        turn.response_id().as_str().to_owned()
    });
    process(async {
        let node = Node::start(folder.path()).await;
        let sent_before = node.stored_events(&id).await.len();
        node.script.say([Say::Text("There was a cat.")]);
        node.sessions.recover().await.unwrap();
        let key = node.key("ci").await;
        let sent = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
        assert_numbered(&sent, 0);
        let bodies: Vec<Value> =
            sent.iter().map(|event| serde_json::from_str(&event.body).unwrap()).collect();
        let done =
            bodies[sent_before..].iter().find(|event| event["type"] == "response.output_item.done");
        let done = done.unwrap();
        assert_eq!(done["item"]["status"], "incomplete");
        assert_eq!(done["item"]["content"][0]["text"], "Once ");
        assert_eq!(done["output_index"], 0);
        let added = bodies[sent_before..]
            .iter()
            .find(|event| event["type"] == "response.output_item.added");
        assert_eq!(added.unwrap()["output_index"], 1);
        let last = &bodies.last().unwrap()["response"];
        assert_eq!(last["output"].as_array().unwrap().len(), 1);
        assert_eq!(last["output"][0]["content"][0]["text"], "There was a cat.");
        // Both attempts of the one Call are on the bill.
        let ledger = node.ledger().await;
        assert_eq!(ledger.len(), 2);
        assert_eq!(ledger[0].call, ledger[1].call);
        assert_ne!(ledger[0].attempt, ledger[1].attempt);
        let lost: Vec<_> = ledger.iter().filter_map(|row| row.error).collect();
        assert_eq!(lost, [types::ErrorCode::StreamCut], "it says what became of the first");
    });
}

/// Runs a turn on `route/tiered` that a crash cuts, and has it finished. Answers which models were
/// asked. Where `hard`, its session was hard before.
fn tiers_around_a_crash(wish: Option<Tier>, hard: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let id = process(async {
        let node = Node::start(folder.path()).await;
        let mut body =
            json!({ "input": "What is the capital of France?", "model": "route/tiered" });
        if hard {
            node.script.say([Say::Text("Done.")]);
            let first = node.post(json!({ "input": HARD, "model": "route/tiered" })).await;
            patient(first.wait()).await.unwrap();
            body["previous_response_id"] = first.response_id().as_str().into();
        }
        node.script.say([Say::Slow("Once ", "never")]);
        (body["background"], body["stream"]) = (true.into(), true.into());
        let headers = types::CommonHeaders { tier: wish, ..Default::default() };
        let post = PostIdentity { headers, ..PostIdentity::default() };
        let turn = node.try_post(body, post).await.unwrap();
        node.has_event(turn.response_id().as_str(), "response.output_text.delta").await;
        turn.response_id().as_str().to_owned()
    });
    process(async {
        let node = Node::start(folder.path()).await;
        node.script.say([Say::Text("Paris.")]);
        node.sessions.recover().await.unwrap();
        let key = node.key("ci").await;
        let sent = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
        assert_eq!(names(&sent).last(), Some(&"response.completed"));
        node.ledger().await.into_iter().map(|row| row.target).collect()
    })
}

#[test]
fn a_turn_that_goes_on_after_a_restart_keeps_its_tier() {
    assert_eq!(tiers_around_a_crash(None, false), ["local/demo"; 2]);
    assert_eq!(tiers_around_a_crash(None, true), ["local/other"; 3], "its session was hard");
    assert_eq!(tiers_around_a_crash(Some(Tier::Strong), false), ["local/other"; 2], "its wish");
}

#[test]
fn a_cut_answer_whose_function_call_was_sent_is_not_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let id = process(async {
        let node = Node::start(folder.path()).await;
        node.script.say([Say::CallThenHang("weather", json!({ "city": "Riga" }))]);
        let tools = json!([{ "type": "function", "name": "weather" }]);
        let body = json!({ "input": "?", "tools": tools, "background": true, "stream": true });
        let turn = node.post(body).await;
        node.has_event(turn.response_id().as_str(), "response.output_text.delta").await;
        turn.response_id().as_str().to_owned()
    });
    process(async {
        let node = Node::start(folder.path()).await;
        node.sessions.recover().await.unwrap();
        let key = node.key("ci").await;
        let sent = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
        assert_eq!(names(&sent).last(), Some(&"response.failed"));
        assert!(node.script.asked().is_empty());
    });
}

#[test]
fn a_foreground_turn_waits_after_a_restart_until_its_client_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let body = || json!({ "input": "tell", "stream": true });
    let id = process(async {
        let node = Node::start(folder.path()).await;
        node.script.say([Say::Slow("Once ", "never")]);
        let turn = node.post(body()).await;
        node.script.was_asked(1).await;
        turn.response_id().as_str().to_owned()
    });
    process(async {
        let node = Node::start(folder.path()).await;
        node.script.say([Say::Text("A cat.")]);
        node.sessions.recover().await.unwrap();
        assert_eq!(node.get(&id).await["status"], "in_progress");
        let retry = PostIdentity { retry_count: 1, ..PostIdentity::default() };
        let turn = node.try_post(body(), retry).await.unwrap();
        assert_eq!(turn.response_id().as_str(), id);
        let sent = events(turn.subscribe()).await;
        assert_numbered(&sent, 0);
        assert_eq!(names(&sent).last(), Some(&"response.completed"));
        assert_eq!(node.script.asked().len(), 1);
    });
}

#[test]
fn a_turn_that_a_decision_released_goes_on_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let id = process(async {
        let late = Late::start(folder.path()).await;
        let call = Say::Tool("add_note", json!({ "text": "once" }));
        late.node.script.say([call, Say::Slow("Once ", "never")]);
        let turn = late.node.post(with_notes(&json!({}))).await;
        late.doubt(&turn).await;
        patient(turn.wait()).await.unwrap_err();
        let id = turn.response_id().as_str().to_owned();
        // Its client was told not to come again.
        drop(turn);
        settle(&late.node, &id).await;
        late.node.script.was_asked(2).await;
        id
    });
    process(async {
        let node = Node::start(folder.path()).await;
        node.script.auto.store(true, Ordering::SeqCst);
        node.sessions.recover().await.unwrap();
        let key = node.key("ci").await;
        let sent = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
        assert_eq!(names(&sent).last(), Some(&"response.completed"));
        assert_eq!(node.effects().len(), 1);
    });
}

#[test]
fn a_cancel_that_a_crash_interrupts_is_finished_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let id = process(async {
        let setup = Setup {
            env: vec![("HOLDFAST_DEMO_TOOL_DELAY_MS", "60000".to_owned())],
            ..Setup::default()
        };
        let node = Arc::new(Node::start_with(folder.path(), open(folder.path()), setup).await);
        node.script.auto.store(true, Ordering::SeqCst);
        let turn = node.post(background()).await;
        let id = turn.response_id().as_str().to_owned();
        node.tool_began(1).await;
        let key = node.key("ci").await;
        let cancelling = node.sessions.cancel(&key, &id);
        tokio::select! {
            _ = cancelling => panic!("the tool server says nothing for five seconds"),
            () = node.has_journaled("cancel_asked") => {}
        }
        id
    });
    process(async {
        let node = Node::start(folder.path()).await;
        node.sessions.recover().await.unwrap();
        let key = node.key("ci").await;
        let sent = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
        assert_eq!(names(&sent).last(), Some(&"response.incomplete"));
        let response = node.get(&id).await;
        assert_eq!(response["status"], "cancelled");
        let session = node.sessions.list(super::node::all()).await.unwrap()[0].session.id.clone();
        let shown = node.sessions.show(&key.account, session.as_str()).await.unwrap();
        assert_eq!(shown.turns[0].steps[1].state, StepState::Abandoned);
    });
}

#[test]
fn a_node_that_was_replaced_writes_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    process(async {
        let old = Node::start(folder.path()).await;
        old.script.say([Say::Slow("Once ", "upon a time.")]);
        let turn = old.post(json!({ "input": "tell", "background": true, "stream": true })).await;
        let id = turn.response_id().as_str().to_owned();
        old.has_event(&id, "response.output_text.delta").await;
        let new = Node::start(folder.path()).await;
        new.script.say([Say::Text("A cat.")]);
        new.sessions.recover().await.unwrap();
        let key = new.key("ci").await;
        let sent = events(new.sessions.events(&key, &id, None).await.unwrap()).await;
        old.script.open_gate();
        // Its stream ends without a terminal event: the client resumes at the new owner.
        let stale = events(turn.subscribe()).await;
        assert!(!stale.last().unwrap().is_terminal());
        assert_eq!(new.stored_events(&id).await.len(), sent.len());
        assert_eq!(names(&sent).last(), Some(&"response.completed"));
    });
}
