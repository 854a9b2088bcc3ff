//! Our side of local inference: the protocol of `holdfast-engine`, its supervisor, and what we read
//! of model files.
//!
//! Start at [`protocol`].
#![warn(missing_docs)]

pub mod execute;
pub mod gguf;
pub mod model_file;
pub mod protocol;
pub mod session_file;
pub mod supervisor;

pub use execute::LocalModels;
pub use model_file::{ModelFile, Task, inspect};
pub use supervisor::{Engine, Engines, Options};
