//! Rule: a hook of one line in the daemon's configuration. What it sees, when it fires and what it does is on its page
//! (`rule/page.rs`).
//!
//! | file | what it is |
//! |---|---|
//! | `source` | quotes, and the columns that mistakes name |
//! | `reader` | from text to trees with types; everything that is wrong with a rule is found there |
//! | `tree` | those trees, and their values |
//! | `functions`, `actions`, `inputs`, `points` | the words that a rule may use |
//! | `gate` | what a rule says of waiting |
//! | `windows` | the last n values |

mod actions;
mod functions;
mod gate;
mod inputs;
mod page;
mod points;
mod reader;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod windows;

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{Arg, Args, Context, Decision, Hook, Kind, NONE, REQUIRED, Seen};
use crate::domain::{Base, Every, IncidentKind, Rank, Subscription, Way, When};
use actions::Act;
use gate::Gate;
use inputs::Input;
use reader::Reader;
use tree::{Truth, Values};
use windows::{Held, Series, Window};

/// Mistakes of one rule that wait to be asked for.
const ERRORS: usize = 16;
/// Ranks whose windows outlive the daemon.
const RANKS: usize = 4096;

pub(super) const KIND: Kind = Kind {
    type_name: "Rule",
    summary: "does what its line says where its condition becomes true",
    points: &["any point"],
    effect: "what `do` says",
    args: &[
        Arg {
            name: "at",
            default: REQUIRED,
            help: "the point: one of MMEngine's, after_save_checkpoint, or with own_point one that the trainer registers",
        },
        Arg {
            name: "when",
            default: REQUIRED,
            help: "the condition",
        },
        Arg {
            name: "do",
            default: REQUIRED,
            help: "an action, or a list of them",
        },
        Arg {
            name: "every",
            default: "1",
            help: "decide every n iterations or epochs of its point; 0 or less: never",
        },
        Arg {
            name: "each",
            default: "false",
            help: "act each time that the condition holds, not only where it becomes true",
        },
        Arg {
            name: "gate",
            default: "false",
            help: "the training waits for the answer, and a stop is at this very point",
        },
        Arg {
            name: "otherwise",
            default: "\"continue\"",
            help: "what a gate does without an answer: \"continue\" or \"stop\"",
        },
        Arg {
            name: "deadline_ms",
            default: NONE,
            help: "how long a gate waits: 50 ms at an iteration, else 2000 ms",
        },
        Arg {
            name: "own_point",
            default: "false",
            help: "`at` is a point of the trainer's own",
        },
    ],
    example: &[
        ("at", "\"after_train_iter\""),
        ("when", "\"loss > 3.0 * ewma(loss, 100) && iter > 500\""),
        ("do", "\"incident('loss spike')\""),
        ("every", "10"),
    ],
    config_only: true,
    page: page::PAGE,
    build: |args| Ok(Box::new(Rule::new(args)?)),
};

/// See the module.
#[derive(Debug)]
pub struct Rule {
    point: String,
    every: Every,
    when: Truth,
    acts: Vec<Act>,
    each: bool,
    gate: Option<Gate>,
    inputs: Vec<Input>,
    /// By series: the inputs that it is made of.
    reads: Vec<Vec<usize>>,
    /// All of those.
    fed: Vec<usize>,
    series: Vec<Series>,
    windows: Vec<Window>,
    ranks: BTreeMap<Rank, OfRank>,
    errors: Vec<String>,
    /// Of the event under way, kept so that each does not make them anew.
    values: Vec<f64>,
    known: Vec<bool>,
    of_windows: Vec<f64>,
}

/// What a rule remembers of one rank.
#[derive(Debug)]
struct OfRank {
    held: Held,
    /// The condition held where it was looked at last.
    was_true: bool,
}

