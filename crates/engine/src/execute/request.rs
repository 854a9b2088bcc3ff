//! The neutral conversation as a request to an engine. What it can't say is refused by name.

use types::call::Operation;
use types::clock::Monotonic;
use types::conversation::{Conversation, Message, OutputShape, Part, Role, joined_text};
use types::{Attempt, Call, CallKind, ErrorCode, Failure};

use crate::protocol::{ChatMessage, Generate, LoadedModel, Sampling, Tool, ToolCall, ToolChoice};

/// The request of an attempt. `now` is the monotonic clock, from which the deadline counts.
///
/// # Errors
/// A 400 naming what a local model can't be told.
pub(super) fn from_attempt(attempt: &Attempt, now: Monotonic) -> Result<Generate, Failure> {
    let call = &attempt.call;
    let CallKind::Model(model) = &call.kind else {
        return Err(Failure::new(ErrorCode::Internal, "not a model Call"));
    };
    match model.operation {
        Operation::Chat => {}
        Operation::CountTokens => {
            let text = "a local model's tokens can't be counted alone";
            return Err(Failure::unsupported("model", text));
        }
        Operation::Embed => {
            let text = format!(
                "the model {} answers in text and makes no embeddings",
                attempt.target.name
            );
            return Err(Failure::unsupported("model", text));
        }
    }
    if model.head.choices > 1 {
        return Err(Failure::unsupported("n", "a local model gives one answer per request"));
    }
    let conversation = model.neutral()?;
    let mut request = from_conversation(&conversation)?;
    belong(&mut request, call);
    let caps = [attempt.output_cap, conversation.output_cap, attempt.target.output_tokens_max];
    let cap = caps.into_iter().flatten().min();
    request.max_tokens = cap.map(|cap| u32::try_from(cap).unwrap_or(u32::MAX));
    let left = call.deadline.map(|deadline| deadline.saturating_sub(now));
    request.deadline_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    Ok(request)
}

/// Says whose the request is and where its state may be kept: on disk only where the conversation
/// itself is, which is a stored session's step. A name alone (`holdfast-session`) keeps it in
/// memory.
pub(super) fn belong(request: &mut Generate, call: &Call) {
    request.account = call.principal.account.to_string();
    request.session = call.session.as_ref().map(ToString::to_string);
    request.persist = call.step.is_some();
}

/// Refuses a prompt that no number of the model's tokens can spell within its context, before it
/// is sent: it would only be read there to be refused.
///
/// # Errors
/// A 400 that says so.
pub(super) fn check_fits(request: &Generate, model: &LoadedModel) -> Result<(), Failure> {
    let bytes_max = u64::from(model.context) * u64::from(model.token_bytes_max);
    // White space around a text, and parts of what an assistant said, some templates leave out.
    let shown = request.messages.iter().filter(|message| message.role != "assistant");
    let bytes: u64 = shown.map(|message| message.content.trim().len() as u64).sum();
    if bytes_max == 0 || bytes <= bytes_max {
        return Ok(());
    }
    let message = format!(
        "the prompt has {bytes} bytes, more than any {} tokens, which are this model's context \
         here, the answer included",
        model.context
    );
    let mut failure = Failure::new(ErrorCode::ContextLengthExceeded, message);
    failure.param = Some("messages".into());
    Err(failure)
}

