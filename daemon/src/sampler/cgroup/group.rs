//! The numbers of the group that binds a process: of those on its path the one with the smallest limit, else its own. With
//! equal limits it is the outer one, since that has more to pay for.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use super::above::{self, Above};
use super::place::{Level, Place};
use crate::domain::{CgroupSample, Reading};
use crate::sampler::kept::{Kept, field, number};

/// More than any memory.stat has.
const MOST_BYTES: usize = 16 << 10;
/// Version 1 says "no limit" with the largest number of bytes that is whole pages, whatever a page is.
const NO_LIMIT_FROM: u64 = 1 << 62;

const LIMIT_SEEN: &str = "memory.max, as far up as this cgroup namespace shows";
const HIERARCHICAL: &str = "memory.stat hierarchical_memory_limit";

/// A process's group, those above it, and the descriptors through which they are read.
#[derive(Debug)]
pub(super) struct Group {
    place: Place,
    /// Of each level.
    limits: Vec<Kept>,
    files: Option<Files>,
    /// It has been removed: what is known of it for good.
    removed: Option<Result<CgroupSample, String>>,
    text: Vec<u8>,
}

#[derive(Debug)]
struct Files {
    level: usize,
    current: Kept,
    stat: Kept,
    peak: Kept,
    swap: Kept,
    /// memory.events; in version 1 memory.oom_control of the process's own group and those up to this one.
    ooms: Vec<Kept>,
    pressure: Option<Kept>,
    above: Option<Above>,
}

/// One number: it, or why it is not known.
type Value = Result<f64, String>;

impl Group {
    pub(super) fn new(mut place: Place) -> Self {
        // Groups that are not charged have no numbers: those without the controller, and in version 1 all above the first
        // that does not count its children.
        let charged = if place.version == 2 {
            let is_charged = |level: &Level| level.folder.join("memory.current").exists();
            place.levels.iter().position(is_charged)
        } else {
            let counts = |level: &Level| {
                let text = std::fs::read(level.folder.join("memory.use_hierarchy"));
                text.ok().and_then(|text| number(&text)) != Some(0)
            };
            let above = place
                .levels
                .iter()
                .skip(1)
                .take_while(|level| counts(level));
            place.levels.truncate(1 + above.count());
            Some(0)
        };
        // Of the root alone there is at least memory.stat.
        let first = charged.unwrap_or(place.levels.len().saturating_sub(1));
        place.levels.drain(..first);
        let name = if place.version == 2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        Self {
            limits: place
                .levels
                .iter()
                .map(|level| Kept::opened(level.folder.join(name)))
                .collect(),
            files: None,
            removed: None,
            text: vec![0; MOST_BYTES],
            place,
        }
    }

    /// It is no more; one of the same name would be another.
    pub(super) fn is_removed(&self) -> bool {
        self.removed.is_some()
    }

    /// Reads it once. Error: it has been removed, and how often the kernel killed in it is not known either.
    pub(super) fn read(&mut self, now: Instant) -> Result<CgroupSample, String> {
        if let Some(known) = &self.removed {
            return known.clone();
        }
        let limits: Vec<Value> = (0..self.limits.len())
            .map(|level| self.limit_of(level))
            .collect();
        let (level, limit) = tightest(&limits);
        if self.files.as_ref().is_none_or(|files| files.level != level) {
            self.files = Some(Files::open(&self.place, level));
        }
        let files = self.files.as_mut().expect("it was just opened");
        let sample = if self.place.version == 2 {
            files.read_v2(&self.place, limit, &mut self.text, now)
        } else {
            files.read_v1(&self.place, limit, &mut self.text, now)
        };
        match sample {
            Ok(sample) => {
                if let Some(above) = &mut files.above {
                    above.remember(
                        sample.oom_kills.value.as_ref().ok().copied(),
                        &mut self.text,
                    );
                }
                Ok(sample)
            }
            Err(Removed) => self.end(now),
        }
    }

    /// It has been removed: all that can still be known is how often the kernel killed in it.
    pub(super) fn end(&mut self, now: Instant) -> Result<CgroupSample, String> {
        let gone = self.gone();
        let last = self.files.as_mut().and_then(|files| {
            let kills = files.above.as_mut()?.kills(&mut self.text)?;
            Some(above::sample(&self.place, files.level, kills, &gone, now))
        });
        let known = last.ok_or(gone);
        self.removed.insert(known).clone()
    }

    fn gone(&self) -> String {
        format!("its group {} has been removed", self.place.path)
    }

