//! Learning rates: what a schedule gives at an iteration, and what an operator holds over it. Pure rules.

use hookbus_proto::v1::{self as wire, EffectiveWhen, Outcome, lr_hold::How};

use crate::Position;

/// What became of something that was wanted, before the position is added.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) id: String,
    pub(crate) outcome: Outcome,
    pub(crate) old: Option<String>,
    pub(crate) new: Option<String>,
    pub(crate) reason: String,
}

impl Report {
    pub(crate) fn not(outcome: Outcome, id: &str, reason: &str) -> Self {
        Self {
            id: id.to_owned(),
            outcome,
            old: None,
            new: None,
            reason: reason.to_owned(),
        }
    }
}

/// Whether something that holds from `effective` on begins at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Not,
    Now,
    Passed,
}

/// `fresh`: no iteration of the epoch has ended, so its beginning has not passed.
pub(crate) fn turn(effective: Option<wire::Effective>, at: Position, fresh: bool) -> Turn {
    let Some(effective) = effective else {
        return Turn::Now;
    };
    let (is, asked) = match effective.when() {
        EffectiveWhen::Iter => (at.iter, effective.iter),
        EffectiveWhen::Epoch => (at.epoch, effective.epoch),
        EffectiveWhen::Unspecified | EffectiveWhen::Next | EffectiveWhen::Now => return Turn::Now,
    };
    let over = effective.when() == EffectiveWhen::Epoch && !fresh;
    match is.cmp(&asked) {
        std::cmp::Ordering::Less => Turn::Not,
        std::cmp::Ordering::Equal if !over => Turn::Now,
        std::cmp::Ordering::Equal => Turn::Passed,
        std::cmp::Ordering::Greater => Turn::Passed,
    }
}

/// In one line, why a position cannot be had any more.
pub(crate) fn passed(effective: Option<wire::Effective>) -> String {
    match effective {
        Some(effective) if effective.when() == EffectiveWhen::Epoch => {
            format!("epoch {} has passed", effective.epoch)
        }
        Some(effective) => format!("iteration {} has passed", effective.iter),
        None => "its position has passed".to_owned(),
    }
}

/// A model can have a parameter group for each parameter.
const SHOWN_GROUPS: usize = 8;

#[derive(Clone, Debug)]
struct Held {
    hold: wire::LrHold,
    /// As which one it came into force; None: it has not.
    since: Option<u64>,
}

/// What the optimizer's groups are to be written at the top of an iteration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Some value was put in the place of the optimizer's own.
    pub any: bool,
    /// The trainer's own value is to be given back after the iteration, before its own scheduler steps.
    pub give_back: bool,
}

/// Schedule and holds of this attempt.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    schedule: Option<Curves>,
    holds: Vec<Held>,
    /// How many came into force.
    begun: u64,
    /// Ids of holds that will never be in force here.
    refused: Vec<String>,
}

#[derive(Debug)]
struct Curves {
    id: String,
    by: String,
    schedule: wire::Schedule,
    reported: bool,
    fits: bool,
}

impl Curves {
    fn value(&self, group: usize, iter: u64) -> Option<f64> {
        let curve = *self.schedule.group_curve.get(group)? as usize;
        let curve = self.schedule.curves.get(curve)?;
        let index = usize::try_from(iter.checked_sub(curve.first_iter)?).ok()?;
        // A loop that goes on beyond the end keeps the last rate.
        curve.values.get(index).or(curve.values.last()).copied()
    }
}

impl Rates {
    pub(crate) fn is_empty(&self) -> bool {
        self.schedule.is_none() && self.holds.is_empty()
    }

    /// The id of the schedule in force.
    pub(crate) fn schedule(&self) -> Option<&str> {
        self.schedule.as_ref().map(|curves| curves.id.as_str())
    }

    pub(crate) fn install(&mut self, id: String, by: String, schedule: wire::Schedule) {
        self.schedule = Some(Curves {
            id,
            by,
            schedule,
            reported: false,
            fits: true,
        });
    }

    pub(crate) fn uninstall(&mut self) {
        self.schedule = None;
    }

    /// The holds that stand now, whole. Those that were there keep the moment from which they hold.
    pub(crate) fn hold(&mut self, holds: Vec<wire::LrHold>) {
        let mut old = std::mem::take(&mut self.holds);
        self.refused
            .retain(|id| holds.iter().any(|hold| hold.id == *id));
        for hold in holds {
            if self.refused.contains(&hold.id) {
                continue;
            }
            let since = old
                .iter()
                .position(|known| known.hold.id == hold.id)
                .and_then(|at| old.swap_remove(at).since);
            self.holds.push(Held { hold, since });
        }
    }

