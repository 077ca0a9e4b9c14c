//! Who has decided what at which position: of two hooks that set the same thing at one position the one of the higher
//! priority has it, also where its answer comes later; and what one hook says for each rank of a position is said once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{Deed, Hold, Position};
use crate::hooks::Want;

/// A hook's place in the order: priority, then registration; smaller ones have their way.
pub(super) type Place = (i32, u64);

/// Positions that are remembered at most; ranks that are farther apart than that do not meet.
const MOST: usize = 1024;

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Claimed {
    Want(Want),
    /// Of a job whose ranks act together.
    Deed(Deed),
}

impl Claimed {
    /// Two hooks cannot both have it.
    fn field(&self) -> Option<&'static str> {
        match self {
            Self::Want(want) => Some(want.field()),
            Self::Deed(_) => None,
        }
    }

    /// What was set by `other` is as if it had not been, once this is.
    fn covers(&self, other: &Self) -> bool {
        let release = Hold::Release;
        match (self, other) {
            // It takes back the hook's own words only.
            (Self::Want(Want::Lr { hold, .. }), _) if *hold == release => false,
            (_, Self::Want(Want::Lr { group: None, hold })) if *hold == release => false,
            (Self::Want(Want::Lr { group, .. }), Self::Want(Want::Lr { group: of, .. })) => {
                group.is_none() || of.is_none() || group == of
            }
            (Self::Want(one), Self::Want(other)) => one.field() == other.field(),
            _ => false,
        }
    }

    /// One hook says one thing of it.
    fn same_slot(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Want(Want::Lr { group, .. }), Self::Want(Want::Lr { group: of, .. })) => {
                group == of
            }
            (Self::Want(one), Self::Want(other)) => one.field() == other.field(),
            (one, other) => one == other,
        }
    }
}

/// One hook's word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// The hook's name.
    pub(super) by: String,
    pub(super) place: Place,
    pub(super) what: Claimed,
    /// The decision's.
    pub(super) id: String,
    /// Counts the events of the run: what was said to a later one has a higher number. Positions alone do not tell: a
    /// validation's are above those of the epoch that follows.
    pub(super) no: u64,
    /// Whose event. Ranks do not keep step, and what one sends late is older than its number.
    pub(super) rank: u32,
}

/// Where something is said: a position, and whether in an evaluation, whose iterations are counted beside the training's.
pub(super) type At = (Position, bool);

/// What becomes of a decision.
#[derive(Debug, PartialEq)]
pub(super) enum Ruling {
    /// It is carried out; these are overruled by it.
    Stands(Vec<Claim>),
    /// The hook has said so already, for another rank.
    Again,
    /// This hook has decided otherwise.
    Overruled(String),
}

/// The words at one position.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Words {
    standing: Vec<Claim>,
    overruled: Vec<Claim>,
}

/// The words of one attempt, at the positions that have not passed for everybody.
#[derive(Debug, Default)]
pub(super) struct Claims {
    at: BTreeMap<At, Words>,
    revision: u64,
}

impl Claims {
    /// Rules on a decision.
    pub(super) fn claim(&mut self, at: At, claim: Claim) -> Ruling {
        let elsewhere = self.at.iter().filter(|(other, _)| **other != at);
        let is_later = |other: &At, later: &Claim| {
            if later.rank == claim.rank {
                later.no > claim.no
            } else {
                other.0 > at.0
            }
        };
        let later = elsewhere
            .flat_map(|(other, words)| words.standing.iter().map(move |claim| (other, claim)))
            .find(|(other, later)| {
                later.by != claim.by && later.what.covers(&claim.what) && is_later(other, later)
            })
            .map(|(_, later)| later.by.clone());
        let here = self.at.entry(at).or_default();
        let said = |old: &Claim| old.by == claim.by && old.what == claim.what;
        if here.standing.iter().chain(&here.overruled).any(said) {
            return Ruling::Again;
        }
        self.revision += 1;
        if self.at.len() > MOST {
            let oldest = self.at.keys().find(|other| **other != at).copied();
            oldest.map(|oldest| self.at.remove(&oldest));
        }
        let here = self.at.entry(at).or_default();
        let field = claim.what.field();
        let rivals =
            |old: &Claim| old.by != claim.by && field.is_some() && old.what.field() == field;
        let wins = |old: &&Claim| rivals(old) && old.place < claim.place;
        let winner = here.standing.iter().find(wins);
        // What was said to a later event would have come after it.
        if let Some(winner) = winner.map(|winner| winner.by.clone()).or(later) {
            here.overruled.push(claim);
            return Ruling::Overruled(winner);
        }
        let over: Vec<_> = here.standing.extract_if(.., |old| rivals(old)).collect();
        here.overruled.extend(over.iter().cloned());
        let replaced = |old: &Claim| old.by == claim.by && old.what.same_slot(&claim.what);
        here.standing.retain(|old| !replaced(old));
        here.standing.push(claim);
        Ruling::Stands(over)
    }