    fn limit_of(&mut self, level: usize) -> Value {
        let path = &self.place.levels[level].path;
        match self.limits[level].read(&mut self.text) {
            Ok(text) if text.trim_ascii() == b"max" => Ok(f64::INFINITY),
            Ok(text) => match number(text) {
                Some(bytes) if bytes >= NO_LIMIT_FROM => Ok(f64::INFINITY),
                Some(bytes) => Ok(bytes as f64),
                None => Err(format!("the limit of {path} does not parse")),
            },
            // The root has none to set.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(f64::INFINITY),
            Err(error) => Err(format!("the limit of {path}: {error}")),
        }
    }
}

/// The level with the smallest limit and that limit, which is not known where one of them is not.
fn tightest(limits: &[Value]) -> (usize, Value) {
    let (mut level, mut least) = (0, f64::INFINITY);
    let mut unknown = None;
    for (at, limit) in limits.iter().enumerate() {
        match limit {
            Ok(limit) if limit.is_finite() && *limit <= least => (level, least) = (at, *limit),
            Ok(_) => {}
            Err(why) => unknown = Some(why.clone()),
        }
    }
    (level, unknown.map_or(Ok(least), Err))
}

struct Removed;

impl Files {
    fn open(place: &Place, level: usize) -> Self {
        let at = &place.levels[level];
        let file = |name: &str| Kept::opened(at.folder.join(name));
        let pressure = |folder: &Path| Kept::opened(folder.join("memory.pressure"));
        let (current, peak, swap) = if place.version == 2 {
            ("memory.current", "memory.peak", "memory.swap.current")
        } else {
            (
                "memory.usage_in_bytes",
                "memory.max_usage_in_bytes",
                "memory.stat",
            )
        };
        Self {
            level,
            current: file(current),
            stat: file("memory.stat"),
            peak: file(peak),
            swap: file(swap),
            ooms: if place.version == 2 {
                vec![file("memory.events")]
            } else {
                let up_to = place.levels[..=level].iter();
                up_to
                    .map(|level| Kept::opened(level.folder.join("memory.oom_control")))
                    .collect()
            },
            pressure: at.pressure.as_deref().map(pressure),
            above: Above::of(place, level),
        }
    }

    fn read_v2(
        &mut self,
        place: &Place,
        limit: Value,
        text: &mut [u8],
        now: Instant,
    ) -> Result<CgroupSample, Removed> {
        let at = &place.levels[self.level];
        let no_current = if at.path == "/" && place.path == "/" {
            "the root group has no memory.current".to_owned()
        } else {
            format!("the memory controller is not on in {}", place.path)
        };
        let current = whole(&mut self.current, text, &no_current)?;
        let stat = contents(&mut self.stat, text, "there is no memory.stat")?;
        let in_stat = |name: &str| needed(&stat, name, "memory.stat");
        let (inactive_file, file) = (in_stat("inactive_file"), in_stat("file"));
        let no_swap = "swap is not accounted here: there is no memory.swap.current";
        let swap = whole(&mut self.swap, text, no_swap)?;
        let no_peak = "this kernel has no memory.peak (Linux 5.19 has)";
        let peak = whole(&mut self.peak, text, no_peak)?;
        let events = contents(&mut self.ooms[0], text, "there is no memory.events")?;
        let in_events = |name: &str| needed(&events, name, "memory.events");
        let (ooms, oom_kills) = (in_events("oom"), in_events("oom_kill"));
        let (some, full) = self.pressures(text)?;
        let reading = |value: Value, source| Reading {
            value,
            at: now,
            source,
        };
        Ok(CgroupSample {
            path: place.path.clone(),
            version: 2,
            limit_path: at.path.clone(),
            limit_bytes: reading(
                limit,
                if place.hidden {
                    LIMIT_SEEN
                } else {
                    "memory.max"
                },
            ),
            working_set_bytes: reading(
                working_set(&current, inactive_file),
                "memory.current - memory.stat inactive_file",
            ),
            current_bytes: reading(current, "memory.current"),
            peak_bytes: reading(peak, "memory.peak"),
            swap_bytes: reading(swap, "memory.swap.current"),
            file_bytes: reading(file, "memory.stat file"),
            oom_kills: reading(oom_kills, "memory.events oom_kill"),
            ooms: reading(ooms, "memory.events oom"),
            pressure_some_percent: reading(some, "memory.pressure"),
            pressure_full_percent: reading(full, "memory.pressure"),
        })
    }

