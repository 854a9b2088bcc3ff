//! Wire formats, both ways: bytes of a vendor's API ↔ the neutral words of `types`.
//!
//! Each format is a folder with the same files: `types` (its own shapes), `request`, `response`,
//! `stream` and `errors`, each with parsing and rendering side by side. [`sse`] is the framing that
//! streams share.
//!
//! Invariant: no I/O, no clock, no randomness. Everything here is a function of its input, so
//! rendering a growing history is append-only and every answer can be replayed. It must not know a
//! provider, a price or an HTTP route.
#![warn(missing_docs)]

pub mod anthropic_messages;
pub mod bedrock_converse;
pub mod cloudflare_gateway;
pub mod cloudflare_run;
mod edit;
pub mod embeddings;
mod escapes;
mod eventstream;
mod fold;
pub mod gemini;
mod head;
mod ids;
mod items;
mod json;
mod marks;
mod media;
mod object;
mod openai;
pub mod openai_chat;
pub mod openai_responses;
mod seal;
pub mod sse;
mod weight;
mod whole;

pub use anthropic_messages::ANTHROPIC_MESSAGES;
pub use bedrock_converse::BEDROCK_CONVERSE;
pub use cloudflare_run::CLOUDFLARE_RUN;
pub use gemini::GEMINI;
pub use marks::mark_name;
pub use openai_chat::OPENAI_CHAT;
pub use openai_responses::OPENAI_RESPONSES;
pub use seal::is_carried;
