use super::super::recorded::Recorded;
use super::*;
use crate::domain::ProcessRole;

const MANY: usize = 1000;

fn page() -> f64 {
    rustix::param::page_size() as f64
}

fn processes(tree: &Recorded, descriptors: usize) -> Processes {
    Processes::new(&tree.proc(), Duration::from_secs(10), descriptors)
}

fn look(processes: &mut Processes, live: &Live, now: Instant) {
    processes.follow(&live.watched(), now);
    processes.read_mains(Which::All, now);
    processes.read_children(Which::All, now);
    processes.publish(live);
}

/// (pid, role, pages) of all below process 10.
fn below(live: &Live) -> Vec<(u32, ProcessRole, Result<f64, String>)> {
    let sample = live.process(10, 500).expect("sampled");
    let children = sample.children.expect("found");
    let each = children.iter().map(|child| {
        let pages = child.rss_bytes.value.clone().map(|bytes| bytes / page());
        (child.pid, child.role, pages)
    });
    each.collect()
}

fn watched() -> Live {
    let live = Live::default();
    live.watch(10, 500);
    live
}

/// 10 has forked 11, which has forked 12; 13 is a zombie, 14 has gone between two looks, 15 is another's by now.
fn family(tree: &Recorded) {
    tree.process(10, 1, 500, 100);
    tree.process(11, 10, 600, 7);
    tree.process(12, 11, 601, 5);
    tree.put("12/cmdline", "sh\0");
    tree.zombie(13, 10, 602);
    tree.process(15, 1, 604, 50);
}

#[test]
fn a_tree_is_found_by_lists_of_children_or_by_all_of_proc() {
    use ProcessRole::{Child, Worker};
    for (lists, descriptors) in [(true, MANY), (true, 0), (false, MANY), (false, 0)] {
        let tree = Recorded::new();
        family(&tree);
        // A folder that was seen but whose files are gone: the process ended between readdir and open.
        std::fs::create_dir(tree.proc().join("14")).expect("a folder");
        if lists {
            tree.children(10, 10, &[11, 13, 14, 15]);
            tree.children(11, 11, &[12]);
            tree.children(12, 12, &[]);
        }
        let live = watched();
        let mut processes = processes(&tree, descriptors);
        let start = Instant::now();
        for second in 0..3 {
            look(&mut processes, &live, start + Duration::from_secs(second));
            let sample = live.process(10, 500).expect("sampled");
            assert_eq!(sample.rss_bytes.value, Ok(100.0 * page()));
            let found = [(11, Worker, Ok(7.0)), (12, Child, Ok(5.0))];
            assert_eq!(below(&live), found, "lists: {lists}");
        }
    }
}

#[test]
fn children_of_every_thread_are_found_and_stay() {
    let tree = Recorded::new();
    tree.process(10, 1, 500, 100);
    tree.process(11, 10, 600, 7);
    tree.children(10, 10, &[]);
    let live = watched();
    let mut processes = processes(&tree, MANY);
    let start = Instant::now();
    look(&mut processes, &live, start);
    assert_eq!(below(&live), []);
    tree.children(10, 17, &[11]);
    // One thread more is seen at once where folders count their folders, and in any case after a while.
    for second in [5, 6, 7] {
        look(&mut processes, &live, start + Duration::from_secs(second));
        assert_eq!(below(&live).len(), 1, "after {second} s");
    }
}

