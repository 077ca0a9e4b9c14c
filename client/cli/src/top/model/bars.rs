//! What a bar of memory is made of: segments under a limit, from what the daemon sent. Pure.
//!
//! PSS counts every page once, so segments by PSS add up; by RSS shared pages are in several. A mapped page of a file is in
//! a process's PSS and in the cgroup's page cache, and how many are is not known: what is shown of the cache beside the
//! processes is the most that it can be, and what is left the least.

use hookbus_client::inspect::proto::{
    CgroupMemory, Gpu, HostMemory, MigDevice, ProcessMemory, ProcessRole, Rank, Reading,
    SnapshotReply,
};

use super::super::text::{Value, clean};
use super::Model;
use super::lists::{self, Pane};
use super::old::Old;

/// What a segment is; each has a sign and a colour of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::top) enum Kind {
    /// Main processes; of a GPU: allocated.
    First,
    /// Data-loader workers; of a GPU: reserved by the allocator and not allocated.
    Second,
    /// Other children; of a GPU: used by anything else.
    Third,
    /// Page cache.
    Cache,
    /// What nobody can tell apart.
    Rest,
    /// Free or available.
    Free,
}

/// One part of a bar.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) struct Segment {
    pub(in crate::top) kind: Kind,
    pub(in crate::top) name: String,
    /// "", "<=" or ">=".
    pub(in crate::top) bound: &'static str,
    pub(in crate::top) bytes: Value,
    /// Beyond this age it is said.
    pub(in crate::top) old_s: f64,
}

/// Segments under a limit.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) struct Bar {
    pub(in crate::top) title: String,
    pub(in crate::top) total: Value,
    pub(in crate::top) segments: Vec<Segment>,
    /// More about it, the most important first.
    pub(in crate::top) notes: Vec<String>,
}

/// The processes of a run on one machine, or in one cgroup.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) struct Parts {
    pub(in crate::top) main: Value,
    pub(in crate::top) workers: Value,
    pub(in crate::top) others: Value,
    /// None: not known.
    pub(in crate::top) worker_count: Option<usize>,
    pub(in crate::top) other_count: Option<usize>,
    /// Else by RSS.
    pub(in crate::top) by_pss: bool,
    /// Else `others` are all children, workers too.
    told_apart: bool,
}

impl Parts {
    /// Of one rank.
    pub(in crate::top) fn of(memory: &ProcessMemory, waited_s: f64) -> Parts {
        let value = |reading: &Option<Reading>| Value::of(reading.as_ref(), waited_s);
        let is_worker = |role: ProcessRole| role == ProcessRole::Worker;
        let worker_count = memory.workers.map(|count| count as usize);
        let told_apart = !itself(memory);
        let (pss, tree) = (value(&memory.pss_bytes), value(&memory.tree_pss_bytes));
        let workers_pss = value(&memory.workers_pss_bytes);
        let by_pss = pss.known.is_ok() && tree.known.is_ok() && workers_pss.known.is_ok();
        let (main, workers, others) = if by_pss {
            let others = tree.less(&pss).less(&workers_pss);
            (pss, workers_pss, others)
        } else if !told_apart {
            let children = value(&memory.children_rss_bytes);
            let workers = Value::unknown("the trainer's client does not tell workers apart");
            (value(&memory.rss_bytes), workers, children)
        } else {
            let all = value(&memory.children_rss_bytes);
            let of = |workers: bool| {
                if all.known.is_err() {
                    return all.clone();
                }
                let those = memory.children.iter();
                let those = those.filter(|child| is_worker(child.role()) == workers);
                Value::sum(those.map(|child| value(&child.rss_bytes)))
            };
            (value(&memory.rss_bytes), of(true), of(false))
        };
        Parts {
            main,
            workers,
            others,
            worker_count,
            other_count: worker_count.map(|count| memory.children.len().saturating_sub(count)),
            by_pss,
            told_apart,
        }
    }

