//! Every family with made-up numbers, beside the table of docs/prometheus.md.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::domain::{
    AllocatorSample, CgroupSample, ChildSample, Detail, Facts, GpuProcess, GpuSample, HostSample,
    Incident, MigSample, Outcome, OwnMemory, Pid, ProbeCost, ProcessRole, ProcessSample, Rank,
    Reading, RunId, ShmSample, StepTimes,
};
use crate::snapshot::{HookCounts, HookSnapshot, Phase, RankSnapshot};

const TRAINER: (u32, u64) = (7, 70);

fn known(at: Instant) -> Reading {
    Reading::known(3.0, at, "test")
}

fn detail(at: Instant) -> Detail {
    Detail {
        pss_bytes: known(at),
        uss_bytes: known(at),
        swap_bytes: known(at),
        shmem_bytes: known(at),
    }
}

fn shm(at: Instant) -> ShmSample {
    ShmSample {
        at,
        total_bytes: 3,
        used_bytes: 2,
        free_bytes: 1,
    }
}

fn process(at: Instant) -> ProcessSample {
    let worker = ChildSample {
        pid: 8,
        command: "python".to_owned(),
        role: ProcessRole::Worker,
        rss_bytes: known(at),
        detail: detail(at),
    };
    ProcessSample {
        rss_bytes: known(at),
        detail: detail(at),
        children: Ok([worker].into()),
        children_at: at,
        cgroup: Ok(Arc::new(CgroupSample {
            path: "/job".to_owned(),
            version: 2,
            limit_path: "/job".to_owned(),
            limit_bytes: known(at),
            current_bytes: known(at),
            working_set_bytes: known(at),
            peak_bytes: known(at),
            swap_bytes: known(at),
            file_bytes: known(at),
            oom_kills: known(at),
            ooms: known(at),
            pressure_some_percent: known(at),
            pressure_full_percent: known(at),
        })),
        shm: Ok(shm(at)),
        visible_devices: None,
    }
}

fn gpu(at: Instant) -> GpuSample {
    let of_trainer = GpuProcess {
        pid: TRAINER.0,
        used_bytes: Reading::known(5.0, at, "nvml"),
        gpu_instance: None,
        command: String::new(),
        seen: Pid::Here,
    };
    GpuSample {
        total_bytes: known(at),
        used_bytes: known(at),
        free_bytes: known(at),
        reserved_bytes: known(at),
        memory_busy_percent: known(at),
        utilization_percent: known(at),
        temperature_celsius: known(at),
        power_watts: known(at),
        processes: Ok(vec![of_trainer]),
        mig: vec![MigSample {
            total_bytes: known(at),
            used_bytes: known(at),
            ..MigSample::unknown(0, "MIG-1", (1, 0), "not read", at)
        }],
        ..GpuSample::unknown(0, "NVIDIA", "GPU-1", "not read", at)
    }
}

fn live(at: Instant) -> Live {
    let live = Live::default();
    live.set_host(Ok(HostSample {
        at,
        total_bytes: 3,
        available_bytes: 2,
        used_bytes: 1,
        used_percent: 33.3,
        swap_total_bytes: 0,
        swap_used_bytes: 0,
        swap_used_percent: 0.0,
    }));
    live.set_host_shm(Ok(shm(at)));
    live.set_gpus(Ok(vec![gpu(at)]));
    live.set_costs(vec![ProbeCost {
        name: "gpu",
        interval: Duration::from_secs(2),
        slowed_to: None,
        reads: 1,
        cpu: Duration::ZERO,
        longest: Duration::ZERO,
        share_percent: 0.0,
        budget_percent: 1.0,
    }]);
    live.watch(TRAINER.0, TRAINER.1);
    live.set_process(TRAINER, process(at));
    live
}

fn rank(at: Instant) -> RankSnapshot {
    let mut times = StepTimes::default();
    times.add(Duration::from_millis(3));
    RankSnapshot {
        rank: Rank(0),
        local_rank: None,
        node: String::new(),
        connected: true,
        process: Some(TRAINER),
        process_unknown: String::new(),
        position: Default::default(),
        point: "".into(),
        last: [("loss".into(), 0.5)].into(),
        events: 0,
        acked: 0,
        dropped: Default::default(),
        step: None,
        steps: times.clone(),
        data_waits: times,
        data_wait: None,
        last_heard: at,
        heartbeat: Default::default(),
        own_rss_bytes: None,
        own_memory: None,
        allocator: Some(AllocatorSample {
            allocated_bytes: known(at),
            reserved_bytes: known(at),
            active_bytes: known(at),
            retries: known(at),
            ooms: known(at),
            device: Some(0),
        }),
        peak_rss_bytes: None,
        gates: 0,
        ended: None,
    }
}

