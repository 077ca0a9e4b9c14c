//! Which run, how far, how fast; whether what is seen is of now; and the line of keys.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use hookbus_client::inspect::proto::{Rank, RunPhase, RunSummary};

use super::super::model::dialog::Step;
use super::super::model::{Mode, Model};
use super::super::text::{ago, clean, fold, percent, width};
use super::{Scene, paint};
use crate::format;

/// What comes after a run's name has to be seen too.
const LONGEST_NAME: usize = 48;

pub(super) fn draw(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let model = scene.model;
    let run = model.shown_run();
    let (state, alert) = state(model, scene.now_s);
    let title = match run {
        Some(run) => named(run),
        None if model.shown.is_some() => "no run yet: host and GPUs".to_owned(),
        None if model.run.is_empty() => "no run yet".to_owned(),
        None => clean(&model.run),
    };
    let cells = usize::from(area.width).saturating_sub(width(&state) + 1);
    let title = super::super::text::left(&format!("hookbus top  {title}"), cells);
    let style = if alert {
        scene.theme.alert()
    } else {
        scene.theme.strong()
    };
    paint::spans(
        buffer,
        area,
        0,
        &[(title + " ", scene.theme.strong()), (state, style)],
    );
    let Some(run) = run else {
        paint::line(buffer, area, 1, &trouble(model), scene.theme.alert());
        return;
    };
    paint::spans(
        buffer,
        area,
        1,
        &progress(scene, run, usize::from(area.width)),
    );
    let lost = trouble(model);
    if lost.is_empty() {
        paint::spans(buffer, area, 2, &pace(scene, run, model.rank()));
    } else {
        paint::line(buffer, area, 2, &lost, scene.theme.alert());
    }
}

fn named(run: &RunSummary) -> String {
    let id = super::super::text::fit(&clean(&run.id), LONGEST_NAME);
    let mut text = format!("{id}  {}", format::phase(run.phase()));
    if run.archived {
        text.push_str(", recorded");
    } else if run.ended_unix_s.is_none() {
        text.push_str(&format!(" for {}", ago(run.age_s)));
    }
    text.push_str(&format!(", {} of {} ranks", run.connected, run.world_size));
    if run.attempt > 0 {
        text.push_str(&format!(", attempt {}", run.attempt));
    }
    if !run.reason.is_empty() {
        text.push_str(&format!(": {}", clean(&run.reason)));
    }
    text
}

/// One word on whether this is now, and whether to look at it.
fn state(model: &Model, now_s: f64) -> (String, bool) {
    let waited = ago(model.waited_s(now_s));
    if model.paused_s.is_some() {
        return ("HELD (Space)".to_owned(), true);
    }
    match (&model.lost, model.shown.is_some()) {
        (Some(_), true) => (format!("! STALE {waited}"), true),
        (Some(_), false) => ("! NO DAEMON".to_owned(), true),
        (None, true) if model.is_stale(now_s) => (format!("! STALE {waited}"), true),
        (None, true) => (format!("live {}s", model.interval_s), false),
        (None, false) => ("connecting".to_owned(), false),
    }
}

/// Why there is nothing new; empty: there is.
fn trouble(model: &Model) -> String {
    match &model.lost {
        Some((why, _)) => format!("! {why}; trying again"),
        None if model.trouble.is_empty() => String::new(),
        None => format!("! {}", model.trouble),
    }
}

/// How much is done; None: the end is not known.
fn share(run: &RunSummary) -> Option<f64> {
    let at = run.position.as_ref()?;
    let by_epochs = run.max_epochs.zip(run.iters_per_epoch);
    let end = run
        .max_iters
        .or(by_epochs.and_then(|(epochs, iters)| epochs.checked_mul(iters)));
    let (done, end) = match (end, run.max_epochs) {
        (Some(end), _) => (at.iter, end),
        (None, Some(epochs)) => (at.epoch, epochs),
        (None, None) => return None,
    };
    (end > 0).then(|| (done as f64 / end as f64).min(1.0))
}

