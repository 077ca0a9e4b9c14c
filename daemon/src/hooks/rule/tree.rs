//! What a rule says, as trees that have their types: nothing can be of a wrong one when an event comes. Numbers are floats
//! and compare as IEEE 754 has it, so that an infinite loss is above 3.

use super::functions::{Does, FUNCTIONS};

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    Constant(f64),
    /// By its place among the rule's inputs.
    Input(usize),
    /// By its place among the rule's windows.
    Window(usize),
    Negative(Box<Number>),
    Of(Arithmetic, Box<(Number, Number)>),
    /// A function of one or two numbers, by its place in the list.
    Call(usize, Vec<Number>),
}

/// Two numbers make one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// With the sign of the left one.
    Remainder,
    Power,
}

/// True or false.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Truth {
    Constant(bool),
    Not(Box<Truth>),
    All(Vec<Truth>),
    Any(Vec<Truth>),
    /// Whether they are the same (or not).
    Same(bool, Box<(Truth, Truth)>),
    Compare(Comparison, Box<(Number, Number)>),
    /// A test of one number, by its place in the list.
    Test(usize, Box<Number>),
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// A text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Text {
    Constant(String),
    Number(Number),
    Truth(Truth),
    Both(Box<(Text, Text)>),
}

/// What is known at an event, in the order of the rule's inputs and windows.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) inputs: &'a [f64],
    pub(super) windows: &'a [f64],
}

impl Number {
    pub(super) fn of(&self, values: Values<'_>) -> f64 {
        match self {
            Self::Constant(value) => *value,
            Self::Input(at) => values.inputs[*at],
            Self::Window(at) => values.windows[*at],
            Self::Negative(number) => -number.of(values),
            Self::Of(how, both) => {
                let (left, right) = (both.0.of(values), both.1.of(values));
                match how {
                    Arithmetic::Add => left + right,
                    Arithmetic::Subtract => left - right,
                    Arithmetic::Multiply => left * right,
                    Arithmetic::Divide => left / right,
                    Arithmetic::Remainder => left % right,
                    Arithmetic::Power => left.powf(right),
                }
            }
            Self::Call(function, args) => match (&FUNCTIONS[*function].does, args.as_slice()) {
                (Does::One(function), [x]) => function(x.of(values)),
                (Does::Two(function), [a, b]) => function(a.of(values), b.of(values)),
                (other, args) => unreachable!("{other:?} is not called with {args:?}"),
            },
        }
    }

    /// The inputs that it is made of, some of them more than once.
    pub(super) fn inputs(&self) -> Vec<usize> {
        match self {
            Self::Constant(_) | Self::Window(_) => Vec::new(),
            Self::Input(at) => vec![*at],
            Self::Negative(number) => number.inputs(),
            Self::Of(_, both) => [both.0.inputs(), both.1.inputs()].concat(),
            Self::Call(_, args) => args.iter().flat_map(Self::inputs).collect(),
        }
    }
}

impl Truth {
    pub(super) fn of(&self, values: Values<'_>) -> bool {
        match self {
            Self::Constant(value) => *value,
            Self::Not(truth) => !truth.of(values),
            Self::All(truths) => truths.iter().all(|truth| truth.of(values)),
            Self::Any(truths) => truths.iter().any(|truth| truth.of(values)),
            Self::Same(same, both) => (both.0.of(values) == both.1.of(values)) == *same,
            Self::Compare(how, both) => {
                let (left, right) = (both.0.of(values), both.1.of(values));
                match how {
                    Comparison::Less => left < right,
                    Comparison::LessOrEqual => left <= right,
                    Comparison::Greater => left > right,
                    Comparison::GreaterOrEqual => left >= right,
                    Comparison::Equal => left == right,
                    Comparison::NotEqual => left != right,
                }
            }
            Self::Test(function, number) => match &FUNCTIONS[*function].does {
                Does::Test(test) => test(number.of(values)),
                other => unreachable!("{other:?} is no test"),
            },
        }
    }
}

impl Text {
    pub(super) fn of(&self, values: Values<'_>) -> String {
        let mut text = String::new();
        self.write(values, &mut text);
        text
    }

    fn write(&self, values: Values<'_>, out: &mut String) {
        match self {
            Self::Constant(text) => out.push_str(text),
            Self::Number(number) => out.push_str(&shown(number.of(values))),
            Self::Truth(truth) => out.push_str(if truth.of(values) { "true" } else { "false" }),
            Self::Both(both) => {
                both.0.write(values, out);
                both.1.write(values, out);
            }
        }
    }
}

/// A number in a text: 500, 0.25, 1e-7, inf, NaN.
pub(super) fn shown(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-5..1e16).contains(&size) || !size.is_finite() {
        format!("{number}")
    } else {
        format!("{number:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_are_short() {
        for (number, text) in [
            (500.0, "500"),
            (-0.25, "-0.25"),
            (1e-7, "1e-7"),
            (2.5e300, "2.5e300"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
            (17_179_869_184.0, "17179869184"),
        ] {
            assert_eq!(shown(number), text);
        }
    }
}
