//! A file that is not there yet: written beside its place under a name that no tool takes for it, renamed when it is
//! whole, and removed where that never comes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct Part {
    file: PathBuf,
    part: PathBuf,
    force: bool,
}

impl Part {
    /// Makes the directory. A file that is there is refused, unless it may be replaced.
    pub(crate) fn create(file: PathBuf, force: bool) -> Result<Part, Failure> {
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|error| {
            Failure::failed(format!(
                "cannot make the directory {}: {error}",
                folder.display()
            ))
        })?;
        let mut part = file.clone().into_os_string();
        part.push(format!(".{}.part", std::process::id()));
        let part = Part {
            part: PathBuf::from(part),
            file,
            force,
        };
        part.is_free()?;
        Ok(part)
    }

    pub(crate) fn open(&self) -> Result<File, Failure> {
        File::create(&self.part).map_err(|error| self.failed(&error.to_string()))
    }

    /// Where it will be.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn failed(&self, why: &str) -> Failure {
        Failure::failed(format!("cannot write {}: {why}", self.file.display()))
    }

    /// Gives it its name.
    pub(crate) fn publish(self) -> Result<PathBuf, Failure> {
        self.is_free()?;
        std::fs::rename(&self.part, &self.file).map_err(|error| self.failed(&error.to_string()))?;
        Ok(self.file.clone())
    }

    fn is_free(&self) -> Result<(), Failure> {
        if self.force {
            return Ok(());
        }
        match self.file.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.failed(&error.to_string())),
            Ok(_) => Err(Failure::failed(format!(
                "{} is already there: export to another directory, or overwrite with --force",
                self.file.display()
            ))),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename there is none.
        let _ = std::fs::remove_file(&self.part);
    }
}
