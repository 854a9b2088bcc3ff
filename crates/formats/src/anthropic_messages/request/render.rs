//! The neutral form as a request.
//!
//! Rendering is a pure function with a fixed order of fields, and message *n* depends on message
//! *n* alone (results of tools that stand together join in one message): the bytes of a history are
//! a prefix of the bytes of a longer one. Signed thinking is worth nothing otherwise, and neither
//! is the prompt cache. What can't be said is named in `dropped` where the answer stays what was
//! asked for, and refused where it does not.

mod content;

use std::borrow::Cow;

use ::types::Failure;
use ::types::call::Operation;
use ::types::conversation::{
    Conversation, Effort, Message, OutputShape, Part, Role, ToolChoice, ToolDefinition,
};
use ::types::format::{Edits, Rendered};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::anthropic_messages::{NAME, types};
use crate::json::{at, field_names, join};
use crate::marks::{CacheControl, Marks};

/// Output cap where neither the request nor the target's row has one, in tokens: a request must
/// have one.
const OUTPUT_CAP_DEFAULT: u64 = 32_768;
/// Tokens of thinking at least, as Anthropic has it.
const BUDGET_MIN: u64 = 1_024;
/// Characters of a tool's name at most, as Anthropic has it.
const NAME_CHARS_MAX: usize = 128;
/// The version of the API of which this is the form.
const VERSION: (&str, &str) = ("anthropic-version", "2026-10-21");
/// The last version that takes `temperature`, `top_p` and `top_k`.
const VERSION_WITH_SAMPLING: (&str, &str) = ("anthropic-version", "2023-06-01");

/// Renders a request.
pub(in super::super) fn render(
    conversation: &Conversation,
    edits: &Edits<'_>,
) -> Result<Rendered, Failure> {
    let mut dropped = Vec::new();
    refuse_unsayable(conversation)?;
    let given = edits.output_cap.or(conversation.output_cap);
    let cap = given.or(edits.output_max).unwrap_or(OUTPUT_CAP_DEFAULT);
    let answers = edits.operation == Operation::Chat;
    let marks = Marks::of(conversation);
    let (system, messages) = content::messages(&conversation.messages, &marks, &mut dropped)?;
    let request = types::Request {
        model: edits.model,
        max_tokens: answers.then_some(cap),
        system,
        messages,
        tools: tools(&conversation.tools, &marks)?,
        tool_choice: tool_choice(conversation)?,
        thinking: thinking(conversation, NAME, cap, &mut dropped),
        output_config: output_config(conversation),
        cache_control: marks.end().map(CacheControl::of),
        answer: answers.then(|| answer(conversation, edits, &mut dropped)),
    };
    dropped.extend(rest(conversation));
    let sampled = request.answer.as_ref().is_some_and(|answer| {
        answer.temperature.is_some() || answer.top_p.is_some() || answer.top_k.is_some()
    });
    let (header, version) = if sampled { VERSION_WITH_SAMPLING } else { VERSION };
    let unwritable =
        |_| Failure::new(::types::ErrorCode::Internal, "the request can't be written as JSON");
    Ok(Rendered {
        body: Bytes::from(serde_json::to_vec(&request).map_err(unwritable)?),
        dropped: field_names(dropped),
        headers: vec![(header, version.to_owned())],
        output_cap: (answers && given.is_none()).then_some(cap),
    })
}

/// Refuses what would change the answer if it were left out.
fn refuse_unsayable(conversation: &Conversation) -> Result<(), Failure> {
    let refuse = |name: &str, text: &str| Err(Failure::unsupported(name, text));
    if conversation.output_shape == OutputShape::JsonObject {
        let text = "this provider can't be asked for just any JSON object: give a JSON schema";
        return refuse("response_format", text);
    }
    let rest = |name: &str| conversation.rest.get(name);
    if rest("n").is_some_and(|choices| *choices != 1) {
        return refuse("n", "this provider gives one answer per request");
    }
    if rest("web_search_options").is_some() {
        return refuse("web_search_options", "this provider can't be asked to search in this way");
    }
    if rest("modalities").is_some_and(|kinds| *kinds != json!(["text"])) {
        return refuse("modalities", "this provider answers in text only");
    }
    if conversation.sampling.stop.iter().any(|stop| stop.trim().is_empty()) {
        return refuse("stop", "this provider takes no stop sequence of white space only");
    }
    if conversation.sampling.temperature.is_some_and(|temperature| temperature > 1.0) {
        return refuse("temperature", "this provider takes temperatures up to 1");
    }
    Ok(())
}

/// Fields of other formats, by name. One answer is what there is anyway.
fn rest(conversation: &Conversation) -> impl Iterator<Item = String> {
    let names = conversation.rest.keys();
    names.filter(|name| !matches!(name.as_str(), "n" | "modalities")).cloned()
}

fn tools<'a>(
    definitions: &'a [ToolDefinition],
    marks: &Marks,
) -> Result<Vec<types::Tool<'a>>, Failure> {
    let tools = definitions.iter().enumerate().map(|(index, tool)| {
        Ok(types::Tool {
            name: tool_name(&tool.name, || join(&at("tools", index), "name"))?,
            description: tool.description.as_deref(),
            input_schema: input_schema(tool.parameters.as_ref()),
            strict: tool.strict,
            cache_control: marks.tool(index).map(CacheControl::of),
        })
    });
    tools.collect()
}