    /// Of several ranks; by PSS only where each of them is.
    fn sum<'a>(ranks: impl Iterator<Item = &'a Rank> + Clone, waited_s: f64) -> Parts {
        let each = || {
            ranks.clone().map(|rank| match &rank.memory {
                Some(memory) => Parts::of(memory, waited_s),
                None => Parts::of(&ProcessMemory::default(), waited_s),
            })
        };
        Parts {
            main: Value::sum(each().map(|parts| parts.main)),
            workers: Value::sum(each().map(|parts| parts.workers)),
            others: Value::sum(each().map(|parts| parts.others)),
            worker_count: each().map(|parts| parts.worker_count).sum(),
            other_count: each().map(|parts| parts.other_count).sum(),
            by_pss: each().all(|parts| parts.by_pss),
            told_apart: each().all(|parts| parts.told_apart),
        }
    }

    /// As far as it is known.
    pub(in crate::top) fn all(&self) -> Value {
        if !self.told_apart {
            return Value::sum([self.main.clone(), self.others.clone()]);
        }
        Value::sum([self.main.clone(), self.workers.clone(), self.others.clone()])
    }

    /// What is known of it, for drawing: what is not known is in the rest.
    fn drawn(&self) -> f64 {
        [&self.main, &self.workers, &self.others]
            .iter()
            .filter_map(|value| value.known.as_ref().ok())
            .sum()
    }

    fn segments(&self, ranks: usize, old: &Old) -> Vec<Segment> {
        let old_s = if self.by_pss {
            old.smaps_s
        } else {
            old.process_s
        };
        let main = if ranks == 1 {
            "main".to_owned()
        } else {
            format!("{ranks} mains")
        };
        let workers = match self.worker_count.filter(|_| self.told_apart) {
            None => "workers".to_owned(),
            Some(1) => "1 worker".to_owned(),
            Some(count) => format!("{count} workers"),
        };
        let others = match self.other_count {
            _ if !self.told_apart => "all children".to_owned(),
            None => "other children".to_owned(),
            Some(1) => "1 other child".to_owned(),
            Some(count) => format!("{count} other children"),
        };
        [
            (Kind::First, main, &self.main),
            (Kind::Second, workers, &self.workers),
            (Kind::Third, others, &self.others),
        ]
        .map(|(kind, name, value)| Segment {
            kind,
            name,
            bound: "",
            bytes: value.clone(),
            old_s,
        })
        .into()
    }
}

/// Whether these are a trainer's own words of itself.
fn itself(memory: &ProcessMemory) -> bool {
    memory.seen_by == "trainer"
}

/// The memory that binds a rank: its cgroup's under its limit, else the host's under its size.
pub(in crate::top) fn memory(reply: &SnapshotReply, rank: Option<&Rank>, waited_s: f64) -> Bar {
    let old = Old::of(reply);
    let host_total = host_reading(reply, |host| &host.total_bytes, waited_s);
    let mut why = String::new();
    if let Some(rank) = rank {
        let memory = rank.memory.clone().unwrap_or_default();
        match &memory.cgroup {
            Some(cgroup) => {
                let limit = Value::of(cgroup.limit_bytes.as_ref(), waited_s);
                match &limit.known {
                    // A trainer that the daemon does not see may be on another host.
                    Ok(bytes)
                        if bytes.is_finite()
                            && !itself(&memory)
                            && host_total.known.as_ref().is_ok_and(|all| bytes > all) =>
                    {
                        why = "the cgroup's limit is more than the host has".to_owned();
                    }
                    Ok(bytes) if bytes.is_finite() => {
                        return in_cgroup(reply, rank, cgroup, limit, &old, waited_s);
                    }
                    Ok(_) => why = "no cgroup of the trainer has a limit".to_owned(),
                    Err(unknown) => why = format!("the cgroup's limit is unknown: {unknown}"),
                }
            }
            None if memory.cgroup_unknown.is_empty() => {
                why = "cgroup unknown: the daemon did not send it".to_owned();
            }
            None => why = format!("cgroup unknown: {}", clean(&memory.cgroup_unknown)),
        }
        if itself(&memory) {
            let rss = Value::of(memory.rss_bytes.as_ref(), waited_s);
            let itself = if rss.known.is_ok() {
                ", as it says itself"
            } else {
                ""
            };
            let rss = rss.text(crate::format::bytes, old.process_s);
            why = format!("rank {}: RSS {rss}{itself}; {why}", rank.rank);
        }
    }
    on_host(reply, host_total, why, &old, waited_s)
}

