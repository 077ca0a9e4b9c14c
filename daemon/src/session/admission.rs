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

/// Decides on a Hello for a rank of attempt `current`. `any` is false before the first rank of the run is there.
/// `counted` is the launcher's own count, if it counts.
pub fn admit(
    current: u32,
    any: bool,
    counted: Option<u32>,
    held: Option<Held<'_>>,
    session: &str,
) -> Admission {
    if let Some(held) = held
        && held.session == session
    {
        return Admission::Resumed;
    }
    if !any {
        return Admission::NextAttempt(counted.unwrap_or(current));
    }
    match (counted, held) {
        (Some(counted), _) if counted < current => Admission::Superseded,
        (Some(counted), _) if counted > current => Admission::NextAttempt(counted),
        (_, None) => Admission::New,
        (_, Some(held)) if held.gone => Admission::NextAttempt(current + 1),
        (_, Some(_)) => Admission::Duplicate,
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
            assert_eq!(admit(2, any, counted, held, session), expected, "{what}");
        }
    }
}