/// A schema as it came; the type that Anthropic demands is said where it was left out.
pub(crate) fn input_schema(parameters: Option<&Value>) -> Cow<'_, Value> {
    match parameters {
        Some(schema @ Value::Object(fields)) if fields.contains_key("type") => {
            Cow::Borrowed(schema)
        }
        given => {
            let mut typed = json!({ "type": "object" });
            if let (Value::Object(typed), Some(Value::Object(fields))) = (&mut typed, given) {
                typed.extend(fields.clone());
            }
            Cow::Owned(typed)
        }
    }
}

/// A tool's name, if Anthropic takes it.
fn tool_name(name: &str, path: impl Fn() -> String) -> Result<&str, Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(fits) {
        let text = "this provider takes tools' names of 1 to 128 letters, digits, '_' or '-'";
        return Err(Failure::unsupported(path(), text));
    }
    Ok(name)
}

fn tool_choice(conversation: &Conversation) -> Result<Option<types::ToolChoice<'_>>, Failure> {
    let choice = &conversation.tool_choice;
    let alone = conversation.parallel_tool_calls.map(|parallel| !parallel);
    if conversation.tools.is_empty() {
        // Anthropic refuses a choice among no tools.
        return match choice {
            ToolChoice::Auto | ToolChoice::None => Ok(None),
            ToolChoice::Required | ToolChoice::Named { .. } => {
                let text = "a tool must be called, but 'tools' is empty";
                Err(Failure::invalid("tool_choice", text))
            }
        };
    }
    let of = |kind, name, disable_parallel_tool_use| types::ToolChoice {
        kind,
        name,
        disable_parallel_tool_use,
    };
    Ok(match choice {
        ToolChoice::Auto if alone.is_none() => None,
        ToolChoice::Auto => Some(of("auto", None, alone)),
        ToolChoice::None => Some(of("none", None, None)),
        ToolChoice::Required => Some(of("any", None, alone)),
        ToolChoice::Named { name } => {
            let name = tool_name(name, || "tool_choice".to_owned())?;
            Some(of("tool", Some(name), alone))
        }
    })
}

fn output_config(conversation: &Conversation) -> Option<types::OutputConfig<'_>> {
    let effort = conversation.reasoning.effort.and_then(|effort| match effort {
        Effort::Off => None,
        Effort::Minimal => Some(Effort::Low.name()),
        Effort::Low | Effort::Medium | Effort::High | Effort::Xhigh | Effort::Max => {
            Some(effort.name())
        }
    });
    let format = match &conversation.output_shape {
        OutputShape::Text | OutputShape::JsonObject => None,
        OutputShape::JsonSchema { schema, .. } => {
            Some(types::Shape { kind: "json_schema", schema })
        }
    };
    (effort.is_some() || format.is_some()).then_some(types::OutputConfig { effort, format })
}

/// How much the model is to think, where reasoning that goes back is signed by `origin` and an
/// answer has at most `cap` tokens.
pub(crate) fn thinking(
    conversation: &Conversation,
    origin: &str,
    cap: u64,
    dropped: &mut Vec<String>,
) -> Option<types::Thinking> {
    let ask = &conversation.reasoning;
    let display = ask.shown.map(|shown| if shown { "summarized" } else { "omitted" });
    let of = |kind, budget_tokens, display| types::Thinking { kind, budget_tokens, display };
    if ask.effort == Some(Effort::Off) {
        return Some(of("disabled", None, None));
    }
    if ask.effort.is_none() && ask.budget_tokens.is_none() && !ask.adaptive {
        dropped.extend(display.map(|_| "reasoning.summary".to_owned()));
        return None;
    }
    if is_forced(&conversation.tool_choice) || unsigned_loop(&conversation.messages, origin) {
        let name = if ask.effort.is_some() { "reasoning_effort" } else { "thinking" };
        dropped.push(name.to_owned());
        return None;
    }
    let Some(budget) = ask.budget_tokens else { return Some(of("adaptive", None, display)) };
    let most = cap.saturating_sub(1);
    let fitting = budget.max(BUDGET_MIN).min(most);
    if fitting != budget {
        dropped.push("thinking.budget_tokens".to_owned());
    }
    (fitting >= BUDGET_MIN).then(|| of("enabled", Some(fitting), display))
}

/// A forced call and thinking exclude each other.
const fn is_forced(choice: &ToolChoice) -> bool {
    matches!(choice, ToolChoice::Required | ToolChoice::Named { .. })
}

/// Whether the model called tools since the user spoke last, and none of its thinking is here to be
/// given back: with thinking on, Anthropic refuses such a turn. Clients of formats without signed
/// reasoning can't avoid it.
fn unsigned_loop(messages: &[Message], vendor: &str) -> bool {
    let since_user = messages.iter().rev().take_while(|message| message.role != Role::User);
    let (mut calls, mut signed) = (false, false);
    for part in since_user.flat_map(|message| &message.parts) {
        match part {
            Part::ToolCall(_) => calls = true,
            Part::Reasoning { signature: Some(_), origin, .. } => {
                signed |= origin.as_deref() == Some(vendor);
            }
            Part::Text { .. }
            | Part::Media { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. }
            | Part::Refusal { .. } => {}
        }
    }
    calls && !signed
}

fn answer<'a>(
    conversation: &'a Conversation,
    edits: &Edits<'_>,
    dropped: &mut Vec<String>,
) -> types::Answer<'a> {
    let sampling = &conversation.sampling;
    let mut drop_if = |name: &str, given: bool| dropped.extend(given.then(|| name.to_owned()));
    drop_if("seed", sampling.seed.is_some());
    drop_if("frequency_penalty", sampling.frequency_penalty.is_some());
    drop_if("presence_penalty", sampling.presence_penalty.is_some());
    types::Answer {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        stop_sequences: &sampling.stop,
        stream: edits.stream,
    }
}
