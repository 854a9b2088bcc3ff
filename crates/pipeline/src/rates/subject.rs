//! Whom a limit counts apart, and whose turn it is when several wait.

use std::sync::Arc;

use types::Call;
use types::ids::{CallId, KeyId, SessionId};

/// Who is counted apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Key(KeyId),
    User(Arc<str>),
    Session(SessionId),
    Task(Arc<str>),
}

/// A limit that holds for each of them by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Each {
    /// For each key.
    Key,
    /// For each user.
    User,
    /// For each session, forks with what they descend from; what is in none counts as its key's.
    Session,
    /// For each task that its client named; what is in none counts as its key's.
    Task,
}

impl Each {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Key, Self::User, Self::Session, Self::Task];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Session => "session",
            Self::Task => "task",
        }
    }

    /// In the plural, for messages.
    pub(super) const fn names(self) -> &'static str {
        match self {
            Self::Key => "keys",
            Self::User => "users",
            Self::Session => "sessions",
            Self::Task => "tasks",
        }
    }
}

impl Subject {
    /// Who of `each` it is that asks.
    pub(super) fn of(each: Each, asking: &super::Asking<'_>) -> Self {
        let key = || Self::Key(asking.principal.key.clone());
        match each {
            Each::Key => key(),
            Each::User => Self::User(Arc::clone(&asking.principal.user)),
            Each::Session => asking.session.cloned().map_or_else(key, Self::Session),
            Each::Task => asking.task.map_or_else(key, |task| Self::Task(Arc::from(task))),
        }
    }

    /// Whose turn it is: the session's, else the task's, else the key's.
    pub(super) fn flow(asking: &super::Asking<'_>) -> Self {
        let each = if asking.session.is_some() { Each::Session } else { Each::Task };
        Self::of(each, asking)
    }
}

/// The task of a Call, if its client named one: else it is the id of the Call that began it.
pub(super) fn named_task(call: &Call) -> Option<&str> {
    let named = CallId::parse(&call.task).is_none();
    named.then_some(&*call.task)
}
