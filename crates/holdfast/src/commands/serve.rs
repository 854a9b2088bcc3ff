//! `holdfast serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::output;
use crate::config::Config;
use crate::guard::lock;
use crate::wire::Platform;
use crate::{config, wire};

pub(super) mod folder;

/// Where everything durable lies, unless said otherwise.
pub(super) const DATA_DEFAULT: &str = "holdfast-data";
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
    #[arg(long, value_parser = address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Write `{"url":…,"s3_url":null,"pid":…}` here when requests are served.
    #[arg(long)]
    pub(crate) ready_file: Option<PathBuf>,
    /// How the log is written: for people, or one JSON object per line.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Runs the platform until it is told to stop.
pub(crate) fn run(arguments: ServeArgs) -> anyhow::Result<ExitCode> {
    sessions::stop::check().map_err(anyhow::Error::msg)?;
    let default = PathBuf::from(CONFIG_DEFAULT);
    let file = arguments.config.clone().or_else(|| default.is_file().then_some(default));
    let stamp = file.as_deref().and_then(config::Stamp::of);
    let (mut settings, problems) = config::load(file.as_deref())?;
    if !problems.is_empty() {
        let list: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        bail!("the configuration has {} problem(s):\n{}", problems.len(), list.join("\n"));
    }
    let flags =
        [("server.listen", arguments.listen.is_some()), ("data.dir", arguments.data.is_some())];
    let by_flag = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(at, _)| at).collect();
    let source = wire::Source { file, stamp, by_flag };
    settings.server.listen = arguments.listen.unwrap_or(settings.server.listen);
    let data = arguments
        .data
        .or_else(|| settings.data.dir.clone())
        .unwrap_or_else(|| PathBuf::from(DATA_DEFAULT));
    // Before anything is made, so that a start that can't succeed leaves nothing behind.
    is_free(settings.server.listen)?;
    let data = folder::prepare(&data)?;
    let Some(locked) = lock::take_now(&data.join(folder::LOCK))? else {
        bail!("another holdfast is using {}; choose another --data or stop it", data.display());
    };
    warn(&settings);
    let told = data.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let platform = wire::start(wire::Setup { settings, data, source }).await?;
        folder::tell(&told, platform.url())?;
        announce(&platform, arguments.ready_file.as_deref()).await?;
        told_to_stop().await?;
        tracing::info!("stopping");
        folder::forget(&told);
        platform.stop().await;
        anyhow::Ok(())
    })?;
    drop(locked);
    Ok(ExitCode::SUCCESS)
}

/// What a start takes and somebody may be surprised by.
fn warn(settings: &Config) {
    for warning in config::warnings::of_process(settings) {
        tracing::warn!("{warning}");
    }
}

/// Reads an address and a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an address and a port, such as 127.0.0.1:8471".to_owned())
}

/// Whether the address can be listened on. Nobody can connect meanwhile.
fn is_free(address: SocketAddr) -> anyhow::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let bound =
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).and_then(|socket| {
            // As the listener has it: an address whose last connections are still closing is free.
            sockopt::set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &address)
        });
    bound.with_context(|| {
        format!(
            "{address} can't be listened on; choose another address by --listen, such as --listen 127.0.0.1:8471"
        )
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_with_an_example() {
        assert!(address("127.0.0.1:8471").is_ok() && address("[::1]:0").is_ok());
        for text in ["localhost:8471", "8471", ":8471", ""] {
            assert!(address(text).unwrap_err().contains("127.0.0.1:8471"), "{text}");
        }
    }

    #[test]
    fn a_port_in_use_is_told_before_anything_is_made() {
        let used = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let told = is_free(used.local_addr().unwrap()).unwrap_err().to_string();
        assert!(told.contains("--listen"), "{told}");
        assert!(is_free(SocketAddr::from(([127, 0, 0, 1], 0))).is_ok());
    }
}
