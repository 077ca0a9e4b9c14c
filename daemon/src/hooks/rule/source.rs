//! A rule's text as the parser takes it: 'texts' in single quotes become texts in double quotes. The columns that the parser
//! names are those of the changed text, and go back to those of the file.

use std::fmt;

/// A rule's text is no longer, in characters.
pub(super) const LONGEST: usize = 4096;

/// What is wrong with a rule's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Line and column, from 1; None: all of it.
    pub(super) at: Option<(usize, usize)>,
    /// The text has more than one line.
    lines: bool,
    pub(super) what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) if self.lines => write!(out, "line {line}, column {column}: ")?,
            Some((_, column)) => write!(out, "column {column}: ")?,
            None => {}
        }
        out.write_str(&self.what)
    }
}

/// A text for the parser, and where each of its characters stands in the file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) text: String,
    /// By line: the file's column of each column.
    columns: Vec<Vec<usize>>,
}

impl Source {
    /// Errors: what the parser would take for something else.
    pub(super) fn new(written: &str) -> Result<Self, Wrong> {
        let length = written.chars().count();
        let lines = written.contains('\n');
        let wrong = |at, what: &str| Wrong {
            at,
            lines,
            what: what.to_owned(),
        };
        if length > LONGEST {
            let what = format!("it has {length} characters; a rule has at most {LONGEST}");
            return Err(wrong(None, &what));
        }
        if written.trim().is_empty() {
            return Err(wrong(None, "it is empty"));
        }
        Translation::default()
            .of(written)
            .map_err(|(at, what)| wrong(Some(at), what))
    }

    /// What is wrong at a place of the changed text.
    pub(super) fn wrong(&self, at: Option<(usize, usize)>, what: String) -> Wrong {
        let back = |(line, column): (usize, usize)| {
            let columns = self.columns.get(line - 1)?;
            let after = columns.last().map_or(1, |last| last + 1);
            let known = column.checked_sub(1).and_then(|at| columns.get(at));
            Some((line, known.copied().unwrap_or(after)))
        };
        Wrong {
            at: at.and_then(back),
            lines: self.columns.len() > 1,
            what,
        }
    }
}

type At = (usize, usize);

#[derive(Default)]
struct Translation {
    text: String,
    columns: Vec<Vec<usize>>,
}

impl Translation {
    fn of(mut self, written: &str) -> Result<Source, (At, &'static str)> {
        self.columns.push(Vec::new());
        let mut letters = written.chars().peekable();
        let (mut line, mut column) = (1, 0);
        // Where a text began, and with which quote.
        let mut open: Option<(At, char)> = None;
        while let Some(letter) = letters.next() {
            column += 1;
            let at = (line, column);
            let next = letters.peek().copied();
            match (open, letter) {
                (Some(_), '\\') => {
                    let Some(escaped) = letters.next() else { break };
                    if escaped == '\n' {
                        return Err((at, "a text stands on one line; say \\n for a break"));
                    }
                    if escaped != '\'' {
                        self.put('\\', column);
                    }
                    column += 1;
                    self.put(escaped, column);
                }
                (Some(_), '\n') => {
                    return Err((at, "a text stands on one line; say \\n for a break"));
                }
                (Some((_, quote)), _) if letter == quote => {
                    self.put('"', column);
                    open = None;
                    if matches!(next, Some('\'' | '"')) {
                        return Err((
                            (line, column + 1),
                            "two texts with nothing between them; a quote in a text is \\' or \\\"",
                        ));
                    }
                }
                (Some(_), '"') => {
                    self.put('\\', column);
                    self.put('"', column);
                }
                (None, '\'' | '"') => {
                    open = Some((at, letter));
                    self.put('"', column);
                }
                (None, '\n') => {
                    self.text.push('\n');
                    self.columns.push(Vec::new());
                    (line, column) = (line + 1, 0);
                }
                (None, '`') => return Err((at, "a text stands in '…' or \"…\"")),
                (None, '#') => return Err((at, "there is no # here")),
                (None, '/') if matches!(next, Some('/' | '*')) => {
                    return Err((
                        at,
                        "there are no comments here; a whole quotient is floor(a / b)",
                    ));
                }
                _ => self.put(letter, column),
            }
        }
        match open {
            Some((at, _)) => Err((at, "this text has no end")),
            None => Ok(Source {
                text: self.text,
                columns: self.columns,
            }),
        }
    }

    fn put(&mut self, letter: char, column: usize) {
        self.text.push(letter);
        if let Some(columns) = self.columns.last_mut() {
            columns.push(column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_quotes_become_double_ones_and_columns_go_back() {
        for (written, text) in [
            ("log('a b')", "log(\"a b\")"),
            (r#"custom('n', '{"a": 1}')"#, r#"custom("n", "{\"a\": 1}")"#),
            (r"'it\'s' + 'b\n'", r#""it's" + "b\n""#),
            (r#""it's" + 'é\\'"#, r#""it's" + "é\\""#),
            ("''", "\"\""),
        ] {
            assert_eq!(Source::new(written).unwrap().text, text, "{written}");
        }
        let source = Source::new(r#"'"é"' + x"#).unwrap();
        let column = |changed| source.wrong(Some((1, changed)), "bad".into()).to_string();
        let changed = source
            .text
            .chars()
            .position(|letter| letter == 'x')
            .unwrap()
            + 1;
        assert_eq!(changed, 11);
        assert_eq!(column(changed), "column 9: bad");
        assert_eq!(column(changed + 1), "column 10: bad", "the end");
        let source = Source::new("a\n  + '\"' + b").unwrap();
        let wrong = source.wrong(Some((2, 12)), "bad".into());
        assert_eq!(wrong.to_string(), "line 2, column 11: bad");
        assert_eq!(source.wrong(None, "bad".into()).to_string(), "bad");
    }

    #[test]
    fn what_would_be_read_as_something_else_is_refused() {
        for (written, says) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("log('a)", "column 5: this text has no end"),
            ("log('a\\'", "column 5: this text has no end"),
            (
                "log('a''b')",
                "column 8: two texts with nothing between them",
            ),
            (
                "log(\"a\"\"b\")",
                "column 8: two texts with nothing between",
            ),
            ("log('a\nb')", "line 1, column 7: a text stands on one line"),
            ("log(`a`)", "column 5: a text stands in"),
            ("#{}", "column 1: there is no # here"),
            ("a // 2 > 1", "column 3: there are no comments here"),
            ("a /* 2 */ > 1", "column 3: there are no comments here"),
        ] {
            let wrong = Source::new(written).unwrap_err().to_string();
            assert!(wrong.starts_with(says), "{written}: {wrong}");
        }
        let long = Source::new(&"x".repeat(LONGEST + 1)).unwrap_err();
        assert_eq!(
            long.to_string(),
            "it has 4097 characters; a rule has at most 4096"
        );
    }
}
