use std::time::{Duration, Instant};

use super::super::recorded::Recorded;
use super::*;
use crate::domain::Reading;

const V2: &str = "40 31 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const STAT_V2: &str = "anon 500\nfile 300\nshmem 7\ninactive_anon 1\ninactive_file 100\n";
const STAT_V1: &str = "\
cache 9
inactive_file 9
hierarchical_memory_limit 9223372036854771712
total_cache 300
total_swap 20
total_inactive_file 100
";
/// Without a limit, where pages are 4 KiB and where they are 64 KiB.
const NO_LIMIT_4K: &str = "9223372036854771712\n";
const NO_LIMIT_64K: &str = "9223372036854710272\n";

fn read(tree: &Recorded, said: &str) -> Result<CgroupSample, String> {
    let mut cgroups = Cgroups::new(&tree.proc(), &tree.cgroups());
    let sample = cgroups.read(said.as_bytes(), 10, true, Instant::now())?;
    Ok((*sample).clone())
}

fn value(reading: &Reading) -> Result<f64, &str> {
    reading
        .value
        .as_ref()
        .map(|value| *value)
        .map_err(String::as_str)
}

/// A group of version 2 with this limit and usage.
fn v2(tree: &Recorded, path: &str, limit: &str, current: &str) {
    tree.group(
        path,
        &[
            ("memory.max", limit),
            ("memory.current", current),
            ("memory.high", "1\n"),
            ("memory.stat", STAT_V2),
            ("memory.swap.current", "20\n"),
            ("memory.events", "low 0\nhigh 9\nmax 8\noom 2\noom_kill 1\noom_group_kill 0\n"),
            (
                "memory.pressure",
                "some avg10=1.50 avg60=9.00 avg300=9.00 total=9\nfull avg10=0.25 avg60=9.00 avg300=9.00 total=9\n",
            ),
        ],
    );
}

fn v1(tree: &Recorded, path: &str, limit: &str, usage: &str, oom_kills: u32) {
    let control = format!("oom_kill_disable 0\nunder_oom 0\noom_kill {oom_kills}\n");
    tree.group(
        &format!("memory/{path}"),
        &[
            ("memory.limit_in_bytes", limit),
            ("memory.usage_in_bytes", usage),
            ("memory.max_usage_in_bytes", "900\n"),
            ("memory.failcnt", "77\n"),
            ("memory.stat", STAT_V1),
            ("memory.oom_control", &control),
            ("memory.use_hierarchy", "1\n"),
        ],
    );
}

#[test]
fn v2_the_tightest_limit_on_the_path_binds() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", V2);
    tree.group("", &[("memory.stat", STAT_V2)]);
    v2(&tree, "slurm", "max\n", "5000\n");
    v2(&tree, "slurm/job", "2000\n", "1000\n");
    v2(&tree, "slurm/job/step", "2000\n", "700\n");
    v2(&tree, "slurm/job/step/task", "4000\n", "600\n");
    tree.group("slurm/job", &[("memory.peak", "1500\n")]);
    let sample = read(&tree, "0::/slurm/job/step/task\n").expect("found");
    assert_eq!(
        (sample.path.as_str(), sample.version),
        ("/slurm/job/step/task", 2)
    );
    assert_eq!(
        sample.limit_path, "/slurm/job",
        "of equal limits the outer one"
    );
    for (what, reading, expected) in [
        ("limit", &sample.limit_bytes, 2000.0),
        ("current", &sample.current_bytes, 1000.0),
        ("working set", &sample.working_set_bytes, 900.0),
        ("peak", &sample.peak_bytes, 1500.0),
        ("swap", &sample.swap_bytes, 20.0),
        ("file", &sample.file_bytes, 300.0),
        ("kills", &sample.oom_kills, 1.0),
        ("ooms", &sample.ooms, 2.0),
        ("some", &sample.pressure_some_percent, 1.5),
        ("full", &sample.pressure_full_percent, 0.25),
    ] {
        assert_eq!(value(reading), Ok(expected), "{what}");
    }
    assert_eq!(sample.limit_bytes.source, "memory.max");
}

