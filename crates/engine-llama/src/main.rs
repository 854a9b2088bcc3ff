//! `holdfast-engine`: one loaded model as a process of its own.
//!
//! `serve` loads a GGUF file, connects to its parent's unix socket and speaks `engine::protocol`
//! until the parent hangs up or SIGTERM comes; then it saves every session and ends. What the model
//! makes of a text, an answer (`scheduler.rs`) or a vector (`vectors.rs`), its file says.
//! `make-random-model` writes a model of random weights for benches and tests. It is started by
//! `holdfast`, never by hand.

mod connection;
mod constraint;
mod grammar;
mod job;
mod kv_store;
mod llama;
mod output;
mod prepare;
mod prompt;
mod random_model;
mod sampler;
mod scheduler;
mod serve;
mod template;
mod texts;
mod vectors;
mod vocab;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The engine of Holdfast; started by `holdfast`.
#[derive(Debug, Parser)]
#[command(name = "holdfast-engine", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a model and serve the parent behind a socket.
    Serve(serve::Options),
    /// Write a model of random weights, for benches and tests.
    MakeRandomModel(random_model::Options),
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Serve(options) => serve::serve(&options),
        Command::MakeRandomModel(options) => random_model::write(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
