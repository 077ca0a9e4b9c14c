//! NumClassCheckHook: which head is the first that does not fit, and what is said. That a listing is what the hook would have
//! seen is Python's.

use std::time::Instant;

use hookbusd::domain::{
    Classes, Dataset, Description, Event, LogLevel, Module, Names, NumClasses, Otherwise, Rank,
};
use hookbusd::hooks::{Configured, Context, Decision, Seen};
use serde_json::Value as Json;

use super::recorded::{Fixed, Outcome, Verdict, equal, hook, list};

const TYPE: &str = "NumClassCheckHook";

pub(super) fn decide(case: &Json) -> Outcome {
    let (input, expected) = (&case["input"], &case["expected"]);
    let mut configured = hook(TYPE, &case["config"])?;
    let stage = text(&input["stage"])?;
    let wishes = configured.hook.subscriptions();
    let wish = wishes.iter().find(|wish| wish.point == stage);
    let wish = wish.ok_or_else(|| format!("it does not see {stage}"))?;
    equal("otherwise", wish.otherwise, Otherwise::Continue)?;
    let description = described(input, stage)?;
    let decisions = reach(&mut configured, stage, &description);
    let (mut raised, mut logs) = (None, Vec::new());
    for decision in decisions {
        match decision {
            Decision::Stop { reason, logs, .. } => {
                equal("lines before the stop", logs.len(), 0)?;
                raised.get_or_insert(reason);
            }
            Decision::Log(line) => logs.push((line.level, line.text)),
            other => return Err(format!("the original does no such thing: {other:?}")),
        }
    }
    let recorded_line = |line: &Json| -> Result<_, String> {
        equal("level", line[0].as_str(), Some("WARNING"))?;
        Ok((LogLevel::Warning, mended(text(&line[1])?, input)?))
    };
    let recorded_logs = list(expected, "logs")?.iter().map(recorded_line);
    let recorded_logs: Vec<_> = recorded_logs.collect::<Result<_, _>>()?;
    let recorded = &expected["raised"];
    let recorded_text = match recorded {
        Json::Null => None,
        raised => {
            equal("raised.type", text(&raised["type"])?, "AssertionError")?;
            equal("raised.args", &raised["args"][0], &raised["str"])?;
            Some(mended(text(&raised["str"])?, input)?)
        }
    };
    let verdict = if recorded_text.is_none() && logs.is_empty() {
        Verdict::Matched
    } else {
        Verdict::Differing // its sentence is mended
    };
    equal("raised", raised, recorded_text)?;
    equal("logs", logs, recorded_logs)?;
    Ok(verdict)
}

fn reach(configured: &mut Configured, point: &str, description: &Description) -> Vec<Decision> {
    let (event, names) = (Event::default(), Names::default());
    let seen = Seen {
        rank: Rank(0),
        point,
        event: &event,
        names: &names,
        description: Some(description),
        held_on: &[],
    };
    let view = Fixed(Err("not looked at".to_owned()));
    let now = Instant::now();
    configured
        .hook
        .on_event(&Context { now, view: &view }, &seen)
}

fn text(json: &Json) -> Result<&str, String> {
    json.as_str().ok_or_else(|| format!("{json} is no text"))
}

/// The recorded sentence as it was meant.
fn mended(recorded: &str, input: &Json) -> Result<String, String> {
    let of = text(&input["dataset_class"])?;
    let length = &input["classes"]["len"];
    let mended = [
        ("andcheck", "and check".to_owned()),
        ("does not matches", "does not match".to_owned()),
        (
            &format!("`classes` {length})"),
            format!("`classes` ({length})"),
        ),
        (&format!("{of}should"), format!("{of} should")),
        ("str.Add", "str. Add".to_owned()),
    ]
    .iter()
    .fold(recorded.to_owned(), |text, (old, new)| {
        text.replace(old, new)
    });
    if mended == recorded {
        return Err(format!("nothing to mend in {recorded:?}"));
    }
    Ok(mended)
}

/// The recorded listing as a trainer describes it; the other phase has nothing to object to.
fn described(input: &Json, stage: &str) -> Result<Description, String> {
    let dataset = Dataset {
        class_name: text(&input["dataset_class"])?.to_owned(),
        classes: classes(&input["classes"])?,
    };
    let modules = list(input, "model")?.iter().map(module);
    let mut description = Description {
        number: 1,
        model_class: text(&input["model_class"])?.to_owned(),
        modules: modules.collect::<Result<_, _>>()?,
        train: None,
        val: None,
    };
    match stage {
        "before_train_epoch" => description.train = Some(dataset),
        "before_val_epoch" => description.val = Some(dataset),
        other => return Err(format!("no stage {other:?}")),
    }
    Ok(description)
}

fn classes(classes: &Json) -> Result<Classes, String> {
    Ok(match text(&classes["type"])? {
        "key_absent" | "none" => Classes::Absent,
        "str" => Classes::Str(text(&classes["value"])?.to_owned()),
        type_name => Classes::Sized {
            type_name: type_name.to_owned(),
            length: classes["len"].as_u64().ok_or("no length")?,
        },
    })
}

/// [name, class, has num_classes, num_classes, is VGG, is FusedSemanticHead].
fn module(module: &Json) -> Result<Module, String> {
    let flag = |at: usize| {
        let flag = module[at].as_bool();
        flag.ok_or_else(|| format!("{module}: {at} is no flag"))
    };
    Ok(Module {
        name: text(&module[0])?.to_owned(),
        class_name: text(&module[1])?.to_owned(),
        num_classes: flag(2)?.then(|| num_classes(&module[3])).transpose()?,
        is_vgg: flag(4)?,
        is_fused_semantic_head: flag(5)?,
    })
}

/// `str()` of the value, and what it compares as.
fn num_classes(value: &Json) -> Result<NumClasses, String> {
    let (text, number) = match value {
        Json::Null => ("None".to_owned(), None),
        Json::Bool(true) => ("True".to_owned(), Some(1.0)),
        Json::Bool(false) => ("False".to_owned(), Some(0.0)),
        Json::Number(number) => (number.to_string(), number.as_f64()),
        Json::String(other) => {
            let repr = other.strip_prefix("repr:");
            let repr = repr.ok_or_else(|| format!("{other:?} is no repr"))?;
            match repr
                .strip_prefix('\'')
                .and_then(|text| text.strip_suffix('\''))
            {
                Some(text) => (text.to_owned(), None),
                None => {
                    let number = repr.parse();
                    let number = number.map_err(|_| format!("{repr:?} is no number"))?;
                    (repr.to_owned(), Some(number))
                }
            }
        }
        other => return Err(format!("{other} is no num_classes")),
    };
    Ok(NumClasses { text, number })
}
