//! A hook's arguments, taken one by one; what is left over is a mistake.

use std::collections::BTreeMap;

use super::{Kind, NONE, Policy, REQUIRED};
use crate::domain::{Interval, Value};

/// MMEngine's words for priorities.
const PRIORITIES: [(&str, i32); 9] = [
    ("HIGHEST", 0),
    ("VERY_HIGH", 10),
    ("HIGH", 30),
    ("ABOVE_NORMAL", 40),
    ("NORMAL", 50),
    ("BELOW_NORMAL", 60),
    ("LOW", 70),
    ("VERY_LOW", 90),
    ("LOWEST", 100),
];

/// Where nobody says another.
pub const NORMAL: i32 = 50;

/// Takes the key `priority`: a number or one of MMEngine's words; None: it is not said.
pub fn priority(args: &mut BTreeMap<String, Value>) -> Result<Option<i32>, String> {
    let words = || {
        PRIORITIES
            .map(|(word, number)| format!("{word} {number}"))
            .join(", ")
    };
    match args.remove("priority") {
        None => Ok(None),
        Some(Value::Integer(number)) if (0..=100).contains(&number) => Ok(Some(number as i32)),
        Some(Value::Text(word)) => {
            let known = PRIORITIES.iter().find(|(known, _)| *known == word);
            known
                .map(|(_, number)| Some(*number))
                .ok_or_else(|| format!("priority {word:?} is none of {}", words()))
        }
        Some(other) => Err(format!(
            "priority is {other}; it must be from 0 to 100, or one of {}",
            words()
        )),
    }
}

/// Takes the key `policy`; None: it is not said.
pub fn policy(args: &mut BTreeMap<String, Value>) -> Result<Option<Policy>, String> {
    match args.remove("policy") {
        None => Ok(None),
        Some(Value::Text(word)) if word == "act" => Ok(Some(Policy::Act)),
        Some(Value::Text(word)) if word == "warn" => Ok(Some(Policy::Warn)),
        Some(Value::Text(word)) if word == "observe" => Ok(Some(Policy::Observe)),
        Some(other) => Err(format!(
            "policy is {other}; it must be \"act\", \"warn\" or \"observe\""
        )),
    }
}

/// The arguments of one hook, while they are read.
pub struct Args<'a> {
    kind: &'a Kind,
    left: BTreeMap<String, Value>,
}

impl<'a> Args<'a> {
    /// All keys but type and name.
    pub fn new(kind: &'a Kind, args: &BTreeMap<String, Value>) -> Self {
        Self {
            kind,
            left: args.clone(),
        }
    }

    /// Key `priority`: a number or one of MMEngine's words; NORMAL by default.
    pub fn priority(&mut self) -> Result<i32, String> {
        Ok(priority(&mut self.left)?.unwrap_or(NORMAL))
    }

    /// Key `policy`.
    pub fn policy(&mut self) -> Result<Policy, String> {
        Ok(policy(&mut self.left)?.unwrap_or_default())
    }

    /// A whole number; a float without a fraction is one.
    pub fn integer(&mut self, name: &str) -> Result<i64, String> {
        self.read(name, "a whole number", as_integer)
    }

    /// A finite number.
    pub fn number(&mut self, name: &str) -> Result<f64, String> {
        self.read(name, "a finite number", as_number)
    }

    /// A finite number, or none.
    pub fn optional_number(&mut self, name: &str) -> Result<Option<f64>, String> {
        self.read(name, "a finite number", |value| optional(value, as_number))
    }

    /// The n of "every n".
    pub fn interval(&mut self, name: &str) -> Result<Interval, String> {
        self.read(name, "a number", |value| match value {
            Value::Integer(n) => Some(Interval::Whole(*n)),
            Value::Number(n) if !n.is_nan() => Some(Interval::Real(*n)),
            _ => None,
        })
    }

