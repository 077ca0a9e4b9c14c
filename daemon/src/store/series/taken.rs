//! A sample as numbers with names: what goes into the series and into the journal.

use std::time::Instant;

use super::Name;
use crate::domain::{
    ChildSample, GpuSample, HostSample, ProcessRole, ProcessSample, Reading, ShmSample,
};

const MEMINFO: &str = "/proc/meminfo";
const PROC: &str = "/proc";
const CGROUP: &str = "cgroup";
const SHM: &str = "statfs /dev/shm";

/// One number of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// Which.
    pub name: Name,
    /// When the newest part of it was read, or tried.
    pub at: Instant,
    /// The number, or why there is none.
    pub value: Result<f64, String>,
    /// Where it comes from.
    pub source: &'static str,
}

impl Number {
    pub(super) fn of(name: Name, reading: &Reading) -> Self {
        Self {
            name,
            at: reading.at,
            value: reading.value.clone(),
            source: reading.source,
        }
    }
}

/// The machine's memory and swap.
pub fn of_host(host: &HostSample) -> [Number; 4] {
    [
        (Name::HostTotal, host.total_bytes),
        (Name::HostAvailable, host.available_bytes),
        (Name::HostUsed, host.used_bytes),
        (Name::SwapUsed, host.swap_used_bytes),
    ]
    .map(|(name, bytes)| Number {
        name,
        at: host.at,
        value: Ok(bytes as f64),
        source: MEMINFO,
    })
}

/// A /dev/shm: the daemon's or a trainer's.
pub fn of_shm(name: Name, shm: &ShmSample) -> Number {
    Number {
        name,
        at: shm.at,
        value: Ok(shm.used_bytes as f64),
        source: SHM,
    }
}

/// One GPU's.
pub fn of_gpu(gpu: &GpuSample) -> [Number; 3] {
    [
        Number::of(Name::GpuTotal, &gpu.total_bytes),
        Number::of(Name::GpuUsed, &gpu.used_bytes),
        Number::of(Name::GpuBusy, &gpu.utilization_percent),
    ]
}

