//! A run as it is now, again and again: the daemon sends what has changed, and here it becomes whole.

use super::ages::older;
use super::proto::{Rank, SnapshotReply};
use super::{InspectError, Stream};

/// Whole snapshots, one after the other.
#[derive(Debug)]
pub struct Watching {
    replies: Stream<SnapshotReply>,
    whole: Option<SnapshotReply>,
}

impl Watching {
    pub(super) fn new(replies: Stream<SnapshotReply>) -> Watching {
        Watching {
            replies,
            whole: None,
        }
    }

    /// The next one, whole; None: the daemon has said everything. `missed` is how many there were no time for since the one
    /// before.
    pub async fn next(&mut self) -> Result<Option<SnapshotReply>, InspectError> {
        let Some(reply) = self.replies.next().await? else {
            return Ok(None);
        };
        let whole = match self.whole.take() {
            Some(whole) if reply.changes => merged(whole, reply),
            _ => SnapshotReply {
                changes: false,
                ..reply
            },
        };
        Ok(Some(self.whole.insert(whole).clone()))
    }
}

/// What is new takes the place of what was there; the rest grows older, by the daemon's clock, which nobody sets.
fn merged(mut before: SnapshotReply, new: SnapshotReply) -> SnapshotReply {
    let by_s = new.at_unix_s - before.at_unix_s;
    older(&mut before, by_s);
    for rank in new.ranks {
        replace(&mut before.ranks, rank);
    }
    SnapshotReply {
        run: new.run,
        host: new.host,
        gpu_unknown: new.gpu_unknown,
        missed: new.missed,
        at_unix_s: new.at_unix_s,
        changes: false,
        ranks: before.ranks,
        hooks: newer(before.hooks, new.hooks),
        refused: newer(before.refused, new.refused),
        results: newer(before.results, new.results),
        incidents: newer(before.incidents, new.incidents),
        logs: newer(before.logs, new.logs),
        gpus: newer(before.gpus, new.gpus),
        wanted: newer(before.wanted, new.wanted),
        attempts: newer(before.attempts, new.attempts),
        probes: newer(before.probes, new.probes),
    }
}

fn replace(ranks: &mut Vec<Rank>, rank: Rank) {
    match ranks.binary_search_by_key(&rank.rank, |old| old.rank) {
        Ok(at) => ranks[at] = rank,
        Err(at) => ranks.insert(at, rank),
    }
}

fn newer<T>(before: Vec<T>, new: Vec<T>) -> Vec<T> {
    if new.is_empty() { before } else { new }
}

#[cfg(test)]
mod tests {
    use super::super::proto::{
        Gpu, HostMemory, Incident, ProcessMemory, RankResult, Reading, RunSummary, Wanted,
    };
    use super::*;

    fn read(value: f64, age_s: f64) -> Option<Reading> {
        Some(Reading {
            value: Some(value),
            age_s,
            ..Default::default()
        })
    }

    fn rank(rank: u32, value: f64, age_s: f64) -> Rank {
        Rank {
            rank,
            last_heard_s: age_s,
            memory: Some(ProcessMemory {
                rss_bytes: read(value, age_s),
                // It was never read: it has no age.
                pss_bytes: Some(Reading {
                    unknown: "not read yet".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_new_takes_its_place_and_the_rest_grows_older() {
        let before = SnapshotReply {
            at_unix_s: 100.0,
            run: Some(RunSummary::default()),
            ranks: vec![rank(0, 1.0, 0.5), rank(4, 2.0, 0.25)],
            results: vec![RankResult {
                age_s: 9.0,
                ..Default::default()
            }],
            incidents: vec![Incident {
                age_s: 3.0,
                ..Default::default()
            }],
            gpus: vec![Gpu {
                used_bytes: read(7.0, 1.0),
                ..Default::default()
            }],
            wanted: vec![Wanted::default()],
            ..Default::default()
        };
        let incident = Incident {
            age_s: 0.5,
            ..Default::default()
        };
        let new = SnapshotReply {
            at_unix_s: 102.0,
            changes: true,
            missed: 3,
            run: Some(RunSummary {
                age_s: 60.0,
                ..Default::default()
            }),
            host: Some(HostMemory::default()),
            ranks: vec![rank(2, 5.0, 0.125), rank(4, 3.0, 0.125)],
            incidents: vec![incident.clone()],
            ..Default::default()
        };
        let whole = merged(before.clone(), new.clone());
        let wanted = SnapshotReply {
            ranks: vec![rank(0, 1.0, 2.5), rank(2, 5.0, 0.125), rank(4, 3.0, 0.125)],
            results: vec![RankResult {
                age_s: 11.0,
                ..Default::default()
            }],
            incidents: vec![incident],
            gpus: vec![Gpu {
                used_bytes: read(7.0, 3.0),
                ..Default::default()
            }],
            wanted: before.wanted,
            changes: false,
            ..new
        };
        assert_eq!(whole, wanted);
    }
}
