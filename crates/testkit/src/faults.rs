//! A provider that fails in sixteen ways, and in some more: what the suite `faults` judges by.
//!
//! One process plays a primary and its fallback, in several wire formats. The model's name says
//! which fault a request meets (`s04-anything`: the fourth); every other model is healthy. What a
//! fault remembers ("once", "down for a minute") is kept per name, so that checks don't disturb
//! each other. A healthy answer is always the same sixty words: a part of it can't pass for it.
//!
//! [`answers`] has the texts of each format, [`script`] decides what a request meets (values in,
//! values out), [`server`] speaks them over raw sockets and writes down what clients did.

mod answers;
mod script;
mod server;

pub use answers::WORDS;
pub use script::Fault;
pub use server::{Options, run};
