//! The trainers' processes that are watched, and what is known of each by now. Its numbers are read at different rates; a
//! new sample is made of the newest of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cgroup::Cgroups;
use super::pid::{Lost, Process};
use super::role::Image;
use super::tree::{self, Below, Child, STATM, Threads, Top, Tree, Turn};
use super::{shm, smaps};
use crate::domain::{CgroupSample, ChildSample, Detail, ProcessSample, Reading, ShmSample};
use crate::store::{Live, ProcessKey};

const NOT_YET: &str = "not looked at yet";
const VISIBLE_DEVICES: &str = "CUDA_VISIBLE_DEVICES";

/// One trainer.
#[derive(Debug)]
struct Main {
    process: Process,
    lives: bool,
    threads: Threads,
    image: Option<Image>,
    rss_bytes: Reading,
    detail: Detail,
    turn: Turn,
    below: Below,
    children: Result<Arc<[ChildSample]>, String>,
    children_at: Instant,
    /// As /proc/PID/cgroup says.
    cgroups: Vec<u8>,
    /// As it said last, where that is something else.
    moved: Vec<u8>,
    cgroup: Result<Arc<CgroupSample>, String>,
    shm: Result<ShmSample, String>,
    visible_devices: Option<Arc<str>>,
    /// There is something newer than the last sample that was given away, beside its resident set size.
    news: bool,
    /// That is newer.
    resident_news: bool,
    /// Since the last `follow` it came or was seen to have ended.
    changed: bool,
}

/// Which of the trainers a probe looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Out of turn, what it costs for all would be too much: those that have just come, or ended.
    Changed,
}

impl Main {
    fn new((pid, start_ticks): ProcessKey, root: &Path, now: Instant) -> Self {
        let mut process = Process::known(pid, start_ticks);
        let visible = process.variable(root, VISIBLE_DEVICES).ok().flatten();
        Self {
            image: tree::image(&mut process, root).ok(),
            visible_devices: visible.map(Arc::from),
            process,
            lives: true,
            threads: Threads::of_trainer(),
            rss_bytes: Reading::unknown(NOT_YET, now, STATM),
            detail: Detail::unknown(NOT_YET, now, smaps::ROLLUP),
            turn: Turn::new(now),
            below: Below::default(),
            children: Err(NOT_YET.to_owned()),
            children_at: now,
            cgroups: Vec::new(),
            moved: Vec::new(),
            cgroup: Err(NOT_YET.to_owned()),
            shm: Err(NOT_YET.to_owned()),
            news: true,
            resident_news: false,
            changed: true,
        }
    }

    fn is_in(&self, which: Which) -> bool {
        which == Which::All || self.changed
    }

    /// Nothing is known of it any more but its group.
    fn end(&mut self, now: Instant) {
        let why = Lost::Ended.why();
        self.lives = false;
        self.rss_bytes = Reading::unknown(why, now, STATM);
        self.detail = Detail::unknown(why, now, smaps::ROLLUP);
        self.below = Below::default();
        (self.children, self.children_at) = (Err(why.to_owned()), now);
        self.shm = Err(why.to_owned());
        (self.news, self.changed) = (true, true);
    }

    fn show_children(&mut self) {
        self.children = Ok(self.below.children.iter().map(Child::sample).collect());
        self.news = true;
    }

    fn sample(&self) -> ProcessSample {
        ProcessSample {
            rss_bytes: self.rss_bytes.clone(),
            detail: self.detail.clone(),
            children: self.children.clone(),
            children_at: self.children_at,
            cgroup: self.cgroup.clone(),
            shm: self.shm.clone(),
            visible_devices: self.visible_devices.clone(),
        }
    }
}

/// Reads the processes that are watched.
#[derive(Debug)]
pub(super) struct Processes {
    root: PathBuf,
    page_bytes: u64,
    detail_interval: Duration,
    descriptors: usize,
    /// Boxed: the tree's own memory is gone through at each turn.
    mains: BTreeMap<ProcessKey, Box<Main>>,
    tree: Tree,
    text: Vec<u8>,
}

impl Processes {
    /// Reads below `root`, which is /proc but in tests, each smaps_rollup every `detail_interval`; keeps at most so many
    /// descriptors.
    pub(super) fn new(root: &Path, detail_interval: Duration, descriptors: usize) -> Self {
        let page_bytes = rustix::param::page_size() as u64;
        Self {
            root: root.to_path_buf(),
            page_bytes,
            detail_interval,
            descriptors,
            mains: BTreeMap::new(),
            tree: Tree::new(root, page_bytes),
            text: Vec::new(),
        }
    }

    /// These are watched now. Whether there is a new one.
    pub(super) fn follow(&mut self, watched: &[ProcessKey], now: Instant) -> bool {
        self.mains.retain(|key, main| {
            main.changed = false;
            watched.contains(key)
        });
        let before = self.mains.len();
        for key in watched {
            let new = || Box::new(Main::new(*key, &self.root, now));
            self.mains.entry(*key).or_insert_with(new);
        }
        self.mains.len() > before
    }

    /// As `follow`, where they are the same as before.
    pub(super) fn follow_on(&mut self) {
        for main in self.mains.values_mut() {
            main.changed = false;
        }
    }

