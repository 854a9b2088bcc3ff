//! Turns that nothing disturbs, and those that clients and operators end or settle.

use serde_json::{Value, json};
use types::principal::DEFAULT_ACCOUNT;
use types::{ErrorCode, Failure};

use super::node::{
    Doubt, Late, Node, Say, Setup, assert_numbered, events, headers, names, open, patient,
    unknown_bill, with_notes,
};
use crate::state::TOOL_CALLS_MAX;
use crate::{Decision, PostIdentity, StepState, Turn};

#[tokio::test]
async fn a_streamed_turn_calls_its_tool_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([
        Say::Tool("add_note", json!({ "text": "The harbor is closed." })),
        Say::Text("I have noted it."),
    ]);
    let turn = node.post(with_notes(&json!({ "stream": true }))).await;
    let sent = events(turn.subscribe()).await;

    assert_numbered(&sent, 0);
    let names = names(&sent);
    assert_eq!(names[..2], ["response.created", "response.in_progress"]);
    assert_eq!(names.last(), Some(&"response.completed"));
    for name in ["response.mcp_list_tools.completed", "response.mcp_call.completed"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
    let last: Value = serde_json::from_str(&sent.last().unwrap().body).unwrap();
    let output = last["response"]["output"].as_array().unwrap();
    let types: Vec<&str> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["mcp_list_tools", "mcp_call", "message"]);
    assert_eq!(output[1]["output"], "Note 6 is saved: The harbor is closed.");
    assert_eq!(last["response"]["usage"]["output_tokens"], 10);

    let asked = node.script.asked();
    assert_eq!(asked[0].tools, ["find_note", "add_note", "set_title"]);
    assert!(asked[1].texts.last().unwrap().contains("is saved"), "{:?}", asked[1].texts);
    let effects = node.effects();
    assert_eq!(effects.len(), 1);
    assert!(effects[0].1.starts_with("step_"));
    // What was sent is what is stored, and what a poll shows.
    assert_eq!(node.stored_events(turn.response_id().as_str()).await.len(), sent.len());
    assert_eq!(node.get(turn.response_id().as_str()).await, last["response"]);
    // Two model steps and a tool step, all of one task and one session.
    let ledger = node.ledger().await;
    assert_eq!(ledger.len(), 3);
    assert!(ledger.iter().all(|row| row.task == turn.call_id().as_str()));
    assert!(ledger.iter().all(|row| row.session.as_ref() == turn.session_id()));
}

#[tokio::test]
async fn each_step_is_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = super::store::Faulty::new(open(folder.path()));
    let node = Node::start_with(folder.path(), store.clone(), Setup::default()).await;
    node.script.say([
        Say::Tool("find_note", json!({ "query": "harbor" })),
        Say::Tool("find_note", json!({ "query": "garden" })),
        Say::Text("At 6."),
    ]);
    let turn = node.post(with_notes(&json!({}))).await;
    patient(turn.wait()).await.unwrap();
    // The beginning with the first intent, then one per outcome: three model steps, two tool steps.
    assert_eq!(store.commits(), 6);
}

#[tokio::test]
async fn a_second_turn_continues_and_an_older_response_is_forked() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("one"), Say::Text("two"), Say::Text("three")]);
    let first = node.post(json!({ "input": "first" })).await;
    patient(first.wait()).await.unwrap();
    let continued = json!({ "input": "second", "previous_response_id": first.response_id() });
    let second = node.post(continued.clone()).await;
    patient(second.wait()).await.unwrap();
    let fork = node.post(continued).await;
    patient(fork.wait()).await.unwrap();

    assert_eq!(first.session_id(), second.session_id());
    assert_ne!(first.session_id(), fork.session_id());
    let asked = node.script.asked();
    assert_eq!(asked[1].texts.len(), 3, "first, its answer, second: {:?}", asked[1].texts);
    assert_eq!(asked[1].texts, asked[2].texts);
    let id = fork.session_id().unwrap();
    let session = node.store.session(id).await.unwrap().unwrap();
    assert_eq!(session.forked_from.as_ref(), first.session_id());
    assert_eq!(Some(&session.root), first.session_id());
}

