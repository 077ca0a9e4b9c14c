//! The newest samples and their series, in memory. One small lock; nobody holds it across a wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::Tracked;
use super::series::{Group, Name, Track, of_gpu, of_host, of_shm};
use crate::domain::{
    GpuSample, HostSample, ProbeCost, ProcessSample, Rank, Reading, RunId, ShmSample,
};

/// A process: its id and when it started.
pub type ProcessKey = (u32, u64);

/// So many ranks that have ended have their series in memory, the newest of them; of others the journal has them.
pub(super) const ENDED: usize = 128;

/// The host is read so often that its samples wait for one another and go into the series so many at a time: each series
/// in each resolution is memory of its own, and fetching all that costs more than the reading.
const TOGETHER: usize = 10;

/// A process that is to be sampled.
#[derive(Debug, Default)]
struct Watched {
    askers: usize,
    newest: Option<ProcessSample>,
    tracks: Vec<Weak<Track>>,
}

#[derive(Debug)]
struct Newest {
    host: Result<HostSample, String>,
    shm: Result<ShmSample, String>,
    gpus: Result<Vec<GpuSample>, String>,
    costs: Vec<ProbeCost>,
    processes: BTreeMap<ProcessKey, Watched>,
    /// So often one has come to `processes` or gone.
    changes: u64,
    series: Series,
}

/// All series lie on one grid, which begins with the first sample.
#[derive(Debug, Default)]
struct Series {
    origin: Option<Instant>,
    host: Option<Group>,
    /// Read and not in `host` yet. Nobody sees that: whoever looks puts them there first.
    waiting: Vec<HostSample>,
    gpus: BTreeMap<u32, Group>,
    /// A run holds its ranks'; here they are found.
    ranks: BTreeMap<RunId, BTreeMap<Rank, Weak<Track>>>,
    /// In the order in which they ended.
    ended: VecDeque<Weak<Track>>,
}

impl Series {
    fn host(&mut self, at: Instant) -> &mut Group {
        let origin = *self.origin.get_or_insert(at);
        self.host.get_or_insert_with(|| Group::new(origin));
        self.settled_host().expect("it was just made")
    }

    fn settled_host(&mut self) -> Option<&mut Group> {
        let group = self.host.as_mut()?;
        for host in self.waiting.drain(..) {
            of_host(&host).iter().for_each(|number| group.add(number));
        }
        Some(group)
    }

    fn add_host(&mut self, host: HostSample) {
        let at = host.at;
        self.waiting.push(host);
        if self.host.is_none() || self.waiting.len() == TOGETHER {
            self.host(at);
        }
    }

    fn gpu(&mut self, index: u32, at: Instant) -> &mut Group {
        let origin = *self.origin.get_or_insert(at);
        self.gpus.entry(index).or_insert_with(|| Group::new(origin))
    }
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
            changes: 0,
            series: Series::default(),
        })))
    }
}

impl Live {
    /// From now on this process is sampled.
    pub fn watch(&self, pid: u32, start_ticks: u64) {
        let mut newest = self.lock();
        newest.changes += 1;
        let watched = newest.processes.entry((pid, start_ticks)).or_default();
        watched.askers += 1;
    }

    /// One asker less.
    pub fn unwatch(&self, pid: u32, start_ticks: u64) {
        let mut newest = self.lock();
        if let Some(watched) = newest.processes.get_mut(&(pid, start_ticks)) {
            watched.askers -= 1;
            if watched.askers == 0 {
                newest.processes.remove(&(pid, start_ticks));
                newest.changes += 1;
            }
        }
    }

    /// The series of a rank, which are there as long as they are held.
    pub fn track(&self, run: &RunId, rank: Rank, now: Instant) -> Tracked {
        let mut newest = self.lock();
        let series = &mut newest.series;
        let track = Arc::new(Track::new(*series.origin.get_or_insert(now)));
        series.ranks.retain(|_, ranks| {
            ranks.retain(|_, track| track.strong_count() > 0);
            !ranks.is_empty()
        });
        let ranks = series.ranks.entry(run.clone()).or_default();
        ranks.insert(rank, Arc::downgrade(&track));
        Tracked::new(self.clone(), track)
    }

    /// From now on this process is sampled, for a rank's series.
    pub(super) fn watch_for(&self, process: ProcessKey, track: &Arc<Track>) {
        self.watch(process.0, process.1);
        track.set_process(Some(process));
        if let Some(watched) = self.lock().processes.get_mut(&process) {
            watched.tracks.push(Arc::downgrade(track));
        }
    }

    pub(super) fn unwatch_for(&self, process: ProcessKey, track: &Arc<Track>) {
        track.set_process(None);
        if let Some(watched) = self.lock().processes.get_mut(&process) {
            watched.tracks.retain(|other| !is(other, track));
        }
        self.unwatch(process.0, process.1);
    }

    /// A rank has ended, or is back. The series of those that ended first are given up where there are too many.
    pub(super) fn has_ended(&self, track: &Arc<Track>, ended: bool) {
        let mut newest = self.lock();
        let all = &mut newest.series.ended;
        all.retain(|other| other.strong_count() > 0 && !is(other, track));
        if ended {
            all.push_back(Arc::downgrade(track));
        }
        let over = all.len().saturating_sub(ENDED);
        let over: Vec<_> = all.drain(..over).filter_map(|one| one.upgrade()).collect();
        drop(newest);
        over.iter().for_each(|track| track.clear());
    }

    /// The processes that are to be sampled.
    pub fn watched(&self) -> Vec<ProcessKey> {
        self.lock().processes.keys().copied().collect()
    }

