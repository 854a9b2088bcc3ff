//! Which tool servers there are now, and which ones open turns began with.
//!
//! A turn keeps to the servers of its beginning: what it offered its model is what it calls, with
//! the effects that were declared by then. It does so for [`RETIRED_MAX`] after they were replaced;
//! from then on it has those of now. Who may use a server is always as it is said now. It must not
//! know processes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use types::ids::SessionId;
use types::{ErrorCode, Failure, Principal};

use super::ToolServer;

/// How long a turn may go on with servers that are configured no more, or otherwise.
pub const RETIRED_MAX: Duration = Duration::from_mins(10);

/// The servers of one configuration, by name.
type Named = BTreeMap<String, Arc<ToolServer>>;

/// The servers of now and of open turns.
#[derive(Debug, Default)]
pub(super) struct Configured(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    now: Arc<Named>,
    /// Of each session's open turn.
    turns: HashMap<SessionId, Arc<Turn>>,
}

/// A turn that keeps to the servers of its beginning.
#[derive(Debug)]
pub(super) struct Turn(Arc<Named>);

/// The servers of one configuration that was replaced.
pub(super) struct Replaced(Arc<Named>);

impl Configured {
    pub(super) fn new(servers: Vec<ToolServer>) -> Self {
        let configured = Self::default();
        configured.replace(servers);
        configured
    }

    /// These are there from now on.
    pub(super) fn replace(&self, servers: Vec<ToolServer>) -> Replaced {
        let mut state = self.write();
        let kept =
            |server: &ToolServer| state.now.get(&server.name).filter(|now| ***now == *server);
        let named = |server: ToolServer| {
            let same = kept(&server).cloned();
            (server.name.clone(), same.unwrap_or_else(|| Arc::new(server)))
        };
        let next = Arc::new(servers.into_iter().map(named).collect());
        Replaced(std::mem::replace(&mut state.now, next))
    }

    /// Whether a turn keeps to servers that were replaced.
    pub(super) fn is_kept(&self, replaced: &Replaced) -> bool {
        self.read().turns.values().any(|turn| Arc::ptr_eq(&turn.0, &replaced.0))
    }

    /// No turn keeps to servers that were replaced.
    pub(super) fn forget(&self, replaced: &Replaced) {
        self.write().turns.retain(|_, turn| !Arc::ptr_eq(&turn.0, &replaced.0));
    }

    /// A session's turn keeps to the servers of now.
    pub(super) fn keep(&self, session: &SessionId) -> Arc<Turn> {
        let mut state = self.write();
        let turn = Arc::new(Turn(Arc::clone(&state.now)));
        state.turns.insert(session.clone(), Arc::clone(&turn));
        turn
    }

    /// A turn has ended.
    pub(super) fn release(&self, session: &SessionId, turn: &Arc<Turn>) {
        let mut state = self.write();
        if state.turns.get(session).is_some_and(|kept| Arc::ptr_eq(kept, turn)) {
            state.turns.remove(session);
        }
    }

    /// The server of that name, as the session's open turn has it.
    pub(super) fn server(
        &self,
        name: &str,
        session: Option<&SessionId>,
    ) -> Option<Arc<ToolServer>> {
        let state = self.read();
        let turn = session.and_then(|session| state.turns.get(session));
        let kept = turn.and_then(|turn| turn.0.get(name));
        kept.or_else(|| state.now.get(name)).cloned()
    }

    /// The same, if `principal` may use it.
    pub(super) fn allowed(
        &self,
        name: &str,
        session: Option<&SessionId>,
        principal: &Principal,
    ) -> Result<Arc<ToolServer>, Failure> {
        let key = &principal.key_name;
        let server = self.server(name, session);
        let now = self.read().now.get(name).cloned();
        let allows = now.or_else(|| server.clone()).is_some_and(|now| now.allows(principal));
        let message = match server {
            Some(server) if allows => return Ok(server),
            Some(_) => format!(
                "the tool server {name:?} is not configured for the key {key:?}: name the key in \
                 its `keys`"
            ),
            None => format!(
                "no tool server {name:?} is configured: `server_label` is the `name` of one under \
                 [[mcp_servers]]"
            ),
        };
        Err(Failure::new(ErrorCode::PermissionDenied, message))
    }

    /// The processes that somebody may still ask for: names, and what is run.
    pub(super) fn programs(&self) -> HashSet<(String, String)> {
        let state = self.read();
        let kept = state.turns.values().map(|turn| &turn.0);
        let all = kept.chain([&state.now]).flat_map(|named| named.values());
        all.map(|server| (server.name.clone(), server.program())).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