    /// The main processes' resident set sizes. Whether one of them is seen to have ended.
    pub(super) fn read_mains(&mut self, which: Which, now: Instant) -> bool {
        let mut ended = false;
        for main in (self.mains.values_mut()).filter(|main| main.lives && main.is_in(which)) {
            main.rss_bytes = match main.process.resident_bytes(&self.root, self.page_bytes) {
                Ok(bytes) => Reading::known(bytes as f64, now, STATM),
                Err(Lost::Unread(why)) => Reading::unknown(&why, now, STATM),
                Err(Lost::Ended) => {
                    main.end(now);
                    ended = true;
                    continue;
                }
            };
            main.resident_news = true;
        }
        ended
    }

    /// Who is below them, and their resident set sizes.
    pub(super) fn read_children(&mut self, which: Which, now: Instant) {
        let ranks: Vec<_> = self.mains.keys().copied().collect();
        for main in (self.mains.values_mut()).filter(|main| main.lives && main.is_in(which)) {
            let top = Top {
                process: &mut main.process,
                threads: &mut main.threads,
                image: &mut main.image,
            };
            let before = std::mem::take(&mut main.below);
            main.children_at = now;
            match self.tree.look(top, before, &ranks, now) {
                Ok(below) => {
                    main.below = below;
                    main.show_children();
                }
                Err(Lost::Ended) => main.end(now),
                Err(Lost::Unread(why)) => (main.children, main.news) = (Err(why), true),
            }
        }
        let mut room = self.descriptors;
        for main in self.mains.values_mut() {
            main.process.settle(&mut room);
        }
        for child in self
            .mains
            .values_mut()
            .flat_map(|main| &mut main.below.children)
        {
            child.process.settle(&mut room);
        }
    }

    /// The groups that bind them, also of those that have ended: that is when the kernel's kills are asked for.
    pub(super) fn read_cgroups(&mut self, which: Which, cgroups: &mut Cgroups, now: Instant) {
        for main in (self.mains.values_mut()).filter(|main| main.is_in(which)) {
            let mut lives = main.lives;
            if lives {
                match main.process.cgroup(&self.root, &mut self.text) {
                    Ok(()) if self.text == main.cgroups => main.moved.clear(),
                    // Version 1 shows a process that is ending in the root group: it has moved only if it lives on there.
                    Ok(()) if main.cgroups.is_empty() || self.text == main.moved => {
                        let resident = main.process.resident_bytes(&self.root, self.page_bytes);
                        lives = !matches!(resident, Err(Lost::Ended) | Ok(0));
                        if lives {
                            main.cgroups.clone_from(&self.text);
                        }
                    }
                    Ok(()) => main.moved.clone_from(&self.text),
                    Err(lost) => {
                        lives = lost != Lost::Ended;
                        if main.cgroups.is_empty() {
                            main.cgroup = Err(lost.why().to_owned());
                        }
                    }
                }
            }
            if !main.cgroups.is_empty() {
                main.cgroup = cgroups.read(&main.cgroups, main.process.pid(), lives, now);
            } else if !lives {
                main.cgroup = Err(Lost::Ended.why().to_owned());
            }
            main.news = true;
        }
        let used = self.mains.values().map(|main| &main.cgroups[..]);
        cgroups.keep(used);
    }

    /// /dev/shm as they see it.
    pub(super) fn read_shm(&mut self, which: Which, now: Instant) {
        for main in (self.mains.values_mut()).filter(|main| main.lives && main.is_in(which)) {
            main.shm = shm::read(&self.root, &main.process.pid().to_string(), now);
            main.news = true;
        }
    }

    /// When the next smaps_rollup is to be read.
    pub(super) fn next_detail(&self) -> Option<Instant> {
        let each = self.mains.values().filter(|main| main.lives);
        each.flat_map(|main| {
            let below = main.below.children.iter().map(|child| child.turn.due);
            below.chain([main.turn.due])
        })
        .min()
    }

    /// Reads the smaps_rollup that has waited longest, and says how long after it was read before, if it was.
    pub(super) fn read_one_detail(&mut self, now: Instant) -> Option<Duration> {
        let due = self.next_detail().filter(|due| *due <= now)?;
        for main in self.mains.values_mut().filter(|main| main.lives) {
            let (process, detail, turn, is_main) = if main.turn.due == due {
                (&mut main.process, &mut main.detail, &mut main.turn, true)
            } else {
                match (main.below.children.iter_mut()).find(|child| child.turn.due == due) {
                    Some(child) => (
                        &mut child.process,
                        &mut child.detail,
                        &mut child.turn,
                        false,
                    ),
                    None => continue,
                }
            };
            turn.due = now + self.detail_interval;
            let before = turn.read_at.replace(now);
            // One that has ended is seen so at the next look at the processes.
            if let Ok(read) = smaps::read(process, &self.root, now) {
                *detail = read;
            }
            if !is_main {
                main.show_children();
            }
            main.news = true;
            return before.map(|before| now.duration_since(before));
        }
        None
    }

    /// Gives away what is new.
    pub(super) fn publish(&mut self, live: &Live) {
        for (key, main) in &mut self.mains {
            let resident_news = std::mem::take(&mut main.resident_news);
            if std::mem::take(&mut main.news)
                || resident_news && !live.set_resident(*key, &main.rss_bytes)
            {
                live.set_process(*key, main.sample());
            }
        }
    }
}

#[cfg(test)]
mod tests;