    /// The processes that are to be sampled, if there may be others than when `changes` was set last; it is set to now.
    pub fn watched_since(&self, changes: &mut Option<u64>) -> Option<Vec<ProcessKey>> {
        let newest = self.lock();
        let is_news = changes.replace(newest.changes) != Some(newest.changes);
        is_news.then(|| newest.processes.keys().copied().collect())
    }

    /// A new host sample, or why there is none.
    pub fn set_host(&self, host: Result<HostSample, String>) {
        let mut newest = self.lock();
        match &host {
            Ok(host) => newest.series.add_host(host.clone()),
            Err(why) => {
                let group = newest.series.settled_host();
                group.into_iter().for_each(|group| group.fail(why));
            }
        }
        newest.host = host;
    }

    /// A new sample of the daemon's own /dev/shm, or why there is none.
    pub fn set_host_shm(&self, shm: Result<ShmSample, String>) {
        let mut newest = self.lock();
        if let Ok(shm) = &shm {
            let number = of_shm(Name::HostShmUsed, shm);
            newest.series.host(shm.at).add(&number);
        }
        newest.shm = shm;
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
        let mut newest = self.lock();
        match &gpus {
            Ok(gpus) => {
                for gpu in gpus {
                    let group = newest.series.gpu(gpu.index, gpu.used_bytes.at);
                    of_gpu(gpu).iter().for_each(|number| group.add(number));
                }
            }
            Err(why) => {
                let groups = newest.series.gpus.values_mut();
                groups.for_each(|group| group.fail(why));
            }
        }
        newest.gpus = gpus;
    }

    /// A new sample of a watched process; of another one it is not kept.
    pub fn set_process(&self, key: ProcessKey, sample: ProcessSample) {
        let mut newest = self.lock();
        let Some(watched) = newest.processes.get_mut(&key) else {
            return;
        };
        watched.newest = Some(sample.clone());
        let tracks: Vec<_> = watched.tracks.iter().filter_map(Weak::upgrade).collect();
        drop(newest);
        tracks.iter().for_each(|track| track.take(&sample));
    }

    /// A watched process's resident set size, where nothing else of its newest sample has changed. False: there is no such
    /// sample, it needs a whole one.
    pub fn set_resident(&self, key: ProcessKey, rss_bytes: &Reading) -> bool {
        let mut newest = self.lock();
        let watched = newest.processes.get_mut(&key);
        let Some((sample, tracks)) =
            watched.and_then(|watched| Some((watched.newest.as_mut()?, &watched.tracks)))
        else {
            return false;
        };
        sample.rss_bytes.clone_from(rss_bytes);
        // Hardly ever more than one, and a list of none takes no memory.
        let mut tracks = tracks.iter().filter_map(Weak::upgrade);
        let (first, others) = (tracks.next(), tracks.collect::<Vec<_>>());
        drop(newest);
        let tracks = first.iter().chain(&others);
        tracks.for_each(|track| track.take_resident(rss_bytes));
        true
    }

    /// The newest sample of a process, or why there is none.
    pub fn process(&self, pid: u32, start_ticks: u64) -> Result<ProcessSample, String> {
        match self.lock().processes.get(&(pid, start_ticks)) {
            Some(Watched {
                newest: Some(sample),
                ..
            }) => Ok(sample.clone()),
            Some(_) => Err("not sampled yet".to_owned()),
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

    /// The newest host sample, or why there is none.
    pub fn host(&self) -> Result<HostSample, String> {
        self.lock().host.clone()
    }

    /// A rank's process and its newest sample, or why there is none.
    pub(super) fn process_of(
        &self,
        run: &RunId,
        rank: Rank,
    ) -> Result<(u32, ProcessSample), String> {
        let newest = self.lock();
        let track = newest
            .series
            .ranks
            .get(run)
            .and_then(|ranks| ranks.get(&rank));
        let track = track.and_then(Weak::upgrade);
        let process = track.ok_or("there is no such rank")?.process();
        let watched =
            process.and_then(|process| Some((process.0, newest.processes.get(&process)?)));
        let (pid, watched) = watched.ok_or("its process is not sampled")?;
        let sample = watched.newest.clone();
        let sample = sample.ok_or_else(|| "not sampled yet".to_owned())?;
        Ok((pid, sample))
    }

    /// The series of a run's ranks.
    pub fn tracks(&self, run: &RunId) -> BTreeMap<Rank, Arc<Track>> {
        let newest = self.lock();
        let ranks = newest.series.ranks.get(run).into_iter().flatten();
        ranks
            .filter_map(|(rank, track)| Some((*rank, track.upgrade()?)))
            .collect()
    }

    /// One rank's.
    pub(super) fn track_of(&self, run: &RunId, rank: Rank) -> Option<Arc<Track>> {
        self.lock().series.ranks.get(run)?.get(&rank)?.upgrade()
    }

    /// The host's series; None: not sampled yet.
    pub fn of_host<T>(&self, ask: impl FnOnce(&Group) -> T) -> Option<T> {
        let mut newest = self.lock();
        newest.series.settled_host().map(|group| ask(group))
    }

    /// A GPU's series; None: not sampled yet.
    pub fn of_gpu<T>(&self, index: u32, ask: impl FnOnce(&Group) -> T) -> Option<T> {
        self.lock().series.gpus.get(&index).map(ask)
    }

    /// The GPUs that have series.
    pub fn gpus_tracked(&self) -> Vec<u32> {
        self.lock().series.gpus.keys().copied().collect()
    }

    /// When the slots of all series are counted from; None: nothing was sampled.
    pub fn origin(&self) -> Option<Instant> {
        self.lock().series.origin
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is(one: &Weak<Track>, other: &Arc<Track>) -> bool {
    std::ptr::eq(one.as_ptr(), Arc::as_ptr(other))
}

#[cfg(test)]
mod tests;