#[test]
fn v2_no_limit_is_infinite_and_what_the_kernel_lacks_is_unknown() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", V2);
    let files = [
        ("memory.max", "max\n"),
        ("memory.current", "700\n"),
        ("memory.stat", STAT_V2),
    ];
    tree.group("job", &files);
    let sample = read(&tree, "0::/job\n").expect("found");
    assert_eq!(sample.limit_path, "/job");
    assert_eq!(value(&sample.limit_bytes), Ok(f64::INFINITY));
    assert_eq!(value(&sample.current_bytes), Ok(700.0));
    for (reading, why) in [
        (
            &sample.peak_bytes,
            "this kernel has no memory.peak (Linux 5.19 has)",
        ),
        (
            &sample.swap_bytes,
            "swap is not accounted here: there is no memory.swap.current",
        ),
        (&sample.oom_kills, "there is no memory.events"),
        (
            &sample.pressure_some_percent,
            "this kernel does not measure pressure (psi=1 at boot)",
        ),
    ] {
        assert_eq!(value(reading), Err(why));
    }
}

#[test]
fn v2_the_root_group_is_not_charged() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", V2);
    tree.group("", &[("memory.stat", STAT_V2)]);
    let sample = read(&tree, "0::/\n").expect("found");
    assert_eq!(
        (sample.path.as_str(), sample.limit_path.as_str()),
        ("/", "/")
    );
    assert_eq!(value(&sample.limit_bytes), Ok(f64::INFINITY));
    let why = "the root group has no memory.current";
    assert_eq!(value(&sample.current_bytes), Err(why));
    assert_eq!(value(&sample.working_set_bytes), Err(why));
    assert_eq!(value(&sample.file_bytes), Ok(300.0));
}

#[test]
fn v2_a_group_without_the_controller_is_charged_above() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", V2);
    tree.group("", &[("memory.stat", STAT_V2)]);
    tree.group("user/app", &[("cgroup.procs", "10\n")]);
    let sample = read(&tree, "0::/user/app\n").expect("found");
    let why = "the memory controller is not on in /user/app";
    assert_eq!(value(&sample.current_bytes), Err(why));
    v2(&tree, "user", "max\n", "700\n");
    let sample = read(&tree, "0::/user/app\n").expect("found");
    assert_eq!(
        (sample.path.as_str(), sample.limit_path.as_str()),
        ("/user/app", "/user")
    );
    assert_eq!(value(&sample.current_bytes), Ok(700.0));
}

#[test]
fn in_a_container_the_mount_begins_with_the_containers_own_group() {
    // With a cgroup namespace: both are called "/".
    let tree = Recorded::new();
    tree.put("self/mountinfo", V2);
    v2(&tree, "", "2000\n", "1000\n");
    let sample = read(&tree, "0::/\n").expect("found");
    assert_eq!(value(&sample.limit_bytes), Ok(2000.0));
    assert_eq!(value(&sample.current_bytes), Ok(1000.0));
    let seen = "memory.max, as far up as this cgroup namespace shows";
    assert_eq!(sample.limit_bytes.source, seen);
    // Without one: both have the host's name of it.
    let tree = Recorded::new();
    let bound = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    tree.put("self/mountinfo", bound);
    v1(&tree, "", NO_LIMIT_4K, "1000\n", 0);
    v1(&tree, "inner", "3000\n", "500\n", 0);
    let sample = read(&tree, "4:memory:/docker/abc/inner\n0::/docker/abc\n").expect("found");
    assert_eq!(sample.limit_path, "/docker/abc/inner");
    assert_eq!(value(&sample.limit_bytes), Ok(3000.0));
    // Without a word about mounts: the group is not below the root, but the root is charged.
    let tree = Recorded::new();
    tree.group("", &[("cgroup.controllers", "memory\n")]);
    v2(&tree, "", "2000\n", "1000\n");
    let sample = read(&tree, "0::/docker/abc\n").expect("found");
    assert_eq!(sample.path, "/docker/abc");
    assert_eq!(value(&sample.limit_bytes), Ok(2000.0));
}

