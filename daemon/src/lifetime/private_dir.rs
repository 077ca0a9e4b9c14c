//! The directory that `hookbus run` makes for its daemon and removes when it ends. Where it is killed instead, its daemon
//! removes it: the name says whose it was, so that no other directory can be meant.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A directory that must not be removed: one line.
#[derive(Debug, thiserror::Error)]
#[error("{} (--remove-dir) is not removed: {why}", path.display())]
pub struct NotPrivate {
    path: PathBuf,
    why: String,
}

/// The private directory of one process.
#[derive(Debug)]
pub struct PrivateDir(PathBuf);

impl PrivateDir {
    /// The one at `path`, if it is private and its name says that it was made by `pid`.
    pub fn of(path: &Path, pid: u32) -> Result<Self, NotPrivate> {
        let fail = |why: String| NotPrivate {
            path: path.to_path_buf(),
            why,
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let wanted = format!("hookbus-{pid}-");
        if !path.is_absolute() || !name.starts_with(&wanted) {
            return Err(fail(format!(
                "its name is no /.../{wanted}N, so process {pid} (--parent-pid) did not make it"
            )));
        }
        // Of a link this says that it is no directory.
        let found = fs::symlink_metadata(path).map_err(|error| fail(error.to_string()))?;
        let ours = found.uid() == rustix::process::geteuid().as_raw();
        if !found.is_dir() || !ours || found.permissions().mode() & 0o777 != 0o700 {
            return Err(fail(
                "it is no directory that only its owner, who runs this, may enter".to_owned(),
            ));
        }
        Ok(Self(path.to_path_buf()))
    }

    /// Removes it, with all that is in it.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{DirBuilderExt, symlink};

    use super::*;

    fn made(path: &Path, mode: u32) {
        fs::DirBuilder::new()
            .mode(mode)
            .create(path)
            .expect("a directory");
    }

    #[test]
    fn what_a_process_made_for_itself_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().expect("a directory");
        let ours = base.path().join("hookbus-7-0");
        made(&ours, 0o700);
        fs::write(ours.join("log"), "x").expect("written");
        let others = [
            base.path().to_path_buf(),
            base.path().join("hookbus-8-0"), // of another process
            base.path().join("hookbus-7-1"), // open to others
            base.path().join("hookbus-7-2"), // a link
            base.path().join("hookbus-7-3"), // not there
            PathBuf::from("hookbus-7-0"),
        ];
        made(&others[1], 0o700);
        made(&others[2], 0o755);
        symlink(&others[1], &others[3]).expect("a link");
        for other in &others {
            let error = PrivateDir::of(other, 7).expect_err("not private");
            let error = error.to_string();
            assert!(error.contains("(--remove-dir) is not removed: "), "{error}");
        }
        let ours = PrivateDir::of(&ours, 7).expect("it is private");
        ours.remove().expect("removed");
        assert!(!base.path().join("hookbus-7-0").exists());
        assert!(others[1].exists() && others[2].exists() && others[3].is_symlink());
    }
}
