//! What a turn goes on from: the items of the responses before it, and its new input.
//!
//! All of it is in memory while the turn is open, so how large one conversation may be, and how
//! large all of them together, is limited, and known before any of it is read. A history is whole
//! or refused: an answer that silently lacks a part of it would be another answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use formats::openai_responses::{InputItem, read_item};
use serde_json::Value;
use storage::Link;
use storage::responses::CHAIN_MAX;
use types::ids::ResponseId;
use types::{ErrorCode, Failure, Principal};

use crate::journal::items_of;
use crate::live::in_doubt;
use crate::open::Asked;
use crate::{Inner, storage_failure};

/// Bytes of a conversation at most, as it is stored: some ten times the text that the largest
/// contexts hold, so that there is room for pictures.
pub(crate) const CONVERSATION_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of all conversations at most whose turns are open, as they are stored. In memory they are
/// a few times as large.
const HELD_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// When a turn that found no room may be tried again.
const NO_ROOM_RETRY: Duration = Duration::from_secs(2);
/// Random bytes in an item's id.
const ITEM_ID_BYTES: usize = 24;

/// What a new turn continues.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// The response that it continues. Its bodies are in `items`.
    pub(crate) previous: Option<Link>,
    /// The items of the whole chain.
    pub(crate) items: Vec<InputItem>,
    /// Bytes of the conversation, the new request included.
    bytes: u64,
}

/// Bytes of the conversations whose turns are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<AtomicU64>);

/// The part of one of them, while it lives.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Held,
    bytes: u64,
}

impl Held {
    /// Takes room for a conversation.
    fn take(&self, bytes: u64) -> Result<Hold, Failure> {
        let hold = self.take_anyway(bytes);
        if self.0.load(Ordering::SeqCst) <= HELD_BYTES_MAX {
            return Ok(hold);
        }
        let message = "the open turns of this node hold as much history as they may; try again \
                       when some have ended";
        Err(Failure::new(ErrorCode::Overloaded, message).retry_after(NO_ROOM_RETRY))
    }

