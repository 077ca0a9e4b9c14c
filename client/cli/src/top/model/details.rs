//! All that is known of what is chosen: every number with its age and source, every reason whole.

use hookbus_client::inspect::proto::{Gpu, Rank, Reading, SharedMemory};

use super::super::text::{Value, ago, clean, left};
use super::Model;
use super::lists::{self, Pane};
use crate::format;

/// Lines for the page, not folded. The first one is its title.
pub(in crate::top) fn lines(model: &Model, now_s: f64) -> Vec<String> {
    let waited_s = model.waited_s(now_s);
    match model.pane {
        Pane::Gpus => {
            let reply = model.shown.as_ref().map(|shown| &shown.reply);
            let gpus = reply.map_or(Vec::new(), |reply| {
                lists::gpus(reply, model.order(Pane::Gpus), model.filter(Pane::Gpus))
            });
            let chosen = gpus.iter().find(|gpu| Some(gpu.index) == model.cursor_gpu);
            match chosen.or(gpus.first()) {
                Some(gpu) => of_gpu(gpu, waited_s),
                None => vec!["GPUs".to_owned(), no_gpu(model)],
            }
        }
        Pane::Events => events(model, now_s),
        Pane::Runs | Pane::Ranks | Pane::Processes => match model.rank() {
            Some(rank) => of_rank(rank, model, waited_s),
            None => vec!["rank".to_owned(), "no rank has attached".to_owned()],
        },
    }
}

fn no_gpu(model: &Model) -> String {
    let why = model
        .shown
        .as_ref()
        .map(|shown| shown.reply.gpu_unknown.as_str());
    match why {
        None => "unknown: no answer yet".to_owned(),
        Some("") => "unknown: no reason was given".to_owned(),
        Some(why) => format!("unknown: {}", clean(why)),
    }
}

/// One number: name, value, age, source.
fn number(
    name: &str,
    reading: Option<&Reading>,
    waited_s: f64,
    write: impl Fn(f64) -> String,
) -> String {
    let value = Value::of(reading, waited_s);
    let name = left(name, 24);
    match &value.known {
        Err(why) => format!("{name} unknown: {why}"),
        Ok(bytes) => {
            let source = reading.map_or(String::new(), |reading| clean(&reading.source));
            format!(
                "{name} {}  {} old  {source}",
                left(&write(*bytes), 12),
                ago(value.age_s)
            )
        }
    }
}

fn bytes(name: &str, reading: &Option<Reading>, waited_s: f64) -> String {
    number(name, reading.as_ref(), waited_s, limit)
}

fn limit(value: f64) -> String {
    if value == f64::INFINITY {
        "no limit".to_owned()
    } else {
        format::bytes(value)
    }
}

fn shm(
    name: &str,
    shm: Option<&SharedMemory>,
    unknown: &str,
    waited_s: f64,
    lines: &mut Vec<String>,
) {
    match shm {
        Some(shm) => {
            lines.push(bytes(&format!("{name} used"), &shm.used_bytes, waited_s));
            lines.push(bytes(&format!("{name} size"), &shm.total_bytes, waited_s));
        }
        None => {
            let why = if unknown.is_empty() {
                format::NOT_SENT
            } else {
                unknown
            };
            lines.push(format!("{} unknown: {}", left(name, 24), clean(why)));
        }
    }
}

