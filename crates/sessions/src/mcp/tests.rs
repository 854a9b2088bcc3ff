//! Tool servers that behave badly, in this process: each is a pair of pipes and what it says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use types::Ids;
use types::Timestamp;
use types::call::ToolInvocation;
use types::clock::{Clock as _, FakeClock};
use types::error::Billed;
use types::ids::KeyId;
use types::launch::{Child, ChildSpec, LaunchError};
use types::outcome::{Delta, Finish};
use types::principal::{DEFAULT_ACCOUNT, Role};

use super::*;

mod replaced;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes in a pipe of the fake servers.
const PIPE_BYTES: usize = 64 * 1024;

/// What a fake server does about a request.
enum Say {
    /// This result.
    Result(Value),
    /// This line, as it is.
    Line(String),
    /// Nothing, ever.
    Nothing,
    /// It ends.
    End,
}

type Behaviour = Box<dyn FnMut(&Value) -> Say + Send>;

/// Starts fake servers, each as it was told to be.
#[derive(Default)]
struct Fakes {
    behaviours: Mutex<VecDeque<Behaviour>>,
    started: AtomicUsize,
    /// The idempotency keys of the calls that reached a server.
    called: Arc<Mutex<Vec<String>>>,
    /// Makes the server that was started last close the pipe that it reads.
    deaf: Mutex<CancellationToken>,
    /// Servers that have closed it, or were killed.
    gone: Arc<AtomicUsize>,
    /// Cancelled when the server that was started last has been killed.
    killed: Mutex<CancellationToken>,
    tracker: TaskTracker,
}

impl std::fmt::Debug for Fakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fakes")
    }
}

impl Launch for Fakes {
    fn launch(&self, spec: ChildSpec) -> Result<Child, LaunchError> {
        let Some(behaviour) = self.behaviours.lock().unwrap().pop_front() else {
            return Err(LaunchError { name: spec.name, source: std::io::Error::other("no more") });
        };
        self.started.fetch_add(1, Ordering::SeqCst);
        let (stdin, input) = tokio::io::duplex(PIPE_BYTES);
        let (output, stdout) = tokio::io::duplex(PIPE_BYTES);
        let (alive, deaf) = (CancellationToken::new(), CancellationToken::new());
        *self.killed.lock().unwrap() = alive.clone();
        *self.deaf.lock().unwrap() = deaf.clone();
        let killed = alive.clone();
        let (called, gone) = (Arc::clone(&self.called), Arc::clone(&self.gone));
        self.tracker.spawn(async move {
            tokio::select! {
                output = serve(behaviour, input, output, called, deaf) => {
                    gone.fetch_add(1, Ordering::SeqCst);
                    killed.cancelled().await;
                    drop(output);
                }
                () = killed.cancelled() => {}
            }
            gone.fetch_add(1, Ordering::SeqCst);
        });
        Ok(Child {
            guard_pid: 1,
            stdin: Some(Box::pin(stdin)),
            stdout: Some(Box::pin(stdout)),
            exited: Box::pin(std::future::pending()),
            alive: Box::new(alive.drop_guard()),
        })
    }
}

async fn serve(
    mut behaviour: Behaviour,
    input: DuplexStream,
    mut output: DuplexStream,
    called: Arc<Mutex<Vec<String>>>,
    deaf: CancellationToken,
) -> Option<DuplexStream> {
    let mut lines = BufReader::new(input).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            // It reads nothing any more, and is there still.
            () = deaf.cancelled() => return Some(output),
        };
        let Ok(Some(line)) = line else { return None };
        let request: Value = serde_json::from_str(&line).unwrap();
        let Some(id) = request.get("id").cloned() else { continue };
        let key = &request["params"]["_meta"][KEY];
        called.lock().unwrap().extend(key.as_str().map(str::to_owned));
        let said = match request["method"].as_str().unwrap() {
            "initialize" => Say::Result(json!({
                "protocolVersion": request["params"]["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "fake", "version": "1" },
            })),
            _ => behaviour(&request),
        };
        let line = match said {
            Say::Result(result) => answer(&id, &result),
            Say::Line(line) => line,
            Say::Nothing => continue,
            Say::End => return None,
        };
        output.write_all(line.as_bytes()).await.unwrap();
        output.write_all(b"\n").await.unwrap();
    }
}

const KEY: &str = "dev.holdfast/idempotency-key";

fn answer(id: &Value, result: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
}

fn text(text: &str) -> Say {
    Say::Result(json!({ "content": [{ "type": "text", "text": text }] }))
}

/// A server that answers every call.
fn good() -> Behaviour {
    Box::new(|_| text("done"))
}

