//! The neutral form as a request.
//!
//! Rendering is a pure function with a fixed order of fields, and turn *n* depends on message *n*
//! alone (results of functions that stand together join in one turn): the bytes of a history are a
//! prefix of the bytes of a longer one. Signed thoughts are worth nothing otherwise, and neither is
//! the prompt cache. What can't be said is named in `dropped` where the answer stays what was asked
//! for, and refused where it does not.

mod content;
mod schema;

use std::borrow::Cow;

use ::types::Failure;
use ::types::call::Operation;
use ::types::conversation::{
    Conversation, Effort, OutputShape, ReasoningAsk, ToolChoice, ToolDefinition,
};
use ::types::format::{Edits, Rendered};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::gemini::types::{
    self, Calling, FunctionDeclaration, GenerationConfig, ThinkingConfig, ToolConfig, Tools,
};
use crate::json::{at, field_names, join};
use crate::marks;

/// Characters of a function's name at most, as Google has it.
const NAME_CHARS_MAX: usize = 128;
/// The budget with which the model decides itself how much it thinks.
const BUDGET_DYNAMIC: i64 = -1;

/// Renders a request.
pub(in super::super) fn render(
    conversation: &Conversation,
    edits: &Edits<'_>,
) -> Result<Rendered, Failure> {
    let mut dropped = Vec::new();
    refuse_unsayable(conversation)?;
    let family = Family::of(edits.model);
    let (system_instruction, contents) =
        content::contents(&conversation.messages, family, &mut dropped)?;
    if contents.is_empty() {
        let text = "this provider needs a message of the user, beside the system prompt";
        return Err(Failure::invalid("messages", text));
    }
    let request = types::Request {
        system_instruction,
        tools: tools(&conversation.tools, &mut dropped)?,
        tool_config: tool_config(conversation)?,
        contents,
        generation_config: config(conversation, edits, family, &mut dropped),
    };
    if conversation.parallel_tool_calls == Some(false) {
        dropped.push("parallel_tool_calls".to_owned());
    }
    dropped.extend(marks::names(conversation));
    dropped.extend(rest(conversation));
    let unwritable =
        |_| Failure::new(::types::ErrorCode::Internal, "the request can't be written as JSON");
    let body = match edits.operation {
        Operation::Chat | Operation::Embed => serde_json::to_vec(&request),
        Operation::CountTokens => {
            let model = super::super::resource(edits.model);
            let generate_content_request = types::Named { model, request };
            serde_json::to_vec(&types::Counted { generate_content_request })
        }
    };
    Ok(Rendered {
        body: Bytes::from(body.map_err(unwritable)?),
        dropped: field_names(dropped),
        headers: Vec::new(),
        output_cap: None,
    })
}

/// What differs between Google's models. One that is not known is taken for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Before Gemini 3: thinks by a budget, needs no signatures, takes text from functions.
    Old,
    /// Thinks by a level and can't be stopped from it, and wants every call signed.
    New,
}

impl Family {
    fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let old = ["gemini-1", "gemini-2", "gemini-pro", "gemma-"];
        if old.iter().any(|old| name.starts_with(old)) { Self::Old } else { Self::New }
    }
}

/// Refuses what would change the answer if it were left out.
fn refuse_unsayable(conversation: &Conversation) -> Result<(), Failure> {
    let refuse = |name: &str, text: &str| Err(Failure::unsupported(name, text));
    let rest = |name: &str| conversation.rest.get(name);
    if rest("n").is_some_and(|choices| *choices != 1) {
        return refuse(
            "n",
            "only clients of the Gemini API can ask this provider for more than one answer",
        );
    }
    if rest("web_search_options").is_some() {
        return refuse("web_search_options", "this provider can't be asked to search in this way");
    }
    if rest("modalities").is_some_and(|kinds| *kinds != json!(["text"])) {
        return refuse("modalities", "this provider is asked for text only");
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
    dropped: &mut Vec<String>,
) -> Result<Option<[Tools<'a>; 1]>, Failure> {
    if definitions.is_empty() {
        return Ok(None);
    }
    let mut declarations = Vec::with_capacity(definitions.len());
    for (index, tool) in definitions.iter().enumerate() {
        if tool.strict.is_some() {
            // Every function's arguments satisfy its schema as well as the model can.
            dropped.push("tools.strict".to_owned());
        }
        declarations.push(FunctionDeclaration {
            name: function_name(&tool.name, || join(&at("tools", index), "name"))?,
            description: tool.description.as_deref(),
            parameters_json_schema: tool.parameters.as_ref().map(|it| schema_of(it, dropped)),
        });
    }
    Ok(Some([Tools { function_declarations: declarations }]))
}

fn schema_of<'a>(given: &'a Value, dropped: &mut Vec<String>) -> Cow<'a, Value> {
    let schema = schema::sayable(given);
    if matches!(schema, Cow::Owned(_)) {
        dropped.push("schema.const".to_owned());
    }
    schema
}

