//! What is read of responses and sessions.

use std::sync::Arc;

use serde_json::{Value, json};
use storage::{Response, Session, SessionFilter};
use types::ids::SessionId;
use types::{ErrorCode, Failure, Principal};

use crate::answer::object;
use crate::journal::{items_of, replay_known};
use crate::live::stored_stream;
use crate::state::Step;
use crate::{
    EventStream, Inner, ItemPage, SessionDetail, SessionSummary, Sessions, TurnDetail, not_at_work,
    storage_failure,
};

/// Items in one list unless the client says otherwise, as OpenAI has it.
const ITEMS_DEFAULT: usize = 20;
/// Items in one list at most, as OpenAI has it.
const ITEMS_MAX: usize = 100;

impl Sessions {
    /// The response object as it is now.
    ///
    /// # Errors
    /// `not_found` (another user's, too); `unavailable` if it is open and nobody works on it.
    pub async fn get(&self, principal: &Principal, id: &str) -> Result<Value, Failure> {
        let row = self.inner.owned(principal, id).await?;
        if let Some(live) = self.inner.live(&row.id) {
            return Ok(live.response());
        }
        // It may have ended since it was read.
        let row = self.inner.owned(principal, id).await?;
        if !row.status.is_final() {
            return Err(not_at_work());
        }
        Ok(object(&row))
    }

    /// The events of a response behind number `starting_after` (from 0 if `None`), stored ones
    /// first, then live.
    ///
    /// # Errors
    /// `not_found`; `unavailable` if it is open and nobody works on it.
    pub async fn events(
        &self,
        principal: &Principal,
        id: &str,
        starting_after: Option<u64>,
    ) -> Result<EventStream, Failure> {
        let row = self.inner.owned(principal, id).await?;
        let from = starting_after.map_or(0, |after| after.saturating_add(1));
        if let Some(live) = self.inner.live(&row.id) {
            return Ok(live.stream(from, None));
        }
        // It may have ended since it was read.
        let row = self.inner.owned(principal, id).await?;
        if !row.status.is_final() {
            return Err(not_at_work());
        }
        Ok(stored_stream(Arc::clone(&self.inner.parts.store), row.id, from))
    }

    /// The input items of a response as OpenAI's list object, each with an id.
    ///
    /// # Errors
    /// `not_found`; `invalid_request` for an unknown `after`.
    pub async fn input_items(
        &self,
        principal: &Principal,
        id: &str,
        page: &ItemPage,
    ) -> Result<Value, Failure> {
        let row = self.inner.owned(principal, id).await?;
        let mut items = items_of(row.input.as_deref().unwrap_or_default());
        if !page.ascending {
            items.reverse();
        }
        item_list(items, page)
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    /// `storage_unavailable`.
    pub async fn list(&self, filter: SessionFilter) -> Result<Vec<SessionSummary>, Failure> {
        let found = self.inner.parts.store.sessions(filter).await;
        let found = found.map_err(|error| storage_failure(&error))?;
        let summary = |session: Session| {
            let live = self.inner.live_of(session.id.as_str());
            let in_doubt = live.and_then(|live| live.progress().borrow().doubt.clone());
            SessionSummary { session, in_doubt }
        };
        Ok(found.into_iter().map(summary).collect())
    }

    /// A session of `account` with its turns and their steps.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn show(&self, account: &str, id: &str) -> Result<SessionDetail, Failure> {
        let missing = || Failure::new(ErrorCode::NotFound, format!("there is no session {id}"));
        let parsed = SessionId::parse(id).ok_or_else(missing)?;
        let store = &self.inner.parts.store;
        let session = store.session(&parsed).await.map_err(|error| storage_failure(&error))?;
        let session = session.filter(|session| session.account == account).ok_or_else(missing)?;
        let rows = store.responses_of(&parsed).await.map_err(|error| storage_failure(&error))?;
        let mut turns = Vec::with_capacity(rows.len());
        for row in rows {
            turns.push(self.inner.turn_detail(row).await?);
        }
        Ok(SessionDetail { session, turns })
    }
}

impl Inner {
    async fn turn_detail(&self, row: Response) -> Result<TurnDetail, Failure> {
        let steps = if row.deleted_at.is_some() { Vec::new() } else { self.steps(&row).await? };
        Ok(TurnDetail {
            status: row.status.name().to_owned(),
            response: row.id,
            previous: row.previous,
            deleted: row.deleted_at.is_some(),
            created_at: row.created_at,
            finished_at: row.finished_at,
            steps,
        })
    }

    async fn steps(&self, row: &Response) -> Result<Vec<Step>, Failure> {
        let rows = self.journal_of(row).await?;
        let (turn, broken) = replay_known(&rows);
        if let Some(error) = broken {
            // What is known is shown: it may be what somebody looks for who has to clean up.
            tracing::error!(response = row.id.as_str(), %error, "a journal can't be read whole");
        }
        Ok(turn.steps().to_vec())
    }
}

/// A page of items as OpenAI's list object.
fn item_list(items: Vec<Value>, page: &ItemPage) -> Result<Value, Failure> {
    let id_of = |item: &Value| item.get("id").and_then(Value::as_str).map(str::to_owned);
    let start = match &page.after {
        None => 0,
        Some(after) => {
            let at = items.iter().position(|item| id_of(item).as_ref() == Some(after));
            let unknown = || Failure::invalid("after", format!("there is no item {after:?}"));
            at.ok_or_else(unknown)? + 1
        }
    };
    let limit = page.limit.unwrap_or(ITEMS_DEFAULT).clamp(1, ITEMS_MAX);
    let has_more = items.len() > start + limit;
    let data: Vec<Value> = items.into_iter().skip(start).take(limit).collect();
    Ok(json!({
        "object": "list",
        "first_id": data.first().and_then(id_of),
        "last_id": data.last().and_then(id_of),
        "has_more": has_more,
        "data": data,
    }))
}

#[cfg(test)]
mod tests {
    use super::item_list;
    use crate::ItemPage;
    use serde_json::{Value, json};

    fn ids(list: &Value) -> Vec<&str> {
        let data = list["data"].as_array().unwrap();
        data.iter().map(|item| item["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let items: Vec<Value> = (0..5).map(|n| json!({ "id": format!("msg_{n}") })).collect();
        let page = |after: Option<&str>| ItemPage {
            after: after.map(str::to_owned),
            limit: Some(2),
            ascending: true,
        };
        let first = item_list(items.clone(), &page(None)).unwrap();
        assert_eq!(ids(&first), ["msg_0", "msg_1"]);
        assert_eq!(first["has_more"], true);
        let last = item_list(items.clone(), &page(Some("msg_3"))).unwrap();
        assert_eq!(ids(&last), ["msg_4"]);
        assert_eq!(last["has_more"], false);
        assert_eq!(last["last_id"], "msg_4");
        let failure = item_list(items, &page(Some("msg_9"))).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("after"));
    }
}
