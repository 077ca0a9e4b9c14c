//! Calls in an expression: functions, windows, memory over time.

use std::time::Duration;

use rhai::{Expr, FnCallExpr, Position};

use super::super::functions::{Does, FUNCTIONS, Function, find};
use super::super::inputs::{Input, POSITION, near_memory};
use super::super::tree::{Number, Truth};
use super::super::windows::{self, Over, Series, Window};
use super::{Fault, Node, Reader, start};
use crate::domain::near::nearest;
use crate::store::series::{Name, REACH};

/// Windows of one rule.
const WINDOWS: usize = 16;

impl Reader {
    pub(super) fn call(&mut self, call: &FnCallExpr, at: Position) -> Result<Node, Fault> {
        let Some(place) = find(&call.name) else {
            return Err((at, self.unknown(&call.name)));
        };
        let function = &FUNCTIONS[place];
        if call.args.len() != function.takes() {
            let there = arguments(call.args.len());
            let what = format!("it has {there}; it is {}", function.call());
            return Err((at, what));
        }
        let args = call.args.as_slice();
        Ok(match function.does {
            Does::One(_) | Does::Two(_) => {
                let args = args.iter().map(|arg| self.number(arg));
                Node::Number(Number::Call(place, args.collect::<Result<_, _>>()?))
            }
            Does::Test(_) => {
                let of = self.number(&args[0])?;
                Node::Truth(Truth::Test(place, Box::new(of)))
            }
            Does::Metric => {
                let Expr::StringConstant(name, at) = &args[0] else {
                    let what = "a metric's name stands in quotes: metric('val/acc')".to_owned();
                    return Err((start(&args[0]), what));
                };
                let input = Input::metric(name).map_err(|what| (*at, what))?;
                Node::Number(self.input(input, *at)?)
            }
            Does::Window(over) => {
                self.outside_a_window(function, at)?;
                Node::Number(self.window(over, &args[0], &args[1])?)
            }
            Does::Lately(what) => {
                self.outside_a_window(function, at)?;
                let name = memory(&args[0])?;
                let seconds = literal(&args[1], 1, REACH.as_secs() as usize, "seconds")?;
                let last = Duration::from_secs(seconds as u64);
                Node::Number(self.input(Input::Lately(what, name, last), at)?)
            }
        })
    }

    fn outside_a_window(&self, function: &Function, at: Position) -> Result<(), Fault> {
        if self.in_window {
            let what = format!(
                "{} stands inside a window; a window is of numbers that are no windows",
                function.name
            );
            return Err((at, what));
        }
        Ok(())
    }

    fn window(&mut self, over: Over, of: &Expr, n: &Expr) -> Result<Number, Fault> {
        let length = literal(n, 1, windows::LONGEST, "n")?;
        self.in_window = true;
        let number = self.number(of);
        self.in_window = false;
        let number = number?;
        let known = self.series.iter().position(|series| series.of == number);
        let series = known.unwrap_or(self.series.len());
        if known.is_none() {
            self.series.push(Series {
                of: number,
                length: 0,
            });
        }
        let window = Window {
            over,
            series,
            n: length,
        };
        self.series[series].length = self.series[series].length.max(window.length());
        if self
            .series
            .iter()
            .map(|series| series.length)
            .sum::<usize>()
            > windows::MOST
        {
            let what = format!(
                "the windows of a rule hold at most {} values",
                windows::MOST
            );
            return Err((start(n), what));
        }
        let known = self.windows.iter().position(|known| *known == window);
        let place = match known {
            Some(place) => place,
            None if self.windows.len() == WINDOWS => {
                let what = format!("a rule has at most {WINDOWS} windows");
                return Err((start(of), what));
            }
            None => {
                self.windows.push(window);
                self.windows.len() - 1
            }
        };
        Ok(Number::Window(place))
    }

    fn unknown(&self, name: &str) -> String {
        if name == "log" {
            return "log writes a line, and stands in `do`; a logarithm is ln(x) or log10(x)"
                .to_owned();
        }
        if (self.is_action)(name) {
            return format!("{name} is an action: it stands alone, in `do`");
        }
        let names = FUNCTIONS.iter().map(|function| function.name);
        let meant =
            nearest(name, names).map_or_else(String::new, |near| format!("; do you mean {near}?"));
        let known = Input::of(name).is_ok_and(|input| !matches!(input, Input::Metric(_)));
        if known || POSITION.iter().any(|(word, _)| *word == name) {
            return format!("{name} is a number, not a function: leave out the brackets");
        }
        format!("there is no function {name}{meant}")
    }
}

/// "2 arguments".
pub(in crate::hooks::rule) fn arguments(count: usize) -> String {
    format!("{count} argument{}", if count == 1 { "" } else { "s" })
}

/// A whole number that stands there itself.
fn literal(expr: &Expr, least: usize, most: usize, what: &str) -> Result<usize, Fault> {
    let there = match expr {
        Expr::IntegerConstant(value, _) => usize::try_from(*value).ok(),
        _ => None,
    };
    there
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| {
            let what =
                format!("{what} must be a whole number from {least} to {most}, said here itself");
            (start(expr), what)
        })
}

/// A memory number by its word.
fn memory(expr: &Expr) -> Result<Name, Fault> {
    let Expr::Variable(variable, _, at) = expr else {
        let what = "it must be the word of a memory number, as in mean_s(process_rss_bytes, 60)";
        return Err((start(expr), what.to_owned()));
    };
    let word = variable.1.as_str();
    Name::of(word).ok_or_else(|| {
        let meant = near_memory(word).map_or_else(
            || {
                let all: Vec<_> = Name::ALL.into_iter().map(Name::word).collect();
                format!("there are: {}", all.join(", "))
            },
            |near| format!("do you mean {near}?"),
        );
        (*at, format!("there is no memory number {word}; {meant}"))
    })
}
