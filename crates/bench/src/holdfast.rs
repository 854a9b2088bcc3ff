//! Holdfast under measurement: a fresh data folder, key, budget, price and ledger on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::process::{Process, wait_for};
use crate::systems::System;

/// The key that benchmarks use.
pub(crate) const KEY: &str = "hf_benchmark_key_0123456789";

/// The operator's key.
pub(crate) const ADMIN_KEY: &str = "hf_benchmark_admin_0123456789";

/// The budgets that most benchmarks run under; none uses them up.
const TWO_BUDGETS: &str = r#"
[[budgets]]
scope = "account"
limit_usd = "1000000.00"

[[budgets]]
scope = { key = "bench" }
limit_usd = "1000000.00"
window = "day"
"#;

/// A running server and its folder.
#[derive(Debug)]
pub(crate) struct Holdfast {
    pub(crate) process: Process,
    pub(crate) url: String,
    folder: tempfile::TempDir,
}

impl Holdfast {
    /// Starts a server with `config` appended to a key and a budget that no benchmark uses up.
    pub(crate) fn start(config: &str) -> anyhow::Result<Self> {
        Self::start_under(TWO_BUDGETS, config)
    }

    /// The same under other budgets.
    fn start_under(budgets: &str, config: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("holdfast.toml");
        let key = format!("[[keys]]\nname = \"bench\"\nsecret = \"{KEY}\"\n\n");
        std::fs::write(&path, format!("{key}{budgets}\n{config}"))?;
        let (process, url) = start_in(folder.path(), &path)?;
        Ok(Self { process, url, folder })
    }

    /// Starts a server in front of the benchmarks' upstream.
    pub(crate) fn before(upstream: SocketAddr) -> anyhow::Result<Self> {
        Self::before_under(TWO_BUDGETS, upstream)
    }

    /// The same under other budgets.
    pub(crate) fn before_under(budgets: &str, upstream: SocketAddr) -> anyhow::Result<Self> {
        let provider = format!(
            "[[providers]]\nname = \"bench\"\nvendor = \"openai-compatible\"\nbase_url = \"http://{upstream}/v1\"\napi_key = \"bench-upstream-key\"\nmodels = [{{ id = \"bench-model\", input_usd_per_million = \"0.10\", output_usd_per_million = \"0.40\" }}]\n"
        );
        Self::start_under(budgets, &provider)
    }

    /// How it is driven.
    pub(crate) fn system(&self) -> anyhow::Result<System> {
        let address = self.url.trim_start_matches("http://").parse()?;
        let system = System::new("holdfast", address, Some(self.process.pid()));
        Ok(System { model: "bench/bench-model", ..system })
    }

    /// Its folder: durable writes of a benchmark that is compared with it go here.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The binary under measurement: the one beside this program.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("holdfast");
    anyhow::ensure!(binary.is_file(), "{} is missing: run `make build`", binary.display());
    Ok(binary)
}

fn start_in(folder: &Path, config: &Path) -> anyhow::Result<(Process, String)> {
    let binary = binary()?;
    let ready = folder.join("ready.json");
    if ready.exists() {
        std::fs::remove_file(&ready)?;
    }
    let log = std::fs::File::create(folder.join("holdfast.log"))?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("--config").arg(config).arg("--data").arg(folder.join("data"));
    command.args(["--listen", "127.0.0.1:0"]).arg("--ready-file").arg(&ready);
    command.env("HOLDFAST_ADMIN_KEY", ADMIN_KEY);
    command.env("HOLDFAST_LOG", "warn").stdout(Stdio::null()).stderr(log);
    let mut process = Process::start(command)?;
    let told = wait_for(&mut process, &ready).with_context(|| {
        let log = std::fs::read_to_string(folder.join("holdfast.log")).unwrap_or_default();
        format!("holdfast did not start: {log}")
    })?;
    let url = told["url"].as_str().context("no url in the ready file")?.to_owned();
    Ok((process, url))
}