fn progress(scene: Scene<'_>, run: &RunSummary, cells: usize) -> Vec<(String, Style)> {
    let place = match &run.position {
        Some(_) => format::progress(run),
        None => "position unknown: no event came".to_owned(),
    };
    let goes_on = run.phase() == RunPhase::Running && run.ended_unix_s.is_none();
    let step = scene.model.rank().and_then(|rank| rank.step_s);
    let left = match (run.left_s, share(run), step) {
        (Some(left), _, _) => format!("left {}", format::age(left)),
        _ if !goes_on => String::new(),
        (None, None, _) => "left unknown: no end was said".to_owned(),
        (None, Some(_), None) => "left unknown: no step was timed".to_owned(),
        (None, Some(_), Some(_)) => "left unknown: not sent".to_owned(),
    };
    let done = match share(run) {
        Some(share) => format!(" {}  {place}  {left}", percent((share * 100.0).floor())),
        None => format!(" {place}  {left}"),
    };
    let room = cells.saturating_sub(width(&done) + 3).min(60);
    let Some(share) = share(run).filter(|_| room >= 5) else {
        return vec![(done, Style::new())];
    };
    let full = (share * room as f64).floor() as usize;
    vec![
        ("[".to_owned(), Style::new()),
        ("█".repeat(full), scene.theme.progress()),
        ("·".repeat(room - full), scene.theme.quiet()),
        (format!("]{done}"), Style::new()),
    ]
}

/// Of the chosen rank.
fn pace(scene: Scene<'_>, run: &RunSummary, rank: Option<&Rank>) -> Vec<(String, Style)> {
    let mut pieces = Vec::new();
    if run.incidents > 0 {
        let word = if run.incidents == 1 {
            "incident"
        } else {
            "incidents"
        };
        let text = format!("! {} {word} open  ", run.incidents);
        pieces.push((text, scene.theme.alert()));
    }
    let Some(rank) = rank else {
        pieces.push(("no rank has attached".to_owned(), Style::new()));
        return pieces;
    };
    let step = match rank.step_s {
        Some(step) => format!("step {}", format::short(step)),
        None => "step unknown: none was timed".to_owned(),
    };
    let wait = match (rank.data_wait_s, rank.step_s.filter(|step| *step > 0.0)) {
        (Some(wait), Some(step)) => {
            format!(
                "data wait {} ({})",
                format::short(wait),
                percent(wait / step * 100.0)
            )
        }
        (Some(wait), None) => format!("data wait {}", format::short(wait)),
        (None, _) => "data wait unknown: none was sent".to_owned(),
    };
    let mut text = format!("rank {}  {step}  {wait}", rank.rank);
    for name in ["loss", "lr"] {
        if let Some(value) = rank.last.get(name) {
            text.push_str(&format!("  {name} {}", format::number(*value)));
        }
    }
    pieces.push((text, Style::new()));
    pieces
}

/// In the place of the panes, before the first answer.
pub(super) fn nothing_yet(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let model = scene.model;
    let text = match (&model.lost, model.trouble.is_empty()) {
        (Some((why, since)), _) => format!(
            "{why}. Trying again, for {} by now. q ends.",
            ago(scene.now_s - since)
        ),
        (None, false) => format!("{}. Waiting for it. q ends.", model.trouble),
        (None, true) => format!("asking {}", model.address),
    };
    for (at, line) in fold(&clean(&text), usize::from(area.width).saturating_sub(4))
        .iter()
        .enumerate()
    {
        let at = u16::try_from(at + 1).unwrap_or(u16::MAX);
        paint::line(buffer, area, at, &format!("  {line}"), Style::new());
    }
}

/// What keys do now, or what a person has to be told.
pub(super) fn footer(scene: Scene<'_>, missing: &[&str], area: Rect, buffer: &mut Buffer) {
    let model = scene.model;
    let keys = match &model.mode {
        Mode::Filter => {
            let typed = clean(model.filter(model.pane));
            format!("/{typed}_   Enter keep, Esc all {}", model.pane.name())
        }
        _ if !model.hint.is_empty() => model.hint.clone(),
        Mode::Help | Mode::Details(_) => "Esc close  Up Down further".to_owned(),
        Mode::Order(dialog) => match &dialog.step {
            Step::Sent { ended: Some(_), .. } => "Esc close".to_owned(),
            Step::Sent { ended: None, .. } => "Esc close; the order is sent".to_owned(),
            Step::Rate { .. } | Step::Confirm { .. } => "Esc close without it".to_owned(),
        },
        Mode::Panes if model.armed => {
            "ARMED S stop L rate  ? help q quit Tab pane s sort / filter Enter pick".to_owned()
        }
        Mode::Panes => {
            "? help  q quit  Tab pane  s sort  / filter  Enter pick  Space hold".to_owned()
        }
    };
    let no_room = if missing.is_empty() {
        String::new()
    } else {
        format!("no room: {}", missing.join(", "))
    };
    let style = if model.hint.is_empty() {
        scene.theme.quiet()
    } else {
        scene.theme.strong()
    };
    let cells = usize::from(area.width).saturating_sub(width(&no_room) + 1);
    let keys = super::super::text::left(&keys, cells);
    paint::spans(
        buffer,
        area,
        0,
        &[(keys + " ", style), (no_room, scene.theme.strong())],
    );
}
