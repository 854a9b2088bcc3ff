//! Servers that change or go while turns are open and calls run.

use super::*;

fn session(clock: &SharedClock) -> SessionId {
    SessionId::new(&Ids::new(Arc::clone(clock)))
}

fn notes(program: &str) -> ToolServer {
    ToolServer {
        name: "notes".to_owned(),
        command: vec![program.to_owned()],
        ..ToolServer::default()
    }
}

impl Bench {
    fn program_of(&self, session: Option<&SessionId>) -> Option<String> {
        let server = self.servers.shared.configured.server("notes", session)?;
        server.command.first().cloned()
    }

    async fn call_of(&self, session: Option<&SessionId>, key: &str) -> String {
        let server = self.servers.shared.configured.allowed("notes", session, &self.key).unwrap();
        let whose = (&self.key, None);
        let call = run::run(&self.servers.shared, &server, whose, invocation(key));
        match patient(call).await.unwrap().0 {
            Delta::ToolResult { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until so many servers have been ended.
    async fn ended(&self, count: usize) {
        let gone = Arc::clone(&self.fakes.gone);
        patient(async {
            while gone.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

fn says(word: &'static str) -> Behaviour {
    Box::new(move |_| text(word))
}

#[tokio::test]
async fn a_turn_keeps_the_server_of_its_beginning_and_the_next_gets_the_new_one() {
    let clock = standing();
    let bench = bench(Arc::clone(&clock), vec![says("old"), says("new")]);
    let (first, second) = (session(&clock), session(&clock));
    let kept = bench.servers.keep(&first);
    assert_eq!(bench.call_of(Some(&first), "1").await, "old");
    bench.servers.replace(vec![notes("another")]);
    let next = bench.servers.keep(&second);
    assert_eq!(bench.call_of(Some(&second), "2").await, "new");
    assert_eq!(bench.call_of(Some(&first), "3").await, "old");
    assert_eq!(bench.call_of(None, "4").await, "new");
    assert_eq!((bench.started(), bench.fakes.gone.load(Ordering::SeqCst)), (2, 0));
    drop(kept);
    bench.ended(1).await;
    assert_eq!(bench.call_of(Some(&second), "5").await, "new");
    drop(next);
    assert_eq!(bench.call_of(None, "6").await, "new");
    assert_eq!(bench.started(), 2);
}

#[tokio::test]
async fn a_running_call_ends_well_on_a_server_that_is_gone() {
    let clock = standing();
    let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asking, going) = (Arc::clone(&asked), Arc::clone(&go));
    let slow: Behaviour = Box::new(move |_| {
        asking.fetch_add(1, Ordering::SeqCst);
        while going.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        text("late")
    });
    let bench = Arc::new(bench(clock, vec![slow]));
    let calling = {
        let bench = Arc::clone(&bench);
        std::thread::spawn(move || {
            while asked.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            bench.servers.replace(Vec::new());
            let gone = bench.fakes.gone.load(Ordering::SeqCst);
            go.store(1, Ordering::SeqCst);
            gone
        })
    };
    assert_eq!(bench.call_of(None, "1").await, "late");
    assert_eq!(calling.join().unwrap(), 0);
    bench.ended(1).await;
    let failure = bench.servers.allowed("notes", &bench.key).unwrap_err();
    assert_eq!(failure.code, ErrorCode::PermissionDenied);
}

#[tokio::test]
async fn a_turn_that_never_ends_keeps_no_server_for_ever() {
    let clock = Arc::new(FakeClock::new(Timestamp::from_millis(0)));
    let shared: SharedClock = Arc::clone(&clock) as _;
    let bench = bench(Arc::clone(&shared), vec![good()]);
    let open = session(&shared);
    let _kept = bench.servers.keep(&open);
    bench.call_of(Some(&open), "1").await;
    bench.servers.replace(vec![notes("another")]);
    assert_eq!(bench.program_of(Some(&open)).unwrap(), "notes");
    // The process may end for idleness too: what is asked for is what counts.
    patient(async {
        while bench.program_of(Some(&open)).unwrap() == "notes" {
            clock.advance(RETIRED_MAX / 10);
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(bench.program_of(Some(&open)).unwrap(), "another");
    bench.ended(1).await;
}

#[tokio::test]
async fn who_may_use_a_server_is_as_it_is_said_now_and_no_process_ends_for_it() {
    let clock = standing();
    let mut bench = bench(Arc::clone(&clock), vec![good()]);
    bench.key.role = Role::Member;
    let open_to = |keys: &[&str]| ToolServer {
        keys: Some(keys.iter().map(|key| (*key).to_owned()).collect()),
        ..notes("notes")
    };
    bench.servers.replace(vec![open_to(&["ci"])]);
    let open = session(&clock);
    let _kept = bench.servers.keep(&open);
    bench.call_of(Some(&open), "1").await;
    bench.servers.replace(vec![open_to(&["other"])]);
    let configured = &bench.servers.shared.configured;
    let failure = configured.allowed("notes", Some(&open), &bench.key).unwrap_err();
    assert_eq!(failure.code, ErrorCode::PermissionDenied);
    bench.servers.replace(vec![open_to(&["ci"])]);
    bench.call_of(Some(&open), "2").await;
    assert_eq!((bench.started(), bench.fakes.gone.load(Ordering::SeqCst)), (1, 0));
}
