//! A session's state: held, saved, restored, discarded, never another's.

use engine::protocol::{ChatMessage, Generate, ReusedFrom};

use crate::engine_process::{Answer, Engine, World, greedy, message};

fn history() -> Vec<ChatMessage> {
    let story = (0..120).map(|number| format!("line {number} of it. "));
    vec![message("system", &story.collect::<String>()), message("user", "begin")]
}

fn first_turn(session: &str) -> Generate {
    Generate { session: Some(session.to_owned()), persist: true, messages: history(), ..greedy("") }
}

/// The turn after `first`, whose answer it repeats as clients do.
fn second_turn(session: &str, first: &Answer) -> Generate {
    let mut messages = history();
    messages.extend([message("assistant", &first.text), message("user", "go on")]);
    Generate { messages, ..first_turn(session) }
}

fn reuses(answer: &Answer, from: ReusedFrom) {
    let (tokens, came_from) = answer.reused();
    assert_eq!(came_from, from);
    let (prompt, _, _) = answer.started.unwrap();
    assert!(tokens > 500 && prompt - tokens < 40, "{tokens} of {prompt}");
}

fn kill_and_restart(world: &World, mut engine: Engine) -> Engine {
    engine.kill();
    world.start(&[])
}

#[test]
fn held_restored_and_cold_turns_say_the_same() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let first = engine.run(first_turn("s"));
    let held = engine.run(second_turn("s", &first));
    reuses(&held, ReusedFrom::Memory);
    let cold = engine.run(second_turn("other", &first));
    assert_eq!(cold.reused(), (0, ReusedFrom::Nothing));
    engine.flush();
    let mut engine = kill_and_restart(&world, engine);
    let restored = engine.run(second_turn("s", &first));
    reuses(&restored, ReusedFrom::Disk);
    assert_eq!((&held.text, &held.text), (&cold.text, &restored.text));
    assert_eq!(engine.stats().restored_states, 1);
}

#[test]
fn the_generated_tokens_are_part_of_what_is_held() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let first = engine.run(first_turn("s"));
    let prompt = first.started.unwrap().0;
    let held = engine.run(second_turn("s", &first));
    // All of the first answer but its last token, which was drawn and not computed.
    assert_eq!(held.reused().0, prompt + 11);
}

#[test]
fn a_saved_state_needs_no_clean_end() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let first = engine.run(first_turn("s"));
    // Written behind the turn's back: known to be there once the engine counts it.
    while engine.stats().saved_states == 0 {}
    let mut engine = kill_and_restart(&world, engine);
    reuses(&engine.run(second_turn("s", &first)), ReusedFrom::Disk);
}

#[test]
fn sigterm_and_a_parent_that_hangs_up_save_every_session() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let first = engine.run(first_turn("s"));
    let pid = rustix::process::Pid::from_child(&engine.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(engine.child.wait().unwrap().success());
    let mut engine = world.start(&[]);
    reuses(&engine.run(second_turn("s", &first)), ReusedFrom::Disk);
    let other = engine.run(first_turn("t"));
    engine.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(engine.child.wait().unwrap().success());
    let mut engine = world.start(&[]);
    reuses(&engine.run(second_turn("t", &other)), ReusedFrom::Disk);
}