#[tokio::test]
async fn a_function_call_goes_to_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let tools =
        json!([{ "type": "function", "name": "weather", "parameters": { "type": "object" } }]);
    node.script.say([Say::Tool("weather", json!({ "city": "Riga" })), Say::Text("Rain.")]);
    let turn = node.post(json!({ "input": "Weather?", "tools": tools })).await;
    let response = patient(turn.wait()).await.unwrap();
    assert_eq!(response["status"], "completed");
    let item = &response["output"][0];
    assert_eq!(
        (item["type"].as_str(), item["name"].as_str()),
        (Some("function_call"), Some("weather"))
    );
    let answer =
        json!([{ "type": "function_call_output", "call_id": item["call_id"], "output": "rain" }]);
    let next = json!({ "input": answer, "previous_response_id": response["id"], "tools": tools });
    let response = patient(node.post(next).await.wait()).await.unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], "Rain.");
}

#[tokio::test]
async fn another_users_key_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("secret")]);
    let turn = node.post(json!({ "input": "hello" })).await;
    patient(turn.wait()).await.unwrap();
    let (id, other) = (turn.response_id().as_str(), node.key("other").await);
    let refused = node.sessions.get(&other, id).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    assert_eq!(node.sessions.cancel(&other, id).await.unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(node.sessions.delete(&other, id).await.unwrap_err().code, ErrorCode::NotFound);
    let next = json!({ "input": "go on", "previous_response_id": id });
    let refused = node.post_as("other", next, PostIdentity::default()).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::PreviousResponseNotFound);
    let stolen = json!({ "input": [{ "type": "item_reference", "id":
        node.get(id).await["output"][0]["id"] }] });
    let refused = node.post_as("other", stolen, PostIdentity::default()).await.unwrap_err();
    assert_eq!(refused.failure.param.as_deref(), Some("input[0].id"));
}

#[tokio::test]
async fn a_tool_server_is_denied_to_keys_that_are_not_named() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let refused = node.post_as("other", with_notes(&json!({})), PostIdentity::default()).await;
    let failure = refused.unwrap_err().failure;
    assert_eq!(failure.code, ErrorCode::PermissionDenied);
    assert_eq!(failure.param.as_deref(), Some("tools[0].server_label"));
    assert!(node.ledger().await.is_empty());
}

#[tokio::test]
async fn items_can_be_referred_to_without_a_predecessor() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("My name is Ada."), Say::Text("Ada.")]);
    let first = patient(node.post(json!({ "input": "Who?" })).await.wait()).await.unwrap();
    let input = json!([
        { "type": "item_reference", "id": first["output"][0]["id"] },
        { "role": "user", "content": "Again?" },
    ]);
    patient(node.post(json!({ "input": input })).await.wait()).await.unwrap();
    assert!(node.script.asked()[1].texts[0].contains("My name is Ada."));
}

#[tokio::test]
async fn a_response_that_is_not_stored_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("gone"), Say::Text("also gone")]);
    let turn = node.post(json!({ "input": "hi", "store": false, "stream": true })).await;
    let sent = events(turn.subscribe()).await;
    assert_numbered(&sent, 0);
    assert_eq!(names(&sent).last(), Some(&"response.completed"));
    assert!(turn.session_id().is_none());
    let turn = node.post(json!({ "input": "hi", "store": false })).await;
    let response = patient(turn.wait()).await.unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], "also gone");
    assert_eq!(node.sessions.list(super::node::all()).await.unwrap().len(), 0);
    let got = node.sessions.get(&*node.key("ci").await, turn.response_id().as_str()).await;
    assert_eq!(got.unwrap_err().code, ErrorCode::NotFound);
    node.pipeline.flush().await.unwrap();
    assert_eq!(node.ledger().await.len(), 2);
}

#[tokio::test]
async fn a_broken_answer_fails_the_response_with_its_first_error() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup { provider: Some("garage"), ..Setup::default() };
    let node = Node::start_with(folder.path(), open(folder.path()), setup).await;
    node.script.say([Say::Fail(unknown_bill(ErrorCode::StreamCut))]);
    let body = json!({ "model": "garage/demo", "input": "hi", "stream": true });
    let turn = node.post(body).await;
    let sent = events(turn.subscribe()).await;
    assert_eq!(names(&sent).last(), Some(&"response.failed"));
    let failure = patient(turn.wait()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::StreamCut);
    assert_eq!(node.script.asked().len(), 1);
    assert_eq!(node.get(turn.response_id().as_str()).await["status"], "failed");
}

#[tokio::test]
async fn an_engine_that_crashed_is_asked_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([
        Say::Fail(unknown_bill(ErrorCode::Unavailable)),
        Say::Text("Here I am."),
        Say::Fail(unknown_bill(ErrorCode::Unavailable)),
        Say::Fail(unknown_bill(ErrorCode::Unavailable)),
    ]);
    let response = patient(node.post(json!({ "input": "hi" })).await.wait()).await.unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], "Here I am.");
    let asked = node.script.asked();
    assert_eq!(asked[0].call, asked[1].call);
    assert_ne!(asked[0].attempt, asked[1].attempt);
    let failure = patient(node.post(json!({ "input": "ho" })).await.wait()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unavailable);
}

