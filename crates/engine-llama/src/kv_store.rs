//! Session state on disk: `<folder>/<account>/<hash of the session>.kv`, written whole and renamed
//! into place.
//!
//! A file is trusted only if everything in it matches: magic, version, fingerprint of model and
//! state format, owner, and a BLAKE3 checksum over all of it. Anything else is deleted and counted,
//! and the prompt is computed again. The folder belongs to one model; nobody else writes it (its
//! lock is held for the life of this process). A quota in bytes is kept by deleting what was unused
//! longest.
//!
//! It must not know tokens' meaning, sequences or requests. All of it blocks: it runs on a thread
//! of its own.
#![expect(clippy::disallowed_methods, reason = "blocking files are this thread's whole work")]

#[cfg(test)]
mod tests;
mod thread;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(crate) use thread::{Reply, Request, Saved, StoreThread};

use crate::llama::Token;

const MAGIC: &[u8; 8] = b"HOLDFKV\0";
const VERSION: u32 = 1;
/// Magic, version, fingerprint, owner, count of held tokens, count of tail tokens, bytes of state.
const HEAD_BYTES: usize = 8 + 4 + 32 + 32 + 4 + 4 + 8;
const CHECKSUM_BYTES: usize = 32;
/// The largest file that is read: more than any context that fits a machine.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// Whose state it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// The account.
    pub(crate) account: String,
    /// The session.
    pub(crate) session: String,
}

impl Owner {
    /// Binds a file to its owner, so that a file that was moved is not taken for another's.
    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.account.len() as u64).to_le_bytes());
        hasher.update(self.account.as_bytes());
        hasher.update(self.session.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// A session's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Tokens whose state is held, in order.
    pub(crate) held: Vec<Token>,
    /// Tokens that were generated behind them and have no state.
    pub(crate) tail: Vec<Token>,
    /// The state, as llama.cpp wrote it.
    pub(crate) bytes: Vec<u8>,
}

/// What a look at the disk found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The session's state.
    State(State),
    /// Nothing.
    Nothing,
    /// A file that did not match; it is deleted.
    Discarded,
}

/// The files of one model.
#[derive(Debug)]
pub(crate) struct KvStore {
    folder: PathBuf,
    fingerprint: [u8; 32],
    quota_bytes: u64,
    bytes: u64,
}

impl KvStore {
    /// Opens the folder of one model, making it if needed. `fingerprint`: of the model and of how
    /// state is laid out.
    ///
    /// # Errors
    /// The folder can't be made or read.
    pub(crate) fn open(
        folder: PathBuf,
        fingerprint: [u8; 32],
        quota_bytes: u64,
    ) -> io::Result<Self> {
        make_private_folder(&folder)?;
        let mut store = Self { folder, fingerprint, quota_bytes, bytes: 0 };
        for file in store.files()? {
            // Left behind by a process that died while it wrote.
            if file.path.extension().is_some_and(|extension| extension == "tmp") {
                remove(&file.path);
            } else {
                store.bytes += file.bytes;
            }
        }
        store.keep_quota(None)?;
        Ok(store)
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn path(&self, owner: &Owner) -> PathBuf {
        engine::session_file::path(&self.folder, &owner.account, &owner.session)
    }

    /// Writes a session's state; the old one stays until the new one is whole.
    ///
    /// # Errors
    /// The disk can't take it; the old state is still there.
    pub(crate) fn save(&mut self, owner: &Owner, state: &State) -> io::Result<()> {
        let path = self.path(owner);
        if let Some(folder) = path.parent() {
            make_private_folder(folder)?;
        }
        let head = self.head(owner, state)?;
        let temporary = path.with_extension("tmp");
        let old = length(&path);
        let written = write_file(&temporary, &head, state).and_then(|bytes| {
            fs::rename(&temporary, &path)?;
            Ok(bytes)
        });
        match written {
            Ok(bytes) => {
                self.bytes = self.bytes.saturating_sub(old) + bytes;
                self.keep_quota(Some(&path))
            }
            Err(error) => {
                remove(&temporary);
                Err(error)
            }
        }
    }

    fn head(&self, owner: &Owner, state: &State) -> io::Result<Vec<u8>> {
        let count = |tokens: &[Token]| {
            u32::try_from(tokens.len()).map_err(|_| io::Error::other("too many tokens"))
        };
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&self.fingerprint);
        head.extend_from_slice(&owner.digest());
        head.extend_from_slice(&count(&state.held)?.to_le_bytes());
        head.extend_from_slice(&count(&state.tail)?.to_le_bytes());
        head.extend_from_slice(&(state.bytes.len() as u64).to_le_bytes());
        Ok(head)
    }

