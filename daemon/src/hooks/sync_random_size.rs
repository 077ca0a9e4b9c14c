//! SyncRandomSizeHook: changes the input's size at random, alike on all ranks. What it sees, when it fires and what it does is
//! on its page, below.
//!
//! The k-th s is the first 8 bytes, little endian, of sha256("hookbus size", seed, k), both as 8 bytes little endian, scaled to the
//! range by multiplication. Without a seed of the trainer's it is the first 8 bytes, little endian, of sha256(the run's name).

use sha2::{Digest, Sha256};

use super::{Ahead, Arg, Args, Difference, Hook, Kind, Page, Recorded};
use crate::domain::{Facts, Size, SizeFrom, SizeStep, Standing};

/// Pixels of one step of the ratio.
const STEP_PIXELS: i64 = 32;
/// 24 MB. YOLOX itself makes 55 thousand on COCO: 300 epochs, batches of 64, every 10 iterations.
const MOST_STEPS: u64 = 1_000_000;

pub(super) const KIND: Kind = Kind {
    type_name: "SyncRandomSizeHook",
    summary: "changes the input's size at random, alike on all ranks",
    points: &["before_train_epoch", "before_train_iter"],
    effect: "input size from the next epoch or iteration on",
    args: &[
        Arg {
            name: "ratio_range",
            default: "[14, 26]",
            help: "least and greatest height in steps of 32 pixels; None: no change",
        },
        Arg {
            name: "img_scale",
            default: "[640, 640]",
            help: "height and width; only their ratio counts",
        },
        Arg {
            name: "interval",
            default: "1",
            help: "change every n epochs",
        },
        Arg {
            name: "device",
            default: "\"cuda\"",
            help: "as in MMDetection; not looked at",
        },
        Arg {
            name: "by_epoch",
            default: "true",
            help: "false: change every n iterations, as YOLOX does",
        },
    ],
    example: &[],
    config_only: false,
    page: Page {
        original: "MMDetection 2.28.2",
        sees: "`max_epochs` (with `by_epoch=False` the number of iterations), the trainer's seed, and what its input must be a \
             multiple of. All sizes are decided before the training starts, so that a daemon that dies later changes none.",
        fires: "After each epoch e, counted from 0, with `(e + 1) % interval == 0` a size is drawn, which holds from epoch e + 1 \
             on. With `by_epoch=False` the same is said of iterations, as YOLOX itself does it. A negative interval counts \
             as the positive one. Before the first change the \
             size is the trainer's own.",
        does: "For a random s of `ratio_range`, both ends included, the height is 32 s, and the width 32 times the whole part \
             of `s * img_scale[1] / img_scale[0]`.\n\
             The size goes to the data preprocessor's `BatchSyncRandomResize`, in place of its own draw, else to the \
             dataset's `update_dynamic_scale`; in a plain loop to `bus.on(\"size\", …)`. `hookbus send RUN size` holds until \
             the next change.\n\
             The k-th size is a function of the seed and k: the same on all ranks and after a resume, and no random number of \
             the trainer's own is used up. The seed is the trainer's, else it is made from the run's name.",
        differences: &[
            Difference {
                what: "the draws",
                ours: "a function of the seed and k; for the comparison the recorded ones are put in their place",
                why: "the original takes numbers from the user's global generator, and a resume finds other sizes",
                recorded: Some(Recorded {
                    file: "sync_random_size",
                    kinds: &["*"],
                    fields: "draws, next_random",
                }),
            },
            Difference {
                what: "the constructor's warning",
                ours: "none",
                why: "it is of MMDetection's own deprecation; `by_epoch=False` changes the size every n iterations, as it asks for",
                recorded: Some(Recorded {
                    file: "sync_random_size",
                    kinds: &["*"],
                    fields: "constructor_warning",
                }),
            },
            Difference {
                what: "`interval=0`, an image of height 0",
                ours: "refused where they are configured",
                why: "the original divides by zero after the first epoch",
                recorded: Some(Recorded {
                    file: "sync_random_size",
                    kinds: &["errors"],
                    fields: "raised",
                }),
            },
            Difference {
                what: "a range that can give 0 or negative pixels",
                ours: "refused where it is configured",
                why: "no training survives such an input",
                recorded: Some(Recorded {
                    file: "sync_random_size",
                    kinds: &["ratio_range", "img_scale"],
                    fields: "changes",
                }),
            },
            Difference {
                what: "a dataset without `update_dynamic_scale`",
                ours: "the result says so, and the training goes on",
                why: "the original raises at its first change; no dataset of MMDetection 2.28.2 has it",
                recorded: Some(Recorded {
                    file: "sync_random_size",
                    kinds: &["genuine_dataset"],
                    fields: "raised",
                }),
            },
            Difference {
                what: "`device`",
                ours: "not looked at: no tensor is made",
                why: "with its default the original fails on a host without a GPU",
                recorded: Some(Recorded {
                    file: "sync_random_size",
                    kinds: &["default_device_cuda_on_cpu_host"],
                    fields: "raised",
                }),
            },
        ],
        more: None,
    },
    build: |args| Ok(Box::new(SyncRandomSizeHook::new(args)?)),
};