    /// true or false.
    pub fn flag(&mut self, name: &str) -> Result<bool, String> {
        self.read(name, "true or false", |value| match value {
            Value::Boolean(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Anything: it is not looked at.
    pub fn ignored(&mut self, name: &str) {
        self.left.remove(name);
    }

    /// A string.
    pub fn text(&mut self, name: &str) -> Result<String, String> {
        self.read(name, "a string", as_text)
    }

    /// A string, or a list of strings.
    pub fn text_or_texts(&mut self, name: &str) -> Result<Vec<String>, String> {
        self.read(
            name,
            "a string, or a list of strings",
            |value| match value {
                Value::List(items) => items.iter().map(as_text).collect(),
                alone => Some(vec![as_text(alone)?]),
            },
        )
    }

    /// A string, or none.
    pub fn optional_text(&mut self, name: &str) -> Result<Option<String>, String> {
        self.read(name, "a string", |value| optional(value, as_text))
    }

    /// Two whole numbers.
    pub fn pair(&mut self, name: &str) -> Result<(i64, i64), String> {
        self.read(name, "two whole numbers", as_pair)
    }

    /// Two whole numbers, or none.
    pub fn optional_pair(&mut self, name: &str) -> Result<Option<(i64, i64)>, String> {
        self.read(name, "two whole numbers", |value| optional(value, as_pair))
    }

    /// A list of strings. One string is its letters, as Python iterates over it.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>, String> {
        self.read(name, "a list of strings", |value| match value {
            Value::List(items) => items.iter().map(as_text).collect(),
            Value::Text(text) => Some(text.chars().map(String::from).collect()),
            _ => None,
        })
    }

    /// What was said of `name`, else its default in the hook's list, if it `fits`.
    fn read<T>(
        &mut self,
        name: &str,
        must_be: &str,
        fits: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, String> {
        let value = match self.left.remove(name) {
            Some(said) => said,
            None => self
                .default(name)
                .ok_or_else(|| format!("{name} is missing; it must be {must_be}"))?,
        };
        fits(&value).ok_or_else(|| format!("{name} is {value}; it must be {must_be}"))
    }

    fn default(&self, name: &str) -> Option<Value> {
        let arg = self.kind.args.iter().find(|arg| arg.name == name);
        let arg = arg.expect("a hook reads only arguments of its own list");
        match arg.default {
            REQUIRED => None,
            NONE => Some(Value::Null),
            written => Some(from_json(
                &serde_json::from_str(written).expect("a default is written as JSON"),
            )),
        }
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), String> {
        let Some(unknown) = self.left.keys().next() else {
            return Ok(());
        };
        let mut known: Vec<_> = self.kind.args.iter().map(|arg| arg.name).collect();
        known.extend(["priority", "policy"]);
        Err(format!(
            "{} has no argument {unknown:?}; it has: {}",
            self.kind.type_name,
            known.join(", ")
        ))
    }
}

fn optional<T>(value: &Value, fits: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
    match value {
        Value::Null => Some(None),
        said => fits(said).map(Some),
    }
}

fn as_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            Some(*number as i64)
        }
        _ => None,
    }
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) if number.is_finite() => Some(*number),
        _ => None,
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn as_pair(value: &Value) -> Option<(i64, i64)> {
    match value {
        Value::List(items) => match items.as_slice() {
            [first, second] => Some((as_integer(first)?, as_integer(second)?)),
            _ => None,
        },
        _ => None,
    }
}

/// A default of a hook's list.
fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Bool(flag) => Value::Boolean(*flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Number(number.as_f64().expect("JSON has no other numbers")),
        },
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(from_json).collect()),
        other => unreachable!("no hook has a default like {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::HookRequest;
    use crate::hooks::{Origin, build};

    fn check(args: &[(&str, Value)]) -> Result<(i32, Policy), String> {
        let args = args
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        let request = HookRequest {
            type_name: "CheckInvalidLossHook".into(),
            name: "check".into(),
            args,
        };
        build(&request, Origin::Config).map(|configured| (configured.priority, configured.policy))
    }

    #[test]
    fn arguments_are_read_or_refused_by_name() {
        let text = |word: &str| Value::Text(word.to_owned());
        assert_eq!(check(&[]), Ok((50, Policy::Act)));
        assert_eq!(
            check(&[("priority", text("VERY_LOW")), ("policy", text("warn"))]),
            Ok((90, Policy::Warn))
        );
        assert_eq!(
            check(&[
                ("priority", Value::Integer(7)),
                ("interval", Value::Number(2.5))
            ]),
            Ok((7, Policy::Act))
        );
        for (key, value, says) in [
            (
                "interval",
                Value::Boolean(true),
                "interval is true; it must be a number",
            ),
            ("interval", Value::Number(f64::NAN), "interval is NaN"),
            ("interval", text("50"), "interval is \"50\""),
            ("interval", Value::Null, "interval is None"),
            (
                "intervall",
                Value::Integer(1),
                "no argument \"intervall\"; it has: interval",
            ),
            (
                "priority",
                text("Low"),
                "priority \"Low\" is none of HIGHEST 0",
            ),
            ("policy", text("act!"), "policy is \"act!\""),
        ] {
            let refused = check(&[(key, value)]).expect_err(says);
            assert!(refused.contains(says), "{refused:?} does not say {says:?}");
        }
    }
}
