//! One GPU: its memory, what else the driver says, its slices, and whose the processes on it are.

use hookbus_client::inspect::proto::{Gpu, GpuProcess, MigDevice};

use super::{Readings, percent};
use crate::format;
use crate::table::one_line;

/// Of a process's name so much is shown.
const NAME: usize = 40;

pub(super) fn table(gpu: &Gpu) -> String {
    let mut table = Readings::new();
    table.add("total", gpu.total_bytes.as_ref(), format::bytes);
    table.add("used", gpu.used_bytes.as_ref(), format::bytes);
    table.add("reserved", gpu.reserved_bytes.as_ref(), format::bytes);
    table.add("free", gpu.free_bytes.as_ref(), format::bytes);
    table.add("busy", gpu.utilization_percent.as_ref(), percent);
    table.add("memory busy", gpu.memory_busy_percent.as_ref(), percent);
    table.add("temperature", gpu.temperature_celsius.as_ref(), |value| {
        format!("{value:.0} C")
    });
    table.add("power", gpu.power_watts.as_ref(), |value| {
        format!("{value:.0} W")
    });
    for slice in &gpu.mig {
        slice_rows(&mut table, slice);
    }
    for process in &gpu.processes {
        table.add(
            &process_title(process),
            process.used_bytes.as_ref(),
            format::bytes,
        );
    }
    let mut text = table.render();
    if gpu.unified {
        text.push_str("  it has no memory of its own: it uses the host's\n");
    }
    if !gpu.processes_unknown.is_empty() {
        text.push_str(&format!(
            "  processes unknown: {}\n",
            one_line(&gpu.processes_unknown)
        ));
    }
    text
}

fn slice_rows(table: &mut Readings, slice: &MigDevice) {
    let title = format!(
        "slice {} (GI {}, CI {})",
        slice.index, slice.gpu_instance, slice.compute_instance
    );
    table.add(&title, slice.total_bytes.as_ref(), format::bytes);
    table.add("  used", slice.used_bytes.as_ref(), format::bytes);
    table.add("  reserved", slice.reserved_bytes.as_ref(), format::bytes);
    table.add("  free", slice.free_bytes.as_ref(), format::bytes);
}

/// "process 4711 python3, digits@1 rank 0, GI 3".
fn process_title(process: &GpuProcess) -> String {
    let mut title = format!("process {}", process.pid);
    if !process.command.is_empty() {
        let name: String = process.command.chars().take(NAME).collect();
        title.push_str(&format!(" {name}"));
    }
    if let Some(rank) = process.rank {
        title.push_str(&format!(", {} rank {rank}", process.run));
    }
    if let Some(gpu_instance) = process.gpu_instance {
        title.push_str(&format!(", GI {gpu_instance}"));
    }
    title
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::Reading;

    use super::*;

    fn mib(value: f64) -> Option<Reading> {
        Some(Reading {
            value: Some(value * 1024.0 * 1024.0),
            age_s: 0.2,
            source: "nvml".into(),
            ..Default::default()
        })
    }

    fn unknown(why: &str) -> Option<Reading> {
        Some(Reading {
            unknown: why.into(),
            source: "nvml".into(),
            ..Default::default()
        })
    }

    #[test]
    fn a_sliced_gpu_shows_its_slices_and_whose_the_processes_are() {
        let gpu = Gpu {
            total_bytes: mib(40960.0),
            used_bytes: mib(1000.0),
            reserved_bytes: mib(600.0),
            free_bytes: mib(39360.0),
            utilization_percent: unknown("not supported while sliced"),
            mig: vec![MigDevice {
                index: 1,
                gpu_instance: 3,
                compute_instance: 0,
                total_bytes: mib(9856.0),
                used_bytes: mib(900.0),
                reserved_bytes: mib(0.0),
                free_bytes: mib(8956.0),
                ..Default::default()
            }],
            processes: vec![
                GpuProcess {
                    pid: 4711,
                    used_bytes: mib(880.0),
                    command: "python3".into(),
                    run: "digits@1".into(),
                    rank: Some(0),
                    gpu_instance: Some(3),
                },
                GpuProcess {
                    pid: 9,
                    used_bytes: unknown("the driver does not say it"),
                    ..Default::default()
                },
            ],
            ..Default::default()
        };
        let page = table(&gpu);
        for words in [
            " reserved 600.0 MiB ",
            " free 38.4 GiB ",
            " busy unknown: not supported while sliced - nvml",
            " slice 1 (GI 3, CI 0) 9.6 GiB ",
            " used 900.0 MiB ",
            " process 4711 python3, digits@1 rank 0, GI 3 880.0 MiB ",
            " process 9 unknown: the driver does not say it",
        ] {
            let words = one_blank(words);
            assert!(
                one_blank(&page).contains(&words),
                "{words:?} is missing in:\n{page}"
            );
        }
    }

    /// Columns are as wide as what is in them.
    fn one_blank(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_gpu_without_memory_of_its_own_says_so_and_is_not_zero() {
        let gpu = Gpu {
            total_bytes: unknown("not supported"),
            unified: true,
            processes_unknown: "GPU is lost".into(),
            ..Default::default()
        };
        let page = table(&gpu);
        assert!(
            page.contains("total        unknown: not supported"),
            "{page}"
        );
        assert!(page.contains("it uses the host's"), "{page}");
        assert!(page.contains("processes unknown: GPU is lost"), "{page}");
    }
}
