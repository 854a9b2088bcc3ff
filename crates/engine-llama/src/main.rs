//! `holdfast-engine`: one loaded model as a process of its own.
mod llama;
mod template;
mod vocab;
mod prompt;
mod output;
mod sampler;
mod grammar;
mod constraint;
fn main() {}
