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
    /// What only some answers have.
    #[serde(flatten)]
    pub more: More,
}

/// What only some answers have. Nearly all have nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct More {
    /// Of the input: sound, cached sound included.
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_input_tokens: u64,
    /// Of the cached input: sound.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_audio_tokens: u64,
    /// Of the input: pictures that came from no cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub image_input_tokens: u64,
    /// Of the output: sound.
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_output_tokens: u64,
    /// Searches that the provider made for the answer, each for a fee.
    #[serde(skip_serializing_if = "is_zero")]
    pub searches: u64,
    /// At which tier it answered, by its own word.
    #[serde(skip_serializing_if = "ServiceTier::is_standard")]
    pub service_tier: ServiceTier,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl More {
    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How soon a provider answers, and at which price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    /// As usual.
    #[default]
    Standard,
    /// Within hours: half the price at most vendors.
    Batch,
    /// When there is room: cheaper.
    Flex,
    /// Before others: dearer.
    Priority,
    /// By faster machines: dearer.
    Fast,
}

impl ServiceTier {
    /// Every tier that has a price of its own.
    pub const OTHERS: [Self; 4] = [Self::Batch, Self::Flex, Self::Priority, Self::Fast];

    /// Its name in files and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Batch => "batch",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Fast => "fast",
        }
    }

    /// Whether it is the usual one.
    pub const fn is_standard(&self) -> bool {
        matches!(self, Self::Standard)
    }
}

impl Usage {
    /// Input and output together, saturating.
    pub const fn total_tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Both together, as of one answer. The tier is the newer's: `other`.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        let (more, its) = (&self.more, &other.more);
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            cache_write_tokens: self.cache_write_tokens.saturating_add(other.cache_write_tokens),
            cache_write_1h_tokens: self
                .cache_write_1h_tokens
                .saturating_add(other.cache_write_1h_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
            more: More {
                audio_input_tokens: more.audio_input_tokens.saturating_add(its.audio_input_tokens),
                cached_audio_tokens: more
                    .cached_audio_tokens
                    .saturating_add(its.cached_audio_tokens),
                image_input_tokens: more.image_input_tokens.saturating_add(its.image_input_tokens),
                audio_output_tokens: more
                    .audio_output_tokens
                    .saturating_add(its.audio_output_tokens),
                searches: more.searches.saturating_add(its.searches),
                service_tier: its.service_tier,
            },
        }
    }
}
