//! OpenAI's chat completions.
pub mod errors;
