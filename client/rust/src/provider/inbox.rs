//! Frames between the client's thread and a thread of the provider's. Bounded: beyond it the connection is not read, and
//! HTTP/2 flow control holds the daemon back, which counts what it cannot send.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookbus_proto::v1 as wire;
use tokio::sync::{Notify, mpsc};

use super::{Heard, Serial};

/// Frames that wait.
const FRAMES: usize = 64;

type Out = Option<(Serial, mpsc::Sender<wire::ProviderFrame>)>;

#[derive(Debug, Default)]
struct Waiting {
    /// Each with its connection.
    heard: VecDeque<(Serial, Heard)>,
    /// The newest connection.
    out: Out,
    serial: Serial,
    closed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    /// Something came.
    came: Condvar,
    /// Something was taken, or the link is closed.
    taken: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another connection is there. False: nobody listens any more.
    pub(super) fn connected(&self, out: mpsc::Sender<wire::ProviderFrame>) -> bool {
        let mut waiting = self.lock();
        waiting.serial += 1;
        let serial = waiting.serial;
        waiting.out = Some((serial, out));
        waiting.heard.push_back((serial, Heard::Connected));
        self.came.notify_one();
        !waiting.closed
    }

    /// The connection is gone: nothing goes out over it any more.
    pub(super) fn lost(&self, heard: Heard) -> bool {
        let mut waiting = self.lock();
        waiting.out = None;
        waiting.serial += 1;
        let serial = waiting.serial;
        // What was not taken of it would only be answered in vain.
        waiting
            .heard
            .retain(|(_, heard)| matches!(heard, Heard::Lost(_)));
        if !matches!(waiting.heard.back(), Some((_, last)) if *last == heard) {
            waiting.heard.push_back((serial, heard));
        }
        self.came.notify_one();
        !waiting.closed
    }

    /// Waits for room. False: nobody listens any more.
    pub(super) async fn push(&self, heard: Heard) -> bool {
        loop {
            // Before the look, so that no taking is missed.
            let taken = self.taken.notified();
            {
                let mut waiting = self.lock();
                if waiting.closed {
                    return false;
                }
                if waiting.heard.len() < FRAMES {
                    let serial = waiting.serial;
                    waiting.heard.push_back((serial, heard));
                    self.came.notify_one();
                    return true;
                }
            }
            taken.await;
        }
    }

    /// Whether the provider has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Returns when it has.
    pub(super) async fn closed(&self) {
        loop {
            let taken = self.taken.notified();
            if self.is_closed() {
                return;
            }
            taken.await;
        }
    }

    /// What came first, and all after it of the same connection.
    pub(super) fn take(&self, timeout: Duration) -> Option<(Out, Vec<Heard>)> {
        let until = Instant::now() + timeout;
        let mut waiting = self.lock();
        while waiting.heard.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let woken = self.came.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let serial = waiting.heard.front().map(|(serial, _)| *serial)?;
        let mut heard = Vec::with_capacity(waiting.heard.len());
        while waiting.heard.front().is_some_and(|(own, _)| *own == serial) {
            heard.extend(waiting.heard.pop_front().map(|(_, one)| one));
        }
        let out = waiting.out.clone().filter(|(own, _)| *own == serial);
        drop(waiting);
        self.taken.notify_waiters();
        Some((out, heard))
    }

    /// Waits until something goes out. Always false: whether there is room is seen by trying.
    pub(super) fn wait_for_room(
        &self,
        out: &mpsc::Sender<wire::ProviderFrame>,
        timeout: Duration,
    ) -> bool {
        let until = Instant::now() + timeout;
        while out.capacity() == 0 && !out.is_closed() && Instant::now() < until {
            std::thread::park_timeout(ROOM);
        }
        false
    }

    /// The provider goes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.taken.notify_waiters();
    }
}

/// How often it is looked whether a daemon that is behind has taken something.
const ROOM: Duration = Duration::from_millis(1);
