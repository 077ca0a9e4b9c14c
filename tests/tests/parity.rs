//! Parity: the real hook code of hookbusd and the client's compiled plan, put through what the genuine hooks were recorded
//! to do. Reads the directory named by `HOOKBUS_ORACLE` (default `tests/oracle`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use hookbus_client::plan::is_due;
use hookbus_client::wire;
use hookbusd::domain::{
    Base, Event, Every, HookRequest, HostSample, LogLevel, Names, Position, Rank, Subscription,
    Value, When,
};
use hookbusd::hooks::memory_profiler::line;
use hookbusd::hooks::{Configured, Context, Decision, Origin, Seen, build};
use hookbusd::sampler::host::parse;
use hookbusd::store::View;
use serde_json::Value as Json;

/// Kinds that the daemon decides, by file; a name that ends in `*` stands for every kind that begins so.
const DAEMON: &[(&str, &[&str])] = &[
    ("check_invalid_loss", &["seq_*"]),
    (
        "memory_profiler",
        &[
            "text_*",
            "meminfo_*",
            "statm",
            "iters_*",
            "overridden_stages",
        ],
    ),
];

/// Kinds where an adapter acts in the trainer: tensor types, real runners.
const PYTHON: &[(&str, &[&str])] = &[
    ("check_invalid_loss", &["value", "not_a_tensor"]),
    ("call_sequence", &["*"]),
];

/// Kinds of hooks that are not built yet. Empty when all eight are.
const NOT_BUILT: &[(&str, &[&str])] = &[
    ("helpers", &["*"]),
    ("num_class_check", &["*"]),
    ("set_epoch_info", &["*"]),
    ("sync_norm", &["*"]),
    ("sync_random_size", &["*"]),
    ("yolox_lr", &["*"]),
    ("yolox_mode_switch", &["*"]),
];

/// What is meant to differ. Never a decision.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[(
    "check_invalid_loss seq_*",
    "first_raise.type, str, args",
    "hookbus.TrainingStopped (an AssertionError) whose text is the reason",
    "the original's message is None, which tells nobody anything",
)];

#[derive(Debug, Default, PartialEq)]
struct Tally {
    matched: usize,
    differing: usize,
    python: usize,
    not_built: usize,
    failed: Vec<String>,
}

enum Verdict {
    Matched,
    Differing,
    Failed(String),
}

fn listed(list: &[(&str, &[&str])], file: &str, kind: &str) -> bool {
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == *pattern,
    };
    list.iter()
        .any(|(name, kinds)| *name == file && kinds.iter().any(fits))
}

#[test]
fn the_recorded_cases() {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("oracle");
    let folder = std::env::var_os("HOOKBUS_ORACLE").map_or(default, PathBuf::from);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("HOOKBUS_ORACLE {}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    println!(
        "{:<24}{:>9}{:>11}{:>9}{:>11}{:>8}",
        "file", "matched", "differing", "Python", "not built", "failed"
    );
    let mut all = BTreeMap::new();
    for path in files {
        let file = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path).expect("readable");
        let json: Json = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let Some(cases) = json["cases"].as_array() else {
            continue;
        };
        let mut tally = Tally::default();
        for case in cases {
            let (name, kind) = (
                case["name"].as_str().unwrap_or("?"),
                case["kind"].as_str().unwrap_or("?"),
            );
            if listed(DAEMON, &file, kind) {
                match decide(&file, kind, case) {
                    Verdict::Matched => tally.matched += 1,
                    Verdict::Differing => tally.differing += 1,
                    Verdict::Failed(why) => tally.failed.push(format!("{file} {name}: {why}")),
                }
            } else if listed(PYTHON, &file, kind) {
                tally.python += 1;
            } else if listed(NOT_BUILT, &file, kind) {
                tally.not_built += 1;
            } else {
                tally
                    .failed
                    .push(format!("{file} {name}: kind {kind:?} is on no list"));
            }
        }
        let Tally {
            matched,
            differing,
            python,
            not_built,
            failed,
        } = &tally;
        println!(
            "{file:<24}{matched:>9}{differing:>11}{python:>9}{not_built:>11}{:>8}",
            failed.len()
        );
        all.insert(file, tally);
    }
    println!("\ndiffering by design:");
    for (kind, field, ours, why) in DIFFERENCES {
        println!("  {kind}: {field}: {ours}; {why}");
    }
    let failed: Vec<_> = all.values().flat_map(|tally| &tally.failed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let decided: usize = all
        .values()
        .map(|tally| tally.matched + tally.differing)
        .sum();
    assert!(
        decided > 0,
        "{} has no case that the daemon decides",
        folder.display()
    );
}

fn decide(file: &str, kind: &str, case: &Json) -> Verdict {
    let checked = match (file, kind) {
        ("check_invalid_loss", _) => return losses(case),
        (_, "statm") => statm(case),
        (_, "overridden_stages") => stages(case),
        (_, kind) if kind.starts_with("iters_") => iters(case),
        (_, kind) if kind.starts_with("text_") => text(case),
        _ => meminfo(case),
    };
    match checked {
        Ok(()) => Verdict::Matched,
        Err(why) => Verdict::Failed(why),
    }
}

