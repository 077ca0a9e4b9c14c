//! The trainer's memory as this client reads it, on its own thread, for a daemon that cannot see the process: another pid
//! namespace, another host. What cannot be read is absent.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookbus_proto::v1 as wire;
use tokio::time::Instant;

/// All but the own resident set size is read at most so often.
const SELDOM: Duration = Duration::from_secs(5);
/// A v1 group without a limit says a number near 2^63.
const V1_UNLIMITED: u64 = 1 << 62;
/// What statfs says of a tmpfs.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Who has more descendants gets no sum of them: it would hold up the thread that answers gates.
const MOST_CHILDREN: usize = 256;

const NO_SUCH_PROCESS: i32 = rustix::io::Errno::SRCH.raw_os_error();

/// Where a file system of cgroups is, and which files of it say what.
struct Group {
    root: PathBuf,
    path: PathBuf,
    limit: &'static str,
    current: &'static str,
    inactive_file: &'static str,
}

pub(crate) struct OwnMemory {
    proc_root: PathBuf,
    cgroup_root: PathBuf,
    shm: PathBuf,
    statm: Option<File>,
    page_bytes: u64,
    seldom: Option<(Instant, wire::OwnMemory)>,
}

impl OwnMemory {
    pub(crate) fn new() -> Self {
        Self::at("/proc", "/sys/fs/cgroup", "/dev/shm")
    }

    fn at(
        proc_root: impl Into<PathBuf>,
        cgroup_root: impl Into<PathBuf>,
        shm: impl Into<PathBuf>,
    ) -> Self {
        Self {
            proc_root: proc_root.into(),
            cgroup_root: cgroup_root.into(),
            shm: shm.into(),
            statm: None,
            page_bytes: rustix::param::page_size() as u64,
            seldom: None,
        }
    }

    /// What a heartbeat says.
    pub(crate) fn read(&mut self, now: Instant) -> wire::OwnMemory {
        let is_old = |(at, _): &(Instant, _)| now.duration_since(*at) >= SELDOM;
        if self.seldom.as_ref().is_none_or(is_old) {
            self.seldom = Some((now, self.seldom()));
        }
        let (at, seldom) = self
            .seldom
            .clone()
            .unwrap_or_else(|| (now, wire::OwnMemory::default()));
        wire::OwnMemory {
            age_s: now.duration_since(at).as_secs_f64(),
            rss_bytes: self.rss_bytes(),
            ..seldom
        }
    }

    fn rss_bytes(&mut self) -> Option<u64> {
        if self.statm.is_none() {
            self.statm = File::open(self.proc_root.join("self/statm")).ok();
        }
        let mut text = [0; 128];
        let read = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        Some(resident_pages(&text[..read])? * self.page_bytes)
    }

    fn seldom(&self) -> wire::OwnMemory {
        let mut said = wire::OwnMemory::default();
        if let Some(children) = self.children() {
            let rss = |pid: &u32| {
                let statm = fs::read(self.proc_root.join(pid.to_string()).join("statm")).ok()?;
                Some(resident_pages(&statm)? * self.page_bytes)
            };
            // One that has just ended has no memory.
            said.children_rss_bytes = Some(children.iter().filter_map(rss).sum());
            said.children = Some(children.len() as u32);
        }
        if let Some(group) = self.group() {
            said.cgroup = format!("/{}", group.path.display());
            let (limit, binding) = group.tightest();
            said.cgroup_limit_bytes = limit;
            said.cgroup_current_bytes = number(&binding.join(group.current));
            said.cgroup_working_set_bytes = said.cgroup_current_bytes.and_then(|current| {
                let stat = fs::read_to_string(binding.join("memory.stat")).ok()?;
                let inactive = field(&stat, group.inactive_file)?;
                Some(current.saturating_sub(inactive))
            });
        }
        if let Some((total, used)) = self.shm() {
            said.shm_total_bytes = Some(total);
            said.shm_used_bytes = Some(used);
        }
        said
    }

