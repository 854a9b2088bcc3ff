//! Where a session's state lies: `<folder>/<model sha256>/<account>/<hash of the session>.kv`.
//!
//! The child writes and reads these files; the parent only deletes them, and only while no child is
//! up that may write them. Names from outside never become a path: an account that is no plain id
//! and every session is hashed.

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

/// Deletes a session's files of all models but those in `except`.
pub(crate) async fn delete_except(
    folder: &Path,
    except: &[String],
    account: &str,
    session: &str,
) -> io::Result<()> {
    let mut models = match tokio::fs::read_dir(folder).await {
        Ok(models) => models,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    while let Some(model) = models.next_entry().await? {
        if except.iter().any(|name| model.file_name() == name.as_str()) {
            continue;
        }
        match tokio::fs::remove_file(path(&model.path(), account, session)).await {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
