//! Trees of files as the kernel shows them, for tests.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A /proc and a /sys/fs/cgroup.
pub(super) struct Recorded(TempDir);

impl Recorded {
    pub(super) fn new() -> Self {
        let tree = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(tree.proc()).expect("a folder");
        fs::create_dir(tree.cgroups()).expect("a folder");
        tree
    }

    pub(super) fn proc(&self) -> PathBuf {
        self.0.path().join("proc")
    }

    pub(super) fn cgroups(&self) -> PathBuf {
        self.0.path().join("cgroup")
    }

    /// A file below /proc.
    pub(super) fn put(&self, path: &str, text: &str) {
        put(&self.proc().join(path), text);
    }

    /// Files of a group.
    pub(super) fn group(&self, path: &str, files: &[(&str, &str)]) {
        let folder = self.cgroups().join(path);
        fs::create_dir_all(&folder).expect("a folder");
        for (name, text) in files {
            put(&folder.join(name), text);
        }
    }

    /// A process with one thread and no children.
    pub(super) fn process(&self, pid: u32, parent: u32, start_ticks: u64, pages: u64) {
        self.in_state('S', pid, parent, start_ticks, pages);
        self.put(&format!("{pid}/comm"), "python\n");
        self.put(&format!("{pid}/cmdline"), "python\0train.py\0");
    }

    /// All that is left of a process.
    pub(super) fn zombie(&self, pid: u32, parent: u32, start_ticks: u64) {
        self.in_state('Z', pid, parent, start_ticks, 0);
    }

    fn in_state(&self, state: char, pid: u32, parent: u32, start_ticks: u64, pages: u64) {
        let zeros = vec!["0"; 30].join(" ");
        let stat = format!(
            "{pid} (a ) name) {state} {parent} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start_ticks} 0 0 {zeros}\n"
        );
        self.put(&format!("{pid}/stat"), &stat);
        self.put(&format!("{pid}/statm"), &format!("999 {pages} 1 1 0 1 0\n"));
    }

    /// The children of one thread, as a kernel with CONFIG_PROC_CHILDREN lists them.
    pub(super) fn children(&self, pid: u32, thread: u32, children: &[u32]) {
        let text: String = children.iter().map(|child| format!("{child} ")).collect();
        self.put(&format!("{pid}/task/{thread}/children"), &text);
    }

    pub(super) fn rollup(&self, pid: u32, pss_kib: u64) {
        let text = format!(
            "0-1 ---p 0 00:00 0 [rollup]\nRss: 9999 kB\nPss: {pss_kib} kB\nPss_Shmem: 2 kB\nPrivate_Clean: 1 kB\n\
             Private_Dirty: 3 kB\nSwapPss: 0 kB\n"
        );
        self.put(&format!("{pid}/smaps_rollup"), &text);
    }

    /// A process that is no more, also for those who have its files open.
    pub(super) fn end(&self, pid: u32) {
        self.put(&format!("{pid}/statm"), "0 0 0 0 0 0 0\n");
        fs::remove_dir_all(self.proc().join(pid.to_string())).expect("it was there");
    }
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}
