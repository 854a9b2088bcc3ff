//! What every crate shares: the words of the design as types, and no I/O.
//!
//! Read [`call`] first (what is asked), then [`outcome`] (what comes back), [`execute`] (who does
//! it) and [`format`] (how a wire format is read and written). [`money`], [`price`] and [`usage`]
//! are the bill, [`error`] the closed list of what can go wrong, [`ids`], [`clock`] the seams
//! through which time, randomness and ids come so that tests can fix them, and [`launch`] how a
//! child process is started.
//!
//! Invariant: this crate depends on no other crate of the workspace and touches no file, socket or
//! process. It must not know a vendor, a wire format, a table or an HTTP route.
#![warn(missing_docs)]

pub mod auto;
pub mod call;
pub mod cascade;
pub mod clock;
pub mod context;
pub mod conversation;
pub mod error;
pub mod estimate;
pub mod execute;
pub mod format;
pub mod ids;
pub mod launch;
pub mod metadata;
pub mod money;
pub mod notes;
pub mod outcome;
pub mod price;
pub mod principal;
pub mod secret;
pub mod surcharge;
pub mod trace;
pub mod usage;

pub use call::{
    Call, CallKind, CommonHeaders, Incoming, ModelCall, ModelHead, Operation, Plan, Target,
};
pub use clock::{Clock, Timestamp};
pub use conversation::Conversation;
pub use error::{ErrorCode, Failure};
pub use execute::{Attempt, Execute, Sent};
pub use format::Format;
pub use ids::Ids;
pub use metadata::Metadata;
pub use money::{Money, Rate};
pub use notes::Notes;
pub use outcome::{Delta, OutcomeEvent, OutcomeStream, Stop};
pub use price::{CacheWrites, Extras, Price, Rates};
pub use principal::Principal;
pub use secret::Secret;
pub use trace::TraceParent;
pub use usage::{ServiceTier, Usage};
