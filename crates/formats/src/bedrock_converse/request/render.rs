//! The neutral form as a request.
//!
//! Rendering is a pure function with a fixed order of fields, and message *n* depends on the
//! messages up to *n* alone (neighbours of one role join): the bytes of a history are a prefix of
//! the bytes of a longer one. What can't be said is named in `dropped` where the answer stays what
//! was asked for, and refused where it does not. Where models' vendors have words of their own, the
//! model's name says which.

mod content;

use ::types::Failure;
use ::types::conversation::{Conversation, Effort, OutputShape, Part, ToolChoice};
use ::types::format::{Edits, Rendered};
use bytes::Bytes;
use serde_json::json;

use super::STOP_TEXT_PATHS;
use crate::anthropic_messages::request::{input_schema, thinking};
use crate::bedrock_converse::{NAME, types};
use crate::json::{at, field_names, join};
use crate::marks::Marks;

/// Characters of a tool's name at most, as Bedrock has it.
const NAME_CHARS_MAX: usize = 64;

/// Whose words a model takes in addition to those that all models share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Claude,
    /// OpenAI's open models.
    GptOss,
    /// OpenAI's others.
    Gpt,
    Grok,
    /// Also one whose name does not tell, such as an application's inference profile.
    Other,
}

impl Family {
    fn of(model: &str) -> Self {
        let is = |vendor: &str| model.contains(vendor);
        if is("anthropic.claude") {
            Self::Claude
        } else if is("openai.gpt-oss") {
            Self::GptOss
        } else if is("openai.") {
            Self::Gpt
        } else if is("xai.grok") {
            Self::Grok
        } else {
            Self::Other
        }
    }
}

/// Renders a request.
pub(in super::super) fn render(
    conversation: &Conversation,
    edits: &Edits<'_>,
) -> Result<Rendered, Failure> {
    let family = Family::of(edits.model);
    let mut dropped = Vec::new();
    refuse_unsayable(conversation, family)?;
    let cap = edits.output_cap.or(conversation.output_cap);
    let marks = Marks::of(conversation);
    let (system, messages) = content::messages(&conversation.messages, &marks, &mut dropped)?;
    let stops = !conversation.sampling.stop.is_empty();
    let additional = additional(conversation, family, cap, &mut dropped);
    let request = types::Request {
        system,
        messages,
        tool_config: tool_config(conversation, &marks, &mut dropped)?,
        inference_config: inference(conversation, family, cap, &mut dropped),
        additional_model_request_fields: additional,
        additional_model_response_field_paths: if stops && family == Family::Claude {
            &STOP_TEXT_PATHS
        } else {
            &[]
        },
        output_config: output_config(conversation, family),
    };
    dropped.extend(rest(conversation));
    let unwritable =
        |_| Failure::new(::types::ErrorCode::Internal, "the request can't be written as JSON");
    Ok(Rendered {
        body: Bytes::from(serde_json::to_vec(&request).map_err(unwritable)?),
        dropped: field_names(dropped),
        ..Rendered::default()
    })
}

/// Refuses what would change the answer if it were left out.
fn refuse_unsayable(conversation: &Conversation, family: Family) -> Result<(), Failure> {
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
    let stop = &conversation.sampling.stop;
    if stop.iter().any(String::is_empty) {
        return refuse("stop", "this provider takes no empty stop sequence");
    }
    if !stop.is_empty() && matches!(family, Family::Gpt | Family::Grok) {
        return refuse("stop", "this model takes no stop sequences from this provider");
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

fn tool_config<'a>(
    conversation: &'a Conversation,
    marks: &Marks,
    dropped: &mut Vec<String>,
) -> Result<Option<types::ToolConfig<'a>>, Failure> {
    let choice = &conversation.tool_choice;
    if conversation.tools.is_empty() {
        return match choice {
            ToolChoice::Auto | ToolChoice::None => Ok(None),
            ToolChoice::Required | ToolChoice::Named { .. } => {
                let text = "a tool must be called, but 'tools' is empty";
                Err(Failure::invalid("tool_choice", text))
            }
        };
    }
    if conversation.parallel_tool_calls == Some(false) {
        dropped.push("parallel_tool_calls".to_owned());
    }
    let tool_choice = match choice {
        ToolChoice::Auto => None,
        ToolChoice::None if !calls_tools(conversation) => return Ok(None),
        ToolChoice::None => {
            let text = "this provider can't forbid calls where the history has some: leave \
                        'tool_choice' out";
            return Err(Failure::unsupported("tool_choice", text));
        }
        ToolChoice::Required => Some(types::ToolChoice::Any {}),
        ToolChoice::Named { name } => {
            let name = tool_name(name, || "tool_choice".to_owned())?;
            Some(types::ToolChoice::Tool { name })
        }
    };
    let mut tools = Vec::with_capacity(conversation.tools.len());
    for (index, tool) in conversation.tools.iter().enumerate() {
        tools.push(types::Tool::ToolSpec {
            name: tool_name(&tool.name, || join(&at("tools", index), "name"))?,
            description: tool.description.as_deref().filter(|text| !text.is_empty()),
            input_schema: types::Schema::Json(input_schema(tool.parameters.as_ref())),
            strict: tool.strict,
        });
        let mark = marks.tool(index).map(types::CachePoint::of);
        tools.extend(mark.map(types::Tool::CachePoint));
    }
    Ok(Some(types::ToolConfig { tools, tool_choice }))
}