impl Rule {
    fn new(args: &mut Args<'_>) -> Result<Self, String> {
        let point = args.text("at")?;
        let base = points::base(&point, args.flag("own_point")?)?;
        let n = args.interval("every")?.whole().unwrap_or(0);
        let every = match base {
            Base::Always if n == 1 => Every::ALWAYS,
            Base::Always => {
                return Err(format!(
                    "every is {n}, and nothing is counted at {point}: leave it out"
                ));
            }
            base => Every::n(base, n),
        };
        let mut reader = Reader::new(actions::is_action);
        let written = args.text("when")?;
        let when = reader.condition(&written);
        let when = when.map_err(|wrong| format!("when, {wrong}"))?;
        let dos = args.text_or_texts("do")?;
        if dos.is_empty() {
            return Err("do is empty; it must be an action, or a list of them".to_owned());
        }
        let mut acts = Vec::new();
        for (at, text) in dos.iter().enumerate() {
            let key = key(at, dos.len());
            let act = reader.action(text, Act::of);
            acts.push(act.map_err(|wrong| format!("{key}, {wrong}"))?);
        }
        let each = args.flag("each")?;
        let Reader {
            inputs,
            series,
            windows,
            ..
        } = reader;
        let gate = gate::asked_for(args, base)?.map(|(otherwise, deadline)| Gate {
            when: gate::checked_by_the_client(&when, &inputs),
            otherwise,
            text: acts.iter().find_map(gate::stop_text).unwrap_or(written),
            deadline,
        });
        if gate.is_some() && !windows.is_empty() && n != 1 {
            return Err(format!(
                "a gate sees the events only that it is due for, and a window wants every one: leave out every = {n}, or gate"
            ));
        }
        if let Some(When::NotFinite(name)) = gate.as_ref().map(|gate| &gate.when)
            && !windows.is_empty()
        {
            return Err(format!(
                "a gate on !is_finite({name}) sees the events only where it is not, and a window in do wants every one: leave it out, or gate"
            ));
        }
        let reads: Vec<_> = series.iter().map(|series| series.of.inputs()).collect();
        let mut fed = reads.concat();
        fed.sort_unstable();
        fed.dedup();
        Ok(Self {
            values: vec![f64::NAN; inputs.len()],
            known: vec![false; inputs.len()],
            of_windows: vec![f64::NAN; windows.len()],
            each: each || gate.is_some(),
            point,
            every,
            when,
            acts,
            gate,
            inputs,
            reads,
            fed,
            series,
            windows,
            ranks: BTreeMap::new(),
            errors: Vec::new(),
        })
    }

    /// Takes the event's values into the windows of its rank.
    fn feed(&mut self, cx: &Context<'_>, seen: &Seen<'_>) {
        for at in &self.fed {
            let read = self.inputs[*at].read(cx, seen);
            self.known[*at] = read.is_some();
            self.values[*at] = read.unwrap_or(f64::NAN);
        }
        let Some(of_rank) = self.ranks.get_mut(&seen.rank) else {
            return;
        };
        let values = Values {
            inputs: &self.values,
            windows: &[],
        };
        for (at, (series, reads)) in self.series.iter().zip(&self.reads).enumerate() {
            if reads.iter().all(|input| self.known[*input]) {
                let value = series.of.of(values);
                of_rank.held.add(at, series, &self.windows, value);
            }
        }
    }

    /// Whether everything that the rule reads is known here; then it is in `values` and `of_windows`.
    fn look(&mut self, cx: &Context<'_>, seen: &Seen<'_>) -> bool {
        for (at, input) in self.inputs.iter().enumerate() {
            if !self.fed.contains(&at) {
                let read = input.read(cx, seen);
                self.known[at] = read.is_some();
                self.values[at] = read.unwrap_or(f64::NAN);
            }
        }
        let mut known = self.known.iter().all(|known| *known);
        let of_rank = self.ranks.get(&seen.rank);
        for (at, window) in self.windows.iter().enumerate() {
            let read = of_rank.and_then(|of_rank| of_rank.held.read(at, window));
            known &= read.is_some();
            self.of_windows[at] = read.unwrap_or(f64::NAN);
        }
        known
    }
}

