//! A fresh directory for one private daemon: ours alone (mode 0700), with a path short enough for a socket, gone at the
//! end. It never takes a directory that is already there.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use hookbus_client::address::MAX_SOCKET_PATH_BYTES;

use crate::failure::Failure;

/// The longest name that a file in it gets; it must fit behind the directory in a socket address.
const SOCKET: &str = "hookbusd.sock";

/// How many names are tried: others may hold some, left by processes that were killed.
const TRIES: u32 = 100;

/// The directory, named for this process (by which its daemon knows it again), removed with all that is in it when this value goes.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    path: PathBuf,
}

impl PrivateDir {
    /// Makes one in the temporary directory, else (too long a path, say on a cluster) in /tmp.
    pub(crate) fn make() -> Result<PrivateDir, Failure> {
        let wanted = std::env::temp_dir();
        let base = if fits(&wanted) {
            wanted
        } else {
            PathBuf::from("/tmp")
        };
        PrivateDir::make_in(&base, std::process::id()).map_err(|error| {
            let base = base.display();
            Failure::failed(format!("cannot make a private directory in {base}: {error}; set TMPDIR to one that can be written"))
        })
    }

    fn make_in(base: &Path, pid: u32) -> io::Result<PrivateDir> {
        for n in 0..TRIES {
            let path = base.join(name(pid, n));
            // mkdir fails where anything is, a link of somebody else among it, so what it makes is ours.
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(PrivateDir { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!(
            "{TRIES} directories hookbus-{pid}-* are already there"
        )))
    }

    /// The directory itself, for a daemon that outlives us.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// The file that the daemon makes once it listens.
    pub(crate) fn ready(&self) -> PathBuf {
        self.path.join("ready")
    }

    /// The daemon's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("hookbusd.log")
    }

    /// What the daemon says to standard error, mostly mistakes in its configuration.
    pub(crate) fn errors(&self) -> PathBuf {
        self.path.join("stderr")
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's cleaner of temporary files.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn name(pid: u32, n: u32) -> String {
    format!("hookbus-{pid}-{n}")
}

fn fits(base: &Path) -> bool {
    let longest = base.join(name(u32::MAX, TRIES)).join(SOCKET);
    base.is_absolute() && longest.as_os_str().len() <= MAX_SOCKET_PATH_BYTES
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_fresh_ours_alone_and_gone_at_the_end() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("hookbus-7-0")).unwrap();
        let made = PrivateDir::make_in(base.path(), 7).unwrap();
        let path = made.path.clone();
        assert_eq!(path, base.path().join("hookbus-7-1"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(made.log(), "x").unwrap();
        drop(made);
        assert!(!path.exists());
        assert!(base.path().join("hookbus-7-0").exists());
    }

    #[test]
    fn a_base_that_is_too_long_for_a_socket_is_not_taken() {
        assert!(fits(Path::new("/tmp")));
        assert!(!fits(Path::new(&format!("/{}", "a".repeat(80)))));
        assert!(!fits(Path::new("relative")));
    }

    #[test]
    fn the_address_of_its_socket_is_one() {
        let made = PrivateDir::make().unwrap();
        hookbus_client::address::Address::unix(&made.socket()).unwrap();
    }
}
