//! SyncRandomSizeHook: at which epochs the size changes, and to what, with the recorded draws put in place of our own.
//!
//! With several ranks the draws were not recorded: there s is the recorded height over 32, so epochs, the width and that all
//! ranks are alike are compared, and not the draw.

use hookbusd::domain::{Facts, SizeFrom, SizeStep, Standing};
use hookbusd::hooks::{Args, LIST, SyncRandomSizeHook};
use serde_json::Value as Json;

use super::recorded::{Outcome, Verdict, count, equal, hook, request};

const TYPE: &str = "SyncRandomSizeHook";

/// Epoch, height, width.
type Change = (i64, i64, i64);

pub(super) fn decide(case: &Json) -> Outcome {
    let (config, input, expected) = (&case["config"], &case["input"], &case["expected"]);
    let ranks = match &expected["changes_per_rank"] {
        Json::Null => vec![changes(&expected["changes"])?],
        Json::Array(ranks) => ranks.iter().map(changes).collect::<Result<_, _>>()?,
        other => return Err(format!("changes_per_rank is {other}")),
    };
    let first = ranks.first().ok_or("no rank")?;
    let raised = match &expected["raised"] {
        Json::Array(each) => each.iter().any(|raised| !raised.is_null()),
        raised => !raised.is_null(),
    };
    let built = hook(TYPE, config);
    let (mut configured, own) = match (built, raised) {
        (Ok(_), true) => return Err(format!("not refused; recorded {}", expected["raised"])),
        (Err(_), true) => return Ok(Verdict::Differing),
        (Err(why), false) => {
            let from_nothing = config["ratio_range"][0].as_i64().is_some_and(|s| s <= 0);
            let no_input = first
                .iter()
                .any(|(_, height, width)| *height <= 0 || *width <= 0);
            return if from_nothing || no_input {
                Ok(Verdict::Differing)
            } else {
                Err(format!("refused: {why}"))
            };
        }
        (Ok(configured), false) => (configured, own(config)?),
    };

    let (start, epochs) = (count(input, "start_epoch")?, count(input, "n_epochs")?);
    // The stand-in runner had no end; one more epoch shows the last change.
    let facts = Facts {
        max_epochs: Some(start + epochs + 1),
        ..Facts::default()
    };
    let draws: Vec<i64> = match &expected["draws"] {
        Json::Array(draws) => draws.iter().filter_map(Json::as_i64).collect(),
        _ => first.iter().map(|(_, height, _)| height / 32).collect(),
    };
    // Ours are drawn from the training's start; the recorded ones begin with the resumed process.
    let mut positions = 0;
    let unshifted = own.steps(&facts, &mut |least, _| least)?;
    let before = unshifted
        .iter()
        .filter(|step| epoch(step) < start as i64)
        .count();
    let steps = own.steps(&facts, &mut |least, _| {
        positions += 1;
        let recorded = (positions - 1_usize).checked_sub(before);
        recorded
            .and_then(|at| draws.get(at).copied())
            .unwrap_or(least)
    })?;
    equal("draws", positions - before, draws.len())?;
    let ours: Vec<Change> = steps
        .iter()
        .filter(|step| epoch(step) >= start as i64)
        .map(|step| {
            (
                epoch(step),
                i64::from(step.size.height),
                i64::from(step.size.width),
            )
        })
        .collect();
    for (rank, recorded) in ranks.iter().enumerate() {
        equal(&format!("changes of rank {rank}"), &ours, recorded)?;
    }

    // What the hook itself says, with its own draws: at the same positions, in its range, and of the seed alone.
    let ahead = configured.hook.ahead(&facts, "recorded")?;
    let said = match ahead.standing {
        None => Vec::new(),
        Some(Standing::Sizes(steps)) => steps,
        other => return Err(format!("it decides {other:?}")),
    };
    let from = |steps: &[SizeStep]| steps.iter().map(|step| step.from).collect::<Vec<_>>();
    equal("positions", from(&said), from(&steps))?;
    Ok(Verdict::Matched)
}

/// The hook as its own type, so that its draws can be replaced.
fn own(config: &Json) -> Result<SyncRandomSizeHook, String> {
    let kind = LIST.iter().find(|kind| kind.type_name == TYPE);
    let request = request(TYPE, config);
    let mut args = Args::new(kind.ok_or("not in the list")?, &request.args);
    let hook = SyncRandomSizeHook::new(&mut args)?;
    args.finish()?;
    Ok(hook)
}

/// After which epoch the original makes this change.
fn epoch(step: &SizeStep) -> i64 {
    match step.from {
        SizeFrom::Epoch(epoch) => epoch as i64 - 1,
        SizeFrom::Iter(iter) => panic!("a change at iteration {iter}"),
    }
}

fn changes(json: &Json) -> Result<Vec<Change>, String> {
    let change = |change: &Json| {
        let at = |value: &Json| value.as_i64();
        Some((at(&change[0])?, at(&change[1][0])?, at(&change[1][1])?))
    };
    let changes = json.as_array().ok_or("changes are no list")?;
    changes
        .iter()
        .map(|json| change(json).ok_or_else(|| format!("{json} is no change")))
        .collect()
}
