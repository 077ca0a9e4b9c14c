//! Runs, ranks and the processes of one rank.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::super::model::Model;
use super::super::model::lists::{self, Pane};
use super::super::model::old::Old;
use super::super::text::{Value, clean, percent};
use super::Scene;
use super::paint::{self, Column, Row, Styles};
use crate::format;

const fn text(name: &'static str, width: u16, from: u16) -> Column {
    Column {
        name,
        width,
        number: false,
        from,
    }
}

const fn number(name: &'static str, width: u16, from: u16) -> Column {
    Column {
        name,
        width,
        number: true,
        from,
    }
}

/// A table with its title.
struct Listed<'a> {
    pane: Pane,
    what: &'a str,
    columns: &'a [Column],
    rows: &'a [Row],
    /// With those that the filter leaves out.
    all: usize,
}

impl Listed<'_> {
    fn draw(self, scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
        let focus = scene.model.pane == self.pane;
        let theme = scene.theme;
        let styles = Styles {
            heading: theme.quiet(),
            chosen: if focus {
                theme.chosen()
            } else {
                theme.strong()
            },
            alert: theme.alert(),
        };
        let inside = paint::below_title(area);
        let shown = paint::table(buffer, inside, self.columns, self.rows, styles);
        if self.rows.is_empty() {
            let none = if self.all > 0 {
                "none of them matches the filter"
            } else {
                "none"
            };
            paint::line(buffer, inside, 1, &format!("  {none}"), theme.quiet());
        }
        let title = self.heading(scene, shown);
        let style = if focus { theme.strong() } else { theme.quiet() };
        paint::title(buffer, area, &title, focus, style);
    }

    /// "ranks: 1-3 of 8, by memory, only /node0".
    fn heading(&self, scene: Scene<'_>, shown: (usize, usize)) -> String {
        let (what, count, all) = (self.what, self.rows.len(), self.all);
        let mut text = match (shown.1 - shown.0 == count, count == all) {
            (true, true) => format!("{what}: {all}"),
            (true, false) => format!("{what}: {count} of {all}"),
            (false, _) => format!("{what}: {}-{} of {count}", shown.0 + 1, shown.1),
        };
        text.push_str(&format!(", by {}", scene.model.order(self.pane)));
        let filter = scene.model.filter(self.pane);
        if !filter.is_empty() {
            text.push_str(&format!(", only /{}", clean(filter)));
        }
        text
    }
}

pub(super) fn runs(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    const COLUMNS: [Column; 7] = [
        text("RUN", 0, 0),
        text("PHASE", 8, 0),
        number("RANKS", 7, 0),
        text("AT", 16, 60),
        number("LEFT", 12, 0),
        number("LOSS", 9, 72),
        number("OPEN", 4, 78),
    ];
    let model = scene.model;
    let chosen = model
        .cursor_run
        .clone()
        .or_else(|| Some(model.shown_run()?.id.clone()));
    let runs = lists::runs(
        &model.runs,
        model.order(Pane::Runs),
        model.filter(Pane::Runs),
    );
    let rows: Vec<_> = runs
        .iter()
        .map(|run| Row {
            cells: vec![
                clean(&run.id),
                format::phase(run.phase()).to_owned(),
                format!("{}/{}", run.connected, run.world_size),
                format::short_progress(run),
                run.left_s.map_or("unknown".to_owned(), format::age),
                run.loss.map_or("unknown".to_owned(), format::number),
                run.incidents.to_string(),
            ],
            chosen: Some(&run.id) == chosen.as_ref(),
            alert: run.incidents > 0,
        })
        .collect();
    let listed = Listed {
        pane: Pane::Runs,
        what: "runs",
        columns: &COLUMNS,
        rows: &rows,
        all: model.runs.len(),
    };
    listed.draw(scene, area, buffer);
}

/// How many would be shown.
pub(super) fn rank_count(model: &Model) -> usize {
    model
        .shown
        .as_ref()
        .map_or(0, |shown| shown.reply.ranks.len())
}

pub(super) fn process_count(model: &Model) -> usize {
    let memory = model.rank().and_then(|rank| rank.memory.as_ref());
    memory.map_or(0, |memory| memory.children.len() + 1)
}

