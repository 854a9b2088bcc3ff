//! What follows from each event, that replaying changes nothing, and that nothing finished is ever
//! run again.

use pipeline::StepIntent;
use proptest::prelude::*;
use serde_json::{Value, json};
use types::ids::{AttemptId, CallId, StepId};
use types::{ErrorCode, Money, Stop, Timestamp, Usage};

use super::{
    Action, Decision, Ending, ErrorRecord, Event, Place, StepState, TOOL_RERUNS_MAX, ToolRequest,
    Turn,
};
use crate::mcp::Effect;

fn step(n: usize) -> StepId {
    StepId::parse(&format!("step_{n}")).unwrap()
}

fn call(n: usize) -> CallId {
    CallId::parse(&format!("hfc_{n}")).unwrap()
}

fn attempt(n: usize) -> AttemptId {
    AttemptId::parse(&format!("att_{n}")).unwrap()
}

fn intent(n: usize) -> Box<StepIntent> {
    let intent = json!({
        "call": format!("hfc_{n}"), "attempt": format!("att_{n}"), "parent": null, "account": "a",
        "key": "key_k", "user": "u", "session": null, "step": null, "task": "t", "class": "agent",
        "door": "session", "kind": "model", "name": "m", "target": "m", "price_version": null,
        "reserved": serde_json::to_value(Money::ZERO).unwrap(), "output_cap": null, "started_at": 0,
        "reservation": null, "budgets": [],
    });
    Box::new(serde_json::from_value(intent).unwrap())
}

fn request(n: usize) -> ToolRequest {
    ToolRequest {
        item_id: format!("mcp_{n}"),
        output_index: n as u64,
        item: json!({ "type": "mcp_call", "id": format!("mcp_{n}"), "status": "in_progress" }),
        server: "notes".to_owned(),
        tool: "add_note".to_owned(),
        arguments: "{}".to_owned(),
    }
}

fn item(n: usize) -> (u64, Value) {
    (n as u64, json!({ "type": "mcp_call", "id": format!("mcp_{n}") }))
}

fn opened() -> Event {
    Event::TurnOpened {
        call: call(0),
        task: "t".to_owned(),
        class: None,
        budget: None,
        metadata: types::Metadata::default(),
        tier: None,
        gateway: None,
        asks: None,
        max_tool_calls: None,
        items: Vec::new(),
    }
}

