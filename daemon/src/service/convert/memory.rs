//! Memory, as operators see it.

use std::time::Instant;

use hookbus_proto::v1 as wire;

use super::reading::{known, reading, unknown};
use crate::domain::{
    CgroupSample, ChildSample, Detail, HostSample, OwnMemory, ProbeCost, ProcessRole,
    ProcessSample, Reading, ShmSample,
};
use crate::snapshot::RankSnapshot;

const PROC: &str = "/proc";
const TRAINER: &str = "trainer";

pub(super) fn process(
    seen: &RankSnapshot,
    sample: Option<&Result<ProcessSample, String>>,
    now: Instant,
) -> wire::ProcessMemory {
    let sample = match sample {
        Some(Ok(sample)) => sample,
        why => {
            let why = why
                .and_then(|why| why.as_ref().err())
                .map_or("it was not sampled", String::as_str);
            return unseen(seen, why, now);
        }
    };
    let children = sample.children.as_deref().unwrap_or_default();
    let is_worker = |child: &&ChildSample| child.role == ProcessRole::Worker;
    let sum_of = |each: &mut dyn Iterator<Item = &Reading>| match &sample.children {
        Err(why) => unknown(why, PROC),
        Ok(_) => sum(each, sample.children_at, now),
    };
    let mut workers = children
        .iter()
        .filter(is_worker)
        .map(|child| &child.detail.pss_bytes);
    let pss = children.iter().map(|child| &child.detail.pss_bytes);
    let own = [&sample.detail.pss_bytes];
    let mut tree = own.into_iter().chain(pss);
    let cgroup = sample.cgroup.as_ref();
    let shm = sample.shm.as_ref();
    wire::ProcessMemory {
        rss_bytes: reading(&sample.rss_bytes, now),
        children_rss_bytes: sum_of(&mut children.iter().map(|child| &child.rss_bytes)),
        pss_bytes: reading(&sample.detail.pss_bytes, now),
        uss_bytes: reading(&sample.detail.uss_bytes, now),
        swap_bytes: reading(&sample.detail.swap_bytes, now),
        shmem_bytes: reading(&sample.detail.shmem_bytes, now),
        workers_pss_bytes: sum_of(&mut workers),
        tree_pss_bytes: sum_of(&mut tree),
        workers: (sample.children.is_ok())
            .then(|| children.iter().filter(is_worker).count() as u32),
        children: children.iter().map(|one| child(one, now)).collect(),
        cgroup: cgroup.ok().map(|sample| self::cgroup(sample, now)),
        cgroup_unknown: cgroup.err().cloned().unwrap_or_default(),
        shm: shm.ok().map(|sample| self::shm(sample, now)),
        shm_unknown: shm.err().cloned().unwrap_or_default(),
        seen_by: "daemon".to_owned(),
        allocator: None,
        gpus: Vec::new(),
        gpus_unknown: String::new(),
    }
}

/// What the trainer's client says of its memory, and when it came. Of a process that has ended there is nothing to say.
pub(super) fn sent(seen: &RankSnapshot) -> Option<&(OwnMemory, Instant)> {
    seen.own_memory.as_ref().filter(|_| seen.ended.is_none())
}

/// The trainer's own word, where it said one, is better than none; it is marked as such.
fn unseen(seen: &RankSnapshot, why: &str, now: Instant) -> wire::ProcessMemory {
    let sent = sent(seen);
    let rss = seen.own_rss_bytes.filter(|_| seen.ended.is_none());
    let not = || unknown(why, PROC);
    let mut memory = wire::ProcessMemory {
        rss_bytes: rss.map_or_else(not, |(rss, at)| known(rss as f64, at, TRAINER, now)),
        children_rss_bytes: not(),
        pss_bytes: not(),
        uss_bytes: not(),
        swap_bytes: not(),
        shmem_bytes: not(),
        workers_pss_bytes: not(),
        tree_pss_bytes: not(),
        cgroup_unknown: why.to_owned(),
        shm_unknown: why.to_owned(),
        gpus_unknown: why.to_owned(),
        seen_by: if sent.is_some() || rss.is_some() {
            TRAINER
        } else {
            ""
        }
        .to_owned(),
        ..Default::default()
    };
    let Some((own, came)) = sent else {
        return memory;
    };
    let at = came.checked_sub(own.age).unwrap_or(*came);
    let said = |bytes: Option<u64>| match bytes {
        Some(bytes) => known(bytes as f64, at, TRAINER, now),
        None => unknown("the trainer's client could not read it", TRAINER),
    };
    memory.children_rss_bytes = said(own.children_rss_bytes);
    if let Some(path) = &own.cgroup {
        let not = || unknown("the trainer's client does not send it", TRAINER);
        let limit = match own.cgroup_limit_bytes {
            Some(u64::MAX) => known(f64::INFINITY, at, TRAINER, now),
            limit => said(limit),
        };
        memory.cgroup_unknown.clear();
        memory.cgroup = Some(wire::CgroupMemory {
            path: path.clone(),
            version: 0,
            limit_path: String::new(),
            limit_bytes: limit,
            current_bytes: said(own.cgroup_current_bytes),
            working_set_bytes: said(own.cgroup_working_set_bytes),
            peak_bytes: not(),
            swap_bytes: not(),
            file_bytes: not(),
            oom_kills: not(),
            ooms: not(),
            pressure_some_percent: not(),
            pressure_full_percent: not(),
        });
    }
    if let (Some(total), Some(used)) = (own.shm_total_bytes, own.shm_used_bytes) {
        memory.shm_unknown.clear();
        memory.shm = Some(wire::SharedMemory {
            total_bytes: said(Some(total)),
            used_bytes: said(Some(used)),
            free_bytes: said(Some(total.saturating_sub(used))),
        });
    }
    memory
}

