//! Static embedding models: a text's vector is the mean of its tokens' rows of a table.
//!
//! Such a model is a folder in model2vec's form, `model.safetensors`, `tokenizer.json` and
//! `config.json`. [`StaticModel`] reads one and turns texts into vectors, in microseconds and
//! without a process of its own; [`StaticModels`] does so for Calls.
//!
//! Invariant: what was read is checked, so that no text can ask for a row that is not there. Must
//! not know a door, a price, or where models are configured.
#![warn(missing_docs)]

mod execute;
mod model;
mod table;

pub use execute::StaticModels;
pub use model::{Error, FILES, StaticModel, look};
