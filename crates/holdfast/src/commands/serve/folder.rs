//! The data folder from outside: whether it may be taken as one, and the address that a running
//! server leaves in it for the commands.
//!
//! A folder that has anything else in it is never made private: it is somebody's home, or shared.
//! An address is believed only if this user wrote it and it is this machine's: the admin key is
//! sent there.
#![expect(clippy::disallowed_methods, reason = "before a runtime exists, or in a command")]

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// The file in which a running server says where it is.
pub(crate) const URL_FILE: &str = "server.url";
/// The file that a server holds while it uses the folder.
pub(crate) const LOCK: &str = ".lock";
/// One of them is in every folder of ours.
const OURS: &[&str] = &[LOCK, "holdfast.db", "admin.key"];

/// Makes the data folder, readable by its owner alone, and answers its absolute path.
///
/// # Errors
/// It can't be made, or something is in it that is not Holdfast's.
pub(crate) fn prepare(data: &Path) -> anyhow::Result<PathBuf> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.with_context(|| format!("making the data folder {}", data.display()))?;
    let reading = || format!("reading {}", data.display());
    let absolute = std::fs::canonicalize(data).with_context(reading)?;
    let is_ours = OURS.iter().any(|name| absolute.join(name).is_file());
    let names = std::fs::read_dir(&absolute).with_context(reading)?;
    // A disk of its own has this folder from its beginning.
    let is_empty = names.flatten().all(|entry| entry.file_name() == "lost+found");
    ensure!(
        is_ours || is_empty,
        "{0} has files in it and is no data folder of Holdfast's; name an empty or a new folder, such as --data {1}",
        data.display(),
        data.join("holdfast-data").display()
    );
    std::fs::set_permissions(&absolute, PermissionsExt::from_mode(0o700))
        .with_context(|| format!("making {} private", absolute.display()))?;
    // From here on the folder is known as ours, whatever else comes first.
    let lock = absolute.join(LOCK);
    let marked = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&lock);
    marked.with_context(|| format!("writing {}", lock.display()))?;
    Ok(absolute)
}

/// Leaves the server's address for the commands, readable by this user alone. It is written beside
/// and renamed, so that a reader never sees half of it.
///
/// # Errors
/// It can't be written.
pub(crate) fn tell(data: &Path, url: &str) -> anyhow::Result<()> {
    let (path, beside) = (data.join(URL_FILE), data.join("server.url.part"));
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        writeln!(file, "{}", reachable(url))?;
        std::fs::rename(&beside, &path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Takes the address back.
pub(crate) fn forget(data: &Path) {
    if let Err(error) = std::fs::remove_file(data.join(URL_FILE)) {
        tracing::warn!(%error, "removing {URL_FILE}");
    }
}

/// The address of the server that uses the folder, or used it and was killed.
pub(crate) fn server_of(data: &Path) -> Option<String> {
    let path = data.join(URL_FILE);
    let owner = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file)?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return None;
    }
    let url = std::fs::read_to_string(&path).ok()?.trim().to_owned();
    let address: SocketAddr = url.strip_prefix("http://")?.parse().ok()?;
    // Only an address of this machine can be bound.
    TcpListener::bind((address.ip(), 0)).ok().map(|_| url)
}

/// Where a server that listens everywhere is reached from its own machine.
fn reachable(url: &str) -> String {
    url.replacen("//0.0.0.0:", "//127.0.0.1:", 1).replacen("//[::]:", "//[::1]:", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(home.path().join("letter.txt"), "mine").unwrap();
        let told = prepare(home.path()).unwrap_err().to_string();
        assert!(told.contains("holdfast-data"), "{told}");
        assert_eq!(mode(home.path()), 0o755);
    }

    #[test]
    fn a_new_an_empty_and_an_own_folder_are_taken_and_made_private() {
        let above = tempfile::tempdir().unwrap();
        let data = above.path().join("new/data");
        for name in [None, Some("holdfast.db"), Some("run")] {
            if let Some(name) = name {
                std::fs::write(data.join(name), "").unwrap();
                std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).unwrap();
            }
            prepare(&data).unwrap();
            assert_eq!(mode(&data), 0o700);
        }
    }

    #[test]
    fn an_address_is_private_and_gone_after_a_clean_stop() {
        let data = tempfile::tempdir().unwrap();
        tell(data.path(), "http://0.0.0.0:8420").unwrap();
        assert_eq!(mode(&data.path().join(URL_FILE)), 0o600);
        assert_eq!(server_of(data.path()).as_deref(), Some("http://127.0.0.1:8420"));
        forget(data.path());
        assert_eq!(server_of(data.path()), None);
    }

    #[test]
    fn an_address_of_another_machine_or_of_no_server_is_not_believed() {
        let data = tempfile::tempdir().unwrap();
        for url in ["http://192.0.2.1:80", "https://127.0.0.1:1", "http://evil.example:80", "x"] {
            tell(data.path(), url).unwrap();
            assert_eq!(server_of(data.path()), None, "{url}");
        }
        forget(data.path());
        std::fs::write(data.path().join("elsewhere"), "http://127.0.0.1:1").unwrap();
        std::os::unix::fs::symlink("elsewhere", data.path().join(URL_FILE)).unwrap();
        assert_eq!(server_of(data.path()), None);
    }
}