/// See the module.
#[derive(Debug)]
pub struct SyncRandomSizeHook {
    ratio_range: Option<(i64, i64)>,
    /// Width to height.
    aspect: f64,
    /// At least 1.
    interval: u64,
    by_epoch: bool,
}

impl SyncRandomSizeHook {
    /// From its arguments. Errors: the text names the argument.
    pub fn new(args: &mut Args<'_>) -> Result<Self, String> {
        let ratio_range = args.optional_pair("ratio_range")?;
        let (height, width) = args.pair("img_scale")?;
        // A float beyond i64 is an interval that no training reaches.
        let interval = args.interval("interval")?.whole().unwrap_or(i64::MAX);
        args.ignored("device");
        let by_epoch = args.flag("by_epoch")?;
        if interval == 0 {
            return Err("interval is 0; it must not be, say 1 to change each time".to_owned());
        }
        if height == 0 {
            return Err(format!(
                "img_scale is [0, {width}]; its height must not be 0, the width is a multiple of it"
            ));
        }
        let hook = Self {
            ratio_range,
            aspect: width as f64 / height as f64,
            interval: interval.unsigned_abs(),
            by_epoch,
        };
        if let Some((least, most)) = ratio_range {
            if least > most {
                return Err(format!(
                    "ratio_range is [{least}, {most}]; the first must not be the greater one"
                ));
            }
            for ratio in [least, most] {
                hook.size(ratio).ok_or_else(|| {
                    format!(
                        "ratio_range [{least}, {most}] with img_scale [{height}, {width}] can give a size that is no input: \
                         at {ratio} height or width is not from 1 to {} pixels",
                        u32::MAX
                    )
                })?;
            }
        }
        Ok(hook)
    }

    /// The original's arithmetic: the width is cut to whole steps. None: not from 1 to `u32::MAX` pixels.
    fn size(&self, ratio: i64) -> Option<Size> {
        let pixels = |steps: i64| {
            let pixels = u32::try_from(steps.checked_mul(STEP_PIXELS)?).ok()?;
            (pixels > 0).then_some(pixels)
        };
        Some(Size {
            height: pixels(ratio)?,
            width: pixels((ratio as f64 * self.aspect) as i64)?,
        })
    }

    /// All changes from the training's start, with s drawn by `draw(least, most)` once for each, in their order. Errors: what
    /// the facts lack, or do not allow.
    pub fn steps(
        &self,
        facts: &Facts,
        draw: &mut dyn FnMut(i64, i64) -> i64,
    ) -> Result<Vec<SizeStep>, String> {
        let Some((least, most)) = self.ratio_range else {
            return Ok(Vec::new());
        };
        self.fits_multiple(facts.size_multiple, least, most)?;
        let (end, unit) = if self.by_epoch {
            let max_epochs = facts.max_epochs.ok_or(
                "max_epochs is not known, so the changes have no end: say attach(max_epochs=...)",
            )?;
            (max_epochs, "epochs")
        } else {
            let total_iters = facts.total_iters().ok_or(
                "the number of iterations is not known, so the changes have no end: say attach(max_iters=...), or both \
                 attach(max_epochs=..., iters_per_epoch=...)",
            )?;
            (total_iters, "iterations")
        };
        let steps = end.saturating_sub(1) / self.interval;
        if steps > MOST_STEPS {
            return Err(format!(
                "a change every {} of {end} {unit} makes {steps} changes; at most {MOST_STEPS} are held, say a longer interval",
                self.interval
            ));
        }
        let step = |at: u64| {
            let from = at * self.interval;
            let ratio = draw(least, most).clamp(least, most);
            SizeStep {
                from: if self.by_epoch {
                    SizeFrom::Epoch(from)
                } else {
                    SizeFrom::Iter(from)
                },
                size: self
                    .size(ratio)
                    .expect("sizes grow with the ratio, and both ends were looked at"),
            }
        };
        Ok((1..=steps).map(step).collect())
    }

