//! The probes against real processes: what they say is what a walk over /proc says, and what the kernel did.

mod trainers;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hookbusd::domain::{ProcessRole, ProcessSample, Reading};
use hookbusd::store::Live;

use trainers::{Trainer, sampler, until};

const ARRAY_BYTES: u64 = 200 << 20;

/// A trainer with four workers that share an array, all of which has been touched by each.
const SHARING: &str = r#"
import mmap, multiprocessing, os, sys
SIZE = 200 << 20
array = mmap.mmap(-1, SIZE)
for at in range(0, SIZE, 4096):
    array[at] = 1
ready, ready_end = os.pipe()
done, done_end = os.pipe()
def work():
    os.close(done_end)
    assert sum(array[at] for at in range(0, SIZE, 4096)) == SIZE // 4096
    os.write(ready_end, b"x")
    os.read(done, 1)
context = multiprocessing.get_context("fork")
workers = [context.Process(target=work) for _ in range(4)]
for worker in workers:
    worker.start()
seen = 0
while seen < 4:
    seen += len(os.read(ready, 4))
print("ready", flush=True)
sys.stdin.read()
os.close(done_end)
for worker in workers:
    worker.join()
"#;

/// Enters the group that it is given and then uses more memory than that has.
const GREEDY: &str = r#"
import os, sys
with open(sys.argv[1] + "/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
print("ready", flush=True)
sys.stdin.readline()
print(len(b"x" * (256 << 20)))
"#;

/// The sum of PSS over a process and all below it, from smaps itself.
fn walked_pss_bytes(main: u32) -> u64 {
    let mut parents = HashMap::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // What ends meanwhile is not one of ours.
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if let Some(parent) = parent.and_then(|parent| parent.trim().parse::<u32>().ok()) {
            parents.insert(pid, parent);
        }
    }
    let is_below = |mut pid: u32| loop {
        if pid == main {
            return true;
        }
        match parents.get(&pid) {
            Some(parent) => pid = *parent,
            None => return false,
        }
    };
    let ours = parents.keys().filter(|pid| is_below(**pid));
    let kib: u64 = ours
        .map(|pid| {
            let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("it lives");
            let each = smaps.lines().filter_map(|line| line.strip_prefix("Pss:"));
            each.map(|text| {
                text.trim()
                    .trim_end_matches(" kB")
                    .parse::<u64>()
                    .expect("kB")
            })
            .sum::<u64>()
        })
        .sum();
    kib * 1024
}

fn sample(live: &Live, (pid, start_ticks): (u32, u64)) -> Option<ProcessSample> {
    live.process(pid, start_ticks).ok()
}

fn known(reading: &Reading) -> f64 {
    *reading.value.as_ref().expect("it is known")
}

#[test]
fn pss_counts_a_shared_array_once_and_rss_five_times() {
    let trainer = Trainer::start(SHARING, &[]);
    let since = Instant::now();
    let (live, key) = (Live::default(), trainer.key());
    live.watch(key.0, key.1);
    let sampler = sampler(&live);
    let is_read = |sample: &ProcessSample| {
        let children = sample.children.clone().unwrap_or_default();
        let pss = children.iter().map(|child| child.detail.pss_bytes.clone());
        let mut all = pss.chain([sample.detail.pss_bytes.clone()]);
        children.len() == 4 && all.all(|pss| pss.value.is_ok() && pss.at >= since)
    };
    until("the detail of all five", || {
        sample(&live, key).is_some_and(|sample| is_read(&sample))
    });
    let sample = sample(&live, key).expect("it is sampled");
    let children = sample.children.clone().expect("found");
    for child in children.iter() {
        assert_eq!(child.role, ProcessRole::Worker, "{child:?}");
        assert!(known(&child.detail.uss_bytes) < ARRAY_BYTES as f64);
    }
    let pss = known(&sample.detail.pss_bytes)
        + children
            .iter()
            .map(|child| known(&child.detail.pss_bytes))
            .sum::<f64>();
    let rss = known(&sample.rss_bytes)
        + children
            .iter()
            .map(|child| known(&child.rss_bytes))
            .sum::<f64>();
    let walked = walked_pss_bytes(key.0) as f64;
    println!("PSS {pss}, by smaps {walked}, RSS {rss}");
    assert!((pss / walked - 1.0).abs() < 0.02, "{pss} and {walked}");
    assert!(
        pss > ARRAY_BYTES as f64 && pss < 1.5 * ARRAY_BYTES as f64,
        "{pss}"
    );
    assert!(rss > 5.0 * ARRAY_BYTES as f64, "{rss}");
    let shared = known(&sample.detail.shmem_bytes);
    assert!(
        (shared * 5.0 / ARRAY_BYTES as f64 - 1.0).abs() < 0.02,
        "its fifth: {shared}"
    );
    let shm = sample.shm.expect("it has a /dev/shm");
    assert!(shm.total_bytes >= shm.used_bytes + shm.free_bytes);
    sampler.stop();
}

/// A memory cgroup of this test alone.
struct Group {
    folder: PathBuf,
    version: u8,
}

impl Group {
    fn made(limit_bytes: u64) -> Self {
        let (root, version, limit) = if Path::new("/sys/fs/cgroup/memory").is_dir() {
            ("/sys/fs/cgroup/memory", 1, "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup", 2, "memory.max")
        };
        let folder = Path::new(root).join(format!("hookbus-{}", std::process::id()));
        fs::create_dir(&folder).expect("a group can be made");
        let group = Self { folder, version };
        fs::write(group.folder.join(limit), limit_bytes.to_string()).expect("a limit can be set");
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
#[ignore = "makes a memory cgroup and lets the kernel kill a process in it: needs root and a writable /sys/fs/cgroup"]
fn the_limit_is_the_groups_and_a_kill_by_the_kernel_is_seen() {
    let limit = 64 << 20;
    let group = Group::made(limit);
    let path = group.folder.to_str().expect("UTF-8");
    let mut trainer = Trainer::start(GREEDY, &[path]);
    let (live, key) = (Live::default(), trainer.key());
    live.watch(key.0, key.1);
    let sampler = sampler(&live);
    let cgroup = || sample(&live, key).and_then(|sample| sample.cgroup.ok());
    until("its group", || {
        cgroup().is_some_and(|group| group.limit_bytes.value == Ok(limit as f64))
    });
    let seen = cgroup().expect("seen");
    let name = format!("/hookbus-{}", std::process::id());
    assert_eq!((&seen.limit_path, seen.version), (&name, group.version));
    assert!(known(&seen.current_bytes) <= limit as f64);
    assert!(known(&seen.working_set_bytes) <= known(&seen.current_bytes));
    assert_eq!(seen.oom_kills.value, Ok(0.0));
    trainer.go_on();
    until("the kill", || {
        cgroup().is_some_and(|group| group.oom_kills.value == Ok(1.0))
    });
    until("its end", || {
        let ended = Err("the process has ended".to_owned());
        sample(&live, key).is_some_and(|sample| sample.rss_bytes.value == ended)
    });
    drop(trainer);
    drop(group);
    until("the end of the group", || {
        let why = format!("its group {name} has been removed");
        sample(&live, key).is_some_and(|sample| sample.cgroup == Err(why))
    });
    sampler.stop();
}
