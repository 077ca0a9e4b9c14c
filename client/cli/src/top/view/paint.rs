//! Text into cells. What does not fit ends in an ellipsis; nothing is drawn outside of its area.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::text::{fit, left, right, width};

/// One line of an area, counted from 0.
pub(super) fn line(buffer: &mut Buffer, area: Rect, at: u16, text: &str, style: Style) {
    spans(buffer, area, at, &[(text.to_owned(), style)]);
}

/// The same in pieces.
pub(super) fn spans(buffer: &mut Buffer, area: Rect, at: u16, pieces: &[(String, Style)]) {
    if at >= area.height {
        return;
    }
    let mut free = usize::from(area.width);
    let mut x = area.x;
    for (text, style) in pieces {
        let text = fit(text, free);
        buffer.set_stringn(x, area.y + at, &text, free, *style);
        let taken = width(&text);
        x += u16::try_from(taken).unwrap_or(0);
        free -= taken;
        if free == 0 {
            break;
        }
    }
}

/// A pane's first line: a rule with its title, a heavy one where the pane has the focus.
pub(super) fn title(buffer: &mut Buffer, area: Rect, text: &str, focus: bool, style: Style) {
    let rule = if focus { "━" } else { "─" };
    let cells = usize::from(area.width);
    let text = fit(text, cells.saturating_sub(6));
    let begin = if focus {
        format!("{rule}[{text}]")
    } else {
        format!("{rule} {text} ")
    };
    let rest = rule.repeat(cells.saturating_sub(width(&begin)));
    line(buffer, area, 0, &(begin + &rest), style);
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// In cells; 0: what the others leave.
    pub(super) width: u16,
    /// It ends in line, as numbers are compared.
    pub(super) number: bool,
    /// It is there only where the table is as wide as that.
    pub(super) from: u16,
}

/// A row of a table: a cell for each column, whether the cursor is on it, and whether it is to be looked at.
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) chosen: bool,
    pub(super) alert: bool,
}

/// The styles of a table.
#[derive(Clone, Copy)]
pub(super) struct Styles {
    pub(super) heading: Style,
    pub(super) chosen: Style,
    pub(super) alert: Style,
}

/// Heading and rows, so that the chosen one is seen. (first, behind the last) of those that are.
pub(super) fn table(
    buffer: &mut Buffer,
    area: Rect,
    columns: &[Column],
    rows: &[Row],
    styles: Styles,
) -> (usize, usize) {
    let shown: Vec<_> = (0..columns.len())
        .filter(|at| columns[*at].from <= area.width)
        .collect();
    let fixed: u16 = shown.iter().map(|at| columns[*at].width + 1).sum();
    let flexible = usize::from(area.width.saturating_sub(fixed + 1));
    let write = |mark: &str, cell: &dyn Fn(usize) -> String| {
        let mut text = mark.to_owned();
        for at in &shown {
            let column = columns[*at];
            let cells = if column.width == 0 {
                flexible
            } else {
                usize::from(column.width)
            };
            text.push(' ');
            text.push_str(&if column.number {
                right(&cell(*at), cells)
            } else {
                left(&cell(*at), cells)
            });
        }
        text
    };
    line(
        buffer,
        area,
        0,
        &write(" ", &|at| columns[at].name.to_owned()),
        styles.heading,
    );
    let room = usize::from(area.height.saturating_sub(1));
    let chosen = rows.iter().position(|row| row.chosen).unwrap_or(0);
    let first = if chosen < room { 0 } else { chosen + 1 - room };
    let end = rows.len().min(first + room);
    for (at, row) in rows[first..end].iter().enumerate() {
        let mark = match (row.chosen, row.alert) {
            (true, _) => ">",
            (false, true) => "!",
            (false, false) => " ",
        };
        let style = match (row.chosen, row.alert) {
            (true, _) => styles.chosen,
            (false, true) => styles.alert,
            (false, false) => Style::new(),
        };
        let text = write(mark, &|at| row.cells[at].clone());
        line(
            buffer,
            area,
            u16::try_from(at + 1).unwrap_or(u16::MAX),
            &text,
            style,
        );
    }
    (first, end)
}

/// Without its first line.
pub(super) fn below_title(area: Rect) -> Rect {
    Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(1),
        ..area
    }
}
