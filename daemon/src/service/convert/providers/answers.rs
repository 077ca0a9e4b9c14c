//! What a hook of a provider says to a call, checked. Whether there was such a call is the run's to know.

use hookbus_proto::v1::{self as wire, hook_decision::What, lr_order::How};
use tonic::Status;

use super::incoming::invalid;
use super::offer::{MISTAKE_BYTES, cut, line};
use crate::domain::{Deed, Hold, IncidentKind, LogLevel, LogLine, Size, StateText};
use crate::hooks::{Decision, Want};
use crate::providers::{Answer, Raised};
use crate::service::convert::Limits;
use crate::service::convert::incoming::{name, text};

/// Of one hook in one run.
const STATE_BYTES: usize = 1 << 20;
/// Of a traceback in the daemon's log.
const TRACEBACK_BYTES: usize = 16 << 10;
/// Of one answer, and lines of the log of one stop.
const DECISIONS: usize = 64;

/// What is wrong in it is a failure of that hook in that call: the provider's other hooks go on.
pub(super) fn answer(what: &str, said: wire::Answer, limits: &Limits) -> Answer {
    let state = said.state_json.map(|json| state(what, &json)).transpose();
    let decisions = if said.error.is_empty() {
        decisions(what, said.decisions, limits)
    } else {
        Err(Raised {
            error: line(said.error, limits),
            traceback: cut(said.traceback, TRACEBACK_BYTES),
        })
    };
    let (decisions, state) = match state {
        Ok(state) => (decisions, state),
        Err(status) => (decisions.and(Err(not_valid(&status))), None),
    };
    Answer {
        id: said.id,
        decisions,
        state,
    }
}

fn decisions(
    what: &str,
    said: Vec<wire::HookDecision>,
    limits: &Limits,
) -> Result<Vec<Decision>, Raised> {
    let each = said.into_iter().enumerate();
    bounded(&format!("{what}.decisions"), each.len())
        .and_then(|()| {
            each.map(|(at, said)| decision(&format!("{what}.decisions[{at}]"), said.what, limits))
                .collect()
        })
        .map_err(|status| not_valid(&status))
}

fn not_valid(status: &Status) -> Raised {
    Raised {
        error: cut(status.message().to_owned(), MISTAKE_BYTES),
        traceback: String::new(),
    }
}

fn bounded(what: &str, count: usize) -> Result<(), Status> {
    if count > DECISIONS {
        return Err(invalid(&format!(
            "{what} has {count} entries, more than {DECISIONS}"
        )));
    }
    Ok(())
}

fn state(what: &str, json: &str) -> Result<StateText, Status> {
    if json.len() > STATE_BYTES {
        return Err(invalid(&format!(
            "{what}.state_json has {} bytes, more than {STATE_BYTES}: keep less, or keep it elsewhere",
            json.len()
        )));
    }
    StateText::new(json).map_err(|error| invalid(&format!("{what}.state_json is no JSON: {error}")))
}

