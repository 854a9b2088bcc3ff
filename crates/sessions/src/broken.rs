//! The end of a turn that can't be told anew: its journal or its request can't be read, or what it
//! continues is gone.
//!
//! Nobody can work on it, so it is closed as failed: its client learns so, its stream ends, its
//! session is free, and it holds no money. What can be read of its last attempt stays on the bill
//! as unreconciled; what can't is presumed spent by the store. The rows of the journal stay.

use formats::openai_responses::{EventWriter, ResponseSkeleton, ids_of, parse_create};
use serde_json::{Value, json};
use storage::responses::{ResponseWrite, Status};
use storage::sessions::SessionWrite;
use storage::{
    Commit, Error, Fence, JournalRow, LedgerRow, Response, ResponseEvent, Session, SessionState,
};
use types::ids::StepId;
use types::{ErrorCode, Failure, Timestamp};

use pipeline::StepIntent;
use std::sync::Arc;

use crate::journal::{self, Cursor, event_of};
use crate::live::EVENTS_READ_MAX;
use crate::state::{Ending, ErrorRecord, Event};
use crate::turn::lost_row;
use crate::{Inner, storage_failure};

/// What can be read of the steps that had begun and whose outcome is not known.
#[derive(Default)]
struct Unfinished {
    /// What they cost, and whose they are.
    intents: Vec<(StepId, StepIntent)>,
    /// Those of them that called a tool.
    tools: Vec<StepId>,
}

impl Inner {
    /// Ends a turn that can't be taken over.
    pub(crate) async fn close_broken(&self, row: &Response, why: &Failure) -> Result<(), Failure> {
        let session = self.parts.store.acquire(&row.session, &self.parts.node).await;
        let session = session.map_err(|error| storage_failure(&error))?;
        // What can't be read at all is as good as nothing: the rest must go on.
        let rows = self.journal_of(row).await.unwrap_or_default();
        let sequence = self.next_event(row).await?;
        let now = self.parts.clock.now();
        let failure = Failure::new(
            ErrorCode::Internal,
            format!("this response could not be taken up again and was ended: {}", why.message),
        );
        let (event, response) = self.last_event(row, &failure, sequence);
        let unfinished = Unfinished::in_rows(&rows);
        let close = Commit {
            responses: vec![ResponseWrite::Close {
                id: row.id.clone(),
                status: Status::Failed,
                response: response.to_string(),
                finished_at: now,
            }],
            sessions: session.iter().map(|session| idle(session, now)).collect(),
            fences: session.iter().map(fence).collect(),
            ..Commit::default()
        };
        let whole = Commit {
            ledger: self.lost(&unfinished),
            journal: session
                .map(|session| last_rows(session, row, unfinished, &failure, now))
                .unwrap_or_default(),
            response_events: vec![ResponseEvent {
                response: row.id.clone(),
                sequence,
                body: event.to_string(),
            }],
            ..close.clone()
        };
        let written = match self.parts.store.commit(whole).await {
            Err(error) if !matches!(error, Error::Unavailable(_)) => {
                tracing::error!(response = row.id.as_str(), %error, "closing it with less");
                self.parts.store.commit(close).await
            }
            written => written,
        };
        written.map(drop).map_err(|error| storage_failure(&error))
    }

    /// The number of the next event of its stream.
    async fn next_event(&self, row: &Response) -> Result<u64, Failure> {
        let mut next = 0;
        loop {
            let page = self.parts.store.response_events(&row.id, next, EVENTS_READ_MAX).await;
            let page = page.map_err(|error| storage_failure(&error))?;
            let Some(last) = page.last() else { return Ok(next) };
            next = last.sequence + 1;
        }
    }

    /// The event that ends its stream, and the response object.
    fn last_event(&self, row: &Response, failure: &Failure, sequence: u64) -> (Value, Value) {
        let body = row.request.as_deref().unwrap_or_default();
        let skeleton = match parse_create(body.as_bytes()) {
            Ok(request) => ResponseSkeleton::new(row.id.as_str(), row.created_at, &request),
            Err(_) => ResponseSkeleton::from_value(json!({
                "id": row.id,
                "object": "response",
                "created_at": row.created_at.seconds(),
            })),
        };
        let ids = ids_of(Arc::clone(&self.parts.ids));
        let events = EventWriter::new(skeleton, ids, sequence, 0).failed(failure, None, None);
        let event = events.into_iter().next_back().unwrap_or_default();
        let response = event.get("response").cloned().unwrap_or_default();
        (event, response)
    }

    fn lost(&self, unfinished: &Unfinished) -> Vec<LedgerRow> {
        unfinished.intents.iter().map(|(_, intent)| lost_row(&self.parts, intent)).collect()
    }
}

impl Unfinished {
    fn in_rows(rows: &[JournalRow]) -> Self {
        let mut unfinished = Self::default();
        for event in rows.iter().filter_map(|row| event_of(row).ok()) {
            unfinished.take(event);
        }
        unfinished
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::ModelIntent { step, intent, .. } => self.intents.push((step, *intent)),
            Event::ToolIntent { step, intent, .. } => {
                self.tools.push(step.clone());
                self.intents.push((step, *intent));
            }
            // Its attempt is billed; whether the tool had its effect stays unknown.
            Event::ToolLost { step, .. } => self.settle(&step),
            Event::ModelLost { step, .. }
            | Event::ModelOutcome { step, .. }
            | Event::ModelFailed { step, .. }
            | Event::ToolOutcome { step, .. }
            | Event::Resolved { step, .. }
            | Event::Abandoned { step } => {
                self.settle(&step);
                self.tools.retain(|tool| *tool != step);
            }
            Event::TurnOpened { .. }
            | Event::ToolRefused { .. }
            | Event::CancelAsked { .. }
            | Event::TurnClosed { .. } => {}
        }
    }

    fn settle(&mut self, step: &StepId) {
        self.intents.retain(|(begun, _)| begun != step);
    }
}

fn idle(session: &Session, now: Timestamp) -> SessionWrite {
    SessionWrite::Update {
        session: session.id.clone(),
        state: SessionState::Idle,
        newest: None,
        last_used_at: now,
    }
}

fn fence(session: &Session) -> Fence {
    Fence { session: session.id.clone(), epoch: session.epoch }
}

/// The rows that end the journal of the turn.
fn last_rows(
    session: Session,
    row: &Response,
    unfinished: Unfinished,
    failure: &Failure,
    now: Timestamp,
) -> Vec<JournalRow> {
    let mut tools = unfinished.tools;
    tools.dedup();
    let mut events: Vec<Event> = tools.into_iter().map(|step| Event::Abandoned { step }).collect();
    let error = ErrorRecord { code: failure.code, message: failure.message.clone() };
    events.push(Event::TurnClosed { ending: Ending::Failed { error } });
    let cursor = Cursor {
        session: session.id,
        response: row.id.clone(),
        epoch: session.epoch,
        next_seq: session.next_seq,
    };
    journal::rows(&cursor, events.iter(), now).unwrap_or_default()
}
