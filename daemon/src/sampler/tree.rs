//! The processes below a trainer. The kernel lists the children of each thread (CONFIG_PROC_CHILDREN); where it does not,
//! all of /proc is gone through, once a turn for all trainers. A process that comes or goes between two looks is no error.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::kept::{Kept, number};
use super::pid::{Lost, Process, parent_of};
use super::role::{self, Above, Image};
use super::smaps::ROLLUP;
use crate::domain::{ChildSample, Detail, ProcessRole, Reading};
use crate::store::ProcessKey;

pub(super) const STATM: &str = "/proc/PID/statm";
/// Threads other than the first seldom have children; they are asked after so long, and a trainer's also when there is one
/// more or less.
const ALL_THREADS: Duration = Duration::from_secs(5);
/// What a folder of threads with one thread counts, where folders count their folders: itself twice, and the thread's.
const ONE_THREAD: u32 = 3;
/// A process may run another program soon after it was forked, and seldom later: it is looked at anew the first looks, and
/// then each so many.
const FIRST_LOOKS: u64 = 3;
const NEXT_LOOKS: u64 = 10;

/// What is known of the threads of a process that have forked others.
#[derive(Debug, Default)]
pub(super) struct Threads {
    mark: Option<u32>,
    asked_at: Option<Instant>,
    /// They are a trainer's.
    are_watched: bool,
    /// Children of all but the first thread.
    children: Vec<u32>,
}

impl Threads {
    pub(super) fn of_trainer() -> Self {
        Self {
            are_watched: true,
            ..Self::default()
        }
    }
}

/// When smaps_rollup of a process is read.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) due: Instant,
    pub(super) read_at: Option<Instant>,
}

impl Turn {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: now,
            read_at: None,
        }
    }
}

/// One process below a trainer.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) process: Process,
    pub(super) detail: Detail,
    pub(super) turn: Turn,
    threads: Threads,
    image: Image,
    looks: u64,
    role: ProcessRole,
    other_rank: bool,
    rss_bytes: Reading,
}

impl Child {
    pub(super) fn sample(&self) -> ChildSample {
        ChildSample {
            pid: self.process.pid(),
            command: self.image.name.clone(),
            role: self.role,
            rss_bytes: self.rss_bytes.clone(),
            detail: self.detail.clone(),
        }
    }
}

/// The trainer, as far as its tree needs it.
pub(super) struct Top<'a> {
    pub(super) process: &'a mut Process,
    pub(super) threads: &'a mut Threads,
    pub(super) image: &'a mut Option<Image>,
}

/// What a process runs; None: it may not be seen.
pub(super) fn image(process: &mut Process, root: &Path) -> Result<Image, Lost> {
    let name = process.name(root)?;
    // Another user's program may not be seen, but what it was started with may.
    let program = process.program(root);
    let command_line = process.command_line(root)?;
    Ok(Image::new(name, &command_line, program.as_deref()))
}

/// Finds children.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    page_bytes: u64,
    /// The kernel lists children; None: not known yet.
    lists: Option<bool>,
    /// Parent to children, where the kernel does not: of this turn.
    scanned: Option<(Instant, HashMap<u32, Vec<u32>>)>,
    loads: Kept,
    text: Vec<u8>,
}

/// What was there at the last look.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// By pid.
    pub(super) children: Vec<Child>,
    /// Found by a look at the lists of children, then; else only these were looked at.
    found: Option<Found>,
}

#[derive(Clone, Debug, PartialEq)]
struct Found {
    at: Instant,
    /// The newest process here before that look.
    newest_pid: u32,
    ranks: Vec<ProcessKey>,
}

impl Tree {
    pub(super) fn new(root: &Path, page_bytes: u64) -> Self {
        Self {
            root: root.to_path_buf(),
            page_bytes,
            lists: None,
            scanned: None,
            loads: Kept::new(root.join("loadavg")),
            text: Vec::new(),
        }
    }

