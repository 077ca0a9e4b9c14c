use super::super::recorded::Recorded;
use super::super::{Rate, Settings};
use super::*;

fn settings(tree: &Recorded) -> Settings {
    let hourly = Rate {
        interval: Duration::from_secs(3600),
        budget_percent: 100.0,
    };
    Settings {
        proc_root: tree.proc(),
        cgroup_root: tree.cgroups(),
        host: hourly,
        process: hourly,
        children: hourly,
        cgroup: hourly,
        shm: hourly,
        gpu: false,
        ..Settings::default()
    }
}

fn known(live: &Live) -> usize {
    let sample = live.process(10, 500).expect("sampled");
    let children = sample.children.expect("found");
    let below = children.iter().map(|child| &child.detail);
    let all = below.chain([&sample.detail]);
    all.filter(|detail| detail.pss_bytes.value.is_ok()).count()
}

#[test]
fn between_two_fast_turns_one_smaps_is_read() {
    let tree = Recorded::new();
    tree.put(
        "meminfo",
        "MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: 2 kB\n",
    );
    tree.process(10, 1, 500, 100);
    tree.process(11, 10, 600, 7);
    tree.children(10, 10, &[11]);
    tree.rollup(10, 1000);
    tree.rollup(11, 200);
    let live = Live::default();
    let mut turns = Turns::new(&settings(&tree), live.clone());
    turns.run();
    assert!(
        turns.wait() > Duration::from_secs(60),
        "there is nothing to look at"
    );
    live.watch(10, 500);
    turns.run();
    assert_eq!(known(&live), 1, "who is new is looked at at once");
    turns.run();
    assert_eq!(known(&live), 1);
    assert!(turns.wait() > Duration::from_secs(60));
    turns.process.hurry(Instant::now());
    turns.smaps_not_before = Instant::now();
    turns.wish_for_smaps(Instant::now());
    turns.run();
    assert_eq!(known(&live), 2, "after the next fast turn");
}

#[test]
fn out_of_turn_only_who_is_new_or_has_ended_is_looked_at() {
    let tree = Recorded::new();
    for (pid, start_ticks) in [(10, 500), (20, 501)] {
        tree.process(pid, 1, start_ticks, 100);
        tree.children(pid, pid, &[]);
    }
    let live = Live::default();
    let mut turns = Turns::new(&settings(&tree), live.clone());
    live.watch(10, 500);
    turns.run();
    let first = live.process(10, 500).expect("sampled");
    live.watch(20, 501);
    turns.run();
    let second = live.process(20, 501).expect("sampled");
    assert!(second.rss_bytes.value.is_ok() && second.children.is_ok());
    assert_eq!(live.process(10, 500), Ok(first), "it has its own turns");
    // Nobody is new, and nothing has its turn.
    turns.processes.follow(&live.watched(), Instant::now());
    let now = Instant::now();
    tree.end(20);
    turns.processes.read_mains(Which::Changed, now);
    turns.processes.publish(&live);
    assert_eq!(live.process(20, 501), Ok(second));
}

#[test]
fn what_the_fast_ones_cost_is_paid_together_and_all_of_it() {
    let tree = Recorded::new();
    tree.put(
        "meminfo",
        "MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: 2 kB\n",
    );
    tree.process(10, 1, 500, 100);
    let live = Live::default();
    live.watch(10, 500);
    let mut settings = settings(&tree);
    (settings.host.interval, settings.process.interval) = (Duration::ZERO, Duration::ZERO);
    let mut turns = Turns::new(&settings, live.clone());
    turns.run();
    let fast = |turns: &mut Turns| {
        let now = Instant::now();
        let (host, process) = (turns.host.1.cost(now), turns.process.cost(now));
        assert_eq!(host.reads, process.reads);
        (host.reads, [host.cpu, process.cpu])
    };
    let (reads, paid) = fast(&mut turns);
    assert_eq!(reads, 1);
    for pages in [200, 300] {
        tree.put("10/statm", &format!("999 {pages} 1\n"));
        turns.run();
    }
    let rss = live.process(10, 500).expect("sampled").rss_bytes.value;
    assert_eq!(rss, Ok(300.0 * rustix::param::page_size() as f64));
    assert_eq!(fast(&mut turns), (3, paid), "nothing was measured");
    turns.costs_due = Instant::now();
    turns.run();
    let (reads, all) = fast(&mut turns);
    assert_eq!(reads, 4);
    assert!(all[0] > paid[0] && all[1] > paid[1], "{all:?} {paid:?}");
}

#[test]
fn what_it_costs_is_said_of_each_probe() {
    let tree = Recorded::new();
    tree.process(10, 1, 500, 100);
    let live = Live::default();
    live.watch(10, 500);
    let mut turns = Turns::new(&settings(&tree), live.clone());
    turns.run();
    assert_eq!(live.costs(), [], "once a second");
    turns.publish_costs(Instant::now());
    let costs = live.costs();
    let names: Vec<_> = costs.iter().map(|cost| cost.name).collect();
    assert_eq!(
        names,
        ["host", "process", "children", "smaps", "cgroup", "shm"]
    );
    for cost in costs {
        assert_eq!(cost.reads, 1, "{cost:?}");
        assert!(
            cost.cpu > Duration::ZERO && cost.longest > Duration::ZERO,
            "{cost:?}"
        );
    }
}
