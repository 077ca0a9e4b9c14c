//! From the model to a frame. Pure: the same model, time and size give the same cells.
//!
//! | file | what it draws |
//! |---|---|
//! | here | what goes where, and which panes have room |
//! | `theme` | signs and colours |
//! | `paint` | lines and tables into cells |
//! | `header` | the run, its progress, the state of the connection; the line of keys |
//! | `tables` | runs, ranks, processes |
//! | `memory` | bars with what they mean, of memory and GPUs |
//! | `chart` | memory over time |
//! | `events` | open incidents and what happened |
//! | `overlay` | help, details, an order on its way |

mod chart;
mod events;
mod header;
mod memory;
mod overlay;
mod paint;
mod tables;
pub(super) mod theme;

#[cfg(test)]
mod tests;

use ratatui::backend::IntoCrossterm;
use ratatui::buffer::{Buffer, Cell};
use ratatui::crossterm::style::ContentStyle;
use ratatui::layout::Rect;

use super::model::lists::Pane;
use super::model::{Mode, Model};
use theme::Theme;

/// From this width on there are two columns.
const WIDE: u16 = 160;
/// From this height on all tables are there at once; below it the one that has the focus.
const TALL: u16 = 32;
/// Below this nothing can be told.
const LEAST: (u16, u16) = (20, 5);

/// What is drawn beside the panes that can have the focus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Pane(Pane),
    Memory,
    Chart,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Pane(pane) => pane.name(),
            Part::Memory => "memory",
            Part::Chart => "memory over time",
        }
    }
}

/// What a frame is made of, but for its place.
#[derive(Clone, Copy)]
struct Scene<'a> {
    model: &'a Model,
    theme: Theme,
    now_s: f64,
}

/// Draws all of `area`.
pub(super) fn draw(model: &Model, theme: Theme, now_s: f64, area: Rect, buffer: &mut Buffer) {
    let scene = Scene {
        model,
        theme,
        now_s,
    };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{}x{} is too small", area.width, area.height);
        paint::line(buffer, area, 0, &text, theme.strong());
        return;
    }
    let header = Rect { height: 3, ..area };
    let body = Rect {
        y: area.y + 3,
        height: area.height - 4,
        ..area
    };
    let footer = Rect {
        y: area.bottom() - 1,
        height: 1,
        ..area
    };
    header::draw(scene, header, buffer);
    let mut missing = Vec::new();
    if model.shown.is_none() {
        header::nothing_yet(scene, body, buffer);
    } else {
        missing = panes(scene, body, buffer);
    }
    header::footer(scene, &missing, footer, buffer);
    match &model.mode {
        Mode::Panes | Mode::Filter => {}
        Mode::Help => overlay::help(scene, body, buffer),
        Mode::Details(down) => overlay::details(scene, *down, body, buffer),
        Mode::Order(dialog) => overlay::order(scene, dialog, body, buffer),
    }
}

