//! The faults over real sockets, and a log of what clients did.
//!
//! Each request has two lines in the log, one when it came and one when its answer was over, with
//! who ended it: a test can judge how many attempts there were, how far apart, and whether a client
//! that gave up closed its connection. It waits in real time, scaled: what it tests is a program
//! that does.
#![expect(
    clippy::disallowed_methods,
    reason = "a program that plays a provider in real time, and writes its log as it goes"
)]

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::answers::{Api, WORDS};
use super::script::{Asked, Before, Role, Script, Step, script};
use crate::provider::{Request, read_request};

/// Names whose past is kept; beyond, all is forgotten.
const NAMES_MAX: usize = 65_536;

/// How the provider runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The port on the loopback; 0 = a free one.
    pub port: u16,
    /// Where the log goes.
    pub log: PathBuf,
    /// Made when requests are served: a JSON object with `base_url`.
    pub ready_file: PathBuf,
    /// What every duration is multiplied by.
    pub scale: f64,
}

/// Serves until the process ends.
///
/// # Errors
/// The listener, the log or the ready file can't be made.
pub async fn run(options: Options) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let log = OpenOptions::new().create(true).append(true).open(&options.log)?;
    let shared = Arc::new(Shared {
        log: Mutex::new(log),
        began: Instant::now(),
        names: Mutex::default(),
        next: AtomicU64::new(0),
        scale: options.scale,
    });
    write_ready(&options.ready_file, &json!({ "base_url": url, "pid": std::process::id() }))?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // A connection that breaks is what this is about.
            let _ended = serve(stream, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// In one step, so that nobody reads half of it.
fn write_ready(path: &Path, ready: &Value) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    std::fs::write(&beside, ready.to_string())?;
    std::fs::rename(beside, path)
}

struct Shared {
    log: Mutex<File>,
    began: Instant,
    /// What each name in each format has met so far.
    names: Mutex<HashMap<(&'static str, String), Met>>,
    next: AtomicU64,
    scale: f64,
}

/// Requests for one name at the primary.
struct Met {
    requests: u64,
    first: Instant,
}

impl Shared {
    /// Writes a line of the log.
    fn write(&self, mut line: Value) -> io::Result<()> {
        line["at_ms"] = json!(self.began.elapsed().as_secs_f64() * 1_000.0);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(log, "{line}")
    }

    /// What was before, with this request counted for the next.
    fn before(&self, asked: &Asked) -> Before {
        if asked.role == Role::Fallback {
            return Before { requests: 0, since_first: Duration::ZERO };
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        let now = Instant::now();
        let name = (asked.api.name(), asked.model.clone());
        let met = names.entry(name).or_insert(Met { requests: 0, first: now });
        let since_first = now.duration_since(met.first).div_f64(self.scale);
        let before = Before { requests: met.requests, since_first };
        met.requests += 1;
        before
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, 0).await? {
        let Some(asked) = asked(&request) else {
            let body = r#"{"error":{"message":"no such path"}}"#;
            let head = format!("HTTP/1.1 404 Fault\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await?;
            continue;
        };
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        let script = script(&asked, shared.before(&asked), shared.scale);
        shared.write(line_of(id, &request, &asked))?;
        let mut sent = 0;
        let played = play(&mut stream, &script, shared.scale, &mut sent).await;
        let how = match &played {
            Ok(End::Whole) => "whole",
            Ok(End::Closed) => "closed",
            Ok(End::ClientLeft) | Err(_) => "client_left",
        };
        let status = script.status;
        shared.write(
            json!({ "event": "end", "id": id, "how": how, "bytes": sent, "status": status }),
        )?;
        if !matches!(played, Ok(End::Whole)) {
            return Ok(());
        }
    }
    Ok(())
}

/// How an answer ended.
enum End {
    /// All of it was sent, and the connection stays.
    Whole,
    /// It was cut here, as the fault says.
    Closed,
    /// The client closed the connection.
    ClientLeft,
}

async fn play(
    stream: &mut TcpStream,
    script: &Script,
    scale: f64,
    sent: &mut usize,
) -> io::Result<End> {
    for step in &script.steps {
        match step {
            Step::Send(bytes) => {
                stream.write_all(bytes).await?;
                *sent += bytes.len();
            }
            Step::Wait(time) => {
                let waited = tokio::time::sleep(time.mul_f64(scale));
                tokio::select! {
                    () = waited => {}
                    () = gone(stream) => return Ok(End::ClientLeft),
                }
            }
            Step::Hang => {
                gone(stream).await;
                return Ok(End::ClientLeft);
            }
            Step::Close => return Ok(End::Closed),
            Step::Reset => {
                stream.set_zero_linger()?;
                return Ok(End::Closed);
            }
        }
    }
    Ok(End::Whole)
}

/// Ends when the client has closed the connection. A client that sends more without waiting for its
/// answer is not known here to go.
async fn gone(stream: &TcpStream) {
    let mut byte = [0u8; 1];
    match stream.peek(&mut byte).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// What a request asks for; `None` if its path is none of ours.
fn asked(request: &Request) -> Option<Asked> {
    let path = request.line.strip_prefix("POST ")?;
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let (role, path) = path.strip_prefix('/')?.split_once('/')?;
    let role = match role {
        "primary" => Role::Primary,
        "fallback" => Role::Fallback,
        _ => return None,
    };
    let body = request.json();
    let in_body = |api, turns: &str| {
        let last = body[turns].as_array().and_then(|turns| turns.last());
        Asked {
            role,
            api,
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            stream: body["stream"] == true,
            usage_asked: body["stream_options"]["include_usage"] == true,
            said: words_of(last),
            prefilled: last
                .is_some_and(|last| last["role"] == "assistant" || last["role"] == "model"),
        }
    };
    if path.ends_with("/chat/completions") {
        return Some(in_body(Api::Chat, "messages"));
    }
    if path.ends_with("/messages") {
        return Some(in_body(Api::Messages, "messages"));
    }
    if path.ends_with("/responses") {
        return Some(in_body(Api::Responses, "input"));
    }
    let (model, operation) = path.split_once("/models/")?.1.rsplit_once(':')?;
    let stream = match operation {
        "generateContent" => false,
        "streamGenerateContent" => true,
        _ => return None,
    };
    Some(Asked { model: model.to_owned(), stream, ..in_body(Api::Gemini, "contents") })
}

/// Words at the conversation's end that are the assistant's.
fn words_of(last: Option<&Value>) -> usize {
    let Some(last) = last.filter(|last| last["role"] == "assistant") else { return 0 };
    let blocks = last["content"].as_array().into_iter().flatten();
    let text: String = blocks.filter_map(|block| block["text"].as_str()).collect();
    let text = last["content"].as_str().map_or(text, str::to_owned);
    text.split_whitespace().count().min(WORDS)
}

/// The line of a request that came.
fn line_of(id: u64, request: &Request, asked: &Asked) -> Value {
    let said = |value: Option<&str>| value.map_or(Value::Null, Value::from);
    json!({
        "event": "request",
        "id": id,
        "role": asked.role.name(),
        "api": asked.api.name(),
        "model": asked.model,
        "stream": asked.stream,
        "call": said(request.header("x-client-request-id")),
        "attempt": said(request.header("holdfast-attempt")),
        "body": String::from_utf8_lossy(&request.body),
    })
}