    /// All that is below `top` now; `before` is what was there at the last look. `ranks` are the main processes of all
    /// trainers.
    pub(super) fn look(
        &mut self,
        top: Top<'_>,
        mut before: Below,
        ranks: &[ProcessKey],
        now: Instant,
    ) -> Result<Below, Lost> {
        // Asked before the lists are: who comes meanwhile is seen to have come at the next look.
        let newest_pid = self.newest_pid();
        if let (Some(found), Some(newest_pid)) = (&before.found, newest_pid)
            && found.newest_pid == newest_pid
            && found.ranks == ranks
            && now.duration_since(found.at) < ALL_THREADS
            && self.all_are_as_before(&mut before.children, now)
        {
            return Ok(before);
        }
        let children = self.find(top, before.children, ranks, now)?;
        let found = newest_pid.map(|newest_pid| Found {
            at: now,
            newest_pid,
            ranks: ranks.to_vec(),
        });
        Ok(Below { children, found })
    }

    /// The pid that was given last, here or in a container in here; None: the kernel does not say. Where it is what it was,
    /// nobody was forked, and the lists of children need not be read: they are most of what a look costs.
    fn newest_pid(&mut self) -> Option<u32> {
        let mut text = [0; 128];
        let text = self.loads.read(&mut text).ok()?.trim_ascii_end();
        let last = text.rsplit(|byte| *byte == b' ').next()?;
        u32::try_from(number(last)?).ok()
    }

    /// Reads them anew. False: one of them has ended, or is another program than before.
    fn all_are_as_before(&self, children: &mut [Child], now: Instant) -> bool {
        children.iter_mut().all(|child| {
            let is_the_same = self.again(child, now) == Some(true);
            child.looks += 1;
            is_the_same
        })
    }

    fn find(
        &mut self,
        top: Top<'_>,
        before: Vec<Child>,
        ranks: &[ProcessKey],
        now: Instant,
    ) -> Result<Vec<Child>, Lost> {
        let mut before: HashMap<u32, Child> = before
            .into_iter()
            .map(|child| (child.process.pid(), child))
            .collect();
        let mut found: Vec<Child> = Vec::with_capacity(before.len());
        let (mut seen, mut queue) = (HashSet::new(), VecDeque::new());
        let mut pids = Vec::new();
        self.children(top.process, top.threads, &mut pids, now)?;
        queue.extend(pids.drain(..).map(|pid| (pid, None)));
        let mut image_is_fresh = false;
        while let Some((pid, parent)) = queue.pop_front() {
            if !seen.insert(pid) {
                continue;
            }
            let parent_pid = parent.map_or(top.process.pid(), |at: usize| found[at].process.pid());
            let known = before
                .remove(&pid)
                .and_then(|mut child| self.again(&mut child, now).map(|_| child));
            let Some(mut child) = known.or_else(|| self.found(pid, parent_pid, now)) else {
                continue;
            };
            if child.looks == 0 && !image_is_fresh {
                // A trainer may rename itself, and a copy has the new name.
                *top.image = image(top.process, &self.root).ok().or(top.image.take());
                image_is_fresh = true;
            }
            let key = (pid, child.process.start_ticks());
            child.other_rank =
                ranks.contains(&key) || parent.is_some_and(|at| found[at].other_rank);
            child.role = match top.image.as_ref() {
                Some(main) => role::of(
                    &child.image,
                    Above {
                        main,
                        parent: parent.map_or(main, |at| &found[at].image),
                        other_rank: child.other_rank,
                    },
                ),
                None => ProcessRole::Child,
            };
            child.looks += 1;
            let (process, threads) = (&mut child.process, &mut child.threads);
            // Whoever ended right now has no children.
            if self.children(process, threads, &mut pids, now).is_ok() {
                let at = found.len();
                queue.extend(pids.iter().map(|pid| (*pid, Some(at))));
            }
            pids.clear();
            found.push(child);
        }
        found.sort_by_key(|child| child.process.pid());
        Ok(found)
    }