pub(super) fn ranks(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    const COLUMNS: [Column; 12] = [
        number("RANK", 4, 0),
        number("PID", 8, 78),
        number("EPOCH", 7, 44),
        number("ITER", 8, 0),
        number("STEP", 8, 52),
        number("WAIT", 7, 60),
        number("MEMORY", 14, 0),
        number("ON GPU", 11, 70),
        number("LOSS", 9, 88),
        number("KIDS", 4, 93),
        text("NODE", 12, 106),
        text("LAST POINT", 0, 118),
    ];
    let model = scene.model;
    let Some(shown) = &model.shown else { return };
    let waited_s = model.waited_s(scene.now_s);
    let old = Old::of(&shown.reply);
    let chosen = model.rank().map(|rank| rank.rank);
    let listed = lists::ranks(
        &shown.reply,
        model.order(Pane::Ranks),
        model.filter(Pane::Ranks),
    );
    let unknown = || "unknown".to_owned();
    // Of a run that is over every rank has gone.
    let goes_on = model
        .shown_run()
        .is_some_and(|run| run.ended_unix_s.is_none());
    let rows: Vec<_> = listed
        .iter()
        .map(|rank| {
            let (memory, by_pss) = lists::rank_memory(rank, waited_s);
            let basis = if memory.known.is_err() || by_pss {
                ""
            } else {
                " rss"
            };
            let old_s = if by_pss { old.smaps_s } else { old.process_s };
            let share = rank.data_wait_s.zip(rank.step_s.filter(|step| *step > 0.0));
            let at = |get: fn(&hookbus_client::inspect::proto::Position) -> u64| {
                rank.position
                    .as_ref()
                    .map_or_else(unknown, |at| get(at).to_string())
            };
            Row {
                cells: vec![
                    rank.rank.to_string(),
                    if rank.pid == 0 {
                        unknown()
                    } else {
                        rank.pid.to_string()
                    },
                    at(|at| at.epoch),
                    at(|at| at.iter),
                    rank.step_s.map_or_else(unknown, format::short),
                    share.map_or_else(unknown, |(wait, step)| percent(wait / step * 100.0)),
                    memory.short(format::bytes, old_s) + basis,
                    on_gpus(rank, waited_s).short(format::bytes, old.gpu_s),
                    rank.last
                        .get("loss")
                        .map_or_else(unknown, |loss| format::number(*loss)),
                    (rank.children).map_or_else(|| "?".to_owned(), |count| count.to_string()),
                    clean(&rank.node),
                    if rank.connected {
                        clean(&rank.point)
                    } else {
                        format!("gone: {}", clean(&rank.reason))
                    },
                ],
                chosen: Some(rank.rank) == chosen,
                alert: goes_on && !rank.connected || rank.breaker_open,
            }
        })
        .collect();
    let gone = listed.iter().filter(|rank| !rank.connected).count();
    let what = if goes_on && gone > 0 {
        format!("ranks ({gone} gone)")
    } else {
        "ranks".to_owned()
    };
    let listed = Listed {
        pane: Pane::Ranks,
        what: &what,
        columns: &COLUMNS,
        rows: &rows,
        all: shown.reply.ranks.len(),
    };
    listed.draw(scene, area, buffer);
}

/// What the driver says that it has on all of them; a machine without one has no such number.
fn on_gpus(rank: &hookbus_client::inspect::proto::Rank, waited_s: f64) -> Value {
    match &rank.memory {
        None => Value::unknown(format::NOT_SENT),
        Some(memory) if memory.gpus.is_empty() && memory.gpus_unknown.is_empty() => {
            Value::unknown(format::NOT_SENT)
        }
        Some(memory) if memory.gpus.is_empty() => Value::unknown(&memory.gpus_unknown),
        Some(memory) => Value::sum(
            memory
                .gpus
                .iter()
                .map(|one| Value::of(one.used_bytes.as_ref(), waited_s)),
        ),
    }
}

pub(super) fn processes(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    const COLUMNS: [Column; 8] = [
        number("PID", 8, 0),
        text("ROLE", 7, 0),
        number("PSS", 11, 0),
        number("RSS", 11, 0),
        number("USS", 11, 84),
        number("SHARED", 11, 96),
        number("SWAP", 11, 108),
        text("COMMAND", 0, 50),
    ];
    let model = scene.model;
    let Some(shown) = &model.shown else { return };
    let old = Old::of(&shown.reply);
    let waited_s = model.waited_s(scene.now_s);
    let rank = model.rank();
    let listed = rank.map_or(Vec::new(), |rank| {
        lists::processes(
            rank,
            model.order(Pane::Processes),
            model.filter(Pane::Processes),
        )
    });
    let chosen = model.cursor_pid.or(listed.first().map(|one| one.pid));
    let rows: Vec<_> = listed
        .iter()
        .map(|one| {
            let cell = |reading: &Option<_>, old_s| {
                Value::of(reading.as_ref(), waited_s).short(format::bytes, old_s)
            };
            Row {
                cells: vec![
                    if one.pid == 0 {
                        "unknown".to_owned()
                    } else {
                        one.pid.to_string()
                    },
                    one.role.to_owned(),
                    cell(&one.pss, old.smaps_s),
                    cell(&one.rss, old.process_s),
                    cell(&one.uss, old.smaps_s),
                    cell(&one.shmem, old.smaps_s),
                    cell(&one.swap, old.smaps_s),
                    one.command.clone(),
                ],
                chosen: Some(one.pid) == chosen,
                alert: false,
            }
        })
        .collect();
    let what = rank.map_or("processes".to_owned(), |rank| {
        let listed = rank
            .memory
            .as_ref()
            .map_or(0, |memory| memory.children.len());
        let children = rank.children.unwrap_or_default() as usize;
        let more = match children.saturating_sub(listed) {
            0 => String::new(),
            more => format!(" ({more} more that are not seen from here)"),
        };
        format!("processes of rank {}{more}", rank.rank)
    });
    let listed = Listed {
        pane: Pane::Processes,
        what: &what,
        columns: &COLUMNS,
        rows: &rows,
        all: process_count(model),
    };
    listed.draw(scene, area, buffer);
}
