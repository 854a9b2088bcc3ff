//! The journal.

use types::ids::{CallId, NodeId, ResponseId, StepId};

use super::Place;
use super::fixtures::{Make, NOON};
use super::sessions::{opened, session};
use crate::commit::Commit;
use crate::error::Error;
use crate::journal::{JournalQuery, JournalRow};
use crate::sessions::Session;

pub(super) fn row(make: &Make, session: &Session, response: &ResponseId, seq: u64) -> JournalRow {
    JournalRow {
        session: session.id.clone(),
        seq,
        epoch: session.epoch,
        kind: "model_intent".to_owned(),
        response: response.clone(),
        step: Some(StepId::new(&make.ids)),
        call: Some(CallId::new(&make.ids)),
        at: NOON,
        body: Some("{}".to_owned()),
        body_sha256: "0".repeat(64),
    }
}

fn commit(journal: Vec<JournalRow>) -> Commit {
    Commit { journal, ..Commit::default() }
}

fn query(session: &Session) -> JournalQuery {
    JournalQuery { session: session.id.clone(), response: None, after: 0, limit: 100 }
}

/// Rows are read as they were written, in order, from any place and of one turn.
pub async fn rows_are_read_as_they_were_written(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    let (first, second) = (ResponseId::new(&make.ids), ResponseId::new(&make.ids));
    let rows =
        [row(&make, &made, &first, 1), row(&make, &made, &first, 2), row(&make, &made, &second, 3)];
    store.commit(commit(rows[..2].to_vec())).await.unwrap();
    store.commit(commit(rows[2..].to_vec())).await.unwrap();
    assert_eq!(store.journal(query(&made)).await.unwrap(), rows);
    let behind = JournalQuery { after: 1, limit: 1, ..query(&made) };
    assert_eq!(store.journal(behind).await.unwrap(), rows[1..2]);
    let turn = JournalQuery { response: Some(second), ..query(&made) };
    assert_eq!(store.journal(turn).await.unwrap(), rows[2..]);
    assert_eq!(store.session(&made.id).await.unwrap().unwrap().next_seq, 4);
}

/// A row whose number is not the next one is refused with its whole commit: there is neither a gap
/// nor a second truth.
pub async fn numbers_have_no_gaps_and_no_doubles(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    let response = ResponseId::new(&make.ids);
    let numbered = |seq| row(&make, &made, &response, seq);
    store.commit(commit(vec![numbered(1)])).await.unwrap();
    for wrong in [vec![numbered(1)], vec![numbered(3)], vec![numbered(2), numbered(2)]] {
        let refused = store.commit(commit(wrong)).await.unwrap_err();
        assert!(matches!(refused, Error::Exists { what: "journal entry" }), "{refused:?}");
    }
    assert_eq!(store.journal(query(&made)).await.unwrap().len(), 1);
    store.commit(commit(vec![numbered(2)])).await.unwrap();
}

/// A row of a former epoch is refused, and what stands beside it in its commit.
pub async fn a_former_epoch_writes_nothing(place: &dyn Place) {
    let store = place.open().await.unwrap();
    let make = Make::new();
    let made = session(&make, &NodeId::new(&make.ids));
    opened(&*store, &[&made]).await;
    store.acquire(&made.id, &NodeId::new(&make.ids)).await.unwrap();
    let stale = row(&make, &made, &ResponseId::new(&make.ids), 1);
    let refused = store.commit(commit(vec![stale])).await.unwrap_err();
    assert!(matches!(refused, Error::Fenced { .. }), "{refused:?}");
    assert!(store.journal(query(&made)).await.unwrap().is_empty());
}
