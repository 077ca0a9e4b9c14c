//! What an action does to the model, and what has to be done outside of it.

use hookbus_client::inspect::proto::Order;

use super::super::input::{Action, Keys};
use super::details;
use super::dialog::{Dialog, Step};
use super::lists::{self, Pane};
use super::{Mode, Model, SPANS_S};

/// What the loop has to do.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) enum Effect {
    Quit,
    Suspend,
    Redraw,
    /// The run, the rank or the time that is looked at is another one.
    Ask,
    Send(Box<Order>),
}

/// So many entries further with PgUp and PgDn.
const PAGE: usize = 10;

impl Model {
    /// What keys are for now.
    pub(in crate::top) fn keys(&self) -> Keys {
        match &self.mode {
            Mode::Panes => Keys::Panes,
            Mode::Filter => Keys::Text,
            Mode::Help | Mode::Details(_) => Keys::Page,
            Mode::Order(dialog) => match dialog.step {
                Step::Sent { .. } => Keys::Page,
                Step::Rate { .. } | Step::Confirm { .. } => Keys::Text,
            },
        }
    }

    /// `by`: who gives an order, for the audit.
    pub(in crate::top) fn act(
        &mut self,
        action: Action,
        now_s: f64,
        by: impl FnOnce() -> String,
    ) -> Option<Effect> {
        self.hint.clear();
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Suspend => return Some(Effect::Suspend),
            Action::Redraw => return Some(Effect::Redraw),
            _ => {}
        }
        match &mut self.mode {
            Mode::Panes => self.in_panes(action, now_s),
            Mode::Filter => {
                self.in_filter(action);
                None
            }
            Mode::Help => {
                if matches!(action, Action::Back | Action::Help | Action::Pick) {
                    self.mode = Mode::Panes;
                }
                None
            }
            Mode::Details(down) => {
                let down = *down;
                let count = details::lines(self, now_s).len();
                self.mode = match action {
                    Action::Back | Action::Pick => Mode::Panes,
                    Action::Help => Mode::Help,
                    _ => Mode::Details(moved(down, count, action).unwrap_or(0)),
                };
                None
            }
            Mode::Order(dialog) => match action {
                Action::Back => {
                    self.mode = Mode::Panes;
                    None
                }
                Action::Letter(letter) => {
                    dialog.letter(letter);
                    None
                }
                Action::Erase => {
                    dialog.typed().map(String::pop);
                    None
                }
                Action::EraseAll => {
                    dialog.typed().map(String::clear);
                    None
                }
                Action::Pick => {
                    let order = dialog.enter(by)?;
                    self.order_under_way = true;
                    Some(Effect::Send(Box::new(order)))
                }
                _ => None,
            },
        }
    }

    fn in_filter(&mut self, action: Action) {
        let filter = &mut self.filters[self.pane.index()];
        match action {
            Action::Letter(letter) if filter.chars().count() < 100 => filter.push(letter),
            Action::Erase => {
                filter.pop();
            }
            Action::EraseAll => filter.clear(),
            Action::Pick => self.mode = Mode::Panes,
            Action::Back => {
                filter.clear();
                self.mode = Mode::Panes;
            }
            _ => {}
        }
    }

    fn in_panes(&mut self, action: Action, now_s: f64) -> Option<Effect> {
        match action {
            Action::NextPane => self.turn(1),
            Action::PreviousPane => self.turn(Pane::ALL.len() - 1),
            Action::Sort => {
                let at = self.pane.index();
                self.orders[at] = (self.orders[at] + 1) % self.pane.orders().len();
            }
            Action::Filter => self.mode = Mode::Filter,
            Action::Help => self.mode = Mode::Help,
            Action::Back => self.filters[self.pane.index()].clear(),
            Action::Pause => {
                self.pause(now_s);
                return Some(Effect::Ask);
            }
            Action::Stop | Action::LearningRate => self.open(action),
            Action::Longer | Action::Shorter => {
                let longer = action == Action::Longer;
                let span = if longer {
                    self.span + 1
                } else {
                    self.span.saturating_sub(1)
                };
                self.span = span.min(SPANS_S.len() - 1);
                return Some(Effect::Ask);
            }
            Action::Pick => return self.pick(),
            _ => return self.shift(action),
        }
        None
    }

    fn turn(&mut self, by: usize) {
        self.pane = Pane::ALL[(self.pane.index() + by) % Pane::ALL.len()];
    }

    fn pause(&mut self, now_s: f64) {
        if self.paused_s.take().is_none() {
            self.paused_s = Some(now_s);
        } else if let Some(waiting) = self.waiting.take() {
            self.show(waiting);
            self.scrolled = 0;
        }
    }

    fn open(&mut self, action: Action) {
        if !self.armed {
            self.hint = "reading only: start it with --arm to stop a run or set its learning rate"
                .to_owned();
            return;
        }
        let Some(run) = self.shown_run() else {
            self.hint = "there is no run to send an order to".to_owned();
            return;
        };
        if run.archived || run.ended_unix_s.is_some() {
            self.hint = "this run is over".to_owned();
            return;
        }
        // One after the other: the results that come are those of the one that was sent.
        if self.order_under_way {
            self.hint = "an order is under way: wait until its results have come".to_owned();
            return;
        }
        let dialog = if action == Action::Stop {
            Dialog::stop(run)
        } else {
            Dialog::rate(run)
        };
        self.mode = Mode::Order(dialog);
    }

    fn pick(&mut self) -> Option<Effect> {
        match self.pane {
            Pane::Runs => {
                let runs = lists::runs(&self.runs, self.order(Pane::Runs), self.filter(Pane::Runs));
                let at = self.cursor_run.as_deref();
                let picked = runs
                    .iter()
                    .find(|run| Some(run.id.as_str()) == at)
                    .or(runs.first())?;
                let id = picked.id.clone();
                self.look_at(id);
                self.pane = Pane::Ranks;
                return Some(Effect::Ask);
            }
            Pane::Ranks => {
                self.cursor_rank = self.rank().map(|rank| rank.rank);
                self.pane = Pane::Processes;
            }
            Pane::Processes | Pane::Gpus | Pane::Events => self.mode = Mode::Details(0),
        }
        None
    }

    /// Moves what is chosen in the pane that has the focus.
    fn shift(&mut self, action: Action) -> Option<Effect> {
        let (order, filter) = (self.order(self.pane), self.filter(self.pane).to_owned());
        match self.pane {
            Pane::Events => {
                let end = self.log.lines.len().saturating_sub(1);
                // Up is further back.
                self.scrolled = match action {
                    Action::First => end,
                    Action::Last => 0,
                    Action::Up => self.scrolled + 1,
                    Action::PageUp => self.scrolled + PAGE,
                    Action::Down => self.scrolled.saturating_sub(1),
                    Action::PageDown => self.scrolled.saturating_sub(PAGE),
                    _ => self.scrolled,
                }
                .min(end);
                None
            }
            Pane::Runs => {
                let ids = lists::runs(&self.runs, order, &filter);
                let ids: Vec<_> = ids.iter().map(|run| run.id.clone()).collect();
                let at = self
                    .cursor_run
                    .clone()
                    .or_else(|| Some(self.shown_run()?.id.clone()));
                self.cursor_run = next(&ids, at.as_ref(), action).or(at);
                None
            }
            Pane::Ranks => {
                let reply = &self.shown.as_ref()?.reply;
                let numbers: Vec<_> = lists::ranks(reply, order, &filter)
                    .iter()
                    .map(|rank| rank.rank)
                    .collect();
                let at = self.chosen_rank_of(reply);
                let chosen = next(&numbers, at.as_ref(), action).or(at);
                let other = chosen != at;
                self.cursor_rank = chosen;
                if other {
                    self.cursor_pid = None;
                }
                other.then_some(Effect::Ask)
            }
            Pane::Processes => {
                let pids: Vec<_> = lists::processes(self.rank()?, order, &filter)
                    .iter()
                    .map(|one| one.pid)
                    .collect();
                let at = self.cursor_pid.or(pids.first().copied());
                self.cursor_pid = next(&pids, at.as_ref(), action).or(at);
                None
            }
            Pane::Gpus => {
                let reply = &self.shown.as_ref()?.reply;
                let numbers: Vec<_> = lists::gpus(reply, order, &filter)
                    .iter()
                    .map(|gpu| gpu.index)
                    .collect();
                let at = self.cursor_gpu.or(numbers.first().copied());
                self.cursor_gpu = next(&numbers, at.as_ref(), action).or(at);
                None
            }
        }
    }
}

