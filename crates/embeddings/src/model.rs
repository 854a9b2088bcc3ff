//! A model as it is used: read from its folder, asked for vectors.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::table::Table;

/// The file that makes a folder a model.
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "config.json";
/// The files of a model, within its folder.
pub const FILES: [&str; 3] = [WEIGHTS, TOKENIZER, CONFIG];
/// Bytes of the weights at most: the largest known ones have half a gigabyte.
const WEIGHTS_BYTES_MAX: u64 = 4 << 30;
/// Bytes of a tokenizer at most: the largest known ones have 40 MB.
const TOKENIZER_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a configuration at most.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Why a model can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is not there, or can't be read.
    #[error("{file}: {source}")]
    File {
        /// Its name.
        file: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// A file is larger than any such model's.
    #[error("{file} is larger than {bytes_max} bytes")]
    TooLarge {
        /// Its name.
        file: &'static str,
        /// What it may have.
        bytes_max: u64,
    },
    /// The configuration can't be read.
    #[error("config.json: {0}")]
    Config(#[source] serde_json::Error),
    /// The tokenizer can't be read.
    #[error("tokenizer.json: {0}")]
    Tokenizer(String),
    /// The weights can't be read, or do not fit the tokenizer.
    #[error("model.safetensors: {0}")]
    Weights(String),
    /// A text can't be split into tokens.
    #[error("the text can't be split into tokens: {0}")]
    Text(String),
}

/// Looks whether a folder can be a model: its files are there and not too large, and its
/// configuration can be read. The rest takes longer, and is for [`StaticModel::open`].
///
/// # Errors
/// What is wrong.
pub fn look(folder: &Path) -> Result<(), Error> {
    open(folder, WEIGHTS, WEIGHTS_BYTES_MAX)?;
    open(folder, TOKENIZER, TOKENIZER_BYTES_MAX)?;
    let config = read(folder, CONFIG, CONFIG_BYTES_MAX)?;
    serde_json::from_slice::<Config>(&config).map(drop).map_err(Error::Config)
}

/// A static embedding model.
#[derive(Debug)]
pub struct StaticModel {
    folder: PathBuf,
    sha256: String,
    tokenizer: Tokenizer,
    /// The token of what the vocabulary does not know: it has no meaning, and does not count.
    unknown: Option<u32>,
    table: Table,
    config: Config,
}

/// What of `config.json` matters here.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default = "yes")]
    normalize: bool,
    /// The beginnings of its vectors are vectors too. The names are those by which vLLM knows it:
    /// <https://docs.vllm.ai/en/latest/models/pooling_models.html#matryoshka-embeddings>
    #[serde(default)]
    is_matryoshka: bool,
    #[serde(default)]
    matryoshka_dimensions: Option<Vec<usize>>,
}

const fn yes() -> bool {
    true
}

/// What of `tokenizer.json` is not to be had from the tokenizer itself.
#[derive(Default, Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    model: TokenizerModel,
}

#[derive(Default, Deserialize)]
struct TokenizerModel {
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    unk_id: Option<u32>,
}

impl StaticModel {
    /// Reads a model. Blocks for as long as the disk needs: use `spawn_blocking`.
    ///
    /// # Errors
    /// The folder has not the three files, or they do not fit together.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let folder = canonical(folder)?;
        let weights = read(&folder, WEIGHTS, WEIGHTS_BYTES_MAX)?;
        let tokenizer = read(&folder, TOKENIZER, TOKENIZER_BYTES_MAX)?;
        let config = read(&folder, CONFIG, CONFIG_BYTES_MAX)?;
        let mut hasher = Sha256::new();
        for file in [&weights, &tokenizer, &config] {
            hasher.update(Sha256::digest(file));
        }
        let sha256 = data_encoding::HEXLOWER.encode(&hasher.finalize());
        let config = serde_json::from_slice(&config).map_err(Error::Config)?;
        let (tokenizer, unknown) = tokenizer_of(&tokenizer)?;
        let vocabulary = tokenizer.get_vocab(true);
        let tokens = vocabulary.values().max().map_or(0, |last| *last as usize + 1);
        let table = Table::read(&weights, tokens)?;
        Ok(Self { folder, sha256, tokenizer, unknown, table, config })
    }

    /// Where it is; absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// SHA-256 of its files' hashes, lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Numbers of a vector.
    pub const fn dimensions(&self) -> usize {
        self.table.dimensions()
    }

    /// Whether vectors may be cut to that many numbers.
    pub fn allows(&self, dimensions: usize) -> bool {
        let listed = self.config.matryoshka_dimensions.as_ref();
        let shorter = match listed {
            Some(listed) => listed.contains(&dimensions),
            None => self.config.is_matryoshka,
        };
        dimensions == self.dimensions() || (shorter && (1..self.dimensions()).contains(&dimensions))
    }

    /// Appends a text's vector to `numbers`, cut to so many; answers how many tokens the text has.
    /// A text of which no token is known has zeros.
    ///
    /// # Errors
    /// The tokenizer can't take the text.
    pub fn embed(
        &self,
        text: &str,
        dimensions: usize,
        numbers: &mut Vec<f32>,
    ) -> Result<u64, Error> {
        let encoding = self.tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|error| Error::Text(error.to_string()))?;
        let mut sum = vec![0.0; dimensions.min(self.dimensions())];
        let mut counted = 0_u32;
        let ids = encoding.get_ids();
        for id in ids.iter().filter(|id| Some(**id) != self.unknown) {
            self.table.add(*id as usize, &mut sum);
            counted += 1;
        }
        let length = match self.config.normalize {
            true => sum.iter().map(|number| number * number).sum::<f64>().sqrt(),
            false => f64::from(counted),
        };
        // Of zeros nothing else can be made.
        let scale = if length > 0.0 { length.recip() } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, reason = "vectors are of four-byte numbers")]
        numbers.extend(sum.iter().map(|number| (number * scale) as f32));
        Ok(u64::try_from(ids.len()).unwrap_or(u64::MAX))
    }
}

fn tokenizer_of(bytes: &[u8]) -> Result<(Tokenizer, Option<u32>), Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Tokenizer(error.to_string());
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| wrong(&error))?;
    // Nothing is cut unseen, and nothing padded.
    tokenizer.with_truncation(None).map_err(|error| wrong(&error))?;
    tokenizer.with_padding(None);
    let file: TokenizerFile = serde_json::from_slice(bytes).map_err(|error| wrong(&error))?;
    let named = file.model.unk_token.and_then(|token| tokenizer.token_to_id(&token));
    Ok((tokenizer, file.model.unk_id.or(named)))
}

#[expect(clippy::disallowed_methods, reason = "documented to block")]
fn canonical(folder: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(folder).map_err(|source| Error::File { file: "the folder", source })
}

/// A file, and its length.
#[expect(clippy::disallowed_methods, reason = "documented to block")]
fn open(folder: &Path, file: &'static str, bytes_max: u64) -> Result<(File, u64), Error> {
    let failed = |source| Error::File { file, source };
    let opened = File::open(folder.join(file)).map_err(failed)?;
    let length = opened.metadata().map_err(failed)?.len();
    match length > bytes_max {
        true => Err(Error::TooLarge { file, bytes_max }),
        false => Ok((opened, length)),
    }
}

fn read(folder: &Path, file: &'static str, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let (opened, length) = open(folder, file, bytes_max)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    let read = opened.take(bytes_max).read_to_end(&mut bytes);
    read.map_err(|source| Error::File { file, source })?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests;
