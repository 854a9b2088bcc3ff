//! The only module that calls llama.cpp: a small safe layer over `llama-cpp-sys-2`.
//!
//! What it promises: a [`Model`] is immutable once loaded and may be shared between threads; a
//! [`Context`] belongs to one thread at a time and keeps its model alive; no pointer leaves this
//! module; every length that C gets comes from the slice that it is given with. What it can't
//! promise: llama.cpp aborts the process on some errors, which is why the engine is a process of
//! its own.
//!
//! It must not know sessions, requests or files other than the model's.
#![expect(
    unsafe_code,
    reason = "this is the layer over the C API; each block says why it is sound"
)]

mod pooled;

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

pub(crate) use pooled::{Pooling, VectorOptions};

/// A token's id in the model's vocabulary.
pub(crate) type Token = i32;

/// Bytes of a metadata value that are read; chat templates are the longest.
const META_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one token's text.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// What went wrong below.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a path with a zero byte or not UTF-8")]
    Path,
    #[error("llama.cpp can't load this model; its log says why")]
    Load,
    #[error("llama.cpp can't make a context; its log says why")]
    Context,
    #[error("llama.cpp refused the batch (code {0})")]
    Decode(i32),
    #[error("the text is too long to tokenize")]
    Tokenize,
    #[error("a text has no vector of finite numbers")]
    Vector,
}

/// Sends llama.cpp's own log through ours.
pub(crate) fn init() {
    // SAFETY: the callback is a plain function for the life of the process and ignores its user
    // data.
    unsafe { sys::llama_log_set(Some(forward_log), std::ptr::null_mut()) };
    // SAFETY: called once, before any other function of the library.
    unsafe { sys::llama_backend_init() };
}

unsafe extern "C" fn forward_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a zero-terminated text that lives as long as this call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim_end();
    if level == sys::GGML_LOG_LEVEL_ERROR {
        tracing::error!(target: "llama.cpp", "{text}");
    } else if level == sys::GGML_LOG_LEVEL_WARN {
        tracing::warn!(target: "llama.cpp", "{text}");
    } else {
        tracing::debug!(target: "llama.cpp", "{text}");
    }
}

/// The version of llama.cpp that is linked.
pub(crate) fn version() -> String {
    // SAFETY: returns a static zero-terminated text.
    unsafe { CStr::from_ptr(sys::llama_version()) }.to_string_lossy().into_owned()
}

/// A loaded model with its vocabulary.
#[derive(Debug)]
pub(crate) struct Model {
    model: NonNull<sys::llama_model>,
    vocab: NonNull<sys::llama_vocab>,
}

// SAFETY: after loading nothing changes a model or its vocabulary; llama.cpp documents the
// functions used here (tokenisation, metadata) as thread-safe, and each Context has its own mutable
// state.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the pointer came from llama_model_load_from_file; contexts hold an Arc of us, so
        // none is left.
        unsafe { sys::llama_model_free(self.model.as_ptr()) };
    }
}

