//! Part 5: a budget of a few cents, 64 concurrent calls, and what the provider itself counted.

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::json;
use types::{Money, Price, Rate, Rates, Usage};

use super::client::Client;
use super::narrator::{Narrator, number};
use super::platform::Stage;

/// Concurrent calls.
const CALLS: usize = 64;
/// The budget.
const LIMIT_USD: &str = "0.03";
/// Name of the key whose money it is.
const KEY: &str = "spender";
/// The priced provider's prices, as the configuration has them, per million tokens.
const PRICES: (&str, &str) = ("2.00", "8.00");

/// The budget's amounts at the end.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Amounts {
    limit_usd: String,
    settled_usd: String,
    unreconciled_usd: String,
    presumed_usd: String,
    refused: usize,
}

/// Fires the calls and shows both counts.
pub(super) async fn show(stage: &Stage, narrator: &Narrator) -> anyhow::Result<Amounts> {
    let admin = stage.admin()?;
    let budget = json!({ "limit_usd": LIMIT_USD, "window": "total" });
    let key = admin.post("/api/keys", &json!({ "name": KEY, "budget": budget })).await?;
    let secret = key["secret"].as_str().context("no secret was shown")?;
    let before = Stage::log(&stage.requests()).len();
    let spender = Client::new(&stage.url(), secret);
    let answers = join_all((0..CALLS).map(|index| one_call(spender.clone(), index))).await;
    let statuses = answers.into_iter().collect::<anyhow::Result<Vec<u16>>>()?;
    let refused = statuses.iter().filter(|&&status| status == 429).count();
    let answered = statuses.iter().filter(|&&status| status == 200).count();
    ensure!(
        refused + answered == CALLS,
        "some calls were neither answered nor refused: {statuses:?}"
    );
    let budgets = admin.get("/api/budgets").await?;
    let mine = budgets["data"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|budget| budget["scope"]["key"] == KEY);
    let mine = mine.context("the budget is gone")?;
    let text = |name: &str| mine[name].as_str().unwrap_or_default().to_owned();
    let counted = provider_count(stage, before)?;
    narrator.say(&format!(
        "  {CALLS} calls at once under ${LIMIT_USD}: {answered} answered, {refused} refused"
    ))?;
    narrator.say(&format!(
        "  settled ${}, unreconciled ${}, presumed ${}, of limit ${}",
        text("settled_usd"),
        text("unreconciled_usd"),
        text("presumed_usd"),
        text("limit_usd")
    ))?;
    narrator.say(&format!("  the provider itself counted ${counted}"))?;
    ensure!(counted.to_string() == text("settled_usd"), "the ledger and the provider disagree");
    Ok(Amounts {
        limit_usd: text("limit_usd"),
        settled_usd: text("settled_usd"),
        unreconciled_usd: text("unreconciled_usd"),
        presumed_usd: text("presumed_usd"),
        refused,
    })
}

async fn one_call(client: Client, index: usize) -> anyhow::Result<u16> {
    let content = format!("Say hello to guest {index}.");
    let body = json!({ "model": "priced/demo", "messages": [{ "role": "user", "content": content }], "max_tokens": 64 });
    let (status, _) = client.json(http::Method::POST, "/v1/chat/completions", Some(&body)).await?;
    Ok(status)
}

/// What the provider's own log adds up to, each request rounded up once as a bill is.
fn provider_count(stage: &Stage, before: usize) -> anyhow::Result<Money> {
    let (input, output) = PRICES;
    let price = Price {
        rates: Rates {
            input: Rate::parse_per_million(input)?,
            output: Rate::parse_per_million(output)?,
            ..Rates::default()
        },
        ..Price::free("provider")
    };
    let requests = Stage::log(&stage.requests());
    let finished = requests.iter().skip(before).filter(|request| request["finished"] == true);
    let cost = |request: &serde_json::Value| {
        price.cost(&Usage {
            input_tokens: number(&request["usage"]["prompt_tokens"]),
            output_tokens: number(&request["usage"]["completion_tokens"]),
            ..Usage::default()
        })
    };
    Ok(finished.map(cost).sum())
}