fn in_cgroup(
    reply: &SnapshotReply,
    rank: &Rank,
    cgroup: &CgroupMemory,
    limit: Value,
    old: &Old,
    waited_s: f64,
) -> Bar {
    // A trainer's own word does not say whose the limit is, so nobody is known to share it.
    let by_itself = rank.memory.as_ref().is_some_and(itself);
    let beside = reply.ranks.iter().filter(|other| {
        if by_itself {
            return other.rank == rank.rank;
        }
        let in_same = |memory: &ProcessMemory| {
            if itself(memory) {
                return false;
            }
            let theirs = memory.cgroup.as_ref();
            theirs.is_some_and(|theirs| theirs.limit_path == cgroup.limit_path)
        };
        other.node == rank.node && other.memory.as_ref().is_some_and(in_same)
    });
    let parts = Parts::sum(beside.clone(), waited_s);
    let count = beside.count();
    let value = |reading: &Option<Reading>| Value::of(reading.as_ref(), waited_s);
    let (current, file) = (value(&cgroup.current_bytes), value(&cgroup.file_bytes));
    // RSS is at least PSS, so what is left beside it is at least that.
    let besides = current.clone().less(&Value::exact(parts.drawn()));
    let charged_here = parts.by_pss && besides.known.as_ref().is_ok_and(|besides| *besides > 0.0);
    let cache = match (&file.known, &besides.known) {
        (Ok(file), Ok(besides)) if charged_here => Value {
            known: Ok(file.min(*besides)),
            age_s: current.age_s,
        },
        _ => file,
    };
    let rest = at_least(besides.less(&cache), &parts);
    let free = limit.clone().less(&current);
    let segment = |kind, name: &str, bound, bytes| Segment {
        kind,
        name: name.to_owned(),
        bound,
        bytes,
        old_s: old.cgroup_s,
    };
    let mut segments = parts.segments(count, old);
    segments.push(segment(Kind::Cache, "page cache", "<=", cache));
    segments.push(segment(Kind::Rest, "rest", ">=", rest));
    segments.push(segment(Kind::Free, "free", "", free));
    let mut notes = vec![basis(&parts)];
    if by_itself {
        notes.insert(0, format!("rank {} as it says itself", rank.rank));
    }
    let said = |name: &str, reading: &Option<Reading>, write: &dyn Fn(f64) -> String| {
        format!("{name} {}", value(reading).text(write, old.cgroup_s))
    };
    notes.push(said(
        "working set",
        &cgroup.working_set_bytes,
        &crate::format::bytes,
    ));
    notes.push(said("peak", &cgroup.peak_bytes, &crate::format::bytes));
    if value(&cgroup.oom_kills)
        .known
        .is_ok_and(|kills| kills > 0.0)
    {
        let kills = said("!", &cgroup.oom_kills, &|kills| {
            format!("{kills:.0} killed for want of memory")
        });
        notes.insert(0, kills);
    }
    notes.push(said(
        "stalled",
        &cgroup.pressure_some_percent,
        &super::super::text::percent,
    ));
    Bar {
        title: format!("cgroup {}", clean(limit_path(cgroup))),
        total: limit,
        segments,
        notes,
    }
}

/// A trainer's client says only its own path.
fn limit_path(cgroup: &CgroupMemory) -> &str {
    if cgroup.limit_path.is_empty() {
        &cgroup.path
    } else {
        &cgroup.limit_path
    }
}

