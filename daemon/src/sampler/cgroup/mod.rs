//! The memory cgroup of a trainer, version 1 and 2. Many trainers may be in one group: it is read once a turn. A group is
//! read through kept descriptors, also when its processes have died, as long as anybody watches them: that is when one
//! wants to know whether the kernel killed them.
//!
//! | file | what it is |
//! |---|---|
//! | `place` | where a process's group is, by the mounts that can be seen from here |
//! | `group` | the numbers of a group and the tightest limit above it |
//! | `above` | kills in a group that has been removed |

mod above;
mod group;
mod place;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::CgroupSample;
use group::Group;

/// A group that could not be found is looked for again after so long.
const AGAIN: Duration = Duration::from_secs(10);

type Sample = Result<Arc<CgroupSample>, String>;

/// The groups of the watched processes.
#[derive(Debug)]
pub(super) struct Cgroups {
    proc_root: PathBuf,
    cgroup_root: PathBuf,
    /// By what /proc/PID/cgroup says.
    known: HashMap<Vec<u8>, Known>,
}

#[derive(Debug)]
struct Known {
    group: Result<Group, String>,
    looked_at: Instant,
    sampled: Option<(Instant, Sample)>,
}

impl Cgroups {
    /// Reads below these, which are /proc and /sys/fs/cgroup but in tests.
    pub(super) fn new(proc_root: &Path, cgroup_root: &Path) -> Self {
        Self {
            proc_root: proc_root.to_path_buf(),
            cgroup_root: cgroup_root.to_path_buf(),
            known: HashMap::new(),
        }
    }

    /// The group of a process that is in these cgroups, or was when it lived.
    pub(super) fn read(&mut self, cgroups: &[u8], pid: u32, lives: bool, now: Instant) -> Sample {
        // A group of the same name that was made anew is another one, unless a process that lives is in it.
        let stale = |known: &Known| match &known.group {
            Ok(group) => group.is_removed() && lives,
            Err(_) => now.duration_since(known.looked_at) >= AGAIN,
        };
        if self.known.get(cgroups).is_none_or(stale) {
            let found = place::find(cgroups, pid, &self.proc_root, &self.cgroup_root);
            let known = Known {
                group: found.map(Group::new),
                looked_at: now,
                sampled: None,
            };
            self.known.insert(cgroups.to_vec(), known);
        }
        let known = self.known.get_mut(cgroups).expect("it was just put there");
        if let Some((at, sample)) = &known.sampled
            && *at == now
        {
            return sample.clone();
        }
        let sample = match &mut known.group {
            Ok(group) => group.read(now).map(Arc::new),
            Err(why) => Err(why.clone()),
        };
        known.sampled = Some((now, sample.clone()));
        sample
    }

    /// Only these are read from now on.
    pub(super) fn keep<'a>(&mut self, used: impl Iterator<Item = &'a [u8]> + Clone) {
        self.known
            .retain(|cgroups, _| used.clone().any(|one| one == cgroups));
    }
}

#[cfg(test)]
mod tests;
