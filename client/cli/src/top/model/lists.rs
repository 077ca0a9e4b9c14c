//! Runs, ranks, processes and GPUs in the order and choice that was asked for. Pure.

use hookbus_client::inspect::proto::{Rank, Reading, RunSummary, SnapshotReply};

use super::super::text::Value;
use super::bars::Parts;

/// What can have the focus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::top) enum Pane {
    Runs,
    Ranks,
    Processes,
    Gpus,
    Events,
}

impl Pane {
    /// In the order of Tab.
    pub(in crate::top) const ALL: [Pane; 5] = [
        Pane::Runs,
        Pane::Ranks,
        Pane::Processes,
        Pane::Gpus,
        Pane::Events,
    ];

    pub(in crate::top) fn index(self) -> usize {
        Pane::ALL.iter().position(|pane| *pane == self).unwrap_or(0)
    }

    pub(in crate::top) fn name(self) -> &'static str {
        match self {
            Pane::Runs => "runs",
            Pane::Ranks => "ranks",
            Pane::Processes => "processes",
            Pane::Gpus => "GPUs",
            Pane::Events => "events",
        }
    }

    /// What `s` goes through; the first is how it begins.
    pub(in crate::top) fn orders(self) -> &'static [&'static str] {
        match self {
            Pane::Runs => &["newest", "name", "incidents"],
            Pane::Ranks => &["rank", "memory", "step", "data wait", "behind"],
            Pane::Processes => &["memory", "pid", "command"],
            Pane::Gpus => &["index", "used"],
            Pane::Events => &["newest"],
        }
    }
}

/// Every word of the filter is somewhere in the text, whatever the case.
pub(in crate::top) fn matches(filter: &str, text: &str) -> bool {
    let text = text.to_lowercase();
    let mut words = filter.split_whitespace();
    words.all(|word| text.contains(&word.to_lowercase()))
}

pub(in crate::top) fn runs<'a>(
    runs: &'a [RunSummary],
    order: &str,
    filter: &str,
) -> Vec<&'a RunSummary> {
    let mut chosen: Vec<_> = runs.iter().filter(|run| matches(filter, &run.id)).collect();
    chosen.sort_by(|a, b| {
        b.started_unix_s
            .total_cmp(&a.started_unix_s)
            .then(a.id.cmp(&b.id))
    });
    match order {
        "name" => chosen.sort_by(|a, b| a.id.cmp(&b.id)),
        "incidents" => chosen.sort_by_key(|run| std::cmp::Reverse(run.incidents)),
        _ => {}
    }
    chosen
}

/// What a rank's processes take together, and whether that is by PSS.
pub(in crate::top) fn rank_memory(rank: &Rank, waited_s: f64) -> (Value, bool) {
    match &rank.memory {
        None => (Value::of(None, 0.0), false),
        Some(memory) => {
            let parts = Parts::of(memory, waited_s);
            (parts.all(), parts.by_pss)
        }
    }
}

pub(in crate::top) fn ranks<'a>(
    reply: &'a SnapshotReply,
    order: &str,
    filter: &str,
) -> Vec<&'a Rank> {
    let text = |rank: &Rank| {
        format!(
            "rank {} {} {} {}",
            rank.rank, rank.node, rank.pid, rank.point
        )
    };
    let mut chosen: Vec<_> = reply
        .ranks
        .iter()
        .filter(|rank| matches(filter, &text(rank)))
        .collect();
    chosen.sort_by_key(|rank| rank.rank);
    // The largest first; what is not known is last.
    let most = |get: &dyn Fn(&Rank) -> Option<f64>, chosen: &mut Vec<&Rank>| {
        let key = |rank: &Rank| get(rank).unwrap_or(f64::NEG_INFINITY);
        chosen.sort_by(|a, b| key(b).total_cmp(&key(a)));
    };
    match order {
        "memory" => most(&|rank| rank_memory(rank, 0.0).0.known.ok(), &mut chosen),
        "step" => most(&|rank| rank.step_s, &mut chosen),
        "data wait" => most(&|rank| rank.data_wait_s, &mut chosen),
        "behind" => chosen.sort_by_key(|rank| {
            let at = rank.position.as_ref();
            at.map(|at| (at.epoch, at.iter))
        }),
        _ => {}
    }
    chosen
}

/// A rank's main process or one below it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) struct Process {
    pub(in crate::top) pid: u32,
    pub(in crate::top) role: &'static str,
    pub(in crate::top) command: String,
    pub(in crate::top) rss: Option<Reading>,
    pub(in crate::top) pss: Option<Reading>,
    pub(in crate::top) uss: Option<Reading>,
    pub(in crate::top) swap: Option<Reading>,
    pub(in crate::top) shmem: Option<Reading>,
}