fn run(rank: RankSnapshot) -> Arc<RunSnapshot> {
    let incidents: Vec<(Incident, Instant)> = Vec::new();
    Arc::new(RunSnapshot {
        id: RunId {
            name: "digits".into(),
            launch: "1".into(),
        },
        attempt: 0,
        world_size: 1,
        phase: Phase::Running,
        reason: String::new(),
        started: rank.last_heard,
        ended: None,
        archived: false,
        before: Vec::new(),
        facts: Facts {
            max_epochs: Some(1),
            max_iters: Some(1),
            ..Default::default()
        },
        ranks: [(Rank(0), Arc::new(rank))].into(),
        hooks: vec![HookSnapshot {
            name: "a".to_owned(),
            type_name: "A".to_owned(),
            origin: "config".to_owned(),
            policy: "act".to_owned(),
            priority: 0,
            calls: 1,
            decisions: 1,
            disabled: None,
            args: Vec::new(),
            counts: HookCounts::default(),
            module: None,
            away: None,
        }],
        refused: Vec::new(),
        wanted: Vec::new(),
        results: Default::default(),
        outcomes: [(("lr".into(), Outcome::Applied), 1)].into(),
        incidents,
        logs: Default::default(),
    })
}

fn scraped(run: Arc<RunSnapshot>, live: &Live, now: Instant) -> String {
    let counts = Counts::default();
    let text = super::text(&[run], live, Some(counts), "*/*", now);
    text.expect("text").1
}

/// Names of families in the text, with their suffix.
fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// `a_{b,c}_d` is a_b_d and a_c_d.
fn each_name(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return vec![pattern.to_owned()];
    };
    let (words, after) = rest.split_once('}').expect("a bracket that is closed");
    let words = words.split(',');
    words.map(|word| format!("{before}{word}{after}")).collect()
}

#[test]
fn the_table_of_the_documentation_has_every_family_and_no_other() {
    let page = include_str!("../../../docs/prometheus.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split(" | ").next());
    let quoted = names.flat_map(|cell| cell.split('`').step_by(2));
    let told: BTreeSet<String> = quoted.flat_map(each_name).collect();
    let now = Instant::now();
    let known = families(&scraped(run(rank(now)), &live(now), now));
    let missing: Vec<_> = known.difference(&told).collect();
    let gone: Vec<_> = told.difference(&known).collect();
    assert_eq!((missing, gone), (vec![], vec![]));
}

#[test]
fn a_rank_has_its_allocators_numbers_its_gpus_and_the_age_of_each() {
    let then = Instant::now();
    let now = then + Duration::from_secs(2);
    let text = scraped(run(rank(then)), &live(then), now);
    for line in [
        "hookbus_allocator_reserved_bytes{run=\"digits@1\",rank=\"0\"} 3.0",
        "hookbus_allocator_ooms_total{run=\"digits@1\",rank=\"0\"} 3.0",
        "hookbus_rank_gpu_memory_used_bytes{run=\"digits@1\",rank=\"0\",gpu=\"0\"} 5.0",
        "hookbus_cgroup_ooms_total{run=\"digits@1\",rank=\"0\"} 3.0",
        "hookbus_data_wait_seconds_count{run=\"digits@1\",rank=\"0\"} 1",
        "hookbus_sample_age_seconds{source=\"gpu\"} 2.0",
        "hookbus_rank_sample_age_seconds{run=\"digits@1\",rank=\"0\",source=\"smaps\"} 2.0",
        "hookbus_rank_sample_age_seconds{run=\"digits@1\",rank=\"0\",source=\"allocator\"} 2.0",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in:\n{text}");
    }
}

#[test]
fn while_the_driver_stands_still_the_gpus_last_sample_is_left_out_and_its_age_is_not() {
    let then = Instant::now();
    let (live, run) = (live(then), run(rank(then)));
    let at = |s: u64| scraped(run.clone(), &live, then + Duration::from_secs(s));
    let of_gpu = [
        "hookbus_gpu_memory_used_bytes{",
        "hookbus_gpu_mig_memory_used_bytes{",
        "hookbus_rank_gpu_memory_used_bytes{",
    ];
    // Its probe looks every two seconds.
    for name in of_gpu {
        assert!(at(10).contains(name), "{name}");
        assert!(!at(11).contains(name), "{name}");
    }
    let late = at(11);
    assert!(late.contains("hookbus_sample_age_seconds{source=\"gpu\"} 11.0"));
    assert!(
        late.contains("hookbus_gpu_info{"),
        "which GPU it is stays known"
    );
}

#[test]
fn how_many_processes_there_are_is_left_out_where_it_is_not_known() {
    let now = Instant::now();
    let sent = RankSnapshot {
        process: None,
        own_memory: Some((
            OwnMemory {
                rss_bytes: Some(5),
                children: Some(3),
                ..Default::default()
            },
            now,
        )),
        ..rank(now)
    };
    let text = scraped(run(sent), &live(now), now);
    assert!(!text.contains("hookbus_processes{"), "{text}");
    assert!(text.contains("source=\"trainer\"} 0.0"), "{text}");
}

#[test]
fn what_is_not_known_is_absent() {
    let (kind, text) =
        text(&[], &Live::default(), None, OPENMETRICS, Instant::now()).expect("text");
    assert_eq!(kind, OPENMETRICS);
    assert!(text.contains("hookbus_build_info{version="), "{text}");
    assert!(
        !text.contains("hookbus_host_memory"),
        "nothing was sampled yet: {text}"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn who_does_not_ask_for_openmetrics_gets_the_older_text() {
    let (kind, text) = text(&[], &Live::default(), None, "*/*", Instant::now()).expect("text");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    assert!(!text.contains("# EOF"), "{text}");
}
