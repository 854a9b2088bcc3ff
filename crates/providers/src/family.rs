//! What a family of models can take: data, and the one place that decides with it.
//!
//! A family is a file in `catalog/families/`, matched by the model's name at its provider, and
//! compiled in. What it does not say is taken to be possible: what nobody knows is sent, and the
//! provider answers. [`fit`] makes a request out of another format what the family takes: sent,
//! said otherwise, dropped and reported, or refused. A request in the provider's own format is left
//! as it is, but for the API that it goes to ([`needs_responses`]). Must not know prices.

mod fit;
mod marks;

use std::sync::LazyLock;

use serde::Deserialize;
use types::call::Lacks;
use types::conversation::Effort;

use crate::vendor::{Vendor, vendor};

pub(crate) use fit::{Fitted, fit, needs_responses};
pub use marks::CacheMarks;
pub(crate) use marks::fit_marks;

/// Every file of `catalog/families/`; a test holds that none is missing.
const FILES: &[&str] = &[
    include_str!("../../../catalog/families/claude-4-5.toml"),
    include_str!("../../../catalog/families/claude-4-6.toml"),
    include_str!("../../../catalog/families/claude-5.toml"),
    include_str!("../../../catalog/families/claude-fable-5.toml"),
    include_str!("../../../catalog/families/claude-5-5.toml"),
    include_str!("../../../catalog/families/claude-newest.toml"),
    include_str!("../../../catalog/families/gpt-4o.toml"),
    include_str!("../../../catalog/families/gpt-4-1.toml"),
    include_str!("../../../catalog/families/openai-o.toml"),
    include_str!("../../../catalog/families/gpt-5.toml"),
    include_str!("../../../catalog/families/gpt-5-1.toml"),
    include_str!("../../../catalog/families/gpt-5-2.toml"),
    include_str!("../../../catalog/families/gpt-5-6.toml"),
    include_str!("../../../catalog/families/gpt-6-luna.toml"),
    include_str!("../../../catalog/families/gpt-6.toml"),
    include_str!("../../../catalog/families/gpt-pro.toml"),
    include_str!("../../../catalog/families/gemini-2-5.toml"),
    include_str!("../../../catalog/families/gemini-3.toml"),
    include_str!("../../../catalog/families/gemini-3-8.toml"),
    include_str!("../../../catalog/families/gemini-newest.toml"),
    include_str!("../../../catalog/families/grok-4.toml"),
    include_str!("../../../catalog/families/deepseek.toml"),
    include_str!("../../../catalog/families/kimi.toml"),
    include_str!("../../../catalog/families/nova.toml"),
];

static FAMILIES: LazyLock<Vec<Family>> =
    LazyLock::new(|| FILES.iter().filter_map(|file| toml::from_str(file).ok()).collect());

/// A family of models.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// Which models are of it: names at the provider, behind the last slash, in lower case, where
    /// `*` is any text and `?` any character.
    pub models: Vec<String>,
    /// Models that are of it, for the test.
    pub examples: Vec<String>,
    /// The day on which it was looked up, `2026-11-21`.
    pub as_of: String,
    /// Where its facts are from: addresses.
    pub evidence: Vec<String>,
    /// Asked only where no other family fits: for models that are newer than this file.
    #[serde(default)]
    pub fallback: bool,
    /// The rows of the vendor catalogue where this holds; none = everywhere.
    #[serde(default)]
    pub vendors: Vec<String>,
    /// The vendor whose own API has these limits. Other servers of the same model have others.
    pub owner: Option<String>,
    /// The context window in tokens, at the owner's.
    pub context_tokens: Option<u64>,
    /// The most tokens of one answer, at the owner's.
    pub output_tokens: Option<u64>,
    /// What a request may hold beside its words; `None` = whatever the format can say.
    pub input: Option<Vec<Modality>>,
    /// How the model may be told to draw tokens; `None` = in every way.
    pub sampling: Option<Vec<SamplingField>>,
    /// In every way where thinking is turned off.
    #[serde(default)]
    pub sampling_without_thinking: bool,
    /// The efforts that it knows; `None` = all, empty = it does not think.
    pub efforts: Option<Vec<Effort>>,
    /// How thinking may be asked for; `None` = in every way.
    pub thinking: Option<Vec<Thinking>>,
    /// What of it chat completions offer.
    #[serde(default)]
    pub chat: Chat,
    /// Whether it can be made to call a tool.
    #[serde(default = "yes")]
    pub forced_tool_choice: bool,
    /// Whether it goes on with an answer that was begun for it.
    #[serde(default = "yes")]
    pub prefill: bool,
    /// Whether it is known to, and to answer with what follows alone, where the last message of a
    /// request in its owner's format is an assistant's.
    #[serde(default)]
    pub continues: bool,
    /// How far the shape of its answer can be asked for.
    #[serde(default)]
    pub structured_output: StructuredOutput,
    /// Whether it takes function tools and a schema at once.
    #[serde(default = "yes")]
    pub schema_with_tools: bool,
    /// How it takes marks for a prompt cache, where its server does; `None` = nobody knows.
    pub cache_marks: Option<CacheMarks>,
}

