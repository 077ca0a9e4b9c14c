//! Is this still the process that it was: pid and start ticks together name a process, a pid alone does not.

use procfs::process::{Process, Stat};

/// Field 22 of /proc/PID/stat; None where there is no such process, or only what is left of one (a zombie).
pub fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.starttime)
}

/// Whether the process (pid, start ticks) lives. A zombie does not.
pub fn alive((pid, ticks): (u32, u64)) -> bool {
    start_ticks(pid) == Some(ticks)
}

/// The user that a process runs as.
pub fn owner(pid: u32) -> Option<u32> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    process.status().ok().map(|status| status.euid)
}

/// Of this kernel; empty where it does not say.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn stat(pid: u32) -> Option<Stat> {
    let stat = Process::new(i32::try_from(pid).ok()?)
        .and_then(|process| process.stat())
        .ok()?;
    (!matches!(stat.state, 'Z' | 'X')).then_some(stat)
}
