//! What goes to the person: answers to standard output, notes to standard error, colour only where a terminal wants it.
//!
//! It never panics on a closed pipe: a training may hang on this process.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;

/// Colour for one output stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    on: bool,
}

impl Style {
    /// For standard output.
    pub(crate) fn stdout() -> Style {
        Style {
            on: wanted(io::stdout().is_terminal(), |name| std::env::var_os(name)),
        }
    }

    /// For standard error.
    pub(crate) fn stderr() -> Style {
        Style {
            on: wanted(io::stderr().is_terminal(), |name| std::env::var_os(name)),
        }
    }

    /// Colour is wanted.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Something to look at.
    pub(crate) fn alert(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// No colour, for tests and files.
    #[cfg(test)]
    pub(crate) fn plain() -> Style {
        Style { on: false }
    }
}

fn wanted(terminal: bool, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
    let no_color = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = variable("TERM").is_none_or(|term| term == "dumb");
    terminal && !no_color && !dumb
}

/// How many letters a line of standard output may have: what COLUMNS says, else the terminal's width. None: a file or a
/// pipe, where nothing is cut or folded.
pub(crate) fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    let out = io::stdout();
    let real = || {
        let size = rustix::termios::tcgetwinsize(&out).ok()?;
        Some(usize::from(size.ws_col))
    };
    // A terminal that does not know its width says 0.
    said.or_else(real).filter(|width| *width > 0)
}

/// Columns and lines of a page: what COLUMNS and LINES say, else the terminal's own. None: a file or a pipe.
pub(crate) fn size() -> (Option<u16>, Option<u16>) {
    let said = |name: &str| std::env::var(name).ok()?.parse().ok();
    let real = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let columns = said("COLUMNS").or(real.as_ref().map(|size| size.ws_col));
    let lines = said("LINES").or(real.map(|size| size.ws_row));
    // A terminal that does not know its size says 0.
    let some = |count: Option<u16>| count.filter(|count| *count > 0);
    (some(columns), some(lines))
}

/// Writes an answer to standard output, whole.
pub(crate) fn answer(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::output(&error))
}

/// Writes an answer as one line of JSON.
pub(crate) fn answer_json(value: &serde_json::Value) -> Result<(), Failure> {
    answer(&format!("{value}\n"))
}

/// Writes notes to standard error, each line with our name before it, so that it stands out in a trainer's log.
pub(crate) fn note(text: &str) {
    let mut lines = String::new();
    for line in text.lines() {
        lines.push_str("hookbus: ");
        lines.push_str(line);
        lines.push('\n');
    }
    // Nobody is left to tell when standard error is closed.
    let _ = io::stderr().lock().write_all(lines.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_needs_a_terminal_and_nobody_against_it() {
        type Row = (bool, &'static [(&'static str, &'static str)], bool);
        let table: [Row; 6] = [
            (true, &[("TERM", "xterm")], true),
            (false, &[("TERM", "xterm")], false),
            (true, &[("TERM", "xterm"), ("NO_COLOR", "1")], false),
            (true, &[("TERM", "xterm"), ("NO_COLOR", "")], true),
            (true, &[("TERM", "dumb")], false),
            (true, &[], false),
        ];
        for (terminal, set, wants) in table {
            let variable = |name: &str| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.into())
            };
            assert_eq!(wanted(terminal, variable), wants, "{terminal} {set:?}");
        }
    }

    #[test]
    fn plain_text_is_left_alone() {
        assert_eq!(Style::plain().alert("lost"), "lost");
        assert_eq!(Style { on: true }.alert("lost"), "\x1b[31mlost\x1b[0m");
    }
}
