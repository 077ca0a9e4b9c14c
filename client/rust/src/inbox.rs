//! What the daemon wants of this trainer, until the training thread takes it at the right point. Pure rules: a state counts
//! only if it is newer, nothing is done twice, and what the trainer cannot do is said at once.

use std::collections::{HashSet, VecDeque};

use hookbus_proto::v1::{self as wire, EffectiveWhen, LogLevel, command::What};

use crate::Position;

/// Ids that are remembered, so that nothing is done twice.
const REMEMBERED: usize = 4096;
/// Results that are sent again on a new connection.
const SENT: usize = 64;
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

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    generation: u64,
    waiting: VecDeque<(Place, Action)>,
    known: HashSet<String>,
    order: VecDeque<String>,
    /// Results that no acknowledged connection has carried yet.
    results: VecDeque<wire::Result>,
    /// The last ones that went out: a connection that breaks may have lost them, and the daemon takes one only once.
    sent: VecDeque<wire::Result>,
    /// Texts that did not fit.
    pub(crate) dropped: u64,
}

impl Inbox {
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Ids that were taken, for Hello.
    pub(crate) fn applied(&self) -> Vec<String> {
        self.order.iter().cloned().collect()
    }

    /// A desired state; older ones and repeats change nothing.
    pub(crate) fn state(&mut self, state: wire::State, can: impl Fn(&str) -> bool) {
        if state.generation <= self.generation {
            return;
        }
        self.generation = state.generation;
        if let Some(stop) = state.stop
            && self.remember(&stop.id)
        {
            self.waiting
                .retain(|(_, action)| !matches!(action, Action::Stop { .. }));
            let now = stop
                .effective
                .is_some_and(|effective| effective.when() == EffectiveWhen::Now);
            let place = if now {
                Place::AnyPoint
            } else {
                Place::BeforeTrainIter
            };
            self.wait(
                place,
                Action::Stop {
                    id: stop.id,
                    by: stop.by,
                    reason: stop.reason,
                },
            );
        }
        let others = [
            ("lr", state.lr.map(|lr| lr.id)),
            ("size", state.size.map(|size| size.id)),
            ("mode", state.mode.map(|mode| mode.id)),
            ("set_epoch", state.set_epoch.map(|flag| flag.id)),
            ("sync_norm", state.sync_norm.map(|flag| flag.id)),
        ];
        for (what, id) in others {
            if let Some(id) = id
                && self.remember(&id)
            {
                let can = if can(what) {
                    "this version of the client"
                } else {
                    "this trainer"
                };
                self.unsupported(id, &format!("{can} cannot apply {what}"));
            }
        }
    }

    /// A command; a repeat changes nothing.
    pub(crate) fn command(&mut self, command: wire::Command, can: impl Fn(&str) -> bool) {
        let id = command.id;
        if !self.remember(&id) {
            return;
        }
        match command.what {
            Some(What::Log(line)) => {
                self.wait(
                    Place::AnyPoint,
                    Action::Log {
                        id,
                        level: level(line.level()),
                        text: line.text,
                    },
                );
            }
            Some(What::Checkpoint(save)) if can("checkpoint") => {
                self.wait(Place::Boundary, Action::Checkpoint { id, tag: save.tag });
            }
            Some(What::Checkpoint(_)) => {
                self.unsupported(id, "nothing is bound that could save a checkpoint")
            }
            Some(What::Custom(custom)) if can(&format!("custom:{}", custom.name)) => {
                self.wait(
                    Place::Boundary,
                    Action::Custom {
                        id,
                        name: custom.name,
                        json: custom.json,
                    },
                );
            }
            Some(What::Custom(custom)) => {
                self.unsupported(id, &format!("no handler for custom {:?}", custom.name))
            }
            None => self.unsupported(id, "this client does not know this kind of command"),
        }
    }

    /// A schedule that nothing here can install.
    pub(crate) fn schedule(&mut self, id: String) {
        if self.remember(&id) {
            self.unsupported(id, "this version of the client cannot install schedules");
        }
    }

    /// An answer's logs and stop, to be taken where the gate was asked.
    pub(crate) fn gate(&mut self, answer: wire::GateAnswer) {
        for line in answer.logs.iter().rev() {
            let action = Action::Log {
                id: String::new(),
                level: level(line.level()),
                text: line.text.clone(),
            };
            self.waiting.push_front((Place::AnyPoint, action));
        }
        if answer.verdict() == wire::GateVerdict::Stop && self.remember(&answer.decision_id) {
            let stop = Action::Stop {
                id: answer.decision_id,
                by: answer.by,
                reason: answer.reason,
            };
            self.waiting.push_back((Place::AnyPoint, stop));
        }
    }

