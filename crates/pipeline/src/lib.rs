//! The pipeline, written once: identify → admit → route → execute → record. Read [`run`] first.
//!
//! Doors hand an [`types::Incoming`] to [`Pipeline::run`] and read an [`Answer`]; a session's loop
//! uses the same stages in [`steps`], where money is held and settled by rows of the session's own
//! commits. [`Directory`] is what `identify` looks names up in, and where administration writes.
//!
//! Invariants: every admitted Call ends in the ledger, abandoned ones too; no hard budget is ever
//! passed; a plain Call waits for no disk unless a budget's slice is used up. This crate must not
//! know a provider, an engine, a wire format or an HTTP route by name: whoever does Calls is
//! registered under a provider's name as [`types::Execute`].
#![warn(missing_docs)]

pub mod admit;
pub mod auto;
mod child;
pub mod context;
pub mod execute;
pub mod identify;
pub mod rates;
pub mod record;
pub mod route;
pub mod run;
pub mod slo;
pub mod status;
pub mod steps;

pub use context::{ContextNote, SummaryNote};
pub use identify::directory::{
    AskedScope, Change, Directory, DirectoryParts, Executors, FoundScope, Held, ModelLimits,
    MoreMoney, NewBudget, NewKey, ProviderInfo, RouteInfo, Upstreams, check_scope_names,
};
pub use identify::named_session;
pub use identify::prices::PriceList;
pub use rates::{Asking, RateLimit, RateLimits};
pub use record::answer::{Answer, Bill};
pub use record::telemetry::{AttemptEnded, CallEnded, Observer, Telemetry, Told};
pub use run::{Elsewhere, Parts, Pipeline, Refused};
pub use slo::{Alert, AlertSink, SloSettings, SloStatus, Slos};
pub use status::{BudgetStatus, Charged, Reconciliation};
pub use steps::{StepAdmission, StepIntent, StepRun, StepTries};