    /// Nobody decides before this position any more, and what is still to be said is not older than the event `open`.
    pub(super) fn forget(&mut self, before: Position, open: u64) {
        let many = self.at.len();
        self.at.retain(|(at, _), words| {
            *at >= before || words.standing.iter().any(|claim| claim.no > open)
        });
        self.revision += u64::from(self.at.len() < many);
    }

    /// The highest number of an event that something was said to.
    pub(super) fn last(&self) -> u64 {
        let all = self.at.values();
        let all = all.flat_map(|words| words.standing.iter().chain(&words.overruled));
        all.map(|claim| claim.no).max().unwrap_or_default()
    }

    /// Grows with each change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// For the journal; null: nothing.
    pub(super) fn kept(&self) -> serde_json::Value {
        if self.at.is_empty() {
            return serde_json::Value::Null;
        }
        let each: Vec<_> = self.at.iter().collect();
        serde_json::to_value(each).unwrap_or_default()
    }

    /// As another daemon wrote it down.
    pub(super) fn restored(kept: &serde_json::Value) -> Self {
        let each: Vec<(At, Words)> = Deserialize::deserialize(kept).unwrap_or_default();
        Self {
            at: each.into_iter().collect(),
            revision: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Size;

    fn at(iter: u64) -> At {
        let position = Position {
            iter,
            ..Position::default()
        };
        (position, false)
    }

    fn lr(group: Option<u32>, value: f64) -> Claimed {
        let hold = Hold::Value(value);
        Claimed::Want(Want::Lr { group, hold })
    }

    fn size(side: u32) -> Claimed {
        Claimed::Want(Want::Size(Size {
            height: side,
            width: side,
        }))
    }

    fn save() -> Claimed {
        Claimed::Deed(Deed::Checkpoint { tag: "best".into() })
    }

    /// "stands", "stands over b", "again", "overruled by a".
    fn rule(claims: &mut Claims, iter: u64, by: &str, place: Place, what: Claimed) -> String {
        rule_no(claims, iter, (by, place), what, iter)
    }

    fn rule_no(
        claims: &mut Claims,
        iter: u64,
        (by, place): (&str, Place),
        what: Claimed,
        no: u64,
    ) -> String {
        let claim = Claim {
            by: by.to_owned(),
            place,
            what,
            id: format!("{by}/{iter}"),
            no,
            rank: 0,
        };
        match claims.claim(at(iter), claim) {
            Ruling::Stands(over) if over.is_empty() => "stands".to_owned(),
            Ruling::Stands(over) => {
                let ids: Vec<_> = over.into_iter().map(|claim| claim.id).collect();
                format!("stands over {}", ids.join(", "))
            }
            Ruling::Again => "again".to_owned(),
            Ruling::Overruled(by) => format!("overruled by {by}"),
        }
    }

    #[test]
    fn the_higher_priority_has_it_whenever_it_answers() {
        let (a, b, c) = (("a", (10, 7)), ("b", (50, 1)), ("c", (50, 2)));
        let all = None;
        // (iteration, (hook, place), what, ruling), in the order of the answers
        let cases = [
            (1, a, lr(all, 0.1), "stands"),
            (1, b, lr(all, 0.2), "overruled by a"),
            (1, c, lr(Some(3), 0.2), "overruled by a"),
            (1, b, lr(all, 0.2), "again"),
            (1, b, size(64), "stands"),
            (2, c, lr(all, 0.3), "stands"),
            (2, b, lr(all, 0.2), "stands over c/2"),
            (2, a, lr(all, 0.1), "stands over b/2"),
            (2, c, lr(all, 0.3), "again"),
            (2, c, lr(all, 0.4), "overruled by a"),
            (3, c, lr(all, 0.3), "stands"),
            (3, c, lr(all, 0.3), "again"),
            (3, c, lr(Some(1), 0.3), "stands"),
            (3, c, lr(Some(2), 0.3), "stands"),
            (3, a, lr(Some(9), 0.1), "stands over c/3, c/3, c/3"),
            (4, a, save(), "stands"),
            (4, a, save(), "again"),
            (4, b, save(), "stands"),
            (4, b, size(64), "stands"),
            (4, c, size(32), "overruled by b"),
            (4, b, size(32), "stands"),
            (8, c, lr(Some(1), 0.3), "stands"),
            (9, c, lr(None, 0.3), "stands"),
            (8, a, lr(Some(2), 0.1), "overruled by c"),
            (8, c, lr(Some(2), 0.2), "stands"),
            (8, a, size(16), "stands"),
        ];
        let mut claims = Claims::default();
        for (n, (iter, (by, place), what, ruling)) in cases.into_iter().enumerate() {
            let words = format!("case {n}: {by} {what:?} at {iter}");
            assert_eq!(rule(&mut claims, iter, by, place, what), ruling, "{words}");
            // A daemon that goes on from the journal rules the same.
            claims = Claims::restored(&claims.kept());
        }
    }

    #[test]
    fn what_was_said_to_a_later_event_holds_and_a_position_that_comes_again_is_later() {
        let (a, c) = (("a", (10, 7)), ("c", (50, 2)));
        let mut claims = Claims::default();
        // A validation's last iteration is above those of the next epoch.
        assert_eq!(rule_no(&mut claims, 9, c, lr(None, 0.5), 1), "stands");
        assert_eq!(rule_no(&mut claims, 3, a, lr(None, 0.1), 2), "stands");
        assert_eq!(
            rule_no(&mut claims, 2, a, lr(None, 0.2), 0),
            "overruled by c"
        );
        let release = Claimed::Want(Want::Lr {
            group: None,
            hold: Hold::Release,
        });
        let mut claims = Claims::default();
        assert_eq!(rule_no(&mut claims, 9, c, release.clone(), 9), "stands");
        assert_eq!(rule_no(&mut claims, 8, a, lr(None, 0.1), 8), "stands");
        assert_eq!(rule_no(&mut claims, 12, c, lr(None, 0.5), 12), "stands");
        assert_eq!(
            rule_no(&mut claims, 11, a, release, 11),
            "stands",
            "its own words"
        );
    }

    #[test]
    fn ranks_do_not_keep_step_and_an_evaluation_counts_beside_the_training() {
        let mut claims = Claims::default();
        let mut says = |iter: u64, evaluates, by: &str, place, value, no, rank| {
            let claim = Claim {
                by: by.to_owned(),
                place,
                what: lr(None, value),
                id: format!("{by}/{no}"),
                no,
                rank,
            };
            claims.claim((at(iter).0, evaluates), claim)
        };
        let (a, b) = (("a", (10, 1)), ("b", (50, 2)));
        assert_eq!(
            says(250, false, a.0, a.1, 0.01, 500, 0),
            Ruling::Stands(Vec::new())
        );
        // Rank 1 was away, and sends its iterations late.
        let late = says(120, false, b.0, b.1, 0.1, 504, 1);
        assert_eq!(late, Ruling::Overruled("a".to_owned()));
        assert_eq!(
            says(300, true, a.0, a.1, 0.2, 600, 0),
            Ruling::Stands(Vec::new())
        );
        assert_eq!(
            says(300, false, b.0, b.1, 0.3, 601, 0),
            Ruling::Stands(Vec::new()),
            "the training's iteration comes after the validation's of the same number"
        );
    }

    #[test]
    fn what_has_passed_is_forgotten_and_what_has_not_is_bounded() {
        let mut claims = Claims::default();
        for iter in 0..5 {
            rule(&mut claims, iter, "a", (1, 1), size(32));
        }
        claims.forget(at(3).0, 1);
        let left: Vec<_> = claims.at.keys().map(|(at, _)| at.iter).collect();
        assert_eq!(left, [2, 3, 4], "an answer to the event 1 may still come");
        claims.forget(at(3).0, 9);
        let left: Vec<_> = claims.at.keys().map(|(at, _)| at.iter).collect();
        assert_eq!(left, [3, 4]);
        for iter in 0..2 * MOST as u64 {
            rule(&mut claims, iter, "a", (1, 1), size(64));
        }
        assert_eq!(claims.at.len(), MOST);
        assert_eq!(
            rule(&mut claims, 2 * MOST as u64 - 1, "a", (1, 1), size(64)),
            "again"
        );
        for iter in (0..MOST as u64).rev() {
            rule(&mut claims, iter, "a", (1, 1), size(96));
            assert!(claims.at.len() <= MOST, "whatever the order");
        }
        claims.forget(at(u64::MAX).0, u64::MAX);
        assert_eq!(claims.kept(), serde_json::Value::Null);
    }
}
