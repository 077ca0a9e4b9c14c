//! A trainer's process and its descendants: resident set sizes from /proc/PID/statm. A pid that means another process now
//! is seen by its start ticks.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use procfs::FromRead;
use procfs::process::Stat;

use crate::domain::{ChildSample, Detail, ProcessRole, ProcessSample, Reading};
use crate::store::{Live, ProcessKey};

const SOURCE: &str = "/proc/PID/statm";
const SMAPS: &str = "/proc/PID/smaps_rollup";
const NOT_READ: &str = "not read yet";

struct Main {
    statm: Option<File>,
    children: Result<Arc<[ChildSample]>, String>,
    children_at: Instant,
}

/// Reads the processes that are watched.
pub struct Processes {
    root: PathBuf,
    page_bytes: u64,
    children_interval: Duration,
    mains: HashMap<ProcessKey, Main>,
    scanned_at: Option<Instant>,
}

impl Processes {
    /// Reads below `root`, which is /proc but in tests; children at most every `children_interval`.
    pub fn new(root: &Path, children_interval: Duration) -> Self {
        Self {
            root: root.to_path_buf(),
            page_bytes: rustix::param::page_size() as u64,
            children_interval,
            mains: HashMap::new(),
            scanned_at: None,
        }
    }

    /// Reads every watched process once.
    pub fn read(&mut self, live: &Live, now: Instant) {
        let watched = live.watched();
        let fresh = watched.iter().any(|key| !self.mains.contains_key(key));
        self.mains.retain(|key, _| watched.contains(key));
        let due = self
            .scanned_at
            .is_none_or(|at| now.duration_since(at) >= self.children_interval);
        let scan = (!watched.is_empty() && (due || fresh)).then(|| {
            self.scanned_at = Some(now);
            scan(&self.root)
        });
        for key in watched {
            let not_yet = || Main {
                statm: None,
                children: Err("not looked for yet".to_owned()),
                children_at: now,
            };
            let main = self.mains.entry(key).or_insert_with(not_yet);
            let value = rss_bytes(&self.root, key, main, self.page_bytes);
            if let Some(scan) = &scan {
                main.children_at = now;
                main.children = match scan {
                    Ok(processes) => Ok(Arc::from(descendants(
                        &self.root,
                        key.0,
                        processes,
                        self.page_bytes,
                        now,
                    ))),
                    Err(why) => Err(why.clone()),
                };
            }
            let sample = ProcessSample {
                rss_bytes: Reading {
                    value,
                    at: now,
                    source: SOURCE,
                },
                detail: Detail::unknown(NOT_READ, now, SMAPS),
                children: main.children.clone(),
                children_at: main.children_at,
                cgroup: Err(NOT_READ.to_owned()),
                shm: Err(NOT_READ.to_owned()),
                visible_devices: None,
            };
            live.set_process(key, sample);
        }
    }
}

fn rss_bytes(
    root: &Path,
    (pid, start_ticks): ProcessKey,
    main: &mut Main,
    page_bytes: u64,
) -> Result<f64, String> {
    let ended = || "the process has ended".to_owned();
    if main.statm.is_none() {
        let folder = root.join(pid.to_string());
        let file = File::open(folder.join("statm")).map_err(|error| describe(&error))?;
        // The descriptor stays with the process that it was opened for; only now the pid could mean another one.
        let stat = stat(&folder).ok_or_else(ended)?;
        if stat.starttime != start_ticks {
            return Err(ended());
        }
        main.statm = Some(file);
    }
    let mut text = [0; 128];
    let read = main
        .statm
        .as_ref()
        .expect("it was just opened")
        .read_at(&mut text, 0);
    let read = read
        .inspect_err(|_| main.statm = None)
        .map_err(|error| describe(&error))?;
    let pages = resident_pages(&text[..read]).ok_or_else(ended)?;
    // A process without pages is a zombie or a kernel thread: it has nothing to report.
    if pages == 0 {
        Err(ended())
    } else {
        Ok((pages * page_bytes) as f64)
    }
}

/// Field 2 of statm.
fn resident_pages(statm: &[u8]) -> Option<u64> {
    std::str::from_utf8(statm)
        .ok()?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "the process has ended".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            "the process has ended".to_owned()
        }
        _ => error.to_string(),
    }
}

fn stat(folder: &Path) -> Option<Stat> {
    Stat::from_read(File::open(folder.join("stat")).ok()?).ok()
}

