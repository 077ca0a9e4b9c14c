//! Dates and times of day as the person's clock has them. The C library knows the time zone, so no crate is needed.

/// A moment by the local clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalTime {
    year: i64,
    month: i32,
    day: i32,
    hour: i32,
    minute: i32,
    second: i32,
}

impl LocalTime {
    /// None: the moment is not known (0 is what a daemon sends that does not say), or lies beyond any calendar.
    pub(crate) fn of(unix_s: f64) -> Option<LocalTime> {
        if !unix_s.is_finite() || unix_s <= 0.0 {
            return None;
        }
        let seconds = unix_s as libc::time_t;
        let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
        // SAFETY: both pointers are to memory of this frame; localtime_r fills the whole of a tm or answers NULL, and a
        // zeroed one is valid either way. Nothing here changes the environment while it reads TZ.
        let parts = unsafe {
            if libc::localtime_r(&raw const seconds, parts.as_mut_ptr()).is_null() {
                return None;
            }
            parts.assume_init()
        };
        Some(LocalTime {
            year: i64::from(parts.tm_year) + 1900,
            month: parts.tm_mon + 1,
            day: parts.tm_mday,
            hour: parts.tm_hour,
            minute: parts.tm_min,
            second: parts.tm_sec,
        })
    }

    pub(crate) fn date(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// To the minute.
    pub(crate) fn clock(self) -> String {
        format!("{:02}:{:02}", self.hour, self.minute)
    }

    pub(crate) fn clock_s(self) -> String {
        format!("{}:{:02}", self.clock(), self.second)
    }

    pub(crate) fn same_day(self, other: LocalTime) -> bool {
        self.date() == other.date()
    }

    /// Date and time in 11 letters: the year only where it is another one than now, and then without a time.
    pub(crate) fn short(self, now: Option<LocalTime>) -> String {
        if now.is_some_and(|now| now.year == self.year) {
            format!("{:02}-{:02} {}", self.month, self.day, self.clock())
        } else {
            self.date()
        }
    }

    /// Date and time.
    pub(crate) fn full(self) -> String {
        format!("{} {}", self.date(), self.clock())
    }
}

/// Seconds since 1970, now.
pub(crate) fn now_unix_s() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// A moment's date and time, or "unknown".
pub(crate) fn date_time(unix_s: f64) -> String {
    LocalTime::of(unix_s).map_or("unknown".to_owned(), LocalTime::full)
}

/// From one moment to another; the date of the second only where it is another day.
pub(crate) fn span(from: f64, to: f64) -> String {
    let end = match (LocalTime::of(from), LocalTime::of(to)) {
        (Some(from), Some(to)) if from.same_day(to) => to.clock(),
        _ => date_time(to),
    };
    format!("{} to {end}", date_time(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i64, day: i32) -> LocalTime {
        LocalTime {
            year,
            month: 8,
            day,
            hour: 4,
            minute: 5,
            second: 6,
        }
    }

    #[test]
    fn the_year_is_said_where_it_is_another() {
        assert_eq!(at(2026, 1).full(), "2026-08-01 04:05");
        assert_eq!(at(2026, 1).clock_s(), "04:05:06");
        assert_eq!(at(2026, 1).short(Some(at(2026, 9))), "08-01 04:05");
        assert_eq!(at(2025, 1).short(Some(at(2026, 9))), "2025-08-01");
    }

    #[test]
    fn what_is_no_moment_is_unknown() {
        for none in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(date_time(none), "unknown", "{none}");
        }
        assert!(LocalTime::of(now_unix_s()).is_some());
    }

    #[test]
    fn minutes_and_seconds_are_those_of_every_time_zone_of_whole_minutes() {
        let moment = LocalTime::of(1_000_000_007.9).unwrap();
        assert_eq!((moment.year, moment.second), (2001, 47));
    }
}
