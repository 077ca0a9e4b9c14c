//! SyncNormHook: whether the ranks are to average, by how many there are. The choice of modules, the collective and its
//! arithmetic are Python's.

use hookbusd::domain::{Facts, Standing};
use hookbusd::hooks::LIST;
use serde_json::Value as Json;

use super::recorded::{Outcome, Verdict, count, equal, hook, list};

const TYPE: &str = "SyncNormHook";

pub(super) fn decide(case: &Json) -> Outcome {
    let (input, expected) = (&case["input"], &case["expected"]);
    let world_size = count(input, "world_size")?;
    let facts = |process_group| Facts {
        world_size: world_size as u32,
        process_group,
        ..Facts::default()
    };
    let mut configured = hook(TYPE, &case["config"])?;
    let standing = configured.hook.ahead(&facts(true), "recorded")?.standing;
    let several = world_size > 1;
    equal(
        "standing",
        standing.as_ref(),
        several.then_some(&Standing::SyncNorm),
    )?;
    // A model without norm layers has no collective either; that is for the trainer to see.
    if standing.is_none() {
        equal("collectives", 0, list(expected, "all_reduce")?.len())?;
        let unchanged = list(expected, "unchanged")?;
        equal("states", list(input, "order")?, unchanged)?;
    }
    let alone = configured.hook.ahead(&facts(false), "recorded");
    equal("refused without a process group", alone.is_err(), several)?;
    let kind = LIST.iter().find(|kind| kind.type_name == TYPE);
    let points = kind.ok_or("not in the list")?.points;
    equal("points", points, &["before_val_epoch"])?;
    Ok(Verdict::Matched)
}
