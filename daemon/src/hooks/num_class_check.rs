//! NumClassCheckHook: stops the training when a head does not have as many classes as its dataset. What it sees, when it
//! fires and what it does is on its page, below.

use std::collections::HashMap;

use super::{Context, Decision, Difference, EPOCH_DEADLINE, Hook, Kind, Page, Recorded, Seen};
use crate::domain::{
    Classes, Description, Every, IncidentKind, LogLevel, LogLine, Module, Rank, Subscription, Way,
};

const TYPE: &str = "NumClassCheckHook";
const POINTS: [&str; 2] = ["before_train_epoch", "before_val_epoch"];

pub(super) const KIND: Kind = Kind {
    type_name: TYPE,
    summary: "stops the training when a head does not have as many classes as its dataset",
    points: &POINTS,
    effect: "stop before the epoch, or a warning",
    args: &[],
    example: &[],
    config_only: false,
    page: Page {
        original: "MMDetection 3.3.0",
        sees: "A description that the trainer's side makes of the model and the datasets: each module with an attribute \
             `num_classes`, in `named_modules()` order, with its name, its class and the value; the class of each dataset, \
             and what its `metainfo` has as `classes`. It is sent once, and again only where it changed.",
        fires: "Before each training epoch, for the training dataset, and before each validation, for its dataset. Not before a \
             test.",
        does: "- A dataset without `classes`: a warning in the trainer's log, once for each text and rank. The training goes \
             on.\n\
             - `classes` is exactly a `str`: a stop. It is nearly always a tuple of one that lacks its comma.\n\
             - Else the first module whose `num_classes` is not the number of `classes`: a stop. Names that end with \
             `rpn_head`, VGG and FusedSemanticHead count other things and are left out.\n\
             - A trainer that has not described what is to be compared: one warning that says so, and nothing is decided.\n\
             A stop comes before the epoch begins, and its reason names module, model, dataset and both numbers. The training \
             waits for the answer, 2 s at most; without one it goes on (`otherwise: continue`). CheckInvalidLossHook stops \
             then, because it asks only where a loss is seen to be bad; this one asks at each epoch, nearly always nothing is \
             wrong, and a stop would end every training whose daemon is gone.",
        differences: &[
            Difference {
                what: "the exception",
                ours: "`hookbus.TrainingStopped`, an `AssertionError` too",
                why: "it is what every stop raises",
                recorded: Some(Recorded {
                    file: "num_class_check",
                    kinds: &["*"],
                    fields: "raised.type",
                }),
            },
            Difference {
                what: "the text of a stop",
                ours: "`in CocoDataset should be a tuple of str. Add comma`; ``does not match the length of `classes` (80) in``",
                why: "the original lacks blanks and a bracket",
                recorded: Some(Recorded {
                    file: "num_class_check",
                    kinds: &["*"],
                    fields: "raised.str, args",
                }),
            },
            Difference {
                what: "the warning",
                ours: "`and check`; once for each text and rank, whatever the logger",
                why: "the original lacks a blank, and leaves it to MMEngine's logger to drop what is said at each epoch",
                recorded: Some(Recorded {
                    file: "num_class_check",
                    kinds: &["no_classes"],
                    fields: "logs",
                }),
            },
        ],
        more: None,
    },
    build: |_| Ok(Box::new(NumClassCheckHook::default())),
};

/// See the module.
#[derive(Debug, Default)]
pub struct NumClassCheckHook {
    /// The last warning of each rank and point.
    warned: HashMap<Rank, [Option<String>; POINTS.len()]>,
}

/// What is to be said of one model and one dataset.
#[derive(Debug, PartialEq)]
enum Finding {
    /// A sentence for the log; the training goes on.
    Warning(String),
    /// Why the training cannot go on.
    Mismatch(String),
}