impl Hook for Rule {
    fn subscriptions(&self) -> Vec<Subscription> {
        let fields: Vec<&str> = self
            .inputs
            .iter()
            .filter_map(|input| match input {
                Input::Metric(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let every = if self.windows.is_empty() || self.gate.is_some() || self.every.n <= 0 {
            self.every
        } else {
            Every::ALWAYS
        };
        let wish = Subscription::observe(&self.point, every, &fields);
        vec![match &self.gate {
            None => wish,
            Some(gate) => Subscription {
                way: Way::Gate,
                when: gate.when.clone(),
                otherwise: gate.otherwise,
                otherwise_text: gate.text.clone(),
                deadline: gate.deadline,
                ..wish
            },
        }]
    }

    fn on_event(&mut self, cx: &Context<'_>, seen: &Seen<'_>) -> Vec<Decision> {
        if !self.ranks.contains_key(&seen.rank) {
            let of_rank = OfRank {
                held: Held::new(&self.series, &self.windows),
                was_true: false,
            };
            self.ranks.insert(seen.rank, of_rank);
        }
        if !self.series.is_empty() {
            self.feed(cx, seen);
        }
        if !self.every.is_due(seen.position()) {
            return Vec::new();
        }
        let known = self.look(cx, seen);
        let gate = self.gate.as_ref();
        // At a gate of ranks that act together it may hold on another rank.
        let elsewhere = gate.is_some_and(|gate| {
            matches!(gate.when, When::NotFinite(_)) && !seen.held_on.is_empty()
        });
        if !known && !elsewhere {
            return Vec::new();
        }
        let values = Values {
            inputs: &self.values,
            windows: &self.of_windows,
        };
        let holds = elsewhere || self.when.of(values);
        let before = self.ranks.get_mut(&seen.rank);
        let before = before.is_some_and(|of| std::mem::replace(&mut of.was_true, holds));
        if !holds || (before && !self.each) {
            return Vec::new();
        }
        let incident = match gate.map(|gate| &gate.when) {
            Some(When::NotFinite(_)) => IncidentKind::InvalidLoss,
            _ => IncidentKind::ByHook,
        };
        let mut decisions = Vec::new();
        for (at, act) in self.acts.iter().enumerate() {
            match act.decide(values, seen, incident) {
                Ok(decision) => decisions.push(decision),
                Err(why) if self.errors.len() < ERRORS => {
                    let key = key(at, self.acts.len());
                    let place = actions::place(seen);
                    self.errors.push(format!("{key}: {why} ({place})"));
                }
                Err(_) => {}
            }
        }
        decisions
    }

    fn take_errors(&mut self) -> Vec<String> {
        std::mem::take(&mut self.errors)
    }

    fn state(&self) -> Json {
        if self.each && self.windows.is_empty() {
            return Json::Null;
        }
        let ranks = self.ranks.iter().take(RANKS);
        let ranks = ranks.map(
            |(rank, of)| json!({"rank": rank.0, "was_true": of.was_true, "held": of.held.state()}),
        );
        json!({ "ranks": ranks.collect::<Vec<_>>() })
    }

    fn restore(&mut self, state: &Json) -> Result<(), String> {
        if state.is_null() {
            return Ok(());
        }
        let ranks = state["ranks"]
            .as_array()
            .filter(|ranks| ranks.len() <= RANKS);
        let ranks = ranks.ok_or("it has no ranks")?;
        let each = ranks.iter().map(|json| {
            let rank = json["rank"]
                .as_u64()
                .and_then(|rank| u32::try_from(rank).ok());
            let rank = rank.ok_or_else(|| format!("{} is no rank", json["rank"]))?;
            let was_true = json["was_true"].as_bool().ok_or("was_true is missing")?;
            let held = Held::restore(&json["held"], &self.series, &self.windows)?;
            Ok((Rank(rank), OfRank { held, was_true }))
        });
        self.ranks = each.collect::<Result<_, String>>()?;
        Ok(())
    }
}

/// The key of an action in the configuration.
fn key(at: usize, of: usize) -> String {
    if of > 1 {
        format!("do[{at}]")
    } else {
        "do".to_owned()
    }
}