/// Every process here: pid to parent and name. Zombies are left out.
fn scan(root: &Path) -> Result<HashMap<u32, (u32, String)>, String> {
    let folder = fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let each = pids.filter_map(|pid| {
        let stat = stat(&root.join(pid.to_string()))?;
        let parent = u32::try_from(stat.ppid).ok()?;
        (!matches!(stat.state, 'Z' | 'X')).then_some((pid, (parent, stat.comm)))
    });
    Ok(each.collect())
}

fn descendants(
    root: &Path,
    main: u32,
    processes: &HashMap<u32, (u32, String)>,
    page_bytes: u64,
    now: Instant,
) -> Vec<ChildSample> {
    let is_below = |pid: u32| {
        let mut at = pid;
        // A chain of parents is at most as long as there are processes.
        for _ in 0..processes.len() {
            match processes.get(&at) {
                Some((parent, _)) if *parent == main => return true,
                Some((parent, _)) => at = *parent,
                None => return false,
            }
        }
        false
    };
    let mut children: Vec<_> = processes
        .iter()
        .filter(|(pid, _)| is_below(**pid))
        .map(|(pid, (_, command))| {
            let statm = fs::read(root.join(pid.to_string()).join("statm"))
                .map_err(|error| describe(&error));
            let value = statm.and_then(|text| {
                let pages =
                    resident_pages(&text).ok_or_else(|| "its statm does not parse".to_owned())?;
                Ok((pages * page_bytes) as f64)
            });
            ChildSample {
                pid: *pid,
                command: command.clone(),
                role: ProcessRole::Child,
                detail: Detail::unknown(NOT_READ, now, SMAPS),
                rss_bytes: Reading {
                    value,
                    at: now,
                    source: SOURCE,
                },
            }
        })
        // One that ended between the two looks is gone, not unknown.
        .filter(|child| {
            child
                .rss_bytes
                .value
                .as_ref()
                .err()
                .is_none_or(|why| why != "the process has ended")
        })
        .collect();
    children.sort_by_key(|child| child.pid);
    children
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, pid: u32, parent: u32, state: char, start_ticks: u64, pages: u64) {
        let folder = root.join(pid.to_string());
        fs::create_dir_all(&folder).expect("a folder");
        let zeros = vec!["0"; 30].join(" ");
        let stat = format!(
            "{pid} (name {pid}) {state} {parent} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start_ticks} 0 0 {zeros}\n"
        );
        fs::write(folder.join("stat"), stat).expect("stat");
        fs::write(folder.join("statm"), format!("999 {pages} 1 1 0 1 0\n")).expect("statm");
    }

    #[test]
    fn a_tree_is_read_and_a_reused_pid_is_not_the_process() {
        let root = tempfile::tempdir().expect("a directory");
        put(root.path(), 10, 1, 'R', 500, 100);
        put(root.path(), 11, 10, 'S', 600, 7);
        put(root.path(), 12, 11, 'S', 601, 5);
        put(root.path(), 13, 10, 'Z', 602, 0);
        put(root.path(), 20, 1, 'R', 700, 50);
        let live = Live::default();
        live.watch(10, 500);
        live.watch(20, 1);
        live.watch(30, 1);
        let page = rustix::param::page_size() as f64;
        Processes::new(root.path(), Duration::from_secs(1)).read(&live, Instant::now());
        let sample = live.process(10, 500).expect("sampled");
        assert_eq!(sample.rss_bytes.value, Ok(100.0 * page));
        let children: Vec<_> = sample
            .children
            .expect("found")
            .iter()
            .map(|child| (child.pid, child.rss_bytes.value.clone()))
            .collect();
        assert_eq!(children, [(11, Ok(7.0 * page)), (12, Ok(5.0 * page))]);
        for (pid, what) in [(20, "a reused pid"), (30, "no such process")] {
            let sample = live.process(pid, 1).expect("sampled");
            assert_eq!(
                sample.rss_bytes.value,
                Err("the process has ended".to_owned()),
                "{what}"
            );
        }
    }

    #[test]
    fn children_are_looked_for_at_their_own_rate() {
        let root = tempfile::tempdir().expect("a directory");
        put(root.path(), 10, 1, 'R', 500, 100);
        let live = Live::default();
        live.watch(10, 500);
        let mut processes = Processes::new(root.path(), Duration::from_secs(1));
        let start = Instant::now();
        let count = |live: &Live| {
            live.process(10, 500)
                .expect("sampled")
                .children
                .expect("found")
                .len()
        };
        processes.read(&live, start);
        put(root.path(), 11, 10, 'S', 600, 7);
        processes.read(&live, start + Duration::from_millis(900));
        assert_eq!(count(&live), 0);
        processes.read(&live, start + Duration::from_secs(1));
        assert_eq!(count(&live), 1);
    }
}