/// A trainer's. `is_new` says by its name and time whether a number is wanted: sums are made for those only.
pub fn of_process(
    sample: &ProcessSample,
    is_new: impl Fn(Name, Instant) -> bool,
    mut each: impl FnMut(Number),
) {
    let now = sample.rss_bytes.at;
    if is_new(Name::ProcessRss, now) {
        each(Number::of(Name::ProcessRss, &sample.rss_bytes));
    }
    let mut sum = |name, is_in: fn(&ChildSample) -> bool, of: fn(&ChildSample) -> &Reading, own| {
        let own: Option<&Reading> = own;
        let children = sample.children.as_deref().unwrap_or_default();
        let parts = children.iter().filter(|child| is_in(child)).map(of);
        let at = own.into_iter().chain(parts.clone()).map(|part| part.at);
        // Nobody is read when there are no children: then it is known since they were looked for.
        let at = at.max().unwrap_or(sample.children_at);
        if !is_new(name, at) {
            return;
        }
        let mut number = Number {
            name,
            at,
            value: Ok(0.0),
            source: PROC,
        };
        if let Err(why) = &sample.children {
            number.value = Err(why.clone());
        }
        for part in own.into_iter().chain(parts) {
            number.source = part.source;
            number.value = match (number.value, &part.value) {
                (Ok(sum), Ok(value)) => Ok(sum + value),
                (Ok(_), Err(why)) => Err(format!("a process could not be read: {why}")),
                (why, _) => why,
            };
        }
        each(number);
    };
    sum(Name::ChildrenRss, |_| true, |child| &child.rss_bytes, None);
    sum(
        Name::WorkersPss,
        |child| child.role == ProcessRole::Worker,
        |child| &child.detail.pss_bytes,
        None,
    );
    sum(
        Name::TreePss,
        |_| true,
        |child| &child.detail.pss_bytes,
        Some(&sample.detail.pss_bytes),
    );
    let unknown = |name, why: &String, source| Number {
        name,
        at: now,
        value: Err(why.clone()),
        source,
    };
    const OF_CGROUP: [Name; 3] = [
        Name::CgroupWorkingSet,
        Name::CgroupCurrent,
        Name::CgroupLimit,
    ];
    for name in OF_CGROUP {
        match &sample.cgroup {
            Ok(cgroup) => {
                let reading = match name {
                    Name::CgroupWorkingSet => &cgroup.working_set_bytes,
                    Name::CgroupCurrent => &cgroup.current_bytes,
                    _ => &cgroup.limit_bytes,
                };
                if is_new(name, reading.at) {
                    each(Number::of(name, reading));
                }
            }
            Err(why) if is_new(name, now) => each(unknown(name, why, CGROUP)),
            Err(_) => {}
        }
    }
    match &sample.shm {
        Ok(shm) if is_new(Name::ShmUsed, shm.at) => each(of_shm(Name::ShmUsed, shm)),
        Err(why) if is_new(Name::ShmUsed, now) => each(unknown(Name::ShmUsed, why, SHM)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::domain::Detail;

    #[test]
    fn a_sum_is_known_when_every_part_is_and_only_made_anew_when_a_part_is() {
        let at = Instant::now();
        let later = at + Duration::from_secs(1);
        let child = |pid, role, pss: Result<f64, String>, at| ChildSample {
            pid,
            command: "python".into(),
            role,
            rss_bytes: Reading::known(100.0, at, "statm"),
            detail: Detail {
                pss_bytes: Reading {
                    value: pss,
                    at,
                    source: "smaps",
                },
                ..Detail::unknown("not read", at, "smaps")
            },
        };
        let mut sample = ProcessSample {
            rss_bytes: Reading::known(7.0, later, "statm"),
            detail: Detail {
                pss_bytes: Reading::known(5.0, at, "smaps"),
                ..Detail::unknown("not read", at, "smaps")
            },
            children: Ok(Arc::from([
                child(1, ProcessRole::Worker, Ok(10.0), at),
                child(2, ProcessRole::Worker, Ok(20.0), later),
                child(3, ProcessRole::Child, Err("gone".into()), at),
            ])),
            children_at: at,
            cgroup: Err("no cgroup".into()),
            shm: Err("no /dev/shm".into()),
            visible_devices: None,
        };
        let all = |sample: &ProcessSample, is_new: &dyn Fn(Name, Instant) -> bool| {
            let mut numbers = Vec::new();
            of_process(sample, is_new, |number| {
                numbers.push((number.name, number.at, number.value));
            });
            numbers
        };
        let numbers = all(&sample, &|_, _| true);
        assert_eq!(
            numbers[..4],
            [
                (Name::ProcessRss, later, Ok(7.0)),
                (Name::ChildrenRss, later, Ok(300.0)),
                (Name::WorkersPss, later, Ok(30.0)),
                (
                    Name::TreePss,
                    later,
                    Err("a process could not be read: gone".into())
                ),
            ]
        );
        let unknown = numbers[4..].iter().map(|(name, _, value)| (*name, value));
        let unknown: Vec<_> = unknown
            .map(|(name, value)| (name.word(), value.clone().unwrap_err()))
            .collect();
        assert_eq!(unknown[3], ("shm_used_bytes", "no /dev/shm".to_owned()));
        assert_eq!(
            unknown[0],
            ("cgroup_working_set_bytes", "no cgroup".to_owned())
        );
        sample.children = Ok(Arc::from([]));
        let numbers = all(&sample, &|name, at| name == Name::WorkersPss && at < later);
        assert_eq!(numbers, [(Name::WorkersPss, at, Ok(0.0))]);
        sample.children = Err("no right".into());
        let numbers = all(&sample, &|name, _| name == Name::ChildrenRss);
        assert_eq!(
            numbers,
            [(Name::ChildrenRss, at, Err("no right".to_owned()))]
        );
    }
}