#[test]
fn where_nobody_was_forked_only_those_that_are_known_are_looked_at() {
    use ProcessRole::{Child, Worker};
    let tree = Recorded::new();
    family(&tree);
    tree.children(10, 10, &[11]);
    tree.children(11, 11, &[]);
    tree.children(12, 12, &[]);
    let newest = |pid: u32| tree.put("loadavg", &format!("0.00 0.01 0.05 1/99 {pid}\n"));
    newest(12);
    let live = watched();
    let mut processes = processes(&tree, MANY);
    let start = Instant::now();
    let mut seen = |second: u64| {
        look(&mut processes, &live, start + Duration::from_secs(second));
        below(&live)
    };
    assert_eq!(seen(0), [(11, Worker, Ok(7.0))]);
    // It is there and in the lists, but nothing says that somebody has come: the lists are not read.
    tree.children(11, 11, &[12]);
    tree.put("11/statm", "999 8 1\n");
    assert_eq!(seen(1), [(11, Worker, Ok(8.0))]);
    newest(16);
    assert_eq!(seen(2), [(11, Worker, Ok(8.0)), (12, Child, Ok(5.0))]);
    // One that ends may leave its children to others.
    tree.children(10, 10, &[11, 12]);
    tree.children(11, 11, &[]);
    tree.end(11);
    let of_trainer = [(12, Child, Ok(5.0))];
    assert_eq!(seen(3), of_trainer);
    // After a while they are read in any case.
    tree.children(10, 10, &[]);
    assert_eq!(seen(4), of_trainer);
    assert_eq!(seen(8), []);
}

#[test]
fn a_reused_pid_is_not_the_process() {
    let tree = Recorded::new();
    tree.process(20, 1, 700, 50);
    let live = Live::default();
    live.watch(20, 1);
    live.watch(30, 1);
    look(&mut processes(&tree, MANY), &live, Instant::now());
    for (pid, what) in [(20, "a reused pid"), (30, "no such process")] {
        let sample = live.process(pid, 1).expect("sampled");
        let ended = "the process has ended".to_owned();
        assert_eq!(sample.rss_bytes.value, Err(ended.clone()), "{what}");
        assert_eq!(sample.children, Err(ended), "{what}");
    }
}

#[test]
fn one_without_pages_has_ended_only_if_the_kernel_says_so() {
    let tree = Recorded::new();
    tree.process(10, 1, 500, 100);
    tree.process(11, 10, 600, 7);
    tree.children(10, 10, &[11]);
    tree.children(11, 11, &[]);
    tree.children(12, 12, &[]);
    let live = watched();
    let mut processes = processes(&tree, MANY);
    let start = Instant::now();
    let mut rss = |second: u64| {
        look(&mut processes, &live, start + Duration::from_secs(second));
        let sample = live.process(10, 500).expect("sampled");
        let below = sample.children.map(|all| all.len());
        (sample.rss_bytes.value.map(|bytes| bytes / page()), below)
    };
    assert_eq!(rss(0), (Ok(100.0), Ok(1)));
    // All of it is swapped out.
    tree.process(10, 1, 500, 0);
    tree.process(11, 10, 600, 0);
    assert_eq!(rss(1), (Ok(0.0), Ok(1)));
    tree.process(10, 1, 500, 3);
    assert_eq!(rss(2), (Ok(3.0), Ok(1)));
    tree.put("10/statm", "no number\n");
    assert_eq!(rss(3), (Err("its statm does not parse".to_owned()), Ok(1)));
    tree.zombie(10, 1, 500);
    let ended = "the process has ended".to_owned();
    assert_eq!(rss(4), (Err(ended.clone()), Err(ended)));
}

#[test]
fn a_child_that_comes_with_the_pid_of_another_is_another() {
    for descriptors in [MANY, 0] {
        let tree = Recorded::new();
        tree.process(10, 1, 500, 100);
        tree.process(11, 10, 600, 7);
        tree.children(10, 10, &[11]);
        tree.children(11, 11, &[]);
        tree.children(12, 12, &[]);
        tree.rollup(10, 1000);
        tree.rollup(11, 200);
        let live = watched();
        let mut processes = processes(&tree, descriptors);
        let start = Instant::now();
        look(&mut processes, &live, start);
        while processes.next_detail().is_some_and(|due| due <= start) {
            processes.read_one_detail(start);
        }
        processes.publish(&live);
        let pss = |live: &Live| {
            let sample = live.process(10, 500).expect("sampled");
            sample.children.expect("found")[0].detail.pss_bytes.clone()
        };
        assert_eq!(pss(&live).value, Ok(200.0 * 1024.0));
        tree.end(11);
        tree.process(11, 10, 900, 8);
        tree.children(11, 11, &[]);
        look(&mut processes, &live, start + Duration::from_secs(1));
        assert_eq!(below(&live), [(11, ProcessRole::Worker, Ok(8.0))]);
        assert_eq!(pss(&live).value, Err("not read yet".to_owned()));
        tree.end(11);
        look(&mut processes, &live, start + Duration::from_secs(2));
        assert_eq!(below(&live), []);
    }
}

