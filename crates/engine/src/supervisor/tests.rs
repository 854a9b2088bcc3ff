mod vectors;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::{FutureExt, StreamExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use types::clock::FakeClock;
use types::launch::{Child as Launched, ChildSpec, LaunchError};

use super::*;
use crate::protocol::codec::{read_async, write_async};
use crate::protocol::{FromEngine, Hello, PROTOCOL, Piece, ToEngine, WINDOW_MAX};

/// What a fake child does with its socket.
type Play = Box<dyn FnOnce(UnixStream) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// "Starts" children that are tasks of the test.
#[derive(Default)]
struct FakeLaunch {
    plays: Mutex<VecDeque<Play>>,
    started: AtomicU32,
    tasks: TaskTracker,
}

impl std::fmt::Debug for FakeLaunch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeLaunch")
    }
}

impl FakeLaunch {
    fn next<F, R>(&self, play: F)
    where
        F: FnOnce(UnixStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let play: Play = Box::new(move |stream| Box::pin(play(stream)));
        self.plays.lock().unwrap().push_back(play);
    }

    fn started(&self) -> u32 {
        self.started.load(Ordering::SeqCst)
    }
}

impl Launch for FakeLaunch {
    fn launch(&self, spec: ChildSpec) -> Result<Launched, LaunchError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let Some(play) = self.plays.lock().unwrap().pop_front() else {
            let source = std::io::Error::other("no such program");
            return Err(LaunchError { name: spec.name, source });
        };
        let at = spec.args.iter().position(|argument| argument == "--socket").unwrap();
        let socket = PathBuf::from(&spec.args[at + 1]);
        let (ended, exited) = oneshot::channel::<()>();
        let (alive, killed) = oneshot::channel::<()>();
        self.tasks.spawn(async move {
            let stream = UnixStream::connect(socket).await.unwrap();
            tokio::select! {
                () = play(stream) => {}
                _ = killed => {}
            }
            drop(ended);
        });
        Ok(Launched {
            guard_pid: 1,
            stdin: None,
            stdout: None,
            exited: Box::pin(async move {
                drop(exited.await);
                "ended".to_owned()
            }),
            alive: Box::new(alive),
        })
    }
}

struct World {
    launch: Arc<FakeLaunch>,
    clock: Arc<FakeClock>,
    engines: Engines,
    engine: Arc<Engine>,
    _folder: tempfile::TempDir,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let launch = Arc::new(FakeLaunch::default());
    let clock = Arc::new(FakeClock::new(types::Timestamp(0)));
    let options = Options { socket_folder: folder.path().to_owned(), ..Options::default() };
    let engines = Engines::new(options, Arc::clone(&launch) as _, Arc::clone(&clock) as _);
    let engine = engines.engine(&model());
    World { launch, clock, engines, engine, _folder: folder }
}

fn model() -> ModelFile {
    ModelFile {
        path: PathBuf::from("/models/x.gguf"),
        size_bytes: 1,
        sha256: "ab".repeat(32),
        task: crate::Task::Generate,
        architecture: "llama".to_owned(),
        name: None,
        context_length: None,
        template_sha256: None,
    }
}

async fn hello(stream: &mut UnixStream, protocol: u32) {
    let model = LoadedModel {
        sha256: model().sha256,
        arch: "llama".to_owned(),
        context: 100,
        sequences: 8,
        token_bytes_max: 4,
        dimensions: 2,
        template_sha256: String::new(),
    };
    let hello = Hello { protocol, build: "fake".to_owned(), model };
    write_async(stream, &FromEngine::Hello(hello)).await.unwrap();
}

async fn next(stream: &mut UnixStream) -> Option<ToEngine> {
    read_async(stream).await.unwrap()
}

async fn next_generate(stream: &mut UnixStream) -> Generate {
    match next(stream).await {
        Some(ToEngine::Generate(request)) => *request,
        other => panic!("not a generate: {other:?}"),
    }
}

