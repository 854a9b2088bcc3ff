//! Draws the next token from logits: penalties, the grammar's mask, temperature, top-k, min-p,
//! top-p, and a seeded generator. Pure: the same logits, mask and seed give the same token on every
//! machine.
//!
//! What is not a number never wins: it counts as impossible, and a row without any possible token
//! is an error.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use engine::protocol::Sampling;
use toktrie::SimpleVob;

use crate::llama::Token;

/// Below this a temperature is greedy: the exponent would overflow.
const TEMPERATURE_MIN: f64 = 1e-3;
/// Candidates that are sorted first; nearly always all that top-p needs.
const FIRST_SORTED: usize = 256;

/// What a model file says about how its tokens are best drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Defaults {
    /// `general.sampling.temp`.
    pub(crate) temperature: Option<f64>,
    /// `general.sampling.top_p`.
    pub(crate) top_p: Option<f64>,
    /// `general.sampling.top_k`.
    pub(crate) top_k: Option<u32>,
    /// `general.sampling.min_p`.
    pub(crate) min_p: Option<f64>,
}

/// Draws the tokens of one generation.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f64,
    top_p: f64,
    top_k: usize,
    min_p: f64,
    frequency_penalty: f32,
    presence_penalty: f32,
    counts: HashMap<Token, u32>,
    random: Random,
    /// Reused between tokens: a vocabulary is long.
    candidates: Vec<(f32, Token)>,
}

/// No token is possible: every logit is masked or not a number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NothingPossible;

impl Sampler {
    /// A sampler for one generation; `seed` is used if the request names none, `defaults` for what
    /// else is absent.
    #[expect(clippy::cast_possible_truncation, reason = "penalties are within ±2 or meaningless")]
    pub(crate) fn new(sampling: &Sampling, defaults: Defaults, seed: u64) -> Self {
        let penalty = |value: f64| if value.is_finite() { value as f32 } else { 0.0 };
        let seed = sampling.seed.map_or(seed, |seed| u64::from_le_bytes(seed.to_le_bytes()));
        Self {
            temperature: finite_or(sampling.temperature.or(defaults.temperature), 1.0),
            top_p: finite_or(sampling.top_p.or(defaults.top_p), 1.0),
            top_k: sampling.top_k.or(defaults.top_k).unwrap_or(0) as usize,
            min_p: finite_or(sampling.min_p.or(defaults.min_p), 0.0),
            frequency_penalty: penalty(sampling.frequency_penalty),
            presence_penalty: penalty(sampling.presence_penalty),
            counts: HashMap::new(),
            random: Random(seed),
            candidates: Vec::new(),
        }
    }

    /// Notes that a token is part of the answer, for the penalties.
    pub(crate) fn accept(&mut self, token: Token) {
        if self.frequency_penalty != 0.0 || self.presence_penalty != 0.0 {
            *self.counts.entry(token).or_insert(0) += 1;
        }
    }

    /// Draws a token. `mask`: the tokens that the grammar allows; `banned`: one that is never
    /// drawn.
    ///
    /// # Errors
    /// No token is possible.
    pub(crate) fn sample(
        &mut self,
        logits: &[f32],
        mask: Option<&SimpleVob>,
        banned: Option<Token>,
    ) -> Result<Token, NothingPossible> {
        self.collect(logits, mask, banned);
        if self.temperature < TEMPERATURE_MIN {
            return self.likeliest();
        }
        self.draw()
    }

    fn collect(&mut self, logits: &[f32], mask: Option<&SimpleVob>, banned: Option<Token>) {
        let Self { candidates, counts, frequency_penalty, presence_penalty, .. } = self;
        candidates.clear();
        let mut push = |index: usize| {
            let Some((logit, token)) = logits.get(index).copied().zip(Token::try_from(index).ok())
            else {
                return;
            };
            if logit.is_nan() || logit == f32::NEG_INFINITY || banned == Some(token) {
                return;
            }
            let penalty = match counts.get(&token) {
                #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^24")]
                Some(count) => *count as f32 * *frequency_penalty + *presence_penalty,
                None => 0.0,
            };
            candidates.push((logit - penalty, token));
        };
        match mask {
            Some(mask) => mask.iter_set_entries(push),
            None => (0..logits.len()).for_each(&mut push),
        }
    }

    fn likeliest(&self) -> Result<Token, NothingPossible> {
        let mut best: Option<(f32, Token)> = None;
        for candidate in &self.candidates {
            // Strictly greater: of equals the lowest id, whatever the order.
            if best.is_none_or(|best| candidate.0 > best.0) {
                best = Some(*candidate);
            }
        }
        best.map(|(_, token)| token).ok_or(NothingPossible)
    }

    fn draw(&mut self) -> Result<Token, NothingPossible> {
        let peak = self.candidates.iter().map(|(logit, _)| *logit).reduce(f32::max);
        let peak = peak.ok_or(NothingPossible)?;
        let temperature = self.temperature;
        let weight = |logit: f32| {
            // Infinity minus infinity is no number; the likeliest weighs 1 by definition.
            if logit >= peak { 1.0 } else { (f64::from(logit - peak) / temperature).exp() }
        };
        if self.min_p > 0.0 {
            let min_p = self.min_p.min(1.0);
            self.candidates.retain(|(logit, _)| weight(*logit) >= min_p);
        }
        if self.top_k > 0 && self.top_k < self.candidates.len() {
            sort_first(&mut self.candidates, self.top_k);
            self.candidates.truncate(self.top_k);
        }
        if self.top_p < 1.0 {
            keep_nucleus(&mut self.candidates, self.top_p, weight);
        }
        let total: f64 = self.candidates.iter().map(|(logit, _)| weight(*logit)).sum();
        let mut target = self.random.fraction() * total;
        for (logit, token) in &self.candidates {
            target -= weight(*logit);
            if target < 0.0 {
                return Ok(*token);
            }
        }
        self.candidates.last().map(|(_, token)| *token).ok_or(NothingPossible)
    }
}

/// Keeps the likeliest candidates that together reach `top_p` of the whole weight, at least one.
fn keep_nucleus(candidates: &mut Vec<(f32, Token)>, top_p: f64, weight: impl Fn(f32) -> f64) {
    let total: f64 = candidates.iter().map(|(logit, _)| weight(*logit)).sum();
    let mut sorted = FIRST_SORTED.min(candidates.len());
    sort_first(candidates, sorted);
    let (mut sum, mut count) = (0.0, 0);
    while count < candidates.len() {
        if count == sorted {
            sorted = candidates.len();
            sort_first(candidates, sorted);
        }
        sum += weight(candidates[count].0);
        count += 1;
        if sum >= top_p * total {
            break;
        }
    }
    candidates.truncate(count);
}

/// Puts the `count` likeliest first, in order; of equals the lower id first.
fn sort_first(candidates: &mut [(f32, Token)], count: usize) {
    let order = |a: &(f32, Token), b: &(f32, Token)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, order);
    }
    candidates[..count].sort_unstable_by(order);
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, seedable, and good enough to draw tokens.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A number in `0.0..1.0` of 53 random bits.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exactly what a double holds")]
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn finite_or(value: Option<f64>, default: f64) -> f64 {
    value.filter(|value| value.is_finite()).unwrap_or(default)
}
