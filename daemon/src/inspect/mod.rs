//! Answers for operators, from snapshots and samples. Never on the sessions' thread.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::{
    Clock, GpuSample, HostSample, Owners, ProbeCost, ProcessSample, Rank, Reading, ShmSample,
};
use crate::providers::{Known, Provider};
use crate::snapshot::{Board, Happening, RunSnapshot};
use crate::store::Live;
use crate::store::journal::{Archive, Table};

mod history;

pub use history::{Past, Query, Range, SeriesPast};

/// The newest run.
const LAST: &str = "LAST";
/// Runs that a line names.
const NAMED: usize = 8;
/// What is said where there is none.
pub const NO_JOURNAL: &str = "this daemon keeps no journal (journal.enabled, journal.dir)";

/// What can be looked at.
pub struct Inspector {
    board: Board,
    live: Live,
    clock: Clock,
    listening: Vec<String>,
    /// Runs that were written down.
    recorded: Option<Archive>,
    /// Hooks in other processes.
    providers: Known,
}

/// One look at a run and at memory.
pub struct Look {
    /// When.
    pub now: Instant,
    /// For dates.
    pub clock: Clock,
    /// None where no run was asked for and there is none.
    pub run: Option<Arc<RunSnapshot>>,
    /// The host, or why not known.
    pub host: Result<HostSample, String>,
    /// Of the run's ranks: their processes, or why not known.
    pub processes: BTreeMap<Rank, Result<ProcessSample, String>>,
    /// /dev/shm as the daemon sees it, or why not known.
    pub host_shm: Result<ShmSample, String>,
    /// What looking costs.
    pub probes: Vec<ProbeCost>,
    /// The GPUs here, or why not known.
    pub gpus: Result<Vec<GpuSample>, String>,
    /// Whose the processes on them are, of all runs.
    pub owners: Owners,
}

/// One thing that can, or cannot, be seen from here.
pub struct Finding {
    /// "host memory".
    pub what: Cow<'static, str>,
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
    pub fn new(
        board: Board,
        live: Live,
        clock: Clock,
        listening: Vec<String>,
        recorded: Option<Archive>,
        providers: Known,
    ) -> Self {
        Self {
            board,
            live,
            clock,
            listening,
            recorded,
            providers,
        }
    }

    /// The providers of hooks, as they are now.
    pub fn providers(&self) -> Arc<Vec<Provider>> {
        Arc::clone(&self.providers.borrow())
    }

    /// The daemon's monotonic clock.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// For dates.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The runs of this daemon that had a session.
    pub fn live_runs(&self) -> Vec<Arc<RunSnapshot>> {
        let mut runs = self.board.all();
        runs.retain(|run| !run.archived);
        runs
    }

    /// Every run: those of this daemon, and those that were only written down. The oldest first.
    pub fn runs(&self) -> Vec<Arc<RunSnapshot>> {
        let mut runs = self.board.all();
        if let Some(recorded) = &self.recorded {
            let known: BTreeSet<_> = runs.iter().map(|run| run.id.clone()).collect();
            runs.extend(recorded.runs(self.now(), &known));
        }
        runs.sort_by_key(|run| run.started);
        runs
    }

    /// The run that an operator means by a name or an id. Empty: the only one of this daemon, else the newest that was
    /// written down. "LAST": the newest. Errors: the line names the runs there are.
    pub fn find(&self, asked: &str) -> Result<Arc<RunSnapshot>, String> {
        let of_daemon = self.board.find(asked);
        let Some(recorded) = &self.recorded else {
            return of_daemon;
        };
        if of_daemon.is_ok() && asked != LAST {
            return of_daemon;
        }
        if asked.is_empty() && !self.board.all().is_empty() {
            return of_daemon; // several: one is to be named
        }
        if !asked.is_empty() && asked != LAST {
            let called = recorded.called(self.now(), asked);
            if let Some(newest) = called.into_iter().max_by_key(|run| run.started) {
                return Ok(newest);
            }
        }
        let runs = self.runs();
        let meant =
            |run: &&Arc<RunSnapshot>| asked.is_empty() || asked == LAST || run.id.is_called(asked);
        match runs.iter().rfind(meant) {
            Some(run) => Ok(Arc::clone(run)),
            None if runs.is_empty() => of_daemon,
            None => {
                let newest = runs.iter().rev().take(NAMED).rev();
                let names: Vec<_> = newest.map(|run| run.id.to_string()).collect();
                let more = runs.len().saturating_sub(NAMED);
                let more = if more > 0 {
                    format!(" and {more} older ones")
                } else {
                    String::new()
                };
                Err(format!(
                    "there is no run {asked:?}: {}{more}",
                    names.join(", ")
                ))
            }
        }
    }