    /// The top of an iteration: `rates` has the optimizer's own value of each group, and gets what is to be written. What
    /// comes into force here is reported.
    pub(crate) fn write(
        &mut self,
        at: Position,
        fresh: bool,
        rates: &mut [f64],
        reports: &mut Vec<Report>,
    ) -> Written {
        let begun = self.begin(at, fresh, rates.len(), reports);
        let mut written = Written::default();
        let before = (!begun.is_empty()).then(|| rates.to_vec());
        for (group, rate) in rates.iter_mut().enumerate() {
            let curves = self.schedule.as_ref().filter(|curves| curves.fits);
            let planned = curves.and_then(|curves| curves.value(group, at.iter));
            let base = planned.unwrap_or(*rate);
            let held = self.held(group).and_then(|hold| match hold.how {
                Some(How::Value(value)) => Some(value),
                Some(How::Scale(scale)) => Some(base * scale),
                Some(How::Release(_)) | None => None,
            });
            if let Some(new) = held.or(planned) {
                written.any = true;
                written.give_back |= planned.is_none();
                *rate = new;
            }
        }
        if let Some(before) = before {
            for (id, group) in begun {
                let of = |rates: &[f64]| Some(shown(rates, group));
                let unknown = rates.iter().enumerate().any(|(at, rate)| {
                    rate.is_nan() && group.is_none_or(|group| group as usize == at)
                });
                if unknown && self.is_scale(&id) {
                    // A share of a rate that is a tensor, which is not read for us.
                    let why = "the trainer's own learning rate is not known here, so it cannot be scaled: hold a value";
                    reports.push(Report::not(Outcome::Failed, &id, why));
                    continue;
                }
                reports.push(Report {
                    id,
                    outcome: Outcome::Applied,
                    old: of(&before),
                    new: of(rates),
                    reason: String::new(),
                });
            }
        }
        written
    }

    /// Ids of holds that were taken, in force or not yet.
    pub(crate) fn taken(&self) -> impl Iterator<Item = &str> {
        self.holds.iter().map(|held| held.hold.id.as_str())
    }

    /// Ids of holds that are in force.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = &str> {
        let held = self.holds.iter().filter(|held| held.since.is_some());
        held.map(|held| held.hold.id.as_str())
    }

    /// What comes into force here: ids, and the group that each is about.
    fn begin(
        &mut self,
        at: Position,
        fresh: bool,
        groups: usize,
        reports: &mut Vec<Report>,
    ) -> Vec<(String, Option<u32>)> {
        let mut begun = Vec::new();
        if let Some(curves) = self.schedule.as_mut().filter(|curves| !curves.reported) {
            curves.reported = true;
            let has = curves.schedule.group_curve.len();
            curves.fits = has == groups;
            if groups == 0 {
                let why = "no optimizer is bound: bus.bind(optimizer=...)";
                reports.push(Report::not(Outcome::Unsupported, &curves.id, why));
            } else if curves.fits {
                begun.push((curves.id.clone(), None));
            } else {
                let why = format!(
                    "the schedule of {} is for {has} parameter groups, the optimizer has {groups}",
                    curves.by
                );
                reports.push(Report::not(Outcome::Rejected, &curves.id, &why));
            }
        }
        let Self {
            holds,
            refused,
            begun: count,
            ..
        } = self;
        let mut refuse = |id: &str, outcome, why: &str| {
            refused.push(id.to_owned());
            reports.push(Report::not(outcome, id, why));
        };
        holds.retain_mut(|held| {
            if held.since.is_some() {
                return true;
            }
            let id = &held.hold.id;
            match turn(held.hold.effective, at, fresh) {
                Turn::Not => return true,
                Turn::Passed => refuse(id, Outcome::Rejected, &passed(held.hold.effective)),
                Turn::Now if groups == 0 => {
                    let why = "no optimizer is bound: bus.bind(optimizer=...)";
                    refuse(id, Outcome::Unsupported, why);
                }
                Turn::Now => match held.hold.group.filter(|group| *group as usize >= groups) {
                    Some(group) => {
                        let why = format!(
                            "there is no parameter group {group}: the optimizer has {groups}"
                        );
                        refuse(id, Outcome::Rejected, &why);
                    }
                    None => {
                        *count += 1;
                        held.since = Some(*count);
                        begun.push((id.clone(), held.hold.group));
                        return true;
                    }
                },
            }
            false
        });
        begun
    }

    fn is_scale(&self, id: &str) -> bool {
        let hold = self.holds.iter().find(|held| held.hold.id == id);
        hold.is_some_and(|held| matches!(held.hold.how, Some(How::Scale(_))))
    }

    /// The hold of a group that came into force last; of two that came together, the later order.
    fn held(&self, group: usize) -> Option<&wire::LrHold> {
        self.holds
            .iter()
            .filter(|held| {
                let about = held.hold.group;
                held.since.is_some() && about.is_none_or(|about| about as usize == group)
            })
            .max_by_key(|held| held.since)
            .map(|held| &held.hold)
    }
}