pub(in crate::top) fn processes(rank: &Rank, order: &str, filter: &str) -> Vec<Process> {
    use hookbus_client::inspect::proto::ProcessRole;
    let Some(memory) = &rank.memory else {
        return Vec::new();
    };
    let main = Process {
        pid: rank.pid,
        role: "main",
        command: String::new(),
        rss: memory.rss_bytes.clone(),
        pss: memory.pss_bytes.clone(),
        uss: memory.uss_bytes.clone(),
        swap: memory.swap_bytes.clone(),
        shmem: memory.shmem_bytes.clone(),
    };
    let children = memory.children.iter().map(|child| Process {
        pid: child.pid,
        role: match child.role() {
            ProcessRole::Unspecified => "unknown",
            ProcessRole::Main => "main",
            ProcessRole::Worker => "worker",
            ProcessRole::Child => "child",
        },
        command: super::super::text::clean(&child.command),
        rss: child.rss_bytes.clone(),
        pss: child.pss_bytes.clone(),
        uss: child.uss_bytes.clone(),
        swap: child.swap_bytes.clone(),
        shmem: child.shmem_bytes.clone(),
    });
    let text = |one: &Process| format!("{} {} {}", one.pid, one.role, one.command);
    let mut chosen: Vec<_> = [main].into_iter().chain(children).collect();
    chosen.retain(|one| matches(filter, &text(one)));
    let size = |one: &Process| {
        let value = |reading: &Option<Reading>| reading.as_ref().and_then(|reading| reading.value);
        value(&one.pss)
            .or(value(&one.rss))
            .unwrap_or(f64::NEG_INFINITY)
    };
    match order {
        "pid" => chosen.sort_by_key(|one| one.pid),
        "command" => chosen.sort_by(|a, b| a.command.cmp(&b.command).then(a.pid.cmp(&b.pid))),
        _ => chosen.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.pid.cmp(&b.pid))),
    }
    chosen
}

pub(in crate::top) fn gpus<'a>(
    reply: &'a SnapshotReply,
    order: &str,
    filter: &str,
) -> Vec<&'a hookbus_client::inspect::proto::Gpu> {
    let mut chosen: Vec<_> = reply
        .gpus
        .iter()
        .filter(|gpu| matches(filter, &format!("{} {} {}", gpu.index, gpu.name, gpu.uuid)))
        .collect();
    chosen.sort_by_key(|gpu| gpu.index);
    if order == "used" {
        let used = |gpu: &hookbus_client::inspect::proto::Gpu| {
            let reading = gpu.used_bytes.as_ref();
            reading
                .and_then(|reading| reading.value)
                .unwrap_or(f64::NEG_INFINITY)
        };
        chosen.sort_by(|a, b| used(b).total_cmp(&used(a)));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{ChildMemory, ProcessMemory};

    use super::*;

    fn known(value: f64) -> Option<Reading> {
        Some(Reading {
            value: Some(value),
            ..Default::default()
        })
    }

    #[test]
    fn the_largest_is_first_and_the_unknown_last() {
        let rank = |rank, step_s| Rank {
            rank,
            step_s,
            node: format!("node{}", rank % 2),
            ..Default::default()
        };
        let reply = SnapshotReply {
            ranks: vec![rank(2, None), rank(1, Some(0.2)), rank(0, Some(0.1))],
            ..Default::default()
        };
        let order = |order: &str, filter: &str| -> Vec<u32> {
            ranks(&reply, order, filter)
                .iter()
                .map(|rank| rank.rank)
                .collect()
        };
        assert_eq!(order("rank", ""), [0, 1, 2]);
        assert_eq!(order("step", ""), [1, 0, 2]);
        assert_eq!(order("rank", "NODE0"), [0, 2]);
        assert_eq!(order("rank", "node0 rank 2"), [2]);
    }

    #[test]
    fn the_main_process_is_one_of_them() {
        let child = |pid, command: &str, pss| ChildMemory {
            pid,
            command: command.into(),
            pss_bytes: known(pss),
            ..Default::default()
        };
        let rank = Rank {
            pid: 7,
            memory: Some(ProcessMemory {
                pss_bytes: known(5.0),
                children: vec![child(9, "b", 9.0), child(8, "a", 1.0)],
                ..Default::default()
            }),
            ..Default::default()
        };
        let order = |order: &str, filter: &str| -> Vec<u32> {
            processes(&rank, order, filter)
                .iter()
                .map(|one| one.pid)
                .collect()
        };
        assert_eq!(order("memory", ""), [9, 7, 8]);
        assert_eq!(order("pid", ""), [7, 8, 9]);
        assert_eq!(order("memory", "main"), [7]);
        assert!(processes(&Rank::default(), "pid", "").is_empty());
    }
}
