//! What can be called in a rule, in one list: reading, the page and the mistakes follow it.

use super::windows::Over;

/// One function.
pub(super) struct Function {
    pub(super) name: &'static str,
    /// Its arguments, as the page and mistakes show them.
    pub(super) args: &'static str,
    pub(super) does: Does,
    pub(super) help: &'static str,
}

/// What a function does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    /// A number from one.
    One(fn(f64) -> f64),
    /// A number from two.
    Two(fn(f64, f64) -> f64),
    /// True or false from a number.
    Test(fn(f64) -> bool),
    /// A number from the last n of a number.
    Window(Over),
    /// A number from the last seconds of a memory series.
    Lately(Lately),
    /// A metric by its name.
    Metric,
}

/// What of the last seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lately {
    Mean,
    Highest,
}

pub(super) const FUNCTIONS: &[Function] = &[
    of(
        "is_finite",
        "x",
        Does::Test(f64::is_finite),
        "whether it is neither NaN nor infinite",
    ),
    of("is_nan", "x", Does::Test(f64::is_nan), "whether it is NaN"),
    of("abs", "x", Does::One(f64::abs), "without its sign"),
    of("sqrt", "x", Does::One(f64::sqrt), "the square root"),
    of("exp", "x", Does::One(f64::exp), "e to the power of it"),
    of("ln", "x", Does::One(f64::ln), "the natural logarithm"),
    of(
        "log10",
        "x",
        Does::One(f64::log10),
        "the logarithm to the base 10",
    ),
    of(
        "floor",
        "x",
        Does::One(f64::floor),
        "the next whole number below",
    ),
    of(
        "ceil",
        "x",
        Does::One(f64::ceil),
        "the next whole number above",
    ),
    of(
        "round",
        "x",
        Does::One(f64::round),
        "the nearest whole number, half away from zero",
    ),
    of(
        "min",
        "a, b",
        Does::Two(f64::min),
        "the smaller one; of NaN and a number the number",
    ),
    of(
        "max",
        "a, b",
        Does::Two(f64::max),
        "the larger one; of NaN and a number the number",
    ),
    of(
        "metric",
        "'name'",
        Does::Metric,
        "a metric whose name is none here: `metric('val/acc')`",
    ),
    of(
        "ewma",
        "x, n",
        Does::Window(Over::Ewma),
        "the exponentially weighted mean: each value counts 2 / (n + 1), the first one starts it",
    ),
    of(
        "mean",
        "x, n",
        Does::Window(Over::Mean),
        "the mean of the last n",
    ),
    of(
        "std",
        "x, n",
        Does::Window(Over::Std),
        "the standard deviation of the last n (that of all of them, as numpy's; 0 of one)",
    ),
    of(
        "lowest",
        "x, n",
        Does::Window(Over::Lowest),
        "the lowest of the last n",
    ),
    of(
        "highest",
        "x, n",
        Does::Window(Over::Highest),
        "the highest of the last n",
    ),
    of(
        "slope",
        "x, n",
        Does::Window(Over::Slope),
        "by how much it grows an event, by least squares over the last n; known from two on",
    ),
    of(
        "ago",
        "x, n",
        Does::Window(Over::Ago),
        "the value n events before this one; known once there are so many",
    ),
    of(
        "mean_s",
        "memory, seconds",
        Does::Lately(Lately::Mean),
        "the mean of a memory number over the last seconds",
    ),
    of(
        "highest_s",
        "memory, seconds",
        Does::Lately(Lately::Highest),
        "the highest of a memory number over the last seconds",
    ),
];

const fn of(name: &'static str, args: &'static str, does: Does, help: &'static str) -> Function {
    Function {
        name,
        args,
        does,
        help,
    }
}

impl Function {
    /// How many arguments it takes.
    pub(super) fn takes(&self) -> usize {
        self.args.split(", ").count()
    }

    /// "ewma(x, n)".
    pub(super) fn call(&self) -> String {
        format!("{}({})", self.name, self.args)
    }
}

/// Its place in the list.
pub(super) fn find(name: &str) -> Option<usize> {
    FUNCTIONS.iter().position(|function| function.name == name)
}
