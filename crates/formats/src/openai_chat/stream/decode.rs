//! Chunks of a stream as neutral deltas.
//!
//! Tool calls get places from 0 without gaps, whatever the upstream numbers them, and a start
//! exactly once; an id that is missing is made up from the answer's own. Only the first choice is
//! read: nobody who wants deltas asks for more.

use std::collections::VecDeque;

use ::types::error::Billed;
use ::types::outcome::{Delta, OutcomeEvent};
use ::types::{ErrorCode, Failure};

use crate::openai_chat::response::made_up_id;
use crate::openai_chat::types::{CallDelta, ChunkChoice, ChunkDelta, Content, MeanLogprob};

/// Tool calls in one answer at most.
const CALLS_MAX: usize = 1_024;

/// Turns chunks into deltas.
#[derive(Default)]
pub(super) struct Decoder {
    /// The upstream's number of each call that has begun, by its place.
    calls: Vec<u64>,
    /// Of what has come so far.
    pub(super) mean_logprob: MeanLogprob,
}

impl Decoder {
    /// The deltas of one chunk.
    pub(super) fn read(
        &mut self,
        answer_id: Option<&str>,
        choices: &[ChunkChoice<'_>],
        events: &mut VecDeque<OutcomeEvent>,
    ) -> Result<(), Failure> {
        let mut send =
            |delta| events.push_back(OutcomeEvent::Frame { raw: None, delta: Some(delta) });
        for choice in choices.iter().filter(|choice| choice.index.unwrap_or(0) == 0) {
            choice.logprobs.into_iter().for_each(|logprobs| self.mean_logprob.take(logprobs));
            let Some(raw) = choice.delta else { continue };
            let delta: Option<ChunkDelta> = serde_json::from_str(raw.get())
                .map_err(|_| failed("the provider's stream has a delta that can't be read"))?;
            let delta = delta.unwrap_or_default();
            let reasoning = delta.reasoning_content.or(delta.reasoning);
            let full = |text: &String| !text.is_empty();
            reasoning.filter(full).into_iter().for_each(|text| send(Delta::Reasoning { text }));
            let Content { thinking, text } = delta.content.unwrap_or_default();
            Some(thinking)
                .filter(full)
                .into_iter()
                .for_each(|text| send(Delta::Reasoning { text }));
            Some(text).filter(full).into_iter().for_each(|text| send(Delta::Text { text }));
            delta.refusal.filter(full).into_iter().for_each(|text| send(Delta::Refusal { text }));
            for call in delta.tool_calls.unwrap_or_default() {
                self.call(call, answer_id.unwrap_or_default(), &mut send)?;
            }
        }
        Ok(())
    }

    fn call(
        &mut self,
        call: CallDelta,
        answer_id: &str,
        send: &mut impl FnMut(Delta),
    ) -> Result<(), Failure> {
        let (name, arguments) =
            call.function.map(|function| (function.name, function.arguments)).unwrap_or_default();
        let next = u64::try_from(self.calls.len()).unwrap_or(u64::MAX);
        // Without a number, an id begins a new call and anything else belongs to the last.
        let number = match (call.index, &call.id) {
            (Some(number), _) => number,
            (None, Some(_)) => next,
            (None, None) => self.calls.last().copied().unwrap_or(next),
        };
        let place = match self.calls.iter().position(|known| *known == number) {
            Some(place) => place,
            None => {
                let Some(name) = name.filter(|name| !name.is_empty()) else {
                    return Err(failed("the provider's stream begins a tool call without a name"));
                };
                if self.calls.len() >= CALLS_MAX {
                    return Err(failed("the provider's stream has too many tool calls"));
                }
                self.calls.push(number);
                let index = u32::try_from(next).unwrap_or(u32::MAX);
                let id = call.id.filter(|id| !id.is_empty());
                let id = id.unwrap_or_else(|| made_up_id(answer_id, index));
                send(Delta::ToolCallStart { index, id, name });
                self.calls.len() - 1
            }
        };
        if let Some(json) = arguments.filter(|json| !json.is_empty()) {
            let index = u32::try_from(place).unwrap_or(u32::MAX);
            send(Delta::ToolCallArguments { index, json });
        }
        Ok(())
    }
}

fn failed(text: &str) -> Failure {
    Failure::new(ErrorCode::UpstreamFailed, text).billed(Billed::Unknown)
}
