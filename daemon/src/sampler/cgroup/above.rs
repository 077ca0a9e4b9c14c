//! Kills in a group that is removed right after its last process, as those of systemd and of containers are: nobody can read
//! its own count any more, but in version 2 the group above counts what happens below it too, and stays.

use std::time::Instant;

use super::place::Place;
use crate::domain::{CgroupSample, Reading};
use crate::sampler::kept::{Kept, field};

const SOURCE: &str = "memory.events oom_kill; since the group was removed, that of the group above it with all that is below";

/// The group above.
#[derive(Debug)]
pub(super) struct Above {
    events: Kept,
    /// When both counts could last be read: the group's own, and that of the one above.
    last: Option<(f64, f64)>,
}

impl Above {
    /// Of the group at this level. None: what is above cannot be seen, or counts only itself.
    pub(super) fn of(place: &Place, level: usize) -> Option<Self> {
        let above = place.levels.get(level + 1)?;
        (place.version == 2 && !place.local_events).then(|| Self {
            events: Kept::opened(above.folder.join("memory.events")),
            last: None,
        })
    }

    fn count(&mut self, text: &mut [u8]) -> Option<f64> {
        let text = self.events.read(text).ok()?;
        field(text, "oom_kill").map(|kills| kills as f64)
    }

    /// The group's own count was just read.
    pub(super) fn remember(&mut self, own: Option<f64>, text: &mut [u8]) {
        let above = self.count(text);
        self.last = own.zip(above);
    }

    /// The group has been removed: what its own count may be by now. None: not known.
    pub(super) fn kills(&mut self, text: &mut [u8]) -> Option<f64> {
        let (own, before) = self.last?;
        let now = self.count(text)?;
        (now >= before).then_some(own + now - before)
    }
}

/// All that is known of a group of version 2 that is `gone`.
pub(super) fn sample(
    place: &Place,
    level: usize,
    kills: f64,
    gone: &str,
    now: Instant,
) -> CgroupSample {
    let unknown = |source| Reading::unknown(gone, now, source);
    CgroupSample {
        path: place.path.clone(),
        version: place.version,
        limit_path: place.levels[level].path.clone(),
        limit_bytes: unknown("memory.max"),
        current_bytes: unknown("memory.current"),
        working_set_bytes: unknown("memory.current - memory.stat inactive_file"),
        peak_bytes: unknown("memory.peak"),
        swap_bytes: unknown("memory.swap.current"),
        file_bytes: unknown("memory.stat file"),
        oom_kills: Reading::known(kills, now, SOURCE),
        ooms: unknown("memory.events oom"),
        pressure_some_percent: unknown("memory.pressure"),
        pressure_full_percent: unknown("memory.pressure"),
    }
}
