//! Texts that fit. What comes from trainers and other people's processes is cleaned here before a cell sees it: terminals
//! obey escapes, and marks that turn the direction of a text around would disguise a name.

use hookbus_client::inspect::proto::Reading;
use ratatui::text::Span;

use crate::format;
use crate::table::one_line;

/// One line without anything that a terminal could obey or that cannot be seen.
pub(super) fn clean(text: &str) -> String {
    let is_seen = |letter: &char| !matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    one_line(text).chars().filter(is_seen).collect()
}

/// How many cells it takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// At most so many cells; what was cut ends in an ellipsis.
pub(super) fn fit(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    if cells == 0 {
        return String::new();
    }
    let mut kept = String::new();
    for letter in text.chars() {
        kept.push(letter);
        if width(&kept) > cells - 1 {
            kept.pop();
            break;
        }
    }
    kept.push('…');
    kept
}

/// Exactly so many cells, with blanks at its end.
pub(super) fn left(text: &str, cells: usize) -> String {
    let text = fit(text, cells);
    let blanks = cells - width(&text);
    text + &" ".repeat(blanks)
}

/// Exactly so many cells, with blanks before it, as numbers are compared.
pub(super) fn right(text: &str, cells: usize) -> String {
    let text = fit(text, cells);
    " ".repeat(cells - width(&text)) + &text
}

/// Paragraphs in lines of at most so many cells, broken at blanks.
pub(super) fn fold(text: &str, cells: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && width(&line) + 1 + width(word) > cells {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&fit(word, cells));
    }
    lines.push(line);
    lines
}

/// A length of time in few letters.
pub(super) fn ago(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    let whole = seconds as u64;
    match whole {
        0..=99 => format!("{whole}s"),
        100..=5999 => format!("{}m", whole / 60),
        6000..=172_799 => format!("{}h", whole / 3600),
        _ => format!("{}d", whole / 86_400),
    }
}

/// A number that was read somewhere, or why it was not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    /// The number, or why it is not known.
    pub(super) known: Result<f64, String>,
    /// How old it is by now.
    pub(super) age_s: f64,
}

impl Value {
    /// `waited_s`: since the daemon sent it.
    pub(super) fn of(reading: Option<&Reading>, waited_s: f64) -> Value {
        let Some(reading) = reading else {
            return Value::unknown(format::NOT_SENT);
        };
        let known = match reading.value {
            Some(value) => Ok(value),
            None if reading.unknown.is_empty() => Err("no reason was given".to_owned()),
            None => Err(clean(&reading.unknown)),
        };
        Value {
            known,
            age_s: reading.age_s + waited_s,
        }
    }

    pub(super) fn unknown(why: &str) -> Value {
        Value {
            known: Err(clean(why)),
            age_s: 0.0,
        }
    }

    pub(super) fn exact(value: f64) -> Value {
        Value {
            known: Ok(value),
            age_s: 0.0,
        }
    }

    /// With one part that is not known it is not known; as old as its oldest part.
    pub(super) fn sum(parts: impl IntoIterator<Item = Value>) -> Value {
        parts.into_iter().fold(Value::exact(0.0), |sum, part| {
            let known = sum.known.and_then(|sum| Ok(sum + part.known?));
            let age_s = sum.age_s.max(part.age_s);
            Value { known, age_s }
        })
    }

    /// As known of two numbers, never below 0.
    pub(super) fn less(self, other: &Value) -> Value {
        let known = match (self.known, &other.known) {
            (Ok(all), Ok(part)) => Ok((all - part).max(0.0)),
            (Err(why), _) => Err(why),
            (_, Err(why)) => Err(why.clone()),
        };
        let age_s = self.age_s.max(other.age_s);
        Value { known, age_s }
    }

    /// Written by `write`, or "unknown: why"; with its age where that is more than `old_s`.
    pub(super) fn text(&self, write: impl Fn(f64) -> String, old_s: f64) -> String {
        match &self.known {
            Err(why) => format!("unknown: {why}"),
            Ok(value) if self.age_s > old_s => {
                format!("{} ({} old)", write(*value), ago(self.age_s))
            }
            Ok(value) => write(*value),
        }
    }

    /// For a narrow column: the reason is in the details.
    pub(super) fn short(&self, write: impl Fn(f64) -> String, old_s: f64) -> String {
        match &self.known {
            Err(_) => "unknown".to_owned(),
            Ok(value) if self.age_s > old_s => format!("{}~", write(*value)),
            Ok(value) => write(*value),
        }
    }
}

/// A share of something.
pub(super) fn percent(value: f64) -> String {
    format!("{value:.0} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_and_say_where_they_were_cut() {
        for (text, cells, wanted) in [
            ("digits", 6, "digits"),
            ("digits", 5, "digi…"),
            ("数字数字", 5, "数字…"),
            ("数字数字", 4, "数…"),
            ("x", 0, ""),
        ] {
            assert_eq!(fit(text, cells), wanted, "{text} in {cells}");
        }
        assert_eq!(left("ab", 4) + "|", "ab  |");
        assert_eq!(right("ab", 4), "  ab");
        assert_eq!(fold("one two three", 7), ["one two", "three"]);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(
            clean("a\x1b[31mb\u{9b}c\nd\u{202e}e\u{200b}"),
            "a [31mb c de"
        );
    }

    #[test]
    fn a_sum_with_an_unknown_part_is_unknown_and_as_old_as_its_oldest() {
        let old = Value {
            known: Ok(1.0),
            age_s: 9.0,
        };
        let sum = Value::sum([old.clone(), Value::exact(2.0)]);
        assert_eq!((sum.known.clone(), sum.age_s), (Ok(3.0), 9.0));
        assert_eq!(sum.text(|value| value.to_string(), 3.0), "3 (9s old)");
        assert_eq!(sum.text(|value| value.to_string(), 9.0), "3");
        let sum = Value::sum([old, Value::unknown("no right")]);
        assert_eq!(
            sum.text(|value| value.to_string(), 3.0),
            "unknown: no right"
        );
        assert_eq!(Value::exact(1.0).less(&Value::exact(2.0)).known, Ok(0.0));
        let not_sent = Value::of(None, 0.0);
        assert_eq!(not_sent.known, Err(format::NOT_SENT.to_owned()));
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [
            (0.4, "0s"),
            (99.0, "99s"),
            (100.0, "1m"),
            (7200.0, "2h"),
            (2e5, "2d"),
            (-1.0, "?"),
        ] {
            assert_eq!(ago(seconds), text);
        }
    }
}
