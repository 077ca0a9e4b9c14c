//! The lines as text, in MiB as nvidia-smi has them, so that a column grows where memory does. What does not fit the
//! terminal is put together: ranks first, then GPUs.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::line::{Bytes, Line, MANY_RANKS, by_number};
use super::peaks::{Part, Peak, Peaks, Series};
use crate::format;
use crate::local_time::{self, LocalTime};
use crate::table::{Table, one_line};

const MIB: f64 = 1024.0 * 1024.0;

/// What is told of the same reason before the rest is counted.
const NAMED: usize = 6;

/// What has a column of its own.
#[derive(Debug, Clone, Copy)]
struct Layout {
    each_rank: bool,
    each_gpu: bool,
}

/// The widest first; the narrowest is taken where none fits.
const LAYOUTS: [Layout; 3] = [
    Layout {
        each_rank: true,
        each_gpu: true,
    },
    Layout {
        each_rank: false,
        each_gpu: true,
    },
    Layout {
        each_rank: false,
        each_gpu: false,
    },
];

pub(super) fn text(lines: &[Line], peaks: &Peaks, width: Option<usize>) -> String {
    if lines.is_empty() {
        return "no memory was recorded in that time\n".to_owned();
    }
    let columns = Columns::of(lines);
    let widest = |page: &str| page.lines().map(|line| line.chars().count()).max();
    let mut page: Option<String> = None;
    for layout in LAYOUTS {
        if layout.each_rank && columns.many_ranks {
            continue;
        }
        let next = table(lines, &columns, layout);
        let narrower = page
            .as_ref()
            .is_none_or(|page| widest(&next) < widest(page));
        if narrower {
            page = Some(next);
        }
        let page = page.as_deref().unwrap_or_default();
        if width.is_none_or(|width| widest(page) <= Some(width)) {
            break;
        }
    }
    let mut page = page.unwrap_or_default();
    let part = page.contains('>');
    page.push_str(&summary(peaks, columns.many_ranks));
    if part {
        page.push_str("  > is at least: a part of that sum is unknown\n");
    }
    page
}

/// Whatever has a number in any line.
struct Columns {
    ranks: BTreeSet<i64>,
    many_ranks: bool,
    gpus: Vec<String>,
}

impl Columns {
    fn of(lines: &[Line]) -> Columns {
        let ranks: BTreeSet<i64> = lines
            .iter()
            .flat_map(|line| line.ranks.iter().map(|one| one.rank))
            .collect();
        // A line of many has kept none of them.
        let kept_none = |line: &Line| line.ranks.is_empty() && line.all_ranks.sum != Bytes::Absent;
        let many_ranks = ranks.len() > MANY_RANKS || lines.iter().any(kept_none);
        let gpus: BTreeSet<_> = lines
            .iter()
            .flat_map(|line| line.gpus.iter().map(|(index, _)| by_number(index)))
            .collect();
        Columns {
            ranks,
            many_ranks,
            gpus: gpus.into_iter().map(|(_, index)| index).collect(),
        }
    }
}

fn table(lines: &[Line], columns: &Columns, layout: Layout) -> String {
    let mut table = Table::new(0).numbers_from(1);
    table.cells(titles(columns, layout));
    for line in lines {
        table.cells(cells(line, columns, layout));
    }
    let rendered = table.render();
    let mut rows = rendered.lines();
    let mut page = format!("{}\n", rows.next().unwrap_or_default());
    let mut before: Option<&Line> = None;
    for (row, line) in rows.zip(lines) {
        if let Some(words) = section(before, line) {
            let _ = writeln!(page, "{words}");
        }
        let _ = writeln!(page, "{row}");
        before = Some(line);
    }
    page
}

/// What is said before a line of another day or attempt.
fn section(before: Option<&Line>, line: &Line) -> Option<String> {
    let date = |line: &Line| LocalTime::of(line.time_unix_s).map(LocalTime::date);
    let same =
        before.is_some_and(|before| before.attempt == line.attempt && date(before) == date(line));
    let date = date(line).unwrap_or("unknown day".to_owned());
    (!same).then(|| format!("{date}, attempt {}, in MiB", line.attempt))
}

fn titles(columns: &Columns, layout: Layout) -> Vec<String> {
    let mut titles: Vec<String> = ["TIME", "EPOCH", "ITER", "HOST"].map(str::to_owned).into();
    if layout.each_rank {
        for rank in &columns.ranks {
            titles.push(format!("RANK {rank}"));
            titles.push("CHILDREN".to_owned());
        }
    } else if columns.many_ranks || !columns.ranks.is_empty() {
        titles.extend(["ALL RANKS", "LARGEST"].map(str::to_owned));
    }
    if layout.each_gpu {
        titles.extend(columns.gpus.iter().map(|index| format!("GPU {index}")));
    } else if !columns.gpus.is_empty() {
        titles.extend(["ALL GPUS", "LARGEST"].map(str::to_owned));
    }
    titles
}

