//! The second line: what binds the training and what it uses, where the original's line shows the whole machine.

use super::mib;
use crate::domain::{DeviceUse, ProcessRole, ProcessSample, Reading};

/// "MB" are MiB, as in the first line. What is not known says why.
pub(super) fn line(
    sample: &Result<ProcessSample, String>,
    devices: &Result<Vec<DeviceUse>, String>,
) -> String {
    let (cgroup, workers, shm) = match sample {
        Ok(sample) => (cgroup(sample), workers(sample), shm(sample)),
        Err(why) => (unknown(why), unknown(why), unknown(why)),
    };
    format!(
        "Memory of this training working_set: {cgroup}, workers_pss: {workers}, shm: {shm}, gpu: {}",
        gpus(devices)
    )
}

fn unknown(why: &str) -> String {
    format!("unknown ({why})")
}

fn bytes(reading: &Reading) -> String {
    match &reading.value {
        Ok(bytes) => format!("{} MB", mib(*bytes)),
        Err(why) => unknown(why),
    }
}

fn cgroup(sample: &ProcessSample) -> String {
    let group = match &sample.cgroup {
        Ok(group) => group,
        Err(why) => return unknown(why),
    };
    let used = bytes(&group.working_set_bytes);
    match (&group.working_set_bytes.value, &group.limit_bytes.value) {
        (Ok(used_bytes), Ok(limit)) if limit.is_finite() && *limit > 0.0 => format!(
            "{used} of {} MB ({:.1} %)",
            mib(*limit),
            used_bytes / limit * 100.0
        ),
        (_, Ok(limit)) if limit.is_finite() => format!("{used} of {} MB", mib(*limit)),
        (_, Ok(_)) => format!("{used}, no limit"),
        (_, Err(why)) => format!("{used}, limit {}", unknown(why)),
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
        .map(|worker| worker.detail.pss_bytes.value.as_ref())
        .sum::<Result<f64, _>>();
    match sum {
        Ok(sum) => format!("{} MB in {}", mib(sum), workers.len()),
        Err(why) => format!("{} in {}", unknown(why), workers.len()),
    }
}

fn shm(sample: &ProcessSample) -> String {
    match &sample.shm {
        Ok(shm) => format!(
            "{} of {} MB",
            mib(shm.used_bytes as f64),
            mib(shm.total_bytes as f64)
        ),
        Err(why) => unknown(why),
    }
}

fn gpus(devices: &Result<Vec<DeviceUse>, String>) -> String {
    match devices {
        Err(why) => unknown(why),
        Ok(devices) if devices.is_empty() => "none used".to_owned(),
        Ok(devices) => {
            let each = devices
                .iter()
                .map(|device| format!("{} on {}", bytes(&device.used_bytes), device.gpu));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::domain::{CgroupSample, ChildSample, Detail, ShmSample};

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
            line(&Ok(sample(1000.0 * MIB)), &Ok(vec![device])),
            "Memory of this training working_set: 250 MB of 1000 MB (25.0 %), workers_pss: 100 MB in 2, shm: 3 of 64 MB, gpu: \
             1024 MB on 1"
        );
        assert_eq!(
            line(&Ok(sample(f64::INFINITY)), &Ok(Vec::new())),
            "Memory of this training working_set: 250 MB, no limit, workers_pss: 100 MB in 2, shm: 3 of 64 MB, gpu: none used"
        );
    }

    #[test]
    fn what_is_not_known_says_why() {
        let why = || "pid namespace not shared".to_owned();
        let text = line(&Err(why()), &Err("no driver".to_owned()));
        assert_eq!(
            text.matches("unknown (pid namespace not shared)").count(),
            3,
            "{text}"
        );
        assert!(text.ends_with("gpu: unknown (no driver)"), "{text}");
    }
}
