//! /dev/shm, where data loaders' workers hand over their batches: as large as the container made it, often 64 MB.

use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use crate::domain::ShmSample;

/// As a process sees it, through its root; the daemon's own by "self".
pub(super) fn read(proc_root: &Path, pid: &str, now: Instant) -> Result<ShmSample, String> {
    let path = proc_root.join(pid).join("root/dev/shm");
    let stat = rustix::fs::statvfs(&path).map_err(|error| match error {
        Errno::NOENT => "there is no /dev/shm".to_owned(),
        Errno::ACCESS | Errno::PERM => {
            "permission: it may be seen by its own user and root only".to_owned()
        }
        error => format!("{}: {error}", path.display()),
    })?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(ShmSample {
        at: now,
        total_bytes: bytes(stat.f_blocks),
        used_bytes: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        free_bytes: bytes(stat.f_bavail),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_seen_through_the_root_of_the_process() {
        let (proc, now) = (Path::new("/proc"), Instant::now());
        let own = read(proc, "self", now).expect("this machine has a /dev/shm");
        assert!(own.total_bytes > 0 && own.used_bytes <= own.total_bytes);
        let pid = std::process::id().to_string();
        assert_eq!(
            read(proc, &pid, now).expect("it lives").total_bytes,
            own.total_bytes
        );
        let nowhere = read(Path::new("/nowhere"), "self", now);
        assert_eq!(nowhere, Err("there is no /dev/shm".to_owned()));
    }

    #[test]
    fn a_recorded_tree_may_lack_it() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(root.path().join("10/root/dev/shm")).expect("folders");
        assert!(read(root.path(), "10", Instant::now()).is_ok());
        assert!(read(root.path(), "11", Instant::now()).is_err());
    }
}