#[test]
fn more_sessions_than_sequences_are_evicted_to_disk() {
    let world = World::new();
    let mut engine = world.start(&["--sequences", "2"]);
    let sessions = ["a", "b", "c", "d"];
    let firsts: Vec<_> = sessions.iter().map(|name| engine.run(first_turn(name))).collect();
    for (name, first) in sessions.iter().zip(&firsts) {
        reuses(&engine.run(second_turn(name, first)), ReusedFrom::Disk);
    }
    assert_eq!(engine.stats().held_sessions, 2);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test's own files")]
fn a_damaged_state_is_discarded_and_the_prompt_computed_again() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let first = engine.run(first_turn("s"));
    let held = engine.run(second_turn("s", &first));
    engine.flush();
    engine.kill();
    let files = world.state_files();
    assert_eq!(files.len(), 1);
    let mut bytes = std::fs::read(&files[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&files[0], bytes).unwrap();
    let mut engine = world.start(&[]);
    let again = engine.run(second_turn("s", &first));
    assert_eq!(again.reused(), (0, ReusedFrom::Nothing));
    assert_eq!(again.text, held.text);
    assert_eq!(engine.stats().discarded_states, 1);
}

#[test]
fn nothing_is_shared_between_accounts() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let of = |account: &str, session: Option<&str>| Generate {
        account: account.to_owned(),
        session: session.map(str::to_owned),
        ..first_turn("")
    };
    engine.run(of("aaaa", None));
    engine.run(of("aaaa", Some("s")));
    assert_eq!(engine.run(of("bbbb", None)).reused().0, 0);
    assert_eq!(engine.run(of("bbbb", Some("s"))).reused().0, 0);
    // The same account shares its own: a session's state with that session, the rest with the rest.
    assert!(engine.run(of("aaaa", None)).reused().0 > 500);
    assert!(engine.run(of("aaaa", Some("s"))).reused().0 > 500);
    assert_eq!(engine.run(of("aaaa", Some("t"))).reused().0, 0);
    engine.flush();
    let mut engine = kill_and_restart(&world, engine);
    assert_eq!(engine.run(of("cccc", Some("s"))).reused().0, 0);
    assert_eq!(engine.run(of("bbbb", Some("s"))).reused().1, ReusedFrom::Disk);
}

#[test]
fn a_dropped_session_is_gone_from_memory_and_disk() {
    let world = World::new();
    let mut engine = world.start(&[]);
    engine.run(first_turn("s"));
    engine.flush();
    assert_eq!(world.state_files().len(), 1);
    engine.drop_session("default", "s");
    assert_eq!(world.state_files().len(), 0);
    assert_eq!(engine.run(first_turn("s")).reused(), (0, ReusedFrom::Nothing));
}

#[test]
fn turns_of_one_session_wait_for_each_other() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let (one, two) = (engine.begin(first_turn("s")), engine.begin(first_turn("s")));
    let (one, two) = (engine.finish(one), engine.finish(two));
    assert_eq!(one.text, two.text);
    // They are made ready side by side, so that either may be the first.
    let reused = [one.reused().1, two.reused().1];
    let from = |place: ReusedFrom| reused.iter().filter(|from| **from == place).count();
    assert_eq!((from(ReusedFrom::Nothing), from(ReusedFrom::Memory)), (1, 1));
}

#[test]
fn what_may_not_be_on_disk_is_held_in_memory_only() {
    let world = World::new();
    let mut engine = world.start(&["--sequences", "2"]);
    let in_memory = |request: Generate| Generate { persist: false, ..request };
    let first = engine.run(in_memory(first_turn("s")));
    reuses(&engine.run(in_memory(second_turn("s", &first))), ReusedFrom::Memory);
    // Neither behind a turn nor at a flush, nor when others take its place, nor at the end.
    engine.flush();
    for other in ["a", "b", "c"] {
        engine.run(in_memory(first_turn(other)));
    }
    let again = engine.run(in_memory(second_turn("s", &first)));
    assert_eq!(again.reused(), (0, ReusedFrom::Nothing));
    engine.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(engine.child.wait().unwrap().success());
    // The lock of the folder is all there is.
    let files = world.state_files();
    assert!(files.iter().all(|file| file.extension().is_none()), "{files:?}");
    let mut engine = world.start(&[]);
    let cold = engine.run(in_memory(second_turn("s", &first)));
    assert_eq!(cold.reused(), (0, ReusedFrom::Nothing));
    assert_eq!(engine.stats().saved_states, 0);
}

#[test]
fn a_turn_that_may_not_be_on_disk_takes_what_was_saved_before_no_further() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let first = engine.run(first_turn("s"));
    engine.flush();
    let saved = world.state_files();
    let held = engine.run(Generate { persist: false, ..second_turn("s", &first) });
    reuses(&held, ReusedFrom::Memory);
    engine.flush();
    assert_eq!(world.state_files(), saved);
    assert_eq!(engine.stats().saved_states, 1);
}
