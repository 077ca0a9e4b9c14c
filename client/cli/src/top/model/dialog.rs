//! From `S` or `L` to an order: what is asked for, what it would do, a typed confirmation, and the ranks' results. Pure; the
//! run is the one that was shown when the dialog opened, whatever is chosen since.

use std::collections::BTreeMap;

use hookbus_client::inspect::proto::{
    Effective, EffectiveWhen, LrOrder, Order, OrderUpdate, Outcome, RunSummary, StopOrder,
    lr_order, order,
};

use super::super::text::clean;
use crate::show;

/// How long the daemon waits for the ranks, in seconds: as `hookbus send`.
const TIMEOUT_S: f64 = 30.0;
/// Nobody types more.
const MOST_LETTERS: usize = 100;

/// Whom an order is for.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) struct Addressee {
    pub(in crate::top) id: String,
    name: String,
    pub(in crate::top) ranks: u32,
}

/// What is asked of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::top) enum Wish {
    Stop,
    /// Hold it there.
    Rate(f64),
    /// Times what the schedule or scheduler gives.
    Scale(f64),
    /// End what was held.
    Release,
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) enum Step {
    /// The learning rate is typed.
    Rate { typed: String, problem: String },
    /// The words of the confirmation are typed.
    Confirm { wish: Wish, typed: String },
    /// It was sent.
    Sent {
        wish: Wish,
        id: String,
        waiting: Vec<u32>,
        results: BTreeMap<u32, (bool, String)>,
        /// None: results may still come.
        ended: Option<Result<(), String>>,
    },
}

/// One order on its way.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::top) struct Dialog {
    pub(in crate::top) run: Addressee,
    pub(in crate::top) step: Step,
}

impl Wish {
    /// From what was typed: "0.01", "x0.5", "release".
    fn parse(text: &str) -> Result<Wish, String> {
        const WAYS: &str = "a rate such as 0.01, a factor such as x0.5, or release";
        let text = text.trim();
        let number = |text: &str| {
            text.trim()
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite() && *number >= 0.0)
        };
        if text == "release" {
            return Ok(Wish::Release);
        }
        let wish = match text.strip_prefix('x') {
            Some(factor) => number(factor).map(Wish::Scale),
            None => number(text).map(Wish::Rate),
        };
        wish.ok_or_else(|| format!("write {WAYS}"))
    }

    /// What one would type in a shell for the same.
    pub(in crate::top) fn command(self, run: &Addressee) -> String {
        // Within quotes a shell takes everything as it is but a quote.
        let id = clean(&run.id).replace('\'', r"'\''");
        match self {
            Wish::Stop => format!("hookbus send '{id}' stop"),
            Wish::Rate(rate) => format!("hookbus send '{id}' lr --value {rate}"),
            Wish::Scale(factor) => format!("hookbus send '{id}' lr --scale {factor}"),
            Wish::Release => format!("hookbus send '{id}' lr --release"),
        }
    }

    pub(in crate::top) fn effect(self) -> String {
        match self {
            Wish::Stop => "The training ends at the next iteration, on every rank. What it has not saved is lost.".to_owned(),
            Wish::Rate(rate) => format!("From the next iteration on every group of every rank has the learning rate {rate}, until it is released."),
            Wish::Scale(factor) => format!("From the next iteration on every group of every rank has {factor} times what its schedule or scheduler gives, until it is released."),
            Wish::Release => "From the next iteration on the learning rate is again what the schedule or scheduler gives.".to_owned(),
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Wish::Stop => "stop",
            Wish::Rate(_) | Wish::Scale(_) | Wish::Release => "lr",
        }
    }

    fn order(self, run: &Addressee, by: String) -> Order {
        let lr = |how| {
            order::What::Lr(LrOrder {
                group: None,
                how: Some(how),
            })
        };
        let what = match self {
            Wish::Stop => order::What::Stop(StopOrder {
                reason: "stopped by an operator".to_owned(),
            }),
            Wish::Rate(rate) => lr(lr_order::How::Value(rate)),
            Wish::Scale(factor) => lr(lr_order::How::Scale(factor)),
            Wish::Release => lr(lr_order::How::Release(true)),
        };
        Order {
            run: run.id.clone(),
            id: String::new(),
            by,
            timeout_s: TIMEOUT_S,
            effective: Some(Effective {
                when: EffectiveWhen::Next.into(),
                iter: 0,
                epoch: 0,
            }),
            ranks: Vec::new(),
            what: Some(what),
        }
    }
}

