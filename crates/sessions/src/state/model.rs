//! Model steps: what their events change.

use pipeline::StepIntent;
use serde_json::Value;
use types::ids::{AttemptId, CallId, StepId};
use types::{ErrorCode, Stop, Usage};

use super::event::{Ending, ErrorRecord, ToolRequest};
use super::step::{Step, StepState};
use super::{Action, AfterTools, MODEL_REASKS_MAX, Phase, Turn};

impl Turn {
    pub(super) fn model_intent(
        &mut self,
        step: &StepId,
        call: &CallId,
        attempt: &AttemptId,
        intent: &StepIntent,
    ) -> Option<Vec<Action>> {
        match &self.phase {
            Phase::Between if self.waiting.is_empty() && self.step(step).is_none() => {
                self.steps.push(Step::new(step, call, None, None));
            }
            Phase::Reask { step: lost, call: same } if lost == step && same == call => {}
            _ => return None,
        }
        self.begin_try(step);
        self.phase = Phase::Model {
            step: step.clone(),
            call: call.clone(),
            attempt: attempt.clone(),
            intent: Box::new(intent.clone()),
        };
        Some(vec![Action::RunModel])
    }

    pub(super) fn model_lost(&mut self, step: &StepId, why: &str) -> Option<Vec<Action>> {
        let Phase::Model { step: running, call, .. } = &self.phase else { return None };
        if running != step {
            return None;
        }
        let call = call.clone();
        self.note(step, why);
        if self.step(step)?.attempts > MODEL_REASKS_MAX {
            self.set_state(step, StepState::Failed);
            let message = format!("the model was asked {MODEL_REASKS_MAX} times without an answer");
            let error = ErrorRecord { code: ErrorCode::UpstreamFailed, message };
            return Some(self.end(Ending::Failed { error }));
        }
        self.set_state(step, StepState::Lost);
        if self.cancel_asked {
            self.set_state(step, StepState::Abandoned);
            return Some(self.end(Ending::Cancelled));
        }
        self.phase = Phase::Reask { step: step.clone(), call };
        Some(self.next())
    }

    pub(super) fn model_outcome(
        &mut self,
        items: &[(u64, Value)],
        tools: &[ToolRequest],
        end: AfterTools,
        usage: Option<Usage>,
    ) -> Vec<Action> {
        self.output.extend_from_slice(items);
        self.waiting.extend(tools.iter().cloned());
        if let Some(usage) = usage {
            self.usage = Some(self.usage.unwrap_or_default().plus(&usage));
        }
        self.after_tools = end;
        self.go_on()
    }
}

pub(super) fn after_model(stop: Stop, calls_functions: bool, no_tools: bool) -> AfterTools {
    match stop {
        Stop::Length => {
            AfterTools::End(Ending::Incomplete { reason: "max_output_tokens".to_owned() })
        }
        Stop::ContentFilter => {
            AfterTools::End(Ending::Incomplete { reason: "content_filter".to_owned() })
        }
        Stop::End | Stop::ToolCalls if calls_functions || no_tools => {
            AfterTools::End(Ending::Completed)
        }
        Stop::End | Stop::ToolCalls => AfterTools::AskModel,
    }
}
