//! Does a pid of the driver's mean a process here? Drivers count in the machine's own pid namespace, newer ones in that of
//! the asker; in a container it is believed only of a process that holds a device of the driver's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::domain::Pid;

/// /proc/PID/ns/pid in the machine's own namespace: the kernel's PROC_PID_INIT_INO.
const INITIAL: &str = "pid:[4026531836]";
/// /dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm.
const DEVICES: &str = "/dev/nvidia";

/// Processes as this daemon sees them.
pub(super) struct Pids {
    root: PathBuf,
    initial: bool,
}

impl Pids {
    /// Below `root`, which is /proc but in tests.
    pub(super) fn new(root: &Path) -> Self {
        let own = fs::read_link(root.join("self/ns/pid"));
        Self {
            root: root.to_path_buf(),
            initial: own.is_ok_and(|own| own == Path::new(INITIAL)),
        }
    }

    /// Whether the number means a process here, and its name if so; empty: not known.
    pub(super) fn look(&self, pid: u32) -> (Pid, String) {
        let folder = self.root.join(pid.to_string());
        let seen = match (self.initial, pid != 0 && folder.is_dir()) {
            (true, true) => Pid::Here,
            (true, false) => Pid::Elsewhere,
            (false, true) if holds_a_device(&folder) => Pid::Here,
            (false, _) => Pid::NotKnown,
        };
        let name = match seen {
            Pid::Here => fs::read_to_string(folder.join("comm")).unwrap_or_default(),
            Pid::Elsewhere | Pid::NotKnown => String::new(),
        };
        (seen, name.trim_end().to_owned())
    }
}

/// Not where its descriptors cannot be read.
fn holds_a_device(folder: &Path) -> bool {
    let files = fs::read_dir(folder.join("fd")).into_iter().flatten();
    files.flatten().any(|file| {
        let target = fs::read_link(file.path());
        target.is_ok_and(|target| target.to_string_lossy().starts_with(DEVICES))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A process with this name, and a descriptor of this file.
    fn process(root: &Path, pid: &str, name: &str, file: &str) {
        let folder = root.join(pid);
        fs::create_dir_all(folder.join("fd")).expect("a folder");
        fs::write(folder.join("comm"), format!("{name}\n")).expect("a file");
        symlink(file, folder.join("fd/3")).expect("a link");
    }

    fn tree(namespace: &str) -> (tempfile::TempDir, Pids) {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("self/ns")).expect("a folder");
        symlink(namespace, root.path().join("self/ns/pid")).expect("a link");
        process(root.path(), "7", "python3", "/dev/nvidia0");
        process(root.path(), "8", "bash", "/dev/null");
        let pids = Pids::new(root.path());
        (root, pids)
    }

    #[test]
    fn in_the_machines_own_namespace_a_pid_is_what_it_says() {
        let (_root, pids) = tree(INITIAL);
        assert_eq!(pids.look(7), (Pid::Here, "python3".to_owned()));
        assert_eq!(pids.look(8), (Pid::Here, "bash".to_owned()));
        assert_eq!(pids.look(9), (Pid::Elsewhere, String::new()));
        assert_eq!(pids.look(0), (Pid::Elsewhere, String::new()));
    }

    #[test]
    fn in_another_one_only_who_holds_a_device_is_believed() {
        let (_root, pids) = tree("pid:[4026532999]");
        assert_eq!(pids.look(7), (Pid::Here, "python3".to_owned()));
        // It has the number by chance.
        assert_eq!(pids.look(8), (Pid::NotKnown, String::new()));
        assert_eq!(pids.look(9), (Pid::NotKnown, String::new()));
        assert_eq!(pids.look(0), (Pid::NotKnown, String::new()));
    }
}