impl Model {
    /// Loads a GGUF file.
    ///
    /// # Errors
    /// llama.cpp can't; its log says why.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let text = path.to_str().ok_or(Error::Path)?;
        let text = CString::new(text).map_err(|_zero_byte| Error::Path)?;
        // SAFETY: returns a plain value.
        let params = unsafe { sys::llama_model_default_params() };
        // SAFETY: the path is zero-terminated and lives through the call; the parameters hold no
        // pointers of ours.
        let model = unsafe { sys::llama_model_load_from_file(text.as_ptr(), params) };
        let model = NonNull::new(model).ok_or(Error::Load)?;
        // SAFETY: the model is valid; its vocabulary lives as long as it.
        let vocab = unsafe { sys::llama_model_get_vocab(model.as_ptr()) };
        let vocab = NonNull::new(vocab.cast_mut()).ok_or(Error::Load)?;
        Ok(Self { model, vocab })
    }

    fn vocab(&self) -> *const sys::llama_vocab {
        self.vocab.as_ptr()
    }

    /// A value of the file's metadata, as text.
    pub(crate) fn meta(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        // SAFETY: with a null buffer of size 0 only the length is returned.
        let length = unsafe {
            let model = self.model.as_ptr();
            sys::llama_model_meta_val_str(model, key.as_ptr(), std::ptr::null_mut(), 0)
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= META_BYTES_MAX)?;
        let mut buffer = vec![0u8; length + 1];
        // SAFETY: the buffer is as long as is said, and lives through the call.
        let written = unsafe {
            let model = self.model.as_ptr();
            let to = buffer.as_mut_ptr().cast::<c_char>();
            sys::llama_model_meta_val_str(model, key.as_ptr(), to, buffer.len())
        };
        buffer.truncate(usize::try_from(written).ok()?.min(length));
        String::from_utf8(buffer).ok()
    }

    /// A metadata value as a number.
    pub(crate) fn meta_number(&self, key: &str) -> Option<u64> {
        self.meta(key)?.parse().ok()
    }

    /// Tokens that the model was trained to hold.
    pub(crate) fn context_trained(&self) -> u32 {
        // SAFETY: the model is valid.
        let count = unsafe { sys::llama_model_n_ctx_train(self.model.as_ptr()) };
        u32::try_from(count).unwrap_or(0)
    }

    /// Whether it generates text token by token: it has a decoder and no encoder.
    pub(crate) fn is_generator(&self) -> bool {
        // SAFETY: the model is valid.
        unsafe {
            let model = self.model.as_ptr();
            sys::llama_model_has_decoder(model) && !sys::llama_model_has_encoder(model)
        }
    }

    /// Tokens in the vocabulary.
    pub(crate) fn vocab_size(&self) -> usize {
        // SAFETY: the vocabulary is valid.
        let count = unsafe { sys::llama_vocab_n_tokens(self.vocab()) };
        usize::try_from(count).unwrap_or(0)
    }

    fn is_token(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|index| index < self.vocab_size())
    }

    /// Whether the token ends a generation.
    pub(crate) fn is_end(&self, token: Token) -> bool {
        // SAFETY: llama.cpp indexes its table unchecked, so the id is checked first.
        self.is_token(token) && unsafe { sys::llama_vocab_is_eog(self.vocab(), token) }
    }

    /// Whether the token is one of those that only a template writes.
    pub(crate) fn is_control(&self, token: Token) -> bool {
        // SAFETY: as for is_end.
        self.is_token(token) && unsafe { sys::llama_vocab_is_control(self.vocab(), token) }
    }

    /// Whether the tokenizer takes the token's text as a whole, whatever stands around it.
    pub(crate) fn is_atomic(&self, token: Token) -> bool {
        if !self.is_token(token) {
            return false;
        }
        // SAFETY: the id is within the table.
        let attributes = unsafe { sys::llama_vocab_get_attr(self.vocab(), token) };
        attributes & (sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_USER_DEFINED) != 0
            && attributes & (sys::LLAMA_TOKEN_ATTR_LSTRIP | sys::LLAMA_TOKEN_ATTR_RSTRIP) == 0
    }

    /// The token that begins a text, if there is one.
    pub(crate) fn bos(&self) -> Option<Token> {
        // SAFETY: the vocabulary is valid.
        let token = unsafe { sys::llama_vocab_bos(self.vocab()) };
        self.is_token(token).then_some(token)
    }

    /// The token that ends a text, if there is one.
    pub(crate) fn eos(&self) -> Option<Token> {
        // SAFETY: the vocabulary is valid.
        let token = unsafe { sys::llama_vocab_eos(self.vocab()) };
        self.is_token(token).then_some(token)
    }

    /// Whether prompts begin with [`Model::bos`].
    pub(crate) fn adds_bos(&self) -> bool {
        // SAFETY: the vocabulary is valid.
        unsafe { sys::llama_vocab_get_add_bos(self.vocab()) }
    }

    /// The token's own text in the vocabulary, control tokens included.
    pub(crate) fn piece(&self, token: Token) -> Vec<u8> {
        if !self.is_token(token) {
            return Vec::new();
        }
        let mut buffer = vec![0u8; 64];
        loop {
            let length = i32::try_from(buffer.len()).unwrap_or(i32::MAX);
            // SAFETY: the id is within the table and the buffer is as long as is said.
            let written = unsafe {
                let to = buffer.as_mut_ptr().cast::<c_char>();
                sys::llama_token_to_piece(self.vocab(), token, to, length, 0, true)
            };
            if let Ok(written) = usize::try_from(written) {
                buffer.truncate(written);
                return buffer;
            }
            let needed = usize::try_from(written.unsigned_abs()).unwrap_or(usize::MAX);
            if needed <= buffer.len() || needed > PIECE_BYTES_MAX {
                return Vec::new();
            }
            buffer.resize(needed, 0);
        }
    }

    /// The text's tokens. With `special`, the texts of control tokens become those tokens.
    ///
    /// # Errors
    /// The text is longer than the C API can say.
    pub(crate) fn tokenize(&self, text: &str, special: bool) -> Result<Vec<Token>, Error> {
        self.tokens_of(text, false, special)
    }

    /// The text's tokens with those that the model wants around each text. What looks like a
    /// control token is text.
    ///
    /// # Errors
    /// The text is longer than the C API can say.
    pub(crate) fn tokenize_whole(&self, text: &str) -> Result<Vec<Token>, Error> {
        self.tokens_of(text, true, false)
    }

    fn tokens_of(&self, text: &str, framed: bool, special: bool) -> Result<Vec<Token>, Error> {
        let length = i32::try_from(text.len()).map_err(|_too_long| Error::Tokenize)?;
        let mut tokens = vec![0; text.len() / 2 + 16];
        loop {
            let room = i32::try_from(tokens.len()).map_err(|_too_long| Error::Tokenize)?;
            // SAFETY: text and buffer are as long as is said and live through the call.
            let count = unsafe {
                let (from, to) = (text.as_ptr().cast::<c_char>(), tokens.as_mut_ptr());
                sys::llama_tokenize(self.vocab(), from, length, to, room, framed, special)
            };
            if let Ok(count) = usize::try_from(count) {
                tokens.truncate(count);
                return Ok(tokens);
            }
            let needed = usize::try_from(count.unsigned_abs()).map_err(|_| Error::Tokenize)?;
            if count == i32::MIN || needed <= tokens.len() {
                return Err(Error::Tokenize);
            }
            tokens.resize(needed, 0);
        }
    }
}

