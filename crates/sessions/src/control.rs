//! What ends or settles a turn from outside: cancelling, deleting, deciding.

use std::sync::Arc;

use serde_json::Value;
use storage::{Deletion, Response};
use tokio::sync::oneshot;
use types::ids::{ResponseId, SessionId};
use types::{ErrorCode, Failure, Principal};

use crate::answer::object;
use crate::live::Command;
use crate::recover::Found;
use crate::state::{Decision, Step};
use crate::{Inner, Sessions, storage_failure};

impl Sessions {
    /// Ends a response: a running tool is told and given five seconds. The response object at its
    /// end; of one that has ended already, as it is.
    ///
    /// # Errors
    /// `not_found`; `unavailable` or `storage_unavailable` if it can't be ended now.
    pub async fn cancel(&self, principal: &Principal, id: &str) -> Result<Value, Failure> {
        let row = self.inner.owned(principal, id).await?;
        self.inner.end(&row.id, principal).await?.ok_or_else(|| not_found(id))
    }

    /// Removes a response's bodies for good, cancelling it first if it is open. What others hold of
    /// its session goes soon after, or at the end of the turn that is open in it.
    ///
    /// # Errors
    /// `not_found`; `conflict` if an open response continues it; `unavailable` or
    /// `storage_unavailable` if it can't be ended now.
    pub async fn delete(&self, principal: &Principal, id: &str) -> Result<(), Failure> {
        let row = self.inner.owned(principal, id).await?;
        self.inner.end(&row.id, principal).await?;
        let parts = &self.inner.parts;
        let deleted = parts.store.delete_response(&row.id, parts.clock.now()).await;
        match deleted.map_err(|error| storage_failure(&error))? {
            Deletion::Done => {
                self.inner.forgetting.notify_one();
                Ok(())
            }
            Deletion::NotFound => Err(not_found(id)),
            Deletion::InUse(open) => Err(in_use(id, &open)),
        }
    }

    /// Settles a step in doubt. When it is ready, the decision is durable.
    ///
    /// # Errors
    /// `not_found`; `conflict` if the step is not in doubt.
    pub async fn resolve(
        &self,
        account: &str,
        session: &str,
        step: &str,
        decision: Decision,
        operator: &str,
    ) -> Result<Step, Failure> {
        let missing = || {
            let message = format!("there is no session {session}");
            Failure::new(ErrorCode::NotFound, message)
        };
        let id = SessionId::parse(session).ok_or_else(missing)?;
        let found = self.inner.parts.store.session(&id).await;
        let found = found.map_err(|error| storage_failure(&error))?;
        found.filter(|session| session.account == account).ok_or_else(missing)?;
        let not_in_doubt =
            || Failure::new(ErrorCode::Conflict, format!("step {step} is not in doubt"));
        let live = self.inner.live_of(session).ok_or_else(not_in_doubt)?;
        let (reply, answer) = oneshot::channel();
        live.tell(Command::Resolve {
            step: step.to_owned(),
            decision,
            by: operator.to_owned(),
            reply,
        })
        .await?;
        answer.await.map_err(|_| not_in_doubt())?
    }
}

impl Inner {
    /// The response object at its end: an open turn is ended, whether or not somebody works on it,
    /// and waited for. `None` if there is no such response.
    async fn end(
        self: &Arc<Self>,
        id: &ResponseId,
        principal: &Principal,
    ) -> Result<Option<Value>, Failure> {
        let by = format!("key {}", principal.key_name);
        let live = match self.at_work(id, Some(&by)).await? {
            Found::Open(live) => live,
            Found::Ended(row) => return Ok(Some(object(&row))),
            Found::Gone => return Ok(None),
        };
        // A turn that ends by itself at this moment takes no more commands, and that is as good.
        let told = live.tell(Command::Cancel { by }).await;
        match live.ended().await {
            Ok(ended) => Ok(Some(ended.response.clone())),
            Err(failure) => Err(told.err().unwrap_or(failure)),
        }
    }

    /// A stored response of this principal's user.
    pub(crate) async fn owned(&self, principal: &Principal, id: &str) -> Result<Response, Failure> {
        let parsed = ResponseId::parse(id).ok_or_else(|| not_found(id))?;
        let row = self.parts.store.response(&parsed).await.map_err(|e| storage_failure(&e))?;
        let is_theirs = |row: &Response| {
            *row.account == *principal.account
                && *row.user == *principal.user
                && row.deleted_at.is_none()
        };
        row.filter(is_theirs).ok_or_else(|| not_found(id))
    }
}

/// What a client is told about a response that an open one continues. That one's history would lack
/// a part of it, so that it could not be taken up again after a restart.
fn in_use(id: &str, open: &ResponseId) -> Failure {
    let message = format!(
        "response {id} can't be deleted now: response {open}, which continues it, is still in \
         progress. Cancel that one with POST /v1/responses/{open}/cancel, or wait for its end"
    );
    Failure::new(ErrorCode::Conflict, message)
}

/// What a client is told about a response that is not there for it.
pub(crate) fn not_found(id: &str) -> Failure {
    Failure::new(ErrorCode::NotFound, format!("there is no response {id} for this key's user"))
}
