//! Who asks, and what the name that they ask for stands for.
pub mod directory;

use types::ids::SessionId;

/// The session of a client's own name for it (`holdfast-session: NAME`): the same for the same account, user and name.
pub fn named_session(_account: &str, _user: &str, _name: &str) -> SessionId {
    todo!()
}
