//! What tests of several crates need: servers that misbehave on purpose.
//!
//! [`provider`] plays an upstream over real sockets, with every fault that a test can ask for.
//! Nothing here waits for time or asks the machine's clock, so a test that uses it is as fast and
//! as certain as its own code.
//!
//! Only tests depend on this crate.

pub mod provider;

pub use provider::{Reply, Request, ScriptedProvider};