async fn next_ack(stream: &mut UnixStream) -> u32 {
    match next(stream).await {
        Some(ToEngine::Ack { deltas, .. }) => deltas,
        other => panic!("not an ack: {other:?}"),
    }
}

async fn text(stream: &mut UnixStream, id: u64, text: &str) {
    let piece = Piece::Text(text.to_owned());
    write_async(stream, &FromEngine::Delta { id, piece, tokens: 1 }).await.unwrap();
}

async fn done(stream: &mut UnixStream, id: u64) {
    let (stop, usage) = (crate::protocol::StopReason::End, crate::protocol::TokenUsage::default());
    write_async(stream, &FromEngine::Done { id, stop, usage }).await.unwrap();
}

/// Answers every generate with the account that asked, until the parent hangs up.
async fn echo(mut stream: UnixStream) {
    hello(&mut stream, PROTOCOL).await;
    while let Some(message) = next(&mut stream).await {
        if let ToEngine::Generate(request) = message {
            text(&mut stream, request.id, &request.account).await;
            done(&mut stream, request.id).await;
        }
    }
}

fn request(account: &str) -> Generate {
    Generate { account: account.to_owned(), ..Generate::default() }
}

async fn answer(mut generation: Generation) -> Result<String, Error> {
    let mut answer = String::new();
    while let Some(event) = generation.next().await {
        if let Event::Piece(Piece::Text(text)) = event? {
            answer.push_str(&text);
        }
    }
    Ok(answer)
}

async fn ask(engine: &Arc<Engine>, account: &str) -> Result<String, Error> {
    answer(engine.generate(request(account), None).await?).await
}

/// Ends when `happened` holds, letting the other tasks run meanwhile.
async fn until(happened: impl Fn() -> bool) {
    while !happened() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_child_serves_many_requests_and_is_started_when_first_asked() {
    let world = world();
    world.launch.next(echo);
    assert_eq!(world.launch.started(), 0);
    let (one, two) = tokio::join!(ask(&world.engine, "one"), ask(&world.engine, "two"));
    assert_eq!((one.unwrap().as_str(), two.unwrap().as_str()), ("one", "two"));
    assert_eq!(world.launch.started(), 1);
    assert!(Arc::ptr_eq(&world.engine, &world.engines.engine(&model())));
}

#[tokio::test]
async fn answers_are_sorted_by_request() {
    let world = world();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        let (a, b) = (next_generate(&mut stream).await, next_generate(&mut stream).await);
        assert_ne!(a.id, b.id);
        for request in [&b, &a, &b] {
            text(&mut stream, request.id, &request.account).await;
        }
        done(&mut stream, b.id).await;
        done(&mut stream, a.id).await;
        while next(&mut stream).await.is_some() {}
    });
    let a = world.engine.generate(request("a"), None).await.unwrap();
    let b = world.engine.generate(request("b"), None).await.unwrap();
    let (a, b) = tokio::join!(answer(a), answer(b));
    assert_eq!((a.unwrap().as_str(), b.unwrap().as_str()), ("a", "bb"));
}

#[tokio::test]
async fn whoever_has_no_time_for_a_model_that_is_being_loaded_does_not_wait() {
    let world = world();
    let (load, loaded) = oneshot::channel::<()>();
    world.launch.next(|stream| async move {
        loaded.await.unwrap();
        echo(stream).await;
    });
    let second = Duration::from_secs(1);
    let mut patient = Box::pin(world.engine.loaded(None));
    let mut hurried = Box::pin(world.engine.loaded(Some(second)));
    assert!((&mut patient).now_or_never().is_none());
    until(|| world.launch.started() == 1).await;
    assert!((&mut hurried).now_or_never().is_none());
    world.clock.advance(second);
    let error = hurried.await.unwrap_err();
    assert!(matches!(error, Error::Loading), "{error:?}");
    // It has been loading for as long as anybody would have waited.
    let error = world.engine.loaded(Some(second)).await.unwrap_err();
    assert!(matches!(error, Error::Loading), "{error:?}");
    load.send(()).unwrap();
    assert!(patient.await.is_ok());
    assert!(world.engine.loaded(Some(second)).await.is_ok());
}

