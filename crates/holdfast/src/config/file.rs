//! The file's tables as types: each field's comment is its meaning, unit and default.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use providers::aws::Credentials;
use providers::vendor::Auth;
use providers::{ConfigError, Provider, Timeouts};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use storage::{Scope, WindowKind, Zone};
use toml::{Table, Value};
use types::price::TierRates;
use types::{Money, Price, Rate, Rates, Secret, ServiceTier};

use super::telemetry::{Exports, SloEntry};
use super::{Problems, RateLimitEntry, RouteEntry, Text};

/// Sections whose keys `HOLDFAST_SECTION__KEY` can set.
pub(super) const SETTINGS: &[(&str, &[&str])] = &[
    ("server", &["listen", "max_body_bytes", "max_connections", "reload_on_change"]),
    ("data", &["dir"]),
    ("engine", &["program", "threads", "sequences", "context_tokens", "kv_disk_bytes"]),
];

/// The local model that is there without a line in the file.
pub(crate) const BUILT_IN_MODEL: &str = "demo";

/// Everything in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// `[server]`: needs a restart.
    pub(crate) server: Server,
    /// `[data]`: needs a restart.
    pub(crate) data: Data,
    /// `[engine]`: needs a restart.
    pub(crate) engine: Engine,
    /// `[[providers]]`
    pub(crate) providers: Vec<ProviderEntry>,
    /// `[[routes]]`
    pub(crate) routes: Vec<RouteEntry>,
    /// `[[models]]`
    pub(crate) models: Vec<ModelEntry>,
    /// `[[keys]]`
    pub(crate) keys: Vec<KeyEntry>,
    /// `[[budgets]]`
    pub(crate) budgets: Vec<BudgetEntry>,
    /// `[[rate_limits]]`
    pub(crate) rate_limits: Vec<RateLimitEntry>,
    /// `[[mcp_servers]]`
    pub(crate) mcp_servers: Vec<McpServerEntry>,
    /// `[telemetry]`
    pub(crate) telemetry: Exports,
    /// `[[slos]]`
    pub(crate) slos: Vec<SloEntry>,
    /// All of it as it is written.
    pub(crate) text: Text,
}

impl Config {
    /// The configured providers, and each vendor whose usual key is in the environment, under its
    /// own name.
    pub(crate) fn all_providers(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Vec<ProviderEntry> {
        let usual = |vendor: &providers::Vendor| vendor.key_env.as_deref().and_then(environment);
        let mut all: Vec<ProviderEntry> = self.providers.clone();
        for entry in &mut all {
            let vendor = providers::vendor(&entry.vendor);
            entry.api_key = usual_key(entry, vendor.and_then(usual));
            if vendor.is_some_and(|vendor| vendor.auth == Auth::Aws) {
                let given = entry.aws.take().unwrap_or_default();
                entry.aws = Some(given.or_from(environment, !entry.has_key()));
            }
        }
        for vendor in providers::vendors() {
            let configured = all.iter().any(|entry| entry.name == vendor.name);
            if let Some(key) = usual(vendor).filter(|_| !configured && vendor.base_url.is_some()) {
                all.push(ProviderEntry {
                    name: vendor.name.clone(),
                    vendor: vendor.name.clone(),
                    base_url: None,
                    api_key: Some(Secret::new(key)),
                    api_keys: Vec::new(),
                    aws: None,
                    connect_timeout: None,
                    response_timeout: None,
                    stall_timeout: None,
                    on_disconnect: OnDisconnect::default(),
                    drain_max: None,
                    propagate_trace: false,
                    models: Vec::new(),
                });
            }
        }
        all
    }

    /// Whether a start with this file alone would know a model of that name.
    pub(crate) fn offers(&self, name: &str, environment: &dyn Fn(&str) -> Option<String>) -> bool {
        let Some((provider, model)) = name.split_once('/') else { return false };
        if provider == engine::execute::PROVIDER {
            return model == BUILT_IN_MODEL || self.models.iter().any(|entry| entry.name == model);
        }
        let listed = |entry: &ProviderEntry| {
            entry.models.is_empty() || entry.models.iter().any(|listed| listed.id == model)
        };
        let all = self.all_providers(environment);
        all.iter().any(|entry| entry.name == provider && listed(entry))
    }
}

/// The key of an entry: its own, or the environment's where it names no credentials of Amazon's.
fn usual_key(entry: &mut ProviderEntry, usual: Option<String>) -> Option<Secret> {
    let signs = entry.aws.as_ref().is_some_and(|aws| aws.credentials().is_some());
    let usual = usual.filter(|_| !signs && entry.api_keys.is_empty());
    entry.api_key.take().or_else(|| usual.map(Secret::new))
}

/// How the server listens and what it accepts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    /// Address and port; port 0 picks one. Default `127.0.0.1:8420`.
    pub(crate) listen: SocketAddr,
    /// Largest request body in bytes. Default 32 MiB, enough for a long history with images.
    pub(crate) max_body_bytes: usize,
    /// Connections at once; more wait in the kernel's queue. Default 4,096.
    pub(crate) max_connections: usize,
    /// Whether the file is read again when it changes. Default true.
    pub(crate) reload_on_change: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8420)),
            max_body_bytes: 32 * 1024 * 1024,
            max_connections: 4_096,
            reload_on_change: true,
        }
    }
}

