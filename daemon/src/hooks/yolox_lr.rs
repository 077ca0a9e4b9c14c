//! YOLOXLrUpdaterHook: the learning rate of YOLOX, for each parameter group and iteration: a square warm-up, a cosine, and a
//! constant tail. What it sees, when it fires and what it does is on its page, below; the arithmetic is in `course`.

mod course;

use self::course::{Course, Least, Pace};
use super::{Ahead, Arg, Args, Difference, Hook, Kind, NONE, Page, REQUIRED, Recorded};
use crate::domain::{Facts, ParamGroup, Standing};

/// 1.6 GB, and 300 epochs of YOLOX on COCO are half a million.
const MOST_VALUES: u64 = 200_000_000;
/// Names that mmcv knows; YOLOX's warm-up is the same for all.
const WARMUPS: [&str; 3] = ["constant", "linear", "exp"];

pub(super) const KIND: Kind = Kind {
    type_name: "YOLOXLrUpdaterHook",
    summary: "sets the learning rate: square warm-up, cosine, constant tail",
    points: &["before_train_iter"],
    effect: "learning rate of each parameter group",
    args: &[
        Arg {
            name: "num_last_epochs",
            default: REQUIRED,
            help: "epochs at the end with the least rate",
        },
        Arg {
            name: "min_lr",
            default: NONE,
            help: "the least rate; or say min_lr_ratio",
        },
        Arg {
            name: "min_lr_ratio",
            default: NONE,
            help: "the least rate, as a share of the base rate; or say min_lr",
        },
        Arg {
            name: "by_epoch",
            default: "true",
            help: "false: anneal each iteration, as YOLOX does; true: each epoch",
        },
        Arg {
            name: "warmup",
            default: NONE,
            help: "constant, linear or exp: each is YOLOX's square",
        },
        Arg {
            name: "warmup_iters",
            default: "0",
            help: "length of the warm-up",
        },
        Arg {
            name: "warmup_ratio",
            default: "0.1",
            help: "share of the base rate at the warm-up's end, above 0, at most 1",
        },
        Arg {
            name: "warmup_by_epoch",
            default: "false",
            help: "true: warmup_iters counts epochs",
        },
    ],
    example: &[
        ("num_last_epochs", "15"),
        ("min_lr_ratio", "0.05"),
        ("by_epoch", "false"),
        ("warmup", "\"exp\""),
        ("warmup_iters", "5"),
        ("warmup_ratio", "1.0"),
        ("warmup_by_epoch", "true"),
    ],
    config_only: false,
    page: Page {
        original: "MMDetection 2.28.2 on mmcv 1.7.2",
        sees: "How long the training and its epochs are, the base rate of each parameter group of the optimizer (`initial_lr`, \
             else `lr`), and whether the trainer has a scheduler of its own. All rates are decided before the training \
             starts, so that a daemon that dies later changes none.",
        fires: "Before each training iteration.",
        does: "It sets the learning rate of each parameter group, bit for bit the original's float64. With W the iterations of \
             the warm-up, L those of the last `num_last_epochs`, and p of max the iteration, counted from 1:\n\
             - warm-up, the first W iterations: `base * (warmup_ratio * (p / W)^2)`, whatever name `warmup` gives;\n\
             - the tail, p >= max - L: the target, which is `min_lr` or `base * min_lr_ratio`;\n\
             - else `target + 0.5 * (base - target) * (cos(pi * f) + 1)` with `f = (p - W) / (max - W - L)`.\n\
             With `by_epoch=True` the last two take p and max in epochs, while W and L stay iterations: so does the original, \
             with curves that nobody wants, and a warning says so. YOLOX itself says `by_epoch=False`.\n\
             Beside a scheduler of the trainer's own it is refused, in one line that names both: in MMEngine take \
             `param_scheduler` out of the config. `hookbus send RUN lr` holds over it until `--release`.",
        differences: &[
            Difference {
                what: "warm-up and last epochs that fill the training",
                ours: "refused, in one line with the numbers, and the training goes on",
                why: "the original divides by zero at its first iteration",
                recorded: Some(Recorded {
                    file: "yolox_lr",
                    kinds: &["*"],
                    fields: "raised",
                }),
            },
            Difference {
                what: "arguments that do not fit each other or the loop",
                ours: "refused, in one line that names the argument, and the training goes on",
                why: "two of the original's assertions have no text",
                recorded: Some(Recorded {
                    file: "yolox_lr",
                    kinds: &["constructor_error", "iter_runner_warmup_by_epoch"],
                    fields: "raised",
                }),
            },
            Difference {
                what: "`warmup_by_epoch=True` in MMEngine's IterBasedTrainLoop",
                ours: "an epoch of the warm-up is one pass over the data loader",
                why: "the original's assertion has no text, and this loop's loader has a length",
                recorded: None,
            },
            Difference {
                what: "`by_epoch=True` with a warm-up or a tail",
                ours: "the same curve, and a warning",
                why: "the original mixes epochs and iterations, and says nothing",
                recorded: None,
            },
            Difference {
                what: "a scheduler of the trainer's own",
                ours: "refused",
                why: "both would set the learning rate",
                recorded: None,
            },
        ],
        more: None,
    },
    build: |args| Ok(Box::new(YOLOXLrUpdaterHook::new(args)?)),
};