#[tokio::test]
async fn a_step_on_a_route_is_asked_of_its_next_target_within_its_call() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup { provider: Some("paid"), ..Setup::default() };
    let node = Node::start_with(folder.path(), open(folder.path()), setup).await;
    let no_bill = |code| Say::Fail(Failure::new(code, "told to"));
    let asks = json!({ "input": "hi", "model": "route/two" });
    node.script.say([no_bill(ErrorCode::UpstreamQuota), Say::Text("Here I am.")]);
    let response = patient(node.post(asks.clone()).await.wait()).await.unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], "Here I am.");
    assert_eq!(response["output"].as_array().unwrap().len(), 1);
    let asked = node.script.asked();
    assert_eq!((asked.len(), &asked[0].call), (2, &asked[1].call));
    assert_ne!(asked[0].attempt, asked[1].attempt);
    let rows = node.ledger().await;
    let seen: Vec<_> = rows.iter().map(|row| (row.target.as_str(), row.error)).collect();
    assert!(seen.contains(&("paid/demo", Some(ErrorCode::UpstreamQuota))), "{seen:?}");
    assert!(seen.contains(&("paid/other", None)), "{seen:?}");

    // Its first failure is not masked by what the last target says of the request.
    node.script.say([no_bill(ErrorCode::UpstreamTimeout), no_bill(ErrorCode::InvalidRequest)]);
    let failure = patient(node.post(asks.clone()).await.wait()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::UpstreamTimeout);
    // And what is wrong with the request is not asked twice.
    node.script.say([no_bill(ErrorCode::InvalidRequest)]);
    let failure = patient(node.post(asks).await.wait()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidRequest);
    assert_eq!(node.script.asked().len(), 5);
}

#[tokio::test]
async fn a_background_turn_goes_on_alone_and_its_stream_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Slow("Once ", "upon a time.")]);
    let turn = node.post(json!({ "input": "tell", "background": true, "stream": true })).await;
    assert_eq!(turn.snapshot()["status"], "queued");
    let id = turn.response_id().as_str().to_owned();
    let key = node.key("ci").await;
    let mut stream = turn.subscribe();
    let mut first = Vec::new();
    while first
        .last()
        .is_none_or(|event: &crate::StreamEvent| event.name != "response.output_text.delta")
    {
        first.push(patient(futures_util::StreamExt::next(&mut stream)).await.unwrap());
    }
    // What was sent is durable.
    assert!(node.stored_events(&id).await.len() >= first.len());
    drop((turn, stream));
    let after = first.last().unwrap().sequence;
    let resumed = node.sessions.events(&key, &id, after).await.unwrap();
    node.script.open_gate();
    let rest = events(resumed).await;
    assert_numbered(&rest, after.unwrap() + 1);
    assert_eq!(names(&rest).last(), Some(&"response.completed"));
    let whole = events(node.sessions.events(&key, &id, None).await.unwrap()).await;
    assert_eq!(whole[first.len()..], rest[..]);
}

#[tokio::test]
async fn cancelling_ends_a_running_model_and_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Slow("Once ", "never")]);
    let turn = node.post(json!({ "input": "tell", "background": true, "stream": true })).await;
    node.script.was_asked(1).await;
    let (id, key) = (turn.response_id().as_str(), node.key("ci").await);
    let cancelled = patient(node.sessions.cancel(&key, id)).await.unwrap();
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(patient(node.sessions.cancel(&key, id)).await.unwrap(), cancelled);
    assert_eq!(names(&events(turn.subscribe()).await).last(), Some(&"response.incomplete"));
    assert_eq!(node.ledger().await.len(), 1);
}

#[tokio::test]
async fn cancelling_a_running_tool_tells_its_server_and_shows_what_it_said() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup {
        env: vec![("HOLDFAST_DEMO_TOOL_DELAY_MS", "60000".to_owned())],
        ..Setup::default()
    };
    let node = Node::start_with(folder.path(), open(folder.path()), setup).await;
    node.script.say([Say::Tool("add_note", json!({ "text": "late" }))]);
    let turn = node.post(with_notes(&json!({ "background": true }))).await;
    node.tool_began(1).await;
    let (id, key) = (turn.response_id().as_str(), node.key("ci").await);
    let cancelled = patient(node.sessions.cancel(&key, id)).await.unwrap();
    assert_eq!(cancelled["status"], "cancelled");
    // This server gives a cancelled call no answer, so what it did is not known, and shown so.
    let item = &cancelled["output"][1];
    assert_eq!(item["holdfast"]["state"], "abandoned", "{cancelled}");
    let session = turn.session_id().unwrap().as_str();
    let shown = node.sessions.show(&key.account, session).await.unwrap();
    assert_eq!(shown.turns[0].steps[1].state, StepState::Abandoned);
    assert!(node.effects().is_empty());
}