/// Looks at the dataset of `point`. None: nothing is wrong.
fn judge(description: Option<&Description>, point: &str) -> Option<Finding> {
    let unknown = |what: &str| {
        Some(Finding::Warning(format!(
            "{TYPE} checks nothing: the trainer has not described its {what} to hookbus; describe it, or leave the hook out"
        )))
    };
    let Some(description) = description else {
        return unknown("model and datasets");
    };
    let (phase, dataset) = if point == POINTS[0] {
        ("train", &description.train)
    } else {
        ("val", &description.val)
    };
    let Some(dataset) = dataset else {
        return unknown(&format!("{phase} dataset"));
    };
    let of = &dataset.class_name;
    match &dataset.classes {
        Classes::Absent => Some(Finding::Warning(format!(
            "Please set `classes` in the {of} `metainfo` and check if it is consistent with the `num_classes` of head"
        ))),
        Classes::Str(classes) => Some(Finding::Mismatch(format!(
            "`classes` in {of} should be a tuple of str. Add comma if number of classes is 1 as classes = ({classes},)"
        ))),
        Classes::Sized { length, .. } => {
            let offends = |module: &&Module| is_checked(module) && !has_classes(module, *length);
            let module = description.modules.iter().find(offends)?;
            let text = module.num_classes.as_ref().map(|value| &value.text)?;
            Some(Finding::Mismatch(format!(
                "The `num_classes` ({text}) in {} of {} does not match the length of `classes` ({length}) in {of}",
                module.class_name, description.model_class
            )))
        }
    }
}

/// A head of the dataset's classes: a region proposal network, a backbone and a semantic head count other things.
fn is_checked(module: &Module) -> bool {
    module.num_classes.is_some()
        && !module.name.ends_with("rpn_head")
        && !module.is_vgg
        && !module.is_fused_semantic_head
}

/// As Python compares a value with a length: 5.0 and 5 are equal, True is 1, None and strings are no number.
fn has_classes(module: &Module, length: u64) -> bool {
    let value = module.num_classes.as_ref();
    value.and_then(|value| value.number) == Some(length as f64)
}

impl NumClassCheckHook {
    /// Whether `text` is new to this rank's log.
    fn is_news(&mut self, rank: Rank, point: &str, text: &str) -> bool {
        let warned = self.warned.entry(rank).or_default();
        let known = warned.iter().flatten().any(|old| old == text);
        warned[usize::from(point != POINTS[0])] = Some(text.to_owned());
        !known
    }
}

impl Hook for NumClassCheckHook {
    fn subscriptions(&self) -> Vec<Subscription> {
        let gate = |point| Subscription {
            way: Way::Gate,
            deadline: EPOCH_DEADLINE,
            ..Subscription::observe(point, Every::ALWAYS, &["description"])
        };
        POINTS.map(gate).to_vec()
    }

