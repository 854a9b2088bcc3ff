//! OpenAI's embeddings (`/v1/embeddings`): texts in, vectors out.
//!
//! An operation of servers that speak [`crate::openai_chat`], with requests and answers of its own:
//! its errors and its way of editing bytes are that format's. [`request`] reads what every stage
//! needs, and the whole of a request for a model of our own; [`response`] reads a provider's answer
//! and writes one of ours.
//!
//! Invariant: numbers and base64 pass as they came; of an answer only the usage and the model are
//! read. Must not know how a vector is computed.

mod request;
mod response;

pub use request::{Ask, Encoding, TEXTS_MAX, ask, read_head};
pub use response::{Vectors, render};

pub(crate) use response::reader;