fn decision(what: &str, said: Option<What>, limits: &Limits) -> Result<Decision, Status> {
    let said = said.ok_or_else(|| {
        invalid(&format!(
            "{what} is empty, or of a kind that this daemon does not know"
        ))
    })?;
    Ok(match said {
        What::Stop(stop) => {
            bounded(&format!("{what}.stop.logs"), stop.logs.len())?;
            let logs = stop.logs.into_iter();
            let logs = logs.map(|said| log_line(&format!("{what}.stop.logs"), said, limits));
            Decision::Stop {
                reason: name(&format!("{what}.stop.reason"), stop.reason, limits)?,
                logs: logs.collect::<Result<_, _>>()?,
                incident: IncidentKind::ByHook,
            }
        }
        What::Log(said) => Decision::Log(log_line(&format!("{what}.log"), said, limits)?),
        What::Lr(lr) => Decision::Want(Want::Lr {
            group: lr.group,
            hold: match lr.how {
                Some(How::Value(value)) if value.is_finite() => Hold::Value(value),
                Some(How::Scale(scale)) if scale.is_finite() => Hold::Scale(scale),
                Some(How::Release(_)) => Hold::Release,
                Some(How::Value(number) | How::Scale(number)) => {
                    return Err(invalid(&format!("{what}.lr is {number}: no learning rate")));
                }
                None => {
                    return Err(invalid(&format!(
                        "{what}.lr has neither value, scale nor release"
                    )));
                }
            },
        }),
        What::Size(size) if size.height > 0 && size.width > 0 => Decision::Want(Want::Size(Size {
            height: size.height,
            width: size.width,
        })),
        What::Size(size) => {
            return Err(invalid(&format!(
                "{what}.size is {} x {}: a size has both",
                size.height, size.width
            )));
        }
        What::Mode(mode) => {
            bounded(&format!("{what}.mode.skip_types"), mode.skip_types.len())?;
            let skip = mode.skip_types.into_iter();
            let skip = skip.map(|one| name(&format!("{what}.mode.skip_types"), one, limits));
            Decision::Want(Want::Mode {
                from_epoch: mode.from_epoch,
                skip_types: skip.collect::<Result<_, _>>()?,
            })
        }
        What::SetEpoch(on) => Decision::Want(Want::SetEpoch(on)),
        What::SyncNorm(on) => Decision::Want(Want::SyncNorm(on)),
        What::Checkpoint(save) => Decision::Do(Deed::Checkpoint {
            tag: text(&format!("{what}.checkpoint.tag"), save.tag, limits)?,
        }),
        What::Custom(custom) => {
            if !custom.json.is_empty()
                && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&custom.json)
            {
                return Err(invalid(&format!("{what}.custom.json is no JSON: {error}")));
            }
            Decision::Do(Deed::Custom {
                name: name(&format!("{what}.custom.name"), custom.name, limits)?,
                json: text(&format!("{what}.custom.json"), custom.json, limits)?,
            })
        }
        What::Incident(said) => {
            name(&format!("{what}.incident"), said.clone(), limits)?;
            Decision::Incident(said)
        }
    })
}

