//! Loads a model, connects to the parent, and plugs the threads together.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

use anyhow::Context as _;
use engine::protocol::{self, FromEngine, Hello, LoadedModel};
use sha2::{Digest, Sha256};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use types::clock::{SharedClock, SystemClock};

use crate::connection::{self, Inbox};
use crate::grammar::Grammars;
use crate::job::Preparer;
use crate::kv_store::{KvStore, Reply, StoreThread};
use crate::llama::{self, Context, ContextOptions, Model, Pooling};
use crate::sampler::Defaults;
use crate::scheduler::{Event, PREFILL_TOKENS_MAX, Parts, REPLIES_MAX, Scheduler};
use crate::template::Template;
use crate::texts::Tokenizer;
use crate::vectors::{Computer, SEQUENCES, Sizes, Vectors};
use crate::vocab::Vocab;

/// Events that may wait for the scheduler.
const EVENTS_MAX: usize = 1_024;
/// Contexts are made in multiples of this, as llama.cpp does.
const CONTEXT_STEP: u64 = 256;
/// Fewer tokens than this per sequence are of no use: sequences are given up first.
const CONTEXT_MIN: u64 = 2_048;
/// State of a token is two bytes per number.
const STATE_BYTES_PER_NUMBER: u64 = 2;

/// A model file smaller than this is computed by one thread.
const ONE_THREAD_BYTES: u64 = 64 * 1024 * 1024;

/// How a model is served.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// Its SHA-256 in lower-case hexadecimal, where the parent knows it already.
    #[arg(long)]
    model_sha256: Option<String>,
    /// The unix socket on which the parent listens.
    #[arg(long)]
    socket: PathBuf,
    /// Folder of session state; without it, state is in memory only.
    #[arg(long)]
    kv_dir: Option<PathBuf>,
    /// Bytes of session state on disk.
    #[arg(long, default_value_t = 16 * 1024 * 1024 * 1024)]
    kv_disk_bytes: u64,
    /// Bytes of session state in memory.
    #[arg(long, default_value_t = 2 * 1024 * 1024 * 1024)]
    kv_memory_bytes: u64,
    /// Sequences that run at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    sequences: u32,
    /// The most tokens of one sequence; 0 = what the model was trained for.
    #[arg(long, default_value_t = 0)]
    context: u32,
    /// Threads that compute; 0 = one per core, or one for a small model.
    #[arg(long, default_value_t = 0)]
    threads: u32,
    /// Requests that may wait for a sequence.
    #[arg(long, default_value_t = 64)]
    waiting: u32,
}

impl Options {
    fn sha256(&self) -> anyhow::Result<String> {
        match &self.model_sha256 {
            Some(known) => Ok(known.clone()),
            None => sha256_of(&self.model).context("reading the model"),
        }
    }
}

/// A model that makes vectors, as it was loaded.
struct Made {
    model: Arc<Model>,
    arch: String,
    pooling: Pooling,
}

impl Made {
    fn serve(
        self,
        options: &Options,
        stream: UnixStream,
        (events, mailbox): (SyncSender<Event>, Receiver<Event>),
        clock: SharedClock,
    ) -> anyhow::Result<()> {
        let Self { model, arch, pooling } = self;
        let sizes = Sizes {
            context: options.context,
            token_bytes: token_bytes(&model, &arch),
            memory_bytes: options.kv_memory_bytes,
            threads: threads(options.threads, &options.model),
        };
        let computer = Computer::new(&model, pooling, sizes)?;
        let context = computer.text_tokens();
        let (out, writer) = connection::start_writer(stream.try_clone()?)?;
        out.send(FromEngine::Hello(hello(LoadedModel {
            sha256: options.sha256()?,
            arch,
            context,
            sequences: SEQUENCES,
            token_bytes_max: 0,
            dimensions: model.dimensions(),
            template_sha256: hex(&Sha256::digest("")),
        })));
        let tokenizer = Tokenizer { model, context };
        // Vectors take their place in the queue until they are whole.
        let waiting_max = usize::try_from(options.waiting.saturating_add(SEQUENCES))?;
        let inbox = Inbox { events, out: out.clone(), clock: Arc::clone(&clock), waiting_max };
        inbox.start(stream, Box::new(move |asked, wanted| tokenizer.event(asked, wanted)))?;
        Vectors::new(computer, out.clone(), clock).run(&mailbox);
        out.end();
        writer.join().map_err(|_panic| anyhow::anyhow!("the writer panicked"))
    }
}

