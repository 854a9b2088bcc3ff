//! `holdfast check`: every problem of the configuration, and what it would serve.

use std::path::PathBuf;
use std::process::ExitCode;

use super::output;
use crate::config;

/// Check the configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The configuration file.
    #[arg(long, default_value = "holdfast.toml")]
    config: PathBuf,
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
    let said = if arguments.json {
        let answer =
            serde_json::json!({ "problems": problems, "warnings": warnings, "unpriced": unpriced });
        serde_json::to_string_pretty(&answer)?
    } else {
        let problem = |problem: &config::Problem| format!("problem  {problem}\n");
        let no_price = |model: &String| {
            format!("unpriced {model}: a hard budget refuses it; give it a price or free = true\n")
        };
        let warning = |warning: &config::Problem| format!("warning  {warning}\n");
        let lines = problems.iter().map(problem).chain(warnings.iter().map(warning));
        let lines: String = lines.chain(unpriced.iter().map(no_price)).collect();
        format!("{lines}{}: {} problem(s)", arguments.config.display(), problems.len())
    };
    // Whether there is a problem is told by the exit status too, whoever reads the rest.
    output::quietly(output::say(said))?;
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unpriced(config: &config::Config) -> Vec<String> {
    let of = |provider: &config::ProviderEntry| -> Vec<String> {
        let models = provider.models.iter().filter(|model| !model.price.is_priced());
        models.map(|model| format!("{}/{}", provider.name, model.id)).collect()
    };
    config.providers.iter().flat_map(of).collect()
}
