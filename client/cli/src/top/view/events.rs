//! Open incidents, which stay at the top, and what happened, the newest at the bottom.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::model::lists::{self, Pane};
use super::super::model::{Model, log};
use super::super::text::{ago, clean};
use super::{Scene, paint};

pub(super) fn count(model: &Model) -> usize {
    open(model).len() + model.log.lines.len().min(20)
}

fn open(model: &Model) -> Vec<String> {
    let incidents = model.shown.iter().flat_map(|shown| &shown.reply.incidents);
    incidents
        .filter(|incident| incident.open)
        .map(|incident| format!("! {}", log::incident(incident)))
        .collect()
}

pub(super) fn draw(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let model = scene.model;
    let filter = model.filter(Pane::Events);
    let open = open(model);
    let focus = model.pane == Pane::Events;
    let inside = paint::below_title(area);
    let room = usize::from(inside.height);
    // However many are open, what happens is seen too.
    let pinned = open.len().min(room.div_ceil(2));
    let mut y = 0;
    for line in &open[..pinned] {
        paint::line(buffer, inside, y, line, scene.theme.alert());
        y += 1;
    }
    let chosen: Vec<_> = model
        .log
        .lines
        .iter()
        .filter(|line| lists::matches(filter, &format!("{} {}", line.kind, line.text)))
        .collect();
    let room = room - pinned;
    let scrolled = model.scrolled.min(chosen.len().saturating_sub(room));
    let end = chosen.len() - scrolled;
    let first = end.saturating_sub(room);
    let now = model.unix_s(scene.now_s);
    let started = model.started_unix_s();
    for line in &chosen[first..end] {
        let style = if line.alert {
            scene.theme.alert()
        } else {
            Style::new()
        };
        let mark = if line.alert { "!" } else { " " };
        let age = line.at.age_s(now, started).map_or("?".to_owned(), ago);
        let text = format!("{mark}{age:>4} {:<8} {}", line.kind, line.text);
        paint::line(buffer, inside, y, &text, style);
        y += 1;
    }
    if chosen.is_empty() && y < inside.height {
        let none = if model.log.lines.is_empty() {
            "the daemon has told of none yet"
        } else {
            "none of them matches the filter"
        };
        paint::line(buffer, inside, y, &format!("  {none}"), scene.theme.quiet());
    }
    // A run that is shown has begun: none told is not none.
    let mut title = match model.log.lines.len() {
        0 => "events: none told yet".to_owned(),
        count => format!("events: {count}"),
    };
    if open.len() > pinned {
        title.push_str(&format!(", {} more incidents open", open.len() - pinned));
    }
    if scrolled > 0 {
        title.push_str(&format!(", {scrolled} newer below"));
    }
    if model.log.missed > 0 {
        title.push_str(&format!(", {} missed", model.log.missed));
    }
    if !filter.is_empty() {
        title.push_str(&format!(", only /{}", clean(filter)));
    }
    let style = if focus {
        scene.theme.strong()
    } else {
        scene.theme.quiet()
    };
    paint::title(buffer, area, &title, focus, style);
}