fn hello(model: LoadedModel) -> Hello {
    let build = format!("{} (llama.cpp {})", env!("CARGO_PKG_VERSION"), llama::version());
    Hello { protocol: protocol::PROTOCOL, build, model }
}

/// Serves until the parent hangs up or SIGTERM comes.
///
/// # Errors
/// The model can't be loaded, or the parent not be reached.
pub(crate) fn serve(options: &Options) -> anyhow::Result<()> {
    let clock: SharedClock = Arc::new(SystemClock::new());
    let stream = UnixStream::connect(&options.socket).context("connecting to the parent")?;
    let (events, mailbox) = sync_channel(EVENTS_MAX);
    stop_on_signals(events.clone())?;
    llama::init();
    let model = Arc::new(Model::load(&options.model).context("loading the model")?);
    let arch = model.meta("general.architecture").unwrap_or_default();
    if let Some(pooling) = model.pooling(&arch) {
        let made = Made { model, arch, pooling };
        return made.serve(options, stream, (events, mailbox), clock);
    }
    let loaded = Loaded::load(&model, arch, options, &clock)?;
    let (out, writer) = connection::start_writer(stream.try_clone()?)?;
    out.send(FromEngine::Hello(loaded.hello()));
    let (reply, replies) = sync_channel(REPLIES_MAX);
    let store = loaded.open_store(options, reply, events.clone())?;
    let Loaded { context, sequences, vocab, template, grammars, defaults, .. } = loaded;
    let preparer = Preparer {
        vocab: Arc::clone(&vocab),
        template,
        grammars,
        context: context.context_per_sequence(),
        token_bytes_max: vocab.token_bytes_max(),
        defaults,
    };
    let waiting_max = usize::try_from(options.waiting.max(1))?;
    let inbox = Inbox { events, out: out.clone(), clock: Arc::clone(&clock), waiting_max };
    inbox.start(stream, Box::new(move |asked, wanted| preparer.event(asked, wanted)))?;
    let parts = Parts { context, sequences, vocab, store, replies };
    Scheduler::new(parts, out.clone(), clock).run(&mailbox);
    out.end();
    writer.join().map_err(|_panic| anyhow::anyhow!("the writer panicked"))
}

fn stop_on_signals(events: SyncSender<Event>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("listening for signals")?;
    let wait = move || {
        if signals.forever().next().is_some() {
            // An error means that the scheduler has ended already.
            drop(events.send(Event::Stop));
        }
    };
    Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(())
}

/// A model that is ready to serve.
struct Loaded {
    context: Context,
    sequences: u32,
    vocab: Arc<Vocab>,
    template: Template,
    grammars: Arc<Grammars>,
    defaults: Defaults,
    sha256: String,
    arch: String,
}

