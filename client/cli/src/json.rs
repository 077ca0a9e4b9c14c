//! The wire's messages as JSON, for scripts. JSON has no word for not-finite numbers: they are the strings "nan", "inf"
//! and "-inf". What is not known is null, with its reason beside it.

use serde_json::{Map, Value, json};

use hookbus_client::inspect::proto;

use crate::format;

pub(crate) fn number(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else {
        Value::from(format::number(value))
    }
}

fn maybe(value: Option<f64>) -> Value {
    value.map_or(Value::Null, number)
}

fn list<T>(items: &[T], write: impl Fn(&T) -> Value) -> Value {
    items.iter().map(write).collect()
}

pub(crate) fn reading(reading: Option<&proto::Reading>) -> Value {
    match reading {
        None => json!({"value": null, "unknown": format::NOT_SENT}),
        Some(r) => match r.value {
            Some(value) => {
                json!({"value": number(value), "age_s": number(r.age_s), "source": r.source})
            }
            None => json!({"value": null, "unknown": r.unknown, "source": r.source}),
        },
    }
}

pub(crate) fn position(position: Option<&proto::Position>) -> Value {
    position.map_or(
        Value::Null,
        |at| json!({"epoch": at.epoch, "iter": at.iter, "inner_iter": at.inner_iter}),
    )
}

pub(crate) fn run(run: &proto::RunSummary) -> Value {
    json!({
        "id": run.id, "name": run.name, "launch": run.launch, "attempt": run.attempt,
        "world_size": run.world_size, "connected": run.connected, "phase": format::phase(run.phase()),
        "position": position(run.position.as_ref()), "max_epochs": run.max_epochs, "max_iters": run.max_iters,
        "loss": maybe(run.loss), "age_s": number(run.age_s), "reason": run.reason, "incidents": run.incidents,
        "started_unix_s": number(run.started_unix_s), "ended_unix_s": maybe(run.ended_unix_s), "archived": run.archived,
    })
}

pub(crate) fn snapshot(reply: &proto::SnapshotReply) -> Value {
    let mut value = json!({
        "hooks": list(&reply.hooks, hook),
        "refused": list(&reply.refused, |r| json!({"what": r.what, "reason": r.reason, "rank": r.rank})),
        "wanted": list(&reply.wanted, wanted),
        "results": list(&reply.results, rank_result),
        "incidents": list(&reply.incidents, incident),
        "logs": list(&reply.logs, |l| json!({
            "rank": l.rank, "at": position(l.at.as_ref()), "text": l.text, "by": l.by,
        })),
    });
    value["ranks"] = list(&reply.ranks, rank);
    value["attempts"] = list(&reply.attempts, attempt);
    merge(&mut value, memory(reply));
    value
}

pub(crate) fn wanted(wanted: &proto::Wanted) -> Value {
    json!({"field": wanted.field, "text": wanted.text, "by": wanted.by, "id": wanted.id})
}

pub(crate) fn rank_result(r: &proto::RankResult) -> Value {
    json!({
        "rank": r.rank, "by": r.by, "what": r.what, "age_s": number(r.age_s), "result": result(r.result.as_ref()),
    })
}

pub(crate) fn incident(i: &proto::Incident) -> Value {
    json!({
        "id": i.id, "kind": i.kind, "text": i.text, "open": i.open, "rank": i.rank,
        "at": position(i.at.as_ref()), "age_s": number(i.age_s),
    })
}

/// The part of a snapshot that is about memory.
pub(crate) fn memory(reply: &proto::SnapshotReply) -> Value {
    json!({
        "run": reply.run.as_ref().map(run),
        "host": reply.host.as_ref().map(host),
        "processes": list(&reply.ranks, |r| json!({
            "rank": r.rank, "pid": (r.pid != 0).then_some(r.pid), "memory": process(r.memory.as_ref()),
        })),
        "gpus": list(&reply.gpus, gpu),
        "gpu_unknown": (!reply.gpu_unknown.is_empty()).then_some(&reply.gpu_unknown),
        "probes": list(&reply.probes, probe), "missed": reply.missed,
    })
}

