//! Host memory and swap from /proc/meminfo, with the formulas of psutil 7.2.2 (`psutil/_pslinux.py`), so that the line of
//! MemoryProfilerHook is the original's.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::kept::{Kept, lines, number};
use crate::domain::HostSample;

/// More than any /proc/meminfo has.
const MEMINFO_BYTES: usize = 16 << 10;
/// All that is needed is in its first lines, where there is a MemAvailable.
const FIRST_BYTES: usize = 512;

/// Reads the same file again and again through one descriptor.
pub struct Host {
    root: PathBuf,
    meminfo: Kept,
    text: Vec<u8>,
    page_bytes: u64,
}

impl Host {
    /// Reads below `root`, which is /proc but in tests.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            meminfo: Kept::new(root.join("meminfo")),
            text: vec![0; MEMINFO_BYTES],
            page_bytes: rustix::param::page_size() as u64,
        }
    }

    /// Reads once.
    pub fn read(&mut self, now: Instant) -> Result<HostSample, String> {
        let mut fields = self.fields(FIRST_BYTES)?;
        if !fields.is_complete() {
            fields = self.fields(MEMINFO_BYTES)?;
        }
        let zoneinfo = match fields.available_as_said() {
            Some(_) => None,
            None => std::fs::read_to_string(self.root.join("zoneinfo")).ok(),
        };
        fields.sample(zoneinfo.as_deref(), self.page_bytes, now)
    }

    fn fields(&mut self, most_bytes: usize) -> Result<Fields, String> {
        let read = self.meminfo.read(&mut self.text[..most_bytes]);
        let text =
            read.map_err(|error| format!("{}: {error}", self.root.join("meminfo").display()))?;
        // A line that did not fit is none.
        let whole = text.iter().rposition(|byte| *byte == b'\n');
        let end = whole.filter(|_| text.len() == most_bytes);
        Ok(Fields::of(&text[..end.unwrap_or(text.len())]))
    }
}

/// The fields of one sample. Errors: what is missing.
pub fn parse(
    meminfo: &str,
    zoneinfo: Option<&str>,
    page_bytes: u64,
    now: Instant,
) -> Result<HostSample, String> {
    Fields::of(meminfo.as_bytes()).sample(zoneinfo, page_bytes, now)
}

/// What is needed of /proc/meminfo, in bytes.
#[derive(Default)]
struct Fields {
    total: Option<u64>,
    free: Option<u64>,
    available: Option<u64>,
    cached: Option<u64>,
    active_file: Option<u64>,
    inactive_file: Option<u64>,
    reclaimable: Option<u64>,
    swap_total: Option<u64>,
    swap_free: Option<u64>,
}

impl Fields {
    fn of(meminfo: &[u8]) -> Self {
        let mut fields = Self::default();
        for (name, value) in lines(meminfo) {
            let field = match name {
                b"MemTotal" => &mut fields.total,
                b"MemFree" => &mut fields.free,
                b"MemAvailable" => &mut fields.available,
                b"Cached" => &mut fields.cached,
                b"Active(file)" => &mut fields.active_file,
                b"Inactive(file)" => &mut fields.inactive_file,
                b"SReclaimable" => &mut fields.reclaimable,
                b"SwapTotal" => &mut fields.swap_total,
                b"SwapFree" => &mut fields.swap_free,
                _ => continue,
            };
            *field = number(value).map(|kib| kib.saturating_mul(1024));
            // SwapFree comes after all that is needed where there is MemAvailable, and half of the file after it.
            if name == b"SwapFree" && fields.is_complete() {
                break;
            }
        }
        fields
    }

    fn is_complete(&self) -> bool {
        let needed = [self.total, self.free, self.swap_total, self.swap_free];
        self.available_as_said().is_some() && needed.iter().all(Option::is_some)
    }

    /// MemAvailable, where the kernel says one. psutil takes 0 for "does not say".
    fn available_as_said(&self) -> Option<u64> {
        self.available.filter(|available| *available > 0)
    }