fn on_host(reply: &SnapshotReply, total: Value, why: String, old: &Old, waited_s: f64) -> Bar {
    let here = reply.ranks.iter().filter(|rank| {
        let memory = rank.memory.as_ref();
        memory.is_some_and(|memory| memory.seen_by == "daemon")
    });
    let parts = Parts::sum(here.clone(), waited_s);
    let count = here.count();
    let used = host_reading(reply, |host| &host.used_bytes, waited_s);
    let available = host_reading(reply, |host| &host.available_bytes, waited_s);
    let taken = total.clone().less(&available);
    let rest = taken.less(&Value::exact(parts.drawn()));
    let (rest, bound) = if parts.by_pss || count == 0 {
        (rest, "")
    } else {
        (at_least(rest, &parts), ">=")
    };
    let segment = |kind, name: &str, bytes| Segment {
        kind,
        name: name.to_owned(),
        bound: "",
        bytes,
        old_s: old.host_s,
    };
    let mut segments = Vec::new();
    let mut notes = Vec::new();
    if count > 0 {
        segments = parts.segments(count, old);
        notes.push(basis(&parts));
    }
    let name = if count > 0 { "all else" } else { "taken" };
    segments.push(Segment {
        bound,
        ..segment(Kind::Rest, name, rest)
    });
    segments.push(segment(Kind::Free, "available", available));
    let elsewhere = reply.ranks.len() - count;
    if count > 0 && elsewhere > 0 {
        let all = reply.ranks.len();
        notes.push(format!(
            "without {elsewhere} of {all} ranks, which the daemon does not see"
        ));
    }
    if !why.is_empty() {
        notes.push(why);
    }
    notes.push(format!(
        "used {}",
        used.text(crate::format::bytes, old.host_s)
    ));
    let swap = host_reading(reply, |host| &host.swap_used_bytes, waited_s);
    notes.push(format!(
        "swap {}",
        swap.text(crate::format::bytes, old.host_s)
    ));
    Bar {
        title: "host".to_owned(),
        total,
        segments,
        notes,
    }
}

/// At least nothing is no knowledge.
fn at_least(rest: Value, parts: &Parts) -> Value {
    match rest.known {
        Ok(bytes) if bytes <= 0.0 && parts.by_pss => {
            Value::unknown("pages are charged elsewhere, or mapped from the cache")
        }
        Ok(bytes) if bytes <= 0.0 => Value::unknown("RSS counts shared pages in each process"),
        _ => rest,
    }
}

/// What is left of a whole beside its parts. Read at different times they may be a little more than the whole; where they are
/// much more, nothing is known of what is left.
fn beyond(whole: Value, parts: &Value, why: &str) -> Value {
    match (&whole.known, &parts.known) {
        (Ok(whole), Ok(parts)) if *parts > whole * 1.01 => Value::unknown(why),
        _ => whole.less(parts),
    }
}

fn basis(parts: &Parts) -> String {
    if parts.by_pss {
        "processes by PSS".to_owned()
    } else if parts.main.known.is_ok() {
        "processes by RSS: shared pages are counted in each".to_owned()
    } else {
        "processes unknown".to_owned()
    }
}

fn host_reading(
    reply: &SnapshotReply,
    get: fn(&HostMemory) -> &Option<Reading>,
    waited_s: f64,
) -> Value {
    let reading = reply.host.as_ref().and_then(|host| get(host).as_ref());
    Value::of(reading, waited_s)
}