impl Dialog {
    pub(in crate::top) fn stop(run: &RunSummary) -> Dialog {
        Dialog {
            run: Addressee::of(run),
            step: Step::Confirm {
                wish: Wish::Stop,
                typed: String::new(),
            },
        }
    }

    pub(in crate::top) fn rate(run: &RunSummary) -> Dialog {
        Dialog {
            run: Addressee::of(run),
            step: Step::Rate {
                typed: String::new(),
                problem: String::new(),
            },
        }
    }

    /// The words that confirm. A name that cannot be typed everywhere is not asked for.
    pub(in crate::top) fn words(&self, wish: Wish) -> String {
        let name = &self.run.name;
        let can_be_typed = !name.is_empty()
            && name.len() <= 40
            && name.chars().all(|letter| letter.is_ascii_graphic());
        if can_be_typed {
            format!("{} {name}", wish.verb())
        } else {
            format!("{} {} ranks", wish.verb(), self.run.ranks)
        }
    }

    /// None: there is nothing to type any more.
    pub(in crate::top) fn typed(&mut self) -> Option<&mut String> {
        match &mut self.step {
            Step::Rate { typed, problem } => {
                problem.clear();
                Some(typed)
            }
            Step::Confirm { typed, .. } => Some(typed),
            Step::Sent { .. } => None,
        }
    }

    pub(in crate::top) fn letter(&mut self, letter: char) {
        if let Some(typed) = self.typed()
            && typed.chars().count() < MOST_LETTERS
            && !letter.is_control()
        {
            typed.push(letter);
        }
    }

    /// Enter. The order is given only where the words were typed as they are.
    pub(in crate::top) fn enter(&mut self, by: impl FnOnce() -> String) -> Option<Order> {
        match &mut self.step {
            Step::Rate { typed, problem } => {
                match Wish::parse(typed) {
                    Ok(wish) => {
                        self.step = Step::Confirm {
                            wish,
                            typed: String::new(),
                        }
                    }
                    Err(why) => *problem = why,
                }
                None
            }
            Step::Confirm { wish, typed } => {
                let (wish, typed) = (*wish, std::mem::take(typed));
                if typed.trim() != self.words(wish) {
                    return None;
                }
                self.step = Step::Sent {
                    wish,
                    id: String::new(),
                    waiting: Vec::new(),
                    results: BTreeMap::new(),
                    ended: None,
                };
                Some(wish.order(&self.run, by()))
            }
            Step::Sent { .. } => None,
        }
    }

    /// A rank answered, or the daemon says who is asked.
    pub(in crate::top) fn answer(&mut self, update: OrderUpdate) {
        let Step::Sent {
            id,
            waiting,
            results,
            ..
        } = &mut self.step
        else {
            return;
        };
        *id = clean(&update.id);
        *waiting = update.waiting;
        if let Some(result) = &update.result {
            let applied = result.outcome() == Outcome::Applied;
            let said = clean(&show::outcome(Some(result)));
            results.insert(update.rank, (applied, said));
            waiting.retain(|rank| *rank != update.rank);
        }
    }

    /// The connection is gone, with the results that were still to come.
    pub(in crate::top) fn lose(&mut self) {
        if let Step::Sent { ended, .. } = &mut self.step
            && ended.is_none()
        {
            let why = "the connection was lost; what the ranks did with it is among the events";
            *ended = Some(Err(why.to_owned()));
        }
    }

    /// No more results come.
    pub(in crate::top) fn end(&mut self, how: Result<(), String>) {
        if let Step::Sent { ended, .. } = &mut self.step {
            *ended = Some(how);
        }
    }
}

