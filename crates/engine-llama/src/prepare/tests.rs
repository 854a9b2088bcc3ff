use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use engine::protocol::ChatMessage;
use types::Timestamp;
use types::clock::{Clock, FakeClock};

use super::*;

/// More than a test sends.
const MESSAGES_MAX: usize = 16;

/// Threads whose work is the test's to end.
struct World {
    preparing: Arc<Preparing>,
    clock: Arc<FakeClock>,
    events: Receiver<Event>,
    said: Receiver<Option<FromEngine>>,
    /// Which requests have a thread, in the order in which they got it.
    begun: Receiver<u64>,
    /// Each message ends the work of one request whose message is `hangs`.
    release: SyncSender<()>,
    places: Arc<std::sync::atomic::AtomicUsize>,
}

fn world() -> World {
    let (events_in, events) = sync_channel(MESSAGES_MAX);
    let (out, said) = Outbox::new();
    let (begun_in, begun) = sync_channel(MESSAGES_MAX);
    let (release, released) = sync_channel::<()>(MESSAGES_MAX);
    let (begun_in, released) = (Mutex::new(begun_in), Mutex::new(released));
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let work = move |asked: Asked, wanted: &Wanted| {
        let Request::Generate(request) = asked.request else { panic!("asked for vectors") };
        begun_in.lock().unwrap().send(request.id).unwrap();
        match request.messages[0].content.as_str() {
            "hangs" => drop(released.lock().unwrap().recv()),
            "panics" => panic!("a bug in a template"),
            "fails" => return Err(EngineFailure::new(FailureCode::TemplateFailed, "no")),
            _ => {}
        }
        wanted.check()?;
        // Stands for a job, which only a model could make.
        Ok(Event::Ack(request.id, 0))
    };
    let shared = Arc::clone(&clock) as SharedClock;
    let preparing = Preparing::start(Box::new(work), events_in, out, shared).unwrap();
    World { preparing, clock, events, said, begun, release, places: Arc::default() }
}

impl World {
    fn ask(&self, id: u64, account: &str, content: &str) {
        self.ask_for(Generate { id, ..request(account, content) });
    }

    fn ask_for(&self, request: Generate) {
        let place = Place::take(&self.places, 16).unwrap();
        let taken = self.clock.monotonic();
        self.preparing.push(Asked { request: Request::Generate(Box::new(request)), taken, place });
    }

    fn is_ready(&self, id: u64) {
        let event = self.events.recv().unwrap();
        assert!(matches!(event, Event::Ack(it, _) if it == id), "{event:?}");
    }

    fn failed(&self) -> (u64, EngineFailure) {
        match self.said.recv().unwrap() {
            Some(FromEngine::Failed { id, failure }) => (id, failure),
            other => panic!("{other:?}"),
        }
    }
}

fn request(account: &str, content: &str) -> Generate {
    let message = ChatMessage { content: content.to_owned(), ..ChatMessage::default() };
    Generate {
        account: account.to_owned(),
        session: Some("s".to_owned()),
        messages: vec![message],
        ..Generate::default()
    }
}

#[test]
fn one_accounts_requests_leave_threads_to_others() {
    let world = world();
    for id in 0..THREADS as u64 + 1 {
        world.ask(id, "a", "hangs");
    }
    for _ in 0..ACCOUNT_THREADS_MAX {
        world.begun.recv().unwrap();
    }
    world.ask(90, "b", "quick");
    world.is_ready(90);
    world.ask(91, "b", "fails");
    assert_eq!(world.failed().0, 91);
    world.ask(92, "b", "panics");
    assert_eq!(world.failed().1.code, FailureCode::Internal);
    // The rest get their turn once their account's threads are free.
    for _ in 0..=THREADS {
        world.release.send(()).unwrap();
    }
    for _ in 0..=THREADS {
        world.events.recv().unwrap();
    }
}