fn probe(probe: &proto::Probe) -> Value {
    json!({
        "name": probe.name, "interval_s": number(probe.interval_s), "reads": probe.reads, "cpu_s": number(probe.cpu_s),
        "longest_s": number(probe.longest_s), "share_percent": number(probe.share_percent),
        "budget_percent": number(probe.budget_percent),
        "slowed_to_s": (probe.slowed_to_s > 0.0).then(|| number(probe.slowed_to_s)),
    })
}

fn attempt(attempt: &proto::Attempt) -> Value {
    json!({
        "attempt": attempt.attempt, "phase": format::phase(attempt.phase()), "reason": attempt.reason,
        "started_unix_s": number(attempt.started_unix_s), "ended_unix_s": maybe(attempt.ended_unix_s),
        "position": position(attempt.position.as_ref()),
    })
}

fn rank(rank: &proto::Rank) -> Value {
    let last: Map<String, Value> = rank
        .last
        .iter()
        .map(|(name, value)| (name.clone(), number(*value)))
        .collect();
    json!({
        "rank": rank.rank, "local_rank": rank.local_rank, "node": rank.node, "connected": rank.connected,
        "pid": (rank.pid != 0).then_some(rank.pid), "position": position(rank.position.as_ref()),
        "point": rank.point, "last": last, "events": rank.events, "acked": rank.acked, "dropped": rank.dropped,
        "dropped_points": rank.dropped_points, "step_s": maybe(rank.step_s),
        "last_heard_s": number(rank.last_heard_s), "reason": rank.reason, "children": rank.children,
        "gates": rank.gates, "gate_timeouts": rank.gate_timeouts, "gate_wait_s": number(rank.gate_wait_s),
        "breaker_open": rank.breaker_open, "memory": process(rank.memory.as_ref()),
    })
}

fn hook(hook: &proto::HookStatus) -> Value {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    json!({
        "name": hook.name, "type": hook.r#type, "origin": hook.origin, "policy": hook.policy,
        "priority": hook.priority, "calls": hook.calls, "decisions": hook.decisions,
        "disabled": text(&hook.disabled), "args": hook.args, "time_s": number(hook.time_s),
        "errors": hook.errors, "timeouts": hook.timeouts, "missed": hook.missed, "overruled": hook.overruled,
        "withheld": hook.withheld, "last_withheld": text(&hook.last_withheld), "module": text(&hook.module),
        "away": text(&hook.away),
    })
}

pub(crate) fn result(result: Option<&proto::Result>) -> Value {
    result.map_or(Value::Null, |r| {
        json!({
            "id": r.id, "outcome": outcome(r.outcome()), "at": position(r.at.as_ref()), "point": r.point,
            "old": r.old, "new": r.new, "reason": r.reason,
        })
    })
}

/// What a rank did, in one word; UNSPECIFIED is never sent and counts as failed.
pub(crate) fn outcome(outcome: proto::Outcome) -> &'static str {
    match outcome {
        proto::Outcome::Applied => "applied",
        proto::Outcome::Rejected => "rejected",
        proto::Outcome::Unsupported => "unsupported",
        proto::Outcome::Failed | proto::Outcome::Unspecified => "failed",
        proto::Outcome::Expired => "expired",
    }
}

fn host(host: &proto::HostMemory) -> Value {
    json!({
        "total_bytes": reading(host.total_bytes.as_ref()), "available_bytes": reading(host.available_bytes.as_ref()),
        "used_bytes": reading(host.used_bytes.as_ref()), "used_percent": reading(host.used_percent.as_ref()),
        "swap_total_bytes": reading(host.swap_total_bytes.as_ref()),
        "swap_used_bytes": reading(host.swap_used_bytes.as_ref()),
        "swap_used_percent": reading(host.swap_used_percent.as_ref()),
        "shm": host.shm.as_ref().map(shm), "shm_unknown": why(&host.shm_unknown),
    })
}