/// Of nothing it is 0; with one that is not known it is not known.
fn sum(
    each: &mut dyn Iterator<Item = &Reading>,
    at: Instant,
    now: Instant,
) -> Option<wire::Reading> {
    // Not `sum`: of nothing that is -0.0.
    let (mut total, mut oldest, mut source) = (0.0, None, PROC);
    for one in each {
        match &one.value {
            Ok(value) => total += value,
            Err(why) => {
                return unknown(&format!("a process could not be read: {why}"), one.source);
            }
        }
        oldest = Some(oldest.map_or(one.at, |oldest: Instant| oldest.min(one.at)));
        source = one.source;
    }
    known(total, oldest.unwrap_or(at), source, now)
}

fn child(child: &ChildSample, now: Instant) -> wire::ChildMemory {
    let Detail {
        pss_bytes,
        uss_bytes,
        swap_bytes,
        shmem_bytes,
    } = &child.detail;
    let role = match child.role {
        ProcessRole::Main => wire::ProcessRole::Main,
        ProcessRole::Worker => wire::ProcessRole::Worker,
        ProcessRole::Child => wire::ProcessRole::Child,
    };
    wire::ChildMemory {
        pid: child.pid,
        command: child.command.clone(),
        rss_bytes: reading(&child.rss_bytes, now),
        role: role.into(),
        pss_bytes: reading(pss_bytes, now),
        uss_bytes: reading(uss_bytes, now),
        swap_bytes: reading(swap_bytes, now),
        shmem_bytes: reading(shmem_bytes, now),
    }
}

fn cgroup(sample: &CgroupSample, now: Instant) -> wire::CgroupMemory {
    wire::CgroupMemory {
        path: sample.path.clone(),
        version: sample.version.into(),
        limit_path: sample.limit_path.clone(),
        limit_bytes: reading(&sample.limit_bytes, now),
        current_bytes: reading(&sample.current_bytes, now),
        working_set_bytes: reading(&sample.working_set_bytes, now),
        peak_bytes: reading(&sample.peak_bytes, now),
        swap_bytes: reading(&sample.swap_bytes, now),
        file_bytes: reading(&sample.file_bytes, now),
        oom_kills: reading(&sample.oom_kills, now),
        ooms: reading(&sample.ooms, now),
        pressure_some_percent: reading(&sample.pressure_some_percent, now),
        pressure_full_percent: reading(&sample.pressure_full_percent, now),
    }
}

fn shm(sample: &ShmSample, now: Instant) -> wire::SharedMemory {
    let bytes = |value: u64| known(value as f64, sample.at, "statfs /dev/shm", now);
    wire::SharedMemory {
        total_bytes: bytes(sample.total_bytes),
        used_bytes: bytes(sample.used_bytes),
        free_bytes: bytes(sample.free_bytes),
    }
}

pub(super) fn host(
    host: &Result<HostSample, String>,
    shm_seen: &Result<ShmSample, String>,
    now: Instant,
) -> wire::HostMemory {
    let source = "/proc/meminfo";
    let each = |get: fn(&HostSample) -> f64| match host {
        Ok(host) => known(get(host), host.at, source, now),
        Err(why) => unknown(why, source),
    };
    wire::HostMemory {
        total_bytes: each(|host| host.total_bytes as f64),
        available_bytes: each(|host| host.available_bytes as f64),
        used_bytes: each(|host| host.used_bytes as f64),
        used_percent: each(|host| host.used_percent),
        swap_total_bytes: each(|host| host.swap_total_bytes as f64),
        swap_used_bytes: each(|host| host.swap_used_bytes as f64),
        swap_used_percent: each(|host| host.swap_used_percent),
        shm: shm_seen.as_ref().ok().map(|sample| shm(sample, now)),
        shm_unknown: shm_seen.as_ref().err().cloned().unwrap_or_default(),
    }
}

pub(super) fn probe(cost: &ProbeCost) -> wire::Probe {
    wire::Probe {
        name: cost.name.to_owned(),
        interval_s: cost.interval.as_secs_f64(),
        reads: cost.reads,
        cpu_s: cost.cpu.as_secs_f64(),
        longest_s: cost.longest.as_secs_f64(),
        share_percent: cost.share_percent,
        budget_percent: cost.budget_percent,
        slowed_to_s: cost
            .slowed_to
            .map_or(0.0, |interval| interval.as_secs_f64()),
    }
}
