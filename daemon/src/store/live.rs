//! The newest samples, in memory. One small lock; nobody holds it across a wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::View;
use crate::domain::{GpuSample, HostSample, ProbeCost, ProcessSample, ShmSample};

/// A process: its id and when it started.
pub type ProcessKey = (u32, u64);

#[derive(Debug)]
struct Newest {
    host: Result<HostSample, String>,
    shm: Result<ShmSample, String>,
    gpus: Result<Vec<GpuSample>, String>,
    costs: Vec<ProbeCost>,
    /// Watched processes: how often asked for, and the newest sample.
    processes: BTreeMap<ProcessKey, (usize, Option<ProcessSample>)>,
}

/// A handle of the newest samples.
#[derive(Clone, Debug)]
pub struct Live(Arc<Mutex<Newest>>);

impl Default for Live {
    fn default() -> Self {
        let none = || "not sampled yet".to_owned();
        Self(Arc::new(Mutex::new(Newest {
            host: Err(none()),
            shm: Err(none()),
            gpus: Err(none()),
            costs: Vec::new(),
            processes: BTreeMap::new(),
        })))
    }
}

impl Live {
    /// From now on this process is sampled.
    pub fn watch(&self, pid: u32, start_ticks: u64) {
        self.lock()
            .processes
            .entry((pid, start_ticks))
            .or_default()
            .0 += 1;
    }

    /// One asker less.
    pub fn unwatch(&self, pid: u32, start_ticks: u64) {
        let mut newest = self.lock();
        if let Some((askers, _)) = newest.processes.get_mut(&(pid, start_ticks)) {
            *askers -= 1;
            if *askers == 0 {
                newest.processes.remove(&(pid, start_ticks));
            }
        }
    }

    /// The processes that are to be sampled.
    pub fn watched(&self) -> Vec<ProcessKey> {
        self.lock().processes.keys().copied().collect()
    }

    /// A new host sample, or why there is none.
    pub fn set_host(&self, host: Result<HostSample, String>) {
        self.lock().host = host;
    }

    /// A new sample of the daemon's own /dev/shm, or why there is none.
    pub fn set_host_shm(&self, shm: Result<ShmSample, String>) {
        self.lock().shm = shm;
    }

    /// What these probes cost by now; of others it stays.
    pub fn set_costs(&self, costs: Vec<ProbeCost>) {
        let known = &mut self.lock().costs;
        for cost in costs {
            match known.iter_mut().find(|known| known.name == cost.name) {
                Some(known) => *known = cost,
                None => known.push(cost),
            }
        }
    }

    /// New GPU samples, or why there are none.
    pub fn set_gpus(&self, gpus: Result<Vec<GpuSample>, String>) {
        self.lock().gpus = gpus;
    }

    /// A new sample of a watched process; of another one it is not kept.
    pub fn set_process(&self, key: ProcessKey, sample: ProcessSample) {
        if let Some((_, newest)) = self.lock().processes.get_mut(&key) {
            *newest = Some(sample);
        }
    }

    /// The newest sample of a process, or why there is none.
    pub fn process(&self, pid: u32, start_ticks: u64) -> Result<ProcessSample, String> {
        match self.lock().processes.get(&(pid, start_ticks)) {
            Some((_, Some(sample))) => Ok(sample.clone()),
            Some((_, None)) => Err("not sampled yet".to_owned()),
            None => Err("it is not watched".to_owned()),
        }
    }

    /// The newest sample of the daemon's own /dev/shm, or why there is none.
    pub fn host_shm(&self) -> Result<ShmSample, String> {
        self.lock().shm.clone()
    }

    /// What the probes cost.
    pub fn costs(&self) -> Vec<ProbeCost> {
        self.lock().costs.clone()
    }

    /// The newest GPU samples, or why there are none.
    pub fn gpus(&self) -> Result<Vec<GpuSample>, String> {
        self.lock().gpus.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View for Live {
    fn host(&self) -> Result<HostSample, String> {
        self.lock().host.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_sampled_while_anybody_asks() {
        let live = Live::default();
        live.watch(1, 2);
        live.watch(1, 2);
        live.unwatch(1, 2);
        assert_eq!(live.watched(), [(1, 2)]);
        assert_eq!(live.process(1, 2), Err("not sampled yet".to_owned()));
        live.unwatch(1, 2);
        assert_eq!(live.watched(), []);
        assert_eq!(live.process(1, 2), Err("it is not watched".to_owned()));
        assert_eq!(live.host(), Err("not sampled yet".to_owned()));
    }
}