    /// One that was there at the last look, and whether it runs what it ran then; None: it has ended.
    fn again(&self, child: &mut Child, now: Instant) -> Option<bool> {
        child.rss_bytes = self.resident(&mut child.process, now)?;
        let mut is_the_same = true;
        if child.looks < FIRST_LOOKS || child.looks.is_multiple_of(NEXT_LOOKS) {
            match image(&mut child.process, &self.root) {
                Ok(image) => {
                    is_the_same = image == child.image;
                    child.image = image;
                }
                Err(Lost::Ended) => return None,
                Err(Lost::Unread(_)) => {}
            }
        }
        Some(is_the_same)
    }

    /// One that is new; None: it has ended by now, or its pid means another process.
    fn found(&self, pid: u32, parent: u32, now: Instant) -> Option<Child> {
        let (mut process, stat) = Process::found(&self.root, pid).ok()?;
        if u32::try_from(stat.ppid) != Ok(parent) {
            return None;
        }
        let rss_bytes = self.resident(&mut process, now)?;
        let image = match image(&mut process, &self.root) {
            Ok(image) => image,
            Err(Lost::Ended) => return None,
            Err(Lost::Unread(_)) => Image::new(stat.comm, b"", None),
        };
        Some(Child {
            process,
            detail: Detail::unknown("not read yet", now, ROLLUP),
            turn: Turn::new(now),
            threads: Threads::default(),
            image,
            looks: 0,
            role: ProcessRole::Child,
            other_rank: false,
            rss_bytes,
        })
    }

    fn resident(&self, process: &mut Process, now: Instant) -> Option<Reading> {
        match process.resident_bytes(&self.root, self.page_bytes) {
            Ok(bytes) => Some(Reading::known(bytes as f64, now, STATM)),
            Err(Lost::Ended) => None,
            Err(Lost::Unread(why)) => Some(Reading::unknown(&why, now, STATM)),
        }
    }

    /// The children of one process, onto `pids`.
    fn children(
        &mut self,
        process: &mut Process,
        threads: &mut Threads,
        pids: &mut Vec<u32>,
        now: Instant,
    ) -> Result<(), Lost> {
        if self.lists != Some(false) {
            match process.children_of_first(&self.root, &mut self.text, pids)? {
                Some(()) => {
                    self.lists = Some(true);
                    return self.children_of_others(process, threads, pids, now);
                }
                None => self.lists = Some(false),
            }
        }
        if self.scanned.as_ref().is_none_or(|(at, _)| *at != now) {
            let scanned = scan(&self.root).map_err(Lost::Unread)?;
            self.scanned = Some((now, scanned));
        }
        let scanned = self.scanned.as_ref().map(|(_, scanned)| scanned);
        let children = scanned.and_then(|scanned| scanned.get(&process.pid()));
        pids.extend(children.into_iter().flatten());
        Ok(())
    }

    fn children_of_others(
        &mut self,
        process: &mut Process,
        threads: &mut Threads,
        pids: &mut Vec<u32>,
        now: Instant,
    ) -> Result<(), Lost> {
        let asked_lately = threads
            .asked_at
            .is_some_and(|at| now.duration_since(at) < ALL_THREADS);
        if threads.are_watched || !asked_lately {
            let mark = process.threads_mark(&self.root).ok();
            if mark.is_none() || mark != threads.mark || !asked_lately {
                threads.children.clear();
                if mark != Some(ONE_THREAD) {
                    process.children_of_others(
                        &self.root,
                        &mut self.text,
                        &mut threads.children,
                    )?;
                }
                (threads.mark, threads.asked_at) = (mark, Some(now));
            }
        }
        pids.extend(&threads.children);
        Ok(())
    }
}

/// Every process here: parent to children. One that ends meanwhile is left out.
fn scan(root: &Path) -> Result<HashMap<u32, Vec<u32>>, String> {
    let folder = fs::read_dir(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids {
        if let Ok(parent) = parent_of(root, pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    Ok(children)
}
