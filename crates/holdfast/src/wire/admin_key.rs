//! The admin key: `HOLDFAST_ADMIN_KEY` if it is set, else generated once into `<data>/admin.key`.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use pipeline::{Directory, NewKey};
use storage::budgets::Origin as ObjectOrigin;
use types::principal::{DEFAULT_ACCOUNT, Role};
use types::{Ids, Secret};

/// The key's name.
pub(super) const NAME: &str = "admin";
/// The variable that sets it.
const VARIABLE: &str = "HOLDFAST_ADMIN_KEY";
/// Characters that it has at least: below, it can be guessed.
const CHARS_MIN: usize = 16;

/// Where the key is to be found.
#[derive(Debug)]
pub(crate) enum Origin {
    /// In the environment.
    Environment,
    /// In this file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => write!(f, "as set in {VARIABLE}"),
            Self::File(path) => write!(f, "in {}", path.display()),
        }
    }
}

/// Makes sure that there is an admin key whose secret somebody knows.
pub(crate) async fn ensure(
    data: &Path,
    directory: &Directory,
    ids: &Ids,
) -> anyhow::Result<Origin> {
    let new = NewKey {
        account: DEFAULT_ACCOUNT.to_owned(),
        name: NAME.to_owned(),
        user: None,
        role: Role::Admin,
        output_cap_default: None,
        origin: ObjectOrigin::File,
    };
    if let Some(secret) = std::env::var(VARIABLE).ok().filter(|secret| !secret.is_empty()) {
        ensure!(secret.len() >= CHARS_MIN, "{VARIABLE} must have at least {CHARS_MIN} characters");
        directory
            .put_key_with_secret(new, &Secret::new(secret))
            .await
            .context("storing the admin key")?;
        return Ok(Origin::Environment);
    }
    let path = data.join("admin.key");
    let written = tokio::fs::read_to_string(&path).await.unwrap_or_default();
    let written = written.trim();
    if written.is_empty() {
        // A file that was lost or never written: a new key, the old one stops working.
        let secret = Secret::new(ids.key_secret());
        // The file first: a crash in between leaves a key that is taken at the next start.
        write_private(&path, secret.expose()).await?;
        directory.put_key_with_secret(new, &secret).await.context("storing the admin key")?;
    } else {
        ensure!(
            written.len() >= CHARS_MIN,
            "the admin key in {} must have at least {CHARS_MIN} characters; write a longer one, or delete the file for a new key",
            path.display()
        );
        directory
            .put_key_with_secret(new, &Secret::new(written))
            .await
            .context("storing the admin key")?;
    }
    Ok(Origin::File(path))
}

/// Writes a file that its owner alone may read, durably.
async fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut options = tokio::fs::OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    let mut file =
        options.open(path).await.with_context(|| format!("writing {}", path.display()))?;
    file.write_all(text.as_bytes()).await?;
    file.write_all(b"\n").await?;
    file.sync_all().await.with_context(|| format!("writing {}", path.display()))
}