    fn on_event(&mut self, _: &Context<'_>, seen: &Seen<'_>) -> Vec<Decision> {
        match judge(seen.description, seen.point) {
            Some(Finding::Mismatch(reason)) => vec![Decision::Stop {
                reason,
                logs: Vec::new(),
                incident: IncidentKind::ClassMismatch,
            }],
            Some(Finding::Warning(text)) if self.is_news(seen.rank, seen.point, &text) => {
                vec![Decision::Log(LogLine {
                    level: LogLevel::Warning,
                    text,
                })]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::domain::{
        Dataset, DeviceUse, Event, HostSample, Names, NumClasses, Otherwise, ProcessSample, Rank,
        When,
    };
    use crate::store::series::{Lately, Name};
    use crate::store::{Said, View, Whose};

    const TRAIN: &str = POINTS[0];
    const VAL: &str = POINTS[1];

    fn head(name: &str, class_name: &str, text: &str, number: Option<f64>) -> Module {
        Module {
            name: name.to_owned(),
            class_name: class_name.to_owned(),
            num_classes: Some(NumClasses {
                text: text.to_owned(),
                number,
            }),
            ..Module::default()
        }
    }

    fn eighty(name: &str) -> Module {
        head(name, "Head", "80", Some(80.0))
    }

    fn sized(length: u64) -> Classes {
        Classes::Sized {
            type_name: "tuple".to_owned(),
            length,
        }
    }

    fn described(classes: Classes, modules: Vec<Module>) -> Description {
        Description {
            number: 1,
            model_class: "Net".to_owned(),
            modules,
            train: Some(Dataset {
                class_name: "Coco".to_owned(),
                classes,
            }),
            val: None,
        }
    }

    /// Why it stops; None: it does not.
    fn stops(classes: Classes, modules: Vec<Module>) -> Option<String> {
        match judge(Some(&described(classes, modules)), TRAIN) {
            Some(Finding::Mismatch(reason)) => Some(reason),
            Some(Finding::Warning(text)) => panic!("it warns: {text}"),
            None => None,
        }
    }

    #[test]
    fn heads_are_compared_but_for_the_exempt() {
        let plain = |name| Module {
            num_classes: None,
            ..eighty(name)
        };
        let vgg = Module {
            is_vgg: true,
            ..eighty("backbone")
        };
        let semantic = Module {
            is_fused_semantic_head: true,
            ..eighty("semantic_head")
        };
        for (what, modules, wrong) in [
            ("nothing to check", vec![], false),
            ("no attribute", vec![plain(""), plain("head")], false),
            ("a head", vec![eighty("head")], true),
            ("the model itself", vec![eighty("")], true),
            ("rpn_head", vec![eighty("rpn_head")], false),
            ("a name's end", vec![eighty("module.my_rpn_head")], false),
            ("not its middle", vec![eighty("rpn_head.cls")], true),
            ("not in capitals", vec![eighty("RPN_head")], true),
            ("VGG", vec![vgg.clone()], false),
            ("FusedSemanticHead", vec![semantic.clone()], false),
            ("behind these", vec![vgg, semantic, eighty("h")], true),
        ] {
            assert_eq!(stops(sized(5), modules.clone()).is_some(), wrong, "{what}");
            let reason = stops(sized(80), modules);
            assert_eq!(reason, None, "{what}, 80 classes");
        }
    }

    #[test]
    fn a_value_compares_as_in_python() {
        for (text, number, length, equal) in [
            ("5", Some(5.0), 5, true),
            ("5.0", Some(5.0), 5, true),
            ("4.9999", Some(4.9999), 5, false),
            ("True", Some(1.0), 1, true),
            ("True", Some(1.0), 5, false),
            ("False", Some(0.0), 0, true),
            ("-0.0", Some(-0.0), 0, true),
            ("nan", Some(f64::NAN), 5, false),
            ("None", None, 0, false),
            ("5", None, 5, false), // the string
        ] {
            let reason = stops(sized(length), vec![head("h", "Head", text, number)]);
            assert_eq!(reason.is_none(), equal, "{text} {number:?} of {length}");
            if let Some(reason) = reason {
                let value = format!("The `num_classes` ({text}) in Head of Net");
                assert!(reason.starts_with(&value), "{reason}");
            }
        }
    }

    #[test]
    fn the_sentences_are_the_originals_mended() {
        let first = head("b", "HeadB", "3", Some(3.0));
        let second = head("a", "HeadA", "4", Some(4.0));
        assert_eq!(
            stops(sized(5), vec![first, second]).as_deref(),
            Some(
                "The `num_classes` (3) in HeadB of Net does not match the length of `classes` (5) in Coco"
            )
        );
        // Exactly a str stops, whatever the heads have.
        let text = Classes::Str("cat".to_owned());
        assert_eq!(
            stops(text, vec![head("h", "Head", "3", Some(3.0))]).as_deref(),
            Some(
                "`classes` in Coco should be a tuple of str. Add comma if number of classes is 1 as classes = (cat,)"
            )
        );
        assert_eq!(
            judge(
                Some(&described(Classes::Absent, vec![eighty("head")])),
                TRAIN
            ),
            Some(Finding::Warning(
                "Please set `classes` in the Coco `metainfo` and check if it is consistent with the `num_classes` of head"
                    .to_owned()
            ))
        );
    }

    struct NoView;

    impl View for NoView {
        fn host(&self) -> Result<HostSample, String> {
            Err("not sampled".to_owned())
        }

        fn process(&self, _: Rank) -> Result<ProcessSample, String> {
            Err("not sampled".to_owned())
        }

        fn said(&self, _: Rank) -> Option<Said> {
            None
        }

        fn devices(&self, _: Rank) -> Result<Vec<DeviceUse>, String> {
            Err("there is none here".to_owned())
        }

        fn newest(&self, _: Whose, _: Name) -> Result<f64, String> {
            Err("not sampled".to_owned())
        }

        fn lately(&self, _: Whose, _: Name, _: Duration, _: Instant) -> Result<Lately, String> {
            Err("not sampled".to_owned())
        }
    }

    /// The texts that it writes to the log of this rank.
    fn warnings(
        hook: &mut NumClassCheckHook,
        rank: u32,
        point: &str,
        description: Option<&Description>,
    ) -> Vec<String> {
        let (event, names) = (Event::default(), Names::default());
        let seen = Seen {
            rank: Rank(rank),
            point,
            event: &event,
            names: &names,
            description,
            held_on: &[],
        };
        let cx = Context {
            now: Instant::now(),
            view: &NoView,
        };
        let text = |decision| match decision {
            Decision::Log(LogLine {
                level: LogLevel::Warning,
                text,
            }) => text,
            other => panic!("no warning: {other:?}"),
        };
        hook.on_event(&cx, &seen).into_iter().map(text).collect()
    }

    #[test]
    fn a_warning_is_written_once_for_each_text_and_rank() {
        let mut absent = described(Classes::Absent, vec![]);
        absent.val.clone_from(&absent.train);
        let mut voc = absent.clone();
        if let Some(val) = &mut voc.val {
            val.class_name = "Voc".to_owned();
        }
        let hook = &mut NumClassCheckHook::default();
        for (rank, point, said, lines) in [
            (0, TRAIN, &absent, 1),
            (0, TRAIN, &absent, 0),
            (0, VAL, &absent, 0), // the same text
            (1, TRAIN, &absent, 1),
            (0, VAL, &voc, 1),
            (0, TRAIN, &voc, 0),
            (0, VAL, &voc, 0),
        ] {
            let texts = warnings(hook, rank, point, Some(said));
            assert_eq!(texts.len(), lines, "rank {rank} {point}: {texts:?}");
        }
    }

    #[test]
    fn what_was_not_described_is_not_decided_and_said_once() {
        let hook = &mut NumClassCheckHook::default();
        let first = warnings(hook, 0, TRAIN, None);
        assert_eq!(
            first,
            [
                "NumClassCheckHook checks nothing: the trainer has not described its model and datasets to hookbus; \
                 describe it, or leave the hook out"
            ]
        );
        assert!(warnings(hook, 0, VAL, None).is_empty());
        assert!(warnings(hook, 0, TRAIN, None).is_empty());
        let no_val = described(sized(80), vec![eighty("head")]);
        assert!(warnings(hook, 0, TRAIN, Some(&no_val)).is_empty());
        let texts = warnings(hook, 0, VAL, Some(&no_val));
        assert!(
            texts.len() == 1 && texts[0].contains("its val dataset"),
            "{texts:?}"
        );
        assert!(warnings(hook, 0, VAL, Some(&no_val)).is_empty());
    }

    #[test]
    fn it_waits_at_both_points_and_goes_on_without_an_answer() {
        let wishes = NumClassCheckHook::default().subscriptions();
        let points: Vec<_> = wishes.iter().map(|wish| wish.point.as_str()).collect();
        assert_eq!(points, KIND.points);
        for wish in wishes {
            assert_eq!(
                (wish.way, wish.otherwise, wish.when, wish.deadline),
                (Way::Gate, Otherwise::Continue, When::Always, EPOCH_DEADLINE)
            );
        }
    }
}