#[test]
fn roles_follow_what_a_process_runs_and_who_is_watched() {
    use ProcessRole::{Child, Worker};
    let tree = Recorded::new();
    tree.process(10, 1, 500, 100);
    tree.children(10, 10, &[11, 12]);
    for pid in [11, 12] {
        tree.process(pid, 10, 590 + u64::from(pid), 7);
        tree.children(pid, pid, &[]);
    }
    let live = watched();
    let mut processes = processes(&tree, MANY);
    let start = Instant::now();
    look(&mut processes, &live, start);
    let roles = |live: &Live| -> Vec<ProcessRole> {
        below(live).into_iter().map(|(_, role, _)| role).collect()
    };
    assert_eq!(roles(&live), [Worker, Worker]);
    // The first runs another program, the second is attached as another rank's.
    tree.put("11/cmdline", "sh\0-c\0nvidia-smi\0");
    tree.put("11/comm", "sh\n");
    live.watch(12, 602);
    look(&mut processes, &live, start + Duration::from_secs(1));
    assert_eq!(roles(&live), [Child, Child]);
    let sample = live.process(10, 500).expect("sampled");
    assert_eq!(sample.children.expect("found")[0].command, "sh");
}

#[test]
fn details_are_read_one_at_a_time_those_first_that_waited_longest() {
    let tree = Recorded::new();
    tree.process(10, 1, 500, 100);
    tree.children(10, 10, &[11, 12]);
    tree.rollup(10, 1000);
    for pid in [11, 12] {
        tree.process(pid, 10, 600, 7);
        tree.children(pid, pid, &[]);
        tree.rollup(pid, u64::from(pid));
    }
    let live = watched();
    let mut processes = processes(&tree, MANY);
    let start = Instant::now();
    look(&mut processes, &live, start);
    let known = |live: &Live| {
        let sample = live.process(10, 500).expect("sampled");
        let children = sample.children.expect("found");
        let below = children.iter().map(|child| child.detail.pss_bytes.clone());
        let all = [sample.detail.pss_bytes].into_iter().chain(below);
        all.filter_map(|pss| Some((pss.value.ok()?, pss.at)))
            .collect::<Vec<_>>()
    };
    let mut first = Vec::new();
    for turn in 0..3 {
        assert_eq!(known(&live).len(), turn);
        let now = start + Duration::from_millis(100) * u32::try_from(turn).expect("small");
        assert_eq!(processes.read_one_detail(now), None, "never before");
        first.push(now);
        processes.publish(&live);
    }
    let kib = |count: f64| count * 1024.0;
    let numbers = [kib(1000.0), kib(11.0), kib(12.0)];
    let ages: Vec<_> = numbers.into_iter().zip(first).collect();
    assert_eq!(known(&live), ages, "each is as old as its own reading");
    let soon = start + Duration::from_secs(5);
    assert_eq!(processes.read_one_detail(soon), None);
    assert_eq!(known(&live), ages, "nothing was due");
    let late = start + Duration::from_secs(12);
    let since = processes.read_one_detail(late);
    assert_eq!(since, Some(Duration::from_secs(12)), "the main process");
    processes.publish(&live);
    assert_eq!(known(&live)[0], (kib(1000.0), late));
}

