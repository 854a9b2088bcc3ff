//! `holdfast serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::output;
use crate::guard::lock;
use crate::wire::Platform;
use crate::{config, wire};

/// Where everything durable lies, unless said otherwise.
const DATA_DEFAULT: &str = "holdfast-data";
/// The configuration file that is read without being named, if it is there.
const CONFIG_DEFAULT: &str = "holdfast.toml";

/// Start the platform.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServeArgs {
    /// The configuration file; else `holdfast.toml` if it is there.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// The data folder; else `[data] dir`, else `./holdfast-data`.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Address and port; port 0 picks one and prints it.
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    /// Write `{"url":…,"s3_url":null,"pid":…}` here when requests are served.
    #[arg(long)]
    pub(crate) ready_file: Option<PathBuf>,
}

/// Runs the platform until it is told to stop.
pub(crate) fn run(arguments: ServeArgs) -> anyhow::Result<ExitCode> {
    sessions::stop::check().map_err(anyhow::Error::msg)?;
    let default = PathBuf::from(CONFIG_DEFAULT);
    let file = arguments.config.clone().or_else(|| default.is_file().then_some(default));
    let (mut settings, problems) = config::load(file.as_deref())?;
    if !problems.is_empty() {
        let list: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        bail!("the configuration has {} problem(s):\n{}", problems.len(), list.join("\n"));
    }
    settings.server.listen = arguments.listen.unwrap_or(settings.server.listen);
    let data = arguments
        .data
        .or_else(|| settings.data.dir.clone())
        .unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
    let data = prepare(&data)?;
    let Some(locked) = lock::take_now(&data.join(".lock"))? else {
        bail!("another holdfast is using {}; choose another --data or stop it", data.display());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let platform = wire::start(wire::Setup { settings, data, config_file: file }).await?;
        announce(&platform, arguments.ready_file.as_deref()).await?;
        told_to_stop().await?;
        tracing::info!("stopping");
        platform.stop().await;
        anyhow::Ok(())
    })?;
    drop(locked);
    Ok(ExitCode::SUCCESS)
}

/// Makes the data folder, readable by its owner alone, and answers its absolute path.
#[expect(clippy::disallowed_methods, reason = "called before a runtime exists")]
pub(crate) fn prepare(data: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let made = std::fs::create_dir_all(data);
    made.with_context(|| format!("making the data folder {}", data.display()))?;
    let absolute =
        std::fs::canonicalize(data).with_context(|| format!("reading {}", data.display()))?;
    std::fs::set_permissions(&absolute, PermissionsExt::from_mode(0o700))
        .with_context(|| format!("making {} private", absolute.display()))?;
    Ok(absolute)
}

/// Says where the API is and where the admin key was written.
async fn announce(platform: &Platform, ready_file: Option<&Path>) -> anyhow::Result<()> {
    let said = output::say(format_args!(
        "Holdfast {} is up at {}\n  admin key   {}\n  models      {}",
        env!("CARGO_PKG_VERSION"),
        platform.url(),
        platform.admin_key_at(),
        platform.model_names().join(", ")
    ));
    // The server serves whether or not anybody reads this.
    if let Err(error) = output::quietly(said) {
        tracing::warn!("{error:#}");
    }
    let Some(path) = ready_file else { return Ok(()) };
    let ready = json!({ "url": platform.url(), "s3_url": null, "pid": std::process::id() });
    // Written beside and renamed, so that a reader never sees half of it.
    let beside = path.with_extension("part");
    tokio::fs::write(&beside, ready.to_string())
        .await
        .with_context(|| format!("writing {}", beside.display()))?;
    tokio::fs::rename(&beside, path).await.with_context(|| format!("writing {}", path.display()))
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
