//! The folder of the engines' sockets. Nobody but its owner can enter it, and nobody else can have
//! made it: in a folder that users share its name is random, and it is made or the start fails.
//!
//! Where it is stands in the data folder, so that a server that was killed leaves nothing behind
//! that the next one does not use and remove.
#![expect(clippy::disallowed_methods, reason = "done once, at start and at stop")]

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Bytes of a data folder's path up to which sockets are made in it (a socket's whole path has at
/// most 107).
const IN_DATA_BYTES_MAX: usize = 48;
/// The folder in the data folder, or a link to the one elsewhere.
const NAME: &str = "run";

/// The file in a folder elsewhere that says whose it is: the data folder's path.
const OWNER: &str = "owner";

/// The folder.
#[derive(Debug)]
pub(super) struct Sockets {
    folder: PathBuf,
    /// The link to it, if it is not in the data folder; both are removed at a stop.
    link: Option<PathBuf>,
}

impl Sockets {
    /// Makes the folder: in the data folder if its path is short enough, else in `shared`.
    pub(super) fn make(data: &Path, shared: &Path) -> anyhow::Result<Self> {
        let run = data.join(NAME);
        let left = left_behind(&run, data);
        if data.as_os_str().len() <= IN_DATA_BYTES_MAX {
            // A data folder that was moved here from a longer path.
            if run.is_symlink() {
                remove_both(&run, left.as_deref())?;
            }
            make_private(&run)?;
            return Ok(Self { folder: run, link: None });
        }
        if let Some(folder) = left {
            return Ok(Self { folder, link: Some(run) });
        }
        remove_both(&run, None)?;
        let folder = make_elsewhere(shared, data).with_context(|| {
            format!("making a folder for the engines' sockets in {}", shared.display())
        })?;
        symlink(&folder, &run).with_context(|| format!("making {}", run.display()))?;
        Ok(Self { folder, link: Some(run) })
    }

    /// Where it is.
    pub(super) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Removes it if it is not in the data folder. Sockets can't be made from here on.
    pub(super) fn remove(&self) {
        let Some(link) = &self.link else { return };
        if let Err(error) = remove_both(link, Some(&self.folder)) {
            tracing::warn!(%error, "removing the folder of the engines' sockets");
        }
    }
}

/// A folder with a random name, which is not there before.
fn make_elsewhere(shared: &Path, data: &Path) -> std::io::Result<PathBuf> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("holdfast-").permissions(PermissionsExt::from_mode(0o700));
    let made = builder.tempdir_in(shared)?;
    std::fs::write(made.path().join(OWNER), data.as_os_str().as_bytes())?;
    Ok(made.keep())
}

/// The folder that a link in the data folder leads to, if it is one that only we can have made and
/// can enter, for this data folder: a copy of it has the link too.
fn left_behind(link: &Path, data: &Path) -> Option<PathBuf> {
    let folder = std::fs::read_link(link).ok()?;
    let metadata = std::fs::symlink_metadata(&folder).ok()?;
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
    let is_private = metadata.permissions().mode() & 0o777 == 0o700;
    let is_safe = metadata.is_dir() && is_ours && is_private;
    let owner = std::fs::read(folder.join(OWNER)).ok().filter(|_| is_safe)?;
    (owner == data.as_os_str().as_bytes()).then_some(folder)
}

/// Removes a folder elsewhere and then the link to it, or what a shorter path had in its place.
fn remove_both(link: &Path, folder: Option<&Path>) -> std::io::Result<()> {
    if let Some(folder) = folder {
        std::fs::remove_dir_all(folder)?;
    }
    match std::fs::symlink_metadata(link) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(link),
        Ok(_) => std::fs::remove_file(link),
        Err(_) => Ok(()),
    }
}

/// Makes a folder in the data folder that only its owner can enter.
pub(super) fn make_private(folder: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("making {}", folder.display()))?;
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700))
        .with_context(|| format!("making {} private", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data folder with a path that is too long for sockets.
    fn long(above: &Path) -> PathBuf {
        let data = above.join("d".repeat(IN_DATA_BYTES_MAX));
        make_private(&data).unwrap();
        data
    }

    fn count(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_long_path_gets_a_folder_that_nobody_can_have_made() {
        let above = tempfile::tempdir().unwrap();
        let (shared, trap) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // What another user would lay out, were the name to be guessed.
        let guessed = shared.path().join(format!("holdfast-{}", std::process::id()));
        symlink(trap.path(), &guessed).unwrap();
        let sockets = Sockets::make(&long(above.path()), shared.path()).unwrap();
        let folder = sockets.folder();
        let metadata = std::fs::symlink_metadata(&folder).unwrap();
        assert!(metadata.is_dir() && metadata.permissions().mode() & 0o777 == 0o700);
        assert!(folder.starts_with(shared.path()) && folder != guessed);
        std::fs::write(folder.join("left.sock"), "").unwrap();
        sockets.remove();
        assert_eq!((count(shared.path()), count(trap.path())), (1, 0));
        assert_eq!(count(&long(above.path())), 0);
    }

    #[test]
    fn what_a_killed_server_left_is_used_again() {
        let (above, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = long(above.path());
        let killed = Sockets::make(&data, shared.path()).unwrap().folder();
        let next = Sockets::make(&data, shared.path()).unwrap();
        assert_eq!(next.folder(), killed);
        next.remove();
        assert_eq!(count(shared.path()), 0);
    }

    #[test]
    fn a_copy_and_a_moved_data_folder_get_their_own() {
        let (above, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let data = long(above.path());
        let first = Sockets::make(&data, shared.path()).unwrap();
        let copy = above.path().join("c".repeat(IN_DATA_BYTES_MAX));
        make_private(&copy).unwrap();
        symlink(first.folder(), copy.join(NAME)).unwrap();
        let second = Sockets::make(&copy, shared.path()).unwrap();
        assert_ne!(second.folder(), first.folder());
        second.remove();
        assert!(first.folder().is_dir());
        // A real folder, as a shorter path has it.
        make_private(&copy.join(NAME).join("old")).unwrap();
        let third = Sockets::make(&copy, shared.path()).unwrap();
        assert!(third.folder().starts_with(shared.path()));
    }

    #[test]
    fn a_folder_that_others_can_enter_is_not_used_again() {
        let (above, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (data, open) = (long(above.path()), tempfile::tempdir().unwrap());
        std::fs::set_permissions(open.path(), PermissionsExt::from_mode(0o777)).unwrap();
        symlink(open.path(), data.join(NAME)).unwrap();
        let sockets = Sockets::make(&data, shared.path()).unwrap();
        assert!(sockets.folder().starts_with(shared.path()));
        assert!(open.path().is_dir());
    }

    #[test]
    fn a_short_path_keeps_its_sockets() {
        let data = tempfile::Builder::new().prefix("d").tempdir_in("/tmp").unwrap();
        let sockets = Sockets::make(data.path(), Path::new("/nowhere")).unwrap();
        sockets.remove();
        assert_eq!(sockets.folder(), data.path().join("run"));
        assert!(sockets.folder().is_dir());
    }
}
