//! A Call that another one spawns: a model is asked on behalf of a Call that is under way.
//!
//! It falls under the same budgets as its parent, is admitted beside it and has rows of its own in
//! the ledger, with the parent's id. Invariant: its parent's own money is never touched. What its
//! answer is for it must not know.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use types::call::{CallKind, ModelCall, ModelHead};
use types::clock::within;
use types::conversation::{Conversation, Message};
use types::ids::CallId;
use types::{Call, ErrorCode, Failure, Money, OutcomeEvent, Stop};

use crate::admit::admit;
use crate::admit::first::first;
use crate::execute::attempts::{Attempts, Shared};
use crate::execute::cascade::answer::{Said, bytes_of};
use crate::identify::values::with_values;
use crate::identify::{Purpose, Spawn, spawned};
use crate::rates::{self, Pace};
use crate::record::answer::Answer;
use crate::route::candidates;

/// Bytes of its answer that are taken; what comes after them is left out.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// What a request has beside its texts, in bytes at most: roles and marks of two messages.
const AROUND_BYTES: u64 = 512;

/// What is asked.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// The model, as `provider/model`.
    pub(crate) model: &'a str,
    /// Texts only, unless it is the parent's own.
    pub(crate) conversation: Conversation,
    /// Whether it is what the parent was asked: as long, and with its tools.
    pub(crate) is_parents: bool,
    /// Output cap, in tokens.
    pub(crate) output_cap: u64,
    /// What it may cost at most, where its parent is limited.
    pub(crate) budget: Option<Money>,
    /// How long its parent waits for it.
    pub(crate) time_max: Duration,
    /// What it is for, if its parent does not wait for it.
    pub(crate) purpose: Option<Purpose>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) call: CallId,
    pub(crate) said: Said,
    /// What it was charged: its bound, where nobody knows what it cost.
    pub(crate) cost: Money,
}

/// Asks, and waits for the whole answer. Dropping the future cancels the Call, which ends in the
/// ledger all the same.
///
/// # Errors
/// Why it was not admitted, or failed; with what it may have cost.
pub(crate) async fn ask(
    shared: &Arc<Shared>,
    parent: &Call,
    asked: Asked<'_>,
) -> Result<Told, (Failure, Money)> {
    let (clock, time_max) = (&*shared.clock, asked.time_max);
    let until = clock.monotonic().saturating_add(time_max);
    let begun = within(clock, time_max, Box::pin(begin(shared, parent, asked))).await;
    let begun = begun.unwrap_or_else(|| Err(too_late(time_max)));
    let mut answer = begun.map_err(|why| (why, Money::ZERO))?;
    let left = until.saturating_sub(clock.monotonic());
    let Some((said, end)) = within(clock, left, collect(&mut answer)).await else {
        // What it is given up in the middle of may be on the bill.
        return Err((too_late(time_max), answer.at_most()));
    };
    let cost = answer.charged();
    let call = answer.call.id.clone();
    match end {
        Ok(stop) => Ok(Told { call, said: Said { stop, ..said }, cost }),
        Err(why) => Err((why, cost)),
    }
}

/// What an answer says, and how it ended.
async fn collect(answer: &mut Answer) -> (Said, Result<Stop, Failure>) {
    let (mut said, mut bytes) = (Said::default(), 0);
    loop {
        let end = match answer.next().await {
            Some(OutcomeEvent::Start(_)) => continue,
            Some(event @ OutcomeEvent::Frame { .. }) => {
                if bytes < ANSWER_BYTES_MAX {
                    said.see(&event);
                }
                bytes = bytes_of(&event).saturating_add(bytes);
                continue;
            }
            Some(OutcomeEvent::Finish(finish)) => Ok(finish.stop),
            Some(OutcomeEvent::Failed(failure)) => Err(*failure),
            None => Err(Failure::new(ErrorCode::Internal, "an answer without an end")),
        };
        return (said, end);
    }
}

fn too_late(limit: Duration) -> Failure {
    Failure::new(ErrorCode::UpstreamTimeout, format!("its caller waits for {limit:?} at most"))
}

async fn begin(shared: &Arc<Shared>, parent: &Call, asked: Asked<'_>) -> Result<Answer, Failure> {
    let Some(of_parent) = parent.model() else {
        return Err(Failure::new(ErrorCode::Internal, "a model is asked for a model's Call only"));
    };
    let Asked { model, mut conversation, output_cap, budget, time_max, is_parents, purpose } =
        asked;
    let is_apart = purpose.is_some();
    conversation.output_cap = Some(output_cap);
    let bytes: usize = conversation.messages.iter().map(text_bytes).sum();
    let bytes = (bytes as u64).saturating_add(AROUND_BYTES);
    let head = ModelHead {
        model: model.to_owned(),
        output_cap: Some(output_cap),
        choices: 1,
        body_bytes: if is_parents { of_parent.head.body_bytes.max(bytes) } else { bytes },
        tools: is_parents && !conversation.tools.is_empty(),
        ..ModelHead::default()
    };
    let kind = ModelCall::from_neutral(of_parent.format, head, Arc::new(conversation));
    let id = CallId::new(&shared.ids);
    let kind = CallKind::Model(kind);
    let spawn = Spawn { parent, id, kind, budget, time_max, purpose };
    let identified = spawned(&shared.directory, &*shared.clock, spawn)?;
    check_allowed(parent, &identified.call)?;
    let upstreams = Arc::clone(&identified.upstreams);
    // What its parent waits for runs in its parent's place: with one of its own, both could wait
    // for each other.
    let pace = if is_apart { Pace::New } else { Pace::Within };
    let limits = shared.directory.rates();
    let ticket = Box::pin(rates::admit(limits, &*shared.clock, &identified.call, pace)).await?;
    // What a limit on rate refuses makes no budgets.
    let identified = match identified.unseen.is_empty() {
        true => identified,
        false => Box::pin(with_values(shared, identified)).await?,
    };
    let admitted = admit(&shared.escrow, &*shared.clock, identified);
    let mut admission = Box::pin(admitted).await?;
    if let Some(ticket) = &ticket {
        ticket.limit(&admission.call, &mut admission.offers)?;
    }
    let offers = std::mem::take(&mut admission.offers);
    let mut candidates = candidates(&upstreams.executors, &admission.call, offers)?;
    let first = first(shared, &admission.call, &mut candidates).await?;
    let mut attempts = Attempts::begin(admission, first, candidates, Arc::clone(shared));
    attempts.count_for(ticket);
    Ok(Answer::record(attempts, Duration::ZERO))
}

/// What the parent's caller allows holds for whoever is told of its words.
fn check_allowed(parent: &Call, call: &Call) -> Result<(), Failure> {
    let Some(allowed) = parent.asks.as_ref().and_then(|asks| asks.allowed.as_ref()) else {
        return Ok(());
    };
    let denied = call.plan.targets.iter().find(|target| !allowed.allows(target));
    denied.map_or(Ok(()), |target| {
        let message = format!("{} is not among the models that the request allows", target.name);
        Err(Failure::new(ErrorCode::PermissionDenied, message))
    })
}

fn text_bytes(message: &Message) -> usize {
    message.joined_text().len()
}
