//! Memory over time: the most in each column, from 0 up to what the label says, with a mark where an epoch begins.
//!
//! A time of which nothing is known is blank; one that could not be read is a question mark.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::super::model::Model;
use super::super::model::past::{Column, Key};
use super::super::text::{Value, ago, left};
use super::{Scene, paint};
use crate::format;

/// What stands before a chart.
const LABEL_CELLS: usize = 24;
/// More GPUs than that are in the bars only.
const MOST_GPUS: usize = 8;

struct Chart {
    name: String,
    key: Key,
    /// How high it goes; None: as high as its highest.
    top: Option<f64>,
}

fn charts(model: &Model) -> Vec<Chart> {
    let Some(shown) = &model.shown else {
        return Vec::new();
    };
    let mut charts = Vec::new();
    let known = |reading: Option<&_>| {
        Value::of(reading, 0.0)
            .known
            .ok()
            .filter(|value| value.is_finite())
    };
    if let Some(rank) = model.rank() {
        let both = [("tree_pss_bytes", "PSS"), ("process_rss_bytes", "RSS")];
        let both = both.map(|(name, of)| (Key::rank(name, rank.rank), of));
        // A daemon may remember both; one that was never known is shown only where the other one is not either.
        let with_value = both.iter().find(|(key, _)| model.past.is_known(key));
        let read = || both.iter().find(|(key, _)| model.past.was_read(key));
        if let Some((key, of)) = with_value.or_else(read) {
            charts.push(Chart {
                name: format!("rank {} {of}", rank.rank),
                key: key.clone(),
                top: None,
            });
        }
        let cgroup = rank
            .memory
            .as_ref()
            .and_then(|memory| memory.cgroup.as_ref());
        if let Some(cgroup) = cgroup {
            charts.push(Chart {
                name: "working set".to_owned(),
                key: Key::rank("cgroup_working_set_bytes", rank.rank),
                top: known(cgroup.limit_bytes.as_ref()),
            });
        }
    }
    let host = shown.reply.host.as_ref();
    charts.push(Chart {
        name: "host used".to_owned(),
        key: Key::host("host_used_bytes"),
        top: known(host.and_then(|host| host.total_bytes.as_ref())),
    });
    for gpu in shown.reply.gpus.iter().take(MOST_GPUS) {
        charts.push(Chart {
            name: format!("GPU {} used", gpu.index),
            key: Key::gpu("gpu_used_bytes", gpu.index),
            top: known(gpu.total_bytes.as_ref()),
        });
    }
    charts
}

/// Title, two lines each, and the marks.
pub(super) fn height(model: &Model) -> u16 {
    u16::try_from(2 + 2 * charts(model).len()).unwrap_or(u16::MAX)
}

pub(super) fn draw(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let model = scene.model;
    let span_s = model.span_s();
    let now = model.unix_s(scene.now_s);
    let all = charts(model);
    let inside = paint::below_title(area);
    // One line is the marks'.
    let room = usize::from(inside.height).saturating_sub(1);
    let shown = all.len().min(room);
    let before = if model.past.unknown.is_empty() {
        String::new()
    } else {
        format!(", before this viewer unknown: {}", model.past.unknown)
    };
    let hidden = all.len() - shown;
    let more = if hidden > 0 {
        format!(", {hidden} more in a higher window")
    } else {
        String::new()
    };
    let title = format!("peaks over the last {}{more}{before}", ago(span_s));
    paint::title(buffer, area, &title, false, scene.theme.quiet());
    if shown == 0 {
        return;
    }
    let label = LABEL_CELLS.min(usize::from(area.width) / 3);
    let cells = usize::from(area.width) - label - 1;
    let mut y = 0;
    for (at, chart) in all.iter().take(shown).enumerate() {
        let high = room / shown + usize::from(at < room % shown);
        let columns = model.past.columns(&chart.key, now, span_s, cells);
        let most = columns.iter().filter_map(|column| match column {
            Column::Most(most) => Some(*most),
            _ => None,
        });
        let most = most.fold(f64::NAN, f64::max);
        let top = chart.top.unwrap_or(most);
        let peak = if most.is_finite() {
            format::bytes(most)
        } else {
            "unknown".to_owned()
        };
        let of = chart
            .top
            .map_or(String::new(), |top| format!("of {}", format::bytes(top)));
        let labels = match high {
            1 => vec![format!("{} {peak}", chart.name)],
            2 => vec![chart.name.clone(), format!(" peak {peak}")],
            _ => vec![
                chart.name.clone(),
                format!(" peak {peak}"),
                format!(" {of}"),
            ],
        };
        for (row, cells) in rows(&columns, top, high).into_iter().enumerate() {
            let text = labels.get(row).map_or(String::new(), Clone::clone);
            let pieces = [
                (left(&text, label) + " ", ratatui::style::Style::new()),
                (cells, scene.theme.chart()),
            ];
            paint::spans(buffer, inside, y, &pieces);
            y += 1;
        }
    }
    let marks = marks(&model.past.marks(now, span_s, cells), cells);
    let pieces = [
        (left("epochs", label) + " ", scene.theme.quiet()),
        (marks, scene.theme.mark()),
    ];
    paint::spans(buffer, inside, y, &pieces);
}

/// The columns as `high` lines, the highest first. A known number always has a sign.
fn rows(columns: &[Column], top: f64, high: usize) -> Vec<String> {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |value: f64| {
        let share = if top > 0.0 { value / top } else { 0.0 };
        ((share * (8 * high) as f64).round().max(1.0) as usize).min(8 * high)
    };
    (0..high)
        .map(|row| {
            let under = 8 * (high - 1 - row);
            let cell = |column: &Column| match column {
                Column::Nothing => ' ',
                Column::Unknown if under == 0 => '?',
                Column::Unknown => ' ',
                Column::Most(value) => EIGHTHS[level(*value).saturating_sub(under).min(8)],
            };
            columns.iter().map(cell).collect()
        })
        .collect()
}

/// "|3   |4": where they do not fit their numbers are left out.
fn marks(marks: &[(usize, u64)], cells: usize) -> String {
    let mut line = vec![' '; cells];
    for (column, epoch) in marks {
        let text = format!("|{epoch}");
        let end = (column + text.len() + 1).min(cells);
        let free = line[*column..end].iter().all(|cell| *cell == ' ');
        if free && column + text.len() <= cells {
            for (at, letter) in text.chars().enumerate() {
                line[column + at] = letter;
            }
        } else if line[*column] == ' ' {
            line[*column] = '|';
        }
    }
    line.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_zero_is_drawn_and_an_unknown_is_none() {
        let columns = [
            Column::Nothing,
            Column::Unknown,
            Column::Most(0.0),
            Column::Most(4.0),
            Column::Most(8.0),
            Column::Most(99.0),
        ];
        assert_eq!(rows(&columns, 8.0, 1), [" ?▁▄██"]);
        assert_eq!(rows(&columns, 8.0, 2), ["    ██", " ?▁███"]);
        assert_eq!(rows(&columns[2..3], 0.0, 1), ["▁"]);
    }

    #[test]
    fn marks_keep_their_numbers_where_there_is_room() {
        assert_eq!(marks(&[(0, 3), (4, 4)], 8), "|3  |4  ");
        assert_eq!(marks(&[(0, 3), (1, 4), (2, 5), (7, 6)], 8), "|3|5   |");
    }
}
