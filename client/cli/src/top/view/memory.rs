//! Bars of memory, each with the signs that it is made of and what they stand for.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::model::bars::{self, Bar, Kind, Segment};
use super::super::model::lists::Pane;
use super::super::text::{clean, width};
use super::theme::sign;
use super::{Scene, paint};
use crate::format;

type Piece = (String, Style);

/// What the memory pane shows.
fn bar(scene: Scene<'_>) -> Option<Bar> {
    let shown = scene.model.shown.as_ref()?;
    let waited_s = scene.model.waited_s(scene.now_s);
    Some(bars::memory(&shown.reply, scene.model.rank(), waited_s))
}

pub(super) fn memory_height(scene: Scene<'_>, width: u16) -> u16 {
    let lines = bar(scene).map_or(0, |bar| below(scene, &bar, width).len());
    u16::try_from(2 + lines).unwrap_or(u16::MAX)
}

pub(super) fn memory(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let Some(bar) = bar(scene) else { return };
    let title = format!(
        "memory: {} of {}",
        bar.title,
        bar.total.text(format::bytes, f64::INFINITY)
    );
    paint::title(buffer, area, &title, false, scene.theme.quiet());
    let inside = paint::below_title(area);
    paint::spans(
        buffer,
        inside,
        0,
        &drawn(scene, &bar, usize::from(area.width)),
    );
    for (at, line) in below(scene, &bar, area.width).iter().enumerate() {
        paint::spans(
            buffer,
            inside,
            u16::try_from(at + 1).unwrap_or(u16::MAX),
            line,
        );
    }
}

/// The bar itself, in brackets.
fn drawn(scene: Scene<'_>, bar: &Bar, cells: usize) -> Vec<Piece> {
    let inside = cells.saturating_sub(2);
    let parts = bars::cells(bar, inside);
    if parts.is_empty() {
        let why = bar.total.text(format::bytes, f64::INFINITY);
        return vec![(format!("[size {why}]"), Style::new())];
    }
    let mut pieces = vec![("[".to_owned(), Style::new())];
    for (kind, cells) in parts {
        let (sign, kind) = kind.map_or(("?", Kind::Free), |kind| (sign(kind), kind));
        pieces.push((sign.repeat(cells), scene.theme.segment(kind)));
    }
    pieces.push(("]".to_owned(), Style::new()));
    pieces
}

fn meaning(scene: Scene<'_>, segment: &Segment) -> Piece {
    let number = segment.bytes.text(format::bytes, segment.old_s);
    let bound = if segment.bound.is_empty() || segment.bytes.known.is_err() {
        String::new()
    } else {
        format!("{} ", segment.bound)
    };
    let text = format!("{} {} {bound}{number}", sign(segment.kind), segment.name);
    (text, scene.theme.segment(segment.kind))
}

/// What the signs mean, and the notes, in as many lines as they take.
fn below(scene: Scene<'_>, bar: &Bar, cells: u16) -> Vec<Vec<Piece>> {
    let mut lines = wrap(bar.segments.iter().map(|one| meaning(scene, one)), cells);
    let note = |text: &String| {
        let style = if text.starts_with('!') {
            scene.theme.alert()
        } else {
            scene.theme.quiet()
        };
        (text.clone(), style)
    };
    lines.extend(wrap(bar.notes.iter().map(note), cells));
    lines
}

/// Pieces side by side, two blanks between them, as many a line as fit.
fn wrap(pieces: impl Iterator<Item = Piece>, cells: u16) -> Vec<Vec<Piece>> {
    let mut lines: Vec<Vec<Piece>> = Vec::new();
    let mut taken = 0;
    for (text, style) in pieces {
        let needs = width(&text) + 2;
        let fits = taken + needs <= usize::from(cells);
        let blank = ("  ".to_owned(), Style::new());
        match lines.last_mut() {
            Some(line) if fits => {
                line.extend([blank, (text, style)]);
                taken += needs;
            }
            _ => {
                taken = needs;
                lines.push(vec![(" ".to_owned(), Style::new()), (text, style)]);
            }
        }
    }
    lines
}

/// A GPU's name stands before its bar.
const NAME_CELLS: usize = 26;