/// Draws what has room; the names of what has none.
fn panes(scene: Scene<'_>, body: Rect, buffer: &mut Buffer) -> Vec<&'static str> {
    let several = scene.model.runs.len() > 1;
    let focus = scene.model.pane;
    let tables = || {
        let all = [Pane::Runs, Pane::Ranks, Pane::Processes];
        let is_there = |pane: &Pane| *pane != Pane::Runs || several || focus == Pane::Runs;
        all.into_iter().filter(is_there).map(Part::Pane)
    };
    let one_table = match focus {
        Pane::Runs | Pane::Processes => focus,
        _ => Pane::Ranks,
    };
    let (gpus, events) = (Part::Pane(Pane::Gpus), Part::Pane(Pane::Events));
    if body.width >= WIDE {
        let half = body.width * 9 / 20;
        let left = Rect {
            width: half,
            ..body
        };
        let right = Rect {
            x: body.x + half + 2,
            width: body.width - half - 2,
            ..body
        };
        let parts: Vec<_> = tables().chain([events]).collect();
        let mut missing = column(scene, &parts, left, buffer);
        missing.extend(column(
            scene,
            &[Part::Memory, Part::Chart, gpus],
            right,
            buffer,
        ));
        return missing;
    }
    let parts: Vec<_> = if body.height >= TALL {
        tables()
            .chain([Part::Memory, Part::Chart, gpus, events])
            .collect()
    } else {
        vec![
            Part::Pane(one_table),
            Part::Memory,
            Part::Chart,
            gpus,
            events,
        ]
    };
    column(scene, &parts, body, buffer)
}

/// One below the other.
fn column(scene: Scene<'_>, parts: &[Part], area: Rect, buffer: &mut Buffer) -> Vec<&'static str> {
    let wanted: Vec<_> = parts
        .iter()
        .map(|part| height(scene, *part, area.width))
        .collect();
    let given = share(parts, scene.model.pane, &wanted, area.height);
    let mut y = area.y;
    let mut missing = Vec::new();
    for (part, height) in parts.iter().zip(given) {
        if height == 0 {
            missing.push(part.name());
            continue;
        }
        let place = Rect { y, height, ..area };
        match part {
            Part::Pane(Pane::Runs) => tables::runs(scene, place, buffer),
            Part::Pane(Pane::Ranks) => tables::ranks(scene, place, buffer),
            Part::Pane(Pane::Processes) => tables::processes(scene, place, buffer),
            Part::Pane(Pane::Gpus) => memory::gpus(scene, place, buffer),
            Part::Pane(Pane::Events) => events::draw(scene, place, buffer),
            Part::Memory => memory::memory(scene, place, buffer),
            Part::Chart => chart::draw(scene, place, buffer),
        }
        y += height;
    }
    missing
}

/// (the least that says something, all of it), in lines.
fn height(scene: Scene<'_>, part: Part, width: u16) -> (u16, u16) {
    let most = |lines: usize| u16::try_from(lines).unwrap_or(u16::MAX);
    match part {
        Part::Pane(Pane::Runs) => (3, most(2 + scene.model.runs.len().max(1))),
        Part::Pane(Pane::Ranks) => (3, most(2 + tables::rank_count(scene.model).max(1))),
        Part::Pane(Pane::Processes) => (3, most(2 + tables::process_count(scene.model).max(1))),
        Part::Pane(Pane::Gpus) => memory::gpus_height(scene, width),
        Part::Pane(Pane::Events) => (2, most(1 + events::count(scene.model).max(1))),
        Part::Memory => (3, memory::memory_height(scene, width)),
        Part::Chart => (3, chart::height(scene.model)),
    }
}

/// Lines for each part. What matters most has its least first; then all grow by turns, the one with the focus first; what is
/// left over is the chart's, else the last one's. 0: no room.
fn share(parts: &[Part], focus: Pane, wanted: &[(u16, u16)], height: u16) -> Vec<u16> {
    let rank = |part: &Part| match part {
        Part::Pane(pane) if *pane == focus => 0,
        Part::Memory => 1,
        Part::Pane(Pane::Ranks) => 2,
        Part::Pane(Pane::Gpus) => 3,
        Part::Pane(Pane::Events) => 4,
        Part::Chart => 5,
        Part::Pane(Pane::Processes) => 6,
        Part::Pane(Pane::Runs) => 7,
    };
    let mut by_rank: Vec<_> = (0..parts.len()).collect();
    by_rank.sort_by_key(|at| rank(&parts[*at]));
    let mut given = vec![0; parts.len()];
    let mut left = height;
    for at in &by_rank {
        let least = wanted[*at].0;
        if least <= left {
            given[*at] = least;
            left -= least;
        }
    }
    loop {
        let before = left;
        for at in &by_rank {
            if left > 0 && given[*at] > 0 && given[*at] < wanted[*at].1 {
                given[*at] += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    let chart = parts.iter().position(|part| *part == Part::Chart);
    let last = given.iter().rposition(|given| *given > 0);
    if let Some(at) = chart.filter(|at| given[*at] > 0).or(last) {
        given[at] += left;
    }
    given
}

/// The cells as lines of text, without blanks at their ends.
pub(super) fn plain(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut line = String::new();
        for_each_cell(buffer, y, |cell| line.push_str(cell.symbol()));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The same for a terminal, with its colours.
pub(super) fn coloured(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        for_each_cell(buffer, y, |cell| {
            let style: ContentStyle = cell.style().into_crossterm();
            text.push_str(&style.apply(cell.symbol()).to_string());
        });
        text.push('\n');
    }
    text
}

/// Of one line; a letter that is two cells wide comes once.
fn for_each_cell(buffer: &Buffer, y: u16, mut each: impl FnMut(&Cell)) {
    let mut x = buffer.area.left();
    while let Some(cell) = buffer.cell((x, y)).filter(|_| x < buffer.area.right()) {
        each(cell);
        x += u16::try_from(super::text::width(cell.symbol()))
            .unwrap_or(1)
            .max(1);
    }
}
