//! Which GPU is whose: processes on GPUs to their runs, and a trainer's device ordinals to GPUs. Nothing is guessed: what
//! two sources say differently, or none says, is not known.

use std::collections::BTreeMap;

use super::{GpuProcess, GpuSample, Pid, ProcessSample, Rank, Reading, RunId};

/// What is said where the driver's pids cannot be told from those here.
pub const OTHER_NAMESPACE: &str = "the driver's process ids may be of another pid namespace";

/// Whose a process is: trainers and their descendants, by pid.
#[derive(Clone, Debug, Default)]
pub struct Owners(BTreeMap<u32, (RunId, Rank)>);

impl Owners {
    /// These processes are this rank's.
    pub fn add(&mut self, run: &RunId, rank: Rank, pids: impl IntoIterator<Item = u32>) {
        let own = pids.into_iter().map(|pid| (pid, (run.clone(), rank)));
        self.0.extend(own);
    }

    /// None: nobody's that is attached, or its pid means another process than one here.
    pub fn of(&self, process: &GpuProcess) -> Option<&(RunId, Rank)> {
        match process.seen {
            Pid::Here => self.0.get(&process.pid),
            Pid::Elsewhere | Pid::NotKnown => None,
        }
    }
}

/// What some processes use of one GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceUse {
    /// NVML's index.
    pub gpu: u32,
    /// The GPU's.
    pub uuid: String,
    /// Together.
    pub used_bytes: Reading,
}

/// What a trainer and all below it use, GPU by GPU. Errors: why its processes are not known.
pub fn of_tree(
    main: u32,
    sample: &ProcessSample,
    gpus: &[GpuSample],
) -> Result<Vec<DeviceUse>, String> {
    let children = sample.children.as_ref();
    let children = children.map_err(|why| format!("its child processes are not known: {why}"))?;
    let below = children.iter().map(|child| child.pid);
    let pids: Vec<u32> = [main].into_iter().chain(below).collect();
    Ok(uses(&pids, gpus))
}

/// What these processes use, GPU by GPU; one that they do not use is left out.
pub fn uses(pids: &[u32], gpus: &[GpuSample]) -> Vec<DeviceUse> {
    let each = gpus.iter().filter_map(|gpu| {
        let value = match &gpu.processes {
            Err(why) => Err(why.clone()),
            Ok(processes) => used(pids, processes)?,
        };
        Some(DeviceUse {
            gpu: gpu.index,
            uuid: gpu.uuid.clone(),
            used_bytes: Reading {
                value,
                at: gpu.processes_at,
                source: "nvml",
            },
        })
    });
    each.collect()
}

fn used(pids: &[u32], processes: &[GpuProcess]) -> Option<Result<f64, String>> {
    let other_namespace = || Err(OTHER_NAMESPACE.to_owned());
    let mut ours = processes
        .iter()
        .filter(|process| pids.contains(&process.pid) && process.seen != Pid::Elsewhere)
        .peekable();
    if ours.peek().is_none() {
        // It may be ours by another number.
        let hidden = processes
            .iter()
            .any(|process| process.seen == Pid::NotKnown);
        return hidden.then(other_namespace);
    }
    let each = ours.map(|process| match (process.seen, &process.used_bytes.value) {
        (Pid::NotKnown, _) => other_namespace(),
        (_, value) => value.clone(),
    });
    Some(each.sum())
}

/// One of the devices that a trainer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleDevice {
    /// NVML's index of the GPU, or of the one that the slice is of.
    pub gpu: u32,
    /// How that is known.
    pub by: Named,
}

/// What says which GPU an ordinal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A UUID, which is the same for everybody.
    Uuid,
    /// An index, which is another one in a container that has not all GPUs.
    Index,
    /// Nothing: the order of all GPUs, unless the process has chosen some itself.
    Order,
}

