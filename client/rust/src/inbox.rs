//! What the daemon wants of this trainer, until the training thread takes it at the right point. Pure rules: a state counts
//! only if it is newer, nothing is done twice, and what the trainer cannot do is said at once.

use std::collections::{HashSet, VecDeque};

use hookbus_proto::v1::{self as wire, EffectiveWhen, LogLevel, command::What};

use crate::Position;
use crate::identity::cut;
use crate::rates::{Report, Turn, passed, turn};

/// Ids that are remembered, so that nothing is done twice.
const REMEMBERED: usize = 4096;
/// Results that are sent again on a new connection, at most.
const SENT: usize = 4096;
/// Texts that go over the wire are cut here.
pub(crate) const TEXT_BYTES: usize = 1024;
/// Actions that wait for the training thread.
const WAITING: usize = 4096;

/// Something for the training thread to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A line for the trainer's log.
    Log {
        /// The command's id; empty: a line of a gate's answer.
        id: String,
        /// Its level, as Python's logging counts (10, 20, 30, 40).
        level: u8,
        /// The line.
        text: String,
    },
    /// End the training here.
    Stop {
        /// The decision's id.
        id: String,
        /// The hook or the operator.
        by: String,
        /// Why.
        reason: String,
    },
    /// Save a checkpoint, then report a result.
    Checkpoint {
        /// The command's id.
        id: String,
        /// A word for the file's name.
        tag: String,
    },
    /// Something of the trainer's own, then report a result.
    Custom {
        /// The command's id.
        id: String,
        /// What.
        name: String,
        /// With what.
        json: String,
    },
    /// Change the input size, then report a result.
    Size {
        /// The order's id, or the schedule's with the step's number.
        id: String,
        /// Pixels.
        height: u32,
        /// Pixels.
        width: u32,
    },
    /// Switch YOLOX's mode on, then report a result.
    Mode {
        /// The decision's id.
        id: String,
        /// Pipeline steps to leave out.
        skip_types: Vec<String>,
    },
    /// `model.set_epoch(epoch)`, then report a result.
    SetEpoch {
        /// The decision's id.
        id: String,
        /// Which epoch begins.
        epoch: u64,
        /// It was done before in this attempt: only a failure is reported.
        quiet: bool,
    },
    /// The mean of the norm layers' states over all ranks, then report a result.
    SyncNorm {
        /// The decision's id.
        id: String,
        /// It was done before in this attempt: only a failure is reported.
        quiet: bool,
    },
    /// Something that the user should know.
    Warning(String),
    /// A mistake in what the trainer said, once.
    Error(String),
}

/// Where an action may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    AnyPoint,
    BeforeTrainIter,
    Boundary,
}

/// What a point is good for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What its name says.
    Plain,
    /// A stop that is due where the next epoch begins.
    EpochEnds,
    /// No boundary, whatever its name says.
    NoBoundary,
}

#[derive(Debug)]
struct Waiting {
    place: Place,
    effective: Option<wire::Effective>,
    action: Action,
}

