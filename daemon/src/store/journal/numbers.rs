//! Named numbers as one JSON object, NaN and infinities too: as strings, since JSON has none.

use std::sync::Arc;

use serde_json::{Map, Value};

pub(super) fn text(numbers: &[(Arc<str>, f64)]) -> String {
    let value = |number: f64| {
        serde_json::Number::from_f64(number)
            .map_or_else(|| Value::String(number.to_string()), Value::Number)
    };
    let object: Map<_, _> = numbers
        .iter()
        .map(|(name, number)| (name.to_string(), value(*number)))
        .collect();
    Value::Object(object).to_string()
}

pub(super) fn read(text: &str) -> Vec<(Arc<str>, f64)> {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        return Vec::new();
    };
    let number = |value: &Value| match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_f64(),
    };
    object
        .iter()
        .filter_map(|(name, value)| Some((Arc::from(name.as_str()), number(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let numbers: Vec<(Arc<str>, f64)> = vec![
            ("a".into(), 0.1),
            ("b".into(), f64::INFINITY),
            ("c".into(), f64::NEG_INFINITY),
            ("d".into(), 5e-324),
        ];
        assert_eq!(read(&text(&numbers)), numbers);
        assert!(read(&text(&[("n".into(), f64::NAN)]))[0].1.is_nan());
    }
}
