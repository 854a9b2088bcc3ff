//! What tests of several crates need: servers that misbehave on purpose.
//!
//! [`provider`] plays an upstream over real sockets, with every fault that a test can ask for. It
//! neither waits for time nor asks the machine's clock, so a test that uses it is as fast and as
//! certain as its own code. [`faults`] is a program of its own that does wait, for suites that
//! judge a running server from outside.
//!
//! Only tests depend on this crate.

pub mod faults;
pub mod provider;

pub use provider::{Reply, Request, ScriptedProvider};
