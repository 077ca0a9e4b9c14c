//! MemoryProfilerHook: the line's text, psutil's formulas over /proc, and which iterations are logged.

use std::time::Instant;

use hookbusd::domain::{HostSample, Position};
use hookbusd::hooks::memory_profiler::line;
use hookbusd::sampler::host::parse;
use serde_json::Value as Json;

use super::recorded::{Outcome, Verdict, due, equal, hook, integers, number};

/// What a case may ask for.
const MOST_ITERS: u64 = 10_000_000;

pub(super) fn decide(kind: &str, case: &Json) -> Outcome {
    match kind {
        "statm" => statm(case)?,
        "overridden_stages" => stages(case)?,
        kind if kind.starts_with("iters_") => iters(case)?,
        kind if kind.starts_with("text_") => text(case)?,
        _ => meminfo(case)?,
    }
    Ok(Verdict::Matched)
}

fn statm(case: &Json) -> Result<(), String> {
    let pages: u64 = case["input"]["statm"]
        .as_str()
        .and_then(|text| text.split_whitespace().nth(1)?.parse().ok())
        .expect("field 2");
    let bytes = (pages * case["input"]["page_size"].as_u64().expect("page_size")) as f64;
    let expected = &case["expected"];
    equal(
        "process_memory_mib",
        Some(bytes / 1_048_576.0),
        expected["process_memory_mib"].as_f64(),
    )?;
    let text = line(&Err("not looked at".to_owned()), Some(bytes));
    let rounded = expected["rounded_mb"].as_i64().expect("rounded_mb");
    equal(
        "rounded_mb",
        text.ends_with(&format!("current_process_memory: {rounded} MB")),
        true,
    )
}

fn stages(case: &Json) -> Result<(), String> {
    let configured = hook("MemoryProfilerHook", &case["config"])?;
    let mut points: Vec<_> = configured
        .hook
        .subscriptions()
        .into_iter()
        .map(|wish| wish.point)
        .collect();
    points.sort();
    let stages = case["expected"]["triggered_stages"]
        .as_array()
        .expect("stages");
    equal(
        "triggered_stages",
        points,
        stages
            .iter()
            .map(|stage| stage.as_str().unwrap_or("?").to_owned())
            .collect(),
    )
}

fn iters(case: &Json) -> Result<(), String> {
    let configured = hook("MemoryProfilerHook", &case["config"])?;
    let input = &case["input"];
    let stage = input["stage"].as_str().expect("stage");
    let wish = configured
        .hook
        .subscriptions()
        .into_iter()
        .find(|wish| wish.point == stage)
        .ok_or("no such point")?;
    let first = input["first_batch_idx"].as_u64().expect("first_batch_idx");
    let iter = input["runner_iter_at_first"].as_u64().unwrap_or(0);
    let count = input["n"].as_u64().expect("n");
    if count > MOST_ITERS {
        return Err(format!(
            "n is {count}; at most {MOST_ITERS} iterations are tried"
        ));
    }
    let logged = (0..count).filter(|at| {
        due(
            wish.every,
            Position {
                epoch: 0,
                iter: iter + at,
                inner_iter: first + at,
            },
        )
    });
    equal(
        "logged_batch_idx",
        logged.map(|at| first + at).collect(),
        integers(&case["expected"]["logged_batch_idx"]),
    )
}

fn logged(host: HostSample, process_memory_mib: f64, expected: &Json) -> Result<(), String> {
    // The hook takes bytes, the recorded reader gave MiB: both are exact powers of two apart.
    let text = line(&Ok(host), Some(process_memory_mib * 1_048_576.0));
    equal("log", Some(text.as_str()), expected["log"].as_str())?;
    equal("level", expected["level"].as_str(), Some("INFO"))
}

fn text(case: &Json) -> Result<(), String> {
    let input = &case["input"];
    let bytes = |key: &str| input[key].as_u64().unwrap_or_else(|| panic!("{key}"));
    let host = HostSample {
        at: Instant::now(),
        total_bytes: 0,
        available_bytes: bytes("virtual_available"),
        used_bytes: bytes("virtual_used"),
        used_percent: number(&input["virtual_percent"]),
        swap_total_bytes: bytes("swap_total"),
        swap_used_bytes: bytes("swap_used"),
        swap_used_percent: number(&input["swap_percent"]),
    };
    logged(
        host,
        number(&input["process_memory_mib"]),
        &case["expected"],
    )
}

fn meminfo(case: &Json) -> Result<(), String> {
    let input = &case["input"];
    let expected = &case["expected"]["psutil_7.2.2"];
    let page_bytes = input["page_size"].as_u64().unwrap_or(4096);
    let host = parse(
        input["meminfo"].as_str().expect("meminfo"),
        input["zoneinfo"].as_str(),
        page_bytes,
        Instant::now(),
    )?;
    for (what, ours, recorded) in [
        ("total", host.total_bytes, &expected["virtual"]["total"]),
        (
            "available",
            host.available_bytes,
            &expected["virtual"]["available"],
        ),
        ("used", host.used_bytes, &expected["virtual"]["used"]),
        (
            "swap.total",
            host.swap_total_bytes,
            &expected["swap"]["total"],
        ),
        ("swap.used", host.swap_used_bytes, &expected["swap"]["used"]),
    ] {
        equal(what, Some(ours), recorded.as_u64())?;
    }
    equal(
        "percent",
        Some(host.used_percent),
        expected["virtual"]["percent"].as_f64(),
    )?;
    equal(
        "swap.percent",
        Some(host.swap_used_percent),
        expected["swap"]["percent"].as_f64(),
    )?;
    logged(host, number(&input["process_memory_mib"]), expected)
}