/// Where everything durable lies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Data {
    /// The data folder. Default `./holdfast-data`.
    pub(crate) dir: Option<PathBuf>,
}

/// How local models run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Engine {
    /// The engine's program. Default: `holdfast-engine` beside `holdfast`.
    pub(crate) program: Option<PathBuf>,
    /// Threads per engine; 0 = as many as the machine has cores. Default 0.
    pub(crate) threads: u32,
    /// Conversations that are decoded at once per model. Default 8.
    pub(crate) sequences: u32,
    /// Context per conversation in tokens; 0 = what the model was trained for, at most 32,768.
    /// Default 0.
    pub(crate) context_tokens: u32,
    /// Disk for saved session states per model, in bytes. Default 8 GiB.
    pub(crate) kv_disk_bytes: u64,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            program: None,
            threads: 0,
            sequences: 8,
            context_tokens: 0,
            kv_disk_bytes: 8 * 1024 * 1024 * 1024,
        }
    }
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderEntry {
    /// Models are asked for as `name/model`.
    pub(crate) name: String,
    /// A row of the vendor catalogue, such as `openai-compatible`.
    pub(crate) vendor: String,
    /// Where its API is; the vendor's own address if absent.
    pub(crate) base_url: Option<String>,
    /// Its credential, best as `${VARIABLE}`.
    pub(crate) api_key: Option<Secret>,
    /// Several credentials instead of one: Calls are spread over them.
    #[serde(default)]
    pub(crate) api_keys: Vec<Secret>,
    /// Amazon's credentials and region, for a vendor that takes signatures.
    pub(crate) aws: Option<AwsEntry>,
    /// Longest wait for a connection, TLS included. Default 10 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) connect_timeout: Option<Duration>,
    /// Longest wait from the request to the answer's head, which is a whole answer's time where
    /// nothing is streamed. Default 600 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) response_timeout: Option<Duration>,
    /// Longest silence within an answer's body. Default 300 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) stall_timeout: Option<Duration>,
    /// What becomes of an answer whose client has gone. Default `"abort"`.
    #[serde(default)]
    pub(crate) on_disconnect: OnDisconnect,
    /// How long such an answer is read on, to `"drain"` it. Default 30 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) drain_max: Option<Duration>,
    /// Whether it is told of the trace that a request is part of, while traces are exported.
    /// Default false: it learns which requests belong together.
    #[serde(default)]
    pub(crate) propagate_trace: bool,
    /// The models it offers; absent = any name is passed on, unpriced.
    #[serde(default)]
    pub(crate) models: Vec<ProviderModel>,
}

/// What becomes of an answer whose client has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnDisconnect {
    /// It is given up: the provider stops, and what it bills stays unknown.
    #[default]
    Abort,
    /// It is read on for its usage.
    Drain,
}

/// How long an answer is read on unless said.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Who signs requests to Amazon, and for which region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AwsEntry {
    /// Such as `eu-central-1`. Default: `AWS_REGION`, else `AWS_DEFAULT_REGION`. What the host of
    /// `base_url` says comes first.
    pub(crate) region: Option<String>,
    /// Default: `AWS_ACCESS_KEY_ID`, together with the next two.
    pub(crate) access_key_id: Option<Secret>,
    /// Default: `AWS_SECRET_ACCESS_KEY`.
    pub(crate) secret_access_key: Option<Secret>,
    /// Of temporary credentials. Default: `AWS_SESSION_TOKEN`.
    pub(crate) session_token: Option<Secret>,
}