    /// What happened in a run that was written down, from `since` until `until`, one by one. Errors: it was not written
    /// down, or the file cannot be read.
    pub fn happenings(
        &self,
        run: &RunSnapshot,
        since: Option<Duration>,
        until: Instant,
        events: bool,
        each: impl FnMut(Happening) -> bool,
    ) -> Result<(), String> {
        let since = since.and_then(|since| until.checked_sub(since));
        let since = since.unwrap_or(run.started).max(run.started);
        let (archive, path) = self.file(run)?;
        archive.happenings(&path, (since, until), events, each)
    }

    /// A run's tables, part by part. Errors: it was not written down, there is no such table, or the file cannot be read.
    pub fn rows(
        &self,
        run: &RunSnapshot,
        table: &str,
        since: Option<Duration>,
        each: impl FnMut(Table) -> bool,
    ) -> Result<(), String> {
        let (archive, path) = self.file(run)?;
        let since = since.and_then(|since| Instant::now().checked_sub(since));
        archive.rows(&path, table, since, each)
    }

    /// Whether runs are written down.
    pub fn records(&self) -> bool {
        self.recorded.is_some()
    }

    fn file(&self, run: &RunSnapshot) -> Result<(&Archive, PathBuf), String> {
        let archive = self.recorded.as_ref().ok_or(NO_JOURNAL)?;
        let path = archive.path(&run.id);
        let path = path.ok_or_else(|| format!("run {} was not written down", run.id))?;
        Ok((archive, path))
    }

    fn run_if_any(&self, asked: &str) -> Result<Option<Arc<RunSnapshot>>, String> {
        match self.find(asked) {
            Ok(run) => Ok(Some(run)),
            Err(_) if asked.is_empty() && self.board.all().is_empty() => Ok(None),
            Err(line) => Err(line),
        }
    }

    /// The run that is meant by a name or an id, with memory. Errors: the line names the runs there are.
    pub fn look(&self, asked: &str) -> Result<Look, String> {
        let run = self.run_if_any(asked)?;
        let run_is_archived = run.as_ref().is_some_and(|run| run.archived);
        let processes = run.iter().flat_map(|run| run.ranks.values()).map(|rank| {
            let sample = match (rank.process, &rank.ended) {
                (_, Some(why)) => Err(format!("the rank has ended: {why}")),
                (_, None) if run_is_archived => {
                    Err("this run was read from its journal".to_owned())
                }
                (None, None) => Err(rank.process_unknown.clone()),
                (Some((pid, start_ticks)), None) => self.live.process(pid, start_ticks),
            };
            (rank.rank, sample)
        });
        Ok(Look {
            now: self.now(),
            clock: self.clock,
            processes: processes.collect(),
            run: run.clone(),
            host: self.live.host(),
            host_shm: self.live.host_shm(),
            probes: self.live.costs(),
            gpus: self.live.gpus(),
            owners: self.owners(),
        })
    }

    /// Every trainer that lives, and its descendants.
    fn owners(&self) -> Owners {
        let mut owners = Owners::default();
        for run in self.live_runs() {
            for rank in run.ranks.values().filter(|rank| rank.ended.is_none()) {
                let Some((pid, start_ticks)) = rank.process else {
                    continue;
                };
                let children = self.live.process(pid, start_ticks);
                let children = children.and_then(|sample| sample.children);
                let children = children.as_deref().unwrap_or_default();
                let pids = children.iter().map(|child| child.pid);
                owners.add(&run.id, rank.rank, pids.chain([pid]));
            }
        }
        owners
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
        About {
            uptime: self.clock.at.elapsed(),
            listening: self.listening.clone(),
            findings: vec![
                Finding {
                    what: Cow::Borrowed("host memory"),
                    text: host.map_err(unknown),
                    mend: "start hookbusd where /proc/meminfo can be read (a container needs its /proc mounted)",
                },
                Finding {
                    what: Cow::Borrowed("GPU (NVML)"),
                    text: gpus.map_err(unknown),
                    mend: "on a machine with an NVIDIA GPU: install its driver, or in a container start it with the GPU runtime (--gpus all)",
                },
            ]
            .into_iter()
            .chain(self.trainers())
            .chain(self.providers().iter().flat_map(provider))
            .collect(),
        }
    }

