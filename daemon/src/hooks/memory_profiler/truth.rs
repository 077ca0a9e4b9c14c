//! The second line: what binds the training and what it uses, where the original's line shows the whole machine.

use std::time::Instant;

use super::mib;
use crate::domain::{DeviceUse, ProcessRole, ProcessSample};
use crate::store::Said;

/// What is said of host memory, without the name of each number.
pub(super) struct Numbers {
    /// Whose word it is, where it is not the daemon's; with a blank before it.
    by: String,
    working_set: String,
    /// With their name, which says how they are counted.
    below: String,
    shm: String,
}

/// As the daemon sees the process.
pub(super) fn seen(sample: &ProcessSample) -> Numbers {
    let working_set = match &sample.cgroup {
        Ok(group) => against(
            group.working_set_bytes.value.clone(),
            group.limit_bytes.value.clone(),
        ),
        Err(why) => unknown(why),
    };
    let shm = match &sample.shm {
        Ok(shm) => of(shm.used_bytes, shm.total_bytes),
        Err(why) => unknown(why),
    };
    Numbers {
        by: String::new(),
        working_set,
        below: format!("workers_pss: {}", workers(sample)),
        shm,
    }
}

/// As the trainer's client says.
pub(super) fn said(said: &Said, now: Instant) -> Numbers {
    let own = &said.memory;
    let could_not = || "its client could not read it".to_owned();
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64).ok_or_else(could_not);
    let limit = match own.cgroup_limit_bytes {
        Some(u64::MAX) => Ok(f64::INFINITY),
        limit => bytes(limit),
    };
    let children = match (own.children_rss_bytes, own.children) {
        (Some(bytes), Some(count)) => format!("{} MB in {count}", mib(bytes as f64)),
        (Some(bytes), None) => format!("{} MB", mib(bytes as f64)),
        (None, _) => unknown(&could_not()),
    };
    let shm = match (own.shm_used_bytes, own.shm_total_bytes) {
        (Some(used), Some(total)) => of(used, total),
        _ => unknown(&could_not()),
    };
    let age = own.age + now.saturating_duration_since(said.came);
    Numbers {
        by: format!(" (as its client says, {} s old)", age.as_secs()),
        working_set: against(bytes(own.cgroup_working_set_bytes), limit),
        below: format!("children_rss: {children}"),
        shm,
    }
}

/// "MB" are MiB, as in the first line. What is not known says why.
pub(super) fn line(
    numbers: Result<Numbers, String>,
    devices: &Result<Vec<DeviceUse>, String>,
) -> String {
    let numbers = numbers.unwrap_or_else(|why| Numbers {
        by: String::new(),
        working_set: unknown(&why),
        below: format!("workers_pss: {}", unknown(&why)),
        shm: unknown(&why),
    });
    let Numbers {
        by,
        working_set,
        below,
        shm,
    } = numbers;
    format!(
        "Memory of this training{by} working_set: {working_set}, {below}, shm: {shm}, gpu: {}",
        gpus(devices)
    )
}

fn unknown(why: &str) -> String {
    format!("unknown ({why})")
}

fn mb(bytes: &Result<f64, String>) -> String {
    match bytes {
        Ok(bytes) => format!("{} MB", mib(*bytes)),
        Err(why) => unknown(why),
    }
}

fn of(used_bytes: u64, total_bytes: u64) -> String {
    let (used, total) = (mib(used_bytes as f64), mib(total_bytes as f64));
    format!("{used} of {total} MB")
}

/// What is used of a limit; infinite: there is none.
fn against(used: Result<f64, String>, limit: Result<f64, String>) -> String {
    let shown = mb(&used);
    match (&used, &limit) {
        (Ok(used), Ok(limit)) if limit.is_finite() && *limit > 0.0 => format!(
            "{shown} of {} MB ({:.1} %)",
            mib(*limit),
            used / limit * 100.0
        ),
        (_, Ok(limit)) if limit.is_finite() => format!("{shown} of {} MB", mib(*limit)),
        (_, Ok(_)) => format!("{shown}, no limit"),
        (_, Err(why)) => format!("{shown}, limit {}", unknown(why)),
    }
}

fn workers(sample: &ProcessSample) -> String {
    let children = match &sample.children {
        Ok(children) => children,
        Err(why) => return unknown(why),
    };
    let workers: Vec<_> = children
        .iter()
        .filter(|child| child.role == ProcessRole::Worker)
        .collect();
    let sum = workers
        .iter()
        .map(|worker| worker.detail.pss_bytes.value.clone())
        .sum::<Result<f64, _>>();
    format!("{} in {}", mb(&sum), workers.len())
}