impl AwsEntry {
    /// The same entry with what the environment has of what it leaves out. Credentials are taken
    /// whole, so that a token never goes with another key.
    fn or_from(
        mut self,
        environment: &dyn Fn(&str) -> Option<String>,
        needs_credentials: bool,
    ) -> Self {
        let names = ["AWS_REGION", "AWS_DEFAULT_REGION"];
        self.region = self.region.or_else(|| names.into_iter().find_map(environment));
        let given = [&self.access_key_id, &self.secret_access_key, &self.session_token];
        if needs_credentials && given.iter().all(|text| text.is_none()) {
            let text = |name: &str| environment(name).filter(|text| !text.is_empty());
            self.access_key_id = text("AWS_ACCESS_KEY_ID").map(Secret::new);
            self.secret_access_key = text("AWS_SECRET_ACCESS_KEY").map(Secret::new);
            self.session_token = text("AWS_SESSION_TOKEN").map(Secret::new);
        }
        self
    }

    /// The credentials, if there are any. Half of them can't be used, which shows when they are.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        if self.access_key_id.is_none() && self.secret_access_key.is_none() {
            return None;
        }
        let text = |secret: &Option<Secret>| secret.clone().unwrap_or_else(|| Secret::new(""));
        Some(Credentials {
            access_key_id: text(&self.access_key_id),
            secret_access_key: text(&self.secret_access_key),
            session_token: self.session_token.clone(),
        })
    }
}

impl ProviderEntry {
    /// Whether both are the same upstream. Models that are listed are objects of their own.
    pub(crate) fn is_same_upstream(&self, other: &Self) -> bool {
        let alone = |entry: &Self| Self { models: Vec::new(), ..entry.clone() };
        self.models.is_empty() == other.models.is_empty() && alone(self) == alone(other)
    }

    /// Whether it is told a key.
    pub(crate) fn has_key(&self) -> bool {
        let given = self.api_key.as_ref().is_some_and(|key| !key.expose().is_empty());
        given || !self.api_keys.is_empty()
    }

    /// The provider that it is.
    ///
    /// # Errors
    /// [`ConfigError`]: what of it can't be used.
    pub(crate) fn provider(&self) -> Result<Provider, ConfigError> {
        let region = self.aws.as_ref().and_then(|aws| aws.region.as_deref());
        let vendor = providers::vendor(&self.vendor);
        let regional = region.and_then(|region| vendor?.base_url_in(region));
        let base_url = self.base_url.as_deref().or(regional.as_deref());
        let provider = Provider::new(&self.name, &self.vendor, base_url, self.api_key.clone())?;
        let provider = match self.api_keys.as_slice() {
            [] => provider,
            keys => provider.with_keys(keys.to_vec())?,
        };
        let credentials = self.aws.as_ref().and_then(AwsEntry::credentials);
        let provider = match credentials {
            Some(credentials) => provider.signed_by(credentials, region)?,
            None => provider,
        };
        Ok(provider.with_timeouts(self.timeouts()))
    }

    /// How long an answer whose client has gone is read on; `None` = it is given up.
    pub(crate) fn drain(&self) -> Option<Duration> {
        match self.on_disconnect {
            OnDisconnect::Abort => None,
            OnDisconnect::Drain => Some(self.drain_max.unwrap_or(DRAIN_MAX)),
        }
    }

    /// How long it may take.
    pub(crate) fn timeouts(&self) -> Timeouts {
        let usual = Timeouts::default();
        Timeouts {
            connect: self.connect_timeout.unwrap_or(usual.connect),
            first_byte: self.response_timeout.unwrap_or(usual.first_byte),
            stall: self.stall_timeout.unwrap_or(usual.stall),
        }
    }
}

/// A model of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderModel {
    /// Its name at the provider.
    pub(crate) id: String,
    /// What it costs.
    #[serde(flatten)]
    pub(crate) price: PriceEntry,
    /// The most tokens that it answers with.
    pub(crate) max_output_tokens: Option<u64>,
    /// Its context window in tokens.
    pub(crate) context_tokens: Option<u64>,
}

/// A price in the file: dollars as decimal strings.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct PriceEntry {
    /// Per million input tokens.
    pub(crate) input_usd_per_million: Option<Rate>,
    /// Per million output tokens.
    pub(crate) output_usd_per_million: Option<Rate>,
    /// Per million input tokens read from the provider's cache.
    pub(crate) cached_input_usd_per_million: Option<Rate>,
    /// Per million input tokens written to the provider's cache.
    pub(crate) cache_write_usd_per_million: Option<Rate>,
    /// The same, of those that it keeps for an hour.
    pub(crate) cache_write_1h_usd_per_million: Option<Rate>,
    /// Per million output tokens of reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_usd_per_million: Option<Rate>,
    /// Per million input tokens of sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audio_input_usd_per_million: Option<Rate>,
    /// Per million output tokens of sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) audio_output_usd_per_million: Option<Rate>,
    /// Per request.
    pub(crate) usd_per_request: Option<Money>,
    /// Per search that the provider makes for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usd_per_search: Option<Money>,
    /// What tokens cost at other tiers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tiers: BTreeMap<ServiceTier, TierEntry>,
    /// Whether it costs nothing.
    #[serde(default)]
    pub(crate) free: bool,
}