/// A function's name, if Google takes it.
fn function_name(name: &str, path: impl Fn() -> String) -> Result<&str, Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins || name.len() > NAME_CHARS_MAX || !name.chars().all(fits) {
        let text = "this provider takes functions' names that begin with a letter or '_', of at \
                    most 128 letters, digits, '_', '.', ':' or '-'";
        return Err(Failure::unsupported(path(), text));
    }
    Ok(name)
}

fn tool_config(conversation: &Conversation) -> Result<Option<ToolConfig<'_>>, Failure> {
    let of = |mode, name: Option<_>| {
        let function_calling_config =
            Calling { mode, allowed_function_names: name.map(|name| [name]) };
        Ok(Some(ToolConfig { function_calling_config }))
    };
    match &conversation.tool_choice {
        ToolChoice::Auto => Ok(None),
        ToolChoice::None if conversation.tools.is_empty() => Ok(None),
        ToolChoice::None => of("NONE", None),
        ToolChoice::Required | ToolChoice::Named { .. } if conversation.tools.is_empty() => {
            let text = "a tool must be called, but 'tools' is empty";
            Err(Failure::invalid("tool_choice", text))
        }
        ToolChoice::Required => of("ANY", None),
        ToolChoice::Named { name } => {
            of("ANY", Some(function_name(name, || "tool_choice".to_owned())?))
        }
    }
}

fn config<'a>(
    conversation: &'a Conversation,
    edits: &Edits<'_>,
    family: Family,
    dropped: &mut Vec<String>,
) -> GenerationConfig<'a> {
    let sampling = &conversation.sampling;
    let (mime, schema) = match &conversation.output_shape {
        OutputShape::Text => (None, None),
        OutputShape::JsonObject => (Some("application/json"), None),
        OutputShape::JsonSchema { schema, .. } => {
            (Some("application/json"), Some(schema_of(schema, dropped)))
        }
    };
    GenerationConfig {
        max_output_tokens: edits.output_cap.or(conversation.output_cap),
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        seed: sampling.seed,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        stop_sequences: &sampling.stop,
        response_mime_type: mime,
        response_json_schema: schema,
        thinking_config: thinking(&conversation.reasoning, family, dropped),
    }
}

fn thinking(
    ask: &ReasoningAsk,
    family: Family,
    dropped: &mut Vec<String>,
) -> Option<ThinkingConfig> {
    let mut config = ThinkingConfig { include_thoughts: ask.shown, ..ThinkingConfig::default() };
    match (ask.effort, ask.budget_tokens) {
        // Newer models take one of the two, and know the level better.
        (Some(effort), budget) if family == Family::New => {
            config.thinking_level = Some(level(effort));
            if effort == Effort::Off {
                dropped.push("reasoning_effort".to_owned());
            }
            dropped.extend(budget.map(|_| "thinking.budget_tokens".to_owned()));
        }
        (Some(Effort::Off), _) => config.thinking_budget = Some(0),
        (_, Some(budget)) => config.thinking_budget = i64::try_from(budget).ok(),
        (Some(effort), None) => config.thinking_budget = Some(budget_of(effort)),
        (None, None) if ask.adaptive => config.thinking_budget = Some(BUDGET_DYNAMIC),
        (None, None) => {}
    }
    (config != ThinkingConfig::default()).then_some(config)
}

const fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::Off | Effort::Minimal => "MINIMAL",
        Effort::Low => "LOW",
        Effort::Medium => "MEDIUM",
        Effort::High | Effort::Xhigh | Effort::Max => "HIGH",
    }
}

/// The budget of an effort, as Google's own door for OpenAI's clients has it.
/// <https://ai.google.dev/gemini-api/docs/openai#thinking>
const fn budget_of(effort: Effort) -> i64 {
    match effort {
        Effort::Off => 0,
        Effort::Minimal | Effort::Low => 1_024,
        Effort::Medium => 8_192,
        Effort::High | Effort::Xhigh | Effort::Max => 24_576,
    }
}