struct Bench {
    fakes: Arc<Fakes>,
    servers: ToolServers,
    key: Principal,
    _folder: tempfile::TempDir,
}

fn bench(clock: SharedClock, behaviours: Vec<Behaviour>) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let fakes = Arc::new(Fakes { behaviours: Mutex::new(behaviours.into()), ..Fakes::default() });
    let key = Principal {
        account: DEFAULT_ACCOUNT.into(),
        key: KeyId::new(&Ids::new(Arc::clone(&clock))),
        key_name: "ci".into(),
        user: "ada".into(),
        role: Role::Admin,
        output_cap_default: None,
    };
    let server = ToolServer {
        name: "notes".to_owned(),
        command: vec!["notes".to_owned()],
        ..ToolServer::default()
    };
    let servers = ToolServers::new(ToolServersParts {
        servers: vec![server],
        launch: Arc::clone(&fakes) as _,
        data: folder.path().to_owned(),
        clock,
        tracker: fakes.tracker.clone(),
        shutdown: CancellationToken::new(),
    });
    Bench { fakes, servers, key, _folder: folder }
}

fn standing() -> SharedClock {
    // No timeout of a call or a list ever passes.
    Arc::new(FakeClock::new(Timestamp::from_millis(0)))
}

#[expect(clippy::disallowed_methods, reason = "a test that hangs must end")]
async fn patient<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("it took too long")
}

fn invocation(key: &str) -> ToolInvocation {
    ToolInvocation {
        server: "notes".to_owned(),
        tool: "add_note".to_owned(),
        arguments: json!({ "text": "once" }),
        idempotency_key: key.to_owned(),
    }
}

impl Bench {
    async fn call(&self, key: &str) -> Result<(Delta, Finish), Failure> {
        let server = self.servers.server("notes").unwrap();
        let whose = (&self.key, None);
        patient(run::run(&self.servers.shared, &server, whose, invocation(key))).await
    }

    async fn result(&self, key: &str) -> (String, bool, Value) {
        let (delta, _) = self.call(key).await.unwrap();
        let Delta::ToolResult { text, is_error, raw } = delta else { panic!("{delta:?}") };
        (text, is_error, raw)
    }

    fn called(&self) -> Vec<String> {
        self.fakes.called.lock().unwrap().clone()
    }

    fn started(&self) -> usize {
        self.fakes.started.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_refusal_of_the_protocol_is_cut_as_a_result_is() {
    let refusing: Behaviour = Box::new(|request| {
        let error = json!({ "code": -32602, "message": "é".repeat(RESULT_BYTES_MAX) });
        Say::Line(json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }).to_string())
    });
    let bench = bench(standing(), vec![refusing]);
    let (text, is_error, raw) = bench.result("step_1").await;
    assert!(is_error);
    assert!(text.len() < RESULT_BYTES_MAX + 100 && text.ends_with("more than 1 MiB]"));
    assert_eq!(raw["error"]["message"], text.as_str());
    assert_eq!(refusal_code(&raw), Some(-32602));
}

#[tokio::test]
async fn a_result_that_says_error_is_no_refusal() {
    let failing: Behaviour = Box::new(|_| {
        Say::Result(json!({ "content": [{ "type": "text", "text": "full" }], "isError": true }))
    });
    let bench = bench(standing(), vec![failing]);
    let (text, is_error, raw) = bench.result("step_1").await;
    assert_eq!((text.as_str(), is_error, refusal_code(&raw)), ("full", true, None));
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_known_at_once() {
    // The clock stands still: waiting for the timeout would never end. The id comes last, as some
    // servers write it, and the next call finds the same process in order.
    let mut calls = 0;
    let long: Behaviour = Box::new(move |request| {
        calls += 1;
        if calls > 1 {
            return text("short");
        }
        let (long, id) = ("x".repeat(wire::LINE_BYTES_MAX), &request["id"]);
        Say::Line(format!(
            r#"{{"result":{{"content":[{{"type":"text","text":"{long}"}}]}},"jsonrpc":"2.0","id":{id}}}"#
        ))
    });
    let bench = bench(standing(), vec![long]);
    let (text, is_error, _) = bench.result("step_1").await;
    assert!(is_error && text.contains("longer than 16 MiB"), "{text}");
    assert_eq!(bench.result("step_2").await.0, "short");
    assert_eq!((bench.started(), bench.called().len()), (1, 2));
}

#[tokio::test]
async fn a_long_notification_ends_no_call() {
    let chatty: Behaviour = Box::new(|request| {
        let (long, id) = ("x".repeat(wire::LINE_BYTES_MAX), &request["id"]);
        let notification = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"id":{id},"data":"{long}"}}}}"#
        );
        let result = json!({ "content": [{ "type": "text", "text": "done" }] });
        Say::Line(format!("{notification}\n{}", answer(id, &result)))
    });
    let bench = bench(standing(), vec![chatty]);
    assert_eq!(bench.result("step_1").await.0, "done");
}

