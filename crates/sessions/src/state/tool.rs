//! Tool steps: what their events, and decisions about them, change.

use pipeline::StepIntent;
use serde_json::Value;
use types::Timestamp;
use types::ids::{CallId, StepId};

use super::event::Decision;
use super::step::{Step, StepState};
use super::{Action, Phase, TOOL_RERUNS_MAX, Turn};
use crate::mcp::Effect;

impl Turn {
    pub(super) fn tool_intent(
        &mut self,
        step: &StepId,
        call: &CallId,
        effect: Effect,
        intent: &StepIntent,
        item_id: &str,
    ) -> Option<Vec<Action>> {
        match &self.phase {
            Phase::Between if self.next_is(item_id) && self.step(step).is_none() => {
                let request = self.waiting.front()?;
                self.steps.push(Step::new(step, call, Some(request), Some(effect)));
                self.tool_calls += 1;
            }
            Phase::Retry { step: lost, call: same } if lost == step && same == call => {}
            _ => return None,
        }
        self.begin_try(step);
        self.phase = Phase::Tool {
            step: step.clone(),
            call: call.clone(),
            effect,
            intent: Box::new(intent.clone()),
        };
        Some(vec![Action::RunTool])
    }

    pub(super) fn tool_lost(
        &mut self,
        step: &StepId,
        why: &str,
        at: Timestamp,
    ) -> Option<Vec<Action>> {
        let (running, call, may_rerun) = match &self.phase {
            Phase::Tool { step, call, effect, .. } => (step, call, *effect != Effect::Write),
            // Another try can't be made: what became of the one before is still not known.
            Phase::Retry { step, call } => (step, call, false),
            _ => return None,
        };
        if running != step {
            return None;
        }
        let call = call.clone();
        self.note(step, why);
        if self.cancel_asked {
            self.phase = Phase::Doubt { step: step.clone(), call };
            self.set_state(step, StepState::InDoubt);
            return Some(vec![Action::Abandon(step.clone())]);
        }
        if may_rerun && self.step(step)?.attempts <= TOOL_RERUNS_MAX {
            self.set_state(step, StepState::Lost);
            self.phase = Phase::Retry { step: step.clone(), call };
            return Some(self.next());
        }
        self.set_state(step, StepState::InDoubt);
        if let Some(step) = self.step_mut(step) {
            step.in_doubt_since = Some(at);
        }
        self.phase = Phase::Doubt { step: step.clone(), call };
        Some(vec![Action::AwaitDecision(step.clone())])
    }

    pub(super) fn resolved(
        &mut self,
        step: &StepId,
        decision: &Decision,
        by: &str,
        item: Option<&(u64, Value)>,
    ) -> Option<Vec<Action>> {
        let Phase::Doubt { step: doubtful, call } = &self.phase else { return None };
        if doubtful != step {
            return None;
        }
        let call = call.clone();
        let is_retry = *decision == Decision::Retry;
        // A decision other than to try again says what the tool answered.
        if !is_retry && item.is_none() {
            return None;
        }
        self.released = true;
        match item {
            Some(item) if !is_retry => {
                let failed = matches!(decision, Decision::Failed { .. });
                self.note(step, &format!("settled as {by} decided"));
                self.set_state(step, if failed { StepState::Failed } else { StepState::Done });
                Some(self.tool_settled(item))
            }
            _ => {
                self.note(step, &format!("tried again as {by} decided"));
                self.set_state(step, StepState::Lost);
                self.phase = Phase::Retry { step: step.clone(), call };
                Some(self.next())
            }
        }
    }

    pub(super) fn tool_settled(&mut self, item: &(u64, Value)) -> Vec<Action> {
        self.waiting.pop_front();
        let behind = self.output.partition_point(|(index, _)| *index < item.0);
        self.output.insert(behind, item.clone());
        self.go_on()
    }
}