impl Waiting {
    /// The iteration or epoch before which it waits; None: any next point of its place.
    fn position(&self) -> Option<(EffectiveWhen, u64)> {
        let effective = self.effective?;
        match effective.when() {
            EffectiveWhen::Iter => Some((EffectiveWhen::Iter, effective.iter)),
            EffectiveWhen::Epoch => Some((EffectiveWhen::Epoch, effective.epoch)),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: VecDeque<Waiting>,
    /// The desired state's stop, while it waits.
    stop: Option<String>,
    known: HashSet<String>,
    order: VecDeque<String>,
    /// Results that no acknowledged connection has carried yet.
    results: VecDeque<wire::Result>,
    /// Those that went out, each with the highest number that an event had that was sent before it. A daemon that dies may
    /// have lost them, until it has settled a later event; it takes one only once.
    sent: VecDeque<(u64, wire::Result)>,
    /// Texts that did not fit.
    pub(crate) dropped: u64,
}

impl Inbox {
    /// Ids that were taken, for Hello.
    pub(crate) fn applied(&self) -> Vec<String> {
        self.order.iter().cloned().collect()
    }

    /// The desired state's stop, or that there is none (any more). `refused`: why this trainer does not take one.
    pub(crate) fn stop(&mut self, stop: Option<wire::StopState>, refused: Option<String>) {
        let asked = stop.as_ref().map(|stop| stop.id.clone());
        if asked == self.stop {
            return;
        }
        // One that was withdrawn, or that another one takes the place of, before it was taken.
        if let Some(old) = std::mem::replace(&mut self.stop, asked) {
            self.waiting.retain(|waiting| waiting.action.id() != old);
        }
        let Some(stop) = stop else { return };
        if !self.remember(&stop.id) {
            return;
        }
        if let Some(why) = refused {
            let report = Report::not(wire::Outcome::Rejected, &stop.id, &why);
            return self.report(report, "", Position::default());
        }
        let when = stop.effective.map(|effective| effective.when());
        let place = match when {
            Some(EffectiveWhen::Now) => Place::AnyPoint,
            Some(EffectiveWhen::Epoch) => Place::Boundary,
            _ => Place::BeforeTrainIter,
        };
        self.wait(
            place,
            stop.effective,
            Action::Stop {
                id: stop.id,
                by: stop.by,
                reason: stop.reason,
            },
        );
    }

    /// A command; a repeat changes nothing. `can`: what a handler is there for; `refuses`: why the allow-list lacks it.
    pub(crate) fn command(
        &mut self,
        command: wire::Command,
        can: impl Fn(&str) -> bool,
        refuses: impl Fn(&str) -> Option<String>,
    ) {
        let (id, effective) = (command.id, command.effective);
        if !self.remember(&id) {
            return;
        }
        let now = effective.is_some_and(|effective| effective.when() == EffectiveWhen::Now);
        let place = if now {
            Place::AnyPoint
        } else {
            Place::Boundary
        };
        let (what, place, action) = match command.what {
            Some(What::Log(line)) => {
                let at_once = effective.is_none_or(|effective| {
                    matches!(
                        effective.when(),
                        EffectiveWhen::Next | EffectiveWhen::Unspecified
                    )
                });
                let action = Action::Log {
                    id: id.clone(),
                    level: level(line.level()),
                    text: line.text,
                };
                let place = if at_once { Place::AnyPoint } else { place };
                ("log".to_owned(), place, action)
            }
            Some(What::Checkpoint(save)) => {
                let action = Action::Checkpoint {
                    id: id.clone(),
                    tag: save.tag,
                };
                ("checkpoint".to_owned(), place, action)
            }
            Some(What::Custom(custom)) => {
                let what = format!("custom:{}", custom.name);
                let action = Action::Custom {
                    id: id.clone(),
                    name: custom.name,
                    json: custom.json,
                };
                (what, place, action)
            }
            None => return self.unsupported(id, "this client does not know this kind of command"),
        };
        if let Some(why) = refuses(&what) {
            let report = Report::not(wire::Outcome::Rejected, &id, &why);
            return self.report(report, "", Position::default());
        }
        match action {
            Action::Checkpoint { .. } if !can(&what) => {
                self.unsupported(id, "nothing is bound that could save a checkpoint");
            }
            Action::Custom { .. } if !can(&what) => {
                self.unsupported(id, &format!("no handler for {what:?}"));
            }
            action => self.wait(place, effective, action),
        }
    }

    /// An answer's logs and stop, to be taken where the gate was asked.
    pub(crate) fn gate(&mut self, answer: wire::GateAnswer, refused: Option<String>) {
        for line in answer.logs.iter().rev() {
            let action = Action::Log {
                id: String::new(),
                level: level(line.level()),
                text: line.text.clone(),
            };
            self.waiting.push_front(Waiting {
                place: Place::AnyPoint,
                effective: None,
                action,
            });
        }
        if answer.verdict() == wire::GateVerdict::Stop && self.remember(&answer.decision_id) {
            if let Some(why) = refused {
                let report = Report::not(wire::Outcome::Rejected, &answer.decision_id, &why);
                return self.report(report, "", Position::default());
            }
            let stop = Action::Stop {
                id: answer.decision_id,
                by: answer.by,
                reason: answer.reason,
            };
            self.waiting.push_back(Waiting {
                place: Place::AnyPoint,
                effective: None,
                action: stop,
            });
        }
    }

    /// Something for the user.
    pub(crate) fn say(&mut self, action: Action) {
        self.wait(Place::AnyPoint, None, action);
    }

    /// Whether something waits that no iteration or epoch is named for.
    pub(crate) fn is_pending(&self) -> bool {
        self.waiting
            .iter()
            .any(|waiting| waiting.position().is_none())
    }

    /// The iteration and the epoch before which something waits.
    pub(crate) fn next_due(&self) -> (u64, u64) {
        let (mut iter, mut epoch) = (u64::MAX, u64::MAX);
        for (when, number) in self.waiting.iter().filter_map(Waiting::position) {
            let due = if when == EffectiveWhen::Iter {
                &mut iter
            } else {
                &mut epoch
            };
            *due = number.min(*due);
        }
        (iter, epoch)
    }

    /// What is to be done at `point`. Log lines count as applied with this; a stop comes last, whatever came first.
    pub(crate) fn take(&mut self, point: &str, at: Position, fresh: bool) -> Vec<Action> {
        self.take_at(point, at, fresh, Kind::Plain)
    }

    /// Only what any point will do for.
    pub(crate) fn take_at_any_point(&mut self, point: &str, at: Position) -> Vec<Action> {
        self.take_at(point, at, true, Kind::NoBoundary)
    }

    /// The same at the end of an epoch, where the trainer ends its loop by its own means: a stop that is due where the next
    /// epoch begins, at `at`, is taken already.
    pub(crate) fn take_where_epoch_ends(&mut self, point: &str, at: Position) -> Vec<Action> {
        self.take_at(point, at, true, Kind::EpochEnds)
    }

    fn take_at(&mut self, point: &str, at: Position, fresh: bool, kind: Kind) -> Vec<Action> {
        let mut taken = Vec::new();
        let mut stop = None;
        let boundary = matches!(
            point,
            "before_train_iter" | "before_train_epoch" | "before_val_epoch"
        );
        for waiting in std::mem::take(&mut self.waiting) {
            let is_stop = matches!(waiting.action, Action::Stop { .. });
            let here = match waiting.place {
                Place::AnyPoint => true,
                _ if kind == Kind::EpochEnds => is_stop,
                _ if kind == Kind::NoBoundary => false,
                Place::BeforeTrainIter => point == "before_train_iter",
                Place::Boundary => boundary,
            };
            let turn = turn(waiting.effective, at, fresh);
            if !here || turn == Turn::Not {
                self.waiting.push_back(waiting);
            } else if turn == Turn::Passed {
                let (why, id) = (passed(waiting.effective), waiting.action.id().to_owned());
                self.report(Report::not(wire::Outcome::Rejected, &id, &why), point, at);
            } else if is_stop {
                stop = Some(waiting.action);
            } else {
                taken.push(waiting.action);
            }
        }
        taken.extend(stop);
        for action in &taken {
            if let Action::Log { id, .. } | Action::Stop { id, .. } = action
                && !id.is_empty()
            {
                self.result(
                    wire::Result {
                        id: id.clone(),
                        outcome: wire::Outcome::Applied.into(),
                        ..wire::Result::default()
                    },
                    point,
                    at,
                );
            }
        }
        taken
    }

    /// At the close: log lines are still taken, all else has expired.
    pub(crate) fn close(&mut self, at: Position) -> Vec<Action> {
        let mut lines = Vec::new();
        for Waiting { action, .. } in std::mem::take(&mut self.waiting) {
            let id = action.id().to_owned();
            let outcome = match &action {
                Action::Log { .. } | Action::Warning(_) | Action::Error(_) => {
                    wire::Outcome::Applied
                }
                _ => wire::Outcome::Expired,
            };
            if outcome == wire::Outcome::Applied {
                lines.push(action);
            }
            if !id.is_empty() {
                let reason = if outcome == wire::Outcome::Applied {
                    ""
                } else {
                    "the training ended before"
                };
                let result = wire::Result {
                    id,
                    outcome: outcome.into(),
                    reason: reason.to_owned(),
                    ..Default::default()
                };
                self.result(result, "close", at);
            }
        }
        lines
    }

    /// What became of something at `point`.
    pub(crate) fn report(&mut self, report: Report, point: &str, at: Position) {
        let result = wire::Result {
            id: report.id,
            outcome: report.outcome.into(),
            old: report.old,
            new: report.new,
            reason: report.reason,
            ..wire::Result::default()
        };
        self.result(result, point, at);
    }

    /// What this rank did with something.
    pub(crate) fn result(&mut self, mut result: wire::Result, point: &str, at: Position) {
        result.at = Some(wire::Position {
            epoch: at.epoch,
            iter: at.iter,
            inner_iter: at.inner_iter,
        });
        point.clone_into(&mut result.point);
        // One text over the daemon's limit would end the session, again and again.
        for text in [&mut result.old, &mut result.new].into_iter().flatten() {
            *text = cut(std::mem::take(text), TEXT_BYTES);
        }
        result.reason = cut(std::mem::take(&mut result.reason), TEXT_BYTES);
        if self.results.len() >= WAITING {
            self.results.pop_front();
            self.dropped += 1;
        }
        self.results.push_back(result);
    }

    /// Whether a result for this id is on its way, or was sent just now.
    pub(crate) fn is_reported(&self, id: &str) -> bool {
        self.results
            .iter()
            .chain(self.sent.iter().map(|(_, result)| result))
            .any(|result| result.id == id)
    }

    /// The next result to send.
    pub(crate) fn next_result(&self) -> Option<&wire::Result> {
        self.results.front()
    }

    /// It is on its way, after every event that was sent up to `seq`.
    pub(crate) fn result_sent(&mut self, seq: u64) {
        self.sent
            .extend(self.results.pop_front().map(|result| (seq, result)));
        if self.sent.len() > SENT {
            self.sent.pop_front();
        }
    }

    /// Events are settled up to `seq`, and with them what was sent before the last one.
    pub(crate) fn settle(&mut self, seq: u64) {
        while self.sent.front().is_some_and(|(after, _)| *after < seq) {
            self.sent.pop_front();
        }
    }

    /// A new connection: what may have been lost goes out again.
    pub(crate) fn rewind(&mut self) {
        while let Some((_, result)) = self.sent.pop_back() {
            self.results.push_front(result);
        }
    }

    fn wait(&mut self, place: Place, effective: Option<wire::Effective>, action: Action) {
        if self.waiting.len() >= WAITING {
            self.dropped += 1;
        } else {
            self.waiting.push_back(Waiting {
                place,
                effective,
                action,
            });
        }
    }

    fn unsupported(&mut self, id: String, reason: &str) {
        let report = Report::not(wire::Outcome::Unsupported, &id, reason);
        self.report(report, "", Position::default());
    }

    /// False: it was there before.
    fn remember(&mut self, id: &str) -> bool {
        if !self.known.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(old) = self.order.pop_front()
        {
            self.known.remove(&old);
        }
        true
    }
}

impl Action {
    /// The id that its result names; empty: nobody waits for one.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Log { id, .. }
            | Self::Stop { id, .. }
            | Self::Checkpoint { id, .. }
            | Self::Custom { id, .. }
            | Self::Size { id, .. }
            | Self::Mode { id, .. }
            | Self::SetEpoch { id, .. }
            | Self::SyncNorm { id, .. } => id,
            Self::Warning(_) | Self::Error(_) => "",
        }
    }
}

