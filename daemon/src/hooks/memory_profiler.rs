//! MemoryProfilerHook: a line on host memory, swap and the trainer's own process in the trainer's log. What it sees, when it
//! fires and what it does is on its page, below.

mod truth;

use super::{
    Arg, Context, Decision, Difference, Hook, INTERVAL_IS_A_NUMBER, Kind, Page, Recorded, Seen,
};
use crate::domain::{Base, Every, HostSample, LogLevel, LogLine, Subscription};

const POINTS: [&str; 3] = ["after_train_iter", "after_val_iter", "after_test_iter"];

pub(super) const KIND: Kind = Kind {
    type_name: "MemoryProfilerHook",
    summary: "writes host memory, swap and the trainer's own memory to the trainer's log",
    points: &POINTS,
    effect: "a log line",
    args: &[
        Arg {
            name: "interval",
            default: "50",
            help: "write every n inner iterations; 0 or less: never",
        },
        Arg {
            name: "truth",
            default: "true",
            help: "a second line: what binds this training, and what it uses of it",
        },
    ],
    example: &[],
    config_only: false,
    page: Page {
        original: "MMDetection 3.3.0",
        sees: "The host's memory and swap, as the daemon samples them, and the trainer's own resident memory, which the trainer \
             reads where the hook is due: without its children, as in MMDetection.",
        fires: "Every `interval` iterations of the epoch, the validation or the test. The count begins anew with each: 49 \
             iterations an epoch with an interval of 50 never give a line.",
        does: "It writes MMDetection's line to the trainer's log at INFO; \"MB\" are MiB, rounded half to even:\n\
             `Memory information available_memory: 12004 MB, used_memory: 3800 MB, memory_utilization: 24.1 %, \
             available_swap_memory: 0 MB, used_swap_memory: 0 MB, swap_memory_utilization: 0.0 %, current_process_memory: 512 \
             MB`\n\
             and below it, unless `truth` is false, what is true in a container too: the working set against the limit of the \
             training's cgroup, the PSS of its data-loader workers, /dev/shm as it sees it, and what it uses of each GPU:\n\
             `Memory of this training working_set: 3120 MB of 8192 MB (38.1 %), workers_pss: 812 MB in 4, shm: 12 of 64 MB, \
             gpu: 20310 MB on 0`\n\
             Of a trainer whose process the daemon cannot see (another container or host) it has what its client sends of \
             itself, and how old that is: \
             `Memory of this training (as its client says, 3 s old) working_set: 3120 MB of 8192 MB (38.1 %), children_rss: \
             2240 MB in 4, shm: 12 of 64 MB, gpu: unknown (pid namespace not shared)`\n\
             The training never waits for it. Children, data-loader workers and GPUs are in `hookbus memory RUN`.",
        differences: &[
            Difference {
                what: "the time that a line takes",
                ours: "that of one event",
                why: "the original blocks the training for 0.1 s a line: it sleeps",
                recorded: None,
            },
            Difference {
                what: "a second line",
                ours: "there is one, unless `truth` is false",
                why: "the original's numbers are the whole machine's, also in a container, and count no worker",
                recorded: None,
            },
            Difference {
                what: "when the line is written",
                ours: "at the next point that the training reaches once the daemon has answered",
                why: "the training does not wait for it",
                recorded: None,
            },
            Difference {
                what: "`used_memory`",
                ours: "total less available, as psutil 7 has it, on every machine",
                why: "the original's number depends on the psutil that is installed",
                recorded: Some(Recorded {
                    file: "memory_profiler",
                    kinds: &["meminfo_*"],
                    fields: "psutil_5.9.8",
                }),
            },
            Difference {
                what: "a number that cannot be read",
                ours: "`unknown`, with the reason",
                why: "0 or a guess would be read as a measurement",
                recorded: None,
            },
            INTERVAL_IS_A_NUMBER,
        ],
        more: None,
    },
    build: |args| {
        Ok(Box::new(MemoryProfilerHook {
            interval: args.interval("interval")?.whole().unwrap_or(0),
            truth: args.flag("truth")?,
        }))
    },
};

