//! What a turn goes on from: the items of the responses before it, and its new input.
//!
//! All of it is in memory while the turn is open, so how large one conversation may be, and how
//! large all of them together and all of one user, is limited, and known before any of it is read.
//! A turn's room grows with it. A history is whole or refused: an answer that silently lacks a part
//! of it would be another answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
/// Bytes of those of one user at most: whatever one key asks for, there is room for others.
const USER_HELD_BYTES_MAX: u64 = HELD_BYTES_MAX / 2;
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
pub(crate) struct Held(Arc<Mutex<Totals>>);

#[derive(Debug, Default)]
struct Totals {
    all: u64,
    /// Of each user who has an open turn.
    users: HashMap<Arc<str>, u64>,
}

/// The part of one of them, while it lives.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Held,
    user: Arc<str>,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, user: &Arc<str>, bytes: u64) {
        self.all = self.all.saturating_add(bytes);
        let users = self.users.entry(Arc::clone(user)).or_default();
        *users = users.saturating_add(bytes);
    }

    fn give_back(&mut self, user: &Arc<str>, bytes: u64) {
        self.all = self.all.saturating_sub(bytes);
        if let Some(users) = self.users.get_mut(user) {
            *users = users.saturating_sub(bytes);
            if *users == 0 {
                self.users.remove(user);
            }
        }
    }

    /// Refuses more than all may hold, and more than one user may.
    fn within_limits(&self, user: &Arc<str>) -> Result<(), Failure> {
        if self.users.get(user).is_some_and(|bytes| *bytes > USER_HELD_BYTES_MAX) {
            return Err(no_room("of this key's user", "one user's"));
        }
        match self.all > HELD_BYTES_MAX {
            true => Err(no_room("of this node", "they")),
            false => Ok(()),
        }
    }
}

fn no_room(whose: &str, who: &str) -> Failure {
    let message = format!(
        "the open turns {whose} hold as much history as {who} may; try again when some have ended"
    );
    Failure::new(ErrorCode::Overloaded, message).retry_after(NO_ROOM_RETRY)
}

impl Held {
    /// Takes room for a conversation of this user.
    fn take(&self, user: &Arc<str>, bytes: u64) -> Result<Hold, Failure> {
        let mut hold = self.take_anyway(user, 0);
        hold.grow(bytes)?;
        Ok(hold)
    }

    /// Bytes that are taken.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.totals().all
    }

    /// Takes room for the conversation of a turn that is open already.
    pub(crate) fn take_anyway(&self, user: &Arc<str>, bytes: u64) -> Hold {
        self.totals().add(user, bytes);
        Hold { held: self.clone(), user: Arc::clone(user), bytes }
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Bytes that it has taken.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more room, or none if there is not enough.
    ///
    /// # Errors
    /// `overloaded`.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Failure> {
        let mut totals = self.held.totals();
        totals.add(&self.user, bytes);
        if let Err(failure) = totals.within_limits(&self.user) {
            totals.give_back(&self.user, bytes);
            return Err(failure);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Takes room that is in use already.
    pub(crate) fn grow_anyway(&mut self, bytes: u64) {
        self.held.totals().add(&self.user, bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Gives room back.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.held.totals().give_back(&self.user, bytes);
        self.bytes -= bytes;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.totals().give_back(&self.user, self.bytes);
    }
}

/// Whose room it is.
pub(crate) fn owner(account: &str, user: &str) -> Arc<str> {
    // Neither has a line break: both are ids.
    format!("{account}\n{user}").into()
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
            return Err(ancestor_not_found(id, gone.id.as_str()));
        }
        if !chain.fits {
            return Err(too_long("previous_response_id"));
        }
        let items = chain_items(&mut chain.links)?;
        Ok(Before { items, previous: chain.links.pop(), bytes: chain.bytes.saturating_add(body) })
    }

    /// Room for the conversation while its turn is open.
    pub(crate) fn room_for(&self, asked: &Asked, before: &Before) -> Result<Hold, Failure> {
        let principal = &asked.principal;
        self.held.take(&owner(&principal.account, &principal.user), before.bytes)
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

/// What a client is told about a response that can't be continued because one before it is gone.
fn ancestor_not_found(id: &str, gone: &str) -> Failure {
    let message = format!(
        "response {id} can't be continued: response {gone}, which it continues, was deleted, so \
         that its history is not whole. Begin a new conversation"
    );
    Failure { message, ..previous_not_found(id) }
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

    use super::{HELD_BYTES_MAX, Held, USER_HELD_BYTES_MAX, owner};

    #[test]
    fn room_is_limited_and_comes_back() {
        let (held, [ada, bob, eve]) =
            (Held::default(), ["ada", "bob", "eve"].map(|u| owner("a", u)));
        let half = held.take(&ada, USER_HELD_BYTES_MAX).unwrap();
        let mut other = held.take(&bob, HELD_BYTES_MAX - USER_HELD_BYTES_MAX - 5).unwrap();
        other.grow(5).unwrap();
        let refused = held.take(&eve, 1).unwrap_err();
        assert_eq!((refused.code, refused.retry_after.is_some()), (ErrorCode::Overloaded, true));
        assert_eq!(other.grow(1).unwrap_err().code, ErrorCode::Overloaded);
        assert_eq!(held.bytes(), HELD_BYTES_MAX, "what was refused holds nothing");
        other.shrink(3);
        assert_eq!((other.bytes(), held.bytes()), (USER_HELD_BYTES_MAX - 3, HELD_BYTES_MAX - 3));
        let open_already = held.take_anyway(&eve, 10);
        drop((half, other, open_already));
        assert_eq!(held.bytes(), 0);
        assert!(held.totals().users.is_empty());
    }

    #[test]
    fn one_user_leaves_room_for_others() {
        let (held, ada, bob) = (Held::default(), owner("a", "ada"), owner("a", "bob"));
        let all_of_hers = held.take(&ada, USER_HELD_BYTES_MAX).unwrap();
        let refused = held.take(&ada, 1).unwrap_err();
        assert_eq!((refused.code, refused.retry_after.is_some()), (ErrorCode::Overloaded, true));
        assert!(refused.message.contains("this key's user"), "{}", refused.message);
        held.take(&bob, USER_HELD_BYTES_MAX).unwrap();
        drop(all_of_hers);
        held.take(&ada, 1).unwrap();
    }
}
