//! CheckInvalidLossHook: the real hook, and the same as a rule, with the client's compiled plan over sequences of losses.

use hookbusd::domain::{Event, LogLevel, LogLine, Names, Position, Subscription, When};
use hookbusd::hooks::{Configured, Decision, Origin, build};
use serde_json::{Value as Json, json};

use super::recorded::{Fixed, Outcome, Verdict, call, due, equal, hook, integers, number, request};

pub(super) fn decide(case: &Json) -> Outcome {
    over_losses(as_a_rule(&case["config"])?, case).map_err(|why| format!("as a rule: {why}"))?;
    over_losses(hook("CheckInvalidLossHook", &case["config"])?, case)
}

/// The cases of one value are tensors, which Python's tests put to the client. Where it is one real number, both decide on it.
#[test]
fn one_value_is_a_sequence_of_one() {
    let path = super::oracle().join("check_invalid_loss.json");
    let text = std::fs::read_to_string(&path).expect("the recorded cases");
    let file: Json = serde_json::from_str(&text).expect("JSON");
    let cases = file["cases"].as_array().expect("cases");
    let of_one: Vec<_> = cases.iter().filter_map(as_sequence).collect();
    assert_eq!(
        of_one.len(),
        29,
        "of 34; the others are no real number, or several"
    );
    for case in &of_one {
        if let Err(why) = decide(case) {
            panic!("{}: {why}", case["name"]);
        }
    }
}

/// None: no case of one real number.
fn as_sequence(case: &Json) -> Option<Json> {
    let (loss, expected) = (&case["input"]["loss"], &case["expected"]);
    let dtype = loss["dtype"].as_str()?;
    if case["kind"] != "value" || dtype.starts_with("complex") {
        return None;
    }
    let mut value = &loss["value"];
    while let Some(items) = value.as_array() {
        let [item] = items.as_slice() else {
            return None;
        };
        value = item;
    }
    let (at, logs) = (&case["input"]["start_iter"], &expected["logs"]);
    let raised = !expected["raised"].is_null();
    Some(json!({
        "name": case["name"],
        "config": case["config"],
        "input": {"start_iter": at, "dtype": dtype, "losses": [value]},
        "expected": {
            "checked_iters": [at],
            "raised_iters": if raised { json!([at]) } else { json!([]) },
            "first_raise": if raised { json!({"iter": at, "logs": logs}) } else { Json::Null },
            "n_logs": logs.as_array()?.len(),
        },
    }))
}

/// As the rule's page has it.
fn as_a_rule(config: &Json) -> Result<Configured, String> {
    let interval = config.get("interval").cloned();
    let asked = json!({
        "at": "after_train_iter",
        "every": interval.unwrap_or(json!(50)),
        "gate": true,
        "when": "!is_finite(loss)",
        "do": "stop('loss become infinite or NaN!')",
        "otherwise": "stop",
    });
    build(&request("Rule", &asked), Origin::Config)
}

fn over_losses(mut configured: Configured, case: &Json) -> Outcome {
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
        let loss = in_dtype(number(loss), input["dtype"].as_str());
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
                let info = |line: &LogLine| (line.level == LogLevel::Info, line.text.clone());
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
    equal(
        "checked_iters",
        checked,
        integers(&expected["checked_iters"]),
    )?;
    equal(
        "first_raise.iter",
        raised.first().copied(),
        first["iter"].as_u64(),
    )?;
    equal("raised_iters", raised, integers(&expected["raised_iters"]))?;
    equal("n_logs", Some(logs), expected["n_logs"].as_u64())?;
    equal("first_raise.logs", first_logs, recorded_logs)?;
    Ok(if first.is_null() {
        Verdict::Matched
    } else {
        Verdict::Differing // the exception's text is ours
    })
}

/// The value as a tensor of this dtype has it: it may overflow. torch goes through float32 to the half floats.
fn in_dtype(loss: f64, dtype: Option<&str>) -> f64 {
    let narrow = f64::from(loss as f32);
    let infinite_from = match dtype {
        Some("float32") => return narrow,
        Some("float16") => 65_520.0,
        Some("bfloat16") => (2.0 - 2f64.powi(-8)) * 2f64.powi(127),
        _ => return loss,
    };
    if narrow.abs() >= infinite_from {
        f64::INFINITY.copysign(narrow)
    } else {
        narrow
    }
}
