//! What has changed between two looks. The one before is put on the wire as if it were now, so that what has only grown older
//! is equal, whatever has an age; only what is new is sent.

use hookbus_proto::v1 as wire;

use super::views::{snapshot, snapshot_at};
use crate::inspect::Look;

/// What a viewer is to be sent who has seen `before`: what is new since then. All of it where that cannot be said as a change: a
/// list has become empty, another attempt has begun, a rank has gone.
pub(in crate::service) fn since(before: &Look, look: &Look) -> wire::SnapshotReply {
    changes(snapshot_at(before, look.now), snapshot(look))
}

fn changes(before: wire::SnapshotReply, now: wire::SnapshotReply) -> wire::SnapshotReply {
    if cannot_be_said(&before, &now) {
        return now;
    }
    let changed = |rank: &wire::Rank| {
        let old = before
            .ranks
            .binary_search_by_key(&rank.rank, |old| old.rank);
        old.ok().is_none_or(|at| before.ranks[at] != *rank)
    };
    let mut ranks = now.ranks;
    ranks.retain(changed);
    wire::SnapshotReply {
        run: now.run,
        host: now.host,
        gpu_unknown: now.gpu_unknown,
        at_unix_s: now.at_unix_s,
        missed: now.missed,
        changes: true,
        ranks,
        hooks: new(&before.hooks, now.hooks),
        refused: new(&before.refused, now.refused),
        results: new(&before.results, now.results),
        incidents: new(&before.incidents, now.incidents),
        logs: new(&before.logs, now.logs),
        gpus: new(&before.gpus, now.gpus),
        wanted: new(&before.wanted, now.wanted),
        attempts: new(&before.attempts, now.attempts),
        probes: new(&before.probes, now.probes),
    }
}

fn new<T: PartialEq>(before: &[T], now: Vec<T>) -> Vec<T> {
    if before == now.as_slice() {
        Vec::new()
    } else {
        now
    }
}

fn cannot_be_said(before: &wire::SnapshotReply, now: &wire::SnapshotReply) -> bool {
    let which =
        |reply: &wire::SnapshotReply| reply.run.as_ref().map(|run| (run.id.clone(), run.attempt));
    let gone = |rank: &wire::Rank| {
        now.ranks
            .binary_search_by_key(&rank.rank, |here| here.rank)
            .is_err()
    };
    fn emptied<T>(before: &[T], now: &[T]) -> bool {
        !before.is_empty() && now.is_empty()
    }
    which(before) != which(now)
        || before.ranks.iter().any(gone)
        || emptied(&before.hooks, &now.hooks)
        || emptied(&before.refused, &now.refused)
        || emptied(&before.results, &now.results)
        || emptied(&before.incidents, &now.incidents)
        || emptied(&before.logs, &now.logs)
        || emptied(&before.gpus, &now.gpus)
        || emptied(&before.wanted, &now.wanted)
        || emptied(&before.attempts, &now.attempts)
        || emptied(&before.probes, &now.probes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(rank: u32, events: u64) -> wire::Rank {
        wire::Rank {
            rank,
            events,
            ..Default::default()
        }
    }

    fn whole() -> wire::SnapshotReply {
        wire::SnapshotReply {
            run: Some(wire::RunSummary {
                id: "digits@1".into(),
                ..Default::default()
            }),
            ranks: vec![rank(0, 5), rank(2, 6), rank(7, 7)],
            wanted: vec![wire::Wanted {
                field: "lr".into(),
                ..Default::default()
            }],
            probes: vec![wire::Probe::default()],
            host: Some(wire::HostMemory::default()),
            ..Default::default()
        }
    }

    #[test]
    fn only_what_is_new_is_sent() {
        let mut now = whole();
        now.at_unix_s = 9.0;
        now.ranks[1].events = 9;
        now.ranks.insert(2, rank(3, 1));
        now.probes[0].reads = 1;
        let sent = changes(whole(), now.clone());
        assert!(sent.changes);
        assert_eq!(sent.ranks, [rank(2, 9), rank(3, 1)]);
        assert_eq!((sent.run, sent.host), (now.run, now.host));
        assert_eq!((sent.wanted.len(), sent.probes), (0, now.probes));
        assert_eq!(sent.at_unix_s, 9.0);
    }

    #[test]
    fn what_is_no_change_is_sent_whole() {
        let table: [fn(&mut wire::SnapshotReply); 5] = [
            |now| now.run.as_mut().unwrap().attempt = 1,
            |now| now.run.as_mut().unwrap().id = "digits@2".into(),
            |now| now.run = None,
            |now| drop(now.ranks.remove(1)),
            |now| now.wanted.clear(),
        ];
        for change in table {
            let mut now = whole();
            change(&mut now);
            assert_eq!(changes(whole(), now.clone()), now);
        }
    }
}
