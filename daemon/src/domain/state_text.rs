//! What a hook wants to know again, as text.

use std::fmt;
use std::sync::Arc;

use serde::de::IgnoredAny;

/// A hook's own state: JSON, as it was written. It is looked at and never read here: an integer of more than 64 bits would
/// come out as another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateText(Arc<str>);

impl StateText {
    /// Errors: it is no JSON, and why.
    pub fn new(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<IgnoredAny>(json)?;
        Ok(Self(json.into()))
    }

    /// Whether there is nothing to know again.
    pub fn is_null(&self) -> bool {
        self.0.trim_ascii() == "null"
    }

    /// Every byte of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Nothing to know again.
impl Default for StateText {
    fn default() -> Self {
        Self("null".into())
    }
}

impl From<&serde_json::Value> for StateText {
    fn from(value: &serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

impl fmt::Display for StateText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_as_it_was_written() {
        let large = format!(
            "{{\"z\": {}, \"a\" : 1e400, \"a\": \"\\ud800\"}}\n",
            "9".repeat(100)
        );
        for json in [large.as_str(), " 18446744073709551616", "[1.10, -0, 1E2]"] {
            let state = StateText::new(json).expect("it is JSON");
            assert_eq!((state.as_str(), state.is_null()), (json, false));
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "NaN",
            "{\"a\": Infinity}",
            "[-Infinity]",
            "{\"a\": 1",
            "1 2",
            "{a: 1}",
            "'a'",
            "01",
            "\"a\nb\"",
        ] {
            assert!(StateText::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn null_is_none() {
        for json in ["null", " null\n"] {
            assert!(StateText::new(json).expect("it is JSON").is_null());
        }
        assert!(StateText::default().is_null());
        assert!(!StateText::new("\"null\"").expect("it is JSON").is_null());
    }
}