/// A turn that calls the writing tool, and the step that waits for a decision on it.
async fn doubtful(late: &Late, body: &Value) -> (Turn, Doubt) {
    late.node.script.say([Say::Tool("add_note", json!({ "text": "once" }))]);
    let turn = late.node.post(with_notes(body)).await;
    let doubt = late.doubt(&turn).await;
    (turn, doubt)
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_waits_for_a_decision() {
    let folder = tempfile::tempdir().unwrap();
    let late = Late::start(folder.path()).await;
    let (turn, doubt) = doubtful(&late, &json!({})).await;
    let (node, step) = (&late.node, &doubt.step);
    node.script.say([Say::Text("Done.")]);
    let failure = patient(turn.wait()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::SessionInDoubt);
    assert!(failure.forbids_retry());
    assert_eq!(step.arguments.as_deref(), Some("{\"text\":\"once\"}"));
    assert!(step.why.is_some() && step.in_doubt_since.is_some());
    let listed = node.sessions.list(super::node::all()).await.unwrap();
    assert_eq!(listed[0].session.state, storage::SessionState::InDoubt);
    assert_eq!(listed[0].in_doubt.as_ref(), Some(step));
    let shown = node.get(turn.response_id().as_str()).await;
    assert_eq!(shown["status"], "in_progress");
    assert_eq!(shown["output"][1]["holdfast"]["state"], "in_doubt", "{shown}");
    assert_eq!(shown["output"][1]["holdfast"]["step"], step.id.as_str());

    let next = json!({ "input": "and?", "previous_response_id": turn.response_id() });
    let refused = node.try_post(next, PostIdentity::default()).await.unwrap_err();
    assert_eq!(refused.failure.code, ErrorCode::SessionInDoubt);

    let done = || Decision::Done { output: "Note 6 is saved".to_owned() };
    let wrong = doubt.resolve_step("step_x", done()).await.unwrap_err();
    assert_eq!(wrong.code, ErrorCode::Conflict);
    let settled = doubt.resolve(done()).await.unwrap();
    assert_eq!(settled.state, StepState::Done);
    assert!(settled.why.unwrap().contains("ada"));
    let response = patient(turn.wait()).await.unwrap();
    assert_eq!(response["status"], "completed");
    assert_eq!(response["output"][1]["output"], "Note 6 is saved");
    assert_eq!(node.effects().len(), 1);
    let again = doubt.resolve(done()).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn a_step_that_somebody_said_had_failed_is_shown_as_failed() {
    let folder = tempfile::tempdir().unwrap();
    let late = Late::start(folder.path()).await;
    let (turn, doubt) = doubtful(&late, &json!({ "background": true })).await;
    late.node.script.say([Say::Text("So be it.")]);
    let failed = Decision::Failed { message: "the notebook was closed".to_owned() };
    assert_eq!(doubt.resolve(failed).await.unwrap().state, StepState::Failed);
    let response = patient(turn.wait()).await.unwrap();
    assert_eq!(response["status"], "completed");
    let error = json!({
        "type": "mcp_tool_execution_error",
        "content": [{ "type": "text", "text": "the notebook was closed" }],
    });
    assert_eq!(response["output"][1]["error"], error);
    let session = turn.session_id().unwrap().as_str();
    let shown = late.node.sessions.show(DEFAULT_ACCOUNT, session).await.unwrap();
    let states: Vec<StepState> = shown.turns[0].steps.iter().map(|step| step.state).collect();
    assert_eq!(states, [StepState::Done, StepState::Failed, StepState::Done]);
}

#[tokio::test]
async fn a_retry_that_somebody_decided_sends_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let late = Late::start(folder.path()).await;
    let (turn, doubt) = doubtful(&late, &json!({ "background": true })).await;
    late.node.script.say([Say::Text("So be it.")]);
    doubt.resolve(Decision::Retry).await.unwrap();
    // The server has seen the key and refuses: that is an answer.
    let response = patient(turn.wait()).await.unwrap();
    assert_eq!(response["output"][1]["status"], "failed");
    let keys: Vec<String> = late.node.starts().into_iter().map(|(_, key)| key).collect();
    let id = doubt.step.id.as_str();
    assert_eq!(keys, [id, id]);
    assert_eq!(late.node.effects().len(), 1);
}

#[tokio::test]
async fn a_retry_that_never_ran_leaves_its_step_in_doubt() {
    let folder = tempfile::tempdir().unwrap();
    let late = Late::start(folder.path()).await;
    let (turn, doubt) = doubtful(&late, &json!({ "background": true })).await;
    // From now on the server can't be started, so that the next try can't run.
    late.node.break_tools().await;
    doubt.resolve(Decision::Retry).await.unwrap();
    let id = turn.response_id().as_str();
    let again = late.node.in_doubt(id).await;
    assert_eq!((again.id, again.attempts), (doubt.step.id, 2));
    assert_eq!(late.node.effects().len(), 1);
    assert_eq!(late.node.get(id).await["status"], "in_progress");
}

#[tokio::test]
async fn one_answer_may_call_128_tools_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    let call = Say::Tools(TOOL_CALLS_MAX + 2, "find_note", json!({ "query": "harbor" }));
    node.script.say([call, Say::Text("At 6.")]);
    let turn = node.post(with_notes(&json!({}))).await;
    let response = patient(turn.wait()).await.unwrap();
    assert_eq!(response["status"], "completed");
    let calls: Vec<&Value> = response["output"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["type"] == "mcp_call")
        .collect();
    assert_eq!(calls.len(), 130, "every call has its result");
    let (made, refused) = calls.split_at(TOOL_CALLS_MAX);
    assert!(made.iter().all(|item| item["status"] == "completed" && item["error"].is_null()));
    for item in refused {
        assert_eq!(item["status"], "failed");
        let told = "not called: one answer may call 128 tools at most";
        assert_eq!(item["error"]["message"], told);
    }
    let ledger = node.ledger().await;
    assert_eq!(ledger.iter().filter(|row| row.kind == "tool").count(), TOOL_CALLS_MAX);
}

