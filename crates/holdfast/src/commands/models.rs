//! `holdfast models`.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Subcommand;
use serde_json::{Value, json};

use types::Price;

use super::api::{ApiArgs, encoded};
use super::{prices, table};

/// The file by which the folder of a static model is known.
const STATIC_WEIGHTS: &str = "model.safetensors";

/// Models that clients can ask for.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelsArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// All models with their prices.
    List,
    /// Add a GGUF file or a static model's folder of the server's machine, or price a provider's
    /// model.
    Add {
        /// A GGUF file, the folder of a static model, or `provider/model`.
        what: String,
        /// The name of a local model: asked for as local/NAME; else the file's name.
        #[arg(long)]
        name: Option<String>,
        /// Dollars per million input tokens.
        #[arg(long)]
        input: Option<String>,
        /// Dollars per million output tokens.
        #[arg(long)]
        output: Option<String>,
        /// It costs nothing.
        #[arg(long)]
        free: bool,
    },
    /// What the catalogue says that models cost, which holds where nothing else is said; asks no
    /// server.
    Prices {
        /// Only models with this in their name.
        name: Option<String>,
        /// Only those of which the sources say different things.
        #[arg(long)]
        check: bool,
    },
    /// Remove a model: it can't be asked for any more, answers in progress end.
    #[command(alias = "remove")]
    Delete {
        /// Its name, such as `local/NAME` or `provider/model`.
        name: String,
    },
}

/// Runs the command.
pub(crate) async fn run(arguments: ModelsArgs) -> anyhow::Result<()> {
    let api = &arguments.api;
    match arguments.command {
        ModelsCommand::List => {
            let answer = api.get("models").await?;
            api.print(&answer, show)
        }
        ModelsCommand::Add { what, name, input, output, free } => {
            let mut body = json!({ "input_usd_per_million": input, "output_usd_per_million": output, "free": free });
            let given = PathBuf::from(&what);
            let is_gguf = given.extension().is_some_and(|extension| extension == "gguf");
            if is_gguf || given.join(STATIC_WEIGHTS).exists() {
                let path = absolute(&what)?;
                let stem = if is_gguf { path.file_stem() } else { path.file_name() };
                let stem = stem.and_then(|stem| stem.to_str()).unwrap_or("model").to_owned();
                body["name"] = json!(name.unwrap_or(stem));
                body["path"] = json!(path);
            } else {
                ensure!(name.is_none(), "--name names a local model, and {what} is none");
                body["name"] = json!(what);
            }
            let answer = api.post("models", &body).await?;
            api.print(&answer, |answer| show(&json!({ "data": [answer] })))
        }
        ModelsCommand::Prices { name, check } => {
            api.print(&prices::list(name.as_deref(), check), prices::show)
        }
        ModelsCommand::Delete { name } => {
            let answer = api.delete(&format!("models/{}", encoded(&name))).await?;
            api.print(&answer, |_| format!("deleted {name}"))
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a command has nothing else to do meanwhile")]
fn absolute(path: &str) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("{path} is not there"))
}

fn show(answer: &Value) -> String {
    let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = data
        .iter()
        .map(|model| {
            let [input, output, request] = price(&model["price"]);
            vec![
                table::cell(&model["name"]),
                table::cell(&model["context_tokens"]),
                input,
                output,
                request,
                table::cell(&model["origin"]),
            ]
        })
        .collect();
    table::render(&["name", "context", "$/M in", "$/M out", "$/request", "origin"], &rows)
}

/// What a model costs now, per million tokens in and out and per request. What costs nothing is not
/// what has no price: a hard budget refuses the latter.
fn price(price: &Value) -> [String; 3] {
    if price.is_null() {
        return ["unpriced", "unpriced", "unpriced"].map(str::to_owned);
    }
    let read = serde_json::from_value::<Price>(price.clone());
    if read.is_ok_and(|price| price.is_free()) {
        return ["free", "free", "free"].map(str::to_owned);
    }
    ["input", "output", "per_request"].map(|field| table::cell(&price[field]))
}

#[cfg(test)]
mod tests {
    use types::{Money, Rate};

    use super::*;

    fn shown(now: Option<&Price>) -> [String; 3] {
        price(&serde_json::to_value(now).unwrap())
    }

    #[test]
    fn free_is_not_unpriced() {
        assert_eq!(shown(None), ["unpriced"; 3]);
        let free = Price::free("file@1");
        assert_eq!(shown(Some(&free)), ["free"; 3]);
        let mut per_token = free.clone();
        per_token.rates.output = Rate::parse_per_million("0.40").unwrap();
        assert_eq!(shown(Some(&per_token)), ["0.00", "0.40", "0.00"]);
        let per_request = Price { per_request: Money::parse("0.01").unwrap(), ..free };
        assert_eq!(shown(Some(&per_request)), ["0.00", "0.00", "0.01"]);
    }
}
