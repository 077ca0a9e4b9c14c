//! Parity: the real hook code of hookbusd and the client's compiled plan, put through what the genuine hooks were recorded
//! to do. Reads the directory named by `HOOKBUS_ORACLE` (default `tests/oracle`).

mod check_invalid_loss;
mod counting;
mod memory_profiler;
mod num_class_check;
mod recorded;
mod set_epoch_info;
mod sync_norm;
mod sync_random_size;
mod yolox_lr;
mod yolox_mode_switch;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use hookbusd::hooks::{Difference, LIST, Recorded};
use serde_json::Value as Json;

use recorded::{Outcome, Verdict};

/// By file: kinds. A name that ends in `*` stands for every kind that begins so.
type Kinds = &'static [(&'static str, &'static [&'static str])];

/// Kinds that the daemon decides, all of it.
const DAEMON: Kinds = &[
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
    ("helpers", &["*"]),
    (
        "sync_random_size",
        &[
            "default",
            "interval",
            "interval_offset",
            "img_scale",
            "ratio_range",
            "ratio_none",
            "errors",
            "negative_interval",
            "other_random_use",
            "world*",
        ],
    ),
    ("yolox_lr", &["*"]),
    ("yolox_mode_switch", &["overridden_stages"]),
];

/// Kinds that the daemon decides, and where an adapter says what it decides from or carries it out in the trainer: the
/// decision is compared here, the rest in Python.
const SHARED: Kinds = &[
    ("num_class_check", &["*"]),
    ("set_epoch_info", &["epochs"]),
    ("sync_norm", &["*"]),
    (
        "yolox_mode_switch",
        &[
            "switch_point",
            "default_config",
            "resume",
            "persistent*",
            "model_*",
            "skip_type_keys",
            "iter_based",
            "real_dataloader",
        ],
    ),
];

/// Kinds where an adapter acts in the trainer: tensor types, devices, datasets, real runners.
const PYTHON: Kinds = &[
    ("check_invalid_loss", &["value", "not_a_tensor"]),
    ("call_sequence", &["*"]),
    ("set_epoch_info", &["no_set_epoch"]),
    (
        "sync_random_size",
        &["default_device_cuda_on_cpu_host", "genuine_dataset"],
    ),
];

/// Kinds of hooks that are not built yet. Empty when all eight are.
const NOT_BUILT: Kinds = &[];

/// What is meant to differ, as the hooks say it on their pages; once where several say it.
fn differences() -> Vec<(&'static Recorded, &'static Difference)> {
    let mut found: Vec<(&Recorded, &Difference)> = Vec::new();
    for difference in LIST.iter().flat_map(|kind| kind.page.differences) {
        if let Some(recorded) = &difference.recorded
            && !found.iter().any(|(_, other)| *other == difference)
        {
            found.push((recorded, difference));
        }
    }
    found
}

/// Whether a page says that something in cases of this kind is meant to differ.
fn is_said(file: &str, kind: &str) -> bool {
    let said = |(recorded, _): &(&Recorded, _)| {
        recorded.file == file && recorded.kinds.iter().any(|pattern| fits(pattern, kind))
    };
    differences().iter().any(said)
}

#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    matched: usize,
    differing: usize,
    /// Of those: the effects are for Python to check.
    shared: usize,
    python: usize,
    not_built: usize,
    failed: Vec<String>,
}

fn fits(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == pattern,
    }
}

fn listed(list: Kinds, file: &str, kind: &str) -> bool {
    list.iter()
        .any(|(name, kinds)| *name == file && kinds.iter().any(|pattern| fits(pattern, kind)))
}

