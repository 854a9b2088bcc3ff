//! HTTP only: what a client sends becomes a Call or a question to a crate below, and the answer
//! becomes HTTP.
//!
//! [`listener`] accepts and speaks HTTP/1.1, [`router`] picks a door by method and path, `openai`,
//! `anthropic`, `gemini` and `cloudflare` hold the doors of those APIs, [`api`] Holdfast's own;
//! what doors of plain model Calls have in common is in `inference`. [`errors`] picks a format's
//! rendering of a failure by door. The data path is hyper with nothing between it and the pipeline;
//! `/api` is axum.
//!
//! Invariant: no door re-implements a stage of the pipeline, reads usage or knows a provider;
//! nothing here touches the store except through `/api`'s questions and [`readiness`]'s.
#![warn(missing_docs)]

mod anthropic;
mod api;
mod app;
mod body;
mod cloudflare;
mod control;
mod delivery;
mod errors;
mod gemini;
mod inference;
mod listener;
mod models;
mod openai;
mod readiness;
mod request;
mod router;

pub use api::{SloView, SloWindow, SloWindows, openapi};
pub use app::{
    App, ConfigView, Host, HostFuture, KeyLimitsView, LimitView, Limits, ModelLimitsView,
    ObjectView, PartHealth, ProviderLimitsView,
};
pub use control::{ConfigProblem, Control, ObjectChange, Refusal, ReloadView, RoutePut};
pub use listener::{Listener, ListenerHandle};
pub use readiness::StoreHealth;