/// The GPUs that a process sees in the order of its ordinals, as CUDA reads CUDA_VISIBLE_DEVICES (`None`: not set): it
/// stops at the first entry that is not valid, and an entry that is there twice leaves none. Indices are NVML's where CUDA
/// counts by PCI bus (CUDA_DEVICE_ORDER=PCI_BUS_ID), and that is sure only where all GPUs are of one kind. Errors: why it
/// cannot be known.
pub fn visible(devices: Option<&str>, gpus: &[GpuSample]) -> Result<Vec<VisibleDevice>, String> {
    let named = |prefix| devices.is_some_and(|text| text.starts_with(prefix));
    if named("GPU-") || named("MIG-") {
        return Ok(by_uuid(devices.unwrap_or_default(), gpus));
    }
    let entries = devices.map(|text| ordinals(text, gpus.len()));
    let by = if devices.is_some() {
        Named::Index
    } else {
        Named::Order
    };
    if entries.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    if gpus.iter().any(|gpu| !gpu.mig.is_empty()) {
        return Err("a GPU is sliced: an index does not say which slice".to_owned());
    }
    if gpus.windows(2).any(|two| two[0].name != two[1].name) {
        return Err(
            "there are several kinds of GPU: CUDA may count them in another order".to_owned(),
        );
    }
    let entries = entries.unwrap_or_else(|| (0..gpus.len()).collect());
    let each = entries.into_iter().map(|at| VisibleDevice {
        gpu: gpus[at].index,
        by,
    });
    Ok(each.collect())
}

/// Numbers up to the first that is none, or no GPU's.
fn ordinals(text: &str, gpus: usize) -> Vec<usize> {
    let mut found = Vec::new();
    for entry in text.split(',') {
        let entry = entry.trim();
        let entry = entry.strip_prefix('+').unwrap_or(entry);
        // As strtoul: what follows the digits is not looked at.
        let end = entry.find(|letter: char| !letter.is_ascii_digit());
        let digits = &entry[..end.unwrap_or(entry.len())];
        let Some(at) = digits.parse().ok().filter(|at| *at < gpus) else {
            break;
        };
        if found.contains(&at) {
            return Vec::new();
        }
        found.push(at);
    }
    found
}

/// UUIDs, which may be cut short as long as they mean one.
fn by_uuid(text: &str, gpus: &[GpuSample]) -> Vec<VisibleDevice> {
    let mut found: Vec<(VisibleDevice, &str)> = Vec::new();
    for entry in text.split(',').map(str::trim) {
        let Some((gpu, uuid)) = meant(entry, gpus) else {
            break;
        };
        if found.iter().any(|(_, before)| *before == uuid) {
            return Vec::new();
        }
        let by = Named::Uuid;
        let device = VisibleDevice { gpu, by };
        found.push((device, uuid));
    }
    found.into_iter().map(|(device, _)| device).collect()
}

/// The GPU, and the UUID that is meant.
fn meant<'a>(entry: &str, gpus: &'a [GpuSample]) -> Option<(u32, &'a str)> {
    // Before R470 a slice was MIG-GPU-uuid/gpu instance/compute instance.
    if let Some(rest) = entry.strip_prefix("MIG-GPU-") {
        let mut parts = rest.split('/');
        let uuid = format!("GPU-{}", parts.next()?);
        let mut number = || parts.next()?.parse::<u32>().ok();
        let ids = (number()?, number()?);
        let gpu = gpus.iter().find(|gpu| gpu.uuid == uuid)?;
        let is_it = |slice: &&super::MigSample| (slice.gpu_instance, slice.compute_instance) == ids;
        let slice = gpu.mig.iter().find(is_it)?;
        return Some((gpu.index, &slice.uuid));
    }
    let whole = gpus.iter().map(|gpu| (gpu.index, gpu.uuid.as_str()));
    let slices = gpus
        .iter()
        .flat_map(|gpu| gpu.mig.iter().map(|slice| (gpu.index, slice.uuid.as_str())));
    let known = |entry: &str| entry.starts_with("GPU-") || entry.starts_with("MIG-");
    let mut fits = whole
        .chain(slices)
        .filter(|(_, uuid)| known(entry) && uuid.starts_with(entry));
    let first = fits.next()?;
    fits.next().is_none().then_some(first)
}

