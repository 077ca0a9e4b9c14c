//! SetEpochInfoHook: that the epoch is to be set. The calls on the model are Python's.

use hookbusd::domain::{Facts, Standing};
use hookbusd::hooks::LIST;
use serde_json::Value as Json;

use super::recorded::{Outcome, Verdict, equal, hook};

const TYPE: &str = "SetEpochInfoHook";

pub(super) fn decide(case: &Json) -> Outcome {
    let mut configured = hook(TYPE, &case["config"])?;
    let ahead = configured.hook.ahead(&Facts::default(), "recorded")?;
    equal("standing", ahead.standing, Some(Standing::SetEpoch))?;
    let kind = LIST.iter().find(|kind| kind.type_name == TYPE);
    let points = kind.ok_or("not in the list")?.points;
    equal("points", points, &["before_train_epoch"])?;
    Ok(Verdict::Matched)
}