    /// Size and use. None: it is none, or no tmpfs with a size; of a folder on a disk it would be the disk that is full.
    fn shm(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::statfs(&self.shm).ok()?;
        // How wide these numbers are depends on the machine.
        #[allow(clippy::unnecessary_cast)]
        let (kind, block_bytes) = (stat.f_type as u64, stat.f_bsize as u64);
        if kind != TMPFS_MAGIC || stat.f_blocks == 0 {
            return None;
        }
        let bytes = |blocks: u64| blocks.saturating_mul(block_bytes);
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        Some((bytes(stat.f_blocks), bytes(used)))
    }

    /// Every descendant; None: this kernel does not say, or there are too many.
    fn children(&self) -> Option<Vec<u32>> {
        let mut found = Vec::new();
        let mut below = self.children_of("self")?;
        while let Some(pid) = below.pop() {
            if found.len() == MOST_CHILDREN {
                return None;
            }
            // One that has just ended has no children.
            below.extend(self.children_of(&pid.to_string()).unwrap_or_default());
            found.push(pid);
        }
        Some(found)
    }

    fn children_of(&self, process: &str) -> Option<Vec<u32>> {
        let mut pids = Vec::new();
        for task in fs::read_dir(self.proc_root.join(process).join("task")).ok()? {
            let thread = task.ok()?.path();
            let text = match fs::read_to_string(thread.join("children")) {
                Ok(text) => text,
                // A thread that has just ended has no children; without the file this kernel does not list them.
                Err(_) if !thread.exists() => continue,
                Err(error) if error.raw_os_error() == Some(NO_SUCH_PROCESS) => continue,
                Err(_) => return None,
            };
            pids.extend(
                text.split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        Some(pids)
    }

    fn group(&self) -> Option<Group> {
        let text = fs::read_to_string(self.proc_root.join("self/cgroup")).ok()?;
        let mut v2 = None;
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            if controllers.split(',').any(|name| name == "memory") {
                let root = self.cgroup_root.join("memory");
                return Some(Group {
                    path: below(&root, path),
                    root,
                    limit: "memory.limit_in_bytes",
                    current: "memory.usage_in_bytes",
                    inactive_file: "total_inactive_file",
                });
            }
            if controllers.is_empty() {
                v2 = Some(path);
            }
        }
        Some(Group {
            path: below(&self.cgroup_root, v2?),
            root: self.cgroup_root.clone(),
            limit: "memory.max",
            current: "memory.current",
            inactive_file: "inactive_file",
        })
    }
}

/// In a container the file system's root is the container's own group, whatever its path outside is.
fn below(root: &Path, path: &str) -> PathBuf {
    if !path.contains("..") && root.join(path).is_dir() {
        PathBuf::from(path)
    } else {
        PathBuf::new()
    }
}

impl Group {
    /// The smallest limit on the path, which is not known where one of them cannot be read, and the group that has the
    /// smallest that is known; without a limit the own group.
    fn tightest(&self) -> (Option<u64>, PathBuf) {
        let own = self.root.join(&self.path);
        let (mut best, mut binding) = (None, own.clone());
        let mut is_known = true;
        for folder in own.ancestors() {
            match limit(&folder.join(self.limit)) {
                Ok(Some(bytes)) if best.is_none_or(|least| bytes < least) => {
                    best = Some(bytes);
                    if bytes < u64::MAX {
                        binding = folder.to_path_buf();
                    }
                }
                Ok(_) => {}
                Err(_) => is_known = false,
            }
            if folder == self.root {
                break;
            }
        }
        (best.filter(|_| is_known), binding)
    }
}

/// The largest number: there is no limit. None: nor a file that could say one.
fn limit(path: &Path) -> io::Result<Option<u64>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = match text.trim() {
        "max" => u64::MAX,
        number => number.parse().map_err(io::Error::other)?,
    };
    Ok(Some(if bytes < V1_UNLIMITED {
        bytes
    } else {
        u64::MAX
    }))
}

