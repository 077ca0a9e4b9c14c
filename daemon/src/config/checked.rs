//! What was said, made into the [`Config`]: the last step of the walk. Single values fit their keys by now; where keys must
//! fit each other, the section's own file judges.

use std::collections::HashMap;

use super::hook_tables::Table;
use super::walk::Walk;
use super::{
    Config, Drain, Log, LogFormat, Recording, SessionLimits, access, journal, listen, modules,
    printed,
};
use crate::domain::Value;
use crate::sampler::{Rate, Settings};

pub(super) fn config(walk: &mut Walk, env: &HashMap<String, String>, hooks: Vec<Table>) -> Config {
    Config {
        listen: listen::listen(walk, env),
        tokens: access::tokens(walk),
        record: Recording {
            enabled: walk.flag("record", "enabled"),
            every: walk.whole("record", "every"),
            fields: texts(&walk.get("record", "fields").value),
        },
        log: Log {
            level: walk.text("log", "level"),
            filter: env
                .get("RUST_LOG")
                .filter(|filter| !filter.is_empty())
                .cloned(),
            format: if walk.text("log", "format") == "json" {
                LogFormat::Json
            } else {
                LogFormat::Text
            },
            file: walk.path("log", "file"),
            colour: !env.contains_key("NO_COLOR"),
        },
        limits: SessionLimits {
            sessions: walk.size("sessions"),
            frame_bytes: walk.size("frame_bytes"),
            string_bytes: walk.size("string_bytes"),
            fields: walk.size("fields"),
            batch_events: walk.size("batch_events"),
            in_flight_bytes: walk.size("in_flight_bytes"),
            metrics: walk.size("metrics"),
            stall_budget: number(walk, "limits", "stall_budget"),
            probe: walk.ms("limits", "probe_ms"),
        },
        sampler: Settings {
            host: rate(walk, "host_ms", "host_budget_percent"),
            process: rate(walk, "process_ms", "process_budget_percent"),
            children: rate(walk, "children_ms", "children_budget_percent"),
            smaps: rate(walk, "smaps_ms", "smaps_budget_percent"),
            cgroup: rate(walk, "cgroup_ms", "cgroup_budget_percent"),
            shm: rate(walk, "shm_ms", "shm_budget_percent"),
            gpu_rate: rate(walk, "gpu_ms", "gpu_budget_percent"),
            gpu: walk.flag("sampler", "gpu"),
            nvml_library: walk.path("sampler", "nvml_library"),
            ..Settings::default()
        },
        keep: journal::keep(walk, env),
        read_only: false,
        drain: Drain {
            deadline: walk.ms("drain", "deadline_ms"),
        },
        printed: printed::printed(walk, &hooks),
        failures: u32::try_from(walk.whole("providers", "failures")).unwrap_or(u32::MAX),
        providers: modules::settings(walk, env, &hooks),
        hooks: hooks
            .into_iter()
            .filter(|table| table.module.is_none())
            .map(|table| table.request)
            .collect(),
        notify_socket: env
            .get("NOTIFY_SOCKET")
            .filter(|name| !name.is_empty())
            .cloned(),
    }
}

fn rate(walk: &Walk, interval: &'static str, budget: &'static str) -> Rate {
    Rate {
        interval: walk.ms("sampler", interval),
        budget_percent: number(walk, "sampler", budget),
    }
}

fn number(walk: &Walk, section: &'static str, name: &'static str) -> f64 {
    match walk.get(section, name).value {
        Value::Number(number) => number,
        _ => 0.0,
    }
}

pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items
            .iter()
            .map(|item| {
                if let Value::Text(text) = item {
                    text.clone()
                } else {
                    item.to_string()
                }
            })
            .collect(),
        _ => Vec::new(),
    }
}
