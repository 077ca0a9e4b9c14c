//! What `do` becomes.

use super::*;
use crate::domain::{Deed, Hold, Size};
use crate::hooks::Want;

fn decided(doing: &Value) -> (Vec<Decision>, Vec<String>) {
    let mut rule = rule(&[("when", text("loss > 3")), ("do", doing.clone())])
        .unwrap_or_else(|why| panic!("{doing}: {why}"));
    let decisions = put(&mut rule, &at(120, &[("loss", 4.5)]), &Memory::default());
    (decisions, rule.hook.take_errors())
}

#[test]
fn an_action_is_a_decision() {
    let lr = |hold| Decision::Want(Want::Lr { group: None, hold });
    let log = |level, text: &str| {
        Decision::Log(LogLine {
            level,
            text: text.to_owned(),
        })
    };
    let custom = |name: &str, json: &str| {
        Decision::Do(Deed::Custom {
            name: name.to_owned(),
            json: json.to_owned(),
        })
    };
    for (doing, decision) in [
        (
            "stop('loss is ' + loss)",
            Decision::Stop {
                reason: "loss is 4.5 (at iteration 120, epoch 1)".to_owned(),
                logs: vec![LogLine {
                    level: LogLevel::Info,
                    text: "loss is 4.5".to_owned(),
                }],
                incident: IncidentKind::ByHook,
            },
        ),
        (
            "log('at ' + iter + ': ' + loss)",
            log(LogLevel::Info, "at 120: 4.5"),
        ),
        ("log(loss * 2)", log(LogLevel::Info, "9")),
        ("log(1 + 2 + 'x' + (1 + 2))", log(LogLevel::Info, "3x3")),
        (
            "log('' + (loss > 3) + \"\\n\")",
            log(LogLevel::Info, "true"),
        ),
        (
            "warn('it\\'s \"high\"')",
            log(LogLevel::Warning, "it's \"high\""),
        ),
        (
            "incident('loss spike')",
            Decision::Incident("loss spike".to_owned()),
        ),
        ("lr(loss / 90)", lr(Hold::Value(0.05))),
        ("lr(0)", lr(Hold::Value(0.0))),
        ("lr_scale(0.5)", lr(Hold::Scale(0.5))),
        ("release_lr()", lr(Hold::Release)),
        (
            "size(640, 32 * 21)",
            Decision::Want(Want::Size(Size {
                height: 640,
                width: 672,
            })),
        ),
        (
            "mode()",
            Decision::Want(Want::Mode {
                from_epoch: None,
                skip_types: Vec::new(),
            }),
        ),
        (
            "checkpoint('spike-' + iter)",
            Decision::Do(Deed::Checkpoint {
                tag: "spike-120".to_owned(),
            }),
        ),
        ("custom('flush')", custom("flush", "")),
        (
            "custom('tell', '{\"loss\": ' + loss + '}')",
            custom("tell", "{\"loss\": 4.5}"),
        ),
    ] {
        assert_eq!(
            decided(&text(doing)),
            (vec![decision], Vec::new()),
            "{doing}"
        );
    }
}

#[test]
fn actions_come_in_their_order_and_one_that_cannot_be_done_is_an_error() {
    let doing = Value::List(vec![
        text("lr(loss - 9)"),
        text("size(loss, 640)"),
        text("custom('x', '{' + loss)"),
        text("incident('spike')"),
    ]);
    let (decisions, errors) = decided(&doing);
    assert_eq!(decisions, [Decision::Incident("spike".to_owned())]);
    assert_eq!(errors.len(), 3);
    for (error, says) in errors.iter().zip([
        "do[0]: a learning rate is held at, or scaled by, a finite number from 0 on; -4.5 is none",
        "do[1]: pixels are a whole number from 1 to 65536; 4.5 is none",
        "do[2]: {4.5 is no JSON",
    ]) {
        assert!(error.starts_with(says), "{error}");
        assert!(error.ends_with("(at iteration 120, epoch 1)"), "{error}");
    }
}
