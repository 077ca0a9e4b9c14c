//! Who follows a run live. A slow reader loses happenings, counted; it never holds the run up.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::domain::{Position, Rank};
use crate::snapshot::{Happening, What};

/// How many happenings wait for a reader.
pub const FOLLOWED: usize = 1024;

struct Follower {
    out: mpsc::Sender<Happening>,
    events: bool,
    missed: u64,
}

/// The readers of one run.
pub(super) struct Followers {
    started: Instant,
    each: Vec<Follower>,
}

impl Followers {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            each: Vec::new(),
        }
    }

    /// `events`: it wants the trainers' events too.
    pub(super) fn add(&mut self, out: mpsc::Sender<Happening>, events: bool) {
        self.each.push(Follower {
            out,
            events,
            missed: 0,
        });
    }

    /// An attempt begins; the readers stay.
    pub(super) fn restart(self, started: Instant) -> Self {
        Self { started, ..self }
    }

    /// Whether anybody wants the trainers' events.
    pub(super) fn want_events(&self) -> bool {
        self.each.iter().any(|follower| follower.events)
    }

    pub(super) fn tell(
        &mut self,
        now: Instant,
        rank: Option<Rank>,
        position: Position,
        point: &str,
        what: What,
    ) {
        if self.each.is_empty() {
            return;
        }
        let happening = Happening {
            at: now
                .saturating_duration_since(self.started)
                .max(Duration::ZERO),
            rank,
            position,
            point: point.into(),
            what,
            missed: 0,
        };
        let is_event = matches!(happening.what, What::Event(_));
        self.each.retain_mut(|follower| {
            if is_event && !follower.events {
                return !follower.out.is_closed();
            }
            let told = Happening {
                missed: follower.missed,
                ..happening.clone()
            };
            match follower.out.try_send(told) {
                Ok(()) => {
                    follower.missed = 0;
                    true
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    follower.missed += 1;
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }
}