/// See the module.
#[derive(Debug)]
pub struct YOLOXLrUpdaterHook {
    num_last_epochs: f64,
    least: Least,
    by_epoch: bool,
    warms_up: bool,
    /// Iterations or epochs.
    warmup: i64,
    warmup_by_epoch: bool,
    warmup_ratio: f64,
}

impl YOLOXLrUpdaterHook {
    fn new(args: &mut Args<'_>) -> Result<Self, String> {
        let num_last_epochs = args.number("num_last_epochs")?;
        let least = match (
            args.optional_number("min_lr")?,
            args.optional_number("min_lr_ratio")?,
        ) {
            (Some(rate), None) => Least::Rate(rate),
            (None, Some(share)) => Least::ShareOfBase(share),
            (None, None) => {
                return Err("say min_lr or min_lr_ratio: the rate at the end".to_owned());
            }
            (Some(rate), Some(share)) => {
                return Err(format!(
                    "min_lr is {rate} and min_lr_ratio is {share}; say one of them, both are the rate at the end"
                ));
            }
        };
        let name = args.optional_text("warmup")?;
        let hook = Self {
            num_last_epochs,
            least,
            by_epoch: args.flag("by_epoch")?,
            warms_up: name.is_some(),
            warmup: args.integer("warmup_iters")?,
            warmup_by_epoch: args.flag("warmup_by_epoch")?,
            warmup_ratio: args.number("warmup_ratio")?,
        };
        // As the original, only with a warm-up.
        if let Some(name) = name {
            if !WARMUPS.contains(&name.as_str()) {
                return Err(format!(
                    "warmup is {name:?}; it must be one of {}",
                    WARMUPS.join(", ")
                ));
            }
            if hook.warmup <= 0 {
                return Err(format!(
                    "warmup_iters is {}; with warmup = {name:?} it must be at least 1",
                    hook.warmup
                ));
            }
            if !(hook.warmup_ratio > 0.0 && hook.warmup_ratio <= 1.0) {
                return Err(format!(
                    "warmup_ratio is {}; it must be above 0 and at most 1",
                    hook.warmup_ratio
                ));
            }
        }
        Ok(hook)
    }

    /// Errors: what the facts lack, and how to give it.
    fn course(&self, facts: &Facts) -> Result<Course, String> {
        let iters = facts.total_iters().ok_or(
            "the number of iterations is not known, so the curve has no end: say attach(max_iters=...), or both \
             attach(max_epochs=..., iters_per_epoch=...)",
        )?;
        if self.warmup_by_epoch && facts.max_epochs.is_none() {
            return Err(
                "warmup_by_epoch is true, and this training counts iterations only: say warmup_by_epoch = false with \
                 warmup_iters in iterations, or attach(max_epochs=...)"
                    .to_owned(),
            );
        }
        let epoch_iters = || {
            facts.iters_per_epoch.filter(|iters| *iters > 0).ok_or(
                "the number of iterations of an epoch is not known, and epochs are counted: say attach(iters_per_epoch=...)",
            )
        };
        let warmup = if self.warmup_by_epoch {
            self.warmup as f64 * epoch_iters()? as f64
        } else {
            self.warmup as f64
        };
        let last = if self.num_last_epochs == 0.0 {
            0.0
        } else {
            epoch_iters()? as f64 * self.num_last_epochs
        };
        let pace = match (self.by_epoch, facts.max_epochs) {
            (false, _) => Pace::Iters,
            (true, Some(max_epochs)) => Pace::Epochs {
                iters: epoch_iters()?,
                max_epochs,
            },
            (true, None) => Pace::Never,
        };
        Ok(Course {
            iters,
            warmup,
            warmup_ratio: self.warms_up.then_some(self.warmup_ratio),
            last,
            least: self.least,
            pace,
        })
    }

