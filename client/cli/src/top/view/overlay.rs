//! What lies over the panes: the page of keys, all that is known of one thing, an order on its way.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{Block, Clear, Widget};

use super::super::input::HELP;
use super::super::model::bars::Kind;
use super::super::model::details;
use super::super::model::dialog::{Dialog, Step, Wish};
use super::super::text::{clean, fit, fold, left};
use super::theme::sign;
use super::{Scene, paint};

type Line = (String, Style);

/// A box in the middle, as high as its lines and as wide as is given; the inside of it.
fn opened(
    scene: Scene<'_>,
    title: &str,
    lines: &[Line],
    cells: u16,
    area: Rect,
    buffer: &mut Buffer,
) {
    let width = cells.min(area.width);
    let height = u16::try_from(lines.len() + 2)
        .unwrap_or(u16::MAX)
        .min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(place, buffer);
    let title = fit(title, usize::from(width).saturating_sub(6));
    let block = Block::bordered()
        .title(format!(" {title} "))
        .border_style(scene.theme.strong());
    let inside = block.inner(place);
    block.render(place, buffer);
    for (at, (text, style)) in lines.iter().enumerate() {
        paint::line(
            buffer,
            inside,
            u16::try_from(at).unwrap_or(u16::MAX),
            &format!(" {text}"),
            *style,
        );
    }
}

pub(super) fn help(scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let mut lines: Vec<Line> = Vec::new();
    for (key, what, armed) in HELP {
        let not = if armed && !scene.model.armed {
            " (needs --arm)"
        } else {
            ""
        };
        lines.push((format!("{} {what}{not}", left(key, 15)), Style::new()));
    }
    let of = |kind, what: &str| (format!("{} {what}", sign(kind)), scene.theme.segment(kind));
    lines.extend([
        of(Kind::First, "main processes; of a GPU: allocated"),
        of(
            Kind::Second,
            "workers; of a GPU: reserved by the allocator, cached",
        ),
        of(Kind::Third, "other children; of a GPU: anything else"),
        of(
            Kind::Cache,
            "page cache: at most, mapped pages are also in PSS",
        ),
        of(
            Kind::Rest,
            "what nobody can tell apart; of a GPU: the driver's",
        ),
        (
            format!("{} free   ~ old   ? could not be read", sign(Kind::Free)),
            Style::new(),
        ),
    ]);
    opened(scene, "keys and signs", &lines, 74, area, buffer);
}

pub(super) fn details(scene: Scene<'_>, down: usize, area: Rect, buffer: &mut Buffer) {
    let all = details::lines(scene.model, scene.now_s);
    let cells = area.width.min(110);
    let inside = usize::from(cells).saturating_sub(4);
    let (title, rest) = all.split_first().expect("there is always a title");
    let folded = rest.iter().skip(down).flat_map(|line| {
        // Columns are kept where a line fits.
        if super::super::text::width(line) <= inside {
            vec![line.clone()]
        } else {
            fold(line, inside)
        }
    });
    let lines: Vec<_> = folded.map(|line| (line, Style::new())).collect();
    let more = if lines.len() > usize::from(area.height.saturating_sub(2)) {
        ", more below"
    } else {
        ""
    };
    opened(
        scene,
        &format!("{title}{more}"),
        &lines,
        cells,
        area,
        buffer,
    );
}

pub(super) fn order(scene: Scene<'_>, dialog: &Dialog, area: Rect, buffer: &mut Buffer) {
    let cells = 72.min(area.width);
    let inside = usize::from(cells).saturating_sub(4);
    let mut lines: Vec<Line> = Vec::new();
    let mut say = |text: &str, style: Style| {
        lines.extend(fold(text, inside).into_iter().map(|line| (line, style)));
    };
    let plain = Style::new();
    let run = &dialog.run;
    let ranks = if run.ranks == 1 {
        "1 rank".to_owned()
    } else {
        format!("{} ranks", run.ranks)
    };
    say(
        &format!("run {} ({ranks})", clean(&run.id)),
        scene.theme.strong(),
    );
    let title = match &dialog.step {
        Step::Rate { typed, problem } => {
            say("", plain);
            say("0.01     hold it there, every group", plain);
            say("x0.5     times what the schedule or scheduler gives", plain);
            say("release  end what was held", plain);
            say("", plain);
            say(
                &format!("learning rate: {}_", clean(typed)),
                scene.theme.strong(),
            );
            if !problem.is_empty() {
                say(&format!("! {problem}"), scene.theme.alert());
            }
            "learning rate"
        }
        Step::Confirm { wish, typed } => {
            say(&wish.command(run), plain);
            say(&wish.effect(), plain);
            say("", plain);
            say(
                &format!("To send it type: {}", dialog.words(*wish)),
                scene.theme.alert(),
            );
            say(&format!("> {}_", clean(typed)), scene.theme.strong());
            match wish {
                Wish::Stop => "! stop the training?",
                Wish::Rate(_) | Wish::Scale(_) | Wish::Release => "! change the learning rate?",
            }
        }
        Step::Sent {
            wish,
            id,
            waiting,
            results,
            ended,
        } => {
            say(&wish.command(run), plain);
            let applied = results.values().filter(|(applied, _)| *applied).count();
            let not = results.len() - applied;
            say(
                &format!(
                    "order {id}: {applied} applied, {not} not, {} to come",
                    waiting.len()
                ),
                scene.theme.strong(),
            );
            // Those that did not come first: they are what a person has to know.
            let mut each: Vec<_> = results.iter().collect();
            each.sort_by_key(|(rank, (applied, _))| (*applied, **rank));
            for (rank, (applied, said)) in each.iter().take(8) {
                let (mark, style) = if *applied {
                    (" ", plain)
                } else {
                    ("!", scene.theme.alert())
                };
                say(&format!("{mark} rank {rank}: {said}"), style);
            }
            match ended {
                None => say("waiting for results", plain),
                Some(Ok(())) => say("that is all. Esc closes.", plain),
                Some(Err(why)) => say(&format!("! {why}"), scene.theme.alert()),
            }
            "order"
        }
    };
    opened(scene, title, &lines, cells, area, buffer);
}