impl Loaded {
    fn load(
        model: &Arc<Model>,
        arch: String,
        options: &Options,
        clock: &SharedClock,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(model.is_generator(), "this model does not generate text");
        let sha256 = options.sha256()?;
        let (context_tokens, sequences) = sizes(model, &arch, options);
        let prefill = u32::try_from(PREFILL_TOKENS_MAX)?;
        let context_options = ContextOptions {
            context: context_tokens,
            sequences,
            batch: prefill + sequences,
            threads: threads(options.threads, &options.model),
        };
        let context = Context::new(Arc::clone(model), context_options)?;
        let vocab = Arc::new(Vocab::new(Arc::clone(model)));
        let text = |token: Option<llama::Token>| {
            let bytes = token.map(|token| vocab.prompt_text(token)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let source = model.meta("tokenizer.chat_template");
        let (bos, eos) = (text(model.bos()), text(model.eos()));
        let template = Template::new(source, bos, eos, Arc::clone(clock))
            .context("the model's chat template is not valid")?;
        let grammars = Arc::new(Grammars::new(&vocab.environment())?);
        let defaults = sampling_defaults(model);
        Ok(Self { context, sequences, vocab, template, grammars, defaults, sha256, arch })
    }

    fn hello(&self) -> Hello {
        let model = LoadedModel {
            sha256: self.sha256.clone(),
            arch: self.arch.clone(),
            context: self.context.context_per_sequence(),
            sequences: self.sequences,
            token_bytes_max: self.vocab.token_bytes_max(),
            dimensions: 0,
            template_sha256: hex(&Sha256::digest(self.template.source())),
        };
        hello(model)
    }

    fn open_store(
        &self,
        options: &Options,
        replies: SyncSender<Reply>,
        events: SyncSender<Event>,
    ) -> anyhow::Result<Option<StoreThread>> {
        let Some(folder) = &options.kv_dir else { return Ok(None) };
        // What decides whether state computed by one process means the same to another.
        let mut hasher = blake3::Hasher::new();
        for part in ["holdfast-kv-1", &self.sha256, &llama::version(), "k=f16 v=f16 flash=off"] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let fingerprint = *hasher.finalize().as_bytes();
        let folder = folder.join(&self.sha256);
        let store = KvStore::open(folder, fingerprint, options.kv_disk_bytes)
            .context("opening the folder of session state")?;
        let reply = move |reply| {
            // An error means that the scheduler has ended and wants no reply; a full mailbox, that
            // it is awake.
            drop(replies.send(reply));
            drop(events.try_send(Event::Wake));
        };
        Ok(Some(StoreThread::start(store, reply)?))
    }
}

fn sampling_defaults(model: &Model) -> Defaults {
    let text = |name: &str| model.meta(&format!("general.sampling.{name}"));
    let number = |name: &str| text(name)?.parse().ok();
    Defaults {
        temperature: number("temp"),
        top_p: number("top_p"),
        top_k: text("top_k").and_then(|text| text.parse().ok()),
        min_p: number("min_p"),
    }
}

/// Tokens per sequence, and sequences, that fit the memory for state.
fn sizes(model: &Model, arch: &str, options: &Options) -> (u32, u32) {
    let token_bytes = token_bytes(model, arch);
    let trained = u64::from(model.context_trained()).max(CONTEXT_STEP);
    let wanted = if options.context == 0 { trained } else { trained.min(options.context.into()) };
    let affordable = options.kv_memory_bytes / token_bytes;
    let useful = wanted.min(CONTEXT_MIN);
    let sequences = (affordable / useful).clamp(1, u64::from(options.sequences));
    let context = wanted.min(affordable / sequences).max(CONTEXT_STEP);
    let context = context.next_multiple_of(CONTEXT_STEP);
    (u32::try_from(context).unwrap_or(u32::MAX), u32::try_from(sequences).unwrap_or(1))
}

/// Bytes of state of one token.
fn token_bytes(model: &Model, arch: &str) -> u64 {
    let number = |key: &str| model.meta_number(&format!("{arch}.{key}"));
    let heads = number("attention.head_count").unwrap_or(1).max(1);
    let heads_kv = number("attention.head_count_kv").unwrap_or(heads).max(1);
    let width = number("embedding_length").unwrap_or(0) / heads;
    let key = number("attention.key_length").unwrap_or(width);
    let value = number("attention.value_length").unwrap_or(width);
    let layers = number("block_count").unwrap_or(0);
    (layers * heads_kv * (key + value) * STATE_BYTES_PER_NUMBER).max(1)
}

/// Threads that compute. Those of a small model would wait for each other longer than they work.
#[expect(clippy::disallowed_methods, reason = "the process does nothing else yet")]
fn threads(wanted: u32, model: &Path) -> u32 {
    if wanted > 0 {
        return wanted;
    }
    if std::fs::metadata(model).is_ok_and(|file| file.len() < ONE_THREAD_BYTES) {
        return 1;
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(1)
}

#[expect(clippy::disallowed_methods, reason = "the process does nothing else yet")]
fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1024 * 1024];
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&chunk[..length]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
