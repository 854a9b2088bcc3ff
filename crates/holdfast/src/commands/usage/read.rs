//! Exports of providers: OpenAI's and Anthropic's usage and costs as JSON, and any CSV with a day.
//!
//! Amounts are read digit by digit: no float touches them. What a file does not say is absent, not
//! zero.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use types::Money;

/// By day since the epoch (UTC) and model.
pub(super) type Table = BTreeMap<(i64, String), Amounts>;

/// What is said of a model on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) usd: Option<Money>,
    /// Of the ledger alone.
    pub(super) unreconciled: Money,
}

impl Amounts {
    /// Adds what another line says.
    pub(super) fn add(&mut self, other: &Self) {
        let sum = |one: Option<u64>, other: Option<u64>| {
            [one, other].into_iter().flatten().reduce(u64::saturating_add)
        };
        self.input_tokens = sum(self.input_tokens, other.input_tokens);
        self.output_tokens = sum(self.output_tokens, other.output_tokens);
        let usd = [self.usd, other.usd].into_iter().flatten();
        self.usd = usd.reduce(Money::saturating_add);
        self.unreconciled += other.unreconciled;
    }
}

/// Reads an export.
pub(super) fn read(text: &str) -> anyhow::Result<Table> {
    if text.trim_start().starts_with('{') { read_json(text) } else { read_csv(text) }
}

/// A page of either vendor: buckets of time with results.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<Bucket<'a>>,
}

#[derive(Deserialize)]
struct Bucket<'a> {
    /// OpenAI's: seconds.
    start_time: Option<i64>,
    /// Anthropic's: RFC 3339.
    starting_at: Option<String>,
    #[serde(borrow)]
    results: Vec<Line<'a>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    model: Option<String>,
    line_item: Option<String>,
    input_tokens: Option<u64>,
    uncached_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<BTreeMap<String, u64>>,
    output_tokens: Option<u64>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Amount<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

fn read_json(text: &str) -> anyhow::Result<Table> {
    let page: Page<'_> = serde_json::from_str(text)
        .context("is neither a page of OpenAI's or Anthropic's usage or costs nor a CSV")?;
    let mut table = Table::new();
    for bucket in page.data {
        let day = match (bucket.start_time, &bucket.starting_at) {
            (Some(seconds), _) => seconds.div_euclid(super::DAY),
            (None, Some(text)) => day_of(text)?,
            (None, None) => bail!("has a bucket without start_time or starting_at"),
        };
        for line in bucket.results {
            let model = line.model.as_deref().or(line.line_item.as_deref()).unwrap_or("(all)");
            // OpenAI's costs name what of a model is billed behind a comma.
            let model = model.split(',').next().unwrap_or_default().trim().to_owned();
            table.entry((day, model)).or_default().add(&line.amounts()?);
        }
    }
    Ok(table)
}

impl Line<'_> {
    fn amounts(&self) -> anyhow::Result<Amounts> {
        let written = self.cache_creation.as_ref().map(|written| written.values().sum());
        let apart = [self.uncached_input_tokens, self.cache_read_input_tokens, written];
        let apart = apart.into_iter().flatten().reduce(u64::saturating_add);
        let usd = self.amount.map(|raw| amount(raw.get())).transpose()?;
        let (input_tokens, output_tokens) = (self.input_tokens.or(apart), self.output_tokens);
        Ok(Amounts { input_tokens, output_tokens, usd, ..Amounts::default() })
    }
}

/// OpenAI says dollars in an object, Anthropic cents in a text.
fn amount(raw: &str) -> anyhow::Result<Money> {
    if let Ok(Amount { value }) = serde_json::from_str::<Amount<'_>>(raw) {
        return dollars(value.get().trim_matches('"'), 0);
    }
    dollars(raw.trim_matches('"'), 2)
}

/// Columns by the names that exports have for them.
const DAYS: [&str; 6] =
    ["day", "date", "usage_date_utc", "usage_date", "start_time_iso", "start_time"];
const MODELS: [&str; 4] = ["model", "model_version", "line_item", "snapshot_id"];
const INPUTS: [&str; 7] = [
    "input_tokens",
    "prompt_tokens",
    "usage_input_tokens",
    "n_context_tokens_total",
    "usage_input_tokens_no_cache",
    "usage_input_tokens_cache_read",
    "usage_input_tokens_cache_write",
];
const OUTPUTS: [&str; 4] =
    ["output_tokens", "completion_tokens", "usage_output_tokens", "n_generated_tokens_total"];
