//! The catalogue: what models cost at the vendors that sell them, and from which day on.
//!
//! Rows are data, built by `catalog/models/build.py` from public lists and compiled in; what the
//! operator says of a model goes before them. Invariant: a price that a row does not fully say is
//! no price, for an unknown price is not zero. How a Call is billed must not be known here.

use std::collections::{BTreeMap, HashMap};

use pipeline::PriceList;
use serde::Deserialize;
use storage::models::DatedPrice;
use types::price::{Step, TierRates};
use types::{Money, Price, Rate, Rates, ServiceTier, Timestamp};

/// Every file of `catalog/models/`, by vendor; a test holds that none is missing.
const FILES: &[(&str, &str)] = &[
    ("anthropic", include_str!("../../../catalog/models/anthropic.jsonl")),
    ("azure", include_str!("../../../catalog/models/azure.jsonl")),
    ("bedrock", include_str!("../../../catalog/models/bedrock.jsonl")),
    ("cerebras", include_str!("../../../catalog/models/cerebras.jsonl")),
    ("cloudflare", include_str!("../../../catalog/models/cloudflare.jsonl")),
    ("cohere", include_str!("../../../catalog/models/cohere.jsonl")),
    ("dashscope", include_str!("../../../catalog/models/dashscope.jsonl")),
    ("deepinfra", include_str!("../../../catalog/models/deepinfra.jsonl")),
    ("deepseek", include_str!("../../../catalog/models/deepseek.jsonl")),
    ("fireworks", include_str!("../../../catalog/models/fireworks.jsonl")),
    ("gemini", include_str!("../../../catalog/models/gemini.jsonl")),
    ("groq", include_str!("../../../catalog/models/groq.jsonl")),
    ("huggingface", include_str!("../../../catalog/models/huggingface.jsonl")),
    ("minimax", include_str!("../../../catalog/models/minimax.jsonl")),
    ("mistral", include_str!("../../../catalog/models/mistral.jsonl")),
    ("moonshot", include_str!("../../../catalog/models/moonshot.jsonl")),
    ("openai", include_str!("../../../catalog/models/openai.jsonl")),
    ("openrouter", include_str!("../../../catalog/models/openrouter.jsonl")),
    ("perplexity", include_str!("../../../catalog/models/perplexity.jsonl")),
    ("together", include_str!("../../../catalog/models/together.jsonl")),
    ("vercel", include_str!("../../../catalog/models/vercel.jsonl")),
    ("vertex", include_str!("../../../catalog/models/vertex.jsonl")),
    ("xai", include_str!("../../../catalog/models/xai.jsonl")),
    ("zai", include_str!("../../../catalog/models/zai.jsonl")),
];

/// Vendors whose customers name the models themselves: such a name says nothing of a price.
const NAMED_BY_CUSTOMERS: [&str; 1] = ["azure"];

/// Models with this in their name answer with pictures unasked.
const DRAWS: &str = "-image";

/// Models with one of these in their name search with each request, for a fee.
const SEARCHES: [&str; 3] = ["sonar", "-search-preview", "-search-api"];

/// A model at a vendor.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    /// Its name there.
    pub(crate) id: String,
    /// What it cost from when on, the newest first; empty where nobody knows.
    pub(crate) prices: Vec<RowPrice>,
}

/// A price as the catalogue has it. What a Call can't be billed by yet (single pictures, seconds of
/// video) is in the row and not read here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RowPrice {
    /// The day on which its source said so, `2026-11-12`.
    pub(crate) as_of: String,
    /// Which source the row follows.
    #[serde(default)]
    pub(crate) from: Option<String>,
    #[serde(flatten)]
    said: RowRates,
    /// An output token of a picture.
    #[serde(default)]
    image_output: Option<Rate>,
    /// A fee per request.
    #[serde(default)]
    request: Option<Money>,
    /// A fee per search, or one by how much of the found is read.
    #[serde(default)]
    web_search: Option<Fee>,
    #[serde(default)]
    steps: Vec<RowStep>,
    /// What tokens cost at other tiers.
    #[serde(default)]
    tiers: BTreeMap<ServiceTier, RowTier>,
    /// Where it costs something else.
    #[serde(default)]
    regions: BTreeMap<String, InRegion>,
    /// What the other source says otherwise, by rate.
    #[serde(default)]
    pub(crate) disagrees: BTreeMap<String, String>,
}

