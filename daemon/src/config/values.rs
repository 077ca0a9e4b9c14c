//! One value: from TOML or a variable's text, and whether it fits its key's kind. It knows neither names of keys nor what
//! several of them mean together.

use config::{Value as Raw, ValueKind};

use super::keys::Kind;
use crate::domain::Value;

pub(super) fn from_toml(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::Text(text.clone()),
        toml::Value::Integer(number) => Value::Integer(*number),
        toml::Value::Float(number) => Value::Number(*number),
        toml::Value::Boolean(flag) => Value::Boolean(*flag),
        toml::Value::Array(items) => Value::List(items.iter().map(from_toml).collect()),
        other => Value::Text(other.to_string()),
    }
}

pub(super) fn from_raw(raw: Raw) -> Value {
    match raw.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(flag) => Value::Boolean(flag),
        ValueKind::I64(number) => Value::Integer(number),
        ValueKind::I128(number) => Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
        ValueKind::U64(number) => Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
        ValueKind::U128(number) => Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)),
        ValueKind::Float(number) => Value::Number(number),
        ValueKind::String(text) => Value::Text(text),
        ValueKind::Array(items) => Value::List(items.into_iter().map(from_raw).collect()),
        ValueKind::Table(items) => Value::Map(
            items
                .into_iter()
                .map(|(key, item)| (key, from_raw(item)))
                .collect(),
        ),
    }
}

/// A variable's text as the key wants it; what does not fit stays text, and is then a mistake.
pub(super) fn read_text(text: &str, kind: Kind) -> Value {
    let as_is = || Value::Text(text.to_owned());
    let parts = || {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
    };
    match kind {
        Kind::Flag => text.parse().map_or_else(|_| as_is(), Value::Boolean),
        Kind::Whole(..) => text.trim().parse().map_or_else(|_| as_is(), Value::Integer),
        Kind::Number(..) => text.trim().parse().map_or_else(|_| as_is(), Value::Number),
        Kind::Text | Kind::Word(_) => as_is(),
        Kind::Texts => Value::List(parts().map(|part| Value::Text(part.to_owned())).collect()),
        Kind::Uids => Value::List(
            parts()
                .map(|part| part.parse().map_or_else(|_| as_is(), Value::Integer))
                .collect(),
        ),
    }
}

/// The value as the key keeps it. Error: why it is a mistake.
pub(super) fn fits(kind: Kind, value: Value) -> Result<Value, String> {
    match (kind, value) {
        (Kind::Flag, value @ Value::Boolean(_)) => Ok(value),
        (Kind::Flag, other) => Err(format!("it is {other}; it must be true or false")),
        (Kind::Whole(least, most), Value::Integer(number)) if (least..=most).contains(&number) => {
            Ok(Value::Integer(number))
        }
        (Kind::Whole(least, i64::MAX), other) => Err(format!(
            "it is {other}; it must be a whole number from {least} on"
        )),
        (Kind::Whole(least, most), other) => Err(format!(
            "it is {other}; it must be a whole number from {least} to {most}"
        )),
        (Kind::Number(least, most), Value::Number(number)) if (least..=most).contains(&number) => {
            Ok(Value::Number(number))
        }
        (Kind::Number(least, most), Value::Integer(number))
            if (least..=most).contains(&(number as f64)) =>
        {
            Ok(Value::Number(number as f64))
        }
        (Kind::Number(least, most), other) => Err(format!(
            "it is {other}; it must be a number from {least} to {most}"
        )),
        (Kind::Text, value @ Value::Text(_)) => Ok(value),
        (Kind::Text, other) => Err(format!("it is {other}; it must be a string")),
        (Kind::Word(words), Value::Text(word)) if words.contains(&word.as_str()) => {
            Ok(Value::Text(word))
        }
        (Kind::Word(words), other) => Err(format!(
            "it is {other}; it must be one of {}",
            words.join(", ")
        )),
        (Kind::Texts, Value::List(items))
            if items.iter().all(|item| matches!(item, Value::Text(_))) =>
        {
            Ok(Value::List(items))
        }
        (Kind::Texts, other) => Err(format!("it is {other}; it must be a list of strings")),
        (Kind::Uids, Value::List(items))
            if items
                .iter()
                .all(|item| matches!(item, Value::Integer(uid) if u32::try_from(*uid).is_ok())) =>
        {
            Ok(Value::List(items))
        }
        (Kind::Uids, other) => Err(format!("it is {other}; it must be a list of user ids")),
    }
}
