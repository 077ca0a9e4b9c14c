//! What decisions and orders were about, and what each rank did with them. The oldest are forgotten, what hooks decided ahead
//! is not.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::domain::{Outcome, Rank};

/// Ids that are remembered.
const KEPT: usize = 4096;

/// What an id was about, so that a result can be shown with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) by: String,
    pub(super) what: Cow<'static, str>,
    pub(super) reason: String,
}

#[derive(Default)]
struct Entry {
    cause: Option<Cause>,
    outcomes: BTreeMap<Rank, Outcome>,
}

/// One attempt's.
#[derive(Default)]
pub(super) struct Answers {
    entries: HashMap<String, Entry>,
    by_age: VecDeque<String>,
    /// What hooks decided ahead: a schedule's steps come for as long as the training does.
    ahead: HashMap<String, Cause>,
}

impl Answers {
    /// What an id is about.
    pub(super) fn note(&mut self, id: &str, cause: Cause) {
        self.entry(id).cause = Some(cause);
    }

    /// What a hook decided ahead.
    pub(super) fn note_ahead(&mut self, id: &str, cause: Cause) {
        self.ahead.insert(id.to_owned(), cause);
    }

    /// What a result is about. A schedule's step and a later epoch are named after what they belong to.
    pub(super) fn cause(&self, id: &str) -> Option<&Cause> {
        let own = |id: &str| {
            let entry = self.entries.get(id).and_then(|entry| entry.cause.as_ref());
            entry.or_else(|| self.ahead.get(id))
        };
        own(id).or_else(|| id.rsplit_once('/').and_then(|(whole, _)| own(whole)))
    }

    /// Whether an id is known.
    pub(super) fn knows(&self, id: &str) -> bool {
        let noted = |entry: &Entry| entry.cause.is_some();
        self.entries.get(id).is_some_and(noted) || self.ahead.contains_key(id)
    }

    /// What a rank did. False: it said the same before.
    pub(super) fn take(&mut self, id: &str, rank: Rank, outcome: Outcome) -> bool {
        self.entry(id).outcomes.insert(rank, outcome) != Some(outcome)
    }

    /// What ranks did with an id.
    pub(super) fn outcomes(&self, id: &str) -> Option<&BTreeMap<Rank, Outcome>> {
        self.entries.get(id).map(|entry| &entry.outcomes)
    }

    fn entry(&mut self, id: &str) -> &mut Entry {
        if !self.entries.contains_key(id) {
            if self.by_age.len() >= KEPT
                && let Some(oldest) = self.by_age.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.by_age.push_back(id.to_owned());
        }
        self.entries.entry(id.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(by: &str) -> Cause {
        Cause {
            by: by.to_owned(),
            what: Cow::Borrowed("size"),
            reason: String::new(),
        }
    }

    #[test]
    fn the_oldest_is_forgotten_and_what_hooks_decided_ahead_is_not() {
        let mut answers = Answers::default();
        answers.note_ahead("Hook/size/ab", cause("Hook"));
        for n in 0..=KEPT {
            answers.note(&format!("z{n}"), cause("operator"));
        }
        assert!(!answers.knows("z0") && answers.knows("z1"));
        let by = |id| answers.cause(id).map(|cause| cause.by.as_str());
        assert_eq!(by("Hook/size/ab/17"), Some("Hook"));
        assert_eq!(by("Other/size/ab/17"), None);
    }

    #[test]
    fn a_rank_that_says_another_thing_is_heard() {
        let mut answers = Answers::default();
        assert!(answers.take("a", Rank(1), Outcome::Applied));
        assert!(!answers.take("a", Rank(1), Outcome::Applied), "sent again");
        assert!(answers.take("a", Rank(1), Outcome::Rejected));
        assert_eq!(answers.outcomes("a").map(BTreeMap::len), Some(1));
    }
}