    fn fits_multiple(&self, multiple: u32, least: i64, most: i64) -> Result<(), String> {
        if multiple == 0 {
            return Ok(());
        }
        // Two neighbours are enough: their heights differ by 32, so with both all heights and widths are multiples.
        for ratio in (least..=most).take(2) {
            let size = self.size(ratio).expect("the range was looked at");
            if !size.height.is_multiple_of(multiple) || !size.width.is_multiple_of(multiple) {
                return Err(format!(
                    "ratio_range [{least}, {most}] can give {} x {} pixels, which is not a multiple of {multiple}, as this \
                     trainer needs; sizes are multiples of {STEP_PIXELS}",
                    size.height, size.width
                ));
            }
        }
        Ok(())
    }
}

impl Hook for SyncRandomSizeHook {
    fn ahead(&mut self, facts: &Facts, run: &str) -> Result<Ahead, String> {
        let seed = facts.seed.unwrap_or_else(|| {
            let mut hash = Sha256::new();
            hash.update(run);
            first_eight(hash)
        });
        let mut k = 0;
        let steps = self.steps(facts, &mut |least, most| {
            k += 1;
            drawn(seed, k - 1, least, most)
        })?;
        Ok(Ahead {
            standing: (!steps.is_empty()).then_some(Standing::Sizes(steps)),
            warnings: Vec::new(),
        })
    }
}

/// The k-th s, from `least` to `most`, both included. The scaling's bias is below (most - least + 1) / 2^64.
fn drawn(seed: u64, k: u64, least: i64, most: i64) -> i64 {
    let mut hash = Sha256::new();
    hash.update(b"hookbus size");
    hash.update(seed.to_le_bytes());
    hash.update(k.to_le_bytes());
    let choices = (i128::from(most) - i128::from(least) + 1) as u128;
    let offset = (u128::from(first_eight(hash)) * choices) >> 64;
    (i128::from(least) + offset as i128) as i64
}