#[tokio::test]
async fn whoever_may_not_queue_is_told_so() {
    let world = world();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        while next(&mut stream).await.is_some() {}
    });
    let mut running = Vec::new();
    for _ in 0..8 + 2 {
        running.push(world.engine.generate(request("a"), Some(2)).await.unwrap());
    }
    let error = world.engine.generate(request("a"), Some(2)).await.unwrap_err();
    assert!(matches!(error, Error::Busy) && error.is_retryable(), "{error:?}");
    running.push(world.engine.generate(request("a"), None).await.unwrap());
    running.truncate(2);
    world.engine.generate(request("a"), Some(0)).await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_too_large_to_be_sent_is_answered() {
    let world = world();
    world.launch.next(echo);
    let bytes = crate::protocol::codec::FRAME_BYTES_MAX as usize;
    let content = "x".repeat(bytes);
    let message = crate::protocol::ChatMessage { content, ..Default::default() };
    let large = Generate { messages: vec![message], ..request("large") };
    let error = answer(world.engine.generate(large, None).await.unwrap()).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(it) if it.code == FailureCode::InvalidRequest));
    assert_eq!(ask(&world.engine, "small").await.unwrap(), "small");
}

#[tokio::test]
async fn another_protocol_is_refused_by_name_and_not_tried_again() {
    let world = world();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, 7).await;
        while next(&mut stream).await.is_some() {}
    });
    for _ in 0..2 {
        let error = ask(&world.engine, "x").await.unwrap_err();
        assert!(matches!(error, Error::Protocol { theirs: 7, ours: PROTOCOL }), "{error:?}");
        assert!(error.to_string().contains('7') && !error.is_retryable());
    }
    assert_eq!(world.launch.started(), 1);
}

#[tokio::test]
async fn what_is_in_flight_on_a_dying_child_fails_and_the_next_is_started_at_once() {
    let world = world();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        let request = next_generate(&mut stream).await;
        text(&mut stream, request.id, "half").await;
    });
    world.launch.next(echo);
    let error = ask(&world.engine, "x").await.unwrap_err();
    assert!(matches!(error, Error::Lost) && error.is_retryable(), "{error:?}");
    assert_eq!(ask(&world.engine, "again").await.unwrap(), "again");
    assert_eq!(world.launch.started(), 2);
}

#[tokio::test]
async fn an_engine_that_no_model_has_ends_after_its_answers() {
    let world = world();
    let (finish, finished) = oneshot::channel::<()>();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        let request = next_generate(&mut stream).await;
        text(&mut stream, request.id, "half").await;
        finished.await.unwrap();
        text(&mut stream, request.id, " whole").await;
        done(&mut stream, request.id).await;
        assert!(next(&mut stream).await.is_none(), "it was asked more");
    });
    world.launch.next(echo);
    let generation = world.engine.generate(request("a"), None).await.unwrap();
    world.engines.keep_only(HashSet::new());
    for _ in 0..5 {
        world.clock.advance(RETIRE_LOOK);
        tokio::task::yield_now().await;
    }
    assert!(world.engine.is_up(), "an answer is in progress");
    finish.send(()).unwrap();
    assert_eq!(answer(generation).await.unwrap(), "half whole");
    let retired = || {
        world.clock.advance(RETIRE_LOOK);
        !world.engine.is_up()
    };
    until(retired).await;

    // A Call that found the model before it went.
    assert_eq!(ask(&world.engine, "late").await.unwrap(), "late");
    assert_eq!(world.launch.started(), 2);
    let World { clock, engines, engine, launch: _launch, .. } = world;
    drop(engine);
    let forgotten = || {
        clock.advance(RETIRE_LOOK);
        engines.keep_only(HashSet::new());
        engines.running(&model().sha256).is_none()
    };
    until(forgotten).await;
}

