//! The vendor catalogue: a vendor is a row, not code.
//!
//! Rows hold endpoints, authentication and formats, never prices. They are compiled in; a row that
//! can't be read is left out at start and fails a test here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use types::Format;
use types::format::Quirks;

/// Every row as it stands in `vendors/`; a test holds that none is missing.
const ROWS: &[&str] = &[
    include_str!("../vendors/openai.toml"),
    include_str!("../vendors/anthropic.toml"),
    include_str!("../vendors/openai-compatible.toml"),
    include_str!("../vendors/openai-responses.toml"),
    include_str!("../vendors/azure.toml"),
    include_str!("../vendors/bedrock.toml"),
    include_str!("../vendors/bedrock-anthropic.toml"),
    include_str!("../vendors/bedrock-mantle.toml"),
    include_str!("../vendors/bedrock-openai.toml"),
    include_str!("../vendors/cerebras.toml"),
    include_str!("../vendors/cloudflare.toml"),
    include_str!("../vendors/cohere.toml"),
    include_str!("../vendors/dashscope.toml"),
    include_str!("../vendors/deepinfra.toml"),
    include_str!("../vendors/deepseek.toml"),
    include_str!("../vendors/fireworks.toml"),
    include_str!("../vendors/gemini.toml"),
    include_str!("../vendors/github-models.toml"),
    include_str!("../vendors/groq.toml"),
    include_str!("../vendors/huggingface.toml"),
    include_str!("../vendors/llama-cpp.toml"),
    include_str!("../vendors/lm-studio.toml"),
    include_str!("../vendors/minimax.toml"),
    include_str!("../vendors/mistral.toml"),
    include_str!("../vendors/moonshot.toml"),
    include_str!("../vendors/nvidia-nim.toml"),
    include_str!("../vendors/ollama.toml"),
    include_str!("../vendors/openrouter.toml"),
    include_str!("../vendors/perplexity.toml"),
    include_str!("../vendors/sglang.toml"),
    include_str!("../vendors/together.toml"),
    include_str!("../vendors/vercel.toml"),
    include_str!("../vendors/vertex.toml"),
    include_str!("../vendors/vllm.toml"),
    include_str!("../vendors/xai.toml"),
    include_str!("../vendors/zai.toml"),
];

/// What stands for the region in an address.
const REGION: &str = "REGION";

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
    /// What its base URL looks like, where each customer has one of their own.
    pub base_url_form: Option<String>,
    /// The environment variable that usually holds its key.
    pub key_env: Option<String>,
    /// How it is told the key.
    pub auth: Auth,
    /// The service for which Amazon's signatures are made, where they are; `bedrock` unless said.
    pub aws_service: Option<String>,
    /// Headers of every request, lower case, where nothing more particular is said.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether it usually runs on the operator's own machine, where nobody asks for a key.
    #[serde(default)]
    pub local: bool,
    /// Whether its servers go on with an answer that was begun, whatever the model.
    #[serde(default)]
    pub continues: bool,
    /// Whether chat completions are not all that it speaks: the Responses API is below the same
    /// address.
    #[serde(default)]
    pub responses: bool,
    /// Whether that API of its takes whatever OpenAI's takes, so that a client's request can pass
    /// as it is. Other servers refuse tools, fields and items that they don't know: they are told
    /// what the request means. A row whose own format it is needs no such word.
    #[serde(default)]
    pub responses_as_is: bool,
    /// Whether it asks by the Responses API itself what its models don't do by chat completions, so
    /// that only clients of that API need it.
    #[serde(default)]
    pub chat_is_whole: bool,
    /// Where its servers differ from the format.
    #[serde(default)]
    pub quirks: Quirks,
    /// Whether the row was held against the running server or its own source; else it rests on
    /// documentation, SDKs and what other clients do.
    pub checked: bool,
    /// Where the row's facts are from: addresses.
    pub evidence: Vec<String>,
}

/// How a vendor is told the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
    /// By a signature of Amazon's, or `authorization: Bearer KEY`.
    Aws,
    /// Not at all: its server has no notion of keys.
    None,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FormatName {
    OpenaiChat,
    OpenaiResponses,
    AnthropicMessages,
    Gemini,
    BedrockConverse,
}

impl Vendor {
    /// Where it is reached in a region, if it has addresses by region.
    pub fn base_url_in(&self, region: &str) -> Option<String> {
        let form = self.base_url_form.as_deref().filter(|form| form.contains(REGION))?;
        Some(form.replace(REGION, region))
    }

    /// The wire format that it speaks.
    pub fn format(&self) -> &'static dyn Format {
        match self.format {
            FormatName::OpenaiChat => &formats::OPENAI_CHAT,
            FormatName::OpenaiResponses => &formats::OPENAI_RESPONSES,
            FormatName::AnthropicMessages => &formats::ANTHROPIC_MESSAGES,
            FormatName::Gemini => &formats::GEMINI,
            FormatName::BedrockConverse => &formats::BEDROCK_CONVERSE,
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