/// The rates of one group or all, as text; of many the first ones.
fn shown(rates: &[f64], group: Option<u32>) -> String {
    let mut all: Vec<_> = rates
        .iter()
        .enumerate()
        .filter(|(at, _)| group.is_none_or(|group| group as usize == *at))
        .map(|(_, rate)| match rate {
            rate if rate.is_nan() => "not known".to_owned(),
            rate => format!("{rate:?}"),
        })
        .collect();
    let count = all.len();
    if count > SHOWN_GROUPS {
        all.truncate(SHOWN_GROUPS);
        all.push(format!("... ({count} groups)"));
    }
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(iter: u64) -> Position {
        Position {
            iter,
            epoch: iter / 10,
            inner_iter: iter % 10,
        }
    }

    fn hold(id: &str, group: Option<u32>, how: How, iter: Option<u64>) -> wire::LrHold {
        let effective = iter.map(|iter| wire::Effective {
            when: EffectiveWhen::Iter.into(),
            iter,
            ..Default::default()
        });
        wire::LrHold {
            id: id.into(),
            effective,
            group,
            how: Some(how),
            by: "me".into(),
        }
    }

    fn curves() -> wire::Schedule {
        let curve = |scale: f64| wire::LrCurve {
            first_iter: 0,
            values: (0..20).map(|iter| scale * f64::from(iter)).collect(),
        };
        wire::Schedule {
            curves: vec![curve(1.0), curve(10.0)],
            group_curve: vec![1, 0, 1],
            sizes: Vec::new(),
        }
    }

    fn write(rates: &mut Rates, iter: u64, own: &[f64]) -> (Vec<f64>, Written, Vec<Report>) {
        let (mut values, mut reports) = (own.to_vec(), Vec::new());
        let written = rates.write(at(iter), iter.is_multiple_of(10), &mut values, &mut reports);
        (values, written, reports)
    }

    #[test]
    fn a_schedule_gives_each_group_its_curve_and_is_reported_once() {
        let mut rates = Rates::default();
        rates.install("s".into(), "Hook".into(), curves());
        let (values, written, reports) = write(&mut rates, 3, &[0.5, 0.5, 0.5]);
        assert_eq!(values, [30.0, 3.0, 30.0]);
        assert!(written.any && !written.give_back);
        assert_eq!(reports[0].outcome, Outcome::Applied);
        assert_eq!(reports[0].old.as_deref(), Some("0.5, 0.5, 0.5"));
        assert_eq!(reports[0].new.as_deref(), Some("30.0, 3.0, 30.0"));
        let (values, _, reports) = write(&mut rates, 4, &[30.0, 3.0, 30.0]);
        assert_eq!((values, reports), (vec![40.0, 4.0, 40.0], Vec::new()));
        let (values, written, _) = write(&mut rates, 20, &[1.0, 1.0, 1.0]);
        assert_eq!(values, [190.0, 19.0, 190.0], "beyond its end");
        assert!(written.any && !written.give_back);
        rates.hold(vec![hold("half", None, How::Scale(0.5), None)]);
        for iter in 30..33 {
            let (values, ..) = write(&mut rates, iter, &[95.0, 9.5, 95.0]);
            assert_eq!(
                values,
                [95.0, 9.5, 95.0],
                "half of the curve, not of the half"
            );
        }
    }

    #[test]
    fn an_epoch_that_is_under_way_has_passed() {
        let epoch = |epoch| {
            Some(wire::Effective {
                when: EffectiveWhen::Epoch.into(),
                epoch,
                ..Default::default()
            })
        };
        for (asked, iter, expected) in [
            (2, 19, Turn::Not),
            (2, 20, Turn::Now),
            (2, 21, Turn::Passed),
            (2, 30, Turn::Passed),
        ] {
            assert_eq!(
                turn(epoch(asked), at(iter), iter.is_multiple_of(10)),
                expected,
                "{iter}"
            );
        }
    }

    #[test]
    fn the_rates_of_many_groups_are_shown_in_short() {
        let text = shown(&[0.1; 400], None);
        assert!(
            text.len() < 100 && text.ends_with("... (400 groups)"),
            "{text}"
        );
        assert_eq!(shown(&[0.1, 0.2], Some(1)), "0.2");
    }

    #[test]
    fn a_schedule_for_other_groups_is_rejected_and_not_in_force() {
        let mut rates = Rates::default();
        rates.install("s".into(), "Hook".into(), curves());
        let (values, written, reports) = write(&mut rates, 3, &[0.5]);
        assert_eq!((values, written.any), (vec![0.5], false));
        assert_eq!(reports[0].outcome, Outcome::Rejected);
        assert!(
            reports[0].reason.contains("3 parameter groups"),
            "{reports:?}"
        );
    }

    #[test]
    fn holds_begin_where_they_shall_and_the_last_one_wins() {
        let mut rates = Rates::default();
        rates.hold(vec![
            hold("later", None, How::Value(9.0), Some(5)),
            hold("now", None, How::Scale(2.0), None),
            hold("one", Some(1), How::Value(7.0), None),
        ]);
        let (values, written, reports) = write(&mut rates, 2, &[0.5, 0.25]);
        assert_eq!(values, [1.0, 7.0]);
        assert!(written.give_back, "the trainer's own values are its own");
        let ids: Vec<_> = reports.iter().map(|report| report.id.as_str()).collect();
        assert_eq!(ids, ["now", "one"]);
        assert_eq!(reports[1].new.as_deref(), Some("7.0"));
        let (values, _, reports) = write(&mut rates, 5, &[0.5, 0.25]);
        assert_eq!(values, [9.0, 9.0]);
        assert_eq!(reports.len(), 1);
        rates.hold(vec![
            hold("later", None, How::Value(9.0), Some(5)),
            hold("end", None, How::Release(true), None),
        ]);
        let (values, written, reports) = write(&mut rates, 6, &[0.5, 0.25]);
        assert_eq!((values, written.any), (vec![0.5, 0.25], false));
        assert_eq!(reports[0].outcome, Outcome::Applied, "released");
    }

    #[test]
    fn a_share_of_what_is_not_known_fails_and_a_value_does_not() {
        let mut rates = Rates::default();
        rates.hold(vec![hold("s", None, How::Scale(0.5), None)]);
        let (_, _, reports) = write(&mut rates, 1, &[f64::NAN]);
        assert_eq!(reports[0].outcome, Outcome::Failed);
        rates.hold(vec![hold("v", None, How::Value(0.5), None)]);
        let (values, _, reports) = write(&mut rates, 2, &[f64::NAN]);
        assert_eq!((values, reports[0].outcome), (vec![0.5], Outcome::Applied));
        assert_eq!(reports[0].old.as_deref(), Some("not known"));
        rates.hold(vec![hold("r", None, How::Release(true), None)]);
        let (_, written, reports) = write(&mut rates, 3, &[f64::NAN]);
        assert_eq!((written.any, reports[0].outcome), (false, Outcome::Applied));
    }

    #[test]
    fn the_later_hold_wins_after_a_way_back_too() {
        let mut rates = Rates::default();
        rates.hold(vec![hold("all", None, How::Value(5.0), None)]);
        write(&mut rates, 103, &[0.1, 0.2]);
        rates.hold(vec![
            hold("all", None, How::Value(5.0), None),
            hold("one", Some(1), How::Value(7.0), None),
        ]);
        let (values, ..) = write(&mut rates, 50, &[0.1, 0.2]);
        assert_eq!(values, [5.0, 7.0]);
    }

    #[test]
    fn what_cannot_be_is_said_once_with_the_reason() {
        let mut rates = Rates::default();
        let holds = vec![
            hold("late", None, How::Value(1.0), Some(3)),
            hold("group", Some(2), How::Value(1.0), None),
        ];
        rates.hold(holds.clone());
        let (values, _, reports) = write(&mut rates, 4, &[0.5]);
        assert_eq!(values, [0.5]);
        let said: Vec<_> = reports
            .iter()
            .map(|report| (report.id.as_str(), report.outcome, report.reason.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("late", Outcome::Rejected, "iteration 3 has passed"),
                (
                    "group",
                    Outcome::Rejected,
                    "there is no parameter group 2: the optimizer has 1"
                ),
            ]
        );
        rates.hold(holds);
        assert_eq!(write(&mut rates, 5, &[0.5]).2, [], "the state came again");
        rates.hold(vec![hold("x", None, How::Value(1.0), None)]);
        let (_, _, reports) = write(&mut rates, 6, &[]);
        assert_eq!(reports[0].outcome, Outcome::Unsupported);
    }
}
