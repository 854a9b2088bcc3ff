//! The demo's processes: the platform itself and the priced provider, each a child that can be
//! killed.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::client::Client;
use super::narrator::Narrator;

/// How long the platform may take to come up.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks at a process or a file.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the demo unpacks: written by others than the platform, so that the evidence is not its own.
const FILES: &[(&str, &[u8])] = &[
    ("notes_server.py", include_bytes!("../../../../../examples/demo/notes_server.py")),
    ("provider.py", include_bytes!("../../../../../examples/demo/provider.py")),
    ("provider_script.py", include_bytes!("../../../../../examples/demo/provider_script.py")),
    (
        "provider_embeddings.py",
        include_bytes!("../../../../../examples/demo/provider_embeddings.py"),
    ),
];

/// The configuration in the demo's folder.
const CONFIG: &str = "holdfast.toml";

/// The demo's folder and what is in it.
#[derive(Debug)]
pub(super) struct Stage {
    /// The data folder.
    pub(super) data: PathBuf,
    /// `demo/` in it.
    pub(super) folder: PathBuf,
    /// Port of the platform: the same after each restart, so that clients find it again.
    pub(super) port: u16,
    /// Port of the priced provider.
    provider_port: u16,
    /// The demo's own key.
    pub(super) key: String,
    relay_key: String,
    provider_key: String,
}

impl Stage {
    /// Unpacks the files and writes the configuration.
    pub(super) fn set(data: &Path) -> anyhow::Result<Self> {
        let folder = data.join("demo");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for (name, bytes) in FILES {
            std::fs::write(folder.join(name), bytes)
                .with_context(|| format!("unpacking {name}"))?;
        }
        let secret = || {
            let clock = std::sync::Arc::new(types::clock::SystemClock::new());
            types::Ids::new(clock).key_secret()
        };
        let stage = Self {
            data: data.to_path_buf(),
            folder,
            port: free_port()?,
            provider_port: free_port()?,
            key: secret(),
            relay_key: secret(),
            provider_key: secret(),
        };
        std::fs::write(stage.config(), stage.configuration())
            .context("writing the configuration")?;
        Ok(stage)
    }

    /// Whether a demo was run in this data folder before.
    pub(super) fn was_set(data: &Path) -> bool {
        data.join("demo").join(CONFIG).exists()
    }

    /// Says where the platform and its admin key are.
    pub(super) fn say_where(&self, narrator: &Narrator) -> anyhow::Result<()> {
        narrator.say(&format!("up at {}, data in {}", self.url(), self.data.display()))?;
        narrator.say(&format!("the admin key is in {}", self.admin_key().display()))
    }

    /// Says what can be done with a platform that is left running.
    pub(super) fn say_how_to_go_on(&self, narrator: &Narrator) -> anyhow::Result<()> {
        let data = self.data.display();
        narrator.say("\nTry it yourself:\n")?;
        narrator.say(&super::examples(&self.url(), &self.admin_key()))?;
        narrator.say(&format!("  holdfast calls list --data {data}"))
    }

    fn admin_key(&self) -> PathBuf {
        self.data.join("admin.key")
    }