    fn sample(
        &self,
        zoneinfo: Option<&str>,
        page_bytes: u64,
        now: Instant,
    ) -> Result<HostSample, String> {
        let needed = |field: Option<u64>, name: &str| {
            field.ok_or_else(|| format!("/proc/meminfo has no {name}"))
        };
        let total = needed(self.total, "MemTotal")?;
        let free = needed(self.free, "MemFree")?;
        let available = match self.available_as_said() {
            Some(available) => i128::from(available),
            None => self.estimate(free, zoneinfo, page_bytes),
        };
        // psutil: a negative estimate is 0; more than there is happens in containers, then MemFree is the fallback.
        let available = u64::try_from(available.max(0)).unwrap_or(u64::MAX);
        let available = if available > total { free } else { available };
        let swap_total = self.swap_total.unwrap_or(0);
        let used = total.saturating_sub(available);
        let swap_used = swap_total.saturating_sub(self.swap_free.unwrap_or(0));
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
    fn estimate(&self, free: u64, zoneinfo: Option<&str>, page_bytes: u64) -> i128 {
        let fallback = i128::from(free) + i128::from(self.cached.unwrap_or(0));
        let (Some(active), Some(inactive), Some(reclaimable)) =
            (self.active_file, self.inactive_file, self.reclaimable)
        else {
            return fallback;
        };
        let Some(zoneinfo) = zoneinfo else {
            return fallback;
        };
        let low_pages: u64 = zoneinfo
            .lines()
            .filter_map(|line| number(line.trim().strip_prefix("low")?.as_bytes()))
            .sum();
        let watermark = low_pages as f64 * page_bytes as f64;
        let page_cache = (active + inactive) as f64;
        let page_cache = page_cache - (page_cache / 2.0).min(watermark);
        let reclaimable = reclaimable as f64;
        let available =
            free as f64 - watermark + page_cache + reclaimable - (reclaimable / 2.0).min(watermark);
        available as i128
    }
}

/// psutil's `usage_percent(used, total, round_=1)`: `round((used / total) * 100, 1)`.
fn percent(used: u64, total: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    round_to_one_decimal(used as f64 / total as f64 * 100.0)
}

/// Python's `round(x, 1)`: correctly rounded from the exact binary value, which is what formatting does. Formatting is needed
/// only near the middle between two of them: everywhere else ten times the value is near enough to know the nearest.
fn round_to_one_decimal(value: f64) -> f64 {
    let tenths = value * 10.0;
    let from_middle = (tenths - tenths.floor() - 0.5).abs();
    if from_middle > 1e-6 && tenths.abs() < 1e6 {
        return tenths.round() / 10.0;
    }
    round_by_formatting(value)
}

fn round_by_formatting(value: f64) -> f64 {
    let mut text = [0; 32];
    let mut rest = &mut text[..];
    if write!(rest, "{value:.1}").is_err() {
        return value;
    }
    let unused = rest.len();
    let written = std::str::from_utf8(&text[..text.len() - unused]);
    written
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(value)
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
        for part in 0..=200_000_u64 {
            let value = part as f64 / 200_000.0 * 100.0;
            let formatted = round_by_formatting(value);
            assert_eq!(round_to_one_decimal(value), formatted, "{value}");
        }
    }

    #[test]
    fn what_does_not_fit_the_first_read_is_read_by_another() {
        let folder = tempfile::tempdir().expect("a directory");
        let mut text =
            "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nSwapTotal: 50 kB\n".to_owned();
        let last = "SwapFree: 45 kB\n";
        // The first read ends within the last number.
        let filler = FIRST_BYTES - text.len() - "SwapFree: 4".len();
        text += &format!("{}\n", "x".repeat(filler - 1));
        std::fs::write(folder.path().join("meminfo"), text + last).expect("a file");
        let read = Host::new(folder.path()).read(Instant::now());
        let sample = read.expect("complete");
        assert_eq!(
            (sample.used_percent, sample.swap_used_bytes),
            (60.0, 5 * 1024)
        );
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