const fn yes() -> bool {
    true
}

/// What a message can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// Words.
    Text,
    /// Pictures.
    Image,
    /// Sound.
    Audio,
    /// Documents.
    File,
}

/// A way to say how tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingField {
    /// Randomness.
    Temperature,
    /// The probable part of the vocabulary.
    TopP,
    /// The most probable tokens.
    TopK,
    /// The same draws again.
    Seed,
    /// Fewer repetitions, by count.
    FrequencyPenalty,
    /// Fewer repetitions.
    PresencePenalty,
    /// Texts at which the answer ends.
    Stop,
}

/// A way to ask for thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// By a number of tokens.
    Budget,
    /// As much as the model finds right, or an effort.
    Adaptive,
    /// Not at all.
    Off,
}

/// What of a model chat completions offer; all else is in the Responses API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chat {
    /// Everything.
    #[default]
    Full,
    /// Function tools only where no effort is asked for.
    ToolsUnlessThinkingIsAsked,
    /// Function tools only where thinking is turned off in so many words.
    ToolsWithoutThinking,
    /// No function tools.
    NoTools,
    /// Nothing.
    None,
}

/// How far the shape of an answer can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// By a schema.
    #[default]
    Schema,
    /// Some JSON object.
    Object,
}

impl Family {
    fn has(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| matches(pattern.as_bytes(), model.as_bytes()))
    }
}

/// Every family.
pub fn families() -> &'static [Family] {
    &FAMILIES
}

/// Bytes of a model's name at most: no vendor has a longer one, and clients may send any.
const NAME_BYTES_MAX: usize = 256;

/// The family of a model by its name at a provider of this vendor, if it is known.
pub fn family(vendor: &str, model: &str) -> Option<&'static Family> {
    let model = model.rsplit('/').next().unwrap_or(model);
    if model.len() > NAME_BYTES_MAX {
        return None;
    }
    let model = model.to_ascii_lowercase();
    let of = |fallback: bool| {
        families().iter().find(|family| {
            let here = family.vendors.is_empty() || family.vendors.iter().any(|row| row == vendor);
            family.fallback == fallback && here && family.has(&model)
        })
    };
    of(false).or_else(|| of(true))
}

/// A model's limits in tokens, context and answer, where the vendor is its family's own.
pub fn limits(vendor: &str, model: &str) -> (Option<u64>, Option<u64>) {
    let family = family(vendor, model).filter(|family| family.owner.as_deref() == Some(vendor));
    family.map_or((None, None), |family| (family.context_tokens, family.output_tokens))
}

/// What a model is known not to take, whoever serves it.
pub fn lacks(vendor_name: &str, model: &str) -> Lacks {
    let family = family(vendor_name, model);
    let words_only = |input: &Vec<Modality>| input.iter().all(|kind| *kind == Modality::Text);
    let input = family.and_then(|family| family.input.as_ref());
    let by_object = |family: &Family| family.structured_output == StructuredOutput::Object;
    let takes_marks =
        |row: &Vendor| marks::taken(row.format().name(), &row.quirks, family).is_some();
    Lacks {
        media: input.is_some_and(words_only),
        schema: family.is_some_and(by_object),
        cache_marks: vendor(vendor_name).is_some_and(|row| !takes_marks(row)),
    }
}

/// Names a field that is left out, once.
fn report(dropped: &mut Vec<String>, name: &str) {
    if !dropped.iter().any(|known| known == name) {
        dropped.push(name.to_owned());
    }
}

/// Whether a name is as the pattern says: `*` is any text, `?` any byte. Clients give names, so it
/// takes no more steps than one length times the other.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    // Behind the last star, and where in the name what it stands for ends so far.
    let mut star: Option<(usize, usize)> = None;
    while here < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, here));
            }
            Some(wanted) if *wanted == b'?' || Some(wanted) == name.get(here) => {
                at += 1;
                here += 1;
            }
            _ => {
                let Some((behind, end)) = star else { return false };
                star = Some((behind, end + 1));
                (at, here) = (behind, end + 1);
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|left| *left == b'*')
}

#[cfg(test)]
mod tests;
