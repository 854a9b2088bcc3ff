//! Other gateways, as `bench/peers/install` puts them into a folder: started in front of the
//! benchmarks' upstream, each as its own documentation says.
//!
//! A peer that is not installed is left out by name; one that is there and does not start is an
//! error. They run without what we run with (key, budget, price, ledger): most can't do it without
//! another server.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::holdfast::KEY;
use crate::process::Process;
use crate::systems::{MODEL, System};

/// How long a peer may take until it answers a completion; Python ones load for long.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Connections that slow peers are driven with at most: more would take minutes a round.
const SLOW_CONNECTIONS_MAX: usize = 16;

/// A peer that runs.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) system: System,
    pub(crate) process: Process,
}

/// Where peers are, what they are put in front of, and where their files go.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    /// The folder that `bench/peers/install` fills.
    pub(crate) installed: &'a Path,
    pub(crate) upstream: SocketAddr,
    pub(crate) scratch: &'a Path,
}

/// How to start a peer, where it will answer and how it is asked.
struct Plan {
    command: Command,
    system: System,
}

type Prepare = fn(&Bench<'_>, SocketAddr) -> anyhow::Result<Option<Plan>>;

/// Starts every peer that is installed.
///
/// # Errors
/// An installed peer that does not answer.
pub(crate) fn start(bench: &Bench<'_>) -> anyhow::Result<Vec<Peer>> {
    let all: [(&str, Prepare); 4] = [
        ("sglang-router", sglang),
        ("tensorzero", tensorzero),
        ("litellm", litellm),
        ("portkey", portkey),
    ];
    let mut peers = Vec::new();
    for (name, prepare) in all {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let Some(plan) = prepare(bench, address)? else {
            println!("left out: {name} is not installed (bench/peers/install)");
            continue;
        };
        let peer = run(plan, bench.scratch).with_context(|| format!("starting {name}"))?;
        peers.push(peer);
    }
    Ok(peers)
}

fn run(plan: Plan, scratch: &Path) -> anyhow::Result<Peer> {
    let Plan { mut command, mut system } = plan;
    let log = scratch.join(format!("{}.log", system.name));
    let output = std::fs::File::create(&log)?;
    command.current_dir(scratch).stdin(Stdio::null());
    command.stdout(output.try_clone()?).stderr(output);
    let process = Process::start(command)?;
    let began = Instant::now();
    loop {
        if let Some(address) = told_address(&log, &system) {
            system.address = address;
        }
        if answers(&system) {
            return Ok(Peer { system: System { pid: Some(process.pid()), ..system }, process });
        }
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        anyhow::ensure!(began.elapsed() < READY_WITHIN, "it does not answer; it said: {}", said());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// TensorZero takes a port of its own choice and its starter prints it.
fn told_address(log: &Path, system: &System) -> Option<SocketAddr> {
    if system.name != "tensorzero" {
        return None;
    }
    let said = std::fs::read_to_string(log).ok()?;
    let line = said.lines().find_map(|line| line.strip_prefix("http://"))?;
    line.split('/').next()?.parse().ok()
}

/// Whether one completion comes back.
fn answers(system: &System) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let load = crate::load::Load {
        system,
        ask: crate::load::Ask::Plain { body_bytes: 1_000 },
        connections: 1,
        length: Duration::ZERO,
    };
    runtime.is_ok_and(|runtime| runtime.block_on(load.run()).is_ok())
}

/// `<installed>/<name>/<path>`, if it is there.
fn installed(bench: &Bench<'_>, name: &str, path: &str) -> Option<PathBuf> {
    Some(bench.installed.join(name).join(path)).filter(|path| path.exists())
}

fn sglang(bench: &Bench<'_>, address: SocketAddr) -> anyhow::Result<Option<Plan>> {
    let Some(python) = installed(bench, "sglang", "bin/python") else { return Ok(None) };
    let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(python);
    command.args(["-m", "sglang_router.launch_router", "--policy", "round_robin"]);
    command.args(["--log-level", "warn", "--host", "127.0.0.1"]);
    command.args(["--port", &address.port().to_string()]);
    command.args(["--prometheus-port", &metrics.port().to_string()]);
    command.arg("--worker-urls").arg(format!("http://{}", bench.upstream));
    Ok(Some(Plan { command, system: System::new("sglang-router", address, None) }))
}

fn tensorzero(bench: &Bench<'_>, address: SocketAddr) -> anyhow::Result<Option<Plan>> {
    let Some(python) = installed(bench, "tensorzero", "bin/python") else { return Ok(None) };
    let config = bench.scratch.join("tensorzero.toml");
    let text = format!(
        "[gateway]\nobservability.enabled = false\n[models.{MODEL}]\nrouting = [\"up\"]\n[models.{MODEL}.providers.up]\ntype = \"openai\"\nmodel_name = \"{MODEL}\"\napi_base = \"http://{}/v1\"\napi_key_location = \"none\"\n",
        bench.upstream
    );
    std::fs::write(&config, text)?;
    let starter = bench.scratch.join("start_tensorzero.py");
    std::fs::write(&starter, include_str!("../../../bench/peers/tensorzero/start.py"))?;
    let mut command = Command::new(python);
    command.arg(starter).arg(config);
    let system = System {
        path: "/openai/v1/chat/completions",
        model: "tensorzero::model_name::bench-model",
        ..System::new("tensorzero", address, None)
    };
    Ok(Some(Plan { command, system }))
}

fn litellm(bench: &Bench<'_>, address: SocketAddr) -> anyhow::Result<Option<Plan>> {
    let Some(program) = installed(bench, "litellm", "bin/litellm") else { return Ok(None) };
    let config = bench.scratch.join("litellm.yaml");
    let text = format!(
        "model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n      api_base: http://{}/v1\n      api_key: none\n",
        bench.upstream
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(["--host", "127.0.0.1", "--num_workers", "1"]);
    command.args(["--telemetry", "False", "--port", &address.port().to_string()]);
    // Its price list would be fetched at each start.
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_LOG", "ERROR");
    // Without a key of its own it checks none, which costs it less.
    command.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
    let system =
        System { connections_max: SLOW_CONNECTIONS_MAX, ..System::new("litellm", address, None) };
    Ok(Some(Plan { command, system }))
}

fn portkey(bench: &Bench<'_>, address: SocketAddr) -> anyhow::Result<Option<Plan>> {
    let program = "node_modules/@portkey-ai/gateway/build/start-server.js";
    let Some(program) = installed(bench, "portkey", program) else { return Ok(None) };
    let shim = bench.scratch.join("listen4.cjs");
    std::fs::write(&shim, include_str!("../../../bench/peers/portkey/listen4.cjs"))?;
    let mut command = Command::new("node");
    command.arg("--require").arg(shim).arg(program).arg("--headless");
    command.arg(format!("--port={}", address.port()));
    command.env("TRUSTED_CUSTOM_HOSTS", "127.0.0.1");
    let system = System {
        headers: vec![
            ("x-portkey-provider", "openai".to_owned()),
            ("x-portkey-custom-host", format!("http://{}/v1", bench.upstream)),
            ("x-portkey-api-key", KEY.to_owned()),
        ],
        connections_max: SLOW_CONNECTIONS_MAX,
        // Its npm build answers every stream with 500 (1.15.2, Node.js 20 and 22).
        streams: false,
        ..System::new("portkey", address, None)
    };
    Ok(Some(Plan { command, system }))
}
