//! Providers: upstreams that do model Calls over HTTP.
//!
//! Read [`provider`] first (what is configured), then [`executor`] (a Call as one HTTP exchange)
//! and [`http`] (connections). A vendor is a row of data in `vendors/`; code exists here only where
//! a vendor really differs.
//!
//! Which of its keys a Call goes with is in [`keys`], what is known of their limits in [`limits`].
//!
//! Invariant: one attempt is one HTTP request, never retried here unless its key was refused and
//! there is another, and ends in exactly one `Finish` or `Failed` that says whether money may have
//! been spent. Bytes are passed through when the
//! client's format is the provider's own. Must not know budgets, prices, stores or routes.
#![warn(missing_docs)]

pub mod aws;
pub mod executor;
pub mod family;
pub mod http;
mod keys;
pub mod limits;
pub mod provider;
mod redact;
pub mod trace;
mod vault;
pub mod vendor;

pub use executor::{HttpExecutor, executor};
pub use http::Timeouts;
pub use limits::Limits;
pub use provider::{ConfigError, Provider};
pub use vault::Vault;
pub use vendor::{Vendor, vendor, vendors};
