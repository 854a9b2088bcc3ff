//! The vendor catalogue: a vendor is a row, not code.
//!
//! Rows hold endpoints, authentication and formats, never prices. They are compiled in; a row that
//! can't be read is left out at start and fails a test here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use types::Format;

/// Every row as it stands in `vendors/`.
const ROWS: [&str; 3] = [
    include_str!("../vendors/openai.toml"),
    include_str!("../vendors/anthropic.toml"),
    include_str!("../vendors/openai-compatible.toml"),
];

static VENDORS: LazyLock<Vec<Vendor>> =
    LazyLock::new(|| ROWS.iter().filter_map(|row| toml::from_str(row).ok()).collect());

/// A kind of upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vendor {
    /// Its name in configuration.
    pub name: String,
    /// The wire format that it speaks.
    format: FormatName,
    /// Where it is reached unless the operator says otherwise.
    pub base_url: Option<String>,
    /// The environment variable that usually holds its key.
    pub key_env: Option<String>,
    /// How it is told the key.
    pub auth: Auth,
    /// Headers of every request, lower case, where nothing more particular is said.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// How a vendor is told the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// `x-api-key: KEY`.
    XApiKey,
    /// `x-goog-api-key: KEY`.
    XGoogApiKey,
    /// `api-key: KEY`.
    ApiKey,
    /// Not at all: its server has no notion of keys.
    None,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FormatName {
    OpenaiChat,
    AnthropicMessages,
}

impl Vendor {
    /// The wire format that it speaks.
    pub fn format(&self) -> &'static dyn Format {
        match self.format {
            FormatName::OpenaiChat => &formats::OPENAI_CHAT,
            FormatName::AnthropicMessages => &formats::ANTHROPIC_MESSAGES,
        }
    }
}

/// Every vendor.
pub fn vendors() -> &'static [Vendor] {
    &VENDORS
}

/// The vendor of that name.
pub fn vendor(name: &str) -> Option<&'static Vendor> {
    vendors().iter().find(|vendor| vendor.name == name)
}

#[cfg(test)]
mod tests;