/// A fee.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Fee {
    One(Money),
    BySize(BTreeMap<String, Money>),
}

impl Fee {
    fn dearest(&self) -> Option<Money> {
        match self {
            Self::One(fee) => Some(*fee),
            Self::BySize(fees) => fees.values().max().copied(),
        }
    }
}

/// Rates of longer prompts: what is absent is as for shorter ones.
#[derive(Clone, Debug, Deserialize)]
struct RowStep {
    above: u64,
    #[serde(flatten)]
    said: RowRates,
}

/// What it costs at a tier. What is absent is as at the usual one.
#[derive(Clone, Debug, Deserialize)]
struct RowTier {
    #[serde(flatten)]
    said: RowRates,
    #[serde(default)]
    steps: Vec<RowStep>,
}

/// What it costs in a region. What is absent is nowhere else to be looked for.
#[derive(Clone, Debug, Deserialize)]
struct InRegion {
    #[serde(flatten)]
    said: RowRates,
    #[serde(default)]
    steps: Vec<RowStep>,
    #[serde(default)]
    tiers: BTreeMap<ServiceTier, RowTier>,
}

/// What a row says of tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct RowRates {
    input: Option<Rate>,
    output: Option<Rate>,
    cached_input: Option<Rate>,
    cache_write: Option<Rate>,
    cache_write_1h: Option<Rate>,
    reasoning: Option<Rate>,
    audio_input: Option<Rate>,
    cached_audio_input: Option<Rate>,
    audio_output: Option<Rate>,
    image_input: Option<Rate>,
}

impl RowPrice {
    /// The price of a model of that name, if the row says all of it. What a list says to cost
    /// nothing is not known: giving it away is the operator's word.
    pub(crate) fn price(&self, model: &str) -> Option<Price> {
        let said = self.said;
        let input = said.input.filter(|input| *input > Rate::FREE)?;
        // What answers with no tokens has no price for them; pictures come unasked.
        let output = said.output.max(self.image_output).unwrap_or(Rate::FREE);
        if model.contains(DRAWS) && self.image_output.is_none() {
            return None;
        }
        let rates = Rates {
            input,
            output,
            cached_input: said.cached_input,
            cache_write: said.cache_write.and_then(|write| with_input(write, input)),
            cache_write_1h: said.cache_write_1h,
            reasoning: said.reasoning.filter(|reasoning| *reasoning > Rate::FREE),
            audio_input: said.audio_input,
            cached_audio_input: said.cached_audio_input,
            image_input: said.image_input,
            audio_output: said.audio_output,
        };
        let per_search = self.web_search.as_ref().and_then(Fee::dearest);
        let search = match SEARCHES.iter().any(|name| model.contains(name)) {
            true => per_search?,
            false => Money::ZERO,
        };
        let tiers = self.tiers.iter().filter(|(tier, _)| !tier.is_standard());
        Some(Price {
            version: format!("catalog@{}", self.as_of),
            rates,
            steps: self.steps.iter().map(|step| step.after(rates)).collect(),
            per_request: self.request.unwrap_or(Money::ZERO).saturating_add(search),
            per_search: if search > Money::ZERO { Some(Money::ZERO) } else { per_search },
            tiers: tiers.map(|(tier, row)| row.at(*tier, rates)).collect(),
        })
    }

    /// The same price in a region.
    fn within(self, region: Option<&str>) -> Self {
        let Some(there) = region.and_then(|region| self.regions.get(region)).cloned() else {
            return self;
        };
        let InRegion { said, steps, tiers } = there;
        Self { said, steps, tiers, ..self }
    }

