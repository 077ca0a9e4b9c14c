//! /dev/shm, where data loaders' workers hand over their batches: as large as the container made it, often 64 MB.

use std::path::Path;
use std::time::Instant;

use rustix::fs::StatFs;
use rustix::io::Errno;

use crate::domain::ShmSample;

/// What statfs says of a tmpfs.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// As a process sees it, through its root; the daemon's own by "self".
pub(super) fn read(proc_root: &Path, pid: &str, now: Instant) -> Result<ShmSample, String> {
    let path = proc_root.join(pid).join("root/dev/shm");
    let stat = rustix::fs::statfs(&path).map_err(|error| match error {
        Errno::NOENT => "there is no /dev/shm".to_owned(),
        Errno::ACCESS | Errno::PERM => {
            "permission: it may be seen by its own user and root only".to_owned()
        }
        error => format!("{}: {error}", path.display()),
    })?;
    sample(&stat, now)
}

/// Of a folder on a disk it would be the disk that is full.
fn sample(stat: &StatFs, now: Instant) -> Result<ShmSample, String> {
    // How wide these numbers are depends on the machine.
    #[allow(clippy::unnecessary_cast)]
    let (kind, block_bytes) = (stat.f_type as u64, stat.f_bsize as u64);
    if kind != TMPFS_MAGIC {
        return Err("/dev/shm is no tmpfs".to_owned());
    }
    if stat.f_blocks == 0 {
        return Err("/dev/shm has no size limit".to_owned());
    }
    let bytes = |blocks: u64| blocks.saturating_mul(block_bytes);
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
    fn what_is_no_tmpfs_with_a_size_says_so() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(root.path().join("10/root/dev")).expect("folders");
        let shm = root.path().join("10/root/dev/shm");
        std::os::unix::fs::symlink("/proc", shm).expect("a link");
        let now = Instant::now();
        let no_tmpfs = Err("/dev/shm is no tmpfs".to_owned());
        assert_eq!(read(root.path(), "10", now), no_tmpfs);
        assert!(read(root.path(), "11", now).is_err());
        let mut stat = rustix::fs::statfs("/dev/shm").expect("this machine has a /dev/shm");
        assert!(sample(&stat, now).is_ok());
        (stat.f_blocks, stat.f_bfree, stat.f_bavail) = (0, 0, 0);
        let unlimited = Err("/dev/shm has no size limit".to_owned());
        assert_eq!(sample(&stat, now), unlimited);
    }
}