/// The parts of a request that the conversation says.
///
/// # Errors
/// A 400 naming what a local model can't be told.
pub(super) fn from_conversation(conversation: &Conversation) -> Result<Generate, Failure> {
    let mut messages = Vec::with_capacity(conversation.messages.len());
    for (index, message) in conversation.messages.iter().enumerate() {
        push_message(message, index, &mut messages)?;
    }
    let tools = conversation.tools.iter().map(|tool| Tool {
        name: tool.name.clone(),
        description: tool.description.clone(),
        parameters: tool.parameters.clone(),
    });
    let sampling = &conversation.sampling;
    Ok(Generate {
        messages,
        tools: tools.collect(),
        tool_choice: match &conversation.tool_choice {
            types::conversation::ToolChoice::Auto => ToolChoice::Auto,
            types::conversation::ToolChoice::None => ToolChoice::None,
            types::conversation::ToolChoice::Required => ToolChoice::Required,
            types::conversation::ToolChoice::Named { name } => {
                ToolChoice::Named { name: name.clone() }
            }
        },
        parallel_tool_calls: conversation.parallel_tool_calls.unwrap_or(true),
        schema: match &conversation.output_shape {
            OutputShape::Text => None,
            OutputShape::JsonObject => Some(serde_json::json!({"type": "object"})),
            OutputShape::JsonSchema { schema, .. } => Some(schema.clone()),
        },
        sampling: Sampling {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            min_p: None,
            seed: sampling.seed,
            frequency_penalty: sampling.frequency_penalty.unwrap_or(0.0),
            presence_penalty: sampling.presence_penalty.unwrap_or(0.0),
            stop: sampling.stop.clone(),
        },
        ..Generate::default()
    })
}

/// Fields that are no instruction to a model: who asks, what is kept, how it is billed or cached.
const NO_INSTRUCTION: [&str; 9] = [
    "metadata",
    "n",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "user",
];

/// Names that are reported at most: they travel in one header.
const DROPPED_MAX: usize = 32;

/// The names of what a local model is not told though the client asked for it.
pub(super) fn dropped(conversation: &Conversation) -> Vec<String> {
    let ask = &conversation.reasoning;
    let effort = ask.effort.is_some().then_some("reasoning_effort");
    let thinking = (ask.adaptive || ask.budget_tokens.is_some()).then_some("thinking");
    let shown = (ask.shown == Some(true)).then_some("reasoning.summary");
    let is_error = |part: &Part| matches!(part, Part::ToolResult { is_error: true, .. });
    // The result's text says so too; templates have no word for it.
    let failed = conversation.parts().any(is_error).then_some("tool_result.is_error");
    let asked = [effort, thinking, shown, failed].into_iter().flatten().map(str::to_owned);
    let names = conversation.rest.keys().filter(|name| {
        let is_instruction = !NO_INSTRUCTION.contains(&name.as_str())
            && !name.starts_with("metadata.")
            && !name.ends_with("cache_control");
        // Calls and schemas are always held to their schema.
        is_instruction && !name.ends_with(".strict")
    });
    asked.chain(names.cloned()).take(DROPPED_MAX).collect()
}

fn media_kind(part: &Part) -> Option<&str> {
    if let Part::Media { kind, .. } = part { Some(kind) } else { None }
}

fn not_text(index: usize, kind: &str) -> Failure {
    let message = format!("this local model takes text; it can't be given {kind}");
    Failure::unsupported(format!("messages[{index}].content"), message)
}

/// Appends a message, and each tool result as a message of its own, as templates expect it.
fn push_message(
    message: &Message,
    index: usize,
    messages: &mut Vec<ChatMessage>,
) -> Result<(), Failure> {
    let role = match message.role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let mut own = ChatMessage { role: role.to_owned(), ..ChatMessage::default() };
    let mut results = Vec::new();
    for part in &message.parts {
        match part {
            Part::Text { text } | Part::Refusal { text } => own.content.push_str(text),
            Part::Reasoning { text, .. } => own.reasoning.push_str(text),
            Part::ToolCall(call) => own.tool_calls.push(ToolCall {
                id: call.id.clone(),
                name: call.name.clone(),
                arguments: call.arguments.clone(),
            }),
            Part::ToolResult { call_id, parts, .. } => {
                if let Some(kind) = parts.iter().find_map(media_kind) {
                    return Err(not_text(index, kind));
                }
                results.push(ChatMessage {
                    role: "tool".to_owned(),
                    content: joined_text(parts),
                    tool_call_id: Some(call_id.clone()),
                    ..ChatMessage::default()
                });
            }
            Part::Media { kind, .. } => return Err(not_text(index, kind)),
        }
    }
    let has_own =
        !(own.content.is_empty() && own.reasoning.is_empty() && own.tool_calls.is_empty());
    if has_own || results.is_empty() {
        messages.push(own);
    }
    messages.append(&mut results);
    Ok(())
}
