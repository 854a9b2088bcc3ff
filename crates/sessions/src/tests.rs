//! Whole turns on the real store, the real pipeline and a real tool server; only the model is
//! scripted.

mod crash;
mod forget;
mod history;
mod limits;
mod node;
mod orphans;
mod posts;
mod store;
mod turns;
mod waits;