#[test]
fn a_group_outside_of_the_namespace_is_said_to_be_so() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", V2);
    v2(&tree, "", "2000\n", "1000\n");
    for said in ["0::/../other\n", "0::/elsewhere\n"] {
        let why = read(&tree, said).expect_err("it cannot be seen");
        assert!(why.contains("is outside of the cgroup namespace"), "{why}");
    }
    // Its own mounts, through its root, have it.
    let theirs = "40 31 0:27 /../other /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    tree.put("10/mountinfo", theirs);
    tree.put("10/root/sys/fs/cgroup/memory.max", "500\n");
    tree.put("10/root/sys/fs/cgroup/memory.current", "400\n");
    let sample = read(&tree, "0::/../other\n").expect("found");
    assert_eq!(
        (sample.path.as_str(), sample.limit_path.as_str()),
        ("/../other", "/../other")
    );
    assert_eq!(value(&sample.limit_bytes), Ok(500.0));
    let none = read(&Recorded::new(), "0::/job\n").expect_err("nothing is mounted");
    assert!(none.starts_with("no cgroup v2 file system"), "{none}");
    let none = read(&Recorded::new(), "3:cpu:/job\n").expect_err("no memory");
    assert_eq!(none, "this kernel has no memory cgroups");
}

#[test]
fn v1_limits_are_hierarchical() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", HYBRID);
    v1(&tree, "", NO_LIMIT_4K, "9000\n", 5);
    v1(&tree, "job", "2000\n", "1000\n", 1);
    v1(&tree, "job/task", NO_LIMIT_64K, "600\n", 2);
    let said = "4:memory:/job/task\n3:cpu:/x\n0::/\n";
    let sample = read(&tree, said).expect("found");
    assert_eq!((sample.path.as_str(), sample.version), ("/job/task", 1));
    assert_eq!(sample.limit_path, "/job");
    for (what, reading, expected) in [
        ("limit", &sample.limit_bytes, 2000.0),
        ("current", &sample.current_bytes, 1000.0),
        ("working set", &sample.working_set_bytes, 900.0),
        ("peak", &sample.peak_bytes, 900.0),
        ("swap", &sample.swap_bytes, 20.0),
        ("file", &sample.file_bytes, 300.0),
        ("kills on the path up to the limit", &sample.oom_kills, 3.0),
    ] {
        assert_eq!(value(reading), Ok(expected), "{what}");
    }
    assert_eq!(value(&sample.ooms), Err("cgroup v1 does not count it"));
    assert_eq!(
        value(&sample.pressure_some_percent),
        Err("cgroup v1 has no pressure")
    );
    // A group that does not count its children does not limit them either.
    tree.group("memory/job", &[("memory.use_hierarchy", "0\n")]);
    let sample = read(&tree, said).expect("found");
    assert_eq!(sample.limit_path, "/job/task");
    assert_eq!(value(&sample.limit_bytes), Ok(f64::INFINITY));
}

#[test]
fn v1_says_of_limits_above_what_can_be_seen() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", HYBRID);
    v1(&tree, "", NO_LIMIT_4K, "600\n", 0);
    let limited = STAT_V1.replace("9223372036854771712", "4096");
    tree.group("memory", &[("memory.stat", &limited)]);
    let sample = read(&tree, "4:memory:/\n").expect("found");
    assert_eq!(value(&sample.limit_bytes), Ok(4096.0));
    assert_eq!(
        sample.limit_bytes.source,
        "memory.stat hierarchical_memory_limit"
    );
    // Swap may not be accounted.
    let without = limited.replace("total_swap 20\n", "");
    tree.group("memory", &[("memory.stat", &without)]);
    let sample = read(&tree, "4:memory:/\n").expect("found");
    let why = "memory.stat has no total_swap: swap is not accounted (swapaccount=1 at boot)";
    assert_eq!(value(&sample.swap_bytes), Err(why));
}

#[test]
fn beside_v1_the_unified_hierarchy_has_the_pressure_of_the_same_group() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", HYBRID);
    v1(&tree, "", NO_LIMIT_4K, "9000\n", 0);
    v1(&tree, "job", "2000\n", "1000\n", 0);
    let pressure = "some avg10=7.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=1\n";
    tree.group("unified/job", &[("memory.pressure", pressure)]);
    let sample = read(&tree, "4:memory:/job\n0::/job\n").expect("found");
    assert_eq!(sample.version, 1);
    assert_eq!(value(&sample.pressure_some_percent), Ok(7.0));
    assert_eq!(value(&sample.pressure_full_percent), Ok(3.0));
}

