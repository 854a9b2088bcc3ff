//! The one place that decides what of a request a model's family takes.
//!
//! Pure: a conversation in, another one out, with the names of what was left out. A field is
//! dropped where the answer stays what was asked for, and the request refused where it would not
//! (stop sequences, forced tools, schemas, media). It must not know formats beyond which API
//! function tools are offered on.

use std::borrow::Cow;

use types::conversation::{
    Conversation, Effort, OutputShape, Part, ReasoningAsk, Role, Sampling, ToolChoice,
};
use types::{Failure, call::ModelCall};

use super::{Chat, Family, Modality, SamplingField, StructuredOutput, Thinking, report};

/// What a family takes of a request.
#[derive(Debug)]
pub(crate) struct Fitted<'a> {
    /// The request, changed where it had to be.
    pub(crate) conversation: Cow<'a, Conversation>,
    /// What was left out or said otherwise.
    pub(crate) dropped: Vec<String>,
}

/// Tokens of thinking for an effort, where only tokens can be asked for.
const LOW_TOKENS: u64 = 2_048;
const MEDIUM_TOKENS: u64 = 8_192;
const HIGH_TOKENS: u64 = 16_384;

/// What the family takes of a request. `chat` says whether it goes to chat completions.
///
/// # Errors
/// A 400 that names what the model can't do and the answer can't do without.
pub(crate) fn fit<'a>(
    family: &Family,
    chat: bool,
    asked: &'a Conversation,
) -> Result<Fitted<'a>, Failure> {
    refuse(family, asked)?;
    let mut dropped = Vec::new();
    let mut reasoning = reasoning(family, &asked.reasoning, &mut dropped);
    if chat && !asked.tools.is_empty() && !tools_on_chat(family.chat, reasoning.effort) {
        let can_be_off = family.efforts.as_ref().is_none_or(|known| known.contains(&Effort::Off));
        if !can_be_off || matches!(family.chat, Chat::NoTools | Chat::None) {
            return Err(unable(family, "tools", "takes no function tools on chat completions"));
        }
        reasoning = ReasoningAsk { effort: Some(Effort::Off), ..ReasoningAsk::default() };
        report(&mut dropped, "reasoning_effort");
    }
    let sampling = sampling(family, &reasoning, &asked.sampling, &mut dropped)?;
    if reasoning == asked.reasoning && sampling == asked.sampling {
        return Ok(Fitted { conversation: Cow::Borrowed(asked), dropped });
    }
    let changed = Conversation { reasoning, sampling, ..asked.clone() };
    Ok(Fitted { conversation: Cow::Owned(changed), dropped })
}

/// Whether a Call can't be done by chat completions and can be by the Responses API.
pub(crate) fn needs_responses(family: &Family, call: &ModelCall) -> bool {
    match family.chat {
        Chat::Full => false,
        Chat::None => true,
        Chat::NoTools => call.head.tools,
        Chat::ToolsUnlessThinkingIsAsked | Chat::ToolsWithoutThinking => {
            // A request that can't be read is its provider's to refuse.
            let asked = call.head.tools.then(|| call.neutral().ok()).flatten();
            asked.is_some_and(|asked| !tools_on_chat(family.chat, asked.reasoning.effort))
        }
    }
}

/// Whether chat completions take function tools with this effort.
fn tools_on_chat(chat: Chat, effort: Option<Effort>) -> bool {
    match chat {
        Chat::Full => true,
        Chat::ToolsUnlessThinkingIsAsked => effort.is_none_or(|effort| effort == Effort::Off),
        Chat::ToolsWithoutThinking => effort == Some(Effort::Off),
        Chat::NoTools | Chat::None => false,
    }
}

fn unable(family: &Family, field: &str, text: &str) -> Failure {
    Failure::unsupported(field, format!("a model of the family {} {text}", family.name))
}

/// What the answer can't do without, and the model can't do.
fn refuse(family: &Family, asked: &Conversation) -> Result<(), Failure> {
    let forced = matches!(asked.tool_choice, ToolChoice::Required | ToolChoice::Named { .. });
    if forced && !family.forced_tool_choice {
        return Err(unable(family, "tool_choice", "can't be made to call a tool"));
    }
    if !family.prefill && asked.messages.last().is_some_and(|last| last.role == Role::Assistant) {
        let text = "does not go on with an answer that was begun for it";
        return Err(unable(family, "messages", text));
    }
    let by_schema = matches!(asked.output_shape, OutputShape::JsonSchema { .. });
    if by_schema && family.structured_output == StructuredOutput::Object {
        return Err(unable(family, "response_format", "does not answer by a schema"));
    }
    if by_schema && !family.schema_with_tools && !asked.tools.is_empty() {
        return Err(unable(family, "response_format", "takes no schema beside function tools"));
    }
    let Some(input) = &family.input else { return Ok(()) };
    for part in asked.parts() {
        let Part::Media { kind, .. } = part else { continue };
        let known = match kind.as_str() {
            "image" => Modality::Image,
            "audio" => Modality::Audio,
            _ => Modality::File,
        };
        if !input.contains(&known) {
            let text = format!("does not take content of type '{kind}'");
            return Err(unable(family, "messages", &text));
        }
    }
    Ok(())
}

