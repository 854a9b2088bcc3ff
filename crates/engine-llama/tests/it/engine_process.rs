//! Starts the engine as its supervisor does, and speaks its protocol.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use engine::protocol::codec;
use engine::protocol::{
    ChatMessage, EngineFailure, FromEngine, Generate, Hello, Piece, ReusedFrom, Sampling, Stats,
    StopReason, ToEngine, TokenUsage,
};
use tempfile::TempDir;

/// A folder with a tiny random model, and place for sockets and state.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) model: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(
            "--context 2048 --width 64 --feed-forward 128 --layers 2 --heads 4 --kv-heads 2 \
             --vocab 1024",
        )
    }

    /// With another model.
    pub(crate) fn of(shape: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        let status = engine()
            .args(["make-random-model", "--out"])
            .arg(&model)
            .args(shape.split_whitespace())
            .status();
        assert!(status.unwrap().success());
        Self { folder, model }
    }

    pub(crate) fn kv_dir(&self) -> PathBuf {
        self.folder.path().join("kv")
    }

    /// Starts an engine; `extra` are further arguments.
    pub(crate) fn start(&self, extra: &[&str]) -> Engine {
        let own = tempfile::tempdir_in(self.folder.path()).unwrap();
        let socket = own.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let child = engine()
            .args(["serve", "--threads", "1", "--model"])
            .arg(&self.model)
            .arg("--socket")
            .arg(&socket)
            .arg("--kv-dir")
            .arg(self.kv_dir())
            .args(extra)
            .spawn()
            .unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut engine =
            Engine { child, stream, hello: None, next: 1, answers: HashMap::new(), _own: own };
        let Some(FromEngine::Hello(hello)) = engine.read() else { panic!("no hello") };
        engine.hello = Some(hello);
        engine
    }

    /// All state files.
    pub(crate) fn state_files(&self) -> Vec<PathBuf> {
        files_below(&self.kv_dir())
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own folder")]
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[expect(clippy::disallowed_methods, reason = "the engine is what is tested")]
fn engine() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-engine"));
    command.env("RUST_LOG", "error");
    command
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// Names and arguments.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) started: Option<(u64, u64, ReusedFrom)>,
    pub(crate) done: Option<(StopReason, TokenUsage)>,
    pub(crate) failed: Option<EngineFailure>,
    pub(crate) deltas: u32,
    tokens: u64,
}

impl Answer {
    pub(crate) fn is_over(&self) -> bool {
        self.done.is_some() || self.failed.is_some()
    }

    pub(crate) fn reused(&self) -> (u64, ReusedFrom) {
        let (_, tokens, from) = self.started.unwrap();
        (tokens, from)
    }

    pub(crate) fn stop(&self) -> StopReason {
        self.done.unwrap_or_else(|| panic!("it failed: {:?}", self.failed)).0
    }
}

/// A running engine. Dropping it kills it.
pub(crate) struct Engine {
    pub(crate) child: Child,
    pub(crate) stream: UnixStream,
    pub(crate) hello: Option<Hello>,
    next: u64,
    answers: HashMap<u64, Answer>,
    _own: TempDir,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Engine {
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or(());
        self.child.wait().unwrap();
    }

    pub(crate) fn read(&mut self) -> Option<FromEngine> {
        codec::read(&mut self.stream).unwrap()
    }

    pub(crate) fn send(&mut self, message: &ToEngine) {
        codec::write(&mut self.stream, message).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends a request without waiting; its id.
    pub(crate) fn begin(&mut self, mut request: Generate) -> u64 {
        request.id = self.next;
        self.next += 1;
        self.answers.insert(request.id, Answer::default());
        let id = request.id;
        self.send(&ToEngine::Generate(Box::new(request)));
        id
    }

    /// Takes one message, acknowledging deltas unless `hold` is its request.
    pub(crate) fn turn(&mut self, hold: Option<u64>) -> FromEngine {
        let message = self.read().unwrap_or_else(|| panic!("the engine hung up"));
        match &message {
            FromEngine::Started { id, prompt_tokens, reused_tokens, reused_from } => {
                let started = (*prompt_tokens, *reused_tokens, *reused_from);
                self.answers.get_mut(id).unwrap().started = Some(started);
            }
            FromEngine::Delta { id, piece, tokens } => {
                let answer = self.answers.get_mut(id).unwrap();
                answer.take(piece, *tokens);
                if hold != Some(*id) {
                    let ack = ToEngine::Ack { id: *id, deltas: 1 };
                    self.send(&ack);
                }
            }
            FromEngine::Done { id, stop, usage } => {
                self.answers.get_mut(id).unwrap().done = Some((*stop, *usage));
            }
            FromEngine::Failed { id, failure } => {
                self.answers.get_mut(id).unwrap().failed = Some(failure.clone());
            }
            FromEngine::Hello(_)
            | FromEngine::Flushed { .. }
            | FromEngine::Dropped { .. }
            | FromEngine::Stats { .. }
            | FromEngine::Vector { .. }
            | FromEngine::Embedded { .. } => {}
        }
        message
    }

    /// The answer so far.
    pub(crate) fn answer(&self, id: u64) -> &Answer {
        &self.answers[&id]
    }

    /// Waits for an answer.
    pub(crate) fn finish(&mut self, id: u64) -> Answer {
        while !self.answers[&id].is_over() {
            self.turn(None);
        }
        self.answers[&id].clone()
    }

    pub(crate) fn run(&mut self, request: Generate) -> Answer {
        let id = self.begin(request);
        self.finish(id)
    }

    pub(crate) fn stats(&mut self) -> Stats {
        self.send(&ToEngine::Stats { id: 1_000_000 });
        loop {
            if let FromEngine::Stats { stats, .. } = self.turn(None) {
                return stats;
            }
        }
    }

    /// Waits until every session is on disk.
    pub(crate) fn flush(&mut self) {
        self.send(&ToEngine::Flush { id: 1_000_001 });
        while !matches!(self.turn(None), FromEngine::Flushed { .. }) {}
    }

    pub(crate) fn drop_session(&mut self, account: &str, session: &str) {
        let (account, session) = (account.to_owned(), session.to_owned());
        self.send(&ToEngine::Drop { id: 1_000_002, account, session });
        while !matches!(self.turn(None), FromEngine::Dropped { .. }) {}
    }
}

impl Answer {
    fn take(&mut self, piece: &Piece, tokens: u32) {
        self.deltas += 1;
        self.tokens += u64::from(tokens);
        match piece {
            Piece::Text(text) => self.text.push_str(text),
            Piece::Reasoning(text) => panic!("reasoning: {text}"),
            Piece::ToolCall(call) => {
                let index = usize::try_from(call.index).unwrap();
                if let Some(name) = &call.name {
                    assert_eq!(index, self.calls.len());
                    self.calls.push((name.clone(), String::new()));
                }
                self.calls[index].1.push_str(&call.arguments);
            }
        }
    }
}

pub(crate) fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.to_owned(), ..ChatMessage::default() }
}

/// A greedy request of a few tokens.
pub(crate) fn greedy(content: &str) -> Generate {
    Generate {
        account: "default".to_owned(),
        messages: vec![message("user", content)],
        sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
        max_tokens: Some(12),
        window: 16,
        parallel_tool_calls: true,
        ..Generate::default()
    }
}

pub(crate) fn seeded(content: &str, seed: i64) -> Generate {
    let sampling = Sampling { seed: Some(seed), ..Sampling::default() };
    Generate { sampling, max_tokens: Some(160), ..greedy(content) }
}
