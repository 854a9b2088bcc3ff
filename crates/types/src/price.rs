//! What a model costs: rates per token, steps by the length of the prompt, fees.
//!
//! A cost is summed exactly and rounded up once; a bound is never below a cost within it. Which
//! price holds when, and where it came from, is not known here.

use serde::{Deserialize, Serialize};

use crate::money::{Money, PICODOLLARS_PER_NANODOLLAR, Rate};
use crate::usage::{ServiceTier, Usage};

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
    /// An input token of sound that came from no cache; `None` = as any input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<Rate>,
    /// An input token of sound read from the cache; `None` = as any that was read there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_audio_input: Option<Rate>,
    /// An input token of a picture that came from no cache; `None` = as any input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_input: Option<Rate>,
    /// An output token of sound; `None` = as any output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<Rate>,
}

impl Rates {
    /// Picodollars of `usage`. Parts beyond their total are ignored: a provider's mistake in the
    /// details never bills a token twice.
    fn of(&self, usage: &Usage) -> u128 {
        let cached = usage.cached_tokens.min(usage.input_tokens);
        let written = usage.cache_write_tokens.min(usage.input_tokens - cached);
        let hour = usage.cache_write_1h_tokens.min(written);
        let plain = usage.input_tokens - cached - written;
        let write = self.cache_write.unwrap_or(self.input);
        self.fresh(usage, plain)
            + self.read(usage, cached)
            + write.of(written - hour)
            + self.cache_write_1h.unwrap_or(write).of(hour)
            + self.answered(usage)
    }

    /// Picodollars of the input that came from no cache and went to none.
    fn fresh(&self, usage: &Usage, tokens: u64) -> u128 {
        let more = &usage.more;
        let sound = more.audio_input_tokens.saturating_sub(more.cached_audio_tokens).min(tokens);
        let pictures = more.image_input_tokens.min(tokens - sound);
        self.input.of(tokens - sound - pictures)
            + self.audio_input.unwrap_or(self.input).of(sound)
            + self.image_input.unwrap_or(self.input).of(pictures)
    }

    /// Picodollars of the input that was read from a cache.
    fn read(&self, usage: &Usage, tokens: u64) -> u128 {
        let sound = usage.more.cached_audio_tokens.min(tokens);
        let cached = self.cached_input.unwrap_or(self.input);
        cached.of(tokens - sound) + self.cached_audio_input.unwrap_or(cached).of(sound)
    }

    /// Picodollars of the output.
    fn answered(&self, usage: &Usage) -> u128 {
        let reasoning = usage.reasoning_tokens.min(usage.output_tokens);
        let said = usage.output_tokens - reasoning;
        let sound = usage.more.audio_output_tokens.min(said);
        self.output.of(said - sound)
            + self.audio_output.unwrap_or(self.output).of(sound)
            + self.reasoning.unwrap_or(self.output).of(reasoning)
    }

    /// The most that an input token of text or of a picture can cost.
    fn dearest_input(&self, asks: Asks) -> Rate {
        let hour = match asks.writes {
            CacheWrites::Unread | CacheWrites::Hour => self.cache_write_1h,
            CacheWrites::Unmarked | CacheWrites::Minutes => None,
        };
        let others = [self.cached_input, self.cache_write, self.image_input, hour];
        others.into_iter().flatten().fold(self.input, Rate::max)
    }

    /// The most that an output token can cost: of text, for sound has no bound and is refused where
    /// one is needed.
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

/// What a request asks for that has prices of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// What is to be kept in the provider's prompt cache.
    pub writes: CacheWrites,
    /// Another tier than the usual one. The provider may answer at either.
    pub tier: ServiceTier,
    /// Searches that the provider may make, at most.
    pub searches: u64,
}

/// What a request asks for that only some prices have a rate for, each with the field by which it
/// asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// A tier that is dearer than the usual one.
    pub tier: Option<(ServiceTier, &'static str)>,
    /// Searches that the provider may make, at most.
    pub searches: Option<(u64, &'static str)>,
}

impl Extras {
    /// The field that asks for what a price does not say.
    pub fn unpriced(&self, price: &Price) -> Option<&'static str> {
        let tier = self.tier.filter(|(tier, _)| !price.has_tier(*tier)).map(|(_, field)| field);
        let searches = self.searches.filter(|_| price.per_search.is_none());
        tier.or_else(|| searches.map(|(_, field)| field))
    }

    /// What they ask for, beside what is to be cached.
    pub fn asks(&self, writes: CacheWrites) -> Asks {
        Asks {
            writes,
            tier: self.tier.map(|(tier, _)| tier).unwrap_or_default(),
            searches: self.searches.map_or(0, |(searches, _)| searches),
        }
    }
}

impl From<CacheWrites> for Asks {
    fn from(writes: CacheWrites) -> Self {
        Self { writes, ..Self::default() }
    }
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

/// What tokens cost at a tier that is not the usual one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierRates {
    /// The tier.
    pub tier: ServiceTier,
    /// What tokens cost there.
    #[serde(flatten)]
    pub rates: Rates,
    /// Other rates for longer prompts, the shortest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
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
    /// A fee per search that the provider makes for an answer; `None` = nobody knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_search: Option<Money>,
    /// What tokens cost at other tiers; each at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<TierRates>,
}