#[test]
fn limits_are_looked_at_each_turn_and_a_group_is_read_once_for_all() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", V2);
    v2(&tree, "job", "max\n", "5000\n");
    v2(&tree, "job/task", "4000\n", "600\n");
    let mut cgroups = Cgroups::new(&tree.proc(), &tree.cgroups());
    let start = Instant::now();
    let said = b"0::/job/task\n";
    let first = cgroups.read(said, 10, true, start).expect("found");
    let second = cgroups.read(said, 11, true, start).expect("found");
    assert!(Arc::ptr_eq(&first, &second), "of the same turn");
    assert_eq!(first.limit_path, "/job/task");
    tree.group("job", &[("memory.max", "3000\n")]);
    let later = start + Duration::from_secs(1);
    let third = cgroups.read(said, 10, true, later).expect("found");
    assert_eq!(third.limit_path, "/job");
    assert_eq!(value(&third.current_bytes), Ok(5000.0));
    cgroups.keep(std::iter::empty());
    assert!(cgroups.known.is_empty());
}

#[test]
fn a_group_is_read_on_when_its_name_is_gone() {
    let tree = Recorded::new();
    tree.put("self/mountinfo", V2);
    v2(&tree, "job", "2000\n", "600\n");
    let mut cgroups = Cgroups::new(&tree.proc(), &tree.cgroups());
    let start = Instant::now();
    let said = b"0::/job\n";
    cgroups.read(said, 10, true, start).expect("found");
    std::fs::remove_dir_all(tree.cgroups().join("job")).expect("it was there");
    let later = start + Duration::from_secs(1);
    let sample = cgroups.read(said, 10, false, later).expect("kept");
    assert_eq!(value(&sample.oom_kills), Ok(1.0));
}

/// Cgroups that have read a group once, which then was removed; its sample after that.
fn removed(mountinfo: &str, above: &str, above_later: Option<&str>) -> Sample {
    let tree = Recorded::new();
    tree.put("self/mountinfo", mountinfo);
    v2(&tree, "slice", "max\n", "5000\n");
    v2(&tree, "slice/job.scope", "2000\n", "600\n");
    tree.group("slice", &[("memory.events", above)]);
    let mut cgroups = Cgroups::new(&tree.proc(), &tree.cgroups());
    let start = Instant::now();
    let said = b"0::/slice/job.scope\n";
    let first = cgroups.read(said, 10, true, start).expect("found");
    assert_eq!(first.limit_path, "/slice/job.scope");
    assert_eq!(value(&first.oom_kills), Ok(1.0));
    tree.group("slice", &[("memory.events", above_later.unwrap_or(above))]);
    let known = cgroups.known.get_mut(&said[..]).expect("it was read");
    let group = known.group.as_mut().expect("it was found");
    let later = start + Duration::from_secs(1);
    // A recorded file goes on being readable when its name is gone; the kernel's does not.
    let ended = group.end(later).map(Arc::new);
    tree.group("slice", &[("memory.events", "oom_kill 99\n")]);
    let much_later = start + Duration::from_secs(2);
    let read = cgroups.read(said, 10, false, much_later);
    assert_eq!(read, ended, "what others do later is none of its business");
    read
}

#[test]
fn of_a_removed_group_the_one_above_says_the_kills() {
    let events = |kills: u32| format!("low 0\noom 3\noom_kill {kills}\n");
    let sample = removed(V2, &events(4), Some(&events(5))).expect("its kills are known");
    assert_eq!(value(&sample.oom_kills), Ok(2.0), "one more than its own");
    assert!(sample.oom_kills.source.contains("of the group above it"));
    assert_eq!(sample.limit_path, "/slice/job.scope");
    let gone = "its group /slice/job.scope has been removed";
    for reading in [
        &sample.limit_bytes,
        &sample.current_bytes,
        &sample.working_set_bytes,
        &sample.ooms,
    ] {
        assert_eq!(value(reading), Err(gone));
    }
    let sample = removed(V2, &events(4), None).expect("its kills are known");
    assert_eq!(value(&sample.oom_kills), Ok(1.0), "nobody else was killed");
    // Above they are not counted, or not by this kernel.
    let local = V2.replace("nsdelegate", "nsdelegate,memory_localevents");
    for (mountinfo, above) in [(local.as_str(), events(4)), (V2, "low 0\n".to_owned())] {
        let why = removed(mountinfo, &above, None).expect_err("not known");
        assert_eq!(why, gone);
    }
}