fn cells(line: &Line, columns: &Columns, layout: Layout) -> Vec<String> {
    let count = |count: Option<i64>| count.map_or("-".to_owned(), |count| count.to_string());
    let largest = |largest: &Option<(String, f64)>| match largest {
        Some((name, bytes)) => format!("{} #{name}", mib(Bytes::Known(*bytes))),
        None => "-".to_owned(),
    };
    let time = LocalTime::of(line.time_unix_s);
    let mut cells = vec![
        time.map_or("unknown".to_owned(), LocalTime::clock_s),
        count(line.epoch),
        count(line.iter),
        mib(line.host),
    ];
    if layout.each_rank {
        for rank in &columns.ranks {
            let one = line.ranks.iter().find(|one| one.rank == *rank);
            let (main, children) = one.map_or((Bytes::Absent, Bytes::Absent), |one| {
                (one.main, one.children)
            });
            cells.extend([mib(main), mib(children)]);
        }
    } else if columns.many_ranks || !columns.ranks.is_empty() {
        cells.extend([mib(line.all_ranks.sum), largest(&line.all_ranks.largest)]);
    }
    if layout.each_gpu {
        for index in &columns.gpus {
            let one = line.gpus.iter().find(|(of, _)| of == index);
            cells.push(mib(one.map_or(Bytes::Absent, |(_, bytes)| *bytes)));
        }
    } else if !columns.gpus.is_empty() {
        cells.extend([mib(line.all_gpus.sum), largest(&line.all_gpus.largest)]);
    }
    cells
}

fn mib(bytes: Bytes) -> String {
    match bytes {
        Bytes::Absent => "-".to_owned(),
        Bytes::Unknown => "unknown".to_owned(),
        Bytes::Known(n) => format!("{:.0}", n / MIB),
        Bytes::AtLeast(n) => format!(">{:.0}", n / MIB),
    }
}

fn summary(peaks: &Peaks, many_ranks: bool) -> String {
    let mut table = Table::new(2);
    let several = peaks
        .highest
        .keys()
        .filter(|of| matches!(of, Series::Rank(_, Part::Main)))
        .count()
        > 1;
    let shown = |of: &Series, peak: &Peak| match of {
        Series::Rank(..) => !many_ranks,
        Series::AllRanks => several,
        Series::Swap => peak.bytes > 0.0,
        Series::Host | Series::Gpu(_) => true,
    };
    for (of, peak) in peaks.highest.iter().filter(|(of, peak)| shown(of, peak)) {
        let total = peaks.total.get(of).map_or(String::new(), |total| {
            format!(" of {}", format::bytes(*total))
        });
        let bytes = format!("{}{total}", format::bytes(peak.bytes));
        let name = match of {
            // Its rank stands in the line above.
            Series::Rank(_, Part::Children) => "  children".to_owned(),
            _ => of.text(),
        };
        let when = local_time::date_time(peak.time_unix_s);
        table.row([&name, &bytes, &when, &place(peak)]);
    }
    let mut text = "\npeaks\n".to_owned() + &table.render();
    if peaks.highest.is_empty() {
        text = String::new();
    }
    if several && peaks.of_means {
        text.push_str("  of all ranks: the highest sum of their means, as each was highest at a time of its own\n");
    }
    if !peaks.unknown.is_empty() {
        text.push_str("\nunknown\n");
    }
    for (why, of) in &peaks.unknown {
        let names: Vec<_> = of.iter().take(NAMED).map(Series::text).collect();
        let more = of.len() - names.len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let _ = writeln!(text, "  {}{more}: {}", names.join(", "), one_line(why));
    }
    text
}

fn place(peak: &Peak) -> String {
    let counts = [("epoch", peak.epoch), ("iter", peak.iter)];
    let counts = counts
        .into_iter()
        .filter_map(|(word, count)| Some(format!("{word} {}", count?)));
    counts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Moment, Reading};
    use super::*;

    #[test]
    fn many_ranks_have_one_column_and_one_peak_and_a_reason_is_told_once() {
        let reading = |rank: i64| Reading {
            rank: Some(rank),
            name: "process_rss_bytes".into(),
            value: (rank != 3).then_some(2.0 * MIB),
            unknown: (rank == 3).then(|| "it ended".to_owned()),
            ..Reading::default()
        };
        let gone = |rank: i64| Reading {
            rank: Some(rank),
            name: "children_rss_bytes".into(),
            unknown: Some("no right".into()),
            ..Reading::default()
        };
        let moment = Moment {
            time_unix_s: 1_000_000_000.0,
            readings: (0..40).map(reading).chain((0..40).map(gone)).collect(),
            ..Moment::default()
        };
        let line = Line::of(&moment);
        let mut peaks = Peaks::default();
        peaks.add(&moment, &line);
        let page = text(std::slice::from_ref(&line), &peaks, None);
        let means = "  of all ranks: the highest sum of their means";
        assert!(!page.contains(means), "{page}");
        peaks.of_means = true;
        assert!(text(&[line], &peaks, None).contains(means));
        for words in [
            "ITER  HOST  ALL RANKS  LARGEST\n",
            "   -     -        >78     2 #0\n",
            "\n  all ranks  78.0 MiB  2001-09-",
            "\n  rank 3: it ended\n",
            ", rank 5's children and 34 more: no right\n",
            "\n  > is at least: a part of that sum is unknown\n",
        ] {
            assert!(page.contains(words), "{words:?} is missing in:\n{page}");
        }
        assert!(!page.contains("  rank 1 "), "{page}");
        assert!(text(&[], &peaks, None).starts_with("no memory was recorded"));
    }
}
