//! Who may hold a rank. A pure decision, so that its tests are a table.

use crate::domain::ProcessIdentity;

/// The session that holds a rank now.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// Its nonce.
    pub session: &'a str,
    /// Its process.
    pub process: &'a ProcessIdentity,
    /// It said goodbye, its process is gone, or it was silent for [`super::SILENCE`].
    pub gone: bool,
}

/// What happens with a Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A rank of the current attempt that was not there yet.
    New,
    /// The same session again.
    Resumed,
    /// It opens the attempt with this number; the older one is superseded.
    NextAttempt(u32),
    /// Another live process holds the rank.
    Duplicate,
    /// A newer attempt is there.
    Superseded,
}

/// The attempt that a Hello finds.
#[derive(Clone, Copy, Debug)]
pub struct Current {
    /// Its number.
    pub attempt: u32,
    /// The launcher's own count that opened it; None: the launcher did not count. Counts of two launches begin at 0 both,
    /// so it is this one that is compared, not the attempt's number.
    pub counted: Option<u32>,
    /// A rank is, or was, there.
    pub any: bool,
    /// Nobody of it is left: all ranks have ended, or some of them without a goodbye and the rest is gone too.
    pub over: bool,
}

/// Decides on a Hello for a rank. `counted` is the launcher's own count, if it counts.
pub fn admit(
    current: Current,
    counted: Option<u32>,
    held: Option<Held<'_>>,
    session: &str,
) -> Admission {
    if let Some(held) = held
        && held.session == session
    {
        return Admission::Resumed;
    }
    let next = current.attempt + 1;
    if !current.any {
        return Admission::NextAttempt(counted.unwrap_or(current.attempt));
    }
    // Where nobody counted, the attempt's number is what there is to compare with.
    let ours = current.counted.unwrap_or(current.attempt);
    match counted {
        Some(theirs) if theirs > ours => {
            return Admission::NextAttempt(theirs.max(next));
        }
        Some(theirs) if theirs < ours && !current.over => {
            return Admission::Superseded;
        }
        _ if current.over => return Admission::NextAttempt(next),
        _ => {}
    }
    match held {
        None => Admission::New,
        Some(held) if held.gone => Admission::NextAttempt(next),
        Some(_) => Admission::Duplicate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_hold_a_rank() {
        let process = ProcessIdentity::default();
        let held = |gone| {
            Some(Held {
                session: "a",
                process: &process,
                gone,
            })
        };
        for (what, any, counted, held, session, expected) in [
            (
                "the first rank of a run",
                false,
                None,
                None,
                "a",
                Admission::NextAttempt(2),
            ),
            (
                "the first rank, counted by a launcher",
                false,
                Some(7),
                None,
                "a",
                Admission::NextAttempt(7),
            ),
            ("another rank joins", true, None, None, "b", Admission::New),
            (
                "the same session reconnects",
                true,
                None,
                held(false),
                "a",
                Admission::Resumed,
            ),
            (
                "a reconnect after it was taken for gone",
                true,
                None,
                held(true),
                "a",
                Admission::Resumed,
            ),
            (
                "a second live process",
                true,
                None,
                held(false),
                "b",
                Admission::Duplicate,
            ),
            (
                "a restart of a process that is gone",
                true,
                None,
                held(true),
                "b",
                Admission::NextAttempt(3),
            ),
            (
                "a launcher restarts before the old one is noticed",
                true,
                Some(3),
                held(false),
                "b",
                Admission::NextAttempt(3),
            ),
            (
                "a straggler of an older attempt",
                true,
                Some(1),
                None,
                "b",
                Admission::Superseded,
            ),
            (
                "a launcher's count whose attempt is closed",
                true,
                Some(2),
                held(true),
                "b",
                Admission::NextAttempt(3),
            ),
        ] {
            let current = Current {
                attempt: 2,
                counted: Some(2),
                any,
                over: false,
            };
            assert_eq!(admit(current, counted, held, session), expected, "{what}");
        }
    }

    #[test]
    fn a_second_launch_with_the_same_id_counts_from_0_again() {
        let current = |attempt, over| Current {
            attempt,
            counted: Some(0),
            any: true,
            over,
        };
        let first = admit(current(0, true), Some(0), None, "a");
        assert_eq!(first, Admission::NextAttempt(1));
        let others = admit(current(1, false), Some(0), None, "b");
        assert_eq!(others, Admission::New);
        let uncounted = Current {
            counted: None,
            ..current(0, false)
        };
        let counts = admit(uncounted, Some(1), None, "a launcher that counts");
        assert_eq!(counts, Admission::NextAttempt(1));
        let restarted = admit(current(1, false), Some(1), None, "c");
        assert_eq!(restarted, Admission::NextAttempt(2));
        let grown = admit(current(4, true), Some(0), None, "rank 8 of a larger one");
        assert_eq!(grown, Admission::NextAttempt(5));
    }
}