fn of_rank(rank: &Rank, model: &Model, waited_s: f64) -> Vec<String> {
    let pid = if rank.pid == 0 {
        "pid unknown".to_owned()
    } else {
        format!("pid {}", rank.pid)
    };
    let mut lines = vec![format!(
        "rank {} on {}, {pid}",
        rank.rank,
        clean(&rank.node)
    )];
    if !rank.reason.is_empty() {
        lines.push(format!("ended: {}", clean(&rank.reason)));
    }
    lines.push(format!(
        "{} at {}, heard {} ago; {} events, {} dropped; {} gates, {} timeouts",
        clean(&rank.point),
        format::position(rank.position.as_ref()),
        ago(rank.last_heard_s + waited_s),
        rank.events,
        rank.dropped,
        rank.gates,
        rank.gate_timeouts,
    ));
    let Some(memory) = &rank.memory else {
        lines.push(format!("memory unknown: {}", format::NOT_SENT));
        return lines;
    };
    lines.push(format!(
        "memory as seen by: {}",
        if memory.seen_by.is_empty() {
            "unknown"
        } else {
            &memory.seen_by
        }
    ));
    let each: [(&str, &Option<Reading>); 8] = [
        ("tree PSS", &memory.tree_pss_bytes),
        ("workers' PSS", &memory.workers_pss_bytes),
        ("children's RSS", &memory.children_rss_bytes),
        ("main RSS", &memory.rss_bytes),
        ("main PSS", &memory.pss_bytes),
        ("main USS", &memory.uss_bytes),
        ("main swap", &memory.swap_bytes),
        ("main shared", &memory.shmem_bytes),
    ];
    lines.extend(each.map(|(name, reading)| bytes(name, reading, waited_s)));
    shm(
        "its /dev/shm",
        memory.shm.as_ref(),
        &memory.shm_unknown,
        waited_s,
        &mut lines,
    );
    match &memory.cgroup {
        Some(cgroup) => {
            let version = match cgroup.version {
                0 => "of unknown version".to_owned(),
                version => format!("v{version}"),
            };
            lines.push(format!("cgroup {version} {}", clean(&cgroup.path)));
            lines.push(if cgroup.limit_path.is_empty() {
                "whose limit it is: unknown: the trainer's client does not say".to_owned()
            } else {
                format!("its limit is that of {}", clean(&cgroup.limit_path))
            });
            let each: [(&str, &Option<Reading>); 6] = [
                ("limit", &cgroup.limit_bytes),
                ("current", &cgroup.current_bytes),
                ("working set", &cgroup.working_set_bytes),
                ("peak", &cgroup.peak_bytes),
                ("page cache", &cgroup.file_bytes),
                ("swap", &cgroup.swap_bytes),
            ];
            lines.extend(each.map(|(name, reading)| bytes(name, reading, waited_s)));
            let count = |count: f64| format!("{count:.0}");
            let share = |share: f64| format!("{share:.1} %");
            lines.push(number(
                "killed by the kernel",
                cgroup.oom_kills.as_ref(),
                waited_s,
                count,
            ));
            lines.push(number(
                "limit reached",
                cgroup.ooms.as_ref(),
                waited_s,
                count,
            ));
            lines.push(number(
                "some stalled",
                cgroup.pressure_some_percent.as_ref(),
                waited_s,
                share,
            ));
            lines.push(number(
                "all stalled",
                cgroup.pressure_full_percent.as_ref(),
                waited_s,
                share,
            ));
        }
        None => {
            let why = &memory.cgroup_unknown;
            let why = if why.is_empty() {
                format::NOT_SENT
            } else {
                why
            };
            lines.push(format!("cgroup unknown: {}", clean(why)));
        }
    }
    if let Some(allocator) = &memory.allocator {
        lines.push("allocator".to_owned());
        lines.push(bytes("allocated", &allocator.allocated_bytes, waited_s));
        lines.push(bytes("reserved", &allocator.reserved_bytes, waited_s));
        lines.push(bytes("active", &allocator.active_bytes, waited_s));
    }
    for device in &memory.gpus {
        lines.push(bytes(
            &format!("on GPU {}", device.gpu),
            &device.used_bytes,
            waited_s,
        ));
    }
    if !memory.gpus_unknown.is_empty() {
        lines.push(format!("on GPUs unknown: {}", clean(&memory.gpus_unknown)));
    }
    let (order, filter) = (model.order(Pane::Processes), model.filter(Pane::Processes));
    for one in lists::processes(rank, order, filter) {
        lines.push(format!("process {} {} {}", one.pid, one.role, one.command));
        for (name, reading) in [
            ("  RSS", &one.rss),
            ("  PSS", &one.pss),
            ("  USS", &one.uss),
            ("  swap", &one.swap),
            ("  shared", &one.shmem),
        ] {
            lines.push(bytes(name, reading, waited_s));
        }
    }
    lines
}

fn of_gpu(gpu: &Gpu, waited_s: f64) -> Vec<String> {
    let mut lines = vec![
        format!("GPU {} {}", gpu.index, clean(&gpu.name)),
        clean(&gpu.uuid),
    ];
    for (name, reading) in [
        ("total", &gpu.total_bytes),
        ("used", &gpu.used_bytes),
        ("free", &gpu.free_bytes),
        ("reserved by the driver", &gpu.reserved_bytes),
    ] {
        lines.push(bytes(name, reading, waited_s));
    }
    for (name, reading, unit) in [
        ("busy", &gpu.utilization_percent, "%"),
        ("memory busy", &gpu.memory_busy_percent, "%"),
        ("temperature", &gpu.temperature_celsius, "C"),
        ("power", &gpu.power_watts, "W"),
    ] {
        lines.push(number(name, reading.as_ref(), waited_s, |value| {
            format!("{value:.0} {unit}")
        }));
    }
    for slice in &gpu.mig {
        lines.push(format!("MIG {} {}", slice.index, clean(&slice.uuid)));
        lines.push(bytes("  used", &slice.used_bytes, waited_s));
        lines.push(bytes("  total", &slice.total_bytes, waited_s));
    }
    if !gpu.processes_unknown.is_empty() {
        lines.push(format!(
            "processes unknown: {}",
            clean(&gpu.processes_unknown)
        ));
    }
    for process in &gpu.processes {
        let whose = match process.rank {
            Some(rank) => format!("{} rank {rank}", clean(&process.run)),
            None => "nobody's that is attached".to_owned(),
        };
        lines.push(format!(
            "process {} {} ({whose})",
            process.pid,
            clean(&process.command)
        ));
        lines.push(bytes("  used", &process.used_bytes, waited_s));
    }
    lines
}

fn events(model: &Model, now_s: f64) -> Vec<String> {
    let now = model.unix_s(now_s);
    let started = model.started_unix_s();
    let mut lines = vec!["events, the newest first".to_owned()];
    let filter = model.filter(Pane::Events);
    for line in model.log.lines.iter().rev() {
        if lists::matches(filter, &format!("{} {}", line.kind, line.text)) {
            lines.push(format!(
                "{:>4} {:<8} {}",
                line.at.age_s(now, started).map_or("?".to_owned(), ago),
                line.kind,
                line.text
            ));
        }
    }
    if let Some(shown) = &model.shown {
        lines.push("what looking costs".to_owned());
        for probe in &shown.reply.probes {
            lines.push(format!(
                "{} {:.3} % of a core, every {} s, {} reads, the longest {}",
                left(&clean(&probe.name), 10),
                probe.share_percent,
                probe.interval_s.max(probe.slowed_to_s),
                probe.reads,
                format::short(probe.longest_s)
            ));
        }
    }
    lines
}
