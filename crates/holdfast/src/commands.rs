//! What the command line offers. All but `serve`, `demo`, `check`, `providers` and `guard` talk to
//! a running server over `/api`. What they print goes through [`output`].

use std::process::ExitCode;

use clap::Subcommand;

use crate::guard;

mod api;
mod budgets;
mod calls;
mod check;
mod demo;
mod keys;
mod models;
mod output;
mod prices;
mod providers;
mod rate_limits;
mod routes;
mod serve;
mod sessions;
mod table;
mod usage;

pub(crate) use output::ReaderGone;
pub(crate) use serve::{LogFormat, ServeArgs};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the platform.
    Serve(ServeArgs),
    /// Show the whole of it in under a minute.
    Demo(demo::DemoArgs),
    /// Check the configuration; lists every problem with its key path.
    Check(check::CheckArgs),
    /// The vendors that a provider can be of, and how well each is known.
    Providers(providers::ProvidersArgs),
    /// API keys.
    Keys(keys::KeysArgs),
    /// Finished Calls with usage, cost and timings.
    Calls(calls::CallsArgs),
    /// Sessions, their steps, and those in doubt.
    Sessions(sessions::SessionsArgs),
    /// Limits on money and what they hold.
    Budgets(budgets::BudgetsArgs),
    /// Limits on what callers may do in a length of time.
    RateLimits(rate_limits::RateLimitsArgs),
    /// What providers say of the usage, beside the ledger.
    Usage(usage::UsageArgs),
    /// Models that clients can ask for.
    Models(models::ModelsArgs),
    /// Names for several models, and their former versions.
    Routes(routes::RoutesArgs),
    /// Have the server read its configuration file again.
    Reload(routes::ReloadArgs),
    /// Stand between the server and one of its children (used by the server itself).
    #[command(hide = true)]
    Guard(guard::GuardArgs),
}

impl Command {
    /// Whether it runs the platform rather than asking it.
    pub(crate) const fn is_server(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Guard(_))
    }

    /// Whether its log is to be JSON.
    pub(crate) fn logs_json(&self) -> bool {
        matches!(self, Self::Serve(arguments) if arguments.log_format == LogFormat::Json)
    }
}

/// Runs a command.
pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        // Before any runtime or thread: the guard must stay single-threaded.
        Command::Guard(arguments) => guard::run(&arguments).map(ExitCode::from),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Providers(arguments) => providers::run(&arguments),
        Command::Keys(arguments) => ask(keys::run(arguments)),
        Command::Calls(arguments) => ask(calls::run(arguments)),
        Command::Sessions(arguments) => ask(sessions::run(arguments)),
        Command::Budgets(arguments) => ask(budgets::run(arguments)),
        Command::RateLimits(arguments) => ask(rate_limits::run(arguments)),
        Command::Usage(arguments) => ask(usage::run(arguments)),
        Command::Models(arguments) => ask(models::run(arguments)),
        Command::Routes(arguments) => ask(routes::run(arguments)),
        Command::Reload(arguments) => ask(routes::reload(arguments)),
    }
}

/// Runs a question to a server.
fn ask(question: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(question)?;
    Ok(ExitCode::SUCCESS)
}
