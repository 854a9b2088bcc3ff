//! What somebody means who wants a budget: a key that is there, a session that Calls will count in.
//!
//! A budget whose scope no Call falls under limits nothing, and nobody would notice. So a name is
//! looked up when the budget is made. Invariant: a session is one of (account, user, name), and
//! forks count with the session that they descend from: a budget is on that one's id.

use std::sync::Arc;

use storage::{Dimension, Key, Scope};
use types::call::NAME_CHARS_MAX;
use types::ids::SessionId;
use types::principal::Role;
use types::{ErrorCode, Failure};

use super::{Directory, NewBudget};
use crate::identify::named_session;
use crate::identify::snapshot::Snapshot;
use crate::record::storage_failure;

/// A budget's scope as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedScope {
    /// The account.
    Account,
    /// The key of this name.
    Key(String),
    /// Any other; names are looked up where there is something to look them up in.
    Of(Scope),
    /// A session: its id; or the name that one user gives it in `holdfast-session`.
    Session {
        /// Id or name.
        session: String,
        /// With a name: the key whose user gives it.
        key: Option<String>,
        /// With a name: the user who gives it.
        user: Option<String>,
    },
}

/// A scope that Calls fall under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundScope {
    /// The scope.
    pub scope: Scope,
    /// Why it is another one than was asked for, if it is.
    pub note: Option<String>,
}

impl Directory {
    /// The scope that is meant.
    ///
    /// # Errors
    /// `invalid_request` naming the field for a key, a user or a session that the account does not
    /// have, and for a session's name without its user where there are several;
    /// `storage_unavailable`.
    pub async fn scope(&self, account: &str, asked: AskedScope) -> Result<FoundScope, Failure> {
        let found = |scope| FoundScope { scope, note: None };
        match asked {
            AskedScope::Account => Ok(found(Scope::Account)),
            AskedScope::Key(name) => {
                self.user_of(account, &name)?;
                Ok(found(Scope::Key(name)))
            }
            AskedScope::Of(scope) => self.check_scope(account, &scope).map(|()| found(scope)),
            AskedScope::Session { session, key, user } => {
                if let Some(id) = SessionId::parse(&session) {
                    if key.is_some() || user.is_some() {
                        let text = "a session's id says whose it is: leave key and user out";
                        return Err(Failure::invalid("scope.session", text));
                    }
                    return self.root_of(account, &id).await;
                }
                let user = self.user(account, key, user, &session)?;
                let id = named_session(account, &user, &session);
                let note = format!("{id} is the session that user {user} names `{session}`");
                Ok(FoundScope { scope: Scope::Session(id.as_str().to_owned()), note: Some(note) })
            }
        }
    }

    /// Whether Calls can fall under a budget with this scope.
    fn check_scope(&self, account: &str, scope: &Scope) -> Result<(), Failure> {
        check_scope_names(scope)?;
        let snapshot = self.snapshot();
        let (field, what, name, is_there) = match scope {
            Scope::User(user) => {
                let has_it = |key: &Arc<Key>| key.account == account && key.user == *user;
                let is_there = snapshot.rows.keys.values().any(has_it);
                ("scope.user", "key of a user", user, is_there)
            }
            Scope::Route(route) => {
                let is_there = self.routes().iter().any(|known| known.name == *route);
                ("scope.route", "route", route, is_there)
            }
            Scope::Model(model) => {
                let now = self.parts.clock.now();
                ("scope.model", "model", model, snapshot.plan(model, now).is_some())
            }
            Scope::Provider(provider) => {
                let mut providers = snapshot.upstreams.providers.iter();
                let is_there = providers.any(|known| known.name == *provider);
                ("scope.provider", "provider", provider, is_there)
            }
            Scope::Account
            | Scope::Key(_)
            | Scope::Session(_)
            | Scope::Task(_)
            | Scope::Class(_)
            | Scope::Metadata { .. }
            | Scope::Gateway(_)
            | Scope::Each(_) => return Ok(()),
        };
        if is_there {
            return Ok(());
        }
        Err(Failure::invalid(field, format!("there is no {what} `{name}` here")))
    }

