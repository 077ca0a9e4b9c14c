//! The monotonic clock beside the wall's: what is written down has a date, what is compared has none. Both are read once, when
//! the daemon starts, so that a wall clock that is set later moves nothing.

use std::time::{Duration, Instant};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Monotonic.
    pub at: Instant,
    /// Since 1970-01-01 UTC.
    pub unix: Duration,
}

impl Clock {
    /// Microseconds since 1970-01-01 UTC.
    pub fn unix_us(&self, at: Instant) -> i64 {
        let now = self.unix.as_micros() as i64;
        match at.checked_duration_since(self.at) {
            Some(later) => now + later.as_micros() as i64,
            None => now - (self.at - at).as_micros() as i64,
        }
    }

    /// Back again; before this machine was started the earliest that there is.
    pub fn instant(&self, unix_us: i64) -> Instant {
        let since = unix_us - self.unix.as_micros() as i64;
        let distance = Duration::from_micros(since.unsigned_abs());
        let moment = if since < 0 {
            self.at.checked_sub(distance)
        } else {
            self.at.checked_add(distance)
        };
        moment.unwrap_or(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let clock = Clock {
            at: Instant::now(),
            unix: Duration::from_secs(1_800_000_000),
        };
        for seconds in [-86_400_000_i64, -1, 0, 1, 3600] {
            let us = 1_800_000_000_000_000 + seconds * 1_000_000;
            assert_eq!(clock.unix_us(clock.instant(us)), us, "{seconds} s");
        }
    }
}