#[tokio::test]
async fn an_engine_whose_model_comes_back_goes_on() {
    let world = world();
    world.launch.next(echo);
    world.engine.loaded(None).await.unwrap();
    world.engines.keep_only(HashSet::new());
    world.engines.keep_only(HashSet::from([model().sha256]));
    for _ in 0..5 {
        world.clock.advance(RETIRE_LOOK);
        tokio::task::yield_now().await;
    }
    assert!(world.engine.is_up());
    assert_eq!(ask(&world.engine, "again").await.unwrap(), "again");
    assert_eq!(world.launch.started(), 1);
}

#[tokio::test]
async fn a_child_that_dies_again_is_waited_for_longer_and_longer() {
    let world = world();
    let die = Arc::new(tokio::sync::Notify::new());
    for _ in 0..3 {
        let die = Arc::clone(&die);
        world.launch.next(move |mut stream| async move {
            hello(&mut stream, PROTOCOL).await;
            die.notified().await;
        });
    }
    world.launch.next(echo);
    world.engine.loaded(None).await.unwrap();
    die.notify_one();
    // At once after the first death; then with growing waits.
    for (started, wait_ms) in [(2, 100), (3, 200)] {
        until(|| world.launch.started() == started && world.engine.is_up()).await;
        die.notify_one();
        until(|| matches!(&*world.engine.state.borrow(), State::Down { .. })).await;
        assert_eq!(world.launch.started(), started);
        match ask(&world.engine, "x").await.unwrap_err() {
            Error::Unavailable { retry_after, .. } => {
                assert_eq!(retry_after, Duration::from_millis(wait_ms));
            }
            other => panic!("{other:?}"),
        }
        world.clock.advance(Duration::from_millis(wait_ms));
    }
    assert_eq!(ask(&world.engine, "up").await.unwrap(), "up");
}

#[test]
fn waits_double_up_to_half_a_minute() {
    let waits: Vec<_> = (0..6).map(|failures| restart_wait(failures).as_millis()).collect();
    assert_eq!(waits, [0, 100, 200, 400, 800, 1_600]);
    assert_eq!(restart_wait(1_000), RESTART_LONGEST);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_unavailable_and_says_why() {
    let world = world();
    let error = ask(&world.engine, "x").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("no such program"), "{error}");
}

#[tokio::test]
async fn dropping_a_generation_cancels_it() {
    let world = world();
    let (told, cancelled) = oneshot::channel();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        let request = next_generate(&mut stream).await;
        text(&mut stream, request.id, "a").await;
        let message = next(&mut stream).await;
        told.send(message == Some(ToEngine::Cancel { id: request.id })).unwrap();
        while next(&mut stream).await.is_some() {}
    });
    let mut generation = world.engine.generate(request("x"), None).await.unwrap();
    generation.next().await.unwrap().unwrap();
    drop(generation);
    assert!(cancelled.await.unwrap());
}

#[tokio::test]
async fn deltas_are_acknowledged_as_they_are_taken() {
    let world = world();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        let request = next_generate(&mut stream).await;
        assert!((1..=WINDOW_MAX).contains(&request.window));
        let mut room = request.window;
        for _ in 0..1_000 {
            while room == 0 {
                room += next_ack(&mut stream).await;
            }
            text(&mut stream, request.id, "x").await;
            room -= 1;
        }
        done(&mut stream, request.id).await;
        while next(&mut stream).await.is_some() {}
    });
    assert_eq!(ask(&world.engine, "x").await.unwrap().len(), 1_000);
}

#[tokio::test]
async fn a_child_that_floods_is_dropped() {
    let world = world();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        let request = next_generate(&mut stream).await;
        let piece = || Piece::Text("x".to_owned());
        // Until the parent closes the socket.
        let delta = || FromEngine::Delta { id: request.id, piece: piece(), tokens: 1 };
        while write_async(&mut stream, &delta()).await.is_ok() {}
    });
    let generation = world.engine.generate(request("x"), None).await.unwrap();
    until(|| !world.engine.is_up()).await;
    assert!(matches!(answer(generation).await, Err(Error::Lost)));
}

