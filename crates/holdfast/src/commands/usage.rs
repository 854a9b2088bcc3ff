//! `holdfast usage import`: what a provider says it was used for, beside what the ledger says.
//!
//! Reads an export and asks for rows, and changes nothing: what a difference means is for people.

mod read;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use types::Money;

use super::api::{ApiArgs, encoded};
use super::table;
use read::{Amounts, Table};

/// Bytes of an export at most.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Pages of the ledger that are read at most, a thousand rows each.
const PAGES_MAX: usize = 5_000;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// What providers say of the usage.
#[derive(Debug, clap::Args)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: UsageCommand,
}

#[derive(Debug, Subcommand)]
enum UsageCommand {
    /// Compare a provider's export with the ledger, by day and model; nothing is changed.
    Import {
        /// The export: JSON of OpenAI's or Anthropic's usage and cost pages, or a CSV with columns
        /// such as day, model, input_tokens, output_tokens, usd.
        file: PathBuf,
        /// The configured provider whose rows are compared.
        #[arg(long)]
        provider: String,
        /// Leave out what agrees.
        #[arg(long)]
        differing: bool,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: UsageArgs) -> anyhow::Result<()> {
    let UsageCommand::Import { file, provider, differing } = arguments.command;
    let theirs = read::read(&text_of(&file)?).with_context(|| file.display().to_string())?;
    let Some((first, last)) = days_of(&theirs) else {
        bail!("{}: has no day with usage or costs", file.display())
    };
    let ours = ledger(&arguments.api, &provider, (first, last)).await?;
    let mut lines = compared(&theirs, &ours);
    if differing {
        lines.retain(|line| line["difference_usd"] != "0.00" || line["tokens_differ"] == true);
    }
    arguments.api.print(&json!({ "provider": provider, "data": lines }), shown)
}

#[expect(clippy::disallowed_methods, reason = "a command that does nothing else meanwhile")]
fn text_of(file: &std::path::Path) -> anyhow::Result<String> {
    let about = || file.display().to_string();
    if std::fs::metadata(file).with_context(about)?.len() > FILE_BYTES_MAX {
        bail!("{}: is larger than {FILE_BYTES_MAX} bytes", file.display());
    }
    std::fs::read_to_string(file).with_context(about)
}

fn days_of(table: &Table) -> Option<(i64, i64)> {
    let days = || table.keys().map(|(day, _)| *day);
    days().min().zip(days().max())
}

/// What the ledger has of those days, by day and model.
async fn ledger(api: &ApiArgs, provider: &str, (first, last): (i64, i64)) -> anyhow::Result<Table> {
    let mut table = Table::new();
    let mut before = String::new();
    for _ in 0..PAGES_MAX {
        let path = format!("calls?limit=1000&since={}{before}", first * DAY);
        let page = api.get(&path).await?;
        let rows = page["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        for row in rows {
            take(&mut table, row, provider, last);
        }
        match (page["has_more"].as_bool(), rows.last()) {
            (Some(true), Some(row)) => {
                before = format!("&before={}", encoded(row["call"].as_str().unwrap_or_default()));
            }
            _ => return Ok(table),
        }
    }
    bail!("the ledger has more rows of these days than can be compared at once: give fewer days")
}

/// Adds a row of the ledger, if it is of the provider and of one of the days.
fn take(table: &mut Table, row: &Value, provider: &str, last: i64) {
    let target = row["target"].as_str().unwrap_or_default();
    let Some((of, model)) = target.split_once('/') else { return };
    let day = row["started_at"].as_i64().unwrap_or(0).div_euclid(DAY * 1_000_000);
    if of != provider || day > last {
        return;
    }
    let money =
        |name: &str| Money::parse(row[name].as_str().unwrap_or_default()).unwrap_or_default();
    let tokens = |name: &str| row["usage"][name].as_u64().unwrap_or(0);
    let model = row["model_version"].as_str().unwrap_or(model).to_owned();
    let known = table.entry((day, model)).or_default();
    known.add(&Amounts {
        input_tokens: Some(tokens("input_tokens")),
        output_tokens: Some(tokens("output_tokens")),
        usd: Some(money("cost")),
        unreconciled: money("unreconciled"),
    });
}

/// Both beside each other, by day and model.
fn compared(theirs: &Table, ours: &Table) -> Vec<Value> {
    let all: BTreeMap<_, ()> = theirs.keys().chain(ours.keys()).map(|key| (key, ())).collect();
    let line = |(day, model): &(i64, String)| {
        let key = (*day, model.clone());
        let of = |table: &Table| table.get(&key).copied().unwrap_or_default();
        let (said, known) = (of(theirs), of(ours));
        let difference = said.usd.map(|usd| difference(usd, known.usd.unwrap_or_default()));
        json!({
            "day": table::time(&json!(day * DAY * 1_000_000)).get(..10),
            "model": model,
            "ledger_usd": known.usd.unwrap_or_default(),
            "unreconciled_usd": known.unreconciled,
            "provider_usd": said.usd,
            "difference_usd": difference,
            "ledger_tokens": [known.input_tokens.unwrap_or(0), known.output_tokens.unwrap_or(0)],
            "provider_tokens": [said.input_tokens, said.output_tokens],
            "tokens_differ": differs(said.input_tokens, known.input_tokens)
                || differs(said.output_tokens, known.output_tokens),
        })
    };
    all.keys().map(|key| line(key)).collect()
}

/// What the provider says more, or less with a minus.
fn difference(said: Money, known: Money) -> Money {
    Money::from_nanodollars(said.nanodollars().saturating_sub(known.nanodollars()))
}

fn differs(said: Option<u64>, known: Option<u64>) -> bool {
    said.is_some_and(|said| said != known.unwrap_or(0))
}

fn shown(answer: &Value) -> String {
    let fields =
        ["day", "model", "ledger_usd", "unreconciled_usd", "provider_usd", "difference_usd"];
    let mut rows = table::rows(answer, &fields);
    let lines = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (row, line) in rows.iter_mut().zip(lines) {
        row.push(table::cell(&line["ledger_tokens"]));
        row.push(table::cell(&line["provider_tokens"]));
    }
    let headings = ["day", "model", "ledger", "unreconciled", "provider", "difference"];
    table::render(&[headings.as_slice(), &["tokens", "provider's"]].concat(), &rows)
}

#[cfg(test)]
mod tests;