    fn warnings(&self, course: &Course) -> Vec<String> {
        let warning = match course.pace {
            Pace::Epochs { iters, max_epochs }
                if iters > 1 && (course.warmup != 0.0 || course.last != 0.0) =>
            {
                format!(
                    "YOLOXLrUpdaterHook: by_epoch is true, so as in mmcv the curve sets {max_epochs} epochs against a warm-up of \
                 {} iterations and a tail of {} iterations; say by_epoch = false to count all of them in iterations",
                    course.warmup, course.last
                )
            }
            Pace::Never => format!(
                "YOLOXLrUpdaterHook: by_epoch is true and this training counts iterations only, so as in mmcv the learning \
                 rate {}; say by_epoch = false to anneal it",
                if self.warms_up {
                    "stays what it is at the warm-up's end"
                } else {
                    "is never set"
                }
            ),
            _ => return Vec::new(),
        };
        vec![warning]
    }
}

impl Hook for YOLOXLrUpdaterHook {
    fn ahead(&mut self, facts: &Facts, _: &str) -> Result<Ahead, String> {
        if let Some(scheduler) = &facts.own_scheduler {
            return Err(format!(
                "YOLOXLrUpdaterHook and the trainer's own scheduler {scheduler} would both set the learning rate: take one away"
            ));
        }
        let (bases, group_curve) = distinct(&facts.groups)?;
        let course = self.course(facts)?;
        let warnings = self.warnings(&course);
        if course.iters == 0 || (course.pace == Pace::Never && !self.warms_up) {
            return Ok(Ahead {
                standing: None,
                warnings,
            });
        }
        let values = course.iters.saturating_mul(bases.len() as u64);
        if values > MOST_VALUES {
            return Err(format!(
                "{} iterations of {} base rates are {values} learning rates; at most {MOST_VALUES} are held",
                course.iters,
                bases.len()
            ));
        }
        let curves = bases
            .iter()
            .map(|base| course.curve(*base, facts.position.iter));
        Ok(Ahead {
            standing: Some(Standing::Rates {
                curves: curves.collect::<Result<_, _>>()?,
                group_curve,
            }),
            warnings,
        })
    }
}