/// How a context is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContextOptions {
    /// Tokens that each sequence can hold.
    pub(crate) context: u32,
    /// Sequences that run at once.
    pub(crate) sequences: u32,
    /// Tokens of the largest batch.
    pub(crate) batch: u32,
    /// Threads that compute.
    pub(crate) threads: u32,
}

impl ContextOptions {
    /// What every kind of context has of them; its size is the caller's to say.
    fn params(self) -> sys::llama_context_params {
        // SAFETY: returns a plain value.
        let mut params = unsafe { sys::llama_context_default_params() };
        let threads = i32::try_from(self.threads).unwrap_or(1);
        params.n_batch = self.batch;
        params.n_ubatch = self.batch;
        params.n_seq_max = self.sequences;
        params.n_threads = threads;
        params.n_threads_batch = threads;
        params.no_perf = true;
        params
    }
}

/// The state of all sequences, and the batch that is being put together.
#[derive(Debug)]
pub(crate) struct Context {
    context: NonNull<sys::llama_context>,
    batch: sys::llama_batch,
    batch_room: usize,
    vocab_size: usize,
    /// Kept so that the model outlives the context.
    model: Arc<Model>,
}

// SAFETY: a context has no ties to the thread that made it; it is used by one thread at a time, as
// every method that touches it needs `&mut` or returns data that borrows it.
unsafe impl Send for Context {}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: both came from the library and are not used after this.
        unsafe {
            sys::llama_batch_free(self.batch);
            sys::llama_free(self.context.as_ptr());
        }
    }
}

impl Context {
    /// Allocates the state of all sequences.
    ///
    /// # Errors
    /// Not enough memory, or the model can't; llama.cpp's log says why.
    pub(crate) fn new(model: Arc<Model>, options: ContextOptions) -> Result<Self, Error> {
        let mut params = options.params();
        params.n_ctx = options.context.saturating_mul(options.sequences);
        // On processors llama.cpp's flash attention is the slower one for a short turn behind a
        // long history: 31 new tokens behind 2,034 took 1.0 s with it and 0.4 s without, on the
        // same machine, in runs at different load.
        params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
        // A region per sequence: a sequence's result does not depend on what the others hold, and
        // its attention does not scan their cells.
        params.kv_unified = false;
        Self::with(model, params, options.batch)
    }

    /// A context, and a batch of so many tokens.
    fn with(
        model: Arc<Model>,
        params: sys::llama_context_params,
        batch: u32,
    ) -> Result<Self, Error> {
        // SAFETY: the model is valid and is kept alive by the Arc; the parameters hold no pointers
        // of ours.
        let context = unsafe { sys::llama_init_from_model(model.model.as_ptr(), params) };
        let context = NonNull::new(context).ok_or(Error::Context)?;
        let room = i32::try_from(batch).map_err(|_too_large| Error::Context)?;
        // SAFETY: allocates `room` entries of one sequence id each; freed in drop.
        let tokens = unsafe { sys::llama_batch_init(room, 0, 1) };
        let (batch_room, vocab_size) = (batch as usize, model.vocab_size());
        Ok(Self { context, batch: tokens, batch_room, vocab_size, model })
    }

    /// Tokens that each sequence can hold, as llama.cpp rounded it.
    pub(crate) fn context_per_sequence(&self) -> u32 {
        // SAFETY: the context is valid.
        unsafe { sys::llama_n_ctx_seq(self.context.as_ptr()) }
    }

    /// Empties the batch.
    pub(crate) fn batch_clear(&mut self) {
        self.batch.n_tokens = 0;
    }

