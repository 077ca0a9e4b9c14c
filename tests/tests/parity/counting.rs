//! MMEngine's predicates over counts; where a plan can say the same, the client's compiled plan too.

use hookbusd::domain::counting::{
    end_of_epoch, every_n, every_n_inner_iters, is_last_train_epoch, is_last_train_iter,
};
use hookbusd::domain::{Base, Every, Interval, Position};
use serde_json::Value as Json;

use super::recorded::{Outcome, Verdict, due, equal, number, whole};

pub(super) fn decide(kind: &str, case: &Json) -> Outcome {
    let (config, input, expected) = (&case["config"], &case["input"], &case["expected"]);
    let result = match kind {
        "every_n_epochs" | "every_n_train_iters" | "every_n_inner_iters" => {
            let Some(n) = interval(&config["n"]) else {
                // No hook builds with it.
                return if expected["raised"].is_null() {
                    Err(format!("n is {}, no number", config["n"]))
                } else {
                    Ok(Verdict::Differing)
                };
            };
            every(kind, n, config, input)?
        }
        "end_of_epoch" => {
            end_of_epoch(whole(input, "batch_idx")?, whole(input, "len(dataloader)")?)
        }
        "is_last_train_epoch" => {
            is_last_train_epoch(whole(input, "epoch")?, whole(input, "max_epochs")?)
        }
        "is_last_train_iter" => {
            is_last_train_iter(whole(input, "iter")?, whole(input, "max_iters")?)
        }
        other => return Err(format!("no predicate {other:?}")),
    };
    equal("raised", expected["raised"].is_null(), true)?;
    equal("result", Some(result), expected["result"].as_bool())?;
    Ok(Verdict::Matched)
}

/// As Python compares: True is 1.
fn interval(n: &Json) -> Option<Interval> {
    match n {
        Json::Bool(flag) => Some(Interval::Whole(i64::from(*flag))),
        Json::Number(n) => n
            .as_i64()
            .map(Interval::Whole)
            .or_else(|| n.as_f64().map(Interval::Real)),
        Json::String(text) if ["nan", "inf", "-inf"].contains(&text.as_str()) => {
            Some(Interval::Real(number(n)))
        }
        _ => None,
    }
}

fn every(kind: &str, n: Interval, config: &Json, input: &Json) -> Result<bool, String> {
    let (base, at) = match kind {
        "every_n_epochs" => (Base::Epoch, whole(input, "epoch")?),
        "every_n_train_iters" => (Base::Iter, whole(input, "iter")?),
        _ => (Base::InnerIter, whole(input, "batch_idx")?),
    };
    let start = if config["start"].is_null() {
        0
    } else {
        whole(config, "start")?
    };
    let result = if base == Base::InnerIter {
        every_n_inner_iters(at, n)
    } else {
        every_n(at, n, start)
    };
    // A plan has no position before the first, and a whole n.
    if let (Ok(at), Some(n)) = (u64::try_from(at), n.whole()) {
        let position = Position {
            epoch: at,
            iter: at,
            inner_iter: at,
        };
        equal(
            "due by plan",
            due(Every { base, n, start }, position),
            result,
        )?;
    }
    Ok(result)
}