fn hook(type_name: &str, config: &Json) -> Configured {
    let args = config
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let value = match value {
                Json::Number(number) if number.is_i64() => {
                    Value::Integer(number.as_i64().expect("it is one"))
                }
                Json::Number(number) => Value::Number(number.as_f64().expect("it is one")),
                other => Value::Text(other.to_string()),
            };
            (key.clone(), value)
        });
    let request = HookRequest {
        type_name: type_name.into(),
        name: type_name.into(),
        args: args.collect(),
    };
    build(&request, Origin::Trainer).unwrap_or_else(|why| panic!("{type_name} {config}: {why}"))
}

/// Daemon and client must agree on what is due.
fn due(every: Every, at: Position) -> bool {
    let base = match every.base {
        Base::Always => wire::Base::Unspecified,
        Base::Iter => wire::Base::Iter,
        Base::InnerIter => wire::Base::InnerIter,
        Base::Epoch => wire::Base::Epoch,
    };
    let ours = hookbus_client::Position {
        epoch: at.epoch,
        iter: at.iter,
        inner_iter: at.inner_iter,
    };
    let theirs = is_due(
        &wire::Every {
            base: base.into(),
            n: every.n,
            start: every.start,
        },
        ours,
    );
    assert_eq!(
        every.is_due(at),
        theirs,
        "daemon and client disagree on {every:?} at {at:?}"
    );
    theirs
}

fn number(value: &Json) -> f64 {
    match value.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        Some(other) => panic!("no number: {other:?}"),
        None => value
            .as_f64()
            .unwrap_or_else(|| panic!("no number: {value}")),
    }
}

fn integers(value: &Json) -> Vec<u64> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| item.as_u64().expect("an integer"))
        .collect()
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, recorded: T) -> Result<(), String> {
    if ours == recorded {
        Ok(())
    } else {
        Err(format!("{what}: {ours:?}, recorded {recorded:?}"))
    }
}

struct Fixed(Result<HostSample, String>);

impl View for Fixed {
    fn host(&self) -> Result<HostSample, String> {
        self.0.clone()
    }
}

fn call(
    configured: &mut Configured,
    point: &str,
    event: &Event,
    names: &Names,
    view: &Fixed,
) -> Vec<Decision> {
    let seen = Seen {
        rank: Rank(0),
        point,
        event,
        names,
    };
    configured.hook.on_event(
        &Context {
            now: Instant::now(),
            view,
        },
        &seen,
    )
}

fn losses(case: &Json) -> Verdict {
    let mut configured = hook("CheckInvalidLossHook", &case["config"]);
    let wish: Subscription = configured.hook.subscriptions().remove(0);
    let (input, expected) = (&case["input"], &case["expected"]);
    let start = input["start_iter"].as_u64().expect("start_iter");
    let names = Names {
        points: vec!["after_train_iter".into()],
        metrics: vec!["loss".into()],
    };
    let view = Fixed(Err("not looked at".to_owned()));
    let (mut checked, mut raised, mut logs, mut first_logs) = (Vec::new(), Vec::new(), 0, None);
    for (at, loss) in input["losses"]
        .as_array()
        .expect("losses")
        .iter()
        .enumerate()
    {
        let iter = start + at as u64;
        let position = Position {
            epoch: 0,
            iter,
            inner_iter: iter,
        };
        if !due(wish.every, position) {
            continue;
        }
        checked.push(iter);
        // The value as the tensor had it: its dtype may overflow.
        let loss = match input["dtype"].as_str() {
            Some("float32") => f64::from(number(loss) as f32),
            Some("float16") if number(loss).abs() >= 65520.0 => {
                f64::INFINITY.copysign(number(loss))
            }
            _ => number(loss),
        };
        let gate = wish.when != When::NotFinite("loss".into()) || !loss.is_finite();
        let event = Event {
            position,
            metrics: vec![0],
            values: vec![loss],
            ..Event::default()
        };
        let decisions = if gate {
            call(&mut configured, "after_train_iter", &event, &names, &view)
        } else {
            Vec::new()
        };
        for decision in decisions {
            if let Decision::Stop { logs: lines, .. } = decision {
                raised.push(iter);
                logs += lines.len() as u64;
                let info = |line: &hookbusd::domain::LogLine| {
                    (line.level == LogLevel::Info, line.text.clone())
                };
                first_logs.get_or_insert_with(|| lines.iter().map(info).collect::<Vec<_>>());
            }
        }
    }
    let first = &expected["first_raise"];
    let recorded_logs = first["logs"].as_array().map(|lines| {
        let line = |line: &Json| {
            (
                line[0] == "INFO",
                line[1].as_str().unwrap_or("?").to_owned(),
            )
        };
        lines.iter().map(line).collect::<Vec<_>>()
    });
    let compared = equal(
        "checked_iters",
        checked,
        integers(&expected["checked_iters"]),
    )
    .and_then(|()| {
        equal(
            "first_raise.iter",
            raised.first().copied(),
            first["iter"].as_u64(),
        )
    })
    .and_then(|()| equal("raised_iters", raised, integers(&expected["raised_iters"])))
    .and_then(|()| equal("n_logs", Some(logs), expected["n_logs"].as_u64()))
    .and_then(|()| equal("first_raise.logs", first_logs, recorded_logs));
    match compared {
        Err(why) => Verdict::Failed(why),
        Ok(()) if first.is_null() => Verdict::Matched,
        // The exception's text is ours.
        Ok(()) => Verdict::Differing,
    }
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
    let configured = hook("MemoryProfilerHook", &case["config"]);
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
    let configured = hook("MemoryProfilerHook", &case["config"]);
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
