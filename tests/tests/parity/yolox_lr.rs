//! YOLOXLrUpdaterHook: whole curves, bit for bit, and the hash over all values. The reference is glibc's libm.

use hookbusd::domain::{Curve, Facts, ParamGroup, Position, Standing};
use hookbusd::hooks::Ahead;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::recorded::{Outcome, Verdict, count, equal, hook, list, number, optional_count};

pub(super) fn decide(kind: &str, case: &Json) -> Outcome {
    let facts = facts(&case["input"])?;
    let expected = &case["expected"];
    let built = hook("YOLOXLrUpdaterHook", &case["config"]);
    if kind == "constructor_error" && built.is_ok() {
        return Err("it builds".to_owned());
    }
    let decided = built.and_then(|mut configured| configured.hook.ahead(&facts, "recorded"));
    match (decided, expected["raised"].is_null()) {
        (Ok(ahead), true) => {
            let rates = Rates::new(&ahead, &case["input"], facts.groups.len())?;
            compare(&rates, facts.position.iter, facts.groups.len(), expected)?;
            Ok(Verdict::Matched)
        }
        (Err(why), true) => Err(format!("refused: {why}")),
        (Ok(_), false) => Err(format!("not refused; recorded {}", expected["raised"])),
        (Err(why), false) => {
            if expected["raised"]["type"] == "ZeroDivisionError" {
                equal(
                    "a refusal of the division",
                    why.contains("divides by zero"),
                    true,
                )?;
            }
            Ok(Verdict::Differing)
        }
    }
}

fn facts(input: &Json) -> Result<Facts, String> {
    let lrs = list(input, "param_group_lrs")?;
    let group = |(at, lr): (usize, &Json)| {
        let stored = &input["initial_lr"][at];
        ParamGroup {
            base_lr: number(if stored.is_null() { lr } else { stored }),
            name: String::new(),
        }
    };
    Ok(Facts {
        max_epochs: optional_count(input, "max_epochs")?,
        max_iters: optional_count(input, "max_iters")?,
        iters_per_epoch: optional_count(input, "epoch_len")?,
        groups: lrs.iter().enumerate().map(group).collect(),
        position: Position {
            epoch: count(input, "start_epoch")?,
            iter: count(input, "start_iter")?,
            inner_iter: 0,
        },
        ..Facts::default()
    })
}

/// What each group trains with.
enum Rates<'a> {
    Curves(Vec<&'a Curve>),
    /// The optimizer's own.
    Untouched(Vec<f64>),
}

impl<'a> Rates<'a> {
    fn new(ahead: &'a Ahead, input: &Json, groups: usize) -> Result<Self, String> {
        match &ahead.standing {
            None => Ok(Self::Untouched(
                list(input, "param_group_lrs")?.iter().map(number).collect(),
            )),
            Some(Standing::Rates {
                curves,
                group_curve,
            }) => {
                equal("groups", group_curve.len(), groups)?;
                Ok(Self::Curves(
                    group_curve
                        .iter()
                        .map(|curve| &curves[*curve as usize])
                        .collect(),
                ))
            }
            other => Err(format!("it decides {other:?}")),
        }
    }

    fn at(&self, group: usize, iter: u64) -> Result<f64, String> {
        match self {
            Self::Untouched(lrs) => Ok(lrs[group]),
            Self::Curves(curves) => {
                let curve = curves[group];
                let at = iter
                    .checked_sub(curve.first_iter)
                    .and_then(|at| curve.values.get(usize::try_from(at).ok()?));
                at.copied()
                    .ok_or_else(|| format!("group {group} has no value for iteration {iter}"))
            }
        }
    }
}

fn compare(rates: &Rates<'_>, start: u64, groups: usize, expected: &Json) -> Result<(), String> {
    let ran = start..start + count(expected, "n_iters_run")?;
    let sampled = match &expected["iters"] {
        Json::Null => ran.clone().collect(),
        _ => super::recorded::integers(&expected["iters"]),
    };
    let recorded = list(expected, "lr")?;
    equal("groups", groups, recorded.len())?;
    for (group, lr) in recorded.iter().enumerate() {
        let lr = lr.as_array().ok_or("lr is no list of lists")?;
        equal("recorded iterations", sampled.len(), lr.len())?;
        for (iter, lr) in sampled.iter().zip(lr) {
            let (ours, lr) = (rates.at(group, *iter)?, number(lr));
            if ours.to_bits() != lr.to_bits() {
                return Err(format!(
                    "iteration {iter} group {group}: {ours:?}, recorded {lr:?}"
                ));
            }
        }
    }
    let mut hash = Sha256::new();
    for iter in ran {
        for group in 0..groups {
            hash.update(rates.at(group, iter)?.to_le_bytes());
        }
    }
    let hex: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    equal("sha256", Some(hex.as_str()), expected["sha256"].as_str())
}