/// Field 2 of a statm.
fn resident_pages(statm: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(statm).ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn memory(root: &Path) -> wire::OwnMemory {
        OwnMemory::at(root.join("proc"), root.join("cgroup"), root.join("shm")).read(Instant::now())
    }

    #[test]
    fn the_smallest_limit_on_the_path_binds() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        put(root, "proc/self/cgroup", "0::/pod/trainer\n");
        put(root, "cgroup/pod/memory.max", "1000\n");
        put(root, "cgroup/pod/memory.current", "700\n");
        put(
            root,
            "cgroup/pod/memory.stat",
            "anon 1\ninactive_file 100\n",
        );
        put(root, "cgroup/pod/trainer/memory.max", "max\n");
        put(root, "cgroup/pod/trainer/memory.current", "600\n");
        let said = memory(root);
        assert_eq!(said.cgroup, "/pod/trainer");
        assert_eq!(said.cgroup_limit_bytes, Some(1000));
        assert_eq!(said.cgroup_current_bytes, Some(700));
        assert_eq!(said.cgroup_working_set_bytes, Some(600));
        assert_eq!(said.rss_bytes, None, "there is no statm");
        assert_eq!(said.children_rss_bytes, None, "this kernel does not say");
    }

    #[test]
    fn a_limit_that_cannot_be_read_makes_the_smallest_unknown() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        put(root, "proc/self/cgroup", "0::/pod/trainer\n");
        put(root, "cgroup/pod/trainer/memory.max", "1000\n");
        put(root, "cgroup/pod/trainer/memory.current", "600\n");
        assert_eq!(memory(root).cgroup_limit_bytes, Some(1000));
        fs::create_dir(root.join("cgroup/pod/memory.max")).expect("a folder");
        let said = memory(root);
        assert_eq!(said.cgroup_limit_bytes, None, "it may be smaller");
        assert_eq!(said.cgroup_current_bytes, Some(600));
    }

    #[test]
    fn in_a_container_the_root_is_the_group() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        put(
            root,
            "proc/self/cgroup",
            "9:cpu:/docker/1\n7:memory:/docker/1\n0::/\n",
        );
        put(
            root,
            "cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        put(root, "cgroup/memory/memory.usage_in_bytes", "50\n");
        put(
            root,
            "cgroup/memory/memory.stat",
            "inactive_file 1\ntotal_inactive_file 20\n",
        );
        let said = memory(root);
        assert_eq!(said.cgroup, "/");
        assert_eq!(said.cgroup_limit_bytes, Some(u64::MAX), "no limit");
        assert_eq!(said.cgroup_working_set_bytes, Some(30));
    }

    #[test]
    fn descendants_are_summed_where_the_kernel_says_them() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        put(root, "proc/self/statm", "9 5 1 0 0 0 0\n");
        put(root, "proc/self/task/1/children", "11 ");
        put(root, "proc/self/task/2/children", "");
        put(root, "proc/11/task/11/children", "12 13 ");
        put(root, "proc/11/statm", "9 2 1\n");
        put(root, "proc/12/statm", "9 3 1\n");
        let said = memory(root);
        let page = rustix::param::page_size() as u64;
        assert_eq!(said.rss_bytes, Some(5 * page));
        assert_eq!(
            (said.children, said.children_rss_bytes),
            (Some(3), Some(5 * page))
        );
        assert_eq!(said.cgroup, "", "no cgroup is known");
        assert_eq!(said.shm_total_bytes, None);
    }

    #[test]
    fn a_thread_that_ends_meanwhile_hides_no_other_child() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        put(root, "proc/self/task/1/children", "11 ");
        put(root, "proc/11/statm", "9 2 1\n");
        std::os::unix::fs::symlink("gone", root.join("proc/self/task/2")).expect("a link");
        let said = memory(root);
        let page = rustix::param::page_size() as u64;
        assert_eq!(
            (said.children, said.children_rss_bytes),
            (Some(1), Some(2 * page))
        );
        fs::create_dir(root.join("proc/self/task/3")).expect("a folder");
        let said = memory(root);
        assert_eq!((said.children, said.children_rss_bytes), (None, None));
    }

    #[test]
    fn a_shm_that_is_no_tmpfs_is_none() {
        let root = tempfile::tempdir().expect("a directory");
        let link = |target: &str| {
            let shm = root.path().join("shm");
            // There is none the first time.
            let _ = fs::remove_file(&shm);
            std::os::unix::fs::symlink(target, shm).expect("a link");
            memory(root.path()).shm_total_bytes
        };
        assert_eq!(link("/proc"), None);
        assert!(link("/dev/shm").is_some());
    }
}
