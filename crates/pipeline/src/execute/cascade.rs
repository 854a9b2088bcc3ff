//! Whether an answer is good enough to be given: what a route's cascade asks of it.
//!
//! Pure but for the [judge], which is a Call of its own. What can't be checked is no reason to
//! reject an answer: it is reported as not judged. Invariant: no word of an answer leaves this
//! module, only names of validators and keywords of schemas. What follows a rejection is for
//! [`super::attempts`].

pub(crate) mod answer;
pub(crate) mod judge;
mod schema;

use std::sync::Arc;

use serde_json::{Value, json};
use types::call::{Call, ModelCall, Operation};
use types::cascade::{CascadePolicy, SchemaOf};
use types::conversation::OutputShape;
use types::{Conversation, Stop};

use answer::Said;
use schema::{Broken, check};

/// The note's name in the ledger.
pub(crate) const NOTE: &str = "cascade";
/// The note of a session's step, whose answers are not judged: a part of them may be out already.
pub(crate) const OFF: &str = "off: a step of a session";

/// What is asked of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Validator {
    NotEmpty,
    Complete,
    NoRefusal,
    ToolArguments,
    JsonSchema,
    MustMatch,
    MustNotMatch,
    MinLogprob,
    Judge,
}

impl Validator {
    /// Its name in the configuration, headers, notes and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NotEmpty => "not_empty",
            Self::Complete => "complete",
            Self::NoRefusal => "no_refusal",
            Self::ToolArguments => "tool_arguments",
            Self::JsonSchema => "json_schema",
            Self::MustMatch => "must_match",
            Self::MustNotMatch => "must_not_match",
            Self::MinLogprob => "min_logprob",
            Self::Judge => "judge",
        }
    }
}

/// What came of judging an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Who rejected it, and the schema's keyword that it did not follow.
    pub(crate) rejected: Option<(Validator, Option<&'static str>)>,
    /// Who could not judge it.
    pub(crate) unjudged: Vec<Validator>,
}

/// Whether answers of a Call can be judged at all.
pub(crate) fn applies(call: &Call) -> bool {
    let chats = |model: &ModelCall| model.operation == Operation::Chat;
    call.plan.policy.cascade.is_some() && call.model().is_some_and(chats)
}

/// What was asked, where that can be read.
type Request<'a> = &'a dyn Fn() -> Option<Arc<Conversation>>;

/// Asks every validator but the judge, the cheapest first. `None` = it could not be read.
pub(crate) fn validate(
    policy: &CascadePolicy,
    request: Request<'_>,
    said: Option<&Said>,
) -> Judged {
    let mut judged = Judged::default();
    for (validator, holds) in checks(policy) {
        let verdict = match said {
            Some(said) => holds(policy, request, said),
            None => Err(Broken::Unknown),
        };
        match verdict {
            Ok(()) => {}
            Err(Broken::Unknown) => judged.unjudged.push(validator),
            Err(Broken::By(keyword)) => {
                judged.rejected = Some((validator, Some(keyword).filter(|text| !text.is_empty())));
                return judged;
            }
        }
    }
    judged
}

type Check = fn(&CascadePolicy, Request<'_>, &Said) -> Result<(), Broken>;

/// Those that a policy asks for.
fn checks(policy: &CascadePolicy) -> impl Iterator<Item = (Validator, Check)> {
    let all: [(bool, Validator, Check); 8] = [
        (policy.complete, Validator::Complete, |_, _, said| holds(said.stop != Stop::Length)),
        (policy.no_refusal, Validator::NoRefusal, |_, _, said| {
            holds(!said.refuses && said.stop != Stop::ContentFilter)
        }),
        (policy.not_empty, Validator::NotEmpty, |_, _, said| {
            holds(!said.text.trim().is_empty() || !said.calls.is_empty())
        }),
        (policy.tool_arguments, Validator::ToolArguments, |_, request, said| {
            tool_arguments(request, said)
        }),
        (policy.min_logprob_micros.is_some(), Validator::MinLogprob, |policy, _, said| {
            let mean = said.mean_logprob_micros.ok_or(Broken::Unknown)?;
            holds(policy.min_logprob_micros.is_none_or(|least| mean >= least))
        }),
        (!policy.must_not_match.is_empty(), Validator::MustNotMatch, |policy, _, said| {
            holds(!policy.must_not_match.iter().any(|pattern| pattern.is_in(&said.text)))
        }),
        (!policy.must_match.is_empty(), Validator::MustMatch, |policy, _, said| {
            let all = || policy.must_match.iter().all(|pattern| pattern.is_in(&said.text));
            // A call is no final answer: its text, if any, is not yet what is asked for.
            holds(!said.calls.is_empty() || all())
        }),
        (policy.json_schema.is_some(), Validator::JsonSchema, json_schema),
    ];
    all.into_iter().filter(|(asked, ..)| *asked).map(|(_, validator, check)| (validator, check))
}

fn holds(it_does: bool) -> Result<(), Broken> {
    if it_does { Ok(()) } else { Err(Broken::By("")) }
}

fn json_schema(policy: &CascadePolicy, request: Request<'_>, said: &Said) -> Result<(), Broken> {
    if !said.calls.is_empty() {
        return Ok(());
    }
    let of_request;
    let schema = match &policy.json_schema {
        None => return Ok(()),
        Some(SchemaOf::Given(schema)) => schema,
        Some(SchemaOf::Request) => {
            let conversation = request().ok_or(Broken::Unknown)?;
            of_request = match &conversation.output_shape {
                OutputShape::Text => return Ok(()),
                OutputShape::JsonObject => json!({ "type": "object" }),
                OutputShape::JsonSchema { schema, .. } => schema.clone(),
            };
            &of_request
        }
    };
    let value: Value = serde_json::from_str(&said.text).map_err(|_| Broken::By("no_json"))?;
    check(schema, &value)
}

fn tool_arguments(request: Request<'_>, said: &Said) -> Result<(), Broken> {
    if said.calls.is_empty() {
        return Ok(());
    }
    let conversation = request().ok_or(Broken::Unknown)?;
    let any = Value::Bool(true);
    for called in &said.calls {
        let declared = conversation.tools.iter().find(|tool| tool.name == called.name);
        let declared = declared.ok_or(Broken::By("no_such_tool"))?;
        // A model that has nothing to say writes nothing, and SDKs take that for no arguments.
        let written = Some(&*called.arguments).filter(|text| !text.trim().is_empty());
        let arguments: Value =
            serde_json::from_str(written.unwrap_or("{}")).map_err(|_| Broken::By("no_json"))?;
        if !arguments.is_object() {
            return Err(Broken::By("type"));
        }
        check(declared.parameters.as_ref().unwrap_or(&any), &arguments)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