fn process(process: Option<&proto::ProcessMemory>) -> Value {
    process.map_or(Value::Null, |p| {
        json!({
            "rss_bytes": reading(p.rss_bytes.as_ref()), "pss_bytes": reading(p.pss_bytes.as_ref()),
            "uss_bytes": reading(p.uss_bytes.as_ref()), "swap_bytes": reading(p.swap_bytes.as_ref()),
            "shmem_bytes": reading(p.shmem_bytes.as_ref()),
            "children_rss_bytes": reading(p.children_rss_bytes.as_ref()), "workers": p.workers,
            "workers_pss_bytes": reading(p.workers_pss_bytes.as_ref()),
            "tree_pss_bytes": reading(p.tree_pss_bytes.as_ref()),
            "children": list(&p.children, child),
            "cgroup": p.cgroup.as_ref().map(cgroup), "cgroup_unknown": why(&p.cgroup_unknown),
            "shm": p.shm.as_ref().map(shm), "shm_unknown": why(&p.shm_unknown), "seen_by": p.seen_by,
            "allocator": p.allocator.as_ref().map(allocator),
            "gpus": list(&p.gpus, |one| json!({
                "gpu": one.gpu, "uuid": one.uuid, "used_bytes": reading(one.used_bytes.as_ref()),
            })),
            "gpus_unknown": why(&p.gpus_unknown),
        })
    })
}

fn why(unknown: &str) -> Option<&str> {
    (!unknown.is_empty()).then_some(unknown)
}

fn child(child: &proto::ChildMemory) -> Value {
    let role = match child.role() {
        proto::ProcessRole::Unspecified => "unknown",
        proto::ProcessRole::Main => "main",
        proto::ProcessRole::Worker => "worker",
        proto::ProcessRole::Child => "child",
    };
    json!({
        "pid": child.pid, "command": child.command, "role": role, "rss_bytes": reading(child.rss_bytes.as_ref()),
        "pss_bytes": reading(child.pss_bytes.as_ref()), "uss_bytes": reading(child.uss_bytes.as_ref()),
        "swap_bytes": reading(child.swap_bytes.as_ref()), "shmem_bytes": reading(child.shmem_bytes.as_ref()),
    })
}

fn cgroup(group: &proto::CgroupMemory) -> Value {
    json!({
        "path": group.path, "version": group.version, "limit_path": group.limit_path,
        "limit_bytes": reading(group.limit_bytes.as_ref()), "current_bytes": reading(group.current_bytes.as_ref()),
        "working_set_bytes": reading(group.working_set_bytes.as_ref()), "peak_bytes": reading(group.peak_bytes.as_ref()),
        "swap_bytes": reading(group.swap_bytes.as_ref()), "file_bytes": reading(group.file_bytes.as_ref()),
        "oom_kills": reading(group.oom_kills.as_ref()), "ooms": reading(group.ooms.as_ref()),
        "pressure_some_percent": reading(group.pressure_some_percent.as_ref()),
        "pressure_full_percent": reading(group.pressure_full_percent.as_ref()),
    })
}

fn shm(shm: &proto::SharedMemory) -> Value {
    json!({
        "total_bytes": reading(shm.total_bytes.as_ref()), "used_bytes": reading(shm.used_bytes.as_ref()),
        "free_bytes": reading(shm.free_bytes.as_ref()),
    })
}

fn allocator(held: &proto::Allocator) -> Value {
    json!({
        "allocated_bytes": reading(held.allocated_bytes.as_ref()), "reserved_bytes": reading(held.reserved_bytes.as_ref()),
        "active_bytes": reading(held.active_bytes.as_ref()), "retries": reading(held.retries.as_ref()),
        "ooms": reading(held.ooms.as_ref()), "device": held.device, "gpu": held.gpu,
    })
}

