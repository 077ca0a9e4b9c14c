//! The least that looking can cost here: a loop that does nothing but wake ten times a second and read the two files that the
//! fast probes read. What the sampler costs is said beside it, since most of both is the machine's: the wake, cold caches.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::io::pread;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

const EVERY: Duration = Duration::from_millis(100);

/// Processor time of such a loop on this thread, in microseconds a wake. Errors: a file cannot be read.
pub(crate) fn us_a_wake(pid: u32, lasts: Duration) -> io::Result<f64> {
    let files = [
        File::open("/proc/meminfo")?,
        File::open(format!("/proc/{pid}/statm"))?,
    ];
    let mut text = [0; 4096];
    let wakes = (lasts.as_nanos() / EVERY.as_nanos()).max(1);
    let mut next = clock_gettime(ClockId::Monotonic);
    let before = thread_time();
    for _ in 0..wakes {
        next += Timespec::try_from(EVERY).map_err(io::Error::other)?;
        clock_nanosleep_absolute(ClockId::Monotonic, &next)?;
        for file in &files {
            std::hint::black_box(pread(file, &mut text, 0)?);
        }
        std::hint::black_box(clock_gettime(ClockId::Monotonic));
    }
    let spent = thread_time() - before;
    Ok(spent * 1e6 / wakes as f64)
}

fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