/// What tokens cost at a tier.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct TierEntry {
    /// Per million input tokens.
    pub(crate) input_usd_per_million: Rate,
    /// Per million output tokens.
    pub(crate) output_usd_per_million: Rate,
    /// Per million input tokens read from the provider's cache.
    pub(crate) cached_input_usd_per_million: Option<Rate>,
    /// Per million input tokens written to the provider's cache.
    pub(crate) cache_write_usd_per_million: Option<Rate>,
    /// The same, of those that it keeps for an hour.
    pub(crate) cache_write_1h_usd_per_million: Option<Rate>,
}

impl TierEntry {
    fn rates(&self) -> Rates {
        Rates {
            input: self.input_usd_per_million,
            output: self.output_usd_per_million,
            cached_input: self.cached_input_usd_per_million,
            cache_write: self.cache_write_usd_per_million,
            cache_write_1h: self.cache_write_1h_usd_per_million,
            ..Rates::default()
        }
    }
}

impl PriceEntry {
    /// The price that it says, of this version.
    pub(crate) fn price(&self, version: String) -> Price {
        let tier = |(tier, entry): (&ServiceTier, &TierEntry)| TierRates {
            tier: *tier,
            rates: entry.rates(),
            steps: Vec::new(),
        };
        Price {
            rates: Rates {
                input: self.input_usd_per_million.unwrap_or(Rate::FREE),
                output: self.output_usd_per_million.unwrap_or(Rate::FREE),
                cached_input: self.cached_input_usd_per_million,
                cache_write: self.cache_write_usd_per_million,
                cache_write_1h: self.cache_write_1h_usd_per_million,
                reasoning: self.reasoning_usd_per_million,
                audio_input: self.audio_input_usd_per_million,
                audio_output: self.audio_output_usd_per_million,
                ..Rates::default()
            },
            per_request: self.usd_per_request.unwrap_or(Money::ZERO),
            per_search: self.usd_per_search,
            tiers: self.tiers.iter().map(tier).collect(),
            ..Price::free(version)
        }
    }

    /// Whether it says what the model costs.
    pub(crate) fn is_priced(&self) -> bool {
        self.free || self.input_usd_per_million.is_some() || self.usd_per_request.is_some()
    }
}

/// A local model.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelEntry {
    /// Asked for as `local/name`.
    pub(crate) name: String,
    /// The GGUF file, or the folder of a static embedding model.
    pub(crate) path: Option<PathBuf>,
    /// What it costs; nothing unless said.
    #[serde(flatten)]
    pub(crate) price: PriceEntry,
    /// The most tokens that it answers with.
    pub(crate) max_output_tokens: Option<u64>,
}

/// An API key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyEntry {
    /// Its name.
    pub(crate) name: String,
    /// Its secret, best as `${VARIABLE}`.
    pub(crate) secret: Secret,
    /// Whose it is; absent = its own.
    pub(crate) user: Option<String>,
    /// The output cap in tokens for Calls under a hard budget that name none.
    pub(crate) output_cap_default: Option<u64>,
}

/// A budget.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetEntry {
    /// What it limits: `"account"`, `{ key = "name" }`, `{ session = "id or name" }`,
    /// `{ metadata = { name = "team", value = "search" } }`, or the same of a `user`, a `task`, a
    /// `class`, a `route`, a `gateway`, a `model` or a `provider`; `{ each = "user" }` makes one
    /// for each of them.
    pub(crate) scope: Scope,
    /// The limit in dollars.
    pub(crate) limit_usd: Money,
    /// `"total"` (default), `"hour"`, `"day"`, `"week"`, `"month"` or `{ rolling = "24h" }`.
    #[serde(default = "total")]
    pub(crate) window: WindowKind,
    /// Where an hour, a day, a week or a month is told; default UTC.
    #[serde(default, skip_serializing_if = "Zone::is_utc")]
    pub(crate) time_zone: Zone,
}

const fn total() -> WindowKind {
    WindowKind::Total
}