    /// Which trainers' memory can be seen, and of each that cannot why, the ranks with one reason together.
    fn trainers(&self) -> Vec<Finding> {
        let what = Cow::Borrowed("trainers' processes");
        let (mut seen, mut sent) = (0, BTreeMap::<&'static str, (String, Vec<String>)>::new());
        for run in self.board.all() {
            for rank in run.ranks.values().filter(|rank| rank.ended.is_none()) {
                let why = match rank.process {
                    None => rank.process_unknown.clone(),
                    Some((pid, ticks)) => match self.live.process(pid, ticks) {
                        Ok(sample) if is_denied(&sample.detail.pss_bytes) => DENIED.to_owned(),
                        _ => {
                            seen += 1;
                            continue;
                        }
                    },
                };
                let who = format!("{} rank {}", run.id, rank.rank);
                sent.entry(mend(&why))
                    .or_insert((why, Vec::new()))
                    .1
                    .push(who);
            }
        }
        let mut findings = Vec::new();
        if seen > 0 || sent.is_empty() {
            findings.push(Finding {
                what: what.clone(),
                text: Ok(format!("{seen} seen by pid")),
                mend: "",
            });
        }
        findings.extend(sent.into_iter().map(|(mend, (why, ranks))| {
            let more = match ranks.len() {
                0..=4 => String::new(),
                count => format!(" and {} more", count - 4),
            };
            let named = ranks.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
            Finding {
                what: what.clone(),
                text: Err(format!(
                    "unknown: {named}{more}: {why}{}",
                    if why == DENIED { "" } else { SENT }
                )),
                mend,
            }
        }));
        findings
    }
}

/// Of a number.
fn unknown(why: String) -> String {
    format!("unknown: {why}")
}

/// A provider, and each of its hooks that does not hold.
fn provider(provider: &Provider) -> Vec<Finding> {
    let hooks: Vec<_> = provider
        .hooks
        .iter()
        .flat_map(|hooks| hooks.iter())
        .map(|hook| &*hook.request.name)
        .collect();
    let names = match hooks.as_slice() {
        [] => "no hooks".to_owned(),
        hooks => hooks.join(", "),
    };
    let link = match &provider.link {
        Ok(_) => Ok(format!("connected, with {names}")),
        Err(why) => Err(format!("{names}: {why}")),
    };
    let what = |hook: &str| Cow::Owned(format!("provider {}{hook}", provider.module));
    let refused = provider.refused.iter().map(|(hook, why)| Finding {
        what: what(&format!(", {hook}")),
        text: Err(why.clone()),
        mend: "mend the hook or its lines in the configuration, and start its provider again",
    });
    let itself = Finding {
        what: what(""),
        text: link,
        mend: "read the daemon's log: what the provider's process wrote is there, with its module's name",
    };
    [itself].into_iter().chain(refused).collect()
}

const DENIED: &str = "PSS cannot be read: permission denied";
const SENT: &str = "; what is shown of its memory is what its own client sends";

fn is_denied(pss: &Reading) -> bool {
    matches!(&pss.value, Err(why) if why.to_lowercase().contains("permission"))
}

/// The one line that would let the daemon see the process.
fn mend(why: &str) -> &'static str {
    if why == DENIED {
        "run hookbusd as the trainers' user, or as root"
    } else if why.contains("another kernel") {
        "run a hookbusd on the trainer's host, and attach to that one"
    } else if why.contains("daemon before this one") {
        "it is seen again when the trainer's client has come back, within seconds"
    } else {
        "share the pid namespace with the trainer (docker: --pid=container:NAME, Kubernetes: shareProcessNamespace: true)"
    }
}
