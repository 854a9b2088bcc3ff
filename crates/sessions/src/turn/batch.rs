//! What waits to become durable, and the commits that make it so.

use std::time::Duration;

use bytes::Bytes;
use pipeline::StepAdmission;
use serde_json::Value;
use storage::responses::{ItemRow, ResponseWrite};
use storage::sessions::SessionWrite;
use storage::{
    Commit, Committed, Error, Fence, LedgerRow, Pending, Response, ResponseEvent, SessionState,
};
use tokio_util::sync::CancellationToken;
use types::clock::Monotonic;
use types::{ErrorCode, Failure};

use super::park::Called;
use super::{Runner, Stopped};
use crate::StreamEvent;
use crate::history::previous_not_found;
use crate::journal;
use crate::live::{Ended, stream_event};
use crate::state::{Event, Step};
use crate::stop::{self, Point};

/// An event waits for others so long at most.
pub(super) const FLUSH_AFTER: Duration = Duration::from_millis(50);
/// Bytes of events that wait for the disk while a model speaks: one that is faster waits.
pub(super) const UNSENT_BYTES_MAX: usize = 1024 * 1024;
/// A commit that the disk refused is tried again after this, doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// And after this at most.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What has happened and is not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// For the journal.
    pub(crate) events: Vec<Event>,
    /// For the ledger.
    pub(crate) ledger: Vec<LedgerRow>,
    /// For the stream.
    pub(crate) unsent: Vec<StreamEvent>,
    /// Bytes of them.
    pub(crate) unsent_bytes: usize,
    /// Whether an item begins or ends in `unsent`: then it waits for nothing.
    pub(crate) boundary: bool,
    /// When the oldest of `unsent` came.
    pub(crate) since: Option<Monotonic>,
    /// The rows of a turn that begins.
    pub(crate) opening: Option<Opening>,
    /// The row of a turn that ends.
    pub(crate) close: Option<ResponseWrite>,
    /// What is told of a turn that ends.
    pub(crate) ended: Option<Ended>,
    /// Items that clients may refer to.
    pub(crate) items: Vec<ItemRow>,
}

/// The rows of a turn that begins.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) session: SessionWrite,
    /// Without its request and its input.
    pub(crate) response: Response,
    /// The request as it came.
    pub(crate) request: Bytes,
    /// The new input, a JSON list.
    pub(crate) input: String,
    /// Cancelled when whoever asks for it is gone.
    pub(crate) gone: CancellationToken,
}

impl Opening {
    /// The rows; a request and its input may be large, so the last time they are not copied.
    fn rows(&mut self, is_last: bool) -> (SessionWrite, ResponseWrite) {
        let input = if is_last { std::mem::take(&mut self.input) } else { self.input.clone() };
        let response = Response {
            request: Some(String::from_utf8_lossy(&self.request).into_owned()),
            input: Some(input),
            ..self.response.clone()
        };
        (self.session.clone(), ResponseWrite::Open(Box::new(response)))
    }
}

impl Batch {
    /// Takes events of the stream.
    pub(crate) fn send(&mut self, events: &[Value]) {
        for event in events.iter().map(stream_event) {
            self.unsent_bytes += event.body.len();
            self.unsent.push(event);
        }
    }

    /// The response that a turn which begins continues.
    fn continues(&self) -> Option<&str> {
        let opening = self.opening.as_ref()?;
        opening.response.previous.as_ref().map(types::ids::ResponseId::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.ledger.is_empty()
            && self.unsent.is_empty()
            && self.opening.is_none()
            && self.close.is_none()
    }
}

/// Why a commit with an intent was not made.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The step may not run. The batch still waits.
    Refused(Failure),
    /// The store does not take it now. Only told of a turn that begins.
    Unavailable(Failure),
    /// Something else is to be done first. The batch still waits.
    Called(Called),
    /// This node must stop working on the turn.
    Stopped,
}