    /// The beginning of the day on which its source said so.
    fn since(&self) -> Option<Timestamp> {
        let day: jiff::civil::Date = self.as_of.parse().ok()?;
        let midnight = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Timestamp(midnight.timestamp().as_microsecond()))
    }
}

impl RowTier {
    fn at(&self, tier: ServiceTier, usual: Rates) -> TierRates {
        let rates = self.said.over(usual);
        let steps = self.steps.iter().map(|step| step.after(rates)).collect();
        TierRates { tier, rates, steps }
    }
}

impl RowStep {
    fn after(&self, short: Rates) -> Step {
        Step { above: self.above, rates: self.said.over(short) }
    }
}

impl RowRates {
    /// What holds instead of `short`. A part whose whole costs something else here, and that is not
    /// named, costs what the whole does.
    fn over(self, short: Rates) -> Rates {
        let said = self;
        let of_input = |rate: Option<Rate>| rate.filter(|_| said.input.is_none());
        let of_output = |rate: Option<Rate>| rate.filter(|_| said.output.is_none());
        let input = said.input.unwrap_or(short.input);
        let written = said.cache_write.and_then(|write| with_input(write, input));
        Rates {
            input,
            output: said.output.unwrap_or(short.output),
            cached_input: said.cached_input.or_else(|| of_input(short.cached_input)),
            cache_write: written.or_else(|| of_input(short.cache_write)),
            cache_write_1h: said.cache_write_1h.or_else(|| of_input(short.cache_write_1h)),
            reasoning: said.reasoning.or_else(|| of_output(short.reasoning)),
            audio_input: said.audio_input.or_else(|| of_input(short.audio_input)),
            cached_audio_input: said
                .cached_audio_input
                .or_else(|| of_input(short.cached_audio_input)),
            image_input: said.image_input.or_else(|| of_input(short.image_input)),
            audio_output: said.audio_output.or_else(|| of_output(short.audio_output)),
        }
    }
}

/// What a written token costs: some lists say only what is added to the input's price, and nothing
/// where they don't know.
fn with_input(write: Rate, input: Rate) -> Option<Rate> {
    let added = Rate::from_picodollars(write.picodollars().saturating_add(input.picodollars()));
    (write > Rate::FREE).then_some(if write < input { added } else { write })
}

/// The vendors of the catalogue.
pub(crate) fn vendors() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(vendor, _)| *vendor)
}

/// The rows of a vendor, by name; none of one that the catalogue does not have.
pub(crate) fn rows(vendor: &str) -> Vec<Row> {
    let text = FILES.iter().find(|(name, _)| *name == vendor).map_or("", |(_, text)| text);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// What a vendor's models cost.
#[derive(Debug)]
pub(crate) struct Prices(HashMap<String, Vec<DatedPrice>>);

impl Prices {
    /// Of a vendor whose own names its models are asked for by, in `region`.
    pub(crate) fn of(vendor: &str, region: Option<&str>) -> Self {
        if NAMED_BY_CUSTOMERS.contains(&vendor) {
            return Self(HashMap::new());
        }
        let there = |row: Row| {
            let prices = row.prices.into_iter().map(|price| price.within(region)).collect();
            let row = Row { id: row.id, prices };
            (row.id.clone(), dated(&row))
        };
        Self(rows(vendor).into_iter().map(there).collect())
    }
}

impl PriceList for Prices {
    fn prices(&self, model: &str) -> &[DatedPrice] {
        self.0.get(model).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A row's prices, oldest first. The oldest that is known holds for all that was before.
fn dated(row: &Row) -> Vec<DatedPrice> {
    let known = row.prices.iter().rev();
    let known = known.filter_map(|price| Some((price.since()?, price.price(&row.id)?)));
    let first = |at: usize, since| if at == 0 { Timestamp(0) } else { since };
    let dated = |(at, (since, price))| DatedPrice { since: first(at, since), price };
    known.enumerate().map(dated).collect()
}

#[cfg(test)]
mod tests;
