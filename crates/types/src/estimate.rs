//! About how many tokens a conversation has, where nobody can be asked.
//!
//! Rather too many than too few: clients keep to a context's limit by it. It is an estimate, and no
//! bound: what a Call can cost at most is for the pipeline to say. A sum over parts, so that what
//! is left out of a conversation makes it smaller by just its own estimate.

use crate::conversation::{Conversation, Message, Part};

/// Bytes of a token, rounded down: English has four, code and other languages have less.
pub const TOKEN_BYTES: u64 = 3;
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

/// About how many input tokens a conversation has.
pub fn tokens(conversation: &Conversation) -> u64 {
    let messages: u64 = conversation.messages.iter().map(message_tokens).sum();
    messages.saturating_add(frame_tokens(conversation))
}

/// What stands around the messages: the tools, and the marks of the whole.
pub fn frame_tokens(conversation: &Conversation) -> u64 {
    if conversation.tools.is_empty() {
        return AROUND;
    }
    let tools = conversation.tools.iter().map(|tool| {
        let schema = tool.parameters.as_ref().map(ToString::to_string).unwrap_or_default();
        let description = tool.description.as_deref().unwrap_or_default();
        text_tokens(&[&tool.name, description, &schema])
    });
    tools.sum::<u64>().saturating_add(TOOLS_PROMPT).saturating_add(AROUND)
}

/// One message.
pub fn message_tokens(message: &Message) -> u64 {
    message.parts.iter().map(part_tokens).sum()
}

/// One part, with what it holds.
pub fn part_tokens(part: &Part) -> u64 {
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
        Part::ToolResult { call_id, parts, .. } => {
            text_tokens(&[call_id]).saturating_add(parts.iter().map(part_tokens).sum())
        }
    }
}

/// Texts that are one part together.
pub fn text_tokens(texts: &[&str]) -> u64 {
    let bytes: u64 = texts.iter().map(|text| length(text)).sum();
    bytes.div_ceil(TOKEN_BYTES).saturating_add(AROUND)
}

/// The most that a request of so many bytes, with so many media, can be estimated at: tells without
/// parsing which requests are far from any threshold.
pub const fn most(body_bytes: u64, media: u32) -> u64 {
    // A part takes at least as many bytes as it is given tokens for itself.
    let text = body_bytes.saturating_mul(2) / TOKEN_BYTES;
    let media = DOCUMENT_TOKENS_MIN.saturating_mul(media as u64);
    text.saturating_add(media).saturating_add(TOOLS_PROMPT + AROUND)
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{Role, ToolCall, ToolDefinition};

    #[test]
    fn a_conversation_is_the_sum_of_its_parts() {
        let result = Part::tool_result("c1", "x".repeat(300), false);
        let call = ToolCall { id: "c1".into(), name: "read".into(), arguments: "{}".into() };
        let messages = vec![
            Message::text(Role::User, "hello"),
            Message { role: Role::Assistant, parts: vec![Part::ToolCall(call)] },
            Message { role: Role::Tool, parts: vec![result.clone()] },
        ];
        let said = Conversation { messages, ..Conversation::default() };
        assert_eq!(part_tokens(&result), 5 + 104);
        assert_eq!(tokens(&said), 4 + 6 + 6 + 109);
        let tool = ToolDefinition {
            name: "read".into(),
            description: None,
            parameters: None,
            strict: None,
        };
        let with_tool = Conversation { tools: vec![tool], ..said.clone() };
        assert_eq!(tokens(&with_tool), tokens(&said) + 350 + 6);
    }

    #[test]
    fn the_most_is_never_less_than_the_estimate() {
        // The shortest parts that a request can have, as chat completions spell them.
        let body = r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#;
        let messages = vec![Message::text(Role::User, "a"), Message::text(Role::User, "b")];
        let said = Conversation { messages, ..Conversation::default() };
        assert!(most(body.len() as u64, 0) >= tokens(&said));
    }
}
