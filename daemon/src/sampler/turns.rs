//! Which probe looks when. The fast ones come first and all that is due at one wake shares it; a slow one that takes long
//! delays the fast ones at most once: between two of their turns at most one process's smaps_rollup is read.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::cgroup::Cgroups;
use super::cost::{Meter, Pace, pay};
use super::process::{Processes, Which};
use super::{Settings, host, shm};
use crate::store::{Live, ProcessKey};

/// How often what the probes cost is made known.
const COSTS: Duration = Duration::from_secs(1);
/// With nobody to look at it is asked again so late, or when somebody comes.
const NEVER: Duration = Duration::from_secs(3600);
/// Of those that the process may have open.
const SHARE_OF_DESCRIPTORS: u64 = 4;

/// The probes and their turns.
pub(super) struct Turns {
    live: Live,
    proc_root: PathBuf,
    meter: Meter,
    /// What this wake costs is measured probe by probe.
    measures: bool,
    costs_due: Instant,
    host: (host::Host, Pace),
    processes: Processes,
    /// Of `processes` and who is watched.
    changes: Option<u64>,
    process: Pace,
    children: Pace,
    cgroup: (Cgroups, Pace),
    shm: Pace,
    smaps: Pace,
    /// The next turn of the fast ones, after a smaps_rollup was read.
    smaps_not_before: Instant,
}

impl Turns {
    pub(super) fn new(settings: &Settings, live: Live) -> Self {
        let now = Instant::now();
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let descriptors = usize::try_from(descriptors / SHARE_OF_DESCRIPTORS).unwrap_or(256);
        let root = &settings.proc_root;
        Self {
            live,
            proc_root: root.clone(),
            meter: Meter::start(),
            measures: false,
            costs_due: now + COSTS,
            host: (host::Host::new(root), Pace::new("host", settings.host, now)),
            processes: Processes::new(root, settings.smaps.interval, descriptors),
            changes: None,
            process: Pace::new("process", settings.process, now),
            children: Pace::new("children", settings.children, now),
            cgroup: (
                Cgroups::new(root, &settings.cgroup_root),
                Pace::new("cgroup", settings.cgroup, now),
            ),
            shm: Pace::new("shm", settings.shm, now),
            smaps: Pace::new("smaps", settings.smaps, now),
            smaps_not_before: now,
        }
    }

    /// Until something is due.
    pub(super) fn wait(&self) -> Duration {
        let fast = self.host.1.due().min(self.process.due());
        let next = fast.min(self.slow_due());
        next.saturating_duration_since(Instant::now())
    }

    fn slow_due(&self) -> Instant {
        let (below, group) = (self.children.due(), self.cgroup.1.due());
        below.min(group).min(self.shm.due()).min(self.smaps.due())
    }

    /// Measures what this wake costs from now on. That is a system call a probe, so the wakes that have only the fast ones,
    /// which is nearly all, are paid for together at the next that is measured.
    fn measure(&mut self, now: Instant) {
        if !self.measures {
            self.measures = true;
            let (fast, meter) = ([&mut self.host.1, &mut self.process], &mut self.meter);
            pay(fast, now, || meter.lap());
        }
    }

    /// Of the probe that has just looked.
    fn lap(&mut self) -> Option<Duration> {
        self.measures.then(|| self.meter.lap())
    }

    /// All that is due.
    pub(super) fn run(&mut self) {
        let now = Instant::now();
        self.measures = false;
        if self.slow_due().min(self.costs_due) <= now {
            self.measure(now);
        }
        if self.host.1.is_due(now) {
            self.live.set_host(self.host.0.read(now));
            let cpu = self.lap();
            self.host.1.looked(now, Instant::now(), cpu);
        }
        match self.live.watched_since(&mut self.changes) {
            Some(watched) => self.follow(&watched, now),
            None => self.processes.follow_on(),
        }
        if self.process.is_due(now) {
            if self.processes.read_mains(which(&self.process, now), now) {
                // A group may soon be removed after its last process.
                self.cgroup.1.hurry(now);
            }
            self.processes.publish(&self.live);
            let cpu = self.lap();
            self.process.looked(now, Instant::now(), cpu);
        }
        if self.slow_due() <= now {
            self.measure(now);
            self.run_slow();
        }
        if self.costs_due <= now {
            self.costs_due = now + COSTS;
            self.publish_costs(now);
        }
    }

    #[cold]
    fn follow(&mut self, watched: &[ProcessKey], now: Instant) {
        if self.processes.follow(watched, now) {
            self.measure(now);
            let (process, shm) = (&mut self.process, &mut self.shm);
            for pace in [process, &mut self.children, &mut self.cgroup.1, shm] {
                pace.hurry(now);
            }
        }
    }

    /// Apart from `run`, so that the wakes of the fast ones, nine in ten, find what they run close together.
    #[cold]
    fn run_slow(&mut self) {
        let now = Instant::now();
        if self.children.is_due(now) {
            self.processes
                .read_children(which(&self.children, now), now);
            self.processes.publish(&self.live);
            let cpu = self.meter.lap();
            self.children.looked(now, Instant::now(), Some(cpu));
            self.wish_for_smaps(now);
        }
        let now = Instant::now();
        let (cgroups, pace) = &mut self.cgroup;
        if pace.is_due(now) {
            let which = which(pace, now);
            self.processes.read_cgroups(which, cgroups, now);
            self.processes.publish(&self.live);
            pace.looked(now, Instant::now(), Some(self.meter.lap()));
        }
        let now = Instant::now();
        if self.shm.is_due(now) {
            self.live
                .set_host_shm(shm::read(&self.proc_root, "self", now));
            self.processes.read_shm(which(&self.shm, now), now);
            self.processes.publish(&self.live);
            let cpu = self.meter.lap();
            self.shm.looked(now, Instant::now(), Some(cpu));
        }
        let now = Instant::now();
        if self.smaps.is_due(now) {
            // Who is due may have ended.
            if self.processes.next_detail().is_some_and(|due| due <= now) {
                let since = self.processes.read_one_detail(now);
                self.processes.publish(&self.live);
                let ended = Instant::now();
                self.smaps
                    .looked_at_one(now, ended, self.meter.lap(), since);
                self.smaps_not_before = self.host.1.due().min(self.process.due());
            }
            self.wish_for_smaps(now);
        }
    }

    fn wish_for_smaps(&mut self, now: Instant) {
        let next = self.processes.next_detail().unwrap_or(now + NEVER);
        self.smaps.wish(next.max(self.smaps_not_before));
    }

    #[cold]
    fn publish_costs(&mut self, now: Instant) {
        let (host, cgroup) = (&mut self.host.1, &mut self.cgroup.1);
        let each = [host, &mut self.process, &mut self.children, &mut self.smaps];
        let each = each.into_iter().chain([cgroup, &mut self.shm]);
        self.live
            .set_costs(each.map(|pace| pace.cost(now)).collect());
    }
}

fn which(pace: &Pace, now: Instant) -> Which {
    if pace.in_turn(now) {
        Which::All
    } else {
        Which::Changed
    }
}

#[cfg(test)]
mod tests;