/// A tool server over standard input and output.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct McpServerEntry {
    /// Asked for as `server_label`.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Names of the keys that may use it, beside the admin key; absent = the admin key only.
    pub(crate) keys: Option<Vec<String>>,
    /// What each tool does to the world; unlisted = `write`.
    #[serde(default)]
    pub(crate) tools: BTreeMap<String, ToolEntry>,
    /// Its environment, beside `PATH` and `HOME`.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Longest call, such as `"60s"`. Default 60 s.
    #[serde(default = "minute", deserialize_with = "duration")]
    pub(crate) timeout: Duration,
}

const fn minute() -> Duration {
    Duration::from_mins(1)
}

/// What a tool does to the world.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolEntry {
    /// `read`, `idempotent` or `write`.
    pub(crate) effect: sessions::Effect,
}

/// Reads `"250ms"`, `"30s"`, `"5m"`, `"1h"` or `"30d"`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong =
        || D::Error::custom("is no duration such as \"250ms\", \"30s\", \"5m\", \"1h\" or \"30d\"");
    types::clock::duration(&text).ok_or_else(wrong)
}

/// As [`duration`], for a field that may be left out.
pub(super) fn some_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Reads the whole file, object by object.
pub(super) fn from_table(mut table: Table, problems: &mut Problems) -> Config {
    let text = Text(table.clone());
    let config = Config {
        text,
        server: section(&mut table, "server", problems),
        data: section(&mut table, "data", problems),
        engine: section(&mut table, "engine", problems),
        providers: list(&mut table, "providers", problems),
        routes: list(&mut table, "routes", problems),
        models: list(&mut table, "models", problems),
        keys: list(&mut table, "keys", problems),
        budgets: list(&mut table, "budgets", problems),
        rate_limits: list(&mut table, "rate_limits", problems),
        mcp_servers: list(&mut table, "mcp_servers", problems),
        telemetry: section(&mut table, "telemetry", problems),
        slos: list(&mut table, "slos", problems),
    };
    for name in table.keys() {
        problems.add(name, "is no section of the configuration");
    }
    config
}

fn section<T: DeserializeOwned + Default>(
    table: &mut Table,
    name: &str,
    problems: &mut Problems,
) -> T {
    table.remove(name).and_then(|value| read(value, name, problems)).unwrap_or_default()
}

fn list<T: DeserializeOwned>(table: &mut Table, name: &str, problems: &mut Problems) -> Vec<T> {
    match table.remove(name) {
        None => Vec::new(),
        Some(Value::Array(items)) => {
            let read_one = |(index, item)| read(item, &format!("{name}[{index}]"), problems);
            items.into_iter().enumerate().filter_map(read_one).collect()
        }
        Some(_) => {
            problems.add(name, format!("must be written as [[{name}]]"));
            Vec::new()
        }
    }
}

fn read<T: DeserializeOwned>(value: Value, at: &str, problems: &mut Problems) -> Option<T> {
    match serde_path_to_error::deserialize(value) {
        Ok(read) => Some(read),
        Err(error) => {
            let path = error.path().to_string();
            let at = if path == "." { at.to_owned() } else { format!("{at}.{path}") };
            let message = error.inner().message().trim().replace('\n', "; ");
            let example = example(&at, &message).unwrap_or_default();
            problems.add(at, without_value(&message) + &example);
            None
        }
    }
}

/// The message without what stands in the file in place of another type: it may be a secret.
fn without_value(message: &str) -> String {
    let parts = || {
        let (found, expected) = message.rsplit_once(", expected ")?;
        let (wrong, found) = found.split_once(": ")?;
        let kind = found.split(['"', '`']).next()?.trim_end();
        wrong.starts_with("invalid ").then(|| format!("{wrong}: {kind}, expected {expected}"))
    };
    parts().unwrap_or_else(|| message.to_owned())
}

/// What to write instead, where a reader may not guess it from the message.
fn example(at: &str, message: &str) -> Option<String> {
    if at.ends_with(".listen") {
        return Some("; write an address and a port: \"127.0.0.1:8420\"".to_owned());
    }
    // Of a model's prices only the model is named.
    let field = at.rsplit('.').next()?;
    let is_money = field.contains("usd");
    let number = message.strip_prefix("invalid type: ")?.split('`').nth(1)?;
    let is_number = message.contains("expected a string") && number.parse::<f64>().is_ok();
    if !is_number || !(is_money || field.starts_with("models[")) {
        return None;
    }
    let cents = if is_money && !number.contains('.') { ".00" } else { "" };
    Some(format!("; write \"{number}{cents}\""))
}
