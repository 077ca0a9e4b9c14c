//! YOLOXModeSwitchHook: from which epoch, and which steps are left out. The effects on loaders and models are Python's.

use hookbusd::domain::{Facts, Standing};
use hookbusd::hooks::LIST;
use serde_json::Value as Json;

use super::recorded::{Outcome, Verdict, count, equal, hook, list};

const TYPE: &str = "YOLOXModeSwitchHook";

pub(super) fn decide(kind: &str, case: &Json) -> Outcome {
    match kind {
        "overridden_stages" => stages(case),
        "real_dataloader" => real_dataloader(case),
        _ => stand_ins(case),
    }
}

fn stages(case: &Json) -> Outcome {
    let kind = LIST.iter().find(|kind| kind.type_name == TYPE);
    let points = kind.ok_or("not in the list")?.points;
    let stages = list(&case["expected"], "triggered_stages")?;
    let stages: Vec<_> = stages.iter().filter_map(Json::as_str).collect();
    equal("triggered_stages", points, stages.as_slice())?;
    Ok(Verdict::Matched)
}

/// The epoch that the hook decides on, and the skip types. Errors: why it is refused.
fn decided(config: &Json, max_epochs: u64) -> Result<Option<(u64, Vec<String>)>, String> {
    let facts = Facts {
        max_epochs: Some(max_epochs),
        ..Facts::default()
    };
    let ahead = hook(TYPE, config)?.hook.ahead(&facts, "recorded")?;
    match ahead.standing {
        None => Ok(None),
        Some(Standing::Mode {
            from_epoch,
            skip_types,
        }) => Ok(Some((from_epoch, skip_types))),
        other => Err(format!("it decides {other:?}")),
    }
}

fn stand_ins(case: &Json) -> Outcome {
    let (input, expected) = (&case["input"], &case["expected"]);
    let max_epochs = count(input, "max_epochs")?;
    let epochs = list(input, "epochs")?;
    let at = |which: usize| epochs.get(which).and_then(Json::as_u64);
    let (start, end) = (at(0).ok_or("no start")?, at(1).ok_or("no end")?);
    let raised = &expected["raised"];
    let mode = match decided(&case["config"], max_epochs) {
        Ok(mode) => mode,
        // The original fails at the switch; ours where it is configured.
        Err(_) if !raised.is_null() => return Ok(Verdict::Differing),
        Err(why) => return Err(format!("refused: {why}")),
    };
    // Where the effects failed half-way, the epoch is that of the failure.
    let switch = [&expected["switch_epoch"], &raised["epoch"]]
        .into_iter()
        .find_map(Json::as_u64);
    let ours = mode.as_ref().map(|(from, _)| (*from).max(start));
    equal("switch epoch", ours.filter(|epoch| *epoch < end), switch)?;
    let (Some(switch), Some((_, skip_types))) = (switch, mode) else {
        return Ok(Verdict::Matched);
    };
    let updates: Vec<_> = list(&expected["events"], &switch.to_string())?
        .iter()
        .filter(|event| event[0] == "update_skip_type_keys")
        .collect();
    let [update] = updates.as_slice() else {
        return Err(format!("{} updates of the skip types", updates.len()));
    };
    let keys = update[1].as_array().ok_or("skip types are no list")?;
    let keys: Vec<_> = keys
        .iter()
        .map(|key| key.as_str().map(str::to_owned))
        .collect();
    let skip_types: Vec<_> = skip_types.into_iter().map(Some).collect();
    equal("skip types", skip_types, keys)?;
    Ok(Verdict::Matched)
}

/// Real workers: the first epoch in which samples see the keys.
fn real_dataloader(case: &Json) -> Outcome {
    let input = &case["input"];
    let mut config = case["config"].clone();
    let with_hook = config
        .as_object_mut()
        .and_then(|config| config.remove("hook"))
        != Some(Json::Bool(false));
    let start = count(input, "start_epoch")?;
    let mode = if with_hook {
        decided(&config, count(input, "max_epochs")?)?
    } else {
        None
    };
    let mut switch = None;
    for epoch in list(&case["expected"], "epochs")? {
        let seen = list(epoch, "samples_see_skip_keys")?;
        if seen.iter().any(|keys| *keys == 1) {
            switch = Some(count(epoch, "epoch")?);
            break;
        }
    }
    equal(
        "switch epoch",
        mode.map(|(from, _)| from.max(start)),
        switch,
    )?;
    Ok(Verdict::Matched)
}
