//! Where a session's state lies: `<folder>/<model sha256>/<account>/<hash of the session>.kv`.
//!
//! The child writes and reads these files; the parent only deletes them, and only while it holds
//! the lock of the model's folder, so that no child is alive that could write them again. Names
//! from outside never become a path: an account that is no plain id and every session is hashed.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Characters of an account that is used as it is.
const ACCOUNT_CHARS_MAX: usize = 64;

/// The file of a session's state in the folder of one model.
pub fn path(model_folder: &Path, account: &str, session: &str) -> PathBuf {
    let plain = !account.is_empty()
        && account.len() <= ACCOUNT_CHARS_MAX
        && account.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let account = if plain { account.to_owned() } else { format!("h-{}", hash(account)) };
    model_folder.join(account).join(format!("{}.kv", hash(session)))
}

fn hash(text: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(text))
}

/// The lock of a model's folder, which a child holds for its life.
pub(crate) fn lock(model_folder: &Path) -> PathBuf {
    model_folder.join(".lock")
}

/// Deletes a session's files of all models but those in `except`.
///
/// Blocks. All are tried.
///
/// # Errors
/// A file can't be deleted, or a child that is not in `except` is alive and may write it again.
#[expect(clippy::disallowed_methods, reason = "blocking files are its whole work; see its caller")]
pub(crate) fn delete_except(
    folder: &Path,
    except: &[String],
    account: &str,
    session: &str,
) -> io::Result<()> {
    let models = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        models => models?,
    };
    let mut outcome = Ok(());
    for model in models {
        let model = model?;
        let is_excepted = except.iter().any(|name| model.file_name() == name.as_str());
        if is_excepted || !model.file_type()?.is_dir() {
            continue;
        }
        // The others are tried all the same.
        let deleted = delete_in(&model.path(), account, session);
        outcome = outcome.and(deleted);
    }
    outcome
}

/// Deletes a session's file of one model, and what a child left that ended while it wrote it.
#[expect(clippy::disallowed_methods, reason = "blocking files are its whole work")]
fn delete_in(model_folder: &Path, account: &str, session: &str) -> io::Result<()> {
    let mut lock_options = File::options();
    let lock = lock_options.create(true).truncate(false).write(true).open(lock(model_folder))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::other("its engine is alive and not up"));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let path = path(model_folder, account, session);
    for path in [path.with_extension("tmp"), path] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
