//! Tuples as what a provider says: hooks with their plans, and answers with decisions. The types are in the stub of the
//! native module; the package alone makes them, so that one that does not fit is a mistake of its own: ValueError.

use hookbus_client::wire::{
    self, Base, HookDecision, LogLevel, Otherwise, Way, hook_decision::What, lr_order, when,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::values;

/// A subscription: point, base, n, fields, gate, the metric of its condition, otherwise, deadline_ms, otherwise_text.
type Subscription = (
    String,
    String,
    i64,
    Vec<String>,
    bool,
    String,
    String,
    u32,
    String,
);

/// Each hook: its request as a dict, its subscriptions, whether it wants memory and the desired state, its summary.
pub(super) fn offer(
    hooks: &Bound<'_, PyList>,
    refused: Vec<(String, String)>,
) -> PyResult<wire::Offer> {
    let mut offered = Vec::with_capacity(hooks.len());
    for hook in hooks {
        let (request, subscriptions, wants_memory, wants_state, summary): (
            Bound<'_, PyDict>,
            Vec<Subscription>,
            bool,
            bool,
            String,
        ) = hook.extract()?;
        let subscriptions = subscriptions.into_iter().map(subscription);
        offered.push(wire::OfferedHook {
            request: Some(values::hook_request(request.as_any())?),
            subscriptions: subscriptions.collect::<PyResult<_>>()?,
            wants_memory,
            wants_state,
            summary,
        });
    }
    let refused = refused
        .into_iter()
        .map(|(what, reason)| wire::Refusal { what, reason });
    Ok(wire::Offer {
        hooks: offered,
        refused: refused.collect(),
    })
}

fn subscription(
    (point, base, n, fields, gate, not_finite, otherwise, deadline_ms, otherwise_text): Subscription,
) -> PyResult<wire::Subscription> {
    let base = match base.as_str() {
        "always" => Base::Unspecified,
        "iter" => Base::Iter,
        "inner_iter" => Base::InnerIter,
        "epoch" => Base::Epoch,
        other => return Err(wrong("counts", other)),
    };
    let otherwise = match otherwise.as_str() {
        "continue" => Otherwise::Continue,
        "stop" => Otherwise::Stop,
        other => return Err(wrong("otherwise", other)),
    };
    let when = (!not_finite.is_empty()).then_some(wire::When {
        condition: Some(when::Condition::NotFinite(not_finite)),
    });
    let way = if gate { Way::Gate } else { Way::Observe };
    Ok(wire::Subscription {
        subscriber: String::new(),
        point,
        every: Some(wire::Every {
            base: base as i32,
            n,
            start: 0,
        }),
        fields,
        way: way as i32,
        when,
        otherwise: otherwise as i32,
        deadline_ms,
        otherwise_text,
    })
}

/// Each: run, id, decisions, state as JSON, what it raised, the traceback.
pub(super) fn answers(answers: &Bound<'_, PyList>) -> PyResult<Vec<wire::Answer>> {
    let mut said = Vec::with_capacity(answers.len());
    for answer in answers {
        let (run, id, decisions, state_json, error, traceback): (
            u64,
            u64,
            Bound<'_, PyList>,
            Option<String>,
            Bound<'_, PyAny>,
            Bound<'_, PyAny>,
        ) = answer.extract()?;
        let decisions = decisions.iter().map(|one| decision(one.cast::<PyTuple>()?));
        said.push(wire::Answer {
            run,
            id,
            decisions: decisions.collect::<PyResult<_>>()?,
            state_json,
            error: values::text(&error)?,
            traceback: values::text(&traceback)?,
        });
    }
    Ok(said)
}

fn decision(said: &Bound<'_, PyTuple>) -> PyResult<HookDecision> {
    let text = |at: usize| values::text(&said.get_item(at)?);
    let kind: String = said.get_item(0)?.extract()?;
    let what = match kind.as_str() {
        "stop" => {
            let logs: Vec<Bound<'_, PyTuple>> = said.get_item(2)?.extract()?;
            let logs = logs.iter().map(|one| line(one, 0));
            What::Stop(wire::StopDecision {
                reason: text(1)?,
                logs: logs.collect::<PyResult<_>>()?,
            })
        }
        "log" => What::Log(line(said, 1)?),
        "lr" => {
            let how: String = said.get_item(2)?.extract()?;
            let number: f64 = said.get_item(3)?.extract()?;
            let how = match how.as_str() {
                "value" => lr_order::How::Value(number),
                "scale" => lr_order::How::Scale(number),
                "release" => lr_order::How::Release(true),
                other => return Err(wrong("lr", other)),
            };
            What::Lr(wire::LrOrder {
                group: said.get_item(1)?.extract()?,
                how: Some(how),
            })
        }
        "size" => What::Size(wire::SizeOrder {
            height: said.get_item(1)?.extract()?,
            width: said.get_item(2)?.extract()?,
        }),
        "mode" => What::Mode(wire::ModeDecision {
            from_epoch: said.get_item(1)?.extract()?,
            skip_types: texts(&said.get_item(2)?)?,
        }),
        "set_epoch" => What::SetEpoch(said.get_item(1)?.extract()?),
        "sync_norm" => What::SyncNorm(said.get_item(1)?.extract()?),
        "checkpoint" => What::Checkpoint(wire::SaveCheckpoint { tag: text(1)? }),
        "custom" => What::Custom(wire::Custom {
            name: text(1)?,
            json: text(2)?,
        }),
        "incident" => What::Incident(text(1)?),
        other => return Err(wrong("a decision", other)),
    };
    Ok(HookDecision { what: Some(what) })
}

fn texts(said: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let items = said.try_iter()?;
    items.map(|item| values::text(&item?)).collect()
}

/// A level as Python's logging has it, and the text after it.
fn line(said: &Bound<'_, PyTuple>, at: usize) -> PyResult<wire::LogLine> {
    let number: i64 = said.get_item(at)?.extract()?;
    let level = match number {
        ..20 => LogLevel::Debug,
        20..30 => LogLevel::Info,
        30..40 => LogLevel::Warning,
        40.. => LogLevel::Error,
    };
    Ok(wire::LogLine {
        level: level as i32,
        text: values::text(&said.get_item(at + 1)?)?,
    })
}

fn wrong(what: &str, said: &str) -> PyErr {
    PyValueError::new_err(format!("{what}: {said:?} is not known here"))
}
