//! The Unix socket's file: made with the right mode, replaced where nobody answers, taken away at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::BindError;

/// sun_path has 108 bytes with its closing NUL.
const MOST_PATH_BYTES: usize = 107;
/// Names that are tried for a new directory.
const FOLDERS: u32 = 64;

pub(super) struct UnixSocket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    /// Device and inode of the file that was bound, so that only it is removed.
    file: (u64, u64),
    pub(super) allowed_uids: Vec<u32>,
    /// A directory that was made for it alone.
    folder: Option<PathBuf>,
}

/// Whoever lets the socket go takes its file away: at the end, and where a later address cannot be bound.
impl Drop for UnixSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file cannot be removed");
        }
        if let Some(folder) = &self.folder
            && let Err(error) = fs::remove_dir(folder)
        {
            tracing::warn!(path = %folder.display(), %error, "the socket's directory cannot be removed");
        }
    }
}

/// Binds it with these rights; `allowed_uids` empty: the daemon's own and root.
pub(super) fn bind(path: &Path, mode: u32, allowed_uids: &[u32]) -> Result<UnixSocket, BindError> {
    let fail = |why: String| {
        BindError(format!(
            "cannot listen on {} (listen.socket): {why}",
            path.display()
        ))
    };
    let bytes = path.as_os_str().len();
    if bytes > MOST_PATH_BYTES {
        return Err(fail(format!(
            "the path has {bytes} bytes, a socket's has at most {MOST_PATH_BYTES}; choose a shorter one"
        )));
    }
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
    {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| fail(format!("its directory cannot be made: {error}")))?;
    }
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(fail(
                "something that is no socket is there; remove it or choose another path".to_owned(),
            ));
        }
        match StdUnixStream::connect(path) {
            Ok(_) => {
                return Err(fail(
                    "another daemon answers there; stop it or choose another path".to_owned(),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tracing::info!(path = %path.display(), "a stale socket file is replaced");
                fs::remove_file(path).map_err(|error| {
                    fail(format!("the stale socket cannot be removed: {error}"))
                })?;
            }
            Err(error) => {
                return Err(fail(format!(
                    "a socket is there and cannot be asked: {error}"
                )));
            }
        }
    }
    // Nobody may connect between bind and chmod.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.map_err(|error| fail(error.to_string()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| fail(format!("its mode cannot be set to {mode:o}: {error}")))?;
    let file = fs::symlink_metadata(path).map_err(|error| fail(error.to_string()))?;
    let allowed_uids = if allowed_uids.is_empty() {
        vec![rustix::process::geteuid().as_raw(), 0]
    } else {
        allowed_uids.to_vec()
    };
    Ok(UnixSocket {
        listener,
        path: path.to_path_buf(),
        file: (file.dev(), file.ino()),
        allowed_uids,
        folder: None,
    })
}

/// One for the processes that the daemon starts: beside its own socket, else in a new directory below `temporary`.
pub(super) fn bind_private(
    beside: Option<&Path>,
    temporary: &Path,
) -> Result<UnixSocket, BindError> {
    const PRIVATE: u32 = 0o600;
    let own = [rustix::process::geteuid().as_raw()];
    if let Some(beside) = beside {
        let mut path = beside.as_os_str().to_owned();
        path.push(".own");
        if path.len() <= MOST_PATH_BYTES {
            return bind(Path::new(&path), PRIVATE, &own);
        }
    }
    // Made anew: what somebody else has put there is not taken.
    let made = (0..FOLDERS).find_map(|at| {
        let folder = temporary.join(format!("hookbusd-{}-{at}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.is_ok().then_some(folder)
    });
    let folder = made.ok_or_else(|| {
        BindError(format!(
            "no directory can be made in {} for the processes of [[hooks]] module (TMPDIR)",
            temporary.display()
        ))
    })?;
    let mut socket = bind(&folder.join("own.sock"), PRIVATE, &own)?;
    socket.folder = Some(folder);
    Ok(socket)
}
