//! Memory as the journal keeps it: one number a row, in the words of the series.

use std::time::Instant;

use super::member::Member;
use crate::domain::{Position, Rank};
use crate::store::journal::SampleKept;
use crate::store::series::{Kind, Name, Number, of_gpu, of_host, of_process, of_shm};
use crate::store::{Live, Tracked};

const PROC: &str = "/proc";

/// The host's and the GPUs'.
pub(super) fn of(live: &Live, position: Position) -> Vec<SampleKept> {
    let kept = |device: Option<u32>| {
        move |number: Number| SampleKept {
            rank: None,
            device: device.map(|index| index.to_string()),
            name: number.name.word(),
            value: number.value,
            source: number.source,
            position,
        }
    };
    let mut samples = Vec::new();
    match live.host() {
        Ok(host) => samples.extend(of_host(&host).map(kept(None))),
        Err(why) => {
            let names = [
                Name::HostTotal,
                Name::HostAvailable,
                Name::HostUsed,
                Name::SwapUsed,
            ];
            samples.extend(names.map(|name| SampleKept {
                rank: None,
                device: None,
                name: name.word(),
                value: Err(why.clone()),
                source: PROC,
                position,
            }));
        }
    }
    samples.push(match live.host_shm() {
        Ok(shm) => kept(None)(of_shm(Name::HostShmUsed, &shm)),
        Err(why) => SampleKept {
            rank: None,
            device: None,
            name: Name::HostShmUsed.word(),
            value: Err(why),
            source: PROC,
            position,
        },
    });
    // Without a GPU there is nothing to say of one.
    for gpu in live.gpus().unwrap_or_default() {
        samples.extend(of_gpu(&gpu).map(kept(Some(gpu.index))));
    }
    samples
}

/// One rank's: its process as the daemon sees it, else what its trainer said of itself; what its allocator has, as far as it
/// was said.
pub(super) fn of_rank(live: &Live, member: &Member, tracked: &Tracked) -> Vec<SampleKept> {
    let (rank, position) = (member.hello.rank, member.position);
    let mut numbers = Vec::new();
    let seen = member.process.clone();
    match seen.and_then(|(pid, start_ticks)| live.process(pid, start_ticks)) {
        Ok(sample) => of_process(&sample, |_, _| true, |number| numbers.push(number)),
        Err(why) => {
            let seen = |name: &Name| name.kind() == Kind::Rank && !is_allocators(*name);
            let sent = |name| match tracked.newest(name) {
                Some((at, Ok(bytes))) => Number {
                    name,
                    at,
                    value: Ok(bytes),
                    source: "trainer",
                },
                _ => unknown(name, &why, member.last_heard),
            };
            numbers.extend(Name::ALL.into_iter().filter(seen).map(sent));
        }
    }
    for name in Name::ALL.into_iter().filter(|name| is_allocators(*name)) {
        if let Some((at, value)) = tracked.newest(name) {
            numbers.push(Number {
                name,
                at,
                value,
                source: "trainer",
            });
        }
    }
    let kept = |number: Number| kept(rank, number, position);
    numbers.into_iter().map(kept).collect()
}

fn is_allocators(name: Name) -> bool {
    matches!(name, Name::CudaAllocated | Name::CudaReserved)
}

fn unknown(name: Name, why: &str, at: Instant) -> Number {
    Number {
        name,
        at,
        value: Err(why.to_owned()),
        source: PROC,
    }
}

fn kept(rank: Rank, number: Number, position: Position) -> SampleKept {
    SampleKept {
        rank: Some(rank),
        device: None,
        name: number.name.word(),
        value: number.value,
        source: number.source,
        position,
    }
}
