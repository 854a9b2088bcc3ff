//! What a provider counted for one attempt.

use serde::{Deserialize, Serialize};

/// Tokens as the provider reports them. Details are parts of the totals, never additional to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Of the input: read from the provider's prompt cache.
    pub cached_tokens: u64,
    /// Of the input: written to the provider's prompt cache.
    pub cache_write_tokens: u64,
    /// Of those written: to be kept for an hour, which has a price of its own.
    pub cache_write_1h_tokens: u64,
    /// Tokens of the answer, reasoning included.
    pub output_tokens: u64,
    /// Of the output: reasoning.
    pub reasoning_tokens: u64,
}

impl Usage {
    /// Input and output together, saturating.
    pub const fn total_tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}