/// Whether the history has calls or results: then Bedrock needs the tools with it.
fn calls_tools(conversation: &Conversation) -> bool {
    conversation.parts().any(|part| matches!(part, Part::ToolCall(_) | Part::ToolResult { .. }))
}

/// A tool's name, if Bedrock takes it.
fn tool_name(name: &str, path: impl Fn() -> String) -> Result<&str, Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(fits) {
        let text = "this provider takes tools' names of 1 to 64 letters, digits, '_' or '-'";
        return Err(Failure::unsupported(path(), text));
    }
    Ok(name)
}

fn inference<'a>(
    conversation: &'a Conversation,
    family: Family,
    cap: Option<u64>,
    dropped: &mut Vec<String>,
) -> Option<types::InferenceConfig<'a>> {
    let sampling = &conversation.sampling;
    let mut drop_if = |name: &str, given: bool| dropped.extend(given.then(|| name.to_owned()));
    drop_if("seed", sampling.seed.is_some());
    drop_if("frequency_penalty", sampling.frequency_penalty.is_some());
    drop_if("presence_penalty", sampling.presence_penalty.is_some());
    drop_if("top_k", sampling.top_k.is_some() && family != Family::Claude);
    // OpenAI's reasoning models refuse both here.
    let sampled = family != Family::Gpt;
    drop_if("temperature", sampling.temperature.is_some() && !sampled);
    drop_if("top_p", sampling.top_p.is_some() && !sampled);
    let temperature = sampling.temperature.filter(|_| sampled);
    let top_p = sampling.top_p.filter(|_| sampled);
    let stop_sequences = sampling.stop.as_slice();
    let says = cap.is_some() || temperature.is_some() || top_p.is_some();
    (says || !stop_sequences.is_empty()).then_some(types::InferenceConfig {
        max_tokens: cap,
        temperature,
        top_p,
        stop_sequences,
    })
}

/// What the model's own vendor has a word for.
fn additional(
    conversation: &Conversation,
    family: Family,
    cap: Option<u64>,
    dropped: &mut Vec<String>,
) -> Option<types::Additional> {
    let ask = &conversation.reasoning;
    if family == Family::Claude {
        let thinking = thinking(conversation, NAME, cap.unwrap_or(u64::MAX), dropped);
        let top_k = conversation.sampling.top_k;
        let says = thinking.is_some() || top_k.is_some();
        return says.then(|| types::Additional { thinking, top_k, ..types::Additional::default() });
    }
    if ask.budget_tokens.is_some() || ask.adaptive {
        dropped.push("thinking".to_owned());
    }
    dropped.extend(ask.shown.map(|_| "reasoning.summary".to_owned()));
    let effort = ask.effort?;
    let mut drop_effort = || dropped.push("reasoning_effort".to_owned());
    match family {
        Family::Gpt => {
            let reasoning = Some(types::ReasoningEffort { effort: effort.name() });
            Some(types::Additional { reasoning, ..types::Additional::default() })
        }
        Family::GptOss => {
            let fitting = match effort {
                Effort::Off | Effort::Minimal | Effort::Low => Effort::Low,
                Effort::Medium => Effort::Medium,
                Effort::High | Effort::Xhigh | Effort::Max => Effort::High,
            };
            if fitting != effort {
                drop_effort();
            }
            let reasoning_effort = Some(fitting.name());
            Some(types::Additional { reasoning_effort, ..types::Additional::default() })
        }
        Family::Claude | Family::Grok | Family::Other => {
            drop_effort();
            None
        }
    }
}

fn output_config(conversation: &Conversation, family: Family) -> Option<types::OutputConfig<'_>> {
    let effort = conversation.reasoning.effort.filter(|_| family == Family::Claude);
    let effort = effort.and_then(|effort| match effort {
        Effort::Off => None,
        Effort::Minimal => Some(Effort::Low.name()),
        Effort::Low | Effort::Medium | Effort::High | Effort::Xhigh | Effort::Max => {
            Some(effort.name())
        }
    });
    let text_format = match &conversation.output_shape {
        OutputShape::Text | OutputShape::JsonObject => None,
        OutputShape::JsonSchema { name, schema, .. } => Some(types::TextFormat {
            kind: "json_schema",
            structure: types::Structure::JsonSchema { schema: schema.to_string(), name },
        }),
    };
    (effort.is_some() || text_format.is_some())
        .then_some(types::OutputConfig { text_format, effort })
}
