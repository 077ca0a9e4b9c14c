//! The page of rules: the words that they may use come from the lists that reading follows.

use std::fmt::Write as _;

use super::actions::ACTIONS;
use super::functions::{Does, FUNCTIONS};
use super::inputs::POSITION;
use super::windows;
use crate::hooks::{OWN, Page};
use crate::store::series::{Kind, Name, REACH};

pub(super) const PAGE: Page = Page {
    original: OWN,
    sees: "The metrics that its texts name and nothing else, the position, and memory as the daemon samples it. The trainer \
           sends just these metrics, at just these events. Where one of them is not known (it is not reported there, it is \
           on a device, memory cannot be read), the rule is not looked at, and decides nothing.",
    fires: "`at` says which, `every` how often, counted as MMEngine counts: global iterations of the training, iterations of \
            a validation or test, epochs. There `when` is looked at, and the rule acts where it was false before and is \
            true now: a loss that stays high is one incident, not one each iteration. With `each = true` it acts each time. \
            What was true is known of each rank by itself, and survives the daemon.",
    does: "What `do` says: one action, or a list of them, in their order. With `gate = true` the training waits for the \
           answer at each due event, `deadline_ms` at most, and goes on or stops without one as `otherwise` says; a gate acts \
           each time. The condition `!is_finite(NAME)`, and nothing beside it, is looked at in the trainer, which then waits \
           only where it holds, and on every rank of a process group where it holds on one. A number that cannot be carried \
           out (a negative learning rate, say) is an error of the hook there, and that action is left out.",
    differences: &[],
    more: Some(more),
};

const EXAMPLES: &str = r#"## Examples

CheckInvalidLossHook as a rule:

```toml
[[hooks]]
type = "Rule"
name = "invalid-loss"
at = "after_train_iter"
every = 50
gate = true
when = "!is_finite(loss)"
do = "stop('loss become infinite or NaN!')"
otherwise = "stop"
```

Half the learning rate where the validation has not become better for ten epochs, and say so:

```toml
[[hooks]]
type = "Rule"
name = "plateau"
at = "after_val_epoch"
when = "metric('coco/bbox_mAP') <= ago(metric('coco/bbox_mAP'), 10)"
do = ["lr_scale(0.5)", "log('no better than ten epochs ago: ' + metric('coco/bbox_mAP'))"]
```

A checkpoint before the memory limit is reached, and a warning where a GPU fills up:

```toml
[[hooks]]
type = "Rule"
name = "near-the-limit"
at = "after_train_iter"
every = 10
when = "cgroup_working_set_bytes > 0.95 * cgroup_limit_bytes"
do = ["checkpoint('before-oom')", "warn('95 % of the memory limit at iteration ' + iter)"]

[[hooks]]
type = "Rule"
name = "gpu-fills-up"
at = "after_train_epoch"
when = "highest_s(gpu_used_bytes, 600) > 0.9 * gpu_total_bytes"
do = "incident('a GPU was over 90 % in the last ten minutes')"
```
"#;

const LANGUAGE: &str = "\
## What a rule may say

One expression for `when`, which is true or false, and one call for each action. Numbers are floats: `iter / 100` has a
fraction, and comparisons are exact (NaN is neither above nor below anything, infinity is above every number). The
operators are `+ - * / % **` (`%` has the sign of its left side), `< <= > >= == !=`, `&& || !` and brackets; `+` also
joins texts and numbers: `'loss is ' + loss`. Texts stand in single or double quotes on one line; a quote in one is `\\'`. There are no statements, loops, files,
or functions of one's own. A text has at most 4,096 characters, and at most 64 brackets, operators and calls in each other
or in a row. Everything that is wrong is said where the daemon starts, and by `hookbusd --check-config`, with the key and
the column.

| word | what it is |
|---|---|
";

const METRICS: &str = "\
| any other name | the metric of this name: `loss`, `lr`, `acc`; one that is no name, or one of these, is `metric('val/acc')` |
";

fn more() -> String {
    let mut out = EXAMPLES.to_owned() + "\n" + LANGUAGE;
    for (word, help) in POSITION {
        let _ = writeln!(out, "| `{word}` | {help} |");
    }
    out.push_str(METRICS);
    for (kind, whose) in [
        (Kind::Host, "memory of the machine"),
        (Kind::Rank, "memory of the rank"),
        (Kind::Gpu, "of the GPUs that the rank uses, the largest"),
    ] {
        let names = Name::ALL.into_iter().filter(|name| name.kind() == kind);
        let names: Vec<_> = names.map(|name| format!("`{}`", name.word())).collect();
        let _ = writeln!(out, "| {} | {whose} |", names.join(", "));
    }
    functions(&mut out, "function", false);
    let _ = write!(
        out,
        "
Windows are over the last n events of `at` at which their number was known, this one included, whether `every` looks
there or not, and also where `&&` or `||` would not come to them. A value that is not finite is left out: it would stay
in every mean. Each rank has its own. Before there are n, it is those that there are. `n` is a whole number from 1 to
{}, seconds one from 1 to {}. A daemon that starts anew goes on with the newest {} of a window.
",
        grouped(windows::LONGEST),
        grouped(REACH.as_secs() as usize),
        grouped(windows::KEPT),
    );
    functions(&mut out, "window", true);
    out.push_str("\n| action | what it does |\n|---|---|\n");
    for action in ACTIONS {
        let _ = writeln!(out, "| `{}` | {} |", action.call(), action.help);
    }
    out
}

fn functions(out: &mut String, what: &str, windows: bool) {
    let _ = write!(out, "\n| {what} | what it is |\n|---|---|\n");
    let is_window = |does| matches!(does, Does::Window(_) | Does::Lately(_));
    for function in FUNCTIONS
        .iter()
        .filter(|one| is_window(one.does) == windows)
    {
        let _ = writeln!(out, "| `{}` | {} |", function.call(), function.help);
    }
}

/// 100,000.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