fn first_eight(hash: Sha256) -> u64 {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Value;
    use crate::hooks::tests::{decided, refused};

    const TYPE: &str = "SyncRandomSizeHook";

    fn pair(first: i64, second: i64) -> Value {
        Value::List(vec![Value::Integer(first), Value::Integer(second)])
    }

    fn facts(max_epochs: u64, iters_per_epoch: u64) -> Facts {
        Facts {
            max_epochs: Some(max_epochs),
            iters_per_epoch: Some(iters_per_epoch),
            seed: Some(0),
            ..Facts::default()
        }
    }

    fn steps(args: &[(&str, Value)], facts: &Facts) -> Vec<SizeStep> {
        match decided(TYPE, args, facts).standing {
            Some(Standing::Sizes(steps)) => steps,
            None => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn draws_are_a_function_of_the_seed() {
        // Found with Python's hashlib from the module's text.
        for (seed, drawn) in [
            (Some(0), [19, 25, 25, 17, 23, 15, 17, 16]),
            (Some(42), [20, 17, 21, 25, 22, 22, 14, 24]),
            (None, [26, 23, 23, 26, 17, 19, 14, 17]), // the run's name
        ] {
            let facts = Facts {
                seed,
                ..facts(9, 1)
            };
            let heights = steps(&[], &facts)
                .iter()
                .map(|step| i64::from(step.size.height) / STEP_PIXELS)
                .collect::<Vec<_>>();
            assert_eq!(heights, drawn, "seed {seed:?}");
        }
        // Every choice of a range comes, the ends too.
        let seen: std::collections::BTreeSet<_> = (0..200).map(|k| drawn(7, k, -1, 2)).collect();
        assert_eq!(seen, (-1..=2).collect());
        assert_eq!(drawn(7, 0, 5, 5), 5);
    }

    #[test]
    fn a_change_holds_from_what_follows_and_only_before_the_end() {
        let epochs = |at: &[u64]| at.iter().copied().map(SizeFrom::Epoch).collect::<Vec<_>>();
        let iters = |at: &[u64]| at.iter().copied().map(SizeFrom::Iter).collect::<Vec<_>>();
        let int = Value::Integer;
        for (args, from) in [
            (vec![], epochs(&[1, 2, 3, 4, 5, 6])),
            (vec![("interval", int(2))], epochs(&[2, 4, 6])),
            (vec![("interval", int(-3))], epochs(&[3, 6])),
            (vec![("interval", Value::Number(1.5))], epochs(&[3, 6])),
            (vec![("interval", int(7))], vec![]),
            (vec![("interval", Value::Number(f64::INFINITY))], vec![]),
            (vec![("ratio_range", Value::Null)], vec![]),
            (vec![("interval", int(5)), ("device", int(0))], epochs(&[5])),
            (
                vec![("interval", int(10)), ("by_epoch", Value::Boolean(false))],
                iters(&[10, 20, 30]),
            ),
        ] {
            let steps = steps(&args, &facts(7, 5));
            let at: Vec<_> = steps.iter().map(|step| step.from).collect();
            assert_eq!(at, from, "{args:?}");
        }
    }

    #[test]
    fn the_width_is_cut_to_whole_steps() {
        for (scale, ratio, height, width) in [
            (pair(640, 640), 20, 640, 640),
            (pair(640, 480), 26, 832, 608),
            (pair(1333, 800), 11, 352, 192),
            (pair(-640, -960), 1, 32, 32),
        ] {
            let args = [("img_scale", scale), ("ratio_range", pair(ratio, ratio))];
            let size = steps(&args, &facts(2, 1))[0].size;
            assert_eq!((size.height, size.width), (height, width), "{args:?}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        let int = Value::Integer;
        let whole = facts(7, 5);
        let no_multiple = Facts {
            size_multiple: 64,
            ..facts(7, 5)
        };
        let by_iter = ("by_epoch", Value::Boolean(false));
        for (args, facts, says) in [
            (vec![("interval", int(0))], &whole, "interval is 0"),
            (
                vec![("img_scale", pair(0, 640))],
                &whole,
                "img_scale is [0, 640]",
            ),
            (
                vec![("ratio_range", pair(3, 2))],
                &whole,
                "ratio_range is [3, 2]",
            ),
            (
                vec![("ratio_range", pair(0, 3))],
                &whole,
                "at 0 height or width",
            ),
            (
                vec![("ratio_range", pair(-3, 3))],
                &whole,
                "at -3 height or width",
            ),
            (
                vec![("img_scale", pair(100, 1))],
                &whole,
                "at 14 height or width",
            ),
            (
                vec![("img_scale", pair(-1, 1))],
                &whole,
                "at 14 height or width",
            ),
            (
                vec![("ratio_range", pair(1, 1 << 27))],
                &whole,
                "height or width",
            ),
            (
                vec![("ratio_range", pair(1, i64::MAX))],
                &whole,
                "height or width",
            ),
            (
                vec![("ratio_range", Value::List(vec![int(1)]))],
                &whole,
                "ratio_range is [1]; it must be two whole numbers",
            ),
            (
                vec![],
                &no_multiple,
                "480 x 480 pixels, which is not a multiple of 64",
            ),
            (vec![], &Facts::default(), "attach(max_epochs=...)"),
            (
                vec![by_iter.clone()],
                &Facts::default(),
                "attach(max_iters=...)",
            ),
            (vec![by_iter], &facts(1001, 1000), "makes 1000999 changes"),
        ] {
            let why = refused(TYPE, &args, facts);
            assert!(why.contains(says), "{why:?} does not say {says:?}");
        }
        // One size of the range: is it a multiple?
        let one = [("ratio_range", pair(14, 14))];
        assert_eq!(steps(&one, &no_multiple)[0].size.height, 448);
    }
}
