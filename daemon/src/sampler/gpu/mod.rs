//! GPUs by NVML: one handle of the driver's library, on a thread of its own, since a call of it can stand still for
//! seconds. A failed call is tried again at the next turn; only "not supported" stays, until the driver is opened anew. A
//! GPU that is lost does not hide the others.

mod asked;
mod card;
mod memory;
mod pids;
mod processes;
mod slices;
mod thread;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

pub use thread::Thread;

use self::asked::{Ended, LOST, driver_is_gone, words};
use self::card::Card;
use self::pids::Pids;
use crate::domain::GpuSample;

/// A driver that is not there is looked for less and less often, down to one of so many turns.
const SELDOM: u32 = 30;

/// The driver, its library, and what is remembered of the GPUs.
pub struct Gpus {
    library: Option<PathBuf>,
    pids: Pids,
    backoff: Backoff,
    driver: Driver,
    /// By NVML's index; outlives a lost GPU and a restarted driver.
    cards: BTreeMap<u32, Card>,
}

enum Driver {
    Open(Box<Nvml>),
    /// What there is to say until it is tried again.
    Closed {
        shown: Result<Vec<GpuSample>, String>,
        again_at: Option<Instant>,
    },
}

/// What came of a turn.
enum Turn {
    Read(Vec<GpuSample>),
    /// Every GPU is lost: a new handle may find them again.
    AllLost(Vec<GpuSample>),
    /// The handle is of no use any more; why.
    Gone(String),
    /// The driver is there and does not say how many there are; why.
    Failed(String),
}

impl Gpus {
    /// The library is looked for at the first read; `library` names another file than the usual one. `proc_root` is /proc
    /// but in tests. `interval` is how often it is read.
    pub fn new(library: Option<PathBuf>, proc_root: &Path, interval: Duration) -> Self {
        Self {
            library,
            pids: Pids::new(proc_root),
            backoff: Backoff::new(interval),
            driver: Driver::Closed {
                shown: Err("not sampled yet".to_owned()),
                again_at: None,
            },
            cards: BTreeMap::new(),
        }
    }

    /// Reads every GPU once. Errors: why there are none.
    pub fn read(&mut self, now: Instant) -> Result<Vec<GpuSample>, String> {
        if let Driver::Closed { shown, again_at } = &self.driver {
            if again_at.is_some_and(|again_at| now < again_at) {
                return shown.clone();
            }
            let all_lost = shown.clone().ok();
            match self.open() {
                Ok(nvml) => self.driver = Driver::Open(Box::new(nvml)),
                Err(error) => {
                    let why = format!("no NVIDIA driver here: {}", words(&error));
                    return self.close(all_lost.ok_or(why), now);
                }
            }
            self.cards.values_mut().for_each(Card::forget_answers);
        }
        match self.turn(now) {
            Turn::Read(read) => {
                self.backoff.reset();
                Ok(read)
            }
            Turn::AllLost(lost) => self.close(Ok(lost), now),
            Turn::Gone(why) => self.close(Err(why), now),
            Turn::Failed(why) => Err(why),
        }
    }

    fn open(&self) -> Result<Nvml, NvmlError> {
        match &self.library {
            Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
            None => Nvml::init(),
        }
    }

    /// Gives the handle back, and says why until it is tried again.
    fn close(
        &mut self,
        shown: Result<Vec<GpuSample>, String>,
        now: Instant,
    ) -> Result<Vec<GpuSample>, String> {
        let before = match &self.driver {
            Driver::Closed { shown, .. } => shown.as_ref().err(),
            Driver::Open(_) => None,
        };
        let why = shown.as_ref().err();
        if before != why {
            let why = why.map_or("every GPU is lost", String::as_str);
            tracing::info!(why, "GPU memory is not known");
        }
        let again_at = Some(now + self.backoff.next());
        let answer = shown.clone();
        self.driver = Driver::Closed { shown, again_at };
        answer
    }

    fn turn(&mut self, now: Instant) -> Turn {
        let Driver::Open(nvml) = &self.driver else {
            return Turn::Failed("the driver is not open".to_owned());
        };
        let count = match nvml.device_count() {
            Ok(count) => count,
            Err(error) if driver_is_gone(&error) => return Turn::Gone(words(&error)),
            Err(error) => return Turn::Failed(words(&error)),
        };
        self.cards.retain(|index, _| *index < count);
        let (mut samples, mut lost) = (Vec::new(), Vec::new());
        for index in 0..count {
            let card = self.cards.entry(index).or_default();
            let (sample, ended) = card.read(nvml, index, &self.pids, now);
            match ended {
                Some(Ended::Driver(why)) => return Turn::Gone(why),
                Some(Ended::Lost) => lost.push(index),
                None => {}
            }
            samples.push(sample);
        }
        self.forget_moved(&lost, &mut samples, now);
        if lost.len() == samples.len() && !lost.is_empty() {
            return Turn::AllLost(samples);
        }
        Turn::Read(samples)
    }

    /// After a restart of the driver a lost GPU's index may be that of another one: what is remembered at it is then of a
    /// GPU that is read at another index.
    fn forget_moved(&mut self, lost: &[u32], samples: &mut [GpuSample], now: Instant) {
        for index in lost {
            let card = &self.cards[index];
            let is_elsewhere = self.cards.iter().any(|(other, known)| {
                !lost.contains(other) && card.uuid().is_some() && known.uuid() == card.uuid()
            });
            if is_elsewhere {
                let fresh = Card::default();
                samples[*index as usize] = fresh.unknown(*index, LOST, now);
                self.cards.insert(*index, fresh);
            }
        }
    }
}

/// How long until the driver is tried again: longer and longer, until it is there.
struct Backoff {
    first: Duration,
    wait: Duration,
}

impl Backoff {
    fn new(interval: Duration) -> Self {
        Self {
            first: interval,
            wait: interval,
        }
    }

    fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(self.first * SELDOM);
        wait
    }

    fn reset(&mut self) {
        self.wait = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_it_says_so_and_is_tried_less_and_less_often() {
        let library = PathBuf::from("/nowhere/libnvidia-ml.so");
        let second = Duration::from_secs(1);
        let mut gpus = Gpus::new(Some(library), Path::new("/proc"), second);
        let mut now = Instant::now();
        for wait_s in [1, 2, 4, 8, 16, 30, 30] {
            let why = gpus.read(now).expect_err("there is no such library");
            assert!(why.starts_with("no NVIDIA driver here: "), "{why}");
            let Driver::Closed { again_at, .. } = &gpus.driver else {
                panic!("there is nothing to be open");
            };
            let again_at = again_at.expect("it is tried again");
            assert_eq!(again_at - now, second * wait_s);
            assert_eq!(gpus.read(again_at - second / 2), Err(why));
            now = again_at;
        }
    }
}
