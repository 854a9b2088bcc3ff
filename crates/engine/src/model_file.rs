//! What is known of a model file before it is loaded: `models add ./x.gguf` shows and stores this.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::gguf::{self, Header};

/// Bytes that are hashed at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Architectures that read a text as a whole and generate nothing, as llama.cpp names them.
const ENCODERS: [&str; 11] = [
    "bert",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "llama-embed",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "t5encoder",
];

/// What a model makes of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Text that goes on.
    #[default]
    Generate,
    /// One vector.
    Embed,
}

/// A model file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// Its length.
    pub size_bytes: u64,
    /// SHA-256 of all of it, lower-case hexadecimal.
    pub sha256: String,
    /// Architecture as it names it, such as `llama`.
    pub architecture: String,
    /// What it makes of a text.
    #[serde(default)]
    pub task: Task,
    /// Its own name for itself, if it has one.
    pub name: Option<String>,
    /// Tokens that it was trained to hold, if it says so.
    pub context_length: Option<u64>,
    /// SHA-256 of its chat template, lower-case hexadecimal, if it has one.
    pub template_sha256: Option<String>,
}

/// Reads a model file's header and hashes all of it. Blocks for as long as the disk needs: use
/// `spawn_blocking`.
///
/// # Errors
/// The file can't be read, or is no GGUF model that can be asked; see [`gguf::Error`].
#[expect(clippy::disallowed_methods, reason = "documented to block")]
pub fn inspect(path: &Path) -> Result<ModelFile, gguf::Error> {
    let path = std::fs::canonicalize(path)?;
    let mut file = File::open(&path)?;
    let size_bytes = file.metadata()?.len();
    let header = Header::read(&file, size_bytes)?;
    let (architecture, task) = kind(&header)?;
    let architecture = architecture.to_owned();
    let context_length = header.number(&format!("{architecture}.context_length"));
    let template = header.text("tokenizer.chat_template").filter(|text| !text.is_empty());
    let template_sha256 = template.map(|text| hex(&Sha256::digest(text)));
    let name = header.text("general.name").map(str::to_owned);
    file.rewind()?;
    let sha256 = sha256_of(&mut file)?;
    Ok(ModelFile {
        path,
        size_bytes,
        sha256,
        architecture,
        task,
        name,
        context_length,
        template_sha256,
    })
}

/// A model's architecture, and what it is for. The numbers are llama.cpp's `llama_pooling_type`:
/// how the vectors of a text's tokens become one.
///
/// # Errors
/// The header names no architecture, or the model is of a kind that can't be asked.
pub fn kind(header: &Header) -> Result<(&str, Task), gguf::Error> {
    let architecture = header.text("general.architecture");
    let architecture = architecture.ok_or(gguf::Error::Missing("general.architecture"))?;
    Ok((architecture, task(header, architecture)?))
}

fn task(header: &Header, architecture: &str) -> Result<Task, gguf::Error> {
    let is_encoder = ENCODERS.contains(&architecture);
    match header.number(&format!("{architecture}.pooling_type")) {
        Some(1..=3) => Ok(Task::Embed),
        Some(4) => Err(gguf::Error::Unserved(
            "this model ranks texts (pooling_type rank), which is not offered",
        )),
        None | Some(0) if is_encoder => Err(gguf::Error::Unserved(
            "this model gives a vector for each token and says no way to make one of them \
             (its pooling_type is none): mean, cls and last are served",
        )),
        None | Some(0) => Ok(Task::Generate),
        Some(_) => Err(gguf::Error::Unserved(
            "this model's pooling_type is unknown: mean, cls and last are served",
        )),
    }
}

fn sha256_of(file: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&chunk[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
