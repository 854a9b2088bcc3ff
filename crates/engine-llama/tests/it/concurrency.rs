//! Many requests at once: same answers, fair stops.

use engine::protocol::{FailureCode, FromEngine, Generate, Sampling, StopReason, ToEngine};

use crate::engine_process::{World, greedy, seeded};

#[test]
fn eight_at_once_say_what_each_says_alone() {
    let world = World::new();
    let prompts: Vec<_> =
        (0..8).map(|number| format!("story {number} ").repeat(5 + number)).collect();
    let request = |prompt: &String| Generate { max_tokens: Some(40), ..greedy(prompt) };
    let alone: Vec<_> =
        prompts.iter().map(|prompt| world.start(&[]).run(request(prompt)).text).collect();
    let mut engine = world.start(&[]);
    assert_eq!(engine.hello.as_ref().unwrap().model.sequences, 8);
    let ids: Vec<_> = prompts.iter().map(|prompt| engine.begin(request(prompt))).collect();
    let together: Vec<_> = ids.into_iter().map(|id| engine.finish(id).text).collect();
    assert_eq!(alone, together);
    assert!(alone.iter().all(|text| text.len() == 40), "{alone:?}");
}

#[test]
fn a_cancelled_generation_ends_and_others_go_on() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let long = Generate { max_tokens: None, window: 256, ..seeded("endless", 1) };
    let cancelled = engine.begin(long);
    let other = engine.begin(greedy("short"));
    while engine.answer(cancelled).deltas == 0 {
        engine.turn(None);
    }
    engine.send(&ToEngine::Cancel { id: cancelled });
    assert_eq!(engine.finish(cancelled).failed.unwrap().code, FailureCode::Cancelled);
    assert_eq!(engine.finish(other).stop(), StopReason::Length);
    let stats = engine.stats();
    assert_eq!((stats.active, stats.waiting), (0, 0));
}

#[test]
fn a_full_queue_refuses_at_once_and_says_that_a_retry_may_help() {
    let world = World::new();
    let mut engine = world.start(&["--sequences", "1", "--waiting", "2"]);
    // The first holds the only sequence for as long as nobody takes its deltas.
    let held = engine.begin(Generate { window: 1, ..greedy("held") });
    while engine.answer(held).deltas == 0 {
        engine.turn(Some(held));
    }
    let waiting: Vec<_> = (0..5).map(|_| engine.begin(greedy("more"))).collect();
    let over = waiting.iter().filter(|id| {
        // Two wait; the others are refused while the first still runs.
        while !engine.answer(waiting[4]).is_over() {
            engine.turn(Some(held));
        }
        engine.answer(**id).is_over()
    });
    let over: Vec<_> = over.copied().collect();
    assert_eq!(over, waiting[2..]);
    for id in over {
        let failure = engine.answer(id).failed.clone().unwrap();
        assert_eq!((failure.code, failure.retryable), (FailureCode::Overloaded, true));
    }
    engine.send(&ToEngine::Cancel { id: held });
    assert!(engine.finish(waiting[0]).done.is_some() && engine.finish(waiting[1]).done.is_some());
}

#[test]
fn a_slow_reader_stops_its_own_sequence_only() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let slow = engine.begin(Generate { window: 3, ..greedy("slow") });
    let other = engine.begin(Generate { max_tokens: Some(60), ..greedy("other") });
    while !engine.answer(other).is_over() {
        engine.turn(Some(slow));
    }
    assert!(!engine.answer(slow).is_over());
    assert_eq!(engine.answer(slow).deltas, 3, "its window and no more");
    engine.send(&ToEngine::Ack { id: slow, deltas: 3 });
    let answer = engine.finish(slow);
    assert_eq!((answer.deltas, answer.text.len()), (12, 12));
}

#[test]
fn what_is_late_is_ended() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let late = Generate { deadline_ms: Some(0), ..greedy("late") };
    assert_eq!(engine.run(late).failed.unwrap().code, FailureCode::DeadlineExceeded);
    // Also while it is stalled by its reader, with nothing else to do.
    let stalled = Generate { deadline_ms: Some(100), window: 1, ..greedy("stalled") };
    let id = engine.begin(stalled);
    while !matches!(engine.turn(Some(id)), FromEngine::Failed { .. }) {}
    assert_eq!(engine.answer(id).failed.as_ref().unwrap().code, FailureCode::DeadlineExceeded);
}

#[test]
fn stop_sequences_end_the_text() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let whole = engine.run(greedy("text")).text;
    let stop = whole[3..5].to_owned();
    let expected = whole[..whole.find(&stop).unwrap()].to_owned();
    let sampling = Sampling { stop: vec![stop], temperature: Some(0.0), ..Sampling::default() };
    let answer = engine.run(Generate { sampling, ..greedy("text") });
    assert_eq!((answer.stop(), answer.text), (StopReason::End, expected));
}

#[test]
fn a_seed_repeats_and_seeds_differ() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let first = engine.run(seeded("dice", 1)).text;
    assert_eq!(first, engine.run(seeded("dice", 1)).text);
    assert_ne!(first, engine.run(seeded("dice", 2)).text);
}