/// A line for the trainer's log. It may be long: it is cut.
fn log_line(what: &str, said: wire::LogLine, limits: &Limits) -> Result<LogLine, Status> {
    if said.text.is_empty() {
        return Err(invalid(&format!("{what}.text is empty")));
    }
    Ok(LogLine {
        level: match said.level() {
            wire::LogLevel::Debug => LogLevel::Debug,
            wire::LogLevel::Info | wire::LogLevel::Unspecified => LogLevel::Info,
            wire::LogLevel::Warning => LogLevel::Warning,
            wire::LogLevel::Error => LogLevel::Error,
        },
        text: cut(said.text, limits.string_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::convert::incoming::LIMITS;

    fn one(what: What) -> Result<Decision, String> {
        let said = wire::Answer {
            decisions: vec![wire::HookDecision { what: Some(what) }],
            ..Default::default()
        };
        let answer = answer("Answers.answers[2]", said, &LIMITS);
        let mut decisions = answer.decisions.map_err(|raised| raised.error)?;
        Ok(decisions.remove(0))
    }

    #[test]
    fn each_decision_becomes_a_word() {
        let lr = |how| {
            What::Lr(wire::LrOrder {
                group: Some(1),
                how: Some(how),
            })
        };
        let hold = |hold| {
            Decision::Want(Want::Lr {
                group: Some(1),
                hold,
            })
        };
        let size = wire::SizeOrder {
            height: 32,
            width: 64,
        };
        let line = |text: &str| wire::LogLine {
            text: text.into(),
            ..Default::default()
        };
        let info = |text: &str| LogLine {
            level: LogLevel::Info,
            text: text.to_owned(),
        };
        for (said, taken) in [
            (
                What::Stop(wire::StopDecision {
                    reason: "why".into(),
                    logs: vec![line("first")],
                }),
                Decision::Stop {
                    reason: "why".into(),
                    logs: vec![info("first")],
                    incident: IncidentKind::ByHook,
                },
            ),
            (What::Log(line("it")), Decision::Log(info("it"))),
            (lr(How::Value(0.5)), hold(Hold::Value(0.5))),
            (lr(How::Scale(2.0)), hold(Hold::Scale(2.0))),
            (lr(How::Release(true)), hold(Hold::Release)),
            (
                What::Size(size),
                Decision::Want(Want::Size(Size {
                    height: 32,
                    width: 64,
                })),
            ),
            (
                What::Mode(wire::ModeDecision {
                    from_epoch: Some(3),
                    skip_types: vec!["Mosaic".into()],
                }),
                Decision::Want(Want::Mode {
                    from_epoch: Some(3),
                    skip_types: vec!["Mosaic".into()],
                }),
            ),
            (What::SetEpoch(true), Decision::Want(Want::SetEpoch(true))),
            (What::SyncNorm(false), Decision::Want(Want::SyncNorm(false))),
            (
                What::Checkpoint(wire::SaveCheckpoint { tag: "best".into() }),
                Decision::Do(Deed::Checkpoint { tag: "best".into() }),
            ),
            (
                What::Custom(wire::Custom {
                    name: "n".into(),
                    json: "[1]".into(),
                }),
                Decision::Do(Deed::Custom {
                    name: "n".into(),
                    json: "[1]".into(),
                }),
            ),
            (
                What::Incident("odd".into()),
                Decision::Incident("odd".into()),
            ),
        ] {
            assert_eq!(one(said), Ok(taken));
        }
    }

    #[test]
    fn each_mistake_is_named() {
        let lr = |how| What::Lr(wire::LrOrder { group: None, how });
        for (said, text) in [
            (
                What::Stop(wire::StopDecision::default()),
                "stop.reason is empty",
            ),
            (What::Log(wire::LogLine::default()), "log.text is empty"),
            (lr(None), "lr has neither value, scale nor release"),
            (
                lr(Some(How::Value(f64::NAN))),
                "lr is NaN: no learning rate",
            ),
            (What::Size(wire::SizeOrder::default()), "size is 0 x 0"),
            (
                What::Custom(wire::Custom {
                    name: "n".into(),
                    json: "{".into(),
                }),
                "custom.json is no JSON: ",
            ),
            (What::Incident(String::new()), "incident is empty"),
        ] {
            let message = one(said).expect_err("it is wrong");
            let text = format!("Answers.answers[2].decisions[0].{text}");
            assert!(message.contains(&text), "{message:?} does not say {text:?}");
        }
        let unknown = wire::Answer {
            decisions: vec![wire::HookDecision { what: None }],
            ..Default::default()
        };
        let error = |said| {
            let raised = answer("a", said, &LIMITS).decisions;
            raised.expect_err("it is wrong").error
        };
        assert!(error(unknown).contains("a.decisions[0] is empty, or of a kind"));
        let large = wire::Answer {
            state_json: Some(format!("\"{}\"", "x".repeat(STATE_BYTES))),
            ..Default::default()
        };
        assert!(error(large).contains("a.state_json has 1048578 bytes"));
        for (state, text) in [
            ("{\"n\": NaN}", "a.state_json is no JSON: "),
            ("-Infinity", "a.state_json is no JSON: "),
            ("{\"n\": 1", "a.state_json is no JSON: "),
        ] {
            let said = wire::Answer {
                state_json: Some(state.to_owned()),
                ..Default::default()
            };
            let error = error(said);
            assert!(error.contains(text), "{error:?} does not say {text:?}");
        }
    }

    #[test]
    fn a_state_is_taken_as_it_was_written() {
        let json = "{\"z\": 1267650600228229401496703205376, \"a\": [1.10]}\n";
        let said = wire::Answer {
            state_json: Some(json.to_owned()),
            ..Default::default()
        };
        let state = answer("a", said, &LIMITS).state.expect("it has one");
        assert_eq!(state.as_str(), json);
    }

    #[test]
    fn a_hook_that_raised_has_no_decisions() {
        let said = wire::Answer {
            id: 4,
            decisions: vec![wire::HookDecision { what: None }],
            state_json: Some("{\"n\": 3}".into()),
            error: "ValueError: x\n  in y".into(),
            traceback: "Traceback\n".into(),
            ..Default::default()
        };
        let taken = answer("a", said, &LIMITS);
        assert_eq!(
            taken.decisions,
            Err(Raised {
                error: "ValueError: x   in y".into(),
                traceback: "Traceback\n".into()
            })
        );
        assert_eq!(taken.state, StateText::new("{\"n\": 3}").ok());
    }
}
