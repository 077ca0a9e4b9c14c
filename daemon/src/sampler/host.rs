//! Host memory and swap from /proc/meminfo, with the formulas of psutil 7.2.2 (`psutil/_pslinux.py`), so that the line of
//! MemoryProfilerHook is the original's.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::domain::HostSample;

/// Reads the same file again and again through one descriptor.
pub struct Host {
    root: PathBuf,
    meminfo: Option<File>,
    text: Vec<u8>,
    page_bytes: u64,
}

impl Host {
    /// Reads below `root`, which is /proc but in tests.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            meminfo: None,
            text: vec![0; 16 << 10],
            page_bytes: rustix::param::page_size() as u64,
        }
    }

    /// Reads once.
    pub fn read(&mut self, now: Instant) -> Result<HostSample, String> {
        let path = self.root.join("meminfo");
        if self.meminfo.is_none() {
            self.meminfo =
                Some(File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?);
        }
        let file = self.meminfo.as_ref().expect("it was just opened");
        let read = file
            .read_at(&mut self.text, 0)
            .map_err(|error| format!("{}: {error}", path.display()));
        let read = read.inspect_err(|_| self.meminfo = None)?;
        let text = String::from_utf8_lossy(&self.text[..read]);
        let needs_zones = available_as_said(&fields(&text)).is_none();
        let zoneinfo = needs_zones
            .then(|| std::fs::read_to_string(self.root.join("zoneinfo")).ok())
            .flatten();
        parse(&text, zoneinfo.as_deref(), self.page_bytes, now)
    }
}

/// Fields of /proc/meminfo in bytes.
fn fields(meminfo: &str) -> HashMap<&str, u64> {
    let field = |line: &'_ str| -> Option<(usize, u64)> {
        let (name, rest) = line.split_once(':')?;
        Some((
            name.len(),
            rest.split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()?
                .saturating_mul(1024),
        ))
    };
    meminfo
        .lines()
        .filter_map(|line| field(line).map(|(end, value)| (&line[..end], value)))
        .collect()
}

/// MemAvailable, where the kernel says one. psutil takes 0 for "does not say".
fn available_as_said(fields: &HashMap<&str, u64>) -> Option<u64> {
    fields
        .get("MemAvailable")
        .copied()
        .filter(|available| *available > 0)
}

/// The fields of one sample. Errors: what is missing.
pub fn parse(
    meminfo: &str,
    zoneinfo: Option<&str>,
    page_bytes: u64,
    now: Instant,
) -> Result<HostSample, String> {
    let fields = fields(meminfo);
    let needed = |name: &str| {
        fields
            .get(name)
            .copied()
            .ok_or_else(|| format!("/proc/meminfo has no {name}"))
    };
    let (total, free) = (needed("MemTotal")?, needed("MemFree")?);
    let available = match available_as_said(&fields) {
        Some(available) => i128::from(available),
        None => estimate(&fields, free, zoneinfo, page_bytes),
    };
    // psutil: a negative estimate is 0; more than there is happens in containers, then MemFree is the fallback.
    let available = u64::try_from(available.max(0)).unwrap_or(u64::MAX);
    let available = if available > total { free } else { available };
    let (swap_total, swap_free) = (
        fields.get("SwapTotal").copied(),
        fields.get("SwapFree").copied(),
    );
    let (swap_total, swap_free) = (swap_total.unwrap_or(0), swap_free.unwrap_or(0));
    let used = total.saturating_sub(available);
    let swap_used = swap_total.saturating_sub(swap_free);
    Ok(HostSample {
        at: now,
        total_bytes: total,
        available_bytes: available,
        used_bytes: used,
        used_percent: percent(used, total),
        swap_total_bytes: swap_total,
        swap_used_bytes: swap_used,
        swap_used_percent: percent(swap_used, swap_total),
    })
}

/// psutil's `calculate_avail_vmem`: the kernel's own formula before it had MemAvailable.
fn estimate(
    fields: &HashMap<&str, u64>,
    free: u64,
    zoneinfo: Option<&str>,
    page_bytes: u64,
) -> i128 {
    let fallback = i128::from(free) + i128::from(fields.get("Cached").copied().unwrap_or(0));
    let (Some(active), Some(inactive), Some(reclaimable)) = (
        fields.get("Active(file)"),
        fields.get("Inactive(file)"),
        fields.get("SReclaimable"),
    ) else {
        return fallback;
    };
    let Some(zoneinfo) = zoneinfo else {
        return fallback;
    };
    let low_pages: u64 = zoneinfo
        .lines()
        .map(str::trim)
        .filter_map(|line| {
            line.strip_prefix("low")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum();
    let watermark = low_pages as f64 * page_bytes as f64;
    let page_cache = (active + inactive) as f64;
    let page_cache = page_cache - (page_cache / 2.0).min(watermark);
    let reclaimable = *reclaimable as f64;
    let available =
        free as f64 - watermark + page_cache + reclaimable - (reclaimable / 2.0).min(watermark);
    available as i128
}

/// psutil's `usage_percent(used, total, round_=1)`: `round((used / total) * 100, 1)`.
fn percent(used: u64, total: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    round_to_one_decimal(used as f64 / total as f64 * 100.0)
}

/// Python's `round(x, 1)`: correctly rounded from the exact binary value, which is what formatting does.
fn round_to_one_decimal(value: f64) -> f64 {
    format!("{value:.1}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_is_an_error_and_swap_may_be_none() {
        let now = Instant::now();
        assert_eq!(
            parse("MemFree: 1 kB\n", None, 4096, now),
            Err("/proc/meminfo has no MemTotal".to_owned())
        );
        let sample = parse(
            "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 2000 kB\n",
            None,
            4096,
            now,
        )
        .expect("complete");
        assert_eq!(
            (sample.available_bytes, sample.used_percent),
            (100 * 1024, 90.0),
            "more than there is"
        );
        assert_eq!(
            (sample.swap_total_bytes, sample.swap_used_percent),
            (0, 0.0)
        );
    }

    #[test]
    fn one_decimal_as_python_rounds() {
        for (value, rounded) in [
            (0.25, 0.2),
            (0.35, 0.3),
            (48.549_999, 48.5),
            (99.95, 100.0),
            (0.05, 0.1),
            (2.5, 2.5),
        ] {
            assert_eq!(round_to_one_decimal(value), rounded, "{value}");
        }
    }

    #[test]
    fn the_real_file_is_read_through_one_descriptor() {
        let mut host = Host::new(Path::new("/proc"));
        let first = host
            .read(Instant::now())
            .expect("this machine has a /proc/meminfo");
        let second = host.read(Instant::now()).expect("it can be read again");
        assert_eq!(first.total_bytes, second.total_bytes);
        assert!(
            Host::new(Path::new("/nowhere"))
                .read(Instant::now())
                .expect_err("no file")
                .contains("/nowhere/meminfo")
        );
    }
}