/// The entry that a move leads to; None: there is nothing.
fn next<T: PartialEq + Clone>(entries: &[T], at: Option<&T>, action: Action) -> Option<T> {
    let here = entries.iter().position(|entry| Some(entry) == at);
    let Some(here) = here else {
        return entries.first().cloned();
    };
    entries.get(moved(here, entries.len(), action)?).cloned()
}

fn moved(here: usize, count: usize, action: Action) -> Option<usize> {
    let end = count.checked_sub(1)?;
    let place = match action {
        Action::Up => here.saturating_sub(1),
        Action::Down => here.saturating_add(1),
        Action::PageUp => here.saturating_sub(PAGE),
        Action::PageDown => here.saturating_add(PAGE),
        Action::First => 0,
        Action::Last => end,
        _ => here,
    };
    Some(place.min(end))
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{Rank, RunPhase, RunSummary, SnapshotReply};

    use super::super::News;
    use super::*;

    fn run(id: &str, started_unix_s: f64) -> RunSummary {
        RunSummary {
            id: id.into(),
            name: "digits".into(),
            phase: RunPhase::Running.into(),
            started_unix_s,
            ..Default::default()
        }
    }

    /// Two runs, of which the newer one is shown, with three ranks.
    fn model() -> Model {
        let mut model = Model::new("", 1.0, true);
        let runs = vec![run("old@1", 1.0), run("new@2", 2.0)];
        assert!(model.hear(News::Runs(runs), 0.0, 10.0), "it chooses");
        assert_eq!(model.run, "new@2");
        let rank = |rank| Rank {
            rank,
            ..Default::default()
        };
        let reply = SnapshotReply {
            run: Some(run("new@2", 2.0)),
            ranks: vec![rank(0), rank(1), rank(2)],
            ..Default::default()
        };
        model.hear(News::Snapshot(Box::new(reply)), 0.0, 10.0);
        model
    }

    fn act(model: &mut Model, actions: &[Action]) -> Option<Effect> {
        let mut last = None;
        for action in actions {
            last = model.act(*action, 1.0, || "me".to_owned());
        }
        last
    }

    #[test]
    fn keys_lead_where_they_say() {
        use Action::*;
        type Row = (&'static [Action], Option<Effect>, fn(&Model) -> bool);
        let table: [Row; 19] = [
            (&[Quit], Some(Effect::Quit), |_| true),
            (&[Suspend], Some(Effect::Suspend), |_| true),
            (&[Redraw], Some(Effect::Redraw), |_| true),
            (&[Down], Some(Effect::Ask), |model| {
                model.cursor_rank == Some(1)
            }),
            (&[Up], None, |model| model.cursor_rank == Some(0)),
            (&[Last], Some(Effect::Ask), |model| {
                model.cursor_rank == Some(2)
            }),
            (&[Last, Down], None, |model| model.cursor_rank == Some(2)),
            (&[PageDown, First], Some(Effect::Ask), |model| {
                model.cursor_rank == Some(0)
            }),
            (&[Down, Pick], None, |model| {
                model.pane == Pane::Processes && model.cursor_rank == Some(1)
            }),
            (&[NextPane, PreviousPane, PreviousPane], None, |model| {
                model.pane == Pane::Runs
            }),
            (&[PreviousPane, Down, Pick], Some(Effect::Ask), |model| {
                model.run == "old@1" && model.shown.is_none() && model.pane == Pane::Ranks
            }),
            (&[Sort, Sort], None, |model| {
                model.order(Pane::Ranks) == "step"
            }),
            (&[Filter, Letter('2'), Pick], None, |model| {
                model.filter(Pane::Ranks) == "2" && model.mode == Mode::Panes
            }),
            (
                &[Filter, Letter('2'), Erase, Letter('1'), Back],
                None,
                |model| model.filter(Pane::Ranks).is_empty(),
            ),
            (&[Filter, Letter('2'), Pick, Back], None, |model| {
                model.filter(Pane::Ranks).is_empty()
            }),
            (&[Help], None, |model| model.mode == Mode::Help),
            (&[Help, Help], None, |model| model.mode == Mode::Panes),
            (
                &[Longer, Longer, Longer, Longer],
                Some(Effect::Ask),
                |model| model.span_s() == 7200.0,
            ),
            (&[Stop, Back], None, |model| model.mode == Mode::Panes),
        ];
        for (actions, effect, holds) in table {
            let mut model = model();
            assert_eq!(act(&mut model, actions), effect, "{actions:?}");
            assert!(holds(&model), "{actions:?}: {model:?}");
        }
    }

    #[test]
    fn an_order_needs_arms_a_run_and_one_that_goes_on() {
        for action in [Action::Stop, Action::LearningRate] {
            let mut unarmed = model();
            unarmed.armed = false;
            act(&mut unarmed, &[action]);
            assert!(unarmed.mode == Mode::Panes && unarmed.hint.contains("--arm"));

            let mut none = Model::new("", 1.0, true);
            act(&mut none, &[action]);
            assert!(none.mode == Mode::Panes && none.hint.contains("no run"));

            let mut over = model();
            over.shown
                .as_mut()
                .unwrap()
                .reply
                .run
                .as_mut()
                .unwrap()
                .ended_unix_s = Some(3.0);
            act(&mut over, &[action]);
            assert!(over.mode == Mode::Panes && over.hint.contains("over"));
        }
    }

    fn began(id: &str, at_unix_s: f64) -> News {
        let host = hookbus_client::inspect::proto::HostMemory {
            used_bytes: Some(hookbus_client::inspect::proto::Reading {
                value: Some(at_unix_s),
                ..Default::default()
            }),
            ..Default::default()
        };
        News::Snapshot(Box::new(SnapshotReply {
            run: Some(run(id, at_unix_s)),
            host: Some(host),
            at_unix_s,
            ..Default::default()
        }))
    }

    /// How much of the chart of the host is known.
    fn charted(model: &Model) -> usize {
        let key = super::super::past::Key::host("host_used_bytes");
        let columns = model.past.columns(&key, 110.0, 100.0, 100);
        let known =
            |column: &&super::super::past::Column| **column != super::super::past::Column::Nothing;
        columns.iter().filter(known).count()
    }

    #[test]
    fn a_name_that_means_another_run_by_now_begins_anew() {
        let mut model = Model::new("digits", 1.0, true);
        model.hear(began("digits@1", 20.0), 0.0, 0.0);
        model.hear(began("digits@1", 70.0), 50.0, 0.0);
        assert!(charted(&model) > 40);
        model.log.missed = 3;
        model.hear(began("digits@2", 71.0), 51.0, 0.0);
        assert_eq!(model.shown_id(), Some("digits@2"));
        assert_eq!((charted(&model), model.log.missed), (1, 0));
        assert_eq!(model.hint, "now digits@2, which began after digits@1");
        // While it is held nothing of the next one is in the picture, and then nothing of this one.
        act(&mut model, &[Action::Pause]);
        model.hear(began("digits@3", 90.0), 70.0, 0.0);
        assert_eq!(model.shown_id(), Some("digits@2"));
        assert_eq!(charted(&model), 1);
        act(&mut model, &[Action::Pause]);
        assert_eq!(model.shown_id(), Some("digits@3"));
        assert_eq!(charted(&model), 1);
    }

    #[test]
    fn what_comes_late_of_the_run_before_is_dropped() {
        use super::super::Whose;
        let mut model = model();
        let whose = |run: &str, id: Option<&str>| Whose {
            run: run.to_owned(),
            id: id.map(str::to_owned),
        };
        let past = || Box::new(News::Past(Err("of another".to_owned())));
        model.hear(News::Of(whose("new@2", Some("new@1")), past()), 0.0, 0.0);
        model.hear(News::Of(whose("new", Some("new@2")), past()), 0.0, 0.0);
        assert_eq!(model.past.unknown, "");
        model.hear(News::Of(whose("new@2", Some("new@2")), past()), 0.0, 0.0);
        assert_eq!(model.past.unknown, "of another");

        model.look_at("old@1".to_owned());
        let late = News::Of(whose("new@2", None), Box::new(began("new@2", 20.0)));
        model.hear(late, 0.0, 0.0);
        assert!(model.shown.is_none());
    }

    #[test]
    fn another_run_is_not_held() {
        let mut model = model();
        act(
            &mut model,
            &[
                Action::Pause,
                Action::PreviousPane,
                Action::Down,
                Action::Pick,
            ],
        );
        model.hear(began("old@1", 20.0), 1.0, 0.0);
        assert_eq!((model.shown_id(), model.paused_s), (Some("old@1"), None));
    }

    #[test]
    fn an_order_goes_to_the_run_that_was_shown_when_it_was_asked_for() {
        let mut model = model();
        act(&mut model, &[Action::Stop]);
        let other = SnapshotReply {
            run: Some(run("other@3", 3.0)),
            ..Default::default()
        };
        model.hear(News::Snapshot(Box::new(other)), 2.0, 12.0);
        for letter in "stop digits".chars() {
            act(&mut model, &[Action::Letter(letter)]);
        }
        let Some(Effect::Send(order)) = act(&mut model, &[Action::Pick]) else {
            panic!("it is sent")
        };
        assert_eq!((order.run.as_str(), order.by.as_str()), ("new@2", "me"));
        assert_eq!(model.keys(), Keys::Page);
    }

    #[test]
    fn an_order_waits_for_the_results_of_the_one_before() {
        let mut model = model();
        let send = |model: &mut Model| {
            act(model, &[Action::Stop]);
            for letter in "stop digits".chars() {
                act(model, &[Action::Letter(letter)]);
            }
            act(model, &[Action::Pick])
        };
        for end in [
            News::OrderEnded(Ok(())),
            News::OrderEnded(Err("gone".to_owned())),
            News::Lost("gone".to_owned()),
        ] {
            assert!(matches!(send(&mut model), Some(Effect::Send(_))));
            act(&mut model, &[Action::Back, Action::LearningRate]);
            assert!(model.mode == Mode::Panes && model.hint.contains("under way"));
            model.hear(end, 2.0, 12.0);
        }
        act(&mut model, &[Action::LearningRate]);
        assert!(matches!(model.mode, Mode::Order(_)));
    }

    #[test]
    fn details_end_where_they_end() {
        let mut model = model();
        act(&mut model, &[Action::NextPane, Action::Pick, Action::Last]);
        let Mode::Details(end) = model.mode else {
            panic!("details")
        };
        act(&mut model, &[Action::Up]);
        assert_eq!(model.mode, Mode::Details(end - 1));
    }
}