fn level(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug => 10,
        LogLevel::Info | LogLevel::Unspecified => 20,
        LogLevel::Warning => 30,
        LogLevel::Error => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(id: &str, when: EffectiveWhen, iter: u64) -> Option<wire::StopState> {
        let effective = Some(wire::Effective {
            when: when.into(),
            iter,
            epoch: iter,
        });
        Some(wire::StopState {
            id: id.into(),
            effective,
            reason: "enough".into(),
            by: "operator".into(),
        })
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn log(id: &str) -> wire::Command {
        let line = wire::LogLine {
            level: LogLevel::Info.into(),
            text: "hello".into(),
        };
        wire::Command {
            id: id.into(),
            what: Some(What::Log(line)),
            ..Default::default()
        }
    }

    #[test]
    fn a_stop_waits_for_its_place_and_happens_once() {
        for (when, point, here) in [
            (EffectiveWhen::Next, "after_train_iter", false),
            (EffectiveWhen::Next, "before_train_epoch", false),
            (EffectiveWhen::Next, "before_train_iter", true),
            (EffectiveWhen::Unspecified, "before_train_iter", true),
            (EffectiveWhen::Now, "after_val_iter", true),
        ] {
            let mut inbox = Inbox::default();
            inbox.stop(stop("s", when, 0), None);
            inbox.stop(stop("s", when, 0), None);
            let taken = inbox.take(point, Position::default(), true);
            assert_eq!(taken.len(), usize::from(here), "{when:?} at {point}");
            assert_eq!(
                inbox.next_result().map(|result| result.outcome()),
                here.then_some(wire::Outcome::Applied)
            );
        }
    }

    #[test]
    fn what_a_trainer_cannot_do_is_said_at_once() {
        let mut inbox = Inbox::default();
        let save = wire::Command {
            id: "c".into(),
            what: Some(What::Checkpoint(Default::default())),
            ..Default::default()
        };
        inbox.command(save.clone(), |_| false, nothing);
        inbox.command(save, |_| false, nothing);
        let refuses = |what: &str| (what == "log").then(|| "not allowed".to_owned());
        inbox.command(log("l"), |_| true, refuses);
        inbox.stop(
            stop("s", EffectiveWhen::Next, 0),
            Some("not allowed".into()),
        );
        let mut said = Vec::new();
        while let Some(result) = inbox.next_result() {
            said.push((result.id.clone(), result.outcome()));
            inbox.result_sent(0);
        }
        let not = |id: &str, outcome| (id.to_owned(), outcome);
        assert_eq!(
            said,
            [
                not("c", wire::Outcome::Unsupported),
                not("l", wire::Outcome::Rejected),
                not("s", wire::Outcome::Rejected)
            ]
        );
        assert!(!inbox.is_pending());
    }

    #[test]
    fn results_are_sent_again_until_a_later_event_is_settled() {
        let mut inbox = Inbox::default();
        for (id, sent_before) in [("a", 5), ("b", 7), ("c", 7)] {
            inbox.unsupported(id.to_owned(), "");
            inbox.result_sent(sent_before);
        }
        let again = |inbox: &mut Inbox| {
            inbox.rewind();
            let mut ids = String::new();
            while let Some(result) = inbox.next_result() {
                ids.push_str(&result.id);
                inbox.result_sent(7);
            }
            ids
        };
        inbox.settle(5);
        assert_eq!(again(&mut inbox), "abc");
        inbox.settle(7);
        assert_eq!(again(&mut inbox), "abc", "all were sent after 7 by now");
        inbox.settle(8);
        assert_eq!(again(&mut inbox), "");
    }

    #[test]
    fn lines_come_before_a_stop_and_the_close_takes_what_is_left() {
        let mut inbox = Inbox::default();
        inbox.stop(stop("s", EffectiveWhen::Now, 0), None);
        inbox.command(log("l"), |_| true, nothing);
        let taken = inbox.take("after_train_iter", Position::default(), true);
        assert!(
            matches!(taken.as_slice(), [Action::Log { .. }, Action::Stop { .. }]),
            "{taken:?}"
        );
        inbox.command(log("l"), |_| true, nothing);
        inbox.command(log("m"), |_| true, nothing);
        inbox.stop(stop("t", EffectiveWhen::Next, 0), None);
        while inbox.next_result().is_some() {
            inbox.result_sent(0);
        }
        assert!(
            matches!(inbox.close(Position::default()).as_slice(), [Action::Log { id, .. }] if id == "m")
        );
        assert_eq!(
            inbox.next_result().map(|result| result.outcome()),
            Some(wire::Outcome::Applied)
        );
        inbox.result_sent(0);
        assert_eq!(
            inbox
                .next_result()
                .map(|result| (result.id.as_str(), result.outcome())),
            Some(("t", wire::Outcome::Expired))
        );
        assert_eq!(inbox.applied(), ["s", "l", "m", "t"]);
    }

    #[test]
    fn a_stop_before_an_epoch_is_taken_where_the_one_before_ends() {
        let next = |epoch| Position {
            epoch,
            iter: 10 * epoch,
            ..Position::default()
        };
        for (when, number, taken_at) in [
            (EffectiveWhen::Epoch, 3, 3),
            (EffectiveWhen::Next, 0, 1),
            (EffectiveWhen::Iter, 20, 2),
        ] {
            let mut inbox = Inbox::default();
            inbox.stop(stop("s", when, number), None);
            inbox.command(
                wire::Command {
                    id: "c".into(),
                    what: Some(What::Checkpoint(Default::default())),
                    ..Default::default()
                },
                |_| true,
                nothing,
            );
            for epoch in 1..=3 {
                let taken = inbox.take_where_epoch_ends("after_train_epoch", next(epoch));
                let stops = matches!(taken.as_slice(), [Action::Stop { .. }]);
                assert_eq!(stops, epoch == taken_at, "{when:?} {epoch}");
            }
            let at = inbox.next_result().and_then(|result| result.at);
            assert_eq!(
                at.map(|at| at.epoch),
                Some(taken_at),
                "where it would have begun"
            );
            let left = inbox.take("before_train_epoch", next(4), true);
            assert!(
                matches!(left.as_slice(), [Action::Checkpoint { .. }]),
                "{left:?}"
            );
        }
    }

    #[test]
    fn where_not_every_rank_comes_only_what_any_point_will_do_for_is_taken() {
        let mut inbox = Inbox::default();
        let save = wire::Command {
            id: "c".into(),
            what: Some(What::Checkpoint(Default::default())),
            ..Default::default()
        };
        inbox.command(save, |_| true, nothing);
        inbox.command(log("l"), |_| true, nothing);
        let taken = inbox.take_at_any_point("before_val_epoch", Position::default());
        assert!(
            matches!(taken.as_slice(), [Action::Log { .. }]),
            "{taken:?}"
        );
        let taken = inbox.take("before_val_epoch", Position::default(), true);
        assert!(
            matches!(taken.as_slice(), [Action::Checkpoint { .. }]),
            "{taken:?}"
        );
    }

    #[test]
    fn what_is_for_a_later_iteration_waits_for_exactly_that_one() {
        let at = |iter| Position {
            iter,
            ..Position::default()
        };
        let mut inbox = Inbox::default();
        inbox.stop(stop("s", EffectiveWhen::Iter, 7), None);
        assert!(!inbox.is_pending(), "no point before it is looked at");
        assert_eq!(inbox.next_due(), (7, u64::MAX));
        assert_eq!(inbox.take("before_train_iter", at(6), true), []);
        assert_eq!(inbox.take("before_train_iter", at(7), true).len(), 1);
        inbox.stop(stop("t", EffectiveWhen::Iter, 7), None);
        assert_eq!(inbox.take("before_train_iter", at(8), true), []);
        inbox.result_sent(0);
        let passed = inbox.next_result().expect("it is said");
        assert_eq!(
            (passed.outcome(), passed.reason.as_str()),
            (wire::Outcome::Rejected, "iteration 7 has passed")
        );
        inbox.stop(stop("u", EffectiveWhen::Epoch, 3), None);
        inbox.stop(None, None);
        assert_eq!(inbox.next_due(), (u64::MAX, u64::MAX), "withdrawn");
    }
}