fn tool_of(bytes: usize) -> Value {
    json!({ "name": "t", "description": "d".repeat(bytes), "inputSchema": { "type": "object" } })
}

async fn listed(behaviour: Behaviour) -> Result<Vec<Tool>, Failure> {
    let bench = bench(standing(), vec![behaviour]);
    patient(Box::pin(bench.servers.list("notes", &bench.key))).await
}

#[tokio::test]
async fn a_list_of_tools_has_limits() {
    let endless: Behaviour =
        Box::new(|_| Say::Result(json!({ "tools": [tool_of(1)], "nextCursor": "more" })));
    let heavy: Behaviour = Box::new(|_| Say::Result(json!({ "tools": [tool_of(LIST_BYTES_MAX)] })));
    let many: Behaviour =
        Box::new(|_| Say::Result(json!({ "tools": vec![tool_of(1); TOOLS_MAX + 1] })));
    for (behaviour, limit) in [(endless, "64 pages"), (heavy, "1048576 bytes"), (many, "512 tools")]
    {
        let failure = Box::pin(listed(behaviour)).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::ToolFailed);
        let wanted = format!("the tool server \"notes\" lists more than the limit of {limit}");
        assert_eq!(failure.message, wanted);
    }
}

#[tokio::test]
async fn a_list_may_come_in_pages() {
    let paged: Behaviour = Box::new(|request| match request["params"]["cursor"].as_str() {
        None => Say::Result(json!({ "tools": [tool_of(1)], "nextCursor": "2" })),
        Some(_) => Say::Result(json!({ "tools": [tool_of(2)] })),
    });
    assert_eq!(Box::pin(listed(paged)).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_list_that_nobody_waits_for_any_more_keeps_no_process() {
    let clock = Arc::new(FakeClock::new(Timestamp::from_millis(0)));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let silent: Behaviour = Box::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Say::Nothing
    });
    let bench = bench(Arc::clone(&clock) as _, vec![silent]);
    let mut list = Box::pin(bench.servers.list("notes", &bench.key));
    patient(async {
        while asked.load(Ordering::SeqCst) == 0 {
            assert!(futures_util::poll!(&mut list).is_pending());
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(list);
    let killed = bench.fakes.killed.lock().unwrap().clone();
    patient(async {
        while !killed.is_cancelled() {
            clock.advance(IDLE_MAX);
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_call_that_never_left_is_made_by_the_next_process() {
    // The first process reads nothing any more, and its end has not been noticed.
    let bench = bench(standing(), vec![good(), good()]);
    assert_eq!(bench.result("step_1").await.0, "done");
    bench.fakes.deaf.lock().unwrap().cancel();
    is_gone(&bench).await;
    assert_eq!(bench.result("step_2").await.0, "done");
    assert_eq!(bench.started(), 2);
    assert_eq!(bench.called(), ["step_1", "step_2"], "each reached one process, once");
}

#[tokio::test]
async fn a_process_that_ended_between_calls_is_replaced() {
    let mut calls = 0;
    let dying: Behaviour = Box::new(move |_| {
        calls += 1;
        if calls == 1 { text("done") } else { Say::End }
    });
    let bench = bench(standing(), vec![dying, good()]);
    assert_eq!(bench.result("step_1").await.0, "done");
    bench.fakes.killed.lock().unwrap().cancel();
    is_gone(&bench).await;
    assert_eq!(bench.result("step_2").await.0, "done");
    assert_eq!((bench.started(), bench.called()), (2, vec!["step_1".into(), "step_2".into()]));
}

#[tokio::test]
async fn a_call_that_left_is_never_made_again() {
    // The server reads the call and ends: whether it had its effect is not known.
    let bench = bench(standing(), vec![Box::new(|_| Say::End), good()]);
    let failure = bench.call("step_1").await.unwrap_err();
    assert_eq!((failure.code, failure.billed), (ErrorCode::ToolFailed, Billed::Unknown));
    assert_eq!((bench.started(), bench.called()), (1, vec!["step_1".to_owned()]));
}

#[tokio::test]
async fn a_call_that_no_process_takes_was_not_made() {
    let bench = bench(standing(), vec![good()]);
    assert_eq!(bench.result("step_1").await.0, "done");
    bench.fakes.deaf.lock().unwrap().cancel();
    is_gone(&bench).await;
    let failure = bench.call("step_2").await.unwrap_err();
    assert_eq!(failure.billed, Billed::No);
    assert_eq!(bench.called(), ["step_1"]);
}

/// Waits until a server is gone, or does not listen.
async fn is_gone(bench: &Bench) {
    patient(async {
        while bench.fakes.gone.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_has_64_pages_at_most_however_little_they_hold() {
    // No page has a tool, so that no other limit is near.
    for (pages, fits) in [(LIST_PAGES_MAX, true), (LIST_PAGES_MAX + 1, false)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let empty: Behaviour = Box::new(move |_| {
            let page = count.fetch_add(1, Ordering::SeqCst) + 1;
            let next = (page < pages).then(|| page.to_string());
            Say::Result(json!({ "tools": [], "nextCursor": next }))
        });
        let tools = Box::pin(listed(empty)).await;
        assert_eq!(tools.is_ok(), fits);
        assert_eq!(asked.load(Ordering::SeqCst), LIST_PAGES_MAX, "no page is asked for in vain");
        if let Err(failure) = tools {
            assert!(failure.message.ends_with("the limit of 64 pages"), "{}", failure.message);
        }
    }
}

/// The process that runs, or ran last.
async fn process_of(bench: &Bench) -> Arc<Process> {
    let slot = bench.servers.shared.slots.lock().unwrap().values().next().unwrap().clone();
    let running = slot.lock().await;
    Arc::clone(running.as_ref().unwrap())
}

#[tokio::test]
async fn a_call_that_comes_while_an_idle_process_is_ended_gets_another_one() {
    let clock = Arc::new(FakeClock::new(Timestamp::from_millis(0)));
    let bench = bench(Arc::clone(&clock) as _, vec![good(), good()]);
    assert_eq!(bench.result("step_1").await.0, "done");
    let idle = process_of(&bench).await;
    clock.advance(IDLE_MAX);
    // It is taken from whoever comes next, and has not been told to end yet.
    assert!(idle.retire(&*clock));
    assert!(!idle.ended.is_cancelled());
    let call = bench.call("step_2").await;
    assert!(call.is_ok(), "{call:?}");
    assert_eq!((bench.started(), bench.called()), (2, vec!["step_1".into(), "step_2".into()]));
    assert!(!Arc::ptr_eq(&idle, &process_of(&bench).await));
    assert!(!idle.retire(&*clock), "it is taken once");
}

#[tokio::test]
async fn a_process_that_a_call_has_taken_is_not_ended_for_idleness() {
    let clock: Arc<FakeClock> = Arc::new(FakeClock::new(Timestamp::from_millis(0)));
    let shared_clock: SharedClock = Arc::clone(&clock) as _;
    let bench = bench(Arc::clone(&shared_clock), vec![good()]);
    assert_eq!(bench.result("step_1").await.0, "done");
    let process = process_of(&bench).await;
    clock.advance(IDLE_MAX);
    let in_use = process.begin_use(&shared_clock).unwrap();
    assert!(!process.retire(&*clock), "it is in use");
    drop(in_use);
    assert!(!process.retire(&*clock), "it was in use just now");
    clock.advance(IDLE_MAX);
    assert!(process.retire(&*clock));
}

impl Bench {
    async fn call_until(&self, key: &str, deadline: Duration) -> Result<(Delta, Finish), Failure> {
        let server = self.servers.server("notes").unwrap();
        let whose = (&self.key, Some(deadline));
        patient(run::run(&self.servers.shared, &server, whose, invocation(key))).await
    }
}

#[tokio::test]
async fn a_call_ends_when_the_time_of_its_turn_is_over_though_its_server_has_more() {
    let clock = Arc::new(FakeClock::new(Timestamp::from_millis(0)));
    let bench = bench(Arc::clone(&clock) as _, vec![Box::new(|_| Say::Nothing)]);
    let deadline = Duration::from_secs(3);
    assert!(deadline < CALL_TIMEOUT_DEFAULT);
    let mut call = Box::pin(bench.call_until("step_1", deadline));
    patient(async {
        while bench.called().is_empty() {
            assert!(futures_util::poll!(&mut call).is_pending());
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(futures_util::poll!(&mut call).is_pending(), "it has its time");
    clock.advance(deadline);
    let failure = call.await.unwrap_err();
    // Whether it had its effect is not known: that is what puts its step in doubt.
    assert_eq!((failure.code, failure.billed), (ErrorCode::UpstreamTimeout, Billed::Unknown));
    assert!(failure.message.ends_with("did not answer before the call's time was over"));
}

#[tokio::test]
async fn a_call_whose_time_is_over_before_it_is_sent_is_not_made() {
    let clock = Arc::new(FakeClock::new(Timestamp::from_millis(0)));
    let bench = bench(Arc::clone(&clock) as _, vec![good()]);
    clock.advance(Duration::from_secs(5));
    let failure = bench.call_until("step_1", Duration::from_secs(4)).await.unwrap_err();
    assert_eq!((failure.code, failure.billed), (ErrorCode::UpstreamTimeout, Billed::No));
    assert!(bench.called().is_empty());
}

/// Starts what writes this, and then ends so, or stays and says nothing.
#[derive(Debug)]
struct Broken {
    writes: &'static str,
    ends: Option<&'static str>,
    started: Arc<AtomicUsize>,
}

impl Launch for Broken {
    fn launch(&self, spec: ChildSpec) -> Result<Child, LaunchError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        if self.writes == "refused" {
            let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            return Err(LaunchError { name: spec.name, source });
        }
        let (stdin, input) = tokio::io::duplex(PIPE_BYTES);
        let (mut output, stdout) = tokio::io::duplex(PIPE_BYTES);
        let (writes, ends) = (self.writes, self.ends);
        let alive: Box<dyn Send + Sync> = match ends {
            Some(_) => Box::new(()),
            None => Box::new(input),
        };
        let (kept, keeps) = tokio::sync::oneshot::channel();
        let written = async move {
            output.write_all(writes.as_bytes()).await.unwrap();
            if ends.is_none() {
                kept.send(output).unwrap();
            }
        };
        futures_util::FutureExt::now_or_never(written).unwrap();
        Ok(Child {
            guard_pid: 1,
            stdin: Some(Box::pin(stdin)),
            stdout: Some(Box::pin(stdout)),
            exited: Box::pin(async move {
                match ends {
                    Some(how) => how.to_owned(),
                    None => std::future::pending().await,
                }
            }),
            alive: Box::new((alive, keeps)),
        })
    }
}

/// What is said of a server that does not begin to work.
async fn not_begun(writes: &'static str, ends: Option<&'static str>) -> String {
    let clock = Arc::new(FakeClock::new(Timestamp::from_millis(0)));
    let mut bench = bench(Arc::clone(&clock) as _, Vec::new());
    let shared = Arc::get_mut(&mut bench.servers.shared).unwrap();
    let started = Arc::new(AtomicUsize::new(0));
    shared.launch = Arc::new(Broken { writes, ends, started: Arc::clone(&started) });
    let mut list = Box::pin(bench.servers.list("notes", &bench.key));
    let failure = patient(async {
        loop {
            match futures_util::poll!(&mut list) {
                std::task::Poll::Ready(listed) => return listed.unwrap_err(),
                // Its folder is made by a thread for which this time does not exist.
                std::task::Poll::Pending if started.load(Ordering::SeqCst) == 0 => {}
                // It is known long before the time to start is over.
                std::task::Poll::Pending => clock.advance(Duration::from_millis(1)),
            }
            tokio::task::yield_now().await;
            assert!(clock.monotonic() < START_MAX / 2);
        }
    })
    .await;
    assert_eq!(failure.code, ErrorCode::ToolFailed);
    failure.message
}

#[tokio::test]
async fn a_server_that_does_not_begin_says_why() {
    let message = not_begun("", Some("exit status: 127")).await;
    assert!(message.contains("could not be started: there is no program \"notes\""), "{message}");
    let message = not_begun("", Some("exit status: 2")).await;
    assert!(
        message.contains("ended before it answered `initialize` (exit status: 2)"),
        "{message}"
    );
    let message = not_begun("refused", None).await;
    assert!(message.contains("could not be started: \"notes\": permission denied"), "{message}");
    let message = not_begun("Listening on port 8000\n", None).await;
    let told = message.contains("not JSON") && message.contains("\"Listening on port 8000\"");
    assert!(told, "{message}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_from_one_that_is_not_allowed() {
    let bench = bench(standing(), Vec::new());
    let member = Principal { role: Role::Member, ..bench.key.clone() };
    let missing = bench.servers.allowed("typo", &member).unwrap_err();
    assert!(missing.message.starts_with("no tool server \"typo\" is configured"));
    let denied = bench.servers.allowed("notes", &member).unwrap_err();
    assert!(denied.message.contains("not configured for the key \"ci\""));
    assert_eq!((missing.code, denied.code), (denied.code, ErrorCode::PermissionDenied));
}
