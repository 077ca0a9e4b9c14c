//! One GPU: what is remembered of it, and its turn.

use std::time::Instant;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::{Device, Nvml};

use super::asked::{Asked, Ended, LOST, Refused, Unanswered};
use super::pids::Pids;
use super::{memory, processes, slices};
use crate::domain::{GpuSample, MigSample, Reading};

const SOURCE: &str = "nvml";
/// As NVIDIA's documentation of MIG has it.
const SLICED: &str = "not supported by the driver while the GPU is sliced (MIG)";

/// What stays from turn to turn.
#[derive(Debug, Default)]
pub(super) struct Card {
    name: Option<String>,
    uuid: Option<String>,
    refused: Refused,
    sliced: bool,
    slices: Vec<MigSample>,
    unified: bool,
}

impl Card {
    /// After the driver was opened anew: it may answer otherwise, and the index may be another GPU's.
    pub(super) fn forget_answers(&mut self) {
        self.refused.clear();
    }

    /// Its identity, once it was read.
    pub(super) fn uuid(&self) -> Option<&str> {
        self.uuid.as_deref()
    }

    /// It is there, and cannot be read.
    pub(super) fn unknown(&self, index: u32, why: &str, now: Instant) -> GpuSample {
        let or_why = |known: &Option<String>| known.clone().unwrap_or(format!("unknown: {why}"));
        let (name, uuid) = (or_why(&self.name), or_why(&self.uuid));
        GpuSample {
            mig: self.unknown_slices(why, now),
            unified: self.unified,
            ..GpuSample::unknown(index, &name, &uuid, why, now)
        }
    }

    fn unknown_slices(&self, why: &str, now: Instant) -> Vec<MigSample> {
        let each = self.slices.iter().map(|slice| {
            let instances = (slice.gpu_instance, slice.compute_instance);
            MigSample::unknown(slice.index, &slice.uuid, instances, why, now)
        });
        each.collect()
    }

    /// Reads it once. Second: what ended the turn before everything was asked.
    pub(super) fn read(
        &mut self,
        nvml: &Nvml,
        index: u32,
        pids: &Pids,
        now: Instant,
    ) -> (GpuSample, Option<Ended>) {
        let mut refused = std::mem::take(&mut self.refused);
        let mut asked = Asked::new(&mut refused);
        let device = asked.ask("the device", || nvml.device_by_index(index));
        let sample =
            device.and_then(|device| self.sample(&mut asked, nvml, &device, index, pids, now));
        let ended = asked.ended();
        self.refused = refused;
        let sample = match (sample, &ended) {
            (Ok(sample), None) => sample,
            // What was read before it went is no whole.
            (Ok(_), Some(ended)) => self.unknown(index, ended.why(), now),
            (Err(unanswered), _) => self.unknown(index, &unanswered.why, now),
        };
        (sample, ended)
    }

    fn sample(
        &mut self,
        asked: &mut Asked<'_>,
        nvml: &Nvml,
        device: &Device<'_>,
        index: u32,
        pids: &Pids,
        now: Instant,
    ) -> Result<GpuSample, Unanswered> {
        let uuid = asked.ask("UUID", || device.uuid());
        if let Ok(uuid) = uuid {
            if self.uuid.as_ref().is_some_and(|known| *known != uuid) {
                *self = Self::default();
                asked.ask_all_again();
            }
            self.uuid = Some(uuid);
        }
        if self.name.is_none() {
            self.name = asked.ask("name", || device.name()).ok();
        }
        // As it was, where it cannot be read now.
        let sliced = slices::is_sliced(asked, device).unwrap_or(self.sliced);
        if sliced != self.sliced {
            // What a whole GPU does not support its slices may, and the other way round.
            self.sliced = sliced;
            asked.ask_all_again();
        }
        let slices = if sliced {
            slices::ask(asked, nvml, device)
        } else {
            Ok(Vec::new())
        };
        let memory = asked.ask("memory", || memory::ask(nvml, device));
        let is_unsupported = |unanswered: &Unanswered| unanswered.is_unsupported;
        self.unified = !sliced && memory.as_ref().is_err_and(is_unsupported);
        let [total_bytes, used_bytes, free_bytes, reserved_bytes] = memory::readings(&memory, now);
        let busy = asked.ask("utilisation", || device.utilization_rates());
        let busy = busy.map_err(|mut unanswered| {
            if sliced && unanswered.is_unsupported {
                unanswered.why = SLICED.to_owned();
            }
            unanswered
        });
        let sensor = TemperatureSensor::Gpu;
        let temperature = asked.ask("temperature", || device.temperature(sensor));
        let power = asked.ask("power", || device.power_usage());
        let each = slices.as_deref().unwrap_or_default();
        let running = processes::ask(asked, device, each, pids, now);
        self.slices = match &slices {
            Ok(slices) => {
                let each = slices.iter();
                each.map(|slice| slice_sample(asked, nvml, slice, now))
                    .collect()
            }
            Err(unanswered) => self.unknown_slices(&unanswered.why, now),
        };
        let unnamed = |known: &Option<String>| known.clone().unwrap_or("unknown".to_owned());
        Ok(GpuSample {
            index,
            name: unnamed(&self.name),
            uuid: unnamed(&self.uuid),
            total_bytes,
            used_bytes,
            free_bytes,
            reserved_bytes,
            memory_busy_percent: reading(&busy, |busy| f64::from(busy.memory), now),
            utilization_percent: reading(&busy, |busy| f64::from(busy.gpu), now),
            temperature_celsius: reading(&temperature, |celsius| f64::from(*celsius), now),
            power_watts: reading(&power, |milliwatts| f64::from(*milliwatts) / 1000.0, now),
            processes: running,
            processes_at: now,
            mig: self.slices.clone(),
            unified: self.unified,
        })
    }
}

impl Ended {
    fn why(&self) -> &str {
        match self {
            Ended::Lost => LOST,
            Ended::Driver(why) => why,
        }
    }
}

fn slice_sample(
    asked: &mut Asked<'_>,
    nvml: &Nvml,
    slice: &slices::Slice<'_>,
    now: Instant,
) -> MigSample {
    let place = Some(slice.index);
    let uuid = asked.ask_of(place, "UUID", || slice.device.uuid());
    let memory = asked.ask_of(place, "memory", || memory::ask(nvml, &slice.device));
    let [total_bytes, used_bytes, free_bytes, reserved_bytes] = memory::readings(&memory, now);
    MigSample {
        index: slice.index,
        uuid: uuid.unwrap_or_else(|unanswered| format!("unknown: {}", unanswered.why)),
        gpu_instance: slice.gpu_instance,
        compute_instance: slice.compute_instance,
        total_bytes,
        used_bytes,
        free_bytes,
        reserved_bytes,
    }
}

fn reading<T>(answer: &Result<T, Unanswered>, number: impl Fn(&T) -> f64, now: Instant) -> Reading {
    match answer {
        Ok(value) => Reading::known(number(value), now, SOURCE),
        Err(unanswered) => Reading::unknown(&unanswered.why, now, SOURCE),
    }
}