impl Price {
    /// The price of a model that costs nothing.
    pub fn free(version: impl Into<String>) -> Self {
        let version = version.into();
        Self {
            version,
            rates: Rates::default(),
            steps: Vec::new(),
            per_request: Money::ZERO,
            per_search: None,
            tiers: Vec::new(),
        }
    }

    /// What `usage` costs, rounded up once; as usual where it has something in it that has no price
    /// here ([`Self::lacks`]).
    pub fn cost(&self, usage: &Usage) -> Money {
        let (rates, steps) = self.at(usage.more.service_tier);
        let step = steps.iter().rev().find(|step| usage.input_tokens > step.above);
        let rates = step.map_or(rates, |step| &step.rates);
        let tokens = Money::from_picodollars_rounded_up(rates.of(usage));
        self.fees(usage.more.searches).saturating_add(tokens)
    }

    /// What of `usage` has no price here. A tier that is cheaper than the usual one costs what that
    /// one does where nobody says less.
    pub fn lacks(&self, usage: &Usage) -> Option<&'static str> {
        let tier = usage.more.service_tier;
        let lacks = match tier {
            ServiceTier::Priority | ServiceTier::Fast if !self.has_tier(tier) => tier.name(),
            _ if usage.more.searches > 0 && self.per_search.is_none() => "search",
            _ => return None,
        };
        (!self.is_free()).then_some(lacks)
    }

    /// Whether it says what tokens cost at a tier.
    pub fn has_tier(&self, tier: ServiceTier) -> bool {
        tier.is_standard() || self.tiers.iter().any(|of| of.tier == tier)
    }

    /// An upper bound on the cost of a Call: every input token at the dearest input rate, every
    /// output token that it may produce, at the dearest step that so many input tokens can reach
    /// and the dearest tier at which it may be answered, and every search that it may make.
    pub fn bound(
        &self,
        input_tokens_max: u64,
        output_tokens_max: u64,
        asks: impl Into<Asks>,
    ) -> Money {
        let asks = asks.into();
        let (input, output) = self.dearest(input_tokens_max, asks);
        let picodollars = input.of(input_tokens_max) + output.of(output_tokens_max);
        let tokens = Money::from_picodollars_rounded_up(picodollars);
        self.fees(asks.searches).saturating_add(tokens)
    }

    /// How many output tokens `amount` affords after `input_tokens_max` input tokens; `None` = any
    /// number.
    pub fn output_tokens_for(
        &self,
        amount: Money,
        input_tokens_max: u64,
        asks: impl Into<Asks>,
    ) -> Option<u64> {
        let asks = asks.into();
        let (_, output) = self.dearest(input_tokens_max, asks);
        if output == Rate::FREE {
            return None;
        }
        let left = amount.minus_or_zero(self.bound(input_tokens_max, 0, asks));
        let picodollars =
            u128::try_from(left.nanodollars()).unwrap_or(0) * PICODOLLARS_PER_NANODOLLAR;
        Some(u64::try_from(picodollars / u128::from(output.picodollars())).unwrap_or(u64::MAX))
    }

    /// Whether output tokens cost anything, at whatever length of the prompt.
    pub fn bills_output(&self) -> bool {
        self.dearest(u64::MAX, Asks::default()).1 != Rate::FREE
    }

    /// Whether nothing that a request can do costs anything.
    pub fn is_free(&self) -> bool {
        let asks = |tier| Asks { tier, searches: 1, writes: CacheWrites::Unread };
        let tiers = self.tiers.iter().map(|of| of.tier).chain([ServiceTier::Standard]);
        tiers.map(asks).all(|asks| self.bound(u64::MAX, u64::MAX, asks) == Money::ZERO)
    }

    fn fees(&self, searches: u64) -> Money {
        let searches = i64::try_from(searches).unwrap_or(i64::MAX);
        let searched = self.per_search.unwrap_or(Money::ZERO).times(searches);
        self.per_request.saturating_add(searched)
    }

    /// What tokens cost at a tier; as usual where nobody says otherwise.
    fn at(&self, tier: ServiceTier) -> (&Rates, &[Step]) {
        let found = self.tiers.iter().find(|of| of.tier == tier);
        found.map_or((&self.rates, &self.steps), |of| (&of.rates, &of.steps))
    }

    /// The dearest rates of input and output of the tiers at which a request may be answered, of
    /// all steps that so many input tokens can reach: a prompt may turn out shorter, and a shorter
    /// one need not be cheaper.
    fn dearest(&self, input_tokens_max: u64, asks: Asks) -> (Rate, Rate) {
        let usual = self.dearest_at(ServiceTier::Standard, input_tokens_max, asks);
        if asks.tier.is_standard() {
            return usual;
        }
        let asked = self.dearest_at(asks.tier, input_tokens_max, asks);
        (usual.0.max(asked.0), usual.1.max(asked.1))
    }

    fn dearest_at(&self, tier: ServiceTier, input_tokens_max: u64, asks: Asks) -> (Rate, Rate) {
        let (rates, steps) = self.at(tier);
        let reached = steps.iter().take_while(|step| input_tokens_max > step.above);
        let rates = reached.map(|step| &step.rates).chain([rates]);
        rates.fold((Rate::FREE, Rate::FREE), |(input, output), rates| {
            (input.max(rates.dearest_input(asks)), output.max(rates.dearest_output()))
        })
    }
}

#[cfg(test)]
mod tests;
