//! Processes on a GPU. One that computes and draws, or that computes through MPS, is in several of the driver's lists with
//! the same memory: it is one process, and its memory counts once.

use std::time::Instant;

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::asked::{Asked, Unanswered};
use super::pids::Pids;
use super::slices::Slice;
use crate::domain::{GpuProcess, Reading};

const NOT_SAID: &str = "the driver does not say it for this process";

/// Everybody on a GPU. A sliced GPU may only say it slice by slice. Errors: a list is not known, so that all are not.
pub(super) fn ask(
    asked: &mut Asked<'_>,
    device: &Device<'_>,
    slices: &[Slice<'_>],
    pids: &Pids,
    now: Instant,
) -> Result<Vec<GpuProcess>, String> {
    let running = match lists(asked, device, None) {
        Err(whole) if !slices.is_empty() => {
            let each = slices.iter().map(|slice| {
                let mut running = lists(asked, &slice.device, Some(slice.index))?;
                for process in &mut running {
                    process.gpu_instance_id.get_or_insert(slice.gpu_instance);
                }
                Ok(running)
            });
            let each: Result<Vec<_>, Unanswered> = each.collect();
            each.map_err(|_| whole)
                .map(|each| each.into_iter().flatten().collect())
        }
        running => running,
    };
    let running = running.map_err(|unanswered| unanswered.why)?;
    Ok(merge(running)
        .into_iter()
        .map(|process| {
            let (seen, command) = pids.look(process.pid);
            GpuProcess {
                pid: process.pid,
                used_bytes: Reading {
                    value: bytes(&process)
                        .map(|bytes| bytes as f64)
                        .ok_or(NOT_SAID.to_owned()),
                    at: now,
                    source: "nvml",
                },
                gpu_instance: process.gpu_instance_id,
                command,
                seen,
            }
        })
        .collect())
}

fn lists(
    asked: &mut Asked<'_>,
    device: &Device<'_>,
    slice: Option<u32>,
) -> Result<Vec<ProcessInfo>, Unanswered> {
    let mut running = asked.ask_of(slice, "compute processes", || {
        device.running_compute_processes()
    })?;
    let graphics = asked.ask_of(slice, "graphics processes", || {
        or_none(device.running_graphics_processes())
    });
    let mps = asked.ask_of(slice, "MPS processes", || {
        or_none(device.mps_running_compute_processes())
    });
    for list in [graphics, mps] {
        match list {
            Ok(list) => running.extend(list),
            // A GPU that draws nothing, or has no MPS, has nobody there.
            Err(unanswered) if unanswered.is_unsupported => {}
            Err(unanswered) => return Err(unanswered),
        }
    }
    Ok(running)
}

/// A driver without the call has no such processes to tell of.
fn or_none(list: Result<Vec<ProcessInfo>, NvmlError>) -> Result<Vec<ProcessInfo>, NvmlError> {
    match list {
        Err(NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => Ok(Vec::new()),
        list => list,
    }
}

fn bytes(process: &ProcessInfo) -> Option<u64> {
    match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    }
}

/// In the order of first mention. Number 0 is anybody whom the driver does not name, not one process.
fn merge(running: Vec<ProcessInfo>) -> Vec<ProcessInfo> {
    let mut merged: Vec<ProcessInfo> = Vec::new();
    for process in running {
        let same = |other: &&mut ProcessInfo| {
            other.pid != 0
                && (other.pid, other.gpu_instance_id) == (process.pid, process.gpu_instance_id)
        };
        match merged.iter_mut().find(same) {
            Some(known) if bytes(known) < bytes(&process) => {
                known.used_gpu_memory = process.used_gpu_memory;
            }
            Some(_) => {}
            None => merged.push(process),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, used: Option<u64>, gpu_instance_id: Option<u32>) -> ProcessInfo {
        ProcessInfo {
            pid,
            used_gpu_memory: used.map_or(UsedGpuMemory::Unavailable, UsedGpuMemory::Used),
            gpu_instance_id,
            compute_instance_id: None,
        }
    }

    #[test]
    fn a_process_in_several_lists_is_one_and_counts_once() {
        let running = vec![
            process(1, Some(10), None),
            process(2, None, None),
            process(0, Some(3), None),
            process(5, Some(6), Some(1)),
            // graphics
            process(1, Some(10), None),
            process(2, Some(4), None),
            process(3, None, None),
            process(0, Some(3), None),
            process(5, Some(7), Some(2)),
        ];
        let merged: Vec<_> = merge(running)
            .iter()
            .map(|process| (process.pid, bytes(process), process.gpu_instance_id))
            .collect();
        let expected = [
            (1, Some(10), None),
            (2, Some(4), None),
            (0, Some(3), None),
            (5, Some(6), Some(1)),
            (3, None, None),
            (0, Some(3), None),
            (5, Some(7), Some(2)),
        ];
        assert_eq!(merged, expected);
    }
}
