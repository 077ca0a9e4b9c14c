//! A hook's arguments, taken one by one; what is left over is a mistake.

use std::collections::BTreeMap;

use super::{Kind, Policy};
use crate::domain::Value;

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
        let words = || {
            PRIORITIES
                .map(|(word, number)| format!("{word} {number}"))
                .join(", ")
        };
        match self.left.remove("priority") {
            None => Ok(50),
            Some(Value::Integer(number)) if (0..=100).contains(&number) => Ok(number as i32),
            Some(Value::Text(word)) => {
                let known = PRIORITIES.iter().find(|(known, _)| *known == word);
                known
                    .map(|(_, number)| *number)
                    .ok_or_else(|| format!("priority {word:?} is none of {}", words()))
            }
            Some(other) => Err(format!(
                "priority is {other}; it must be from 0 to 100, or one of {}",
                words()
            )),
        }
    }

    /// Key `policy`.
    pub fn policy(&mut self) -> Result<Policy, String> {
        match self.left.remove("policy") {
            None => Ok(Policy::Act),
            Some(Value::Text(word)) if word == "act" => Ok(Policy::Act),
            Some(Value::Text(word)) if word == "warn" => Ok(Policy::Warn),
            Some(Value::Text(word)) if word == "observe" => Ok(Policy::Observe),
            Some(other) => Err(format!(
                "policy is {other}; it must be \"act\", \"warn\" or \"observe\""
            )),
        }
    }

    /// A whole number; the default is the one of the hook's list.
    pub fn integer(&mut self, name: &str) -> Result<i64, String> {
        match self.left.remove(name) {
            None => {
                let default = self
                    .kind
                    .args
                    .iter()
                    .find(|arg| arg.name == name)
                    .and_then(|arg| arg.default.parse().ok());
                Ok(default
                    .expect("each integer argument has an integer default in its hook's list"))
            }
            Some(Value::Integer(number)) => Ok(number),
            Some(Value::Number(number)) if number.fract() == 0.0 && number.abs() < 9e15 => {
                Ok(number as i64)
            }
            Some(other) => Err(format!("{name} is {other}; it must be a whole number")),
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
                ("interval", Value::Number(2.0))
            ]),
            Ok((7, Policy::Act))
        );
        for (key, value, says) in [
            (
                "interval",
                Value::Boolean(true),
                "interval is true; it must be a whole number",
            ),
            ("interval", Value::Number(2.5), "interval is 2.5"),
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
