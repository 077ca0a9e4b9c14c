//! What `hookbus run` saw of its runs, from the outside: the last snapshot of each, and the highest memory among them.
//!
//! It looks seldom, so that the report can still say something when the daemon is gone, and it fails in silence: the
//! training is none of its business.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use hookbus_client::address::Address;
use hookbus_client::inspect::proto::{Rank, RunPhase, SnapshotReply};
use hookbus_client::inspect::{InspectError, Inspector};

/// How often it looks while the command runs.
const LOOK: Duration = Duration::from_secs(2);
/// How long the daemon may take to notice that the training has ended: a closed stream and a pid that is gone.
const LAST_LOOK_DEADLINE: Duration = Duration::from_secs(3);
/// How often it looks at the end.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// One run.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// As it was last seen.
    pub(crate) snapshot: SnapshotReply,
    /// The highest sum of the trainers' and their children's resident memory; None: never known.
    pub(crate) peak_bytes: Option<f64>,
}

/// Looks at every run of one daemon.
#[derive(Debug)]
pub(crate) struct Observer {
    address: Address,
    inspector: Option<Inspector>,
    next: Instant,
    /// By id.
    pub(crate) seen: BTreeMap<String, Seen>,
    /// Whether the daemon records what it sees; None: it was not asked yet, or did not say.
    pub(crate) recorded: Option<bool>,
}

/// A table that every journal has.
const ANY_TABLE: &str = "samples";

impl Observer {
    pub(crate) fn new(address: Address) -> Observer {
        Observer {
            address,
            inspector: None,
            next: Instant::now() + LOOK,
            seen: BTreeMap::new(),
            recorded: None,
        }
    }

    /// Waits for the time of the next look, and looks. Cancel safe: a look that was cut short is done again.
    pub(crate) async fn look(&mut self) {
        sleep_until(self.next).await;
        let _ = timeout_at(Instant::now() + LOOK, self.take()).await;
        self.next = Instant::now() + LOOK;
    }

    /// Looks until every run has ended, at most three seconds.
    pub(crate) async fn last_look(&mut self) {
        let until = Instant::now() + LAST_LOOK_DEADLINE;
        while Instant::now() < until {
            let looked = timeout_at(until, self.take()).await;
            match looked {
                Ok(Ok(())) if self.seen.values().all(ended) => return,
                // It listened, and does no more: there is nobody left to ask.
                Ok(Err(InspectError::Connect(_))) => return,
                _ => {}
            }
            sleep(LAST_LOOK).await;
        }
    }

    async fn take(&mut self) -> Result<(), InspectError> {
        let inspector = match &mut self.inspector {
            Some(inspector) => inspector,
            empty => empty.insert(Inspector::connect(&self.address, LOOK).await?),
        };
        // What the journal has of earlier days is none of this training's.
        let runs = inspector.live_runs().await?.into_iter();
        for run in runs.filter(|run| !run.archived) {
            if self.recorded.is_none() {
                self.recorded = keeps_journal(inspector, &run.id).await;
            }
            let snapshot = inspector.snapshot(&run.id).await?;
            let seen = self.seen.entry(run.id).or_default();
            if let Some(bytes) = resident_bytes(&snapshot.ranks) {
                seen.peak_bytes = Some(seen.peak_bytes.map_or(bytes, |peak| peak.max(bytes)));
            }
            seen.snapshot = snapshot;
        }
        Ok(())
    }
}

/// Asks for nothing of a table: only a journal has one.
async fn keeps_journal(inspector: &mut Inspector, run: &str) -> Option<bool> {
    let said = match inspector.rows(run, ANY_TABLE, Some(0.0)).await {
        Ok(mut replies) => replies.next().await.map(|_| ()),
        Err(error) => Err(error),
    };
    match said {
        Ok(()) => Some(true),
        Err(InspectError::Refused(_)) => Some(false),
        // The run may be too new; the connection's end is seen by the next question.
        Err(_) => None,
    }
}

fn ended(seen: &Seen) -> bool {
    let Some(run) = &seen.snapshot.run else {
        return true;
    };
    run.connected == 0 && !matches!(run.phase(), RunPhase::Running | RunPhase::Unspecified)
}

/// Resident memory of every rank and its children; None where not one main process is known.
fn resident_bytes(ranks: &[Rank]) -> Option<f64> {
    let known = ranks
        .iter()
        .filter_map(|rank| rank.memory.as_ref())
        .filter_map(|memory| {
            let main = memory.rss_bytes.as_ref()?.value?;
            let children = memory
                .children_rss_bytes
                .as_ref()
                .and_then(|reading| reading.value);
            Some(main + children.unwrap_or(0.0))
        });
    known.reduce(|sum, bytes| sum + bytes)
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{ProcessMemory, Reading, RunSummary};

    use super::*;

    fn rank(main: Option<f64>, children: Option<f64>) -> Rank {
        let reading = |value| {
            Some(Reading {
                value,
                ..Default::default()
            })
        };
        let memory = ProcessMemory {
            rss_bytes: reading(main),
            children_rss_bytes: reading(children),
            ..Default::default()
        };
        Rank {
            memory: Some(memory),
            ..Default::default()
        }
    }

    #[test]
    fn memory_that_nobody_knows_is_not_zero() {
        let table = [
            (vec![], None),
            (vec![Rank::default(), rank(None, Some(5.0))], None),
            (vec![rank(Some(3.0), None), Rank::default()], Some(3.0)),
            (
                vec![rank(Some(3.0), Some(2.0)), rank(Some(1.0), Some(0.0))],
                Some(6.0),
            ),
        ];
        for (ranks, bytes) in table {
            assert_eq!(resident_bytes(&ranks), bytes, "{ranks:?}");
        }
    }

    #[test]
    fn a_run_has_ended_when_nobody_is_connected_and_its_phase_says_so() {
        let seen = |phase: RunPhase, connected| Seen {
            snapshot: SnapshotReply {
                run: Some(RunSummary {
                    phase: phase.into(),
                    connected,
                    ..Default::default()
                }),
                ..Default::default()
            },
            peak_bytes: None,
        };
        assert!(ended(&seen(RunPhase::Finished, 0)));
        assert!(!ended(&seen(RunPhase::Finished, 1)));
        assert!(!ended(&seen(RunPhase::Running, 0)));
    }
}
