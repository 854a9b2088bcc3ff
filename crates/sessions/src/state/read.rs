//! What others read of a turn.

use std::collections::VecDeque;

use pipeline::StepIntent;
use serde_json::Value;
use types::auto::Tier;
use types::call::RouteAsk;
use types::ids::{CallId, StepId};
use types::{Metadata, Money, Usage};

use super::event::{Ending, Place, ToolRequest};
use super::step::Step;
use super::{Phase, Turn};

impl Turn {
    /// The Call of its first step.
    pub const fn root_call(&self) -> Option<&CallId> {
        self.root_call.as_ref()
    }

    /// What is paid and timed together with it.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The request class that its client asked for.
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    /// A cap on the cost of each of its Calls.
    pub const fn budget(&self) -> Option<Money> {
        self.budget
    }

    /// What its client said of it.
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The gateway that it came in by.
    pub fn gateway(&self) -> Option<&str> {
        self.gateway.as_deref()
    }

    /// The tier of targets that its client asked for.
    pub const fn tier(&self) -> Option<Tier> {
        self.tier
    }

    /// What its client asked about the way of its Calls.
    pub fn asks(&self) -> Option<&RouteAsk> {
        self.asks.as_deref()
    }

    /// What the newest try of a model was billed by, and why it was asked.
    pub fn newest_intent(&self) -> Option<&StepIntent> {
        self.newest_intent.as_deref()
    }

    /// Its steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// One of its steps.
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.iter().rev().find(|step| step.id == *id)
    }

    /// The step that waits for a decision.
    pub fn doubt(&self) -> Option<&Step> {
        match &self.phase {
            Phase::Doubt { step, .. } => self.step(step),
            _ => None,
        }
    }

    /// The finished items with their output indexes, in order.
    pub fn output(&self) -> &[(u64, Value)] {
        &self.output
    }

    /// The tool calls that are not settled, in order; the first one is being worked on.
    pub const fn waiting(&self) -> &VecDeque<ToolRequest> {
        &self.waiting
    }

    /// What all its model steps used, as far as it is known.
    pub const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The model step that runs, and where its events and items begin.
    pub const fn running_model(&self) -> Option<(&StepId, Place)> {
        match &self.phase {
            Phase::Model { step, .. } => Some((step, self.begins_at)),
            _ => None,
        }
    }

    /// Where the events and items of the newest model step begin; the beginning, if there is none.
    pub const fn newest_place(&self) -> Place {
        self.begins_at
    }

    /// Whether the client's limit on tool calls is used up.
    pub fn is_out_of_tool_calls(&self) -> bool {
        self.max_tool_calls.is_some_and(|max| self.tool_calls >= max)
    }

    /// Whether somebody asked for its end.
    pub const fn is_cancel_asked(&self) -> bool {
        self.cancel_asked
    }

    /// Whether it goes on without its client, because somebody settled a step of it.
    pub const fn is_released(&self) -> bool {
        self.released
    }

    /// How it ended, if it has.
    pub const fn ending(&self) -> Option<&Ending> {
        match &self.phase {
            Phase::Closed(ending) => Some(ending),
            _ => None,
        }
    }
}