/// How the model is asked to think, in the words that it knows.
fn reasoning(family: &Family, asked: &ReasoningAsk, dropped: &mut Vec<String>) -> ReasoningAsk {
    let mut ask = asked.clone();
    if let Some(known) = &family.efforts
        && let Some(wanted) = ask.effort
    {
        // Of the efforts that it knows, the largest that is not more than what is asked for.
        let thinks = known.iter().copied().filter(|effort| *effort != Effort::Off);
        ask.effort = match (wanted, known.contains(&wanted)) {
            (_, true) => Some(wanted),
            (Effort::Off, false)
                if family.thinking.as_deref().is_some_and(|ways| ways.contains(&Thinking::Off)) =>
            {
                Some(Effort::Off)
            }
            (_, false) => {
                let below = thinks.clone().filter(|effort| *effort <= wanted).max();
                below.or_else(|| thinks.min())
            }
        };
        let was_never = known.is_empty() && wanted == Effort::Off;
        if ask.effort != asked.effort && !was_never {
            report(dropped, "reasoning_effort");
        }
    }
    let Some(ways) = &family.thinking else { return ask };
    if ask.effort == Some(Effort::Off) && !ways.contains(&Thinking::Off) {
        ask.effort = None;
        report(dropped, "reasoning_effort");
    }
    let thinks = ask.effort.filter(|effort| *effort != Effort::Off);
    if !ways.contains(&Thinking::Budget)
        && let Some(tokens) = ask.budget_tokens.take()
    {
        ask.adaptive = true;
        ask.effort = thinks.or_else(|| Some(effort_of(tokens)));
        report(dropped, "thinking.budget_tokens");
    }
    if !ways.contains(&Thinking::Adaptive) && (ask.adaptive || thinks.is_some()) {
        ask.adaptive = false;
        ask.budget_tokens = ask.budget_tokens.or_else(|| Some(tokens_of(thinks)));
        ask.effort = None;
        report(dropped, "reasoning_effort");
    }
    ask
}

const fn effort_of(tokens: u64) -> Effort {
    if tokens <= LOW_TOKENS {
        Effort::Low
    } else if tokens <= MEDIUM_TOKENS {
        Effort::Medium
    } else {
        Effort::High
    }
}

const fn tokens_of(effort: Option<Effort>) -> u64 {
    match effort {
        Some(Effort::Off | Effort::Minimal | Effort::Low) => LOW_TOKENS,
        None | Some(Effort::Medium) => MEDIUM_TOKENS,
        Some(Effort::High | Effort::Xhigh | Effort::Max) => HIGH_TOKENS,
    }
}

/// How tokens are drawn, as far as it can be said.
fn sampling(
    family: &Family,
    reasoning: &ReasoningAsk,
    asked: &Sampling,
    dropped: &mut Vec<String>,
) -> Result<Sampling, Failure> {
    let off = reasoning.effort == Some(Effort::Off);
    let Some(known) =
        family.sampling.as_ref().filter(|_| !(off && family.sampling_without_thinking))
    else {
        return Ok(asked.clone());
    };
    if !asked.stop.is_empty() && !known.contains(&SamplingField::Stop) {
        return Err(unable(family, "stop", "takes no stop sequences"));
    }
    let mut left = asked.clone();
    let mut keep = |field: SamplingField, name: &str, value: &mut dyn Clearable| {
        if !known.contains(&field) && value.clear() {
            report(dropped, name);
        }
    };
    keep(SamplingField::Temperature, "temperature", &mut left.temperature);
    keep(SamplingField::TopP, "top_p", &mut left.top_p);
    keep(SamplingField::TopK, "top_k", &mut left.top_k);
    keep(SamplingField::Seed, "seed", &mut left.seed);
    keep(SamplingField::FrequencyPenalty, "frequency_penalty", &mut left.frequency_penalty);
    keep(SamplingField::PresencePenalty, "presence_penalty", &mut left.presence_penalty);
    Ok(left)
}

/// A value that can be taken out.
trait Clearable {
    /// Takes it out; whether there was one.
    fn clear(&mut self) -> bool;
}

impl<T> Clearable for Option<T> {
    fn clear(&mut self) -> bool {
        self.take().is_some()
    }
}

#[cfg(test)]
mod tests;