impl Tally {
    fn take(&mut self, file: &str, case: &Json) {
        let (name, kind) = (
            case["name"].as_str().unwrap_or("?"),
            case["kind"].as_str().unwrap_or("?"),
        );
        self.cases += 1;
        let shared = listed(SHARED, file, kind);
        self.shared += usize::from(shared);
        if shared || listed(DAEMON, file, kind) {
            let decided = catch_unwind(AssertUnwindSafe(|| decide(file, kind, case)));
            match decided.unwrap_or_else(|panic| Err(panic_text(&*panic))) {
                Ok(Verdict::Matched) => self.matched += 1,
                Ok(Verdict::Differing) if is_said(file, kind) => self.differing += 1,
                Ok(Verdict::Differing) => self.failed.push(format!(
                    "{file} {name}: it differs, and no hook's page says so of {kind:?}"
                )),
                Err(why) => self.failed.push(format!("{file} {name}: {why}")),
            }
        } else if listed(PYTHON, file, kind) {
            self.python += 1;
        } else if listed(NOT_BUILT, file, kind) {
            self.not_built += 1;
        } else {
            self.failed
                .push(format!("{file} {name}: kind {kind:?} is on no list"));
        }
    }

    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.matched += other.matched;
        self.differing += other.differing;
        self.shared += other.shared;
        self.python += other.python;
        self.not_built += other.not_built;
        self.failed.extend(other.failed);
    }

    fn print(&self, name: &str) {
        println!(
            "{name:<24}{:>7}{:>9}{:>11}{:>14}{:>13}{:>11}{:>8}",
            self.cases,
            self.matched,
            self.differing,
            self.shared,
            self.python,
            self.not_built,
            self.failed.len()
        );
    }
}

fn decide(file: &str, kind: &str, case: &Json) -> Outcome {
    match file {
        "check_invalid_loss" => check_invalid_loss::decide(case),
        "helpers" => counting::decide(kind, case),
        "memory_profiler" => memory_profiler::decide(kind, case),
        "num_class_check" => num_class_check::decide(case),
        "set_epoch_info" => set_epoch_info::decide(case),
        "sync_norm" => sync_norm::decide(case),
        "sync_random_size" => sync_random_size::decide(case),
        "yolox_lr" => yolox_lr::decide(kind, case),
        "yolox_mode_switch" => yolox_mode_switch::decide(kind, case),
        other => Err(format!("nothing here decides {other}")),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a text"))
}

#[test]
fn what_is_meant_to_differ_names_kinds_that_are_recorded() {
    for (recorded, difference) in differences() {
        let (file, what) = (recorded.file, difference.what);
        for kind in recorded.kinds {
            let known = [DAEMON, SHARED, PYTHON].iter().any(|list| {
                let of_file = |(name, _): &(&str, _)| *name == file;
                listed(list, file, kind) || (*kind == "*" && list.iter().any(of_file))
            });
            assert!(known, "{what}: {file} has no kind {kind:?}");
        }
    }
}

/// Where the recorded cases are.
fn oracle() -> PathBuf {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("oracle");
    std::env::var_os("HOOKBUS_ORACLE").map_or(default, PathBuf::from)
}

#[test]
fn the_recorded_cases() {
    let folder = oracle();
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
        "{:<24}{:>7}{:>9}{:>11}{:>14}{:>13}{:>11}{:>8}",
        "file",
        "cases",
        "matched",
        "differing",
        "(and Python)",
        "Python only",
        "not built",
        "failed"
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
            tally.take(&file, case);
        }
        tally.print(&file);
        all.insert(file, tally);
    }
    let mut sum = Tally::default();
    for (_, tally) in all {
        sum.add(tally);
    }
    sum.print("all");
    println!("\ndiffering by design:");
    for (recorded, difference) in differences() {
        let (file, kinds, fields) = (recorded.file, recorded.kinds.join(", "), recorded.fields);
        let (what, ours, why) = (difference.what, difference.ours, difference.why);
        println!("  {file} {kinds}: {fields}: {what}: {ours}; {why}");
    }
    assert!(sum.failed.is_empty(), "{:#?}", sum.failed);
    let decided = sum.matched + sum.differing;
    assert_eq!(
        decided + sum.python + sum.not_built,
        sum.cases,
        "a case was dropped"
    );
    assert!(
        decided > 0,
        "{} has no case that the daemon decides",
        folder.display()
    );
}
