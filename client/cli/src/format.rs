//! How numbers are written for people. Absent is never zero: what is not known reads "unknown: why".

use hookbus_client::inspect::proto::{Position, Reading, RunPhase, RunSummary};

const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;

/// Why a reading that the daemon left out is not known.
pub(crate) const NOT_SENT: &str = "the daemon did not send it";

/// A size as MiB or GiB with one decimal.
pub(crate) fn bytes(value: f64) -> String {
    if !value.is_finite() {
        return number(value);
    }
    // What would round to 1024.0 MiB is a GiB.
    if value.abs() >= 1023.95 * MIB {
        format!("{:.1} GiB", value / GIB)
    } else {
        format!("{:.1} MiB", value / MIB)
    }
}

/// A time span in the two largest units that matter.
pub(crate) fn age(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    let whole = seconds as u64;
    match whole {
        0..=9 => format!("{seconds:.1} s"),
        10..=59 => format!("{whole} s"),
        60..=3599 => format!("{} min {} s", whole / 60, whole % 60),
        3600..=86_399 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// A short time, such as that of one iteration.
pub(crate) fn short(seconds: f64) -> String {
    if !seconds.is_finite() {
        return number(seconds);
    }
    if seconds < 0.001 {
        format!("{:.0} us", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}

/// A loss or another metric: four decimals where that says something, else an exponent.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 {
            "inf".to_owned()
        } else {
            "-inf".to_owned()
        }
    } else if size != 0.0 && !(1e-3..1e6).contains(&size) {
        format!("{value:.3e}")
    } else {
        format!("{value:.4}")
    }
}

/// The value of a reading by `write`, or "unknown: why".
pub(crate) fn reading(reading: Option<&Reading>, write: impl Fn(f64) -> String) -> String {
    match reading {
        None => format!("unknown: {NOT_SENT}"),
        Some(Reading {
            value: Some(value), ..
        }) => write(*value),
        Some(Reading { unknown, .. }) if unknown.is_empty() => {
            "unknown: no reason was given".to_owned()
        }
        Some(Reading { unknown, .. }) => format!("unknown: {unknown}"),
    }
}

/// How old a reading is; of one that was never taken there is no age.
pub(crate) fn reading_age(reading: Option<&Reading>) -> String {
    match reading {
        Some(reading) if reading.value.is_some() => age(reading.age_s),
        _ => "-".to_owned(),
    }
}

/// Where a reading comes from.
pub(crate) fn reading_source(reading: Option<&Reading>) -> &str {
    reading.map_or("", |reading| reading.source.as_str())
}

/// A place in a training, counted from 0.
pub(crate) fn position(position: Option<&Position>) -> String {
    position.map_or("-".to_owned(), |at| {
        format!("epoch {} iter {}", at.epoch, at.iter)
    })
}

/// A run's place with its end, where that is known.
pub(crate) fn progress(run: &RunSummary) -> String {
    let Some(at) = &run.position else {
        return "-".to_owned();
    };
    let of = |max: Option<u64>| max.map_or(String::new(), |max| format!(" of {max}"));
    format!(
        "epoch {}{} iter {}{}",
        at.epoch,
        of(run.max_epochs),
        at.iter,
        of(run.max_iters)
    )
}

/// The same in one column: epochs where it counts them, else iterations.
pub(crate) fn short_progress(run: &RunSummary) -> String {
    let Some(at) = &run.position else {
        return "-".to_owned();
    };
    let of = |max: Option<u64>| max.map_or(String::new(), |max| format!("/{max}"));
    if run.max_epochs.is_some() || run.max_iters.is_none() && at.epoch > 0 {
        format!("epoch {}{}", at.epoch, of(run.max_epochs))
    } else {
        format!("iter {}{}", at.iter, of(run.max_iters))
    }
}

/// How a run stands, in one word.
pub(crate) fn phase(phase: RunPhase) -> &'static str {
    match phase {
        RunPhase::Unspecified => "unknown",
        RunPhase::Running => "running",
        RunPhase::Finished => "finished",
        RunPhase::Stopped => "stopped",
        RunPhase::Failed => "failed",
        RunPhase::Lost => "lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_mib_or_gib_with_one_decimal() {
        let table = [
            (0.0, "0.0 MiB"),
            (1536.0 * 1024.0, "1.5 MiB"),
            (1023.9 * MIB, "1023.9 MiB"),
            (1023.96 * MIB, "1.0 GiB"),
            (80.0 * GIB, "80.0 GiB"),
            (2048.0 * GIB, "2048.0 GiB"),
            (f64::NAN, "nan"),
        ];
        for (value, text) in table {
            assert_eq!(bytes(value), text, "{value}");
        }
    }

    #[test]
    fn ages_have_the_two_units_that_matter() {
        let table = [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (10.0, "10 s"),
            (59.9, "59 s"),
            (61.0, "1 min 1 s"),
            (3600.0, "1 h 0 min"),
            (90_000.0, "1 d 1 h"),
            (-1.0, "unknown"),
            (f64::INFINITY, "unknown"),
        ];
        for (seconds, text) in table {
            assert_eq!(age(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn short_times_and_metrics_keep_their_digits() {
        for (seconds, text) in [(0.0000123, "12 us"), (0.0123, "12.3 ms"), (1.5, "1.50 s")] {
            assert_eq!(short(seconds), text);
        }
        let table = [
            (0.0, "0.0000"),
            (2.345678, "2.3457"),
            (0.00001, "1.000e-5"),
            (-3e9, "-3.000e9"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in table {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn what_is_not_known_says_why_and_is_never_zero() {
        let known = Reading {
            value: Some(0.0),
            unknown: String::new(),
            age_s: 0.5,
            source: "nvml".into(),
        };
        let absent = Reading {
            unknown: "no driver".into(),
            ..Default::default()
        };
        assert_eq!(reading(Some(&known), bytes), "0.0 MiB");
        assert_eq!(reading_age(Some(&known)), "0.5 s");
        assert_eq!(reading(Some(&absent), bytes), "unknown: no driver");
        assert_eq!(reading_age(Some(&absent)), "-");
        assert_eq!(
            reading(Some(&Reading::default()), bytes),
            "unknown: no reason was given"
        );
        assert_eq!(reading(None, bytes), "unknown: the daemon did not send it");
    }

    #[test]
    fn progress_names_the_end_only_where_it_is_known() {
        let at = Position {
            epoch: 3,
            iter: 120,
            inner_iter: 0,
        };
        let mut run = RunSummary {
            position: Some(at),
            ..Default::default()
        };
        assert_eq!(progress(&run), "epoch 3 iter 120");
        assert_eq!(short_progress(&run), "epoch 3");
        run.max_iters = Some(900);
        assert_eq!(short_progress(&run), "iter 120/900");
        run.max_iters = None;
        run.max_epochs = Some(10);
        assert_eq!(short_progress(&run), "epoch 3/10");
        assert_eq!(progress(&run), "epoch 3 of 10 iter 120");
        assert_eq!(progress(&RunSummary::default()), "-");
    }
}
