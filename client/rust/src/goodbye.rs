//! The end of sessions: what waits goes out, then a goodbye. All that end together share one second, and a daemon that does
//! not answer takes nothing from another session.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hookbus_proto::v1 as wire;

use crate::identity::cut;
use crate::inbox::Action;
use crate::session::{Session, TEXT_BYTES};
use crate::shared::{Stage, lock};

/// At most this for all goodbyes that are said together.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1000);

/// How a session ends.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye<'a> {
    /// Whose it is.
    pub session: &'a Session,
    /// "finished", "stopped: ...", or the error.
    pub reason: &'a str,
    /// An error left the training.
    pub failed: bool,
}

/// Says the goodbyes of one process together, so that they take at most a second in all, whichever daemon does not
/// answer. Returns each one's log lines that still waited; none of a session that is closed already.
pub fn close_all(goodbyes: &[Goodbye<'_>]) -> Vec<Vec<Action>> {
    let open: Vec<bool> = goodbyes
        .iter()
        .map(|goodbye| !goodbye.session.is_closing())
        .collect();
    let each = || goodbyes.iter().zip(&open).filter(|(_, open)| **open);
    for (goodbye, _) in each() {
        goodbye.session.hurry();
    }
    // What was decided on the last events may still be on its way.
    let until = Instant::now() + CLOSE_TIMEOUT / 2;
    for (goodbye, _) in each() {
        goodbye.session.flush(left(until));
    }
    let say = |(goodbye, open): (&Goodbye<'_>, &bool)| match open {
        true => goodbye.session.say_bye(goodbye.reason, goodbye.failed),
        false => Vec::new(),
    };
    let lines = goodbyes.iter().zip(&open).map(say).collect();
    let until = Instant::now() + CLOSE_TIMEOUT / 2;
    for (goodbye, _) in each() {
        goodbye.session.wait_status(left(until), |status| {
            status.stage == Stage::Closed || status.off
        });
    }
    lines
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

impl Session {
    /// Says goodbye. Returns the log lines that still waited. Takes at most a second, and none where no daemon has answered.
    pub fn close(&self, reason: &str, failed: bool) -> Vec<Action> {
        let goodbye = Goodbye {
            session: self,
            reason,
            failed,
        };
        close_all(&[goodbye]).pop().unwrap_or_default()
    }

    /// From here on nothing more is sent but what waits, and the goodbye behind it.
    fn say_bye(&self, reason: &str, failed: bool) -> Vec<Action> {
        let shared = &*self.shared;
        // A thread that goes on emitting does not hold the goodbye up.
        shared.want_nothing();
        let at = shared.counters.now();
        let lines = lock(&shared.inbox).close(at);
        let position = wire::Position {
            epoch: at.epoch,
            iter: at.iter,
            inner_iter: at.inner_iter,
        };
        let bye = wire::Bye {
            reason: cut(reason.to_owned(), TEXT_BYTES),
            position: Some(position),
            failed,
        };
        *lock(&shared.bye) = Some(bye);
        shared.parked.store(false, Ordering::SeqCst);
        shared.wake.notify_one();
        lines
    }

    /// A daemon that was away may be back.
    fn hurry(&self) {
        let status = self.status();
        if status.stage == Stage::Attached && !status.connected {
            self.shared.hurry.store(true, Ordering::Relaxed);
            self.shared.wake.notify_one();
        }
    }

    fn is_closing(&self) -> bool {
        self.is_forked() || lock(&self.shared.bye).is_some()
    }
}
