//! About how many tokens a request has, where nobody can be asked.

use ::types::Failure;
use ::types::conversation::{Conversation, Part};

use super::parse;

/// Bytes of a token, rounded down: English has four, code and other languages have less.
const TOKEN_BYTES: u64 = 3;
/// Tokens of an image. Anthropic's own rule is pixels divided by 750, and it scales images down to
/// about 1.15 megapixels.
const IMAGE_TOKENS: u64 = 1_600;
/// Tokens of a document whose pages can't be seen.
const DOCUMENT_TOKENS_MIN: u64 = 3_000;
/// Bytes of a document, as base64, for each of its tokens: pages of about 60 kB and 2,000 tokens.
const DOCUMENT_TOKEN_BYTES: u64 = 40;
/// Tokens around a message or a part of one.
const AROUND: u64 = 4;
/// Tokens of the instructions that come with tools.
const TOOLS_PROMPT: u64 = 350;

/// About how many input tokens a request has, where nobody can be asked. Rather too many than too
/// few: clients keep to a context's limit by it.
///
/// # Errors
/// A 400 that names the field.
pub fn count_estimate(body: &[u8]) -> Result<u64, Failure> {
    Ok(estimate(&parse(body)?))
}

/// About how many input tokens a conversation has.
pub(crate) fn estimate(conversation: &Conversation) -> u64 {
    let parts: u64 = conversation.parts().map(part_tokens).sum();
    parts.saturating_add(tools_tokens(conversation)).saturating_add(AROUND)
}

fn tools_tokens(conversation: &Conversation) -> u64 {
    if conversation.tools.is_empty() {
        return 0;
    }
    let tools = conversation.tools.iter().map(|tool| {
        let schema = tool.parameters.as_ref().map(ToString::to_string).unwrap_or_default();
        let description = tool.description.as_deref().unwrap_or_default();
        text_tokens(&[&tool.name, description, &schema])
    });
    tools.sum::<u64>().saturating_add(TOOLS_PROMPT)
}

fn part_tokens(part: &Part) -> u64 {
    match part {
        Part::Text { text } | Part::Refusal { text } | Part::Reasoning { text, .. } => {
            text_tokens(&[text])
        }
        Part::Media { kind, .. } if kind == "image" => IMAGE_TOKENS,
        Part::Media { url, .. } => {
            let bytes = length(url.as_deref().unwrap_or_default());
            DOCUMENT_TOKENS_MIN.max(bytes / DOCUMENT_TOKEN_BYTES)
        }
        Part::ToolCall(call) => text_tokens(&[&call.name, &call.arguments]),
        // What it holds is counted by itself.
        Part::ToolResult { call_id, .. } => text_tokens(&[call_id]),
    }
}

fn text_tokens(texts: &[&str]) -> u64 {
    let bytes: u64 = texts.iter().map(|text| length(text)).sum();
    bytes.div_ceil(TOKEN_BYTES).saturating_add(AROUND)
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}