impl From<Stopped> for Refusal {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Events on their way to the disk.
pub(super) struct Flight {
    pub(super) answer: Pending<Committed>,
    pub(super) events: Vec<StreamEvent>,
}

impl Runner {
    /// Makes the batch durable.
    pub(crate) async fn commit_batch(&mut self) -> Result<(), Stopped> {
        match self.commit(None).await {
            Ok(()) => Ok(()),
            // Without a reservation no limit can refuse, and only a beginning turn is told of a
            // full disk.
            Err(Refusal::Refused(failure) | Refusal::Unavailable(failure)) => {
                tracing::error!(%failure, "a commit without a reservation was refused");
                Err(Stopped)
            }
            Err(Refusal::Called(_) | Refusal::Stopped) => Err(Stopped),
        }
    }

    /// Makes the batch durable together with the intent of an admitted step.
    pub(crate) async fn commit_intent(
        &mut self,
        intent: &Event,
        admission: &StepAdmission,
    ) -> Result<(), Refusal> {
        self.commit(Some((intent, admission))).await
    }

    async fn commit(&mut self, intent: Option<(&Event, &StepAdmission)>) -> Result<(), Refusal> {
        if intent.is_none() && self.batch.is_empty() {
            return Ok(());
        }
        let (mut wait, mut made_room) = (RETRY_FIRST, false);
        loop {
            let commit = self.rows(intent)?;
            let Err(error) = self.parts.store.commit(commit).await else { break };
            match (&error, intent) {
                (Error::OverLimit { .. }, Some((_, admission))) if made_room => {
                    let tries = &mut self.tries;
                    let failure = self.parts.pipeline.over_limit(admission, &error, tries);
                    return Err(Refusal::Refused(failure));
                }
                (Error::OverLimit { .. }, Some((_, admission))) => {
                    let room = self.parts.pipeline.make_room(admission).await;
                    room.map_err(Refusal::Refused)?;
                    made_room = true;
                }
                (Error::Unavailable(_), _) => {
                    self.wait_for_disk(&error, &mut wait).await?;
                }
                // What it continues was deleted since it was read.
                (Error::NotFound { .. }, _) if let Some(previous) = self.batch.continues() => {
                    return Err(Refusal::Refused(previous_not_found(previous)));
                }
                _ => return Err(self.lost_lease(&error).into()),
            }
        }
        self.committed(intent.map(|(event, _)| event));
        Ok(())
    }

    /// Starts making only the events of the stream durable.
    pub(super) fn start_flush(&mut self) -> Flight {
        let events = std::mem::take(&mut self.batch.unsent);
        (self.batch.boundary, self.batch.since, self.batch.unsent_bytes) = (false, None, 0);
        let commit = Commit {
            fences: vec![self.fence()],
            response_events: self.event_rows(&events),
            ..Commit::default()
        };
        Flight { answer: self.parts.store.commit(commit), events }
    }

    /// Takes the answer to [`Self::start_flush`].
    pub(super) async fn end_flush(
        &mut self,
        events: Vec<StreamEvent>,
        answer: Result<Committed, Error>,
    ) -> Result<(), Stopped> {
        match answer {
            Ok(_) => {
                self.live.publish(events, None);
                Ok(())
            }
            Err(error @ Error::Unavailable(_)) => {
                self.batch.unsent_bytes +=
                    events.iter().map(|event| event.body.len()).sum::<usize>();
                self.batch.unsent.splice(0..0, events);
                let mut wait = RETRY_FIRST;
                match self.wait_for_disk(&error, &mut wait).await {
                    Ok(()) => Ok(()),
                    Err(_) => Err(Stopped),
                }
            }
            Err(error) => Err(self.lost_lease(&error)),
        }
    }