impl Addressee {
    fn of(run: &RunSummary) -> Addressee {
        Addressee {
            id: run.id.clone(),
            name: run.name.clone(),
            ranks: run.world_size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunSummary {
        RunSummary {
            id: "digits@1".into(),
            name: "digits".into(),
            world_size: 2,
            ..Default::default()
        }
    }

    fn write(dialog: &mut Dialog, text: &str) {
        text.chars().for_each(|letter| dialog.letter(letter));
    }

    #[test]
    fn a_rate_is_a_number_a_factor_or_the_end_of_it() {
        for (text, wish) in [
            ("0.01", Some(Wish::Rate(0.01))),
            (" 1e-3 ", Some(Wish::Rate(1e-3))),
            ("x0.5", Some(Wish::Scale(0.5))),
            ("release", Some(Wish::Release)),
            ("", None),
            ("-1", None),
            ("nan", None),
            ("xinf", None),
            ("half", None),
        ] {
            assert_eq!(Wish::parse(text).ok(), wish, "{text}");
        }
    }

    #[test]
    fn nothing_is_sent_but_by_the_exact_words() {
        for typed in [
            "",
            "y",
            "yes",
            "stop",
            "stop digit",
            "stop digits@1",
            "STOP digits",
        ] {
            let mut dialog = Dialog::stop(&run());
            write(&mut dialog, typed);
            assert_eq!(dialog.enter(String::new), None, "{typed}");
            assert!(matches!(dialog.step, Step::Confirm { .. }));
        }
        let mut dialog = Dialog::stop(&run());
        write(&mut dialog, "stop digits");
        let order = dialog.enter(|| "me".to_owned()).unwrap();
        assert_eq!((order.run.as_str(), order.by.as_str()), ("digits@1", "me"));
        assert!(order.ranks.is_empty());
        assert_eq!(dialog.enter(String::new), None, "only once");
    }

    #[test]
    fn a_learning_rate_is_typed_first_and_then_confirmed() {
        let mut dialog = Dialog::rate(&run());
        write(&mut dialog, "half");
        assert_eq!(dialog.enter(String::new), None);
        assert!(matches!(&dialog.step, Step::Rate { problem, .. } if problem.contains("x0.5")));
        dialog.typed().unwrap().clear();
        write(&mut dialog, "x0.5");
        assert_eq!(dialog.enter(String::new), None);
        assert_eq!(
            Wish::Scale(0.5).command(&dialog.run),
            "hookbus send 'digits@1' lr --scale 0.5"
        );
        write(&mut dialog, "lr digits");
        let order = dialog.enter(String::new).unwrap();
        let how = Some(lr_order::How::Scale(0.5));
        assert_eq!(
            order.what,
            Some(order::What::Lr(LrOrder { group: None, how }))
        );
    }

    #[test]
    fn a_name_that_nobody_can_type_is_not_asked_for() {
        let odd = RunSummary {
            name: "日本\x1b".into(),
            ..run()
        };
        assert_eq!(Dialog::stop(&odd).words(Wish::Stop), "stop 2 ranks");
    }

    #[test]
    fn a_shell_reads_the_id_as_it_is() {
        let odd = RunSummary {
            id: "it's $(one)@1".into(),
            ..run()
        };
        let command = Wish::Stop.command(&Dialog::stop(&odd).run);
        assert_eq!(command, r"hookbus send 'it'\''s $(one)@1' stop");
    }

    #[test]
    fn results_are_kept_as_they_come() {
        let mut dialog = Dialog::stop(&run());
        write(&mut dialog, "stop digits");
        dialog.enter(String::new).unwrap();
        dialog.answer(OrderUpdate {
            id: "o1".into(),
            waiting: vec![0, 1],
            ..Default::default()
        });
        dialog.answer(OrderUpdate {
            id: "o1".into(),
            waiting: vec![1],
            rank: 0,
            result: Some(hookbus_client::inspect::proto::Result {
                outcome: Outcome::Applied.into(),
                ..Default::default()
            }),
        });
        dialog.end(Err("gone".to_owned()));
        let Step::Sent {
            waiting,
            results,
            ended,
            ..
        } = &dialog.step
        else {
            panic!("it was sent")
        };
        assert_eq!(waiting, &[1]);
        assert_eq!(results[&0], (true, "applied".to_owned()));
        assert_eq!(ended, &Some(Err("gone".to_owned())));
    }
}
