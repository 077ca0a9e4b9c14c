//! Columns that line up, in plain text. The last column is never padded, so a line has no blanks at its end.

/// Rows of cells; the first row is usually the heading.
#[derive(Debug, Default)]
pub(crate) struct Table {
    indent: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table whose lines begin with `indent` blanks.
    pub(crate) fn new(indent: usize) -> Table {
        Table {
            indent,
            rows: Vec::new(),
        }
    }

    /// Adds a row; a line break in a cell would break the columns and becomes a blank.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) -> &mut Table {
        self.rows
            .push(cells.iter().map(|cell| one_line(cell)).collect());
        self
    }

    /// The lines, each with its line break; two blanks between columns.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width + 2 - cell.chars().count()));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A text as one line, without control characters: names and reasons come from trainers, terminals obey escapes.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let mut table = Table::new(2);
        table
            .row(["rank", "step"])
            .row(["0", "12.0 ms"])
            .row(["1024", ""])
            .row(["é\n\x1b", "x"]);
        assert_eq!(
            table.render(),
            "  rank  step\n  0     12.0 ms\n  1024\n  é     x\n"
        );
    }

    #[test]
    fn an_empty_table_is_no_text() {
        assert_eq!(Table::new(4).render(), "");
    }
}