const COSTS: [&str; 5] = ["usd", "cost_usd", "amount_value", "cost", "amount"];

fn read_csv(text: &str) -> anyhow::Result<Table> {
    let mut lines = records(text);
    let head: Vec<String> = lines.next().unwrap_or_default();
    let head: Vec<String> =
        head.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_lowercase()).collect();
    let columns = |names: &[&str]| -> Vec<usize> {
        let place = |name: &&str| head.iter().position(|column| column == name);
        names.iter().filter_map(place).collect()
    };
    let (day, model) = (columns(&DAYS), columns(&MODELS));
    let Some(day) = day.first() else {
        bail!("has no column for the day: name one of {}", DAYS.join(", "))
    };
    let (inputs, outputs, costs) = (columns(&INPUTS), columns(&OUTPUTS), columns(&COSTS));
    let mut table = Table::new();
    for (number, line) in lines.enumerate().filter(|(_, line)| line.len() > 1) {
        let cell = |place: &usize| line.get(*place).map_or("", |text| text.trim());
        let sum = |places: &[usize]| -> anyhow::Result<Option<u64>> {
            let cells = places.iter().map(cell).filter(|text| !text.is_empty());
            let counts = cells.map(|text| text.parse::<u64>().context(text.to_owned()));
            counts.reduce(|one, other| Ok(one?.saturating_add(other?))).transpose()
        };
        let read = || -> anyhow::Result<_> {
            let usd = costs.first().map(cell).filter(|text| !text.is_empty());
            let amounts = Amounts {
                input_tokens: sum(&inputs)?,
                output_tokens: sum(&outputs)?,
                usd: usd.map(|text| dollars(text.trim_start_matches('$'), 0)).transpose()?,
                ..Amounts::default()
            };
            Ok((day_of(cell(day))?, amounts))
        };
        let (day, amounts) = read().with_context(|| format!("line {}", number + 2))?;
        let model = model.first().map_or("(all)", cell).split(',').next().unwrap_or_default();
        table.entry((day, model.trim().to_owned())).or_default().add(&amounts);
    }
    Ok(table)
}

/// The records of a CSV: fields with commas, quotes and line ends stand in quotes.
fn records(text: &str) -> impl Iterator<Item = Vec<String>> + '_ {
    let mut letters = text.chars().peekable();
    std::iter::from_fn(move || {
        letters.peek()?;
        let (mut record, mut field, mut quoted) = (Vec::new(), String::new(), false);
        while let Some(letter) = letters.next() {
            match letter {
                '"' if quoted && letters.peek() == Some(&'"') => {
                    field.extend(letters.next());
                }
                '"' => quoted = !quoted,
                ',' if !quoted => record.push(std::mem::take(&mut field)),
                '\r' if !quoted => {}
                '\n' if !quoted => break,
                other => field.push(other),
            }
        }
        record.push(field);
        Some(record)
    })
}

/// Days since the epoch: `2026-11-12`, with or without a time behind it, or seconds.
fn day_of(text: &str) -> anyhow::Result<i64> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds.div_euclid(super::DAY));
    }
    let day: jiff::civil::Date =
        text.get(..10).unwrap_or(text).parse().with_context(|| format!("\"{text}\" is no day"))?;
    let midnight = day.to_zoned(jiff::tz::TimeZone::UTC)?;
    Ok(midnight.timestamp().as_second().div_euclid(super::DAY))
}

/// Places of a dollar that are kept.
const PLACES: i32 = 9;

/// A decimal number, perhaps with an exponent, as an amount: rounded up to a nanodollar. The point
/// is moved to the left by `cents` places first.
fn dollars(text: &str, cents: i32) -> anyhow::Result<Money> {
    let wrong = || format!("\"{text}\" is no amount");
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().with_context(wrong)?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{decimals}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("{}", wrong());
    }
    let behind = i32::try_from(decimals.len()).with_context(wrong)?;
    let shift = exponent.saturating_sub(cents).saturating_sub(behind).saturating_add(PLACES);
    let number: i128 = digits.trim_start_matches('0').parse().unwrap_or(0);
    let factor = |power: i32| 10i128.checked_pow(power.unsigned_abs()).with_context(wrong);
    let nanodollars = match shift {
        _ if number == 0 => 0,
        0.. => number.checked_mul(factor(shift)?).with_context(wrong)?,
        _ => match factor(shift) {
            Ok(divisor) => number / divisor + i128::from(number % divisor > 0),
            Err(_) => 1,
        },
    };
    Ok(Money::from_nanodollars(i64::try_from(nanodollars).with_context(wrong)?))
}