pub(super) fn gpus_height(scene: Scene<'_>, width: u16) -> (u16, u16) {
    let bars = bars::gpus(scene.model, scene.now_s);
    if bars.is_empty() {
        return (1, 1);
    }
    let lines: usize = bars
        .iter()
        .map(|(_, bar)| 1 + below(scene, bar, width).len())
        .sum();
    let least = if bars.len() == 1 { 3 } else { 2 };
    (least, u16::try_from(1 + lines).unwrap_or(u16::MAX))
}

pub(super) fn gpus(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let model = scene.model;
    let focus = model.pane == Pane::Gpus;
    let style = if focus {
        scene.theme.strong()
    } else {
        scene.theme.quiet()
    };
    let bars = bars::gpus(model, scene.now_s);
    if bars.is_empty() {
        let reply = model.shown.as_ref().map(|shown| &shown.reply);
        let title = match reply {
            Some(reply) if !reply.gpus.is_empty() => {
                format!("GPUs: none of {} matches the filter", reply.gpus.len())
            }
            Some(reply) if !reply.gpu_unknown.is_empty() => {
                format!("GPUs unknown: {}", clean(&reply.gpu_unknown))
            }
            _ => "GPUs unknown: no reason was given".to_owned(),
        };
        paint::title(buffer, area, &title, focus, style);
        return;
    }
    let inside = paint::below_title(area);
    let room = usize::from(inside.height);
    let cells = usize::from(area.width);
    let meanings: Vec<_> = bars
        .iter()
        .map(|(_, bar)| below(scene, bar, area.width))
        .collect();
    // All that is known of each, or a line each.
    let full = meanings.iter().map(|lines| 1 + lines.len()).sum::<usize>() <= room;
    let chosen = bars
        .iter()
        .position(|(index, _)| Some(*index) == model.cursor_gpu)
        .unwrap_or(0);
    let first = if full || chosen < room {
        0
    } else {
        chosen + 1 - room
    };
    let mut at = 0;
    let mut shown = 0;
    for ((index, bar), meanings) in bars.iter().zip(&meanings).skip(first) {
        // One alone has its numbers, as far as there is room.
        let lines = if full || bars.len() == 1 {
            1 + meanings.len().min(room.saturating_sub(1))
        } else {
            1
        };
        if usize::from(at) + lines > room {
            break;
        }
        let mark = if focus && Some(*index) == model.cursor_gpu {
            ">"
        } else {
            " "
        };
        let total = bar.total.text(format::bytes, f64::INFINITY);
        let name =
            super::super::text::left(&format!("{mark}{}", bar.title), NAME_CELLS.min(cells / 3));
        let numbers = if lines == 1 {
            brief(bar)
        } else {
            format!(" {total}{}", busy(bar))
        };
        let rest = cells.saturating_sub(width(&name) + width(&numbers));
        let mut pieces = vec![(name, Style::new())];
        pieces.extend(drawn(scene, bar, rest));
        pieces.push((numbers, Style::new()));
        paint::spans(buffer, inside, at, &pieces);
        for line in meanings.iter().take(lines - 1) {
            at += 1;
            paint::spans(buffer, inside, at, line);
        }
        at += 1;
        shown += 1;
    }
    let title = if shown == bars.len() {
        format!("GPUs: {shown}, by {}", model.order(Pane::Gpus))
    } else {
        format!(
            "GPUs: {}-{} of {}, by {}",
            first + 1,
            first + shown,
            bars.len(),
            model.order(Pane::Gpus)
        )
    };
    paint::title(buffer, area, &title, focus, style);
}

/// Taken and total, and how busy it is.
fn brief(bar: &Bar) -> String {
    let free = bar
        .segments
        .iter()
        .find(|segment| segment.kind == Kind::Free);
    let taken = free.map(|free| bar.total.clone().less(&free.bytes));
    let taken = taken.map_or("unknown".to_owned(), |taken| {
        taken.short(format::bytes, f64::INFINITY)
    });
    let total = bar.total.short(format::bytes, f64::INFINITY);
    format!(" {taken} of {total}{}", busy(bar))
}

/// Of a GPU; of its slices nobody says it.
fn busy(bar: &Bar) -> String {
    let note = bar.notes.iter().find(|note| note.starts_with("busy "));
    note.map_or(String::new(), |note| {
        format!(" {}", super::super::text::fit(note, 12))
    })
}