#[test]
fn cancelling_waits_for_nothing_and_ends_what_waits_and_what_is_worked_on() {
    let world = world();
    for id in 0..ACCOUNT_THREADS_MAX as u64 {
        world.ask(id, "a", "hangs");
        world.begun.recv().unwrap();
    }
    world.ask(10, "a", "quick");
    assert!(world.preparing.cancel(10));
    let (id, failure) = world.failed();
    assert_eq!((id, failure.code), (10, FailureCode::Cancelled));
    assert!(world.preparing.cancel(0));
    assert_eq!(world.failed().0, 0);
    // Twice is once, and what is not here is the scheduler's.
    assert!(!world.preparing.cancel(0));
    assert!(!world.preparing.cancel(77));
    world.ask(11, "a", "quick");
    world.release.send(()).unwrap();
    world.release.send(()).unwrap();
    let mut ready = [0, 0].map(|_| match world.events.recv().unwrap() {
        Event::Ack(id, _) => id,
        other => panic!("{other:?}"),
    });
    ready.sort_unstable();
    assert_eq!(ready, [1, 11]);
    assert_eq!(world.begun.try_iter().collect::<Vec<_>>(), [11]);
    assert!(world.said.try_recv().is_err());
}

#[test]
fn a_dropped_sessions_requests_end_before_they_are_ready() {
    let world = world();
    world.ask(1, "a", "hangs");
    world.begun.recv().unwrap();
    world.ask_for(Generate { id: 2, session: None, ..request("a", "hangs") });
    world.begun.recv().unwrap();
    world.ask(3, "a", "quick");
    let owner = |account: &str| Owner { account: account.to_owned(), session: "s".to_owned() };
    world.preparing.forget(&owner("b"));
    assert!(world.said.try_recv().is_err());
    world.preparing.forget(&owner("a"));
    let mut ended = [world.failed().0, world.failed().0];
    ended.sort_unstable();
    assert_eq!(ended, [1, 3]);
    world.release.send(()).unwrap();
    world.release.send(()).unwrap();
    world.is_ready(2);
}

#[test]
fn what_takes_too_long_fails_and_its_thread_is_replaced() {
    let world = world();
    world.ask_for(Generate { id: 1, schema: Some(serde_json::json!({})), ..request("a", "hangs") });
    world.begun.recv().unwrap();
    world.clock.advance(READY_WITHIN - Duration::from_millis(1));
    assert_eq!(world.preparing.look(), Health::Well);
    assert!(world.said.try_recv().is_err());
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.preparing.look(), Health::Well);
    let (id, failure) = world.failed();
    assert_eq!((id, failure.code), (1, FailureCode::UnsupportedSchema));
    assert_eq!(failure.param.as_deref(), Some("schema"));
    assert!(!failure.retryable);
    // As many threads as before work on.
    for id in 10..10 + THREADS as u64 {
        world.ask(id, &format!("account {id}"), "hangs");
        world.begun.recv().unwrap();
    }
    for _ in 0..=THREADS {
        world.release.send(()).unwrap();
    }
    for _ in 0..THREADS {
        world.events.recv().unwrap();
    }
    // It ended at last, unheard: nothing hangs any more, whatever time passes.
    while !world.preparing.table().working.is_empty() {
        std::thread::yield_now();
    }
    world.clock.advance(WRITTEN_OFF_FOR * 2);
    assert_eq!(world.preparing.look(), Health::Well);
    assert!(world.said.try_recv().is_err());
}

#[test]
fn a_thread_that_hangs_on_ends_the_engine() {
    let world = world();
    world.ask(1, "a", "hangs");
    world.begun.recv().unwrap();
    world.clock.advance(READY_WITHIN);
    assert_eq!(world.preparing.look(), Health::Well);
    // Also when its client has left before.
    assert!(!world.preparing.cancel(1));
    world.clock.advance(WRITTEN_OFF_FOR);
    assert_eq!(world.preparing.look(), Health::Lost);
}

#[test]
fn too_many_threads_that_hang_end_the_engine() {
    let world = world();
    for id in 0..=WRITTEN_OFF_MAX as u64 {
        world.ask(id, &format!("account {id}"), "hangs");
        world.begun.recv().unwrap();
        if id > 0 {
            assert!(world.preparing.cancel(id));
        }
    }
    world.clock.advance(READY_WITHIN);
    assert_eq!(world.preparing.look(), Health::Lost);
}