/// A GPU's memory.
pub(in crate::top) fn gpu(reply: &SnapshotReply, gpu: &Gpu, waited_s: f64) -> Bar {
    let old_s = Old::of(reply).gpu_s;
    let value = |reading: &Option<Reading>| Value::of(reading.as_ref(), waited_s);
    let total = value(&gpu.total_bytes);
    let title = format!("GPU {} {}", gpu.index, clean(&gpu.name));
    if gpu.unified {
        return Bar {
            title,
            total,
            segments: Vec::new(),
            notes: vec!["unified: it uses the host's memory".to_owned()],
        };
    }
    let used = value(&gpu.used_bytes);
    let segment = |kind, name: &str, bytes| Segment {
        kind,
        name: name.to_owned(),
        bound: "",
        bytes,
        old_s,
    };
    let holders: Vec<_> = reply
        .ranks
        .iter()
        .filter_map(|rank| rank.memory.as_ref()?.allocator.as_ref())
        .filter(|allocator| allocator.gpu == Some(gpu.index))
        .collect();
    let mut segments = Vec::new();
    let mut notes = Vec::new();
    if holders.is_empty() {
        segments.push(segment(Kind::Third, "used", used));
        notes.push("allocator unknown: no trainer of this run has sent one for it".to_owned());
    } else {
        let sum = |get: fn(&hookbus_client::inspect::proto::Allocator) -> &Option<Reading>| {
            Value::sum(holders.iter().map(|allocator| value(get(allocator))))
        };
        let allocated = sum(|allocator| &allocator.allocated_bytes);
        let reserved = sum(|allocator| &allocator.reserved_bytes);
        let cached = reserved.clone().less(&allocated);
        let other = beyond(
            used,
            &reserved,
            "the allocators have more than the driver said",
        );
        segments.push(segment(Kind::First, "allocated", allocated));
        segments.push(segment(Kind::Second, "cached", cached));
        segments.push(segment(Kind::Third, "other", other));
    }
    segments.push(segment(Kind::Rest, "driver", value(&gpu.reserved_bytes)));
    segments.push(segment(Kind::Free, "free", value(&gpu.free_bytes)));
    let said = |name: &str, reading: &Option<Reading>, unit: &str| {
        let text = value(reading).text(|number| format!("{number:.0} {unit}"), old_s);
        format!("{name}{text}")
    };
    notes.insert(0, said("busy ", &gpu.utilization_percent, "%"));
    notes.insert(1, said("temperature ", &gpu.temperature_celsius, "C"));
    notes.insert(2, said("power ", &gpu.power_watts, "W"));
    Bar {
        title,
        total,
        segments,
        notes,
    }
}

/// A slice of one.
pub(in crate::top) fn mig(reply: &SnapshotReply, slice: &MigDevice, waited_s: f64) -> Bar {
    let old_s = Old::of(reply).gpu_s;
    let value = |reading: &Option<Reading>| Value::of(reading.as_ref(), waited_s);
    let segment = |kind, name: &str, reading| Segment {
        kind,
        name: name.to_owned(),
        bound: "",
        bytes: value(reading),
        old_s,
    };
    Bar {
        title: format!(
            "  MIG {} (instance {}.{})",
            slice.index, slice.gpu_instance, slice.compute_instance
        ),
        total: value(&slice.total_bytes),
        segments: vec![
            segment(Kind::Third, "used", &slice.used_bytes),
            segment(Kind::Rest, "driver", &slice.reserved_bytes),
            segment(Kind::Free, "free", &slice.free_bytes),
        ],
        notes: Vec::new(),
    }
}

/// Every GPU with its slices, in the order that was asked for; with the GPU's index.
pub(in crate::top) fn gpus(model: &Model, now_s: f64) -> Vec<(u32, Bar)> {
    let Some(shown) = &model.shown else {
        return Vec::new();
    };
    let waited_s = model.waited_s(now_s);
    let (order, filter) = (model.order(Pane::Gpus), model.filter(Pane::Gpus));
    let mut all = Vec::new();
    for one in lists::gpus(&shown.reply, order, filter) {
        all.push((one.index, gpu(&shown.reply, one, waited_s)));
        let slices = one.mig.iter();
        all.extend(slices.map(|slice| (one.index, mig(&shown.reply, slice, waited_s))));
    }
    all
}