/// See the module.
#[derive(Debug)]
pub struct MemoryProfilerHook {
    interval: i64,
    truth: bool,
}

impl Hook for MemoryProfilerHook {
    fn subscriptions(&self) -> Vec<Subscription> {
        let every = Every::n(Base::InnerIter, self.interval);
        POINTS
            .map(|point| Subscription::observe(point, every, &["rss_bytes"]))
            .to_vec()
    }

    fn on_event(&mut self, cx: &Context<'_>, seen: &Seen<'_>) -> Vec<Decision> {
        let info = |text| {
            Decision::Log(LogLine {
                level: LogLevel::Info,
                text,
            })
        };
        let own = seen.event.rss_bytes.map(|bytes| bytes as f64);
        let mut lines = vec![info(line(&cx.view.host(), own))];
        if self.truth {
            let devices = cx.view.devices(seen.rank);
            let numbers = match cx.view.process(seen.rank) {
                Ok(sample) => Ok(truth::seen(&sample)),
                Err(why) => {
                    let said = cx.view.said(seen.rank);
                    said.map(|said| truth::said(&said, cx.now)).ok_or(why)
                }
            };
            lines.push(info(truth::line(numbers, &devices)));
        }
        lines
    }
}

/// MiB, rounded half to even as Python's `round` does.
fn mib(bytes: f64) -> String {
    format!("{}", (bytes / (1 << 20) as f64).round_ties_even() as i64)
}

/// A float as Python prints it: `6.0`, `1e-05`, `nan`.
fn python_float(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent
                .strip_prefix('-')
                .map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text.to_lowercase(),
    }
}

/// The line of the original. A float prints as Python prints it: `6.0`, never `6`.
pub fn line(host: &Result<HostSample, String>, rss_bytes: Option<f64>) -> String {
    let field = |get: fn(&HostSample) -> f64, shown: fn(f64) -> String| {
        host.as_ref()
            .map_or_else(|why| format!("unknown ({why})"), |host| shown(get(host)))
    };
    let bytes = |get| field(get, |bytes| format!("{} MB", mib(bytes)));
    let percent = |get| field(get, |percent| format!("{} %", python_float(percent)));
    let own = rss_bytes.map_or_else(
        || "unknown (the trainer could not read its own statm)".to_owned(),
        |rss| format!("{} MB", mib(rss)),
    );
    format!(
        "Memory information available_memory: {}, used_memory: {}, memory_utilization: {}, available_swap_memory: {}, \
         used_swap_memory: {}, swap_memory_utilization: {}, current_process_memory: {own}",
        bytes(|host| host.available_bytes as f64),
        bytes(|host| host.used_bytes as f64),
        percent(|host| host.used_percent),
        bytes(|host| host.swap_total_bytes as f64 - host.swap_used_bytes as f64),
        bytes(|host| host.swap_used_bytes as f64),
        percent(|host| host.swap_used_percent),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_line_is_the_originals() {
        let host = HostSample {
            at: Instant::now(),
            total_bytes: 16 << 30,
            available_bytes: 3 << 19, // 1.5 MiB
            used_bytes: 5 << 19,      // 2.5 MiB
            used_percent: 6.0,
            swap_total_bytes: 0,
            swap_used_bytes: 0,
            swap_used_percent: 0.0,
        };
        assert_eq!(
            line(&Ok(host), Some(0.5 * 1_048_576.0)),
            "Memory information available_memory: 2 MB, used_memory: 2 MB, memory_utilization: 6.0 %, \
             available_swap_memory: 0 MB, used_swap_memory: 0 MB, swap_memory_utilization: 0.0 %, current_process_memory: 0 MB"
        );
    }

    #[test]
    fn what_is_not_known_is_not_zero() {
        let text = line(&Err("no /proc".to_owned()), None);
        assert_eq!(text.matches("unknown (no /proc)").count(), 6, "{text}");
        assert!(
            text.ends_with(
                "current_process_memory: unknown (the trainer could not read its own statm)"
            ),
            "{text}"
        );
        assert!(!text.contains(" 0"), "{text}");
    }
}