    /// Something for the user.
    pub(crate) fn say(&mut self, action: Action) {
        self.wait(Place::AnyPoint, action);
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What is to be done at `point`. Log lines count as applied with this; a stop comes last, whatever came first.
    pub(crate) fn take(&mut self, point: &str, at: Position) -> Vec<Action> {
        let mut taken = Vec::new();
        let mut stop = None;
        let boundary = matches!(
            point,
            "before_train_iter" | "before_train_epoch" | "before_val_epoch"
        );
        for (place, action) in std::mem::take(&mut self.waiting) {
            let here = match place {
                Place::AnyPoint => true,
                Place::BeforeTrainIter => point == "before_train_iter",
                Place::Boundary => boundary,
            };
            match action {
                action if !here => self.waiting.push_back((place, action)),
                Action::Stop { .. } => stop = Some(action),
                action => taken.push(action),
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
        for (_, action) in std::mem::take(&mut self.waiting) {
            let (id, outcome) = match &action {
                Action::Log { id, .. } => (id.clone(), wire::Outcome::Applied),
                Action::Stop { id, .. }
                | Action::Checkpoint { id, .. }
                | Action::Custom { id, .. } => (id.clone(), wire::Outcome::Expired),
                Action::Warning(_) | Action::Error(_) => (String::new(), wire::Outcome::Applied),
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

    /// What this rank did with something.
    pub(crate) fn result(&mut self, mut result: wire::Result, point: &str, at: Position) {
        result.at = Some(wire::Position {
            epoch: at.epoch,
            iter: at.iter,
            inner_iter: at.inner_iter,
        });
        point.clone_into(&mut result.point);
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
            .chain(&self.sent)
            .any(|result| result.id == id)
    }

    /// The next result to send.
    pub(crate) fn next_result(&self) -> Option<&wire::Result> {
        self.results.front()
    }

    /// It is on its way.
    pub(crate) fn result_sent(&mut self) {
        self.sent.extend(self.results.pop_front());
        if self.sent.len() > SENT {
            self.sent.pop_front();
        }
    }

    /// A new connection: what may have been lost goes out again.
    pub(crate) fn rewind(&mut self) {
        while let Some(result) = self.sent.pop_back() {
            self.results.push_front(result);
        }
    }

    fn wait(&mut self, place: Place, action: Action) {
        if self.waiting.len() >= WAITING {
            self.dropped += 1;
        } else {
            self.waiting.push_back((place, action));
        }
    }

    fn unsupported(&mut self, id: String, reason: &str) {
        let result = wire::Result {
            id,
            outcome: wire::Outcome::Unsupported.into(),
            reason: reason.to_owned(),
            ..Default::default()
        };
        self.result(result, "", Position::default());
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

    fn stop(generation: u64, id: &str, when: EffectiveWhen) -> wire::State {
        let effective = Some(wire::Effective {
            when: when.into(),
            ..Default::default()
        });
        let stop = wire::StopState {
            id: id.into(),
            effective,
            reason: "enough".into(),
            by: "operator".into(),
        };
        wire::State {
            generation,
            stop: Some(stop),
            ..Default::default()
        }
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
            inbox.state(stop(2, "s", when), |_| true);
            inbox.state(stop(2, "s", when), |_| true);
            inbox.state(stop(3, "s", when), |_| true);
            let taken = inbox.take(point, Position::default());
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
        let lr = wire::LrState {
            id: "lr".into(),
            ..Default::default()
        };
        inbox.state(
            wire::State {
                generation: 1,
                lr: Some(lr),
                ..Default::default()
            },
            |_| false,
        );
        let save = wire::Command {
            id: "c".into(),
            what: Some(What::Checkpoint(Default::default())),
            ..Default::default()
        };
        inbox.command(save.clone(), |_| false);
        inbox.command(save, |_| false);
        inbox.schedule("curve".into());
        let mut said = Vec::new();
        while let Some(result) = inbox.next_result() {
            said.push((result.id.clone(), result.outcome()));
            inbox.result_sent();
        }
        let unsupported = |id: &str| (id.to_owned(), wire::Outcome::Unsupported);
        assert_eq!(
            said,
            [unsupported("lr"), unsupported("c"), unsupported("curve")]
        );
        assert!(inbox.is_empty());
    }

    #[test]
    fn lines_come_before_a_stop_and_the_close_takes_what_is_left() {
        let mut inbox = Inbox::default();
        inbox.state(stop(1, "s", EffectiveWhen::Now), |_| true);
        inbox.command(log("l"), |_| true);
        let taken = inbox.take("after_train_iter", Position::default());
        assert!(
            matches!(taken.as_slice(), [Action::Log { .. }, Action::Stop { .. }]),
            "{taken:?}"
        );
        inbox.command(log("l"), |_| true);
        inbox.command(log("m"), |_| true);
        inbox.state(stop(2, "t", EffectiveWhen::Next), |_| true);
        while inbox.next_result().is_some() {
            inbox.result_sent();
        }
        assert!(
            matches!(inbox.close(Position::default()).as_slice(), [Action::Log { id, .. }] if id == "m")
        );
        assert_eq!(
            inbox.next_result().map(|result| result.outcome()),
            Some(wire::Outcome::Applied)
        );
        inbox.result_sent();
        assert_eq!(
            inbox
                .next_result()
                .map(|result| (result.id.as_str(), result.outcome())),
            Some(("t", wire::Outcome::Expired))
        );
        assert_eq!(inbox.applied(), ["s", "l", "m", "t"]);
    }
}