/// The GPU that a trainer's `ordinal` is. Where the driver sees its process on one GPU, it is that; on several, what
/// CUDA_VISIBLE_DEVICES says must be one of them. Where the driver does not say, only a UUID is sure.
pub fn gpu_of(
    ordinal: Option<u32>,
    visible: &Result<Vec<VisibleDevice>, String>,
    main: u32,
    gpus: &[GpuSample],
) -> Option<u32> {
    let device = match visible {
        Ok(devices) => ordinal.and_then(|ordinal| devices.get(ordinal as usize)),
        Err(_) => None,
    };
    let is_sure = gpus.iter().all(|gpu| {
        let processes = gpu.processes.as_ref();
        processes.is_ok_and(|each| each.iter().all(|process| process.seen != Pid::NotKnown))
    });
    let uses: Vec<u32> = uses(&[main], gpus).iter().map(|one| one.gpu).collect();
    match device {
        _ if is_sure && uses.len() == 1 => Some(uses[0]),
        Some(device) if is_sure => {
            let is_it = device.by != Named::Order && uses.contains(&device.gpu);
            is_it.then_some(device.gpu)
        }
        Some(device) => (device.by == Named::Uuid).then_some(device.gpu),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::domain::MigSample;

    fn reading(value: Result<f64, &str>) -> Reading {
        Reading {
            value: value.map_err(str::to_owned),
            at: Instant::now(),
            source: "nvml",
        }
    }

    fn gpu(index: u32, name: &str, uuid: &str) -> GpuSample {
        GpuSample {
            processes: Ok(Vec::new()),
            ..GpuSample::unknown(index, name, uuid, "not read", Instant::now())
        }
    }

    fn slice(index: u32, uuid: &str, gpu_instance: u32) -> MigSample {
        MigSample::unknown(index, uuid, (gpu_instance, 0), "not read", Instant::now())
    }

    fn process(pid: u32, used: Result<f64, &str>, seen: Pid) -> GpuProcess {
        GpuProcess {
            pid,
            used_bytes: reading(used),
            gpu_instance: None,
            command: String::new(),
            seen,
        }
    }

    fn alike() -> Vec<GpuSample> {
        ["GPU-aa11", "GPU-aa22", "GPU-bb33"]
            .iter()
            .zip(0..)
            .map(|(uuid, index)| gpu(index, "A", uuid))
            .collect()
    }

    #[test]
    fn cuda_visible_devices_is_read_as_cuda_reads_it() {
        let (all, none): (&[u32], &[u32]) = (&[0, 1, 2], &[]);
        let table: [(Option<&str>, &[u32]); 21] = [
            (None, all),
            (Some(""), none),
            (Some("-1"), none),
            (Some("NoDevFiles"), none),
            (Some("2"), &[2]),
            (Some("2,0"), &[2, 0]),
            (Some(" 1 , 0"), &[1, 0]),
            (Some("+1"), &[1]),
            (Some("1gpu,2"), &[1, 2]),
            (Some("1,-1,2"), &[1]),
            (Some("1,3,2"), &[1]),
            (Some("1,,2"), &[1]),
            (Some("0,1,0"), none),
            (Some("GPU-bb"), &[2]),
            (Some("GPU-bb33,GPU-aa1"), &[2, 0]),
            (Some("GPU-aa"), none), // it means two
            (Some("GPU-bb,1"), &[2]),
            (Some("GPU-bb,GPU-cc,GPU-aa1"), &[2]),
            (Some("GPU-bb,GPU-bb33"), none),
            (Some("MIG-1"), none),
            (Some("99999999999999999999"), none),
        ];
        for (text, expected) in table {
            let found = visible(text, &alike()).expect("they are all of one kind");
            let found: Vec<u32> = found.iter().map(|device| device.gpu).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn slices_are_named_and_never_counted() {
        let mut gpus = alike();
        gpus[1].mig = vec![slice(0, "MIG-c1", 3), slice(1, "MIG-c2", 4)];
        let table: [(&str, &[u32]); 7] = [
            ("MIG-c1", &[1]),
            ("MIG-c2,MIG-c1", &[1, 1]),
            ("MIG-c1,MIG-c1", &[]),
            ("MIG-GPU-aa22/4/0", &[1]),
            ("MIG-GPU-aa22/5/0", &[]),
            ("MIG-GPU-aa22", &[]),
            ("MIG-c", &[]),
        ];
        for (text, expected) in table {
            let found = visible(Some(text), &gpus).expect("a UUID is sure");
            let found: Vec<u32> = found.iter().map(|device| device.gpu).collect();
            assert_eq!(found, expected, "{text}");
        }
        for text in [None, Some("0")] {
            let why = visible(text, &gpus).expect_err("an index does not say which slice");
            assert!(why.contains("sliced"), "{why}");
        }
        assert_eq!(visible(Some(""), &gpus), Ok(Vec::new()));
    }

    #[test]
    fn with_several_kinds_an_index_is_not_known_and_a_uuid_is() {
        let gpus = [gpu(0, "A", "GPU-1"), gpu(1, "B", "GPU-2")];
        for text in [None, Some("1")] {
            let why = visible(text, &gpus).expect_err("the order is not known");
            assert!(why.contains("several kinds"), "{why}");
        }
        let named = VisibleDevice {
            gpu: 1,
            by: Named::Uuid,
        };
        assert_eq!(visible(Some("GPU-2"), &gpus), Ok(vec![named]));
    }

    #[test]
    fn use_is_summed_by_pid_and_not_known_where_the_driver_does_not_say() {
        let mut gpus = alike();
        gpus[0].processes = Ok(vec![
            process(1, Ok(10.0), Pid::Here),
            process(2, Ok(5.0), Pid::Here),
            process(9, Ok(7.0), Pid::Here),
        ]);
        gpus[2].processes = Ok(vec![process(1, Err("not said"), Pid::Here)]);
        let seen: Vec<_> = uses(&[1, 2], &gpus)
            .into_iter()
            .map(|one| (one.gpu, one.uuid, one.used_bytes.value))
            .collect();
        let expected = [
            (0, "GPU-aa11".to_owned(), Ok(15.0)),
            (2, "GPU-bb33".to_owned(), Err("not said".to_owned())),
        ];
        assert_eq!(seen, expected);
        gpus[1].processes = Err("GPU is lost".to_owned());
        let lost = &uses(&[1, 2], &gpus)[1];
        assert_eq!(
            (lost.gpu, &lost.used_bytes.value),
            (1, &Err("GPU is lost".to_owned()))
        );
    }

    #[test]
    fn a_pid_of_another_namespace_is_nobodys() {
        let mut gpus = alike();
        let other = || Some(Err(OTHER_NAMESPACE.to_owned()));
        let table = [
            (1, Pid::Here, Some(Ok(3.0))),
            (1, Pid::NotKnown, other()),
            (1, Pid::Elsewhere, None),
            (7, Pid::NotKnown, other()), // it may be 1 by another number
            (7, Pid::Here, None),
            (7, Pid::Elsewhere, None),
        ];
        for (pid, seen, expected) in table {
            gpus[0].processes = Ok(vec![process(pid, Ok(3.0), seen)]);
            let used = uses(&[1], &gpus[..1]).pop();
            assert_eq!(
                used.map(|used| used.used_bytes.value),
                expected,
                "{pid} {seen:?}"
            );
        }

        let run = RunId {
            name: Arc::from("digits"),
            launch: Arc::from("1"),
        };
        let mut owners = Owners::default();
        owners.add(&run, Rank(2), [1, 5]);
        let of = |pid, seen| {
            owners
                .of(&process(pid, Ok(1.0), seen))
                .map(|(_, rank)| *rank)
        };
        assert_eq!(of(5, Pid::Here), Some(Rank(2)));
        assert_eq!(of(5, Pid::NotKnown), None);
        assert_eq!(of(6, Pid::Here), None);
    }

    #[test]
    fn an_ordinal_is_a_gpu_where_the_driver_agrees_or_a_uuid_says_so() {
        let on = |which: &[u32]| {
            let mut gpus = alike();
            for index in which {
                gpus[*index as usize].processes = Ok(vec![process(1, Ok(1.0), Pid::Here)]);
            }
            gpus
        };
        let hidden = || {
            let mut gpus = alike();
            gpus[0].processes = Ok(vec![process(300, Ok(1.0), Pid::NotKnown)]);
            gpus
        };
        let table = [
            // The driver sees it on one GPU: that is it, whatever a container calls it.
            (Some(0), None, on(&[2]), Some(2)),
            (None, Some("1"), on(&[1]), Some(1)),
            // On several: the ordinal says which, if it is one of them.
            (Some(1), Some("0,1,2"), on(&[0, 1]), Some(1)),
            (Some(2), Some("0,1,2"), on(&[0, 1]), None),
            (Some(1), Some("2,0"), on(&[0, 2]), Some(0)),
            (Some(5), Some("0,1"), on(&[0, 1]), None),
            // The process may have chosen some itself, where nothing was set before.
            (Some(1), None, on(&[0, 1]), None),
            // On none: it has not begun, or it is another process's number.
            (Some(0), None, on(&[]), None),
            // Not known: an index is not sure, a UUID is.
            (Some(0), Some("1"), hidden(), None),
            (Some(0), Some("GPU-aa22"), hidden(), Some(1)),
            (None, Some("GPU-aa22"), hidden(), None),
        ];
        for (ordinal, text, gpus, expected) in table {
            let visible = visible(text, &gpus);
            assert_eq!(
                gpu_of(ordinal, &visible, 1, &gpus),
                expected,
                "{ordinal:?} {text:?}"
            );
        }
    }
}