    /// The rows of the batch and the intent. They are made anew for each try, so that a commit that
    /// succeeds at once was not copied for the next one.
    fn rows(&mut self, intent: Option<(&Event, &StepAdmission)>) -> Result<Commit, Stopped> {
        let reservation = intent.and_then(|(_, admission)| admission.reservation.clone());
        let at = self.parts.clock.now();
        let events = self.batch.events.iter().chain(intent.map(|(event, _)| event));
        let journal = journal::rows(&self.cursor, events, at);
        let journal = journal.map_err(|error| self.lost_lease(&error))?;
        let mut responses: Vec<ResponseWrite> = Vec::new();
        // A beginning is tried again only when a limit was in the way.
        let is_last = self.batch.opening.is_some() && reservation.is_none();
        let session = match &mut self.batch.opening {
            Some(opening) => {
                let (session, response) = opening.rows(is_last);
                responses.push(response);
                session
            }
            None => SessionWrite::Update {
                session: self.cursor.session.clone(),
                state: self.session_state,
                newest: None,
                last_used_at: at,
            },
        };
        responses.extend(self.batch.close.clone());
        let items = &mut self.batch.items;
        let items = if is_last { std::mem::take(items) } else { items.clone() };
        let is_new = matches!(session, SessionWrite::Open(_));
        Ok(Commit {
            ledger: self.batch.ledger.clone(),
            reservations: reservation.into_iter().collect(),
            // A session that this very commit makes has no row to check yet; its journal rows are
            // checked after it.
            fences: if is_new { Vec::new() } else { vec![self.fence()] },
            sessions: vec![session],
            responses,
            journal,
            response_events: self.event_rows(&self.batch.unsent),
            items,
        })
    }

    fn fence(&self) -> Fence {
        Fence { session: self.cursor.session.clone(), epoch: self.cursor.epoch }
    }

    fn event_rows(&self, events: &[StreamEvent]) -> Vec<ResponseEvent> {
        let row = |event: &StreamEvent| {
            Some(ResponseEvent {
                response: self.cursor.response.clone(),
                sequence: event.sequence?,
                body: event.body.as_ref().to_owned(),
            })
        };
        events.iter().filter_map(row).collect()
    }

    /// What follows a commit: the stream moves on, who waits is told, stop points are reached.
    fn committed(&mut self, intent: Option<&Event>) {
        let batch = std::mem::take(&mut self.batch);
        self.cursor.next_seq += batch.events.iter().chain(intent).count() as u64;
        for point in batch.events.iter().chain(intent).filter_map(point_after) {
            stop::at(point);
        }
        let doubt = self.turn.doubt().filter(|_| self.session_state == SessionState::InDoubt);
        self.live.set_doubt(doubt.cloned());
        self.show();
        self.live.publish(batch.unsent, batch.ended);
        for (reply, step) in std::mem::take(&mut self.replies) {
            let answer: Result<Step, Failure> = self
                .turn
                .step(&step)
                .cloned()
                .ok_or_else(|| Failure::new(ErrorCode::Internal, "the step is gone"));
            // Whoever decided may be gone.
            reply.send(answer).unwrap_or(());
        }
    }

    async fn wait_for_disk(&mut self, error: &Error, wait: &mut Duration) -> Result<(), Refusal> {
        tracing::error!(%error, "a turn's commit was not written; trying again");
        if self.batch.opening.is_some() {
            let message = "the store cannot write now: nothing was begun";
            return Err(Refusal::Unavailable(
                Failure::new(ErrorCode::StorageUnavailable, message).retry_after(RETRY_MAX),
            ));
        }
        tokio::select! {
            () = self.parts.clock.sleep(*wait) => {}
            () = self.parts.shutdown.cancelled() => return Err(Refusal::Stopped),
        }
        *wait = (*wait * 2).min(RETRY_MAX);
        Ok(())
    }

    fn lost_lease(&self, error: &Error) -> Stopped {
        let response = self.cursor.response.as_str();
        match error {
            Error::Fenced { .. } => tracing::warn!(response, "the session has a newer owner"),
            other => tracing::error!(response, error = %other, "a turn's commit was refused"),
        }
        Stopped
    }
}

/// Where the process may be made to stop after this event is durable.
const fn point_after(event: &Event) -> Option<Point> {
    match event {
        Event::ModelIntent { .. } => Some(Point::AfterModelIntent),
        Event::ModelOutcome { .. } => Some(Point::AfterModelOutcome),
        Event::ToolIntent { .. } => Some(Point::AfterToolIntent),
        Event::ToolOutcome { .. } => Some(Point::AfterToolOutcome),
        Event::Resolved { .. } => Some(Point::AfterResolution),
        _ => None,
    }
}