#[test]
fn the_tier_that_was_asked_for_is_the_turns() {
    let mut first = opened();
    if let Event::TurnOpened { tier, .. } = &mut first {
        *tier = Some(types::auto::Tier::Cheap);
    }
    let journaled = serde_json::to_string(&first).unwrap();
    assert!(journaled.contains(r#""tier":"cheap""#), "{journaled}");
    let mut turn = Turn::default();
    turn.apply(&serde_json::from_str(&journaled).unwrap()).unwrap();
    assert_eq!(turn.tier(), Some(types::auto::Tier::Cheap));
    // What was journaled before there were tiers.
    let before = journaled.replace(r#""tier":"cheap","#, "");
    let mut turn = Turn::default();
    turn.apply(&serde_json::from_str(&before).unwrap()).unwrap();
    assert_eq!((turn.tier(), turn.newest_intent()), (None, None));
    turn.apply(&model_intent(1)).unwrap();
    assert!(turn.newest_intent().is_some());
}

fn model_intent(n: usize) -> Event {
    let begins_at = Place { sequence: 2, ..Place::default() };
    Event::ModelIntent {
        step: step(n),
        call: call(n),
        attempt: attempt(n),
        intent: intent(n),
        begins_at,
    }
}

fn model_outcome(n: usize, tools: Vec<ToolRequest>, stop: Stop) -> Event {
    Event::ModelOutcome {
        step: step(n),
        call: call(n),
        items: Vec::new(),
        calls_functions: false,
        tools,
        stop,
        usage: Some(Usage { output_tokens: 2, ..Usage::default() }),
    }
}

fn model_lost(n: usize) -> Event {
    Event::ModelLost { step: step(n), call: call(n), attempt: attempt(n), why: "x".to_owned() }
}

fn tool_intent(n: usize, item: usize, effect: Effect) -> Event {
    Event::ToolIntent {
        step: step(n),
        call: call(n),
        attempt: attempt(n),
        item_id: format!("mcp_{item}"),
        effect,
        intent: intent(n),
    }
}

fn tool_outcome(n: usize, at: usize) -> Event {
    Event::ToolOutcome { step: step(n), call: call(n), item: item(at) }
}

fn tool_lost(n: usize) -> Event {
    Event::ToolLost { step: step(n), call: call(n), why: "x".to_owned(), at: Timestamp(7) }
}

fn cancel() -> Event {
    Event::CancelAsked { by: "ada".to_owned() }
}

fn resolved(n: usize, decision: Decision, item: Option<(u64, Value)>) -> Event {
    Event::Resolved { step: step(n), decision, by: "ada".to_owned(), item }
}

fn closed(ending: Ending) -> Event {
    Event::TurnClosed { ending }
}

/// A turn after these events, and what the last one asks for.
fn after(events: &[Event]) -> (Turn, Vec<Action>) {
    let mut turn = Turn::default();
    let mut actions = Vec::new();
    for event in events {
        actions = turn.apply(event).unwrap();
    }
    (turn, actions)
}

fn actions(events: &[Event]) -> Vec<Action> {
    after(events).1
}

fn running_tool(effect: Effect) -> Vec<Event> {
    vec![
        opened(),
        model_intent(0),
        model_outcome(0, vec![request(0)], Stop::ToolCalls),
        tool_intent(1, 0, effect),
    ]
}

fn and(mut events: Vec<Event>, event: Event) -> Vec<Event> {
    events.push(event);
    events
}

#[test]
fn a_turn_without_tools() {
    assert_eq!(actions(&[opened()]), [Action::BeginModel]);
    assert_eq!(actions(&[opened(), model_intent(0)]), [Action::RunModel]);
    let answered = [opened(), model_intent(0), model_outcome(0, Vec::new(), Stop::End)];
    assert_eq!(actions(&answered), [Action::Close(Ending::Completed)]);
    let (turn, actions) = after(&and(answered.to_vec(), closed(Ending::Completed)));
    assert_eq!(actions, []);
    assert_eq!(turn.ending(), Some(&Ending::Completed));
    assert_eq!(turn.usage().unwrap().output_tokens, 2);
}

#[test]
fn tools_run_in_order_and_the_model_reads_them_all() {
    let tools = vec![request(0), request(1)];
    let mut events = vec![opened(), model_intent(0), model_outcome(0, tools, Stop::ToolCalls)];
    assert_eq!(actions(&events), [Action::BeginTool(request(0))]);
    events.push(tool_intent(1, 0, Effect::Write));
    assert_eq!(actions(&events), [Action::RunTool]);
    events.push(tool_outcome(1, 0));
    assert_eq!(actions(&events), [Action::BeginTool(request(1))]);
    events.push(Event::ToolRefused { item_id: "mcp_1".to_owned(), item: item(1) });
    let (turn, actions) = after(&events);
    assert_eq!(actions, [Action::BeginModel]);
    assert_eq!(turn.output().iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(turn.steps().len(), 2, "a refused call is no step");
}

#[test]
fn function_calls_end_the_turn_after_our_own_tools() {
    let mut outcome = model_outcome(0, vec![request(0)], Stop::ToolCalls);
    if let Event::ModelOutcome { calls_functions, .. } = &mut outcome {
        *calls_functions = true;
    }
    let mut events = vec![opened(), model_intent(0), outcome];
    assert_eq!(actions(&events), [Action::BeginTool(request(0))]);
    events.extend([tool_intent(1, 0, Effect::Read), tool_outcome(1, 0)]);
    assert_eq!(actions(&events), [Action::Close(Ending::Completed)]);
}

#[test]
fn limits_and_failures_end_the_turn() {
    let ended = |event: Event| actions(&[opened(), model_intent(0), event]);
    let incomplete =
        |reason: &str| [Action::Close(Ending::Incomplete { reason: reason.to_owned() })];
    assert_eq!(ended(model_outcome(0, Vec::new(), Stop::Length)), incomplete("max_output_tokens"));
    let filtered = model_outcome(0, Vec::new(), Stop::ContentFilter);
    assert_eq!(ended(filtered), incomplete("content_filter"));
    let error = ErrorRecord { code: ErrorCode::UpstreamFailed, message: "no".to_owned() };
    let failed = Event::ModelFailed { step: step(0), call: call(0), error: error.clone() };
    assert_eq!(ended(failed), [Action::Close(Ending::Failed { error })]);
}

#[test]
fn a_lost_model_is_asked_again_under_its_call() {
    let again = Action::BeginModelAgain { step: step(0), call: call(0) };
    let mut events = vec![opened(), model_intent(0), model_lost(0)];
    assert_eq!(actions(&events), [again]);
    events.push(model_intent(0));
    let (turn, actions) = after(&events);
    assert_eq!(actions, [Action::RunModel]);
    assert_eq!(turn.step(&step(0)).unwrap().attempts, 2);
}

#[test]
fn a_lost_write_waits_and_a_lost_read_runs_three_times_more() {
    let waits = [Action::AwaitDecision(step(1))];
    assert_eq!(actions(&and(running_tool(Effect::Write), tool_lost(1))), waits);
    for effect in [Effect::Read, Effect::Idempotent] {
        let mut events = running_tool(effect);
        for _ in 0..TOOL_RERUNS_MAX {
            events.push(tool_lost(1));
            let again =
                Action::BeginToolAgain { step: step(1), call: call(1), request: request(0) };
            assert_eq!(actions(&events), [again]);
            events.push(tool_intent(1, 0, effect));
            assert_eq!(actions(&events), [Action::RunTool]);
        }
        events.push(tool_lost(1));
        let (turn, actions) = after(&events);
        assert_eq!(actions, waits);
        assert_eq!(turn.doubt().unwrap().in_doubt_since, Some(Timestamp(7)));
    }
}

#[test]
fn decisions_settle_a_step_in_doubt() {
    let doubtful = and(running_tool(Effect::Write), tool_lost(1));
    let done = Decision::Done { output: "ok".to_owned() };
    let failed = Decision::Failed { message: "no".to_owned() };
    for (decision, state) in [(done.clone(), StepState::Done), (failed, StepState::Failed)] {
        let events = and(doubtful.clone(), resolved(1, decision, Some(item(0))));
        let (turn, actions) = after(&events);
        assert_eq!(actions, [Action::BeginModel]);
        assert_eq!(turn.step(&step(1)).unwrap().state, state);
        assert_eq!(turn.output().len(), 1);
    }
    let retried = and(doubtful.clone(), resolved(1, Decision::Retry, None));
    let again = Action::BeginToolAgain { step: step(1), call: call(1), request: request(0) };
    assert_eq!(actions(&retried), [again]);
    // A retry that can't be made leaves the step as it was: in doubt.
    let refused = and(retried.clone(), tool_lost(1));
    assert_eq!(actions(&refused), [Action::AwaitDecision(step(1))]);
    assert!(after(&retried).0.is_released() && !after(&doubtful).0.is_released());
    let mut turn = after(&doubtful).0;
    assert!(turn.apply(&resolved(0, done.clone(), Some(item(0)))).is_err(), "another step");
    assert!(turn.apply(&resolved(1, done, None)).is_err(), "no item");
}

#[test]
fn cancelling_ends_whatever_runs() {
    let close = [Action::Close(Ending::Cancelled)];
    assert_eq!(actions(&[opened(), cancel()]), close);
    let model = [opened(), model_intent(0), cancel()];
    assert_eq!(actions(&model), []);
    assert_eq!(actions(&and(model.to_vec(), model_lost(0))), close);
    assert_eq!(actions(&[opened(), model_intent(0), model_lost(0), cancel()]), close);
    let tool = and(running_tool(Effect::Read), cancel());
    assert_eq!(actions(&tool), []);
    assert_eq!(actions(&and(tool.clone(), tool_outcome(1, 0))), close, "its outcome is kept");
    let lost = and(tool, tool_lost(1));
    assert_eq!(actions(&lost), [Action::Abandon(step(1))]);
    assert_eq!(actions(&and(lost, Event::Abandoned { step: step(1) })), close);
    let doubt = and(and(running_tool(Effect::Write), tool_lost(1)), cancel());
    assert_eq!(actions(&doubt), [Action::Abandon(step(1))]);
}

#[test]
fn a_new_process_goes_on_where_the_last_one_stopped() {
    let recover = |events: &[Event]| after(events).0.recover();
    assert_eq!(recover(&[opened()]), [Action::BeginModel]);
    let lose =
        Action::LoseModel { step: step(0), call: call(0), attempt: attempt(0), intent: intent(0) };
    assert_eq!(recover(&[opened(), model_intent(0)]), [lose]);
    let tool = running_tool(Effect::Write);
    let lose = Action::LoseTool { step: step(1), call: call(1), intent: intent(1) };
    assert_eq!(recover(&tool), [lose]);
    assert_eq!(recover(&and(tool.clone(), cancel())), [Action::Abandon(step(1))]);
    let doubt = and(tool.clone(), tool_lost(1));
    assert_eq!(recover(&doubt), [Action::AwaitDecision(step(1))]);
    assert_eq!(recover(&and(tool, tool_outcome(1, 0))), [Action::BeginModel]);
    let end = [opened(), cancel(), closed(Ending::Cancelled)];
    assert_eq!(recover(&end), []);
}

#[test]
fn the_clients_limit_on_tool_calls_is_counted_once_per_step() {
    let mut first = opened();
    if let Event::TurnOpened { max_tool_calls, .. } = &mut first {
        *max_tool_calls = Some(1);
    }
    let mut events = running_tool(Effect::Read);
    events[0] = first;
    assert!(after(&events).0.is_out_of_tool_calls());
    assert!(!after(&events[..3]).0.is_out_of_tool_calls());
}

/// Takes a random walk through what can happen: each choice picks one of the things that may follow
/// an action.
fn walk(choices: &[u8]) -> Vec<Event> {
    let mut events = vec![opened()];
    let (mut turn, mut next) = after(&events);
    let mut steps = 0;
    for choice in choices {
        let event = match next.first() {
            None => break,
            Some(action) => follows(action, *choice, &turn, &mut steps),
        };
        next = turn.apply(&event).unwrap();
        if next.is_empty() && turn.ending().is_none() {
            // A cancelled step still runs: what became of it comes next.
            next = if turn.running_model().is_some() {
                vec![Action::RunModel]
            } else {
                vec![Action::RunTool]
            };
        }
        events.push(event);
    }
    events
}

fn follows(action: &Action, choice: u8, turn: &Turn, steps: &mut usize) -> Event {
    let mut fresh = || {
        *steps += 1;
        *steps
    };
    let cancelled = turn.is_cancel_asked();
    match action {
        Action::BeginModel => model_intent(fresh()),
        Action::BeginModelAgain { step, call } => Event::ModelIntent {
            step: step.clone(),
            call: call.clone(),
            attempt: attempt(fresh()),
            intent: intent(0),
            begins_at: Place::default(),
        },
        Action::RunModel => model_ends(turn, choice, cancelled, fresh()),
        Action::BeginTool(request) if choice.is_multiple_of(8) => Event::ToolRefused {
            item_id: request.item_id.clone(),
            item: (request.output_index, json!({})),
        },
        Action::BeginTool(request) => {
            let effect = [Effect::Write, Effect::Read, Effect::Idempotent][usize::from(choice) % 3];
            let n = fresh();
            let Event::ToolIntent { step, call, attempt, intent, .. } = tool_intent(n, 0, effect)
            else {
                unreachable!()
            };
            Event::ToolIntent {
                step,
                call,
                attempt,
                item_id: request.item_id.clone(),
                effect,
                intent,
            }
        }
        Action::BeginToolAgain { step, call, request } => Event::ToolIntent {
            step: step.clone(),
            call: call.clone(),
            attempt: attempt(fresh()),
            item_id: request.item_id.clone(),
            effect: turn.step(step).unwrap().effect.unwrap(),
            intent: intent(0),
        },
        Action::RunTool => tool_ends(turn, choice, cancelled),
        Action::AwaitDecision(step) => decided(step, choice, turn),
        Action::Abandon(step) => Event::Abandoned { step: step.clone() },
        Action::Close(ending) => closed(ending.clone()),
        Action::LoseModel { .. } | Action::LoseTool { .. } => unreachable!("only after a restart"),
    }
}

fn model_ends(turn: &Turn, choice: u8, cancelled: bool, n: usize) -> Event {
    let (step, _) = turn.running_model().unwrap();
    let call = turn.step(step).unwrap().call.clone();
    let tools = (0..usize::from(choice % 3)).map(|tool| request(n * 10 + tool)).collect();
    match choice % 5 {
        0 if !cancelled => cancel(),
        1 => {
            Event::ModelLost { step: step.clone(), call, attempt: attempt(n), why: "x".to_owned() }
        }
        2 => Event::ModelFailed {
            step: step.clone(),
            call,
            error: ErrorRecord { code: ErrorCode::StreamCut, message: "x".to_owned() },
        },
        _ => Event::ModelOutcome {
            step: step.clone(),
            call,
            items: vec![(n as u64 * 10 + 5, json!({}))],
            tools,
            calls_functions: choice.is_multiple_of(7),
            stop: Stop::End,
            usage: None,
        },
    }
}

fn tool_ends(turn: &Turn, choice: u8, cancelled: bool) -> Event {
    let running = turn.steps().iter().find(|step| step.state == StepState::Running).unwrap();
    let (step, call) = (running.id.clone(), running.call.clone());
    match choice % 4 {
        0 if !cancelled => cancel(),
        1 | 2 => Event::ToolLost { step, call, why: "x".to_owned(), at: Timestamp(1) },
        _ => {
            let index = turn.waiting().front().unwrap().output_index;
            Event::ToolOutcome { step, call, item: (index, json!({})) }
        }
    }
}

fn decided(step: &StepId, choice: u8, turn: &Turn) -> Event {
    let index = turn.waiting().front().unwrap().output_index;
    let (decision, item) = match choice % 4 {
        0 => return cancel(),
        1 => (Decision::Retry, None),
        2 => (Decision::Failed { message: "no".to_owned() }, Some((index, json!({})))),
        _ => (Decision::Done { output: "ok".to_owned() }, Some((index, json!({})))),
    };
    Event::Resolved { step: step.clone(), decision, by: "ada".to_owned(), item }
}

/// The step that an action would run, if it would run one that is there already.
fn runs_again(action: &Action) -> Option<&StepId> {
    match action {
        Action::BeginModelAgain { step, .. }
        | Action::BeginToolAgain { step, .. }
        | Action::LoseModel { step, .. }
        | Action::LoseTool { step, .. }
        | Action::AwaitDecision(step)
        | Action::Abandon(step) => Some(step),
        Action::BeginModel
        | Action::RunModel
        | Action::BeginTool(_)
        | Action::RunTool
        | Action::Close(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replaying_any_prefix_gives_the_same_state_and_repeats_nothing(
        choices in prop::collection::vec(any::<u8>(), 0..80)
    ) {
        let events = walk(&choices);
        let mut turn = Turn::default();
        for (length, event) in events.iter().enumerate() {
            turn.apply(event).unwrap();
            // Through its stored form, as a restart reads it.
            let mut replayed = Turn::default();
            for event in &events[..=length] {
                let text = serde_json::to_string(event).unwrap();
                replayed.apply(&serde_json::from_str(&text).unwrap()).unwrap();
            }
            prop_assert_eq!(&replayed, &turn);
            let recovery = turn.recover();
            prop_assert_eq!(recovery.is_empty(), turn.ending().is_some());
            for action in &recovery {
                let again = runs_again(action).and_then(|step| turn.step(step));
                prop_assert!(again.is_none_or(|step| !step.state.is_finished()), "{action:?}");
            }
            for step in turn.steps().iter().filter(|step| step.state.is_finished()) {
                let mut same = turn.clone();
                let effect = step.effect.unwrap_or_default();
                let intent = match turn.waiting().front() {
                    Some(request) if step.tool.is_some() => Event::ToolIntent {
                        step: step.id.clone(), call: step.call.clone(), attempt: attempt(9),
                        item_id: request.item_id.clone(), effect, intent: intent(9),
                    },
                    _ => Event::ModelIntent {
                        step: step.id.clone(), call: step.call.clone(), attempt: attempt(9),
                        intent: intent(9), begins_at: Place::default(),
                    },
                };
                prop_assert!(same.apply(&intent).is_err(), "{:?} was begun again", step);
                prop_assert_eq!(&same, &turn);
            }
        }
    }

    #[test]
    fn a_write_is_tried_again_only_when_somebody_says_so(
        choices in prop::collection::vec(any::<u8>(), 0..120)
    ) {
        let events = walk(&choices);
        let turn = after(&events).0;
        for step in turn.steps().iter().filter(|step| step.effect == Some(Effect::Write)) {
            let retries = events.iter().filter(|event| matches!(
                event,
                Event::Resolved { step: named, decision: Decision::Retry, .. } if *named == step.id
            ));
            prop_assert!(step.attempts as usize <= 1 + retries.count());
        }
    }
}
