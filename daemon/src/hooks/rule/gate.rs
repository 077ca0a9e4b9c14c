//! A rule that the training waits for.

use std::time::Duration;

use super::actions::Act;
use super::functions::FUNCTIONS;
use super::inputs::Input;
use super::tree::{Number, Text, Truth};
use crate::domain::{Base, Otherwise, When};
use crate::hooks::{Args, EPOCH_DEADLINE, ITER_DEADLINE};

const LONGEST_DEADLINE_MS: i64 = 60_000;

/// How a rule is waited for.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) when: When,
    pub(super) otherwise: Otherwise,
    /// Reason and line of a stop by `otherwise`.
    pub(super) text: String,
    pub(super) deadline: Duration,
}

/// What a gate does without an answer, and how long it waits; None: it is no gate.
pub(super) fn asked_for(
    args: &mut Args<'_>,
    base: Base,
) -> Result<Option<(Otherwise, Duration)>, String> {
    let is_gate = args.flag("gate")?;
    let otherwise = match args.text("otherwise")?.as_str() {
        "continue" => Otherwise::Continue,
        "stop" => Otherwise::Stop,
        other => {
            return Err(format!(
                "otherwise is {other:?}; it must be \"continue\" or \"stop\""
            ));
        }
    };
    let deadline = match args.optional_number("deadline_ms")? {
        None if matches!(base, Base::Iter | Base::InnerIter) => Some(ITER_DEADLINE),
        None => Some(EPOCH_DEADLINE),
        Some(_) if !is_gate => None,
        Some(ms) if ms.fract() == 0.0 && (1.0..=LONGEST_DEADLINE_MS as f64).contains(&ms) => {
            Some(Duration::from_millis(ms as u64))
        }
        Some(ms) => {
            return Err(format!(
                "deadline_ms is {ms}; it must be a whole number from 1 to {LONGEST_DEADLINE_MS}"
            ));
        }
    };
    match deadline {
        Some(deadline) if is_gate => Ok(Some((otherwise, deadline))),
        Some(_) if otherwise == Otherwise::Continue => Ok(None),
        _ => Err("otherwise and deadline_ms are a gate's; say gate = true too".to_owned()),
    }
}

/// A condition that is exactly `!is_finite(METRIC)` is looked at in the trainer, and only what it holds for is sent to be
/// waited for.
pub(super) fn checked_by_the_client(when: &Truth, inputs: &[Input]) -> When {
    if let Truth::Not(test) = when
        && let Truth::Test(function, number) = &**test
        && FUNCTIONS[*function].name == "is_finite"
        && let Number::Input(at) = **number
        && let Input::Metric(name) = &inputs[at]
    {
        return When::NotFinite(name.clone());
    }
    When::Always
}

pub(super) fn stop_text(act: &Act) -> Option<String> {
    match act {
        Act::Stop(Text::Constant(text)) => Some(text.clone()),
        _ => None,
    }
}