/// How many of `cells` each segment takes, `None` being what nobody knows: cumulative, so that the whole is never off by more
/// than half a cell. What is free is drawn as it is, however much the others say that they have.
pub(in crate::top) fn cells(bar: &Bar, cells: usize) -> Vec<(Option<Kind>, usize)> {
    let Ok(total) = bar.total.known else {
        return Vec::new();
    };
    if !total.is_finite() || total <= 0.0 {
        return Vec::new();
    }
    let place = |bytes: f64| ((bytes / total * cells as f64).round() as usize).min(cells);
    let is_free = |segment: &&Segment| segment.kind == Kind::Free;
    let free = bar.segments.iter().find(is_free);
    let free = free.and_then(|free| free.bytes.known.clone().ok());
    let limit = free.map_or(cells, |free| cells - place(free));
    let (mut sum, mut taken) = (0.0, 0);
    let mut drawn = Vec::new();
    for segment in bar.segments.iter().filter(|segment| !is_free(segment)) {
        if let Ok(bytes) = segment.bytes.known {
            sum += bytes;
            let end = place(sum).min(limit).max(taken);
            drawn.push((Some(segment.kind), end - taken));
            taken = end;
        }
    }
    // A cell that rounding left over is no secret.
    let all_known = bar
        .segments
        .iter()
        .all(|segment| segment.bytes.known.is_ok());
    match drawn.iter_mut().rev().find(|(_, cells)| *cells > 0) {
        Some((_, last)) if all_known && limit - taken <= 1 => *last += limit - taken,
        _ => drawn.push((None, limit - taken)),
    }
    if free.is_some() {
        drawn.push((Some(Kind::Free), cells - limit));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::ChildMemory;

    use super::*;

    fn known(value: f64) -> Option<Reading> {
        Some(Reading {
            value: Some(value),
            ..Default::default()
        })
    }

    fn rank(memory: ProcessMemory) -> Rank {
        Rank {
            memory: Some(memory),
            ..Default::default()
        }
    }

    fn by_rss(cgroup: CgroupMemory) -> ProcessMemory {
        let child = |role: ProcessRole, rss| ChildMemory {
            rss_bytes: known(rss),
            role: role.into(),
            ..Default::default()
        };
        ProcessMemory {
            rss_bytes: known(10.0),
            children_rss_bytes: known(7.0),
            children: vec![
                child(ProcessRole::Worker, 4.0),
                child(ProcessRole::Child, 3.0),
            ],
            workers: Some(1),
            cgroup: Some(cgroup),
            seen_by: "daemon".into(),
            ..Default::default()
        }
    }

    fn cgroup(limit: f64, current: f64, file: f64) -> CgroupMemory {
        CgroupMemory {
            limit_path: "/a".into(),
            limit_bytes: known(limit),
            current_bytes: known(current),
            file_bytes: known(file),
            ..Default::default()
        }
    }

    /// As the daemon passes on what a trainer's client sent of itself.
    fn by_itself() -> ProcessMemory {
        ProcessMemory {
            children: Vec::new(),
            workers: None,
            cgroup: Some(CgroupMemory {
                path: "/pod".into(),
                limit_path: String::new(),
                ..cgroup(100.0, 40.0, 5.0)
            }),
            seen_by: "trainer".into(),
            ..by_rss(cgroup(0.0, 0.0, 0.0))
        }
    }

    fn numbers(bar: &Bar) -> Vec<(Kind, Option<f64>)> {
        let each = bar.segments.iter();
        each.map(|segment| (segment.kind, segment.bytes.known.clone().ok()))
            .collect()
    }

    #[test]
    fn segments_add_up_to_what_the_cgroup_is_charged_with() {
        // Mapped pages of files are in both: the cache beside the processes is at most what is left. Where they have more
        // than the cgroup, their pages are charged elsewhere.
        for (current, file, cache, rest) in [
            (40.0, 20.0, Some(20.0), Some(3.0)),
            (30.0, 20.0, Some(13.0), None),
            (15.0, 5.0, Some(5.0), None),
        ] {
            let memory = ProcessMemory {
                pss_bytes: known(10.0),
                workers_pss_bytes: known(4.0),
                tree_pss_bytes: known(17.0),
                ..by_rss(cgroup(100.0, current, file))
            };
            let reply = SnapshotReply {
                ranks: vec![rank(memory)],
                ..Default::default()
            };
            let bar = super::memory(&reply, reply.ranks.first(), 0.0);
            assert_eq!(
                numbers(&bar),
                [
                    (Kind::First, Some(10.0)),
                    (Kind::Second, Some(4.0)),
                    (Kind::Third, Some(3.0)),
                    (Kind::Cache, cache),
                    (Kind::Rest, rest),
                    (Kind::Free, Some(100.0 - current)),
                ]
            );
            assert_eq!(bar.notes[0], "processes by PSS");
        }
    }

    #[test]
    fn by_rss_only_bounds_are_said_of_what_is_left() {
        for (current, rest, free) in [(40.0, Some(13.0), 6), (20.0, None, 8)] {
            let reply = SnapshotReply {
                ranks: vec![rank(by_rss(cgroup(100.0, current, 10.0)))],
                ..Default::default()
            };
            let bar = memory(&reply, reply.ranks.first(), 0.0);
            assert_eq!(
                numbers(&bar)[3..5],
                [(Kind::Cache, Some(10.0)), (Kind::Rest, rest)]
            );
            assert!(bar.notes[0].contains("by RSS"), "{:?}", bar.notes);
            let last = cells(&bar, 10).pop();
            assert_eq!(
                last,
                Some((Some(Kind::Free), free)),
                "however much RSS says"
            );
        }
    }

    #[test]
    fn an_allocator_that_has_more_than_the_driver_said_makes_the_rest_unknown() {
        let allocator = hookbus_client::inspect::proto::Allocator {
            allocated_bytes: known(5.0),
            reserved_bytes: known(8.0),
            gpu: Some(0),
            ..Default::default()
        };
        let reply = SnapshotReply {
            ranks: vec![rank(ProcessMemory {
                allocator: Some(allocator),
                ..Default::default()
            })],
            ..Default::default()
        };
        for (used, other) in [(10.0, Some(2.0)), (6.0, None)] {
            let card = Gpu {
                used_bytes: known(used),
                ..Default::default()
            };
            let bar = gpu(&reply, &card, 0.0);
            let wanted = [
                (Kind::First, Some(5.0)),
                (Kind::Second, Some(3.0)),
                (Kind::Third, other),
            ];
            assert_eq!(numbers(&bar)[..3], wanted);
        }
    }

    #[test]
    fn ranks_that_share_a_limit_share_a_bar() {
        let mut elsewhere = by_rss(cgroup(100.0, 90.0, 0.0));
        elsewhere.cgroup.as_mut().unwrap().limit_path = "/b".into();
        let one = by_rss(cgroup(100.0, 40.0, 0.0));
        let reply = SnapshotReply {
            ranks: vec![rank(one.clone()), rank(one), rank(elsewhere)],
            ..Default::default()
        };
        let bar = memory(&reply, reply.ranks.first(), 0.0);
        assert_eq!(numbers(&bar)[0], (Kind::First, Some(20.0)));
        assert_eq!(bar.segments[0].name, "2 mains");
    }

    #[test]
    fn one_process_that_is_not_known_makes_its_segment_unknown_and_no_zero() {
        let mut memory = by_rss(cgroup(100.0, 40.0, 10.0));
        (memory.children, memory.workers) = (Vec::new(), None);
        memory.children_rss_bytes = Some(Reading {
            unknown: "no right to see them".into(),
            ..Default::default()
        });
        let reply = SnapshotReply {
            ranks: vec![rank(memory)],
            ..Default::default()
        };
        let bar = super::memory(&reply, reply.ranks.first(), 0.0);
        assert_eq!(
            bar.segments[1].bytes.known,
            Err("no right to see them".to_owned())
        );
        let names: Vec<_> = bar.segments[..3].iter().map(|one| &one.name).collect();
        assert_eq!(names, ["main", "workers", "other children"]);
        assert_eq!(numbers(&bar)[0], (Kind::First, Some(10.0)));
    }

    #[test]
    fn children_that_only_the_trainer_saw_are_counted_and_not_told_apart() {
        let reply = SnapshotReply {
            ranks: vec![rank(by_itself())],
            ..Default::default()
        };
        let bar = super::memory(&reply, reply.ranks.first(), 0.0);
        let parts = [
            (Kind::First, Some(10.0)),
            (Kind::Second, None),
            (Kind::Third, Some(7.0)),
        ];
        assert_eq!(numbers(&bar)[..3], parts);
        assert_eq!(bar.segments[2].name, "all children");
        assert_eq!(Parts::of(&by_itself(), 0.0).all(), Value::exact(17.0));
    }

    #[test]
    fn a_cgroup_that_the_trainer_sent_is_its_own_and_of_no_host_that_is_known() {
        let mut other = rank(by_itself());
        other.rank = 1;
        let reply = SnapshotReply {
            ranks: vec![rank(by_itself()), other],
            host: Some(HostMemory {
                total_bytes: known(50.0),
                ..Default::default()
            }),
            ..Default::default()
        };
        let bar = super::memory(&reply, reply.ranks.first(), 0.0);
        assert_eq!(bar.title, "cgroup /pod");
        assert_eq!(bar.notes[0], "rank 0 as it says itself");
        assert_eq!(numbers(&bar)[0], (Kind::First, Some(10.0)));
        assert_eq!(bar.total.known, Ok(100.0));
    }

    #[test]
    fn the_hosts_bar_has_only_ranks_that_the_daemon_sees() {
        let seen = by_rss(cgroup(f64::INFINITY, 40.0, 5.0));
        let by_nobody = ProcessMemory {
            seen_by: String::new(),
            ..Default::default()
        };
        let reply = SnapshotReply {
            ranks: vec![rank(seen), rank(by_itself()), rank(by_nobody)],
            ..Default::default()
        };
        let bar = super::memory(&reply, reply.ranks.first(), 0.0);
        assert_eq!(numbers(&bar)[0], (Kind::First, Some(10.0)));
        let note = "without 2 of 3 ranks, which the daemon does not see";
        assert!(bar.notes.iter().any(|said| said == note), "{:?}", bar.notes);
    }

    #[test]
    fn cells_never_exceed_the_bar_and_the_whole_is_never_off() {
        let segment = |kind, bytes| Segment {
            kind,
            name: String::new(),
            bound: "",
            bytes,
            old_s: 3.0,
        };
        let bar = |total, parts: [f64; 3]| Bar {
            title: String::new(),
            total,
            segments: vec![
                segment(Kind::First, Value::exact(parts[0])),
                segment(Kind::Second, Value::unknown("why")),
                segment(Kind::Third, Value::exact(parts[1])),
                segment(Kind::Free, Value::exact(parts[2])),
            ],
            notes: Vec::new(),
        };
        let drawn = |parts| cells(&bar(Value::exact(9.0), parts), 10);
        let (first, third, free) = (Some(Kind::First), Some(Kind::Third), Some(Kind::Free));
        assert_eq!(
            drawn([3.0, 3.0, 3.0]),
            [(first, 3), (third, 4), (None, 0), (free, 3)]
        );
        assert_eq!(
            drawn([3.0, 1.0, 3.0]),
            [(first, 3), (third, 1), (None, 3), (free, 3)]
        );
        assert_eq!(
            drawn([30.0, 3.0, 3.0]),
            [(first, 7), (third, 0), (None, 0), (free, 3)]
        );
        for total in [
            Value::exact(0.0),
            Value::exact(f64::INFINITY),
            Value::unknown("why"),
        ] {
            assert_eq!(cells(&bar(total, [1.0, 1.0, 1.0]), 10), []);
        }
    }
}
