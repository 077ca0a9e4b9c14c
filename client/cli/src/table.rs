//! Columns that line up, in plain text. The last column is never padded, so a line has no blanks at its end.

/// Rows of cells; the first row is usually the heading.
#[derive(Debug, Default)]
pub(crate) struct Table {
    indent: usize,
    numbers_from: Option<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table whose lines begin with `indent` blanks.
    pub(crate) fn new(indent: usize) -> Table {
        Table {
            indent,
            numbers_from: None,
            rows: Vec::new(),
        }
    }

    /// Columns from this one on end in line, as numbers are compared.
    pub(crate) fn numbers_from(mut self, column: usize) -> Table {
        self.numbers_from = Some(column);
        self
    }

    /// Adds a row; a line break in a cell would break the columns and becomes a blank.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) -> &mut Table {
        self.cells(cells)
    }

    /// The same where the number of columns is found as it runs.
    pub(crate) fn cells<C: AsRef<str>>(
        &mut self,
        cells: impl IntoIterator<Item = C>,
    ) -> &mut Table {
        let cells = cells.into_iter();
        self.rows
            .push(cells.map(|cell| one_line(cell.as_ref())).collect());
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
            for (column, (width, cell)) in widths.iter().zip(row).enumerate() {
                let blanks = " ".repeat(width - cell.chars().count());
                if self.numbers_from.is_some_and(|from| column >= from) {
                    line.push_str(&(blanks + cell + "  "));
                } else {
                    line.push_str(&(cell.clone() + &blanks + "  "));
                }
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
    fn numbers_end_in_line() {
        let mut table = Table::new(0).numbers_from(1);
        table
            .row(["time", "used", "x"])
            .row(["1", "7", "-"])
            .row(["2", "12345", "100"]);
        assert_eq!(
            table.render(),
            "time   used    x\n1         7    -\n2     12345  100\n"
        );
    }

    #[test]
    fn an_empty_table_is_no_text() {
        assert_eq!(Table::new(4).render(), "");
    }
}