    fn config(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    /// Where the platform is.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The file in which the tool server logs its effects.
    pub(super) fn effects(&self) -> PathBuf {
        self.folder.join("tool-effects.log")
    }

    /// The file in which the provider logs its requests.
    pub(super) fn requests(&self) -> PathBuf {
        self.folder.join("provider-requests.jsonl")
    }

    /// Lines of a log that others wrote.
    pub(super) fn log(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn configuration(&self) -> String {
        let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
        format!(
            r#"# Written by `holdfast demo`.
[server]
listen = "127.0.0.1:{port}"

[[providers]]
name = "priced"
vendor = "openai-compatible"
base_url = "http://127.0.0.1:{provider_port}/v1"
api_key = "{provider_key}"
models = [{{ id = "demo", input_usd_per_million = "2.00", output_usd_per_million = "8.00", max_output_tokens = 256 }}]

[[keys]]
name = "demo"
secret = "{key}"

[[keys]]
name = "relay"          # with it the priced provider comes back for the local model
secret = "{relay_key}"

[[budgets]]
scope = {{ key = "demo" }}
limit_usd = "1.00"

[[mcp_servers]]
name = "notes"
command = ["python3", {server}]
keys = ["demo"]
tools = {{ find_note = {{ effect = "read" }}, add_note = {{ effect = "write" }}, set_title = {{ effect = "idempotent" }} }}
env = {{ HOLDFAST_DEMO_EFFECTS = {effects} }}
"#,
            port = self.port,
            provider_port = self.provider_port,
            provider_key = self.provider_key,
            key = self.key,
            relay_key = self.relay_key,
            server = quoted(self.folder.join("notes_server.py")),
            effects = quoted(self.effects()),
        )
    }

    /// The demo's client.
    pub(super) fn client(&self) -> Client {
        Client::new(&self.url(), &self.key)
    }

    /// The administrator's client.
    pub(super) fn admin(&self) -> anyhow::Result<Client> {
        let key = std::fs::read_to_string(self.admin_key()).context("reading the admin key")?;
        Ok(Client::new(&self.url(), key.trim()))
    }

    /// Starts the platform and waits until it serves.
    pub(super) fn start(&self, stop_at: Option<&str>) -> anyhow::Result<Process> {
        let ready = self.folder.join("ready.json");
        if ready.exists() {
            std::fs::remove_file(&ready)?;
        }
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("holdfast.log"))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("serve").arg("--config").arg(self.config()).arg("--data").arg(&self.data);
        command
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .stderr(log)
            .stdin(Stdio::null());
        // What the caller's environment says is meant for a server of theirs.
        command.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        for variable in ["HOLDFAST_STOP_AT", "HOLDFAST_ADMIN_KEY"] {
            command.env_remove(variable);
        }
        if let Some(stop_at) = stop_at {
            command.env("HOLDFAST_STOP_AT", stop_at);
        }
        let mut process = Process::start(command)?;
        process
            .wait_for(&ready, UP_WITHIN)
            .with_context(|| format!("see {}", self.folder.join("holdfast.log").display()))?;
        Ok(process)
    }

    /// Starts the priced provider.
    pub(super) fn start_provider(&self) -> anyhow::Result<Process> {
        let ready = self.folder.join("provider-ready.json");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("provider.log"))?;
        let mut command = Command::new("python3");
        command.arg(self.folder.join("provider.py"));
        command.args(["--port", &self.provider_port.to_string()]);
        command.args(["--upstream", &self.url(), "--upstream-model", "local/demo"]);
        // By the environment: what stands on a command line can be read by every user of the
        // machine.
        command.env("HOLDFAST_DEMO_PROVIDER_KEY", &self.provider_key);
        command.env("HOLDFAST_DEMO_UPSTREAM_KEY", &self.relay_key);
        command.arg("--log").arg(self.requests()).arg("--ready-file").arg(&ready);
        command.stdout(Stdio::null()).stderr(log).stdin(Stdio::null());
        let mut process = Process::start(command)?;
        process.wait_for(&ready, UP_WITHIN).context("the priced provider did not start")?;
        Ok(process)
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("finding a free port")?.local_addr()?.port())
}

/// A child of the demo, killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        // A group of its own: Ctrl-C ends the demo, which then ends its children in order.
        command.process_group(0);
        let name = format!("{:?}", command.get_program());
        Ok(Self { child: command.spawn().with_context(|| format!("starting {name}"))? })
    }

    fn wait_for(&mut self, file: &Path, limit: Duration) -> anyhow::Result<()> {
        let began = std::time::Instant::now();
        while !file.exists() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status})");
            }
            if began.elapsed() > limit {
                bail!("it was not up after {limit:?}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits until it has stopped itself (`HOLDFAST_STOP_AT`).
    pub(super) async fn stopped(&self) -> anyhow::Result<()> {
        let path = format!("/proc/{}/stat", self.child.id());
        let began = std::time::Instant::now();
        while began.elapsed() < UP_WITHIN {
            let stat = std::fs::read_to_string(&path).context("the platform is gone")?;
            if stat.rsplit_once(") ").is_some_and(|(_, behind)| behind.starts_with('T')) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        bail!("the platform did not reach the point at which it was to be killed")
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// Lets it live on when the demo ends.
    pub(super) fn leave(self) -> u32 {
        let pid = self.child.id();
        std::mem::forget(self);
        pid
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is fine.
        self.child.kill().unwrap_or(());
        self.child.wait().map(drop).unwrap_or(());
    }
}
