//! What a model costs: rates per token, steps by the length of the prompt, fees.
//!
//! A cost is summed exactly and rounded up once; a bound is never below a cost within it. Which
//! price holds when, and where it came from, is not known here.

use serde::{Deserialize, Serialize};

use crate::money::{Money, PICODOLLARS_PER_NANODOLLAR, Rate};
use crate::usage::Usage;

/// What tokens cost. In files and in the API each rate is dollars per million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// An input token that came from no cache.
    pub input: Rate,
    /// An output token, reasoning included unless it has a rate of its own.
    pub output: Rate,
    /// An input token read from the provider's prompt cache; `None` = as any input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<Rate>,
    /// An input token written to the provider's prompt cache, for as long as it usually keeps it
    /// (minutes); `None` = as any input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<Rate>,
    /// An input token written to be kept for an hour; `None` = as any other that is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<Rate>,
    /// An output token of reasoning; `None` = as any output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Rate>,
}

impl Rates {
    /// Picodollars of `usage`. Parts beyond their total are ignored: a provider's mistake in the
    /// details never bills a token twice.
    fn of(&self, usage: &Usage) -> u128 {
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let written = usage.cache_write_tokens.min(usage.input_tokens - cached);
        let hour = usage.cache_write_1h_tokens.min(written);
        let plain = usage.input_tokens - cached - written;
        let reasoning = usage.reasoning_tokens.min(usage.output_tokens);
        let write = self.cache_write.unwrap_or(self.input);
        self.input.of(plain)
            + self.cached_input.unwrap_or(self.input).of(cached)
            + write.of(written - hour)
            + self.cache_write_1h.unwrap_or(write).of(hour)
            + self.output.of(usage.output_tokens - reasoning)
            + self.reasoning.unwrap_or(self.output).of(reasoning)
    }

    /// The most that an input token can cost.
    fn dearest_input(&self, writes: CacheWrites) -> Rate {
        let hour = match writes {
            CacheWrites::Unread | CacheWrites::Hour => self.cache_write_1h,
            CacheWrites::Unmarked | CacheWrites::Minutes => None,
        };
        let others = [self.cached_input, self.cache_write, hour];
        others.into_iter().flatten().fold(self.input, Rate::max)
    }

    /// The most that an output token can cost.
    fn dearest_output(&self) -> Rate {
        self.reasoning.map_or(self.output, |reasoning| reasoning.max(self.output))
    }
}

/// Which parts a request asks the provider to keep in its prompt cache, by the longest time that
/// one is kept: writes have prices of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheWrites {
    /// Nobody looked: its format has no marks, or passes those of others.
    #[default]
    Unread,
    /// None.
    Unmarked,
    /// For as long as the provider usually keeps them: minutes.
    Minutes,
    /// For an hour.
    Hour,
}

/// Other rates for longer prompts: all tokens of a Call cost what its step says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// It holds for prompts of more tokens than this, cached ones included.
    pub above: u64,
    /// What tokens cost then.
    #[serde(flatten)]
    pub rates: Rates,
}

/// What one model costs from a day on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Names this price in the ledger: where it came from and the day from which it holds, e.g.
    /// `config@2026-11-21`.
    pub version: String,
    /// What tokens cost, whatever the length of the prompt or below the first step.
    #[serde(flatten)]
    pub rates: Rates,
    /// Other rates for longer prompts, the shortest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// A fee per request.
    #[serde(default)]
    pub per_request: Money,
}

impl Price {
    /// The price of a model that costs nothing.
    pub fn free(version: impl Into<String>) -> Self {
        let version = version.into();
        Self { version, rates: Rates::default(), steps: Vec::new(), per_request: Money::ZERO }
    }

    /// What `usage` costs, rounded up once.
    pub fn cost(&self, usage: &Usage) -> Money {
        let step = self.steps.iter().rev().find(|step| usage.input_tokens > step.above);
        let rates = step.map_or(&self.rates, |step| &step.rates);
        self.per_request.saturating_add(Money::from_picodollars_rounded_up(rates.of(usage)))
    }

    /// An upper bound on the cost of a Call: every input token at the dearest input rate, every
    /// output token that it may produce, at the dearest step that so many input tokens can reach.
    pub fn bound(
        &self,
        input_tokens_max: u64,
        output_tokens_max: u64,
        writes: CacheWrites,
    ) -> Money {
        let (input, output) = self.dearest(input_tokens_max, writes);
        let picodollars = input.of(input_tokens_max) + output.of(output_tokens_max);
        self.per_request.saturating_add(Money::from_picodollars_rounded_up(picodollars))
    }

    /// How many output tokens `amount` affords after `input_tokens_max` input tokens; `None` = any
    /// number.
    pub fn output_tokens_for(
        &self,
        amount: Money,
        input_tokens_max: u64,
        writes: CacheWrites,
    ) -> Option<u64> {
        let (_, output) = self.dearest(input_tokens_max, writes);
        if output == Rate::FREE {
            return None;
        }
        let left = amount.minus_or_zero(self.bound(input_tokens_max, 0, writes));
        let picodollars =
            u128::try_from(left.nanodollars()).unwrap_or(0) * PICODOLLARS_PER_NANODOLLAR;
        Some(u64::try_from(picodollars / u128::from(output.picodollars())).unwrap_or(u64::MAX))
    }

    /// Whether output tokens cost anything, at whatever length of the prompt.
    pub fn bills_output(&self) -> bool {
        self.dearest(u64::MAX, CacheWrites::Unread).1 != Rate::FREE
    }

    /// Whether nothing that a request can do costs anything.
    pub fn is_free(&self) -> bool {
        self.bound(u64::MAX, u64::MAX, CacheWrites::Unread) == Money::ZERO
    }

    /// The dearest rates of input and output of all steps that so many input tokens can reach: a
    /// prompt may turn out shorter, and a shorter one need not be cheaper.
    fn dearest(&self, input_tokens_max: u64, writes: CacheWrites) -> (Rate, Rate) {
        let reached = self.steps.iter().take_while(|step| input_tokens_max > step.above);
        let rates = reached.map(|step| &step.rates).chain([&self.rates]);
        rates.fold((Rate::FREE, Rate::FREE), |(input, output), rates| {
            (input.max(rates.dearest_input(writes)), output.max(rates.dearest_output()))
        })
    }
}

#[cfg(test)]
mod tests;
