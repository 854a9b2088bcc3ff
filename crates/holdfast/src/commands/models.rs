//! `holdfast models`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};

use super::api::ApiArgs;
use super::table;

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
    /// Add a GGUF file of the server's machine, or price a provider's model.
    Add {
        /// A GGUF file, or `provider/model`.
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
            if PathBuf::from(&what).extension().is_some_and(|extension| extension == "gguf") {
                let path = absolute(&what)?;
                let stem =
                    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("model").to_owned();
                body["name"] = json!(name.unwrap_or(stem));
                body["path"] = json!(path);
            } else {
                body["name"] = json!(what);
            }
            let answer = api.post("models", &body).await?;
            api.print(&answer, |answer| show(&json!({ "data": [answer] })))
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a command has nothing else to do meanwhile")]
fn absolute(path: &str) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("{path} is not there"))
}

fn show(answer: &Value) {
    let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = data
        .iter()
        .map(|model| {
            let latest = model["prices"].as_array().and_then(|prices| prices.last());
            let price = latest.map_or(&Value::Null, |dated| &dated["price"]);
            let priced = |field: &str| {
                if price.is_null() { "unpriced".to_owned() } else { table::cell(&price[field]) }
            };
            vec![
                table::cell(&model["name"]),
                table::cell(&model["context_tokens"]),
                priced("input"),
                priced("output"),
                table::cell(&model["origin"]),
            ]
        })
        .collect();
    table::print(&["name", "context", "$/M in", "$/M out", "origin"], &rows);
}
