//! Contexts that make one vector of each sequence: how they are made, and what is read of them.
//!
//! A part of the safe layer (see the parent), with the same promises. All sequences share one
//! region of cells, as nothing is kept behind a batch.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::{Context, ContextOptions, Error, Model};

/// Texts with more tokens than this are computed by flash attention, which takes room in proportion
/// to their length where the plain one, more exact and no slower for short ones, takes its square.
const PLAIN_ATTENTION_MAX: u32 = 2_048;

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    Cls,
    /// The last one.
    Last,
}

/// How a context for vectors is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VectorOptions {
    /// Tokens of all sequences together.
    pub(crate) context: u32,
    /// Tokens of the largest batch.
    pub(crate) batch: u32,
    /// Sequences of one batch.
    pub(crate) sequences: u32,
    /// Threads that compute.
    pub(crate) threads: u32,
}

impl Model {
    /// How the file says that its vectors are pooled; `None` if it makes none of a whole text.
    pub(crate) fn pooling(&self, arch: &str) -> Option<Pooling> {
        match self.meta_number(&format!("{arch}.pooling_type"))? {
            1 => Some(Pooling::Mean),
            2 => Some(Pooling::Cls),
            3 => Some(Pooling::Last),
            _ => None,
        }
    }

    /// Numbers of a vector.
    pub(crate) fn dimensions(&self) -> u32 {
        // SAFETY: the model is valid.
        let count = unsafe { sys::llama_model_n_embd_out(self.model.as_ptr()) };
        u32::try_from(count).unwrap_or(0)
    }
}

impl Context {
    /// Allocates what vectors are computed with.
    ///
    /// # Errors
    /// Not enough memory, or the model can't; llama.cpp's log says why.
    pub(crate) fn for_vectors(model: Arc<Model>, options: VectorOptions) -> Result<Self, Error> {
        let VectorOptions { context, batch, sequences, threads } = options;
        let mut params = ContextOptions { context, batch, sequences, threads }.params();
        params.n_ctx = options.context.max(options.batch);
        params.embeddings = true;
        params.kv_unified = true;
        params.flash_attn_type = if options.batch > PLAIN_ATTENTION_MAX {
            sys::LLAMA_FLASH_ATTN_TYPE_ENABLED
        } else {
            sys::LLAMA_FLASH_ATTN_TYPE_DISABLED
        };
        Self::with(model, params, options.batch)
    }

    /// Whether a token sees only those before it, so that a text can be computed in parts.
    pub(crate) fn is_causal(&self) -> bool {
        // SAFETY: the context is valid.
        unsafe { sys::llama_get_causal_attn(self.context.as_ptr()) }
    }

    /// Tokens of the largest batch.
    pub(crate) fn batch_room(&self) -> usize {
        self.batch_room
    }

    /// Forgets every sequence.
    pub(crate) fn forget_all(&mut self) {
        // SAFETY: the memory belongs to the valid context; a model without one has null, which
        // llama.cpp takes.
        unsafe { sys::llama_memory_clear(self.memory(), false) };
    }

    /// Forgets every sequence, and writes zeros where their numbers were.
    pub(crate) fn wipe(&mut self) {
        // SAFETY: as for forget_all.
        unsafe { sys::llama_memory_clear(self.memory(), true) };
    }

    /// The vector of a sequence of the last decode, not made as long as 1.
    pub(crate) fn vector(&self, sequence: u32) -> Option<&[f32]> {
        let sequence = i32::try_from(sequence).ok()?;
        // SAFETY: the context is valid; llama.cpp answers null for a sequence that it does not
        // know.
        let vector = unsafe { sys::llama_get_embeddings_seq(self.context.as_ptr(), sequence) };
        let vector = NonNull::new(vector)?;
        let length = self.model.dimensions() as usize;
        // SAFETY: a vector has one float per dimension of the model's output and stays until the
        // next decode, which needs `&mut self` and so waits for this borrow.
        Some(unsafe { std::slice::from_raw_parts(vector.as_ptr(), length) })
    }
}
