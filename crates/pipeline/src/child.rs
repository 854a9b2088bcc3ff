//! A Call that another one spawns: a model is asked on behalf of a Call that is under way.
//!
//! It falls under the same budgets as its parent, is admitted beside it and has rows of its own in
//! the ledger, with the parent's id. Invariant: its parent's own money is never touched. What its
//! answer is for it must not know.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use types::call::{CallKind, ModelCall, ModelHead};
use types::conversation::{Conversation, Message};
use types::ids::CallId;
use types::outcome::Delta;
use types::{Call, ErrorCode, Failure, Money, OutcomeEvent, Stop};

use crate::admit::admit;
use crate::execute::attempts::Attempts;
use crate::identify::{Spawn, spawned};
use crate::record::answer::Answer;
use crate::route::candidates;
use crate::run::Pipeline;

/// How long the parent waits for such a Call at most.
const TIME_MAX: Duration = Duration::from_secs(120);
/// Bytes of its answer that are taken; what comes after them is left out.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// What a request has beside its texts, in bytes at most: roles and marks of two messages.
const AROUND_BYTES: u64 = 512;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// The model, by any name that clients have for it.
    pub(crate) model: &'a str,
    /// Texts only.
    pub(crate) conversation: Conversation,
    /// Output cap, in tokens.
    pub(crate) output_cap: u64,
    /// What it may cost at most, where its parent is limited.
    pub(crate) budget: Option<Money>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) call: CallId,
    pub(crate) text: String,
    pub(crate) stop: Stop,
    /// What it was charged: its bound, where nobody knows what it cost.
    pub(crate) cost: Money,
}

/// Asks, and waits for the whole answer. Dropping the future cancels the Call, which ends in the
/// ledger all the same.
///
/// # Errors
/// Why it was not admitted, or failed; with what it may have cost.
pub(crate) async fn ask(
    pipeline: &Pipeline,
    parent: &Call,
    asked: Asked<'_>,
) -> Result<Told, (Failure, Money)> {
    let mut answer = begin(pipeline, parent, asked).await.map_err(|why| (why, Money::ZERO))?;
    let mut text = String::new();
    let end = loop {
        match answer.next().await {
            Some(OutcomeEvent::Start(_)) => {}
            Some(OutcomeEvent::Frame { delta, .. }) => match delta {
                Some(Delta::Text { text: piece }) if text.len() < ANSWER_BYTES_MAX => {
                    text.push_str(&piece);
                }
                Some(_) | None => {}
            },
            Some(OutcomeEvent::Finish(finish)) => break Ok(finish.stop),
            Some(OutcomeEvent::Failed(failure)) => break Err(*failure),
            None => break Err(Failure::new(ErrorCode::Internal, "an answer without an end")),
        }
    };
    let cost = answer.charged();
    let call = answer.call.id.clone();
    end.map(|stop| Told { call, text, stop, cost }).map_err(|why| (why, cost))
}

async fn begin(pipeline: &Pipeline, parent: &Call, asked: Asked<'_>) -> Result<Answer, Failure> {
    let parts = &pipeline.parts;
    let Some(of_parent) = parent.model() else {
        return Err(Failure::new(ErrorCode::Internal, "a model is asked for a model's Call only"));
    };
    let Asked { model, mut conversation, output_cap, budget } = asked;
    conversation.output_cap = Some(output_cap);
    let bytes: usize = conversation.messages.iter().map(text_bytes).sum();
    let head = ModelHead {
        model: model.to_owned(),
        output_cap: Some(output_cap),
        choices: 1,
        body_bytes: (bytes as u64).saturating_add(AROUND_BYTES),
        ..ModelHead::default()
    };
    let kind = ModelCall::from_neutral(of_parent.format, head, Arc::new(conversation));
    let id = CallId::new(&parts.ids);
    let kind = CallKind::Model(kind);
    let spawn = Spawn { parent, id, kind, budget, time_max: TIME_MAX };
    let identified = spawned(&parts.directory, &*parts.clock, spawn)?;
    let upstreams = Arc::clone(&identified.upstreams);
    let admitted = admit(&pipeline.shared.escrow, &*parts.clock, identified);
    let mut admission = Box::pin(admitted).await?;
    let offers = std::mem::take(&mut admission.offers);
    let candidates = candidates(&upstreams.executors, &admission.call, offers)?;
    let attempts = Attempts::begin(admission, candidates, Arc::clone(&pipeline.shared))?;
    Ok(Answer::record(attempts))
}

fn text_bytes(message: &Message) -> usize {
    message.joined_text().len()
}
