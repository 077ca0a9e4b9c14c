//! Answers for operators, from snapshots and samples. Never on the sessions' thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::{GpuSample, HostSample, ProcessSample, Rank};
use crate::snapshot::{Board, RunSnapshot};
use crate::store::{Live, View};

/// What can be looked at.
pub struct Inspector {
    board: Board,
    live: Live,
    started: Instant,
    listening: Vec<String>,
}

/// One look at a run and at memory.
pub struct Look {
    /// When.
    pub now: Instant,
    /// None where no run was asked for and there is none.
    pub run: Option<Arc<RunSnapshot>>,
    /// The host, or why not known.
    pub host: Result<HostSample, String>,
    /// Of the run's ranks: their processes, or why not known.
    pub processes: BTreeMap<Rank, Result<ProcessSample, String>>,
    /// The GPUs here, or why not known.
    pub gpus: Result<Vec<GpuSample>, String>,
}

/// One thing that can, or cannot, be seen from here.
pub struct Finding {
    /// "host memory".
    pub what: &'static str,
    /// What was found, or why not.
    pub text: Result<String, String>,
    /// The one line that would mend it.
    pub mend: &'static str,
}

/// The daemon itself.
pub struct About {
    /// Since it started.
    pub uptime: Duration,
    /// Addresses.
    pub listening: Vec<String>,
    /// What it sees.
    pub findings: Vec<Finding>,
}

impl Inspector {
    /// Looks at these.
    pub fn new(board: Board, live: Live, listening: Vec<String>) -> Self {
        Self {
            board,
            live,
            started: Instant::now(),
            listening,
        }
    }

    /// The daemon's monotonic clock.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Every run.
    pub fn runs(&self) -> Vec<Arc<RunSnapshot>> {
        self.board.all()
    }

    /// The run that is meant by a name or an id, with memory. Errors: the line names the runs there are.
    pub fn look(&self, asked: &str) -> Result<Look, String> {
        let run = match self.board.find(asked) {
            Ok(run) => Some(run),
            Err(_) if asked.is_empty() && self.board.all().is_empty() => None,
            Err(line) => return Err(line),
        };
        let processes = run.iter().flat_map(|run| run.ranks.values()).map(|rank| {
            let sample = match (rank.process, &rank.ended) {
                (_, Some(why)) => Err(format!("the rank has ended: {why}")),
                (None, None) => Err(rank.process_unknown.clone()),
                (Some((pid, start_ticks)), None) => self.live.process(pid, start_ticks),
            };
            (rank.rank, sample)
        });
        Ok(Look {
            now: self.now(),
            processes: processes.collect(),
            run: run.clone(),
            host: self.live.host(),
            gpus: self.live.gpus(),
        })
    }

    /// What the daemon is and sees.
    pub fn about(&self) -> About {
        let host = self.live.host().map(|host| {
            format!(
                "{:.1} GiB, from /proc/meminfo",
                host.total_bytes as f64 / (1 << 30) as f64
            )
        });
        let gpus = self
            .live
            .gpus()
            .map(|gpus| format!("{} by NVML", gpus.len()));
        let ranks: Vec<_> = self
            .runs()
            .iter()
            .flat_map(|run| run.ranks.values().cloned().collect::<Vec<_>>())
            .collect();
        let unknown = ranks
            .iter()
            .find(|rank| rank.ended.is_none() && rank.process.is_none());
        let trainers = match unknown {
            Some(rank) => Err(format!("rank {}: {}", rank.rank, rank.process_unknown)),
            None => Ok(format!(
                "{} attached, all seen by pid",
                ranks.iter().filter(|rank| rank.ended.is_none()).count()
            )),
        };
        About {
            uptime: self.started.elapsed(),
            listening: self.listening.clone(),
            findings: vec![
                Finding {
                    what: "host memory",
                    text: host,
                    mend: "start hookbusd where /proc/meminfo can be read (a container needs its /proc mounted)",
                },
                Finding {
                    what: "GPU (NVML)",
                    text: gpus,
                    mend: "on a machine with an NVIDIA GPU: install its driver, or in a container start it with the GPU runtime (--gpus all)",
                },
                Finding {
                    what: "trainers' processes",
                    text: trainers,
                    mend: "share the pid namespace with the trainer (docker: --pid, Kubernetes: shareProcessNamespace: true)",
                },
            ],
        }
    }
}