fn gpu(gpu: &proto::Gpu) -> Value {
    json!({
        "index": gpu.index, "name": gpu.name, "uuid": gpu.uuid,
        "total_bytes": reading(gpu.total_bytes.as_ref()), "used_bytes": reading(gpu.used_bytes.as_ref()),
        "free_bytes": reading(gpu.free_bytes.as_ref()), "reserved_bytes": reading(gpu.reserved_bytes.as_ref()),
        "unified": gpu.unified,
        "utilization_percent": reading(gpu.utilization_percent.as_ref()),
        "memory_busy_percent": reading(gpu.memory_busy_percent.as_ref()),
        "temperature_celsius": reading(gpu.temperature_celsius.as_ref()),
        "power_watts": reading(gpu.power_watts.as_ref()),
        "mig": list(&gpu.mig, |m| json!({
            "index": m.index, "uuid": m.uuid, "gpu_instance": m.gpu_instance, "compute_instance": m.compute_instance,
            "total_bytes": reading(m.total_bytes.as_ref()), "used_bytes": reading(m.used_bytes.as_ref()),
            "free_bytes": reading(m.free_bytes.as_ref()), "reserved_bytes": reading(m.reserved_bytes.as_ref()),
        })),
        "processes": list(&gpu.processes, |p| json!({
            "pid": p.pid, "used_bytes": reading(p.used_bytes.as_ref()), "command": p.command,
            "run": (!p.run.is_empty()).then_some(&p.run), "rank": p.rank, "gpu_instance": p.gpu_instance,
        })),
        "processes_unknown": (!gpu.processes_unknown.is_empty()).then_some(&gpu.processes_unknown),
    })
}

pub(crate) fn hook_info(hook: &proto::HookInfo) -> Value {
    json!({
        "type": hook.r#type, "summary": hook.summary, "points": hook.points, "effect": hook.effect,
        "module": (!hook.module.is_empty()).then_some(&hook.module),
        "args": list(&hook.args, |a| json!({"name": a.name, "default": a.default_value, "help": a.help})),
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_finite_numbers_are_strings() {
        let table = [
            (1.5, "1.5"),
            (0.1, "0.1"),
            (f64::NAN, "\"nan\""),
            (f64::INFINITY, "\"inf\""),
            (f64::NEG_INFINITY, "\"-inf\""),
        ];
        for (value, text) in table {
            assert_eq!(number(value).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_known_is_null_with_its_reason() {
        let absent = proto::Reading {
            unknown: "no driver".into(),
            source: "nvml".into(),
            ..Default::default()
        };
        let value = reading(Some(&absent));
        assert_eq!(
            (&value["value"], value["unknown"].as_str()),
            (&Value::Null, Some("no driver"))
        );
        assert_eq!(reading(None)["value"], Value::Null);
        assert_eq!(reading(None)["unknown"], "the daemon did not send it");
    }

    #[test]
    fn a_snapshot_keeps_a_nan_loss_and_a_missing_one_apart() {
        let last = [("loss".to_owned(), f64::NAN)].into_iter().collect();
        let reply = proto::SnapshotReply {
            run: Some(proto::RunSummary {
                loss: None,
                ..Default::default()
            }),
            ranks: vec![proto::Rank {
                last,
                memory: Some(proto::ProcessMemory::default()),
                ..Default::default()
            }],
            gpu_unknown: "no NVML library".into(),
            ..Default::default()
        };
        let value = snapshot(&reply);
        assert_eq!(value["ranks"][0]["last"]["loss"], "nan");
        assert_eq!(value["ranks"][0]["pid"], Value::Null);
        assert_eq!(value["ranks"][0]["children"], Value::Null);
        assert_eq!(value["ranks"][0]["memory"]["workers"], Value::Null);
        assert_eq!(value["run"]["loss"], Value::Null);
        assert_eq!(value["gpu_unknown"], "no NVML library");
        assert_eq!(value["host"], Value::Null);
    }
}