    /// Adds a token to the batch and returns its index in it; `None` if the batch is full.
    pub(crate) fn batch_add(
        &mut self,
        token: Token,
        position: usize,
        sequence: u32,
        wants_logits: bool,
    ) -> Option<i32> {
        let index = usize::try_from(self.batch.n_tokens).ok()?;
        let position = i32::try_from(position).ok()?;
        let sequence = i32::try_from(sequence).ok()?;
        if index >= self.batch_room {
            return None;
        }
        // SAFETY: llama_batch_init allocated `batch_room` entries in each array and one id in each
        // seq_id list; the index is below that.
        unsafe {
            *self.batch.token.add(index) = token;
            *self.batch.pos.add(index) = position;
            *self.batch.n_seq_id.add(index) = 1;
            *(*self.batch.seq_id.add(index)) = sequence;
            *self.batch.logits.add(index) = i8::from(wants_logits);
        }
        let index = self.batch.n_tokens;
        self.batch.n_tokens += 1;
        Some(index)
    }

    /// Computes the batch.
    ///
    /// # Errors
    /// llama.cpp refused it; the state of its sequences is then unknown.
    pub(crate) fn decode(&mut self) -> Result<(), Error> {
        // SAFETY: the context is valid and the first n_tokens entries of the batch were written by
        // batch_add.
        match unsafe { sys::llama_decode(self.context.as_ptr(), self.batch) } {
            0 => Ok(()),
            code => Err(Error::Decode(code)),
        }
    }

    /// The logits of the batch's entry `index`, if they were asked for in the last decode.
    pub(crate) fn logits(&self, index: i32) -> Option<&[f32]> {
        // SAFETY: the context is valid; llama.cpp checks the index and answers null if there is
        // nothing.
        let logits = unsafe { sys::llama_get_logits_ith(self.context.as_ptr(), index) };
        let logits = NonNull::new(logits)?;
        // SAFETY: a row has one float per token of the vocabulary and stays until the next decode,
        // which needs `&mut self` and so waits for this borrow.
        Some(unsafe { std::slice::from_raw_parts(logits.as_ptr(), self.vocab_size) })
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: the context is valid.
        unsafe { sys::llama_get_memory(self.context.as_ptr()) }
    }

    /// Forgets a sequence from `position` on. `false`: this kind of model can't forget a part.
    pub(crate) fn truncate(&mut self, sequence: u32, position: usize) -> bool {
        let (Ok(sequence), Ok(position)) = (i32::try_from(sequence), i32::try_from(position))
        else {
            return false;
        };
        // SAFETY: the memory belongs to the valid context; unknown sequences are refused by
        // llama.cpp.
        unsafe { sys::llama_memory_seq_rm(self.memory(), sequence, position, -1) }
    }

    /// Forgets a sequence.
    pub(crate) fn clear(&mut self, sequence: u32) {
        if let Ok(sequence) = i32::try_from(sequence) {
            // SAFETY: as in truncate. Removing a whole sequence never fails.
            unsafe { sys::llama_memory_seq_rm(self.memory(), sequence, -1, -1) };
        }
    }

    /// Tokens that a sequence holds: one more than its last position.
    pub(crate) fn held(&self, sequence: u32) -> usize {
        let Ok(sequence) = i32::try_from(sequence) else { return 0 };
        // SAFETY: as in truncate.
        let last = unsafe { sys::llama_memory_seq_pos_max(self.memory(), sequence) };
        usize::try_from(last.saturating_add(1)).unwrap_or(0)
    }

    /// A sequence's state as bytes; empty if llama.cpp can't.
    pub(crate) fn state(&mut self, sequence: u32) -> Vec<u8> {
        let Ok(sequence) = i32::try_from(sequence) else { return Vec::new() };
        // SAFETY: the context is valid.
        let size = unsafe { sys::llama_state_seq_get_size(self.context.as_ptr(), sequence) };
        let mut bytes = vec![0u8; size];
        // SAFETY: the buffer is as long as is said.
        let written = unsafe {
            let context = self.context.as_ptr();
            sys::llama_state_seq_get_data(context, bytes.as_mut_ptr(), bytes.len(), sequence)
        };
        bytes.truncate(written);
        bytes
    }

    /// Replaces a sequence's state by bytes from [`Context::state`]. `false`: they don't fit, and
    /// it is cleared.
    ///
    /// The bytes must be ones that this build wrote: callers check a checksum and a fingerprint
    /// first.
    pub(crate) fn set_state(&mut self, sequence: u32, bytes: &[u8]) -> bool {
        let Ok(id) = i32::try_from(sequence) else { return false };
        // SAFETY: the buffer is as long as is said; llama.cpp reads no further.
        let read = unsafe {
            let context = self.context.as_ptr();
            sys::llama_state_seq_set_data(context, bytes.as_ptr(), bytes.len(), id)
        };
        if read == 0 {
            self.clear(sequence);
        }
        read != 0
    }
}