#[tokio::test]
async fn shutdown_hangs_up_and_waits_for_the_child() {
    let world = world();
    let ended = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&ended);
    world.launch.next(move |stream| async move {
        echo(stream).await;
        counter.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(ask(&world.engine, "x").await.unwrap(), "x");
    world.engines.shutdown().await;
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    assert!(matches!(ask(&world.engine, "x").await, Err(Error::Stopping)));
}

/// Engines that keep state in a folder, and the file of a session of the model, which is there.
async fn with_state(folder: &Path) -> (Arc<FakeLaunch>, Engines, PathBuf) {
    let kv_folder = folder.join("kv");
    let launch = Arc::new(FakeLaunch::default());
    let clock = Arc::new(FakeClock::new(types::Timestamp(0)));
    let (socket_folder, kv) = (folder.to_owned(), Some(kv_folder.clone()));
    let options = Options { socket_folder, kv_folder: kv, ..Options::default() };
    let engines = Engines::new(options, Arc::clone(&launch) as _, clock);
    engines.drop_session("acc", "s").await.unwrap();
    let file = session_file::path(&kv_folder.join(model().sha256), "acc", "s");
    tokio::fs::create_dir_all(file.parent().unwrap()).await.unwrap();
    tokio::fs::write(&file, b"state").await.unwrap();
    (launch, engines, file)
}

#[tokio::test]
async fn a_dropped_session_of_an_engine_that_is_down_loses_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (_, engines, file) = with_state(folder.path()).await;
    let half_written = file.with_extension("tmp");
    tokio::fs::write(&half_written, b"sta").await.unwrap();
    engines.drop_session("other", "s").await.unwrap();
    assert!(file.exists());
    engines.drop_session("acc", "s").await.unwrap();
    assert!(!file.exists());
    assert!(!half_written.exists());
}

#[tokio::test]
async fn files_of_an_engine_that_is_alive_and_not_up_are_left_to_a_later_try() {
    let folder = tempfile::tempdir().unwrap();
    let (_, engines, file) = with_state(folder.path()).await;
    let held = tokio::fs::File::create(file.ancestors().nth(2).unwrap().join(".lock"));
    let held = held.await.unwrap().into_std().await;
    held.lock().unwrap();
    engines.drop_session("acc", "s").await.unwrap_err();
    assert!(file.exists(), "its engine might write it again");
    drop(held);
    engines.drop_session("acc", "s").await.unwrap();
    assert!(!file.exists());
}

#[tokio::test]
async fn a_session_is_dropped_by_an_engine_that_is_up_and_by_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (launch, engines, file) = with_state(folder.path()).await;
    launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        let Some(ToEngine::Drop { id, account, session }) = next(&mut stream).await else {
            panic!("not a drop");
        };
        assert_eq!((&*account, &*session), ("acc", "s"));
        write_async(&mut stream, &FromEngine::Dropped { id }).await.unwrap();
        // It ends while it has another one to drop.
        next(&mut stream).await;
    });
    engines.engine(&model()).loaded(None).await.unwrap();
    let other = file.ancestors().nth(3).unwrap().join("another model");
    let other = session_file::path(&other, "acc", "s");
    tokio::fs::create_dir_all(other.parent().unwrap()).await.unwrap();
    tokio::fs::write(&other, b"state").await.unwrap();
    engines.drop_session("acc", "s").await.unwrap();
    assert!(file.exists(), "an engine that is up deletes its own files");
    assert!(!other.exists());
    tokio::fs::write(&other, b"state").await.unwrap();
    assert!(matches!(engines.drop_session("acc", "s").await, Err(Error::Lost)));
    assert!(!other.exists(), "what can be forgotten is");
}