fn gpus(devices: &Result<Vec<DeviceUse>, String>) -> String {
    match devices {
        Err(why) => unknown(why),
        Ok(devices) if devices.is_empty() => "none used".to_owned(),
        Ok(devices) => {
            let each = devices
                .iter()
                .map(|device| format!("{} on {}", mb(&device.used_bytes.value), device.gpu));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::domain::{CgroupSample, ChildSample, Detail, OwnMemory, Reading, ShmSample};

    const MIB: f64 = 1_048_576.0;

    fn sample(limit_bytes: f64) -> ProcessSample {
        let now = Instant::now();
        let known = |mib: f64| Reading::known(mib * MIB, now, "test");
        let worker = |pid| ChildSample {
            pid,
            command: "python".to_owned(),
            role: ProcessRole::Worker,
            rss_bytes: known(300.0),
            detail: Detail {
                pss_bytes: known(50.0),
                ..Detail::unknown("not here", now, "test")
            },
        };
        let not = || Reading::unknown("not here", now, "test");
        ProcessSample {
            rss_bytes: known(1.0),
            detail: Detail::unknown("not here", now, "test"),
            children: Ok(Arc::from([worker(1), worker(2)])),
            children_at: now,
            cgroup: Ok(Arc::new(CgroupSample {
                path: "/job".to_owned(),
                version: 2,
                limit_path: "/job".to_owned(),
                limit_bytes: Reading::known(limit_bytes, now, "test"),
                current_bytes: not(),
                working_set_bytes: known(250.0),
                peak_bytes: not(),
                swap_bytes: not(),
                file_bytes: not(),
                oom_kills: not(),
                ooms: not(),
                pressure_some_percent: not(),
                pressure_full_percent: not(),
            })),
            shm: Ok(ShmSample {
                at: now,
                total_bytes: 64 << 20,
                used_bytes: 3 << 20,
                free_bytes: 61 << 20,
            }),
            visible_devices: None,
        }
    }

    #[test]
    fn it_has_the_limit_the_workers_shared_memory_and_gpus() {
        let device = DeviceUse {
            gpu: 1,
            uuid: "GPU-1".to_owned(),
            used_bytes: Reading::known(1024.0 * MIB, Instant::now(), "test"),
        };
        assert_eq!(
            line(Ok(seen(&sample(1000.0 * MIB))), &Ok(vec![device])),
            "Memory of this training working_set: 250 MB of 1000 MB (25.0 %), workers_pss: 100 MB in 2, shm: 3 of 64 MB, gpu: \
             1024 MB on 1"
        );
        assert_eq!(
            line(Ok(seen(&sample(f64::INFINITY))), &Ok(Vec::new())),
            "Memory of this training working_set: 250 MB, no limit, workers_pss: 100 MB in 2, shm: 3 of 64 MB, gpu: none used"
        );
    }

    #[test]
    fn what_the_client_says_is_marked_as_its_word_with_its_age() {
        let now = Instant::now();
        let own = OwnMemory {
            age: Duration::from_secs(2),
            children_rss_bytes: Some(100 << 20),
            children: Some(2),
            cgroup: Some("/".to_owned()),
            cgroup_limit_bytes: Some(1000 << 20),
            cgroup_working_set_bytes: Some(250 << 20),
            shm_total_bytes: Some(64 << 20),
            shm_used_bytes: Some(3 << 20),
            ..Default::default()
        };
        let text = |memory: OwnMemory| {
            let came = now;
            let unseen = "pid namespace not shared".to_owned();
            let gpus = Err(unseen.clone());
            let said = Said {
                memory,
                came,
                unseen,
            };
            line(
                Ok(super::said(&said, now + Duration::from_millis(1500))),
                &gpus,
            )
        };
        assert_eq!(
            text(own.clone()),
            "Memory of this training (as its client says, 3 s old) working_set: 250 MB of 1000 MB (25.0 %), children_rss: 100 \
             MB in 2, shm: 3 of 64 MB, gpu: unknown (pid namespace not shared)"
        );
        let without = OwnMemory {
            cgroup_limit_bytes: Some(u64::MAX),
            children: None,
            ..own
        };
        assert!(text(without).contains("working_set: 250 MB, no limit, children_rss: 100 MB, "));
        let nothing = text(OwnMemory::default());
        let why = "unknown (its client could not read it)";
        assert_eq!(nothing.matches(why).count(), 4, "{nothing}");
    }

    #[test]
    fn what_is_not_known_says_why() {
        let why = || "pid namespace not shared".to_owned();
        let text = line(Err(why()), &Err("no driver".to_owned()));
        assert_eq!(
            text.matches("unknown (pid namespace not shared)").count(),
            3,
            "{text}"
        );
        assert!(text.ends_with("gpu: unknown (no driver)"), "{text}");
    }
}
