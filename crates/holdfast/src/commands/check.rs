//! `holdfast check`: every problem of the configuration, what it would serve, and where a data
//! folder's objects come from.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use server::ObjectView;
use storage::sqlite::SqliteStore;

use super::output;
use crate::{config, wire};

/// Check the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The configuration file.
    #[arg(long, default_value = "holdfast.toml")]
    config: PathBuf,
    /// Also list the objects of this data folder: where each comes from, and whether the file says
    /// otherwise.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; fails if there is a problem.
pub(crate) fn run(arguments: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (config, problems) = config::load(Some(&arguments.config))?;
    let unpriced: Vec<String> = unpriced(&config);
    let mut warnings = config::warnings::of_process(&config);
    let in_file = |name: &str| config.keys.iter().any(|key| key.name == name);
    warnings.extend(config::warnings::of_keys(&config, &in_file));
    let offered = |name: &str| config.offers(name, &|name| std::env::var(name).ok());
    warnings.extend(config::warnings::of_routes(&config, &offered));
    let objects = arguments.data.as_deref().map(|data| objects(data, &config)).transpose()?;
    let said = if arguments.json {
        let mut answer =
            serde_json::json!({ "problems": problems, "warnings": warnings, "unpriced": unpriced });
        if let Some(objects) = &objects {
            answer["objects"] = serde_json::to_value(objects)?;
        }
        serde_json::to_string_pretty(&answer)?
    } else {
        let problem = |problem: &config::Problem| format!("problem  {problem}\n");
        let no_price = |model: &String| {
            format!("unpriced {model}: a hard budget refuses it; give it a price or free = true\n")
        };
        let warning = |warning: &config::Problem| format!("warning  {warning}\n");
        let lines = problems.iter().map(problem).chain(warnings.iter().map(warning));
        let object = |object: &ObjectView| {
            let ObjectView { kind, name, origin, differs_from_file } = object;
            let differs = if *differs_from_file { ", differs from the file" } else { "" };
            format!("object   {kind} {name}: {origin}{differs}\n")
        };
        let lines = lines.chain(objects.iter().flatten().map(object));
        let lines: String = lines.chain(unpriced.iter().map(no_price)).collect();
        format!("{lines}{}: {} problem(s)", arguments.config.display(), problems.len())
    };
    // Whether there is a problem is told by the exit status too, whoever reads the rest.
    output::quietly(output::say(said))?;
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The objects that a data folder holds, read also while its server runs. Providers and tool
/// servers are in no store: a start would take them as the file has them.
fn objects(data: &Path, config: &config::Config) -> anyhow::Result<Vec<ObjectView>> {
    let path = data.join(wire::DATABASE);
    let cannot = || format!("{}: the objects can't be read", path.display());
    let store = SqliteStore::open_read_only(&path).with_context(cannot)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let stored = runtime.block_on(wire::origins::Stored::read(&store)).with_context(cannot)?;
    Ok(wire::origins::of(config, config, &stored))
}

fn unpriced(config: &config::Config) -> Vec<String> {
    let of = |provider: &config::ProviderEntry| -> Vec<String> {
        let models = provider.models.iter().filter(|model| !model.price.is_priced());
        models.map(|model| format!("{}/{}", provider.name, model.id)).collect()
    };
    config.providers.iter().flat_map(of).collect()
}