/// The distinct base rates, and for each group the index of its own. Errors: a group has no rate to start from.
fn distinct(groups: &[ParamGroup]) -> Result<(Vec<f64>, Vec<u32>), String> {
    if groups.is_empty() {
        return Err(
            "the optimizer's parameter groups are not known: say bind(optimizer=...)".to_owned(),
        );
    }
    let (mut bases, mut group_curve): (Vec<f64>, Vec<u32>) = (Vec::new(), Vec::new());
    for (at, group) in groups.iter().enumerate() {
        if !group.base_lr.is_finite() {
            return Err(format!(
                "parameter group {at} has the base learning rate {}; it must be finite",
                group.base_lr
            ));
        }
        let known = bases
            .iter()
            .position(|base| base.to_bits() == group.base_lr.to_bits());
        let curve = known.unwrap_or_else(|| {
            bases.push(group.base_lr);
            bases.len() - 1
        });
        group_curve.push(u32::try_from(curve).map_err(|_| "too many parameter groups")?);
    }
    Ok((bases, group_curve))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Curve, Position, Value};
    use crate::hooks::tests::{decided, refused};

    const TYPE: &str = "YOLOXLrUpdaterHook";

    type Said<'a> = Vec<(&'a str, Value)>;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    /// YOLOX's own arguments, but for what `more` says.
    fn args<'a>(more: &[(&'a str, Value)]) -> Said<'a> {
        let mut args = vec![
            ("num_last_epochs", Value::Integer(1)),
            ("min_lr_ratio", Value::Number(0.05)),
            ("by_epoch", Value::Boolean(false)),
            ("warmup", text("exp")),
            ("warmup_iters", Value::Integer(1)),
            ("warmup_by_epoch", Value::Boolean(true)),
            ("warmup_ratio", Value::Integer(1)),
        ];
        args.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        args.extend(more.iter().cloned());
        args
    }

    fn facts(max_epochs: u64, iters_per_epoch: u64, bases: &[f64]) -> Facts {
        let group = |base_lr: &f64| ParamGroup {
            base_lr: *base_lr,
            name: String::new(),
        };
        Facts {
            max_epochs: Some(max_epochs),
            iters_per_epoch: Some(iters_per_epoch),
            groups: bases.iter().map(group).collect(),
            ..Facts::default()
        }
    }

    fn rates(args: &[(&str, Value)], facts: &Facts) -> (Vec<Curve>, Vec<u32>, Vec<String>) {
        let ahead = decided(TYPE, args, facts);
        match ahead.standing {
            Some(Standing::Rates {
                curves,
                group_curve,
            }) => (curves, group_curve, ahead.warnings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_bits_are_those_of_python() {
        // Found with Python 3.11 on glibc from the module's formulas; the recorded curves are compared in tests/.
        let none = [
            ("warmup", Value::Null),
            ("warmup_iters", Value::Integer(0)),
            ("num_last_epochs", Value::Integer(0)),
        ];
        let by_iter = args(&[
            ("num_last_epochs", Value::Integer(1)),
            ("warmup_ratio", Value::Number(0.1)),
        ]);
        let by_epoch = args(&[&none[..], &[("by_epoch", Value::Boolean(true))]].concat());
        let expected: [(Said<'_>, Facts, Vec<u64>); 2] = [
            (
                by_iter,
                facts(4, 3, &[0.01]),
                vec![
                    0x3f1d208a5a912e32,
                    0x3f3d208a5a912e32,
                    0x3f50624dd2f1a9fc,
                    0x3f832d3be4542fe2,
                    0x3f7f3b645a1cac08,
                    0x3f75810624dd2f1a,
                    0x3f678d4fdf3b645c,
                    0x3f529e520447f9c4,
                    0x3f40624dd2f1a9fc,
                    0x3f40624dd2f1a9fc,
                    0x3f40624dd2f1a9fc,
                    0x3f40624dd2f1a9fc,
                ],
            ),
            (
                by_epoch,
                facts(3, 2, &[0.3]),
                vec![
                    0x3fcd47ae147ae148,
                    0x3fcd47ae147ae148,
                    0x3fb6147ae147ae16,
                    0x3fb6147ae147ae16,
                    0x3f8eb851eb851eb8,
                    0x3f8eb851eb851eb8,
                ],
            ),
        ];
        for (args, facts, bits) in expected {
            let (curves, ..) = rates(&args, &facts);
            let ours: Vec<_> = curves[0].values.iter().map(|rate| rate.to_bits()).collect();
            assert_eq!(ours, bits, "{args:?}");
        }
    }

    #[test]
    fn one_curve_for_each_distinct_base_rate_from_the_start() {
        let mut facts = facts(4, 3, &[0.1, 0.2, 0.1, 0.30000000000000004, 0.3]);
        facts.position = Position {
            epoch: 2,
            iter: 6,
            inner_iter: 0,
        };
        let (curves, group_curve, warnings) = rates(&args(&[]), &facts);
        assert_eq!(group_curve, [0, 1, 0, 2, 3]);
        assert_eq!(curves.len(), 4);
        assert!(
            curves
                .iter()
                .all(|curve| curve.first_iter == 0 && curve.values.len() == 12)
        );
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn by_epoch_warns_once_of_its_units() {
        let by_epoch = [
            ("by_epoch", Value::Boolean(true)),
            ("num_last_epochs", Value::Integer(2)),
        ];
        let (curves, _, warnings) = rates(&args(&by_epoch), &facts(9, 10, &[1.0]));
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}")
        };
        let says = "9 epochs against a warm-up of 10 iterations and a tail of 20 iterations";
        assert!(warning.contains(says), "{warning}");
        // p >= max - L at once.
        assert!(curves[0].values[10..].iter().all(|rate| *rate == 0.05));
        let (_, _, alike) = rates(&args(&by_epoch), &facts(9, 1, &[1.0]));
        assert!(alike.is_empty(), "an epoch is an iteration: {alike:?}");
    }

    #[test]
    fn by_epoch_without_epochs_sets_only_the_warm_up() {
        let mut facts = facts(0, 10, &[1.0]);
        (facts.max_epochs, facts.max_iters) = (None, Some(4));
        let mut said = args(&[
            ("by_epoch", Value::Boolean(true)),
            ("warmup_by_epoch", Value::Boolean(false)),
            ("warmup_iters", Value::Integer(2)),
            ("warmup_ratio", Value::Number(0.5)),
        ]);
        let (curves, _, warnings) = rates(&said, &facts);
        assert_eq!(curves[0].values, [0.125, 0.5, 0.5, 0.5]);
        assert!(warnings[0].contains("stays what it is"), "{warnings:?}");
        said.retain(|(name, _)| *name != "warmup");
        let ahead = decided(TYPE, &said, &facts);
        assert_eq!(ahead.standing, None);
        assert!(ahead.warnings[0].contains("is never set"), "{ahead:?}");
    }

    #[test]
    fn a_division_by_zero_is_a_refusal_but_for_a_resume_after_it() {
        let said = args(&[("warmup_iters", Value::Integer(2))]);
        let mut facts = facts(3, 5, &[0.01]);
        let why = refused(TYPE, &said, &facts);
        let says = "length (15 iterations) equals warm-up (10 iterations) plus num_last_epochs (5 iterations)";
        assert!(why.contains(says), "{why}");
        facts.position.iter = 9;
        let (curves, ..) = rates(&said, &facts);
        assert_eq!((curves[0].first_iter, curves[0].values.len()), (9, 6));
        // Shorter than both together, it works: all of the warm-up, then the tail.
        let (curves, ..) = rates(&said, &self::facts(2, 5, &[1.0]));
        assert_eq!(curves[0].values[9], 1.0);
        assert!(curves[0].values[0] < 0.02);
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        let int = Value::Integer;
        let whole = facts(9, 10, &[0.1]);
        let no_groups = facts(9, 10, &[]);
        let no_rate = facts(9, 10, &[0.1, f64::NAN]);
        let no_length = Facts {
            iters_per_epoch: None,
            ..whole.clone()
        };
        let no_epochs = Facts {
            max_epochs: None,
            max_iters: Some(90),
            ..whole.clone()
        };
        let iters_only = Facts {
            iters_per_epoch: None,
            ..no_epochs.clone()
        };
        let scheduled = Facts {
            own_scheduler: Some("StepLR".into()),
            ..whole.clone()
        };
        let long = facts(100_000, 10_000, &[0.1]);
        let in_iters = ("warmup_by_epoch", Value::Boolean(false));
        for (more, facts, says) in [
            (
                vec![("min_lr", Value::Number(0.1))],
                &whole,
                "min_lr is 0.1 and min_lr_ratio is 0.05",
            ),
            (
                vec![("min_lr_ratio", Value::Null)],
                &whole,
                "say min_lr or min_lr_ratio",
            ),
            (
                vec![("min_lr_ratio", Value::Number(f64::INFINITY))],
                &whole,
                "must be a finite number",
            ),
            (
                vec![("warmup", text("cosine"))],
                &whole,
                "must be one of constant, linear, exp",
            ),
            (vec![("warmup_iters", int(0))], &whole, "warmup_iters is 0"),
            (vec![("warmup_ratio", int(0))], &whole, "warmup_ratio is 0"),
            (
                vec![("warmup_ratio", Value::Number(1.5))],
                &whole,
                "warmup_ratio is 1.5",
            ),
            (
                vec![("by_epoch", int(1))],
                &whole,
                "by_epoch is 1; it must be true or false",
            ),
            (
                vec![("num_last_epochs", Value::Null)],
                &whole,
                "num_last_epochs is None",
            ),
            (vec![], &no_groups, "bind(optimizer=...)"),
            (vec![], &no_rate, "group 1 has the base learning rate NaN"),
            (vec![], &no_length, "attach(max_iters=...)"),
            (vec![], &no_epochs, "warmup_by_epoch is true"),
            (vec![in_iters], &iters_only, "attach(iters_per_epoch=...)"),
            (
                vec![],
                &scheduled,
                "YOLOXLrUpdaterHook and the trainer's own scheduler StepLR",
            ),
            (vec![], &long, "at most 200000000"),
        ] {
            let why = refused(TYPE, &args(&more), facts);
            assert!(why.contains(says), "{why:?} does not say {says:?}");
        }
    }
}
