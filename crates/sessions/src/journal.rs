//! Events of a turn as rows of the journal, and back.

use serde_json::Value;
use sha2::{Digest, Sha256};
use storage::{Error, JournalRow};
use types::Timestamp;
use types::ids::{CallId, ResponseId, SessionId};

use crate::state::{Event, Misfit, Turn};

/// Where the next rows go.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    pub(crate) session: SessionId,
    pub(crate) response: ResponseId,
    pub(crate) epoch: u64,
    /// The number of the next row.
    pub(crate) next_seq: u64,
}

/// `events` as the next rows of the journal.
pub(crate) fn rows<'a>(
    cursor: &Cursor,
    events: impl Iterator<Item = &'a Event>,
    at: Timestamp,
) -> Result<Vec<JournalRow>, Error> {
    let numbered = events.zip(cursor.next_seq..);
    numbered.map(|(event, seq)| row(cursor, event, seq, at)).collect()
}

fn row(cursor: &Cursor, event: &Event, seq: u64, at: Timestamp) -> Result<JournalRow, Error> {
    let body = serde_json::to_string(event)
        .map_err(|error| Error::Internal(std::sync::Arc::new(error)))?;
    Ok(JournalRow {
        session: cursor.session.clone(),
        seq,
        epoch: cursor.epoch,
        kind: event.kind().to_owned(),
        response: cursor.response.clone(),
        step: event.step().cloned(),
        call: call_of(event).cloned(),
        at,
        body_sha256: sha256(body.as_bytes()),
        body: Some(body),
    })
}

/// The Call that an event is about.
const fn call_of(event: &Event) -> Option<&CallId> {
    match event {
        Event::TurnOpened { call, .. }
        | Event::ModelIntent { call, .. }
        | Event::ModelLost { call, .. }
        | Event::ModelOutcome { call, .. }
        | Event::ModelFailed { call, .. }
        | Event::ToolIntent { call, .. }
        | Event::ToolLost { call, .. }
        | Event::ToolOutcome { call, .. } => Some(call),
        Event::ToolRefused { .. }
        | Event::Resolved { .. }
        | Event::CancelAsked { .. }
        | Event::Abandoned { .. }
        | Event::TurnClosed { .. } => None,
    }
}

/// Why a turn can't be told from its journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// A row's body was removed.
    #[error("the body of row {0} was removed")]
    Removed(u64),
    /// A row is not what this program writes.
    #[error("row {0} can't be read")]
    Unreadable(u64, #[source] serde_json::Error),
    /// The rows do not fit together.
    #[error("row {0} does not fit")]
    Misfit(u64, #[source] Misfit),
}

/// The turn that these rows tell.
pub(crate) fn replay(rows: &[JournalRow]) -> Result<Turn, ReplayError> {
    match replay_known(rows) {
        (turn, None) => Ok(turn),
        (_, Some(error)) => Err(error),
    }
}

/// The turn as the rows tell it up to the first one that can't be taken in.
pub(crate) fn replay_known(rows: &[JournalRow]) -> (Turn, Option<ReplayError>) {
    let mut turn = Turn::default();
    for row in rows {
        let taken = event_of(row).and_then(|event| {
            turn.apply(&event).map_err(|misfit| ReplayError::Misfit(row.seq, misfit))
        });
        if let Err(error) = taken {
            return (turn, Some(error));
        }
    }
    (turn, None)
}

/// The event of a row.
pub(crate) fn event_of(row: &JournalRow) -> Result<Event, ReplayError> {
    let body = row.body.as_ref().ok_or(ReplayError::Removed(row.seq))?;
    serde_json::from_str(body).map_err(|error| ReplayError::Unreadable(row.seq, error))
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A JSON list's items; nothing if it is no list.
pub(crate) fn items_of(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_default()
}