#[test]
fn of_one_that_has_ended_only_the_group_is_read_on() {
    let tree = Recorded::new();
    tree.process(10, 1, 500, 100);
    tree.children(10, 10, &[]);
    tree.put("10/cgroup", "0::/job\n");
    tree.put("10/environ", "A=1\0CUDA_VISIBLE_DEVICES=2,3\0");
    std::fs::create_dir_all(tree.proc().join("10/root/dev")).expect("folders");
    let shm = tree.proc().join("10/root/dev/shm");
    std::os::unix::fs::symlink("/dev/shm", shm).expect("a link");
    tree.group("", &[("cgroup.controllers", "memory\n")]);
    let events = |kills: u32| format!("oom 3\noom_kill {kills}\n");
    tree.group(
        "job",
        &[
            ("memory.current", "100\n"),
            ("memory.max", "1000\n"),
            ("memory.events", &events(0)),
        ],
    );
    let live = watched();
    let mut processes = processes(&tree, MANY);
    let mut cgroups = Cgroups::new(&tree.proc(), &tree.cgroups());
    let start = Instant::now();
    let mut turn = |second: u64| {
        let now = start + Duration::from_secs(second);
        processes.follow(&live.watched(), now);
        let ended = processes.read_mains(Which::All, now);
        processes.read_children(Which::All, now);
        processes.read_cgroups(Which::All, &mut cgroups, now);
        processes.read_shm(Which::All, now);
        processes.publish(&live);
        (ended, live.process(10, 500).expect("sampled"))
    };
    let (ended, sample) = turn(0);
    assert!(!ended && sample.shm.is_ok());
    assert_eq!(sample.visible_devices.as_deref(), Some("2,3"));
    let kills = |sample: &ProcessSample| {
        let group = sample.cgroup.clone().expect("its group is known");
        group.oom_kills.value.clone()
    };
    assert_eq!(kills(&sample), Ok(0.0));
    tree.end(10);
    tree.group("job", &[("memory.events", &events(1))]);
    let (ended, sample) = turn(1);
    assert!(ended, "it is said once");
    assert_eq!(kills(&sample), Ok(1.0));
    let why = "the process has ended".to_owned();
    assert_eq!(sample.rss_bytes.value, Err(why.clone()));
    assert_eq!(sample.detail.pss_bytes.value, Err(why.clone()));
    assert_eq!((sample.children, sample.shm), (Err(why.clone()), Err(why)));
    assert_eq!(sample.visible_devices.as_deref(), Some("2,3"));
    let (ended, sample) = turn(2);
    assert!(!ended);
    assert_eq!(kills(&sample), Ok(1.0));
}

#[test]
fn a_group_is_left_for_another_only_by_one_that_lives_on_there() {
    let tree = Recorded::new();
    tree.process(10, 1, 500, 100);
    tree.group("", &[("cgroup.controllers", "memory\n")]);
    for group in ["job", "other"] {
        tree.group(
            group,
            &[("memory.current", "100\n"), ("memory.max", "1000\n")],
        );
    }
    let live = watched();
    let mut processes = processes(&tree, MANY);
    let mut cgroups = Cgroups::new(&tree.proc(), &tree.cgroups());
    let start = Instant::now();
    let mut group = |second: u64, said: &str| {
        tree.put("10/cgroup", said);
        let now = start + Duration::from_secs(second);
        processes.follow(&live.watched(), now);
        processes.read_cgroups(Which::All, &mut cgroups, now);
        processes.publish(&live);
        let sample = live.process(10, 500).expect("sampled");
        sample.cgroup.expect("its group is known").path.clone()
    };
    assert_eq!(group(0, "0::/job\n"), "/job");
    assert_eq!(group(1, "0::/other\n"), "/job");
    assert_eq!(group(2, "0::/other\n"), "/other", "it has moved");
    // What version 1 says of one that is ending.
    assert_eq!(group(3, "0::/\n"), "/other");
    tree.put("10/statm", "0 0 0 0 0 0 0\n");
    assert_eq!(group(4, "0::/\n"), "/other");
}