    fn read_v1(
        &mut self,
        place: &Place,
        limit: Value,
        text: &mut [u8],
        now: Instant,
    ) -> Result<CgroupSample, Removed> {
        let current = whole(&mut self.current, text, "there is no memory.usage_in_bytes")?;
        let stat = contents(&mut self.stat, text, "there is no memory.stat")?;
        let in_stat = |name: &str| needed(&stat, name, "memory.stat");
        let inactive_file = in_stat("total_inactive_file");
        let file = in_stat("total_cache");
        let swap = in_stat("total_swap")
            .map_err(|why| format!("{why}: swap is not accounted (swapaccount=1 at boot)"));
        // Groups above that cannot be seen from here limit it too.
        let above = in_stat("hierarchical_memory_limit");
        let (limit, limit_source) = match (limit, above) {
            (Ok(limit), Ok(above)) if above < NO_LIMIT_FROM as f64 && above < limit => {
                (Ok(above), HIERARCHICAL)
            }
            (limit, _) => (limit, "memory.limit_in_bytes"),
        };
        let peak = whole(
            &mut self.peak,
            text,
            "there is no memory.max_usage_in_bytes",
        )?;
        let mut oom_kills = Ok(0.0);
        for control in &mut self.ooms {
            let control = contents(control, text, "there is no memory.oom_control")?;
            let killed = needed(&control, "oom_kill", "memory.oom_control")
                .map_err(|why| format!("{why} (Linux 4.13 has)"));
            oom_kills = oom_kills.and_then(|sum: f64| Ok(sum + killed?));
        }
        let (some, full) = self.pressures(text)?;
        let reading = |value: Value, source| Reading {
            value,
            at: now,
            source,
        };
        Ok(CgroupSample {
            path: place.path.clone(),
            version: 1,
            limit_path: place.levels[self.level].path.clone(),
            limit_bytes: reading(limit, limit_source),
            working_set_bytes: reading(
                working_set(&current, inactive_file),
                "memory.usage_in_bytes - memory.stat total_inactive_file",
            ),
            current_bytes: reading(current, "memory.usage_in_bytes"),
            peak_bytes: reading(peak, "memory.max_usage_in_bytes"),
            swap_bytes: reading(swap, "memory.stat total_swap"),
            file_bytes: reading(file, "memory.stat total_cache"),
            oom_kills: reading(
                oom_kills,
                "memory.oom_control oom_kill of its own group and those up to the limit",
            ),
            ooms: reading(
                Err("cgroup v1 does not count it".to_owned()),
                "memory.oom_control",
            ),
            pressure_some_percent: reading(some, "memory.pressure"),
            pressure_full_percent: reading(full, "memory.pressure"),
        })
    }

    /// Some and full, of the last 10 s.
    fn pressures(&mut self, text: &mut [u8]) -> Result<(Value, Value), Removed> {
        let Some(pressure) = &mut self.pressure else {
            let why = "cgroup v1 has no pressure".to_owned();
            return Ok((Err(why.clone()), Err(why)));
        };
        let missing = "this kernel does not measure pressure (psi=1 at boot)";
        let read = contents(pressure, text, missing)?;
        let value = |kind: &str| -> Value {
            let text = std::str::from_utf8(read.as_ref().map_err(Clone::clone)?);
            text.unwrap_or_default()
                .lines()
                .find_map(|line| {
                    let rest = line.strip_prefix(kind)?.trim_start();
                    let number = rest.strip_prefix("avg10=")?.split(' ').next()?;
                    number.parse().ok()
                })
                .ok_or_else(|| format!("memory.pressure has no {kind}"))
        };
        Ok((value("some"), value("full")))
    }
}

/// What a file says, or why that is not known.
fn contents<'a>(
    file: &mut Kept,
    text: &'a mut [u8],
    missing: &str,
) -> Result<Result<&'a [u8], String>, Removed> {
    match file.read(text) {
        Ok(text) => Ok(Ok(text)),
        Err(error) if is(&error, Errno::NODEV) => Err(Removed),
        Err(error) if error.kind() == ErrorKind::NotFound || is(&error, Errno::OPNOTSUPP) => {
            Ok(Err(missing.to_owned()))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// A file that is one number.
fn whole(file: &mut Kept, text: &mut [u8], missing: &str) -> Result<Value, Removed> {
    let read = contents(file, text, missing)?;
    Ok(read.and_then(|text| {
        let value = number(text).map(|value| value as f64);
        value.ok_or_else(|| "it is no number".to_owned())
    }))
}

/// One number of a file of many.
fn needed(text: &Result<&[u8], String>, name: &str, file: &str) -> Value {
    let text = text.as_ref().map_err(Clone::clone)?;
    let value = field(text, name).map(|value| value as f64);
    value.ok_or_else(|| format!("{file} has no {name}"))
}

/// The two are read one after the other: what became inactive meanwhile is no debt.
fn working_set(current: &Value, inactive_file: Value) -> Value {
    let current = current.as_ref().map_err(Clone::clone)?;
    Ok((current - inactive_file?).max(0.0))
}
