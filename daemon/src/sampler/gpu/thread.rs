//! The GPUs' own thread: while a call of the driver stands still, only the GPUs' readings grow old.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::Gpus;
use crate::sampler::Settings;
use crate::sampler::cost::{Meter, Pace};
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
    /// Errors: the system does not give a thread.
    pub fn start(settings: &Settings, live: Live) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel::<()>(1);
        let (ending, ended) = sync_channel::<()>(0);
        let (library, rate) = (settings.nvml_library.clone(), settings.gpu_rate);
        let mut gpus = Gpus::new(library, &settings.proc_root, rate.interval);
        std::thread::Builder::new()
            .name("gpus".to_owned())
            .spawn(move || {
                let _ending = ending;
                let mut meter = Meter::start();
                let mut pace = Pace::new("gpu", rate, Instant::now());
                let wait = |pace: &Pace| pace.due().saturating_duration_since(Instant::now());
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait(&pace)) {
                    let started = Instant::now();
                    live.set_gpus(gpus.read(started));
                    let ended = Instant::now();
                    pace.looked(started, ended, Some(meter.lap()));
                    live.set_costs(vec![pace.cost(ended)]);
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