    /// The session that counts for `id`: the one that it descends from.
    async fn root_of(&self, account: &str, id: &SessionId) -> Result<FoundScope, Failure> {
        let session = self.parts.store.session(id).await;
        let session = session.map_err(|error| storage_failure(&error))?;
        let Some(session) = session.filter(|session| session.account == account) else {
            let text = format!("there is no session {id} in this account");
            return Err(Failure::invalid("scope.session", text));
        };
        let note = (session.root != *id).then(|| {
            format!("{id} is a fork: what counts is {}, with all its forks", session.root)
        });
        Ok(FoundScope { scope: Scope::Session(session.root.as_str().to_owned()), note })
    }

    /// The user whose session of this name is meant.
    fn user(
        &self,
        account: &str,
        key: Option<String>,
        user: Option<String>,
        session: &str,
    ) -> Result<String, Failure> {
        if session.is_empty() || session.chars().count() > NAME_CHARS_MAX {
            let text = format!("a session's name has 1 to {NAME_CHARS_MAX} characters");
            return Err(Failure::invalid("scope.session", text));
        }
        match (key, user) {
            (Some(_), Some(_)) => {
                Err(Failure::invalid("scope.user", "give the key or the user, not both"))
            }
            (Some(key), None) => self.user_of(account, &key),
            (None, Some(user)) if self.keys(account).iter().any(|key| key.user == user) => Ok(user),
            (None, Some(user)) => {
                let text = format!("no key of this account is of a user `{user}`");
                Err(Failure::invalid("scope.user", text))
            }
            (None, None) => only_user(&self.snapshot(), account).ok_or_else(|| whose(session)),
        }
    }

    fn user_of(&self, account: &str, key: &str) -> Result<String, Failure> {
        let unknown = || {
            let text = format!("the account has no key named `{key}`");
            Failure::invalid("scope.key", text)
        };
        self.key_named(account, key).map(|key| key.user).ok_or_else(unknown)
    }
}

/// Whether the names in a scope are no longer than those that Calls can have.
///
/// # Errors
/// `invalid_request` naming the field.
pub fn check_scope_names(scope: &Scope) -> Result<(), Failure> {
    let (field, name) = match scope {
        Scope::Account => return Ok(()),
        Scope::Each(Dimension::Metadata(name)) => ("scope.each.metadata", name),
        Scope::Each(_) => return Ok(()),
        Scope::Metadata { name, value } => {
            check_name("scope.metadata.value", value)?;
            ("scope.metadata.name", name)
        }
        Scope::Key(name) => ("scope.key", name),
        Scope::Session(name) => ("scope.session", name),
        Scope::User(name) => ("scope.user", name),
        Scope::Task(name) => ("scope.task", name),
        Scope::Class(name) => ("scope.class", name),
        Scope::Route(name) => ("scope.route", name),
        Scope::Gateway(name) => ("scope.gateway", name),
        Scope::Model(name) => ("scope.model", name),
        Scope::Provider(name) => ("scope.provider", name),
    };
    check_name(field, name)
}

pub(super) fn check_name(field: &str, name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        let text = format!("must have 1 to {NAME_CHARS_MAX} characters");
        return Err(Failure::invalid(field, text));
    }
    Ok(())
}

/// A session's name in a budget that says no more (the configuration file's) is taken as long as
/// one user can be meant.
pub(super) fn check_session_name(snapshot: &Snapshot, new: &NewBudget) -> Result<(), Failure> {
    match &new.scope {
        Scope::Session(name)
            if SessionId::parse(name).is_none() && only_user(snapshot, &new.account).is_none() =>
        {
            Err(whose(name))
        }
        Scope::Session(_)
        | Scope::Account
        | Scope::Key(_)
        | Scope::User(_)
        | Scope::Task(_)
        | Scope::Class(_)
        | Scope::Metadata { .. }
        | Scope::Route(_)
        | Scope::Gateway(_)
        | Scope::Model(_)
        | Scope::Provider(_)
        | Scope::Each(_) => Ok(()),
    }
}

/// The user of all keys that are made for Calls, if it is one.
fn only_user(snapshot: &Snapshot, account: &str) -> Option<String> {
    let of_account = snapshot.rows.keys.values().filter(|key| key.account == account);
    let mut users = of_account.filter(|key| key.role == Role::Member).map(|key| &key.user);
    let user = users.next()?;
    users.all(|other| other == user).then(|| user.clone())
}

fn whose(session: &str) -> Failure {
    let text = format!(
        "several users may have a session named `{session}`: say whose it is, with its key's name \
         (`key`) or its user (`user`), or give the session's id"
    );
    Failure { param: Some("scope.session".into()), ..Failure::new(ErrorCode::InvalidRequest, text) }
}