    /// Reads a session's state. What does not match is deleted.
    pub(crate) fn load(&mut self, owner: &Owner) -> Found {
        let path = self.path(owner);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
            Err(error) => {
                tracing::warn!(%error, "a state file can't be opened");
                return Found::Nothing;
            }
        };
        match self.read(owner, &file) {
            Ok(state) => {
                // The time of last use is what the quota goes by. A failure only costs the file's
                // place in it.
                drop(file.set_modified(SystemTime::now()));
                Found::State(state)
            }
            Err(error) => {
                tracing::warn!(%error, "a state file does not match and is discarded");
                self.remove_file(&path);
                Found::Discarded
            }
        }
    }

    fn read(&self, owner: &Owner, mut file: &fs::File) -> io::Result<State> {
        let length = file.metadata()?.len();
        let too_small = (HEAD_BYTES + CHECKSUM_BYTES) as u64;
        if !(too_small..=FILE_BYTES_MAX).contains(&length) {
            return Err(io::Error::other("not a state file's length"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        Read::by_ref(&mut file).take(length).read_to_end(&mut bytes)?;
        let (content, checksum) = bytes
            .split_at_checked(bytes.len().saturating_sub(CHECKSUM_BYTES))
            .ok_or_else(|| io::Error::other("cut off"))?;
        let mut reader = Reader(content);
        reader.expect(MAGIC, "not a state file")?;
        reader.expect(&VERSION.to_le_bytes(), "another version")?;
        reader.expect(&self.fingerprint, "another model or state format")?;
        reader.expect(&owner.digest(), "another owner")?;
        if blake3::hash(content).as_bytes() != checksum {
            return Err(io::Error::other("the checksum does not match"));
        }
        let (held, tail) = (reader.count()?, reader.count()?);
        let state_bytes = u64::from_le_bytes(reader.array()?);
        let held = reader.tokens(held)?;
        let tail = reader.tokens(tail)?;
        if reader.0.len() as u64 != state_bytes {
            return Err(io::Error::other("the lengths do not add up"));
        }
        let start = content.len() - reader.0.len();
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        bytes.drain(..start);
        Ok(State { held, tail, bytes })
    }

    /// Deletes a session's state, if there is one.
    pub(crate) fn drop_session(&mut self, owner: &Owner) {
        let path = self.path(owner);
        self.remove_file(&path);
    }

    fn remove_file(&mut self, path: &Path) {
        self.bytes = self.bytes.saturating_sub(length(path));
        remove(path);
    }

    /// Deletes what was unused longest until the quota holds; `keep` is never deleted.
    fn keep_quota(&mut self, keep: Option<&Path>) -> io::Result<()> {
        if self.bytes <= self.quota_bytes {
            return Ok(());
        }
        let mut files = self.files()?;
        files.sort_by_key(|file| file.used);
        for file in files {
            if self.bytes <= self.quota_bytes {
                break;
            }
            if keep != Some(file.path.as_path()) {
                self.remove_file(&file.path);
            }
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<FileEntry>> {
        let mut files = Vec::new();
        for account in fs::read_dir(&self.folder)? {
            let account = account?;
            if !account.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(account.path())? {
                let file = file?;
                let Ok(data) = file.metadata() else { continue };
                let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push(FileEntry { path: file.path(), bytes: data.len(), used });
            }
        }
        Ok(files)
    }
}

struct FileEntry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Writes all parts and their checksum; says how many bytes that is.
///
/// Not synced: a state is only a shortcut, and one that a power cut tore fails its checksum.
fn write_file(path: &Path, head: &[u8], state: &State) -> io::Result<u64> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let tokens: Vec<u8> =
        state.held.iter().chain(&state.tail).flat_map(|token| token.to_le_bytes()).collect();
    let mut hasher = blake3::Hasher::new();
    let mut total = CHECKSUM_BYTES as u64;
    for part in [head, tokens.as_slice(), state.bytes.as_slice()] {
        hasher.update(part);
        file.write_all(part)?;
        total += part.len() as u64;
    }
    file.write_all(hasher.finalize().as_bytes())?;
    Ok(total)
}

fn make_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.len())
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a state file can't be deleted");
    }
}

/// Takes parts off the front of a file's content.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| io::Error::other("cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn expect(&mut self, expected: &[u8], otherwise: &'static str) -> io::Result<()> {
        if self.take(expected.len())? == expected {
            Ok(())
        } else {
            Err(io::Error::other(otherwise))
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(io::Error::other)
    }

    fn count(&mut self) -> io::Result<usize> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn tokens(&mut self, count: usize) -> io::Result<Vec<Token>> {
        let bytes = count.checked_mul(4).ok_or_else(|| io::Error::other("cut off"))?;
        let bytes = self.take(bytes)?;
        let words = bytes.chunks_exact(4);
        Ok(words.map(|word| Token::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
    }
}