#[tokio::test]
async fn a_lost_read_is_done_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup {
        env: vec![("HOLDFAST_DEMO_READ_DELAY_MS", "60000".to_owned())],
        timeout: Some(std::time::Duration::from_millis(200)),
        ..Setup::default()
    };
    let node = Node::start_with(folder.path(), open(folder.path()), setup).await;
    node.script.say([Say::Tool("find_note", json!({ "query": "harbor" }))]);
    let turn = node.post(with_notes(&json!({ "background": true }))).await;
    let step = node.in_doubt(turn.response_id().as_str()).await;
    // Once, and three times again with the same key; then somebody must look.
    assert_eq!(step.attempts, 4);
    let cancelled =
        patient(node.sessions.cancel(&*node.key("ci").await, turn.response_id().as_str())).await;
    assert_eq!(cancelled.unwrap()["status"], "cancelled");
}

#[tokio::test]
async fn deleting_removes_the_bodies_and_keeps_the_bill() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("private")]);
    let turn = node.post(json!({ "input": "hush" })).await;
    patient(turn.wait()).await.unwrap();
    let (id, key) = (turn.response_id(), node.key("ci").await);
    node.sessions.delete(&key, id.as_str()).await.unwrap();
    assert_eq!(node.sessions.get(&key, id.as_str()).await.unwrap_err().code, ErrorCode::NotFound);
    assert!(node.stored_events(id.as_str()).await.is_empty());
    let row = node.store.response(id).await.unwrap().unwrap();
    assert!(row.request.is_none() && row.input.is_none() && row.response.is_none());
    assert!(!row.post.body_sha256.is_empty());
    let query = storage::JournalQuery {
        session: turn.session_id().unwrap().clone(),
        response: None,
        after: 0,
        limit: 100,
    };
    let journal = node.store.journal(query).await.unwrap();
    assert!(!journal.is_empty() && journal.iter().all(|row| row.body.is_none()));
    assert_eq!(node.ledger().await.len(), 1);
}

#[tokio::test]
async fn a_task_that_the_client_names_is_every_steps() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.script.say([Say::Text("yes")]);
    let post = PostIdentity { headers: headers("release"), ..PostIdentity::default() };
    let turn = node.try_post(json!({ "input": "go" }), post).await.unwrap();
    patient(turn.wait()).await.unwrap();
    assert_eq!(node.ledger().await[0].task, "release");
}
