//! Where the program `hookbusd` is: named by HOOKBUSD, else beside this program, else on PATH.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The environment variable that names the program.
const VARIABLE: &str = "HOOKBUSD";
const NAME: &str = "hookbusd";

/// Finds the program, or says where it was looked for.
pub(crate) fn find() -> Result<PathBuf, Failure> {
    let here = env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned));
    find_in(env::var_os(VARIABLE), here, env::var_os("PATH")).map_err(Failure::failed)
}

fn find_in(
    named: Option<OsString>,
    beside: Option<PathBuf>,
    path: Option<OsString>,
) -> Result<PathBuf, String> {
    if let Some(named) = named.filter(|named| !named.is_empty()).map(PathBuf::from) {
        // Named on purpose: another one in its place would be a surprise.
        return if executable(&named) {
            Ok(named)
        } else {
            Err(format!(
                "{VARIABLE} names {}, which is no program that can be run: mend or unset it",
                named.display()
            ))
        };
    }
    let on_path = path.iter().flat_map(env::split_paths);
    let found = beside
        .clone()
        .into_iter()
        .chain(on_path)
        .map(|folder| folder.join(NAME))
        .find(|file| executable(file));
    found.ok_or_else(|| {
        let beside = beside.map_or(String::new(), |folder| format!("not beside this program in {}, ", folder.display()));
        format!("hookbusd was not found: {beside}not on PATH; install it, or name it: {VARIABLE}=/path/to/hookbusd")
    })
}

fn executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, mode: u32) -> PathBuf {
        let file = folder.join(NAME);
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn named_wins_over_beside_wins_over_path() {
        let [named, beside, path] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let files = [&named, &beside, &path].map(|folder| program(folder.path(), 0o755));
        let on_path = Some(path.path().as_os_str().to_owned());
        let near = Some(beside.path().to_owned());
        let name = Some(files[0].clone().into_os_string());
        assert_eq!(
            find_in(name, near.clone(), on_path.clone()).unwrap(),
            files[0]
        );
        assert_eq!(find_in(None, near, on_path.clone()).unwrap(), files[1]);
        assert_eq!(find_in(Some("".into()), None, on_path).unwrap(), files[2]);
    }

    #[test]
    fn a_file_that_cannot_be_run_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = program(folder.path(), 0o644);
        let error = find_in(None, Some(folder.path().to_owned()), None).unwrap_err();
        assert!(
            error.contains("hookbusd was not found: not beside this program"),
            "{error}"
        );
        let error = find_in(Some(file.into_os_string()), None, None).unwrap_err();
        assert!(error.starts_with("HOOKBUSD names"), "{error}");
    }
}