    /// Bytes that are taken.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Takes room for the conversation of a turn that is open already.
    pub(crate) fn take_anyway(&self, bytes: u64) -> Hold {
        self.0.fetch_add(bytes, Ordering::SeqCst);
        Hold { held: self.clone(), bytes }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

impl Inner {
    /// What `previous_response_id` names, with the items of its whole chain.
    pub(crate) async fn before(&self, asked: &Asked) -> Result<Before, Failure> {
        let body = asked.post.body.len() as u64;
        let Some(id) = &asked.request.previous_response_id else {
            return Ok(Before { bytes: body, ..Before::default() });
        };
        let missing = || previous_not_found(id);
        let parsed = ResponseId::parse(id).ok_or_else(missing)?;
        let room = CONVERSATION_BYTES_MAX.saturating_sub(body);
        let chain = self.parts.store.chain(&parsed, room).await;
        let mut chain = chain.map_err(|error| storage_failure(&error))?;
        let principal = &asked.principal;
        let owned =
            |link: &Link| *link.account == *principal.account && *link.user == *principal.user;
        if !chain.links.last().is_some_and(|newest| owned(newest) && !newest.is_deleted) {
            return Err(missing());
        }
        if let Some(gone) = chain.links.iter().find(|link| link.is_deleted || !owned(link)) {
            return Err(previous_not_found(gone.id.as_str()));
        }
        if !chain.fits {
            return Err(too_long("previous_response_id"));
        }
        let items = chain_items(&mut chain.links)?;
        Ok(Before { items, previous: chain.links.pop(), bytes: chain.bytes.saturating_add(body) })
    }

    /// Room for the conversation while its turn is open.
    pub(crate) fn room_for(&self, before: &Before) -> Result<Hold, Failure> {
        self.held.take(before.bytes)
    }

    /// Refuses to continue what has not ended, or a session in which a step is in doubt.
    pub(crate) async fn refuse_unfinished(&self, before: &Before) -> Result<(), Failure> {
        let Some(previous) = &before.previous else { return Ok(()) };
        if let Some(live) = self.live_of(previous.session.as_str())
            && let Some(step) = &live.progress().borrow().doubt
        {
            return Err(in_doubt(&live.about.session, &live.about.response, step));
        }
        let row = self.parts.store.response(&previous.id).await.map_err(|e| storage_failure(&e))?;
        if row.is_some_and(|row| row.status.is_final()) {
            return Ok(());
        }
        let message = format!(
            "response {} is still in progress: wait for its end, or cancel it, before you \
             continue it",
            previous.id
        );
        Err(Failure {
            param: Some("previous_response_id".into()),
            ..Failure::new(ErrorCode::Conflict, message)
        })
    }

    /// The new input, every item with an id, references replaced by what they name. It is taken
    /// from the request.
    pub(crate) async fn input(
        &self,
        asked: &mut Asked,
        before: &mut Before,
    ) -> Result<Vec<InputItem>, Failure> {
        let mut input = std::mem::take(&mut asked.request.input);
        for (index, place) in input.iter_mut().enumerate() {
            if let Some(id) = place.reference() {
                let (item, bytes) = self.referenced(&asked.principal, before, id, index).await?;
                before.bytes = before.bytes.saturating_add(bytes);
                if before.bytes > CONVERSATION_BYTES_MAX {
                    // A reference is a few bytes, and what it names may be as long as any item.
                    return Err(too_long(&format!("input[{index}].id")));
                }
                *place = item;
            }
        }
        let with_id =
            |item: InputItem| item.with_id(|prefix| self.parts.ids.hex(prefix, ITEM_ID_BYTES));
        Ok(input.into_iter().map(with_id).collect())
    }

    /// The item that is referred to, and how many bytes it has.
    async fn referenced(
        &self,
        principal: &Principal,
        before: &Before,
        id: &str,
        index: usize,
    ) -> Result<(InputItem, u64), Failure> {
        if let Some(item) = before.items.iter().find(|item| item.id() == Some(id)) {
            return Ok((item.clone(), item.value.to_string().len() as u64));
        }
        let found = self.parts.store.item(&principal.account, &principal.user, id).await;
        let missing = || {
            let message = format!("item '{id}' does not exist, or was not stored");
            Failure::invalid(format!("input[{index}].id"), message)
        };
        let row = found.map_err(|error| storage_failure(&error))?.ok_or_else(missing)?;
        let value = serde_json::from_str(&row.body).map_err(|_| missing())?;
        Ok((read_item(value, &format!("input[{index}]"))?, row.body.len() as u64))
    }
}

/// The items of a chain of responses that have ended, oldest first. Their bodies are taken.
pub(crate) fn chain_items(links: &mut [Link]) -> Result<Vec<InputItem>, Failure> {
    let mut items = Vec::new();
    for link in links {
        let input = items_of(&link.input.take().unwrap_or_default());
        let response: Value =
            serde_json::from_str(&link.response.take().unwrap_or_default()).unwrap_or_default();
        let output = match response {
            Value::Object(mut fields) => fields.remove("output"),
            _ => None,
        };
        let output = match output {
            Some(Value::Array(output)) => output,
            _ => Vec::new(),
        };
        for item in input.into_iter().chain(output) {
            items.push(read_item(item, "previous_response_id")?);
        }
    }
    Ok(items)
}

/// What a client is told about a response that can't be continued because it is not there.
pub(crate) fn previous_not_found(id: &str) -> Failure {
    let message = format!("no response {id} is stored for this key's user, or it was deleted");
    Failure {
        param: Some("previous_response_id".into()),
        ..Failure::new(ErrorCode::PreviousResponseNotFound, message)
    }
}

/// What a client is told whose conversation is larger than this node holds.
fn too_long(param: &str) -> Failure {
    let message = format!(
        "a conversation has at most {} MiB and {CHAIN_MAX} responses here, its files and pictures \
         included, and this one would have more: begin a new one with a summary of it, or send \
         less",
        CONVERSATION_BYTES_MAX / (1024 * 1024)
    );
    Failure {
        param: Some(param.to_owned().into()),
        ..Failure::new(ErrorCode::ContextLengthExceeded, message)
    }
}

#[cfg(test)]
mod tests {
    use types::ErrorCode;

    use super::{HELD_BYTES_MAX, Held};

    #[test]
    fn room_is_limited_and_comes_back() {
        let held = Held::default();
        let all = held.take(HELD_BYTES_MAX).unwrap();
        let refused = held.take(1).unwrap_err();
        assert_eq!((refused.code, refused.retry_after.is_some()), (ErrorCode::Overloaded, true));
        assert_eq!(held.bytes(), HELD_BYTES_MAX, "what was refused holds nothing");
        let open_already = held.take_anyway(10);
        drop((all, open_already));
        assert_eq!(held.bytes(), 0);
    }
}
