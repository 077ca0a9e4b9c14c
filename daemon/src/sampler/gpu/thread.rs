//! The GPUs' own thread: while a call of the driver stands still, only the GPUs' readings grow old.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::Gpus;
use crate::store::Live;

/// The daemon does not wait longer for a call of the driver when it ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads GPUs until it is stopped.
#[derive(Debug)]
pub struct Thread {
    stop: SyncSender<()>,
    /// Closed by its end.
    ended: Receiver<()>,
}

impl Thread {
    /// `library` and `proc_root` as in [`Gpus::new`]. Errors: the system does not give a thread.
    pub fn start(
        library: Option<PathBuf>,
        proc_root: &Path,
        interval: Duration,
        live: Live,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel::<()>(1);
        let (ending, ended) = sync_channel::<()>(0);
        let mut gpus = Gpus::new(library, proc_root, interval);
        std::thread::Builder::new()
            .name("gpus".to_owned())
            .spawn(move || {
                let _ending = ending;
                let mut next = Instant::now();
                let until = |next: Instant| next.saturating_duration_since(Instant::now());
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(until(next)) {
                    let now = Instant::now();
                    live.set_gpus(gpus.read(now));
                    next = now + interval;
                }
            })?;
        Ok(Self { stop, ended })
    }

    /// Ends it, unless a call of the driver does not come back: then it ends with the process.
    pub fn stop(self) {
        // A thread that has ended needs no word.
        let _ = self.stop.try_send(());
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(PATIENCE) {
            tracing::warn!("a call of the NVIDIA driver has not come back; it is left behind");
        }
    }
}
