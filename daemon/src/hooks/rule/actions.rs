//! What a rule does, in one list: reading, the page and the mistakes follow it.

use rhai::Position;
use serde_json::Value as Json;

use super::reader::{Call, Node, arguments};
use super::tree::{Number, Text, Values, shown};
use crate::domain::near::nearest;
use crate::domain::{Deed, Hold, IncidentKind, LogLevel, LogLine, Rank, Size};
use crate::hooks::{Decision, Seen, Want};

/// One action, as it is listed.
pub(super) struct Action {
    pub(super) name: &'static str,
    /// Its arguments, as the page and mistakes show them.
    pub(super) args: &'static str,
    /// The least and the most of them.
    takes: (usize, usize),
    make: fn(&mut Taken) -> Result<Act, Fault>,
    pub(super) help: &'static str,
}

type Fault = (Position, String);

pub(super) const ACTIONS: &[Action] = &[
    Action {
        name: "stop",
        args: "text",
        takes: (1, 1),
        make: |args| Ok(Act::Stop(args.text()?)),
        help: "end the training, with this line in its log: at a gate here, else at the next boundary",
    },
    Action {
        name: "log",
        args: "text",
        takes: (1, 1),
        make: |args| Ok(Act::Log(LogLevel::Info, args.text()?)),
        help: "a line in the trainer's log, at INFO",
    },
    Action {
        name: "warn",
        args: "text",
        takes: (1, 1),
        make: |args| Ok(Act::Log(LogLevel::Warning, args.text()?)),
        help: "a line in the trainer's log, at WARNING",
    },
    Action {
        name: "incident",
        args: "text",
        takes: (1, 1),
        make: |args| Ok(Act::Incident(args.text()?)),
        help: "an incident of the run; the training goes on",
    },
    Action {
        name: "lr",
        args: "value",
        takes: (1, 1),
        make: |args| Ok(Act::Lr(args.number(rate)?)),
        help: "hold the learning rate of every group at this value, from the next boundary on",
    },
    Action {
        name: "lr_scale",
        args: "factor",
        takes: (1, 1),
        make: |args| Ok(Act::LrScale(args.number(rate)?)),
        help: "multiply what the schedule or the scheduler gives by it, from the next boundary on; it takes the place of the \
               factor before",
    },
    Action {
        name: "release_lr",
        args: "",
        takes: (0, 0),
        make: |_| Ok(Act::ReleaseLr),
        help: "hold and multiply no longer",
    },
    Action {
        name: "size",
        args: "height, width",
        takes: (2, 2),
        make: |args| {
            let height = args.number(|height| pixels(height).map(drop))?;
            let width = args.number(|width| pixels(width).map(drop))?;
            Ok(Act::Size(height, width))
        },
        help: "the input size in pixels, from the next boundary on",
    },
    Action {
        name: "mode",
        args: "",
        takes: (0, 0),
        make: |_| Ok(Act::Mode),
        help: "YOLOX's mode for the end of a training, from the next epoch on",
    },
    Action {
        name: "checkpoint",
        args: "tag",
        takes: (1, 1),
        make: |args| Ok(Act::Checkpoint(args.text()?)),
        help: "save a checkpoint; the tag is a word for the file's name",
    },
    Action {
        name: "custom",
        args: "name, json",
        takes: (1, 2),
        make: |args| {
            let name = args.text()?;
            let json = args.optional_text(is_json)?;
            Ok(Act::Custom(name, json))
        },
        help: "something of the trainer's own: a handler of its `on` gets it; `json` may be left out",
    },
];

/// Whether there is an action of this name.
pub(super) fn is_action(name: &str) -> bool {
    ACTIONS.iter().any(|action| action.name == name)
}

/// One action of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    Stop(Text),
    Log(LogLevel, Text),
    Incident(Text),
    Lr(Number),
    LrScale(Number),
    ReleaseLr,
    Size(Number, Number),
    Mode,
    Checkpoint(Text),
    Custom(Text, Text),
}

/// The arguments of a call, one by one.
struct Taken {
    args: std::vec::IntoIter<(Node, Position)>,
    at: Position,
}

impl Taken {
    fn next(&mut self) -> Result<(Node, Position), Fault> {
        let missing = || (self.at, "an argument is missing".to_owned());
        self.args.next().ok_or_else(missing)
    }

    /// Whatever it is, as a text.
    fn text(&mut self) -> Result<Text, Fault> {
        Ok(as_text(self.next()?.0))
    }

    /// Empty where it is not said. What stands there itself `fits`, or it is a mistake.
    fn optional_text(&mut self, fits: fn(&str) -> Result<(), String>) -> Result<Text, Fault> {
        let Some((node, at)) = self.args.next() else {
            return Ok(Text::Constant(String::new()));
        };
        let text = as_text(node);
        if let Text::Constant(text) = &text {
            fits(text).map_err(|why| (at, why))?;
        }
        Ok(text)
    }

    /// What stands there itself `fits`, or it is a mistake.
    fn number(&mut self, fits: fn(f64) -> Result<(), String>) -> Result<Number, Fault> {
        let (node, at) = self.next()?;
        let Node::Number(number) = node else {
            return Err((at, "it must be a number".to_owned()));
        };
        if let Number::Constant(value) = number {
            fits(value).map_err(|why| (at, why))?;
        }
        Ok(number)
    }
}

fn as_text(node: Node) -> Text {
    match node {
        Node::Number(number) => Text::Number(number),
        Node::Truth(truth) => Text::Truth(truth),
        Node::Text(text) => text,
    }
}

fn rate(value: f64) -> Result<(), String> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(format!(
        "a learning rate is held at, or scaled by, a finite number from 0 on; {} is none",
        shown(value)
    ))
}

fn pixels(value: f64) -> Result<u32, String> {
    if value.fract() == 0.0 && (1.0..=65_536.0).contains(&value) {
        return Ok(value as u32);
    }
    Err(format!(
        "pixels are a whole number from 1 to 65536; {} is none",
        shown(value)
    ))
}

fn is_json(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let read = serde_json::from_str::<Json>(text);
    read.map(drop)
        .map_err(|why| format!("{text} is no JSON: {why}"))
}

impl Act {
    /// From a call.
    pub(super) fn of(call: Call) -> Result<Self, Fault> {
        let Call { name, at, args } = call;
        let Some(action) = ACTIONS.iter().find(|action| action.name == name) else {
            let names: Vec<_> = ACTIONS.iter().map(|action| action.name).collect();
            let meant = nearest(&name, names.iter().copied()).map_or_else(
                || format!("there are: {}", names.join(", ")),
                |near| format!("do you mean {near}?"),
            );
            return Err((at, format!("there is no action {name}; {meant}")));
        };
        let (least, most) = action.takes;
        if !(least..=most).contains(&args.len()) {
            let what = format!("it has {}; it is {}", arguments(args.len()), action.call());
            return Err((at, what));
        }
        (action.make)(&mut Taken {
            args: args.into_iter(),
            at,
        })
    }

    /// What it decides. Errors: its numbers or texts are none that can be carried out.
    pub(super) fn decide(
        &self,
        values: Values<'_>,
        seen: &Seen<'_>,
        incident: IncidentKind,
    ) -> Result<Decision, String> {
        let line = |level, text: &Text| LogLine {
            level,
            text: text.of(values).trim_end().to_owned(),
        };
        let lr = |hold| Decision::Want(Want::Lr { group: None, hold });
        let rated = |number: &Number| {
            let value = number.of(values);
            rate(value).map(|()| value)
        };
        Ok(match self {
            Self::Stop(text) => {
                let line = line(LogLevel::Info, text);
                Decision::Stop {
                    reason: format!("{} ({})", line.text, place(seen)),
                    logs: vec![line],
                    incident,
                }
            }
            Self::Log(level, text) => Decision::Log(line(*level, text)),
            Self::Incident(text) => Decision::Incident(text.of(values)),
            Self::Lr(number) => lr(Hold::Value(rated(number)?)),
            Self::LrScale(number) => lr(Hold::Scale(rated(number)?)),
            Self::ReleaseLr => lr(Hold::Release),
            Self::Size(height, width) => Decision::Want(Want::Size(Size {
                height: pixels(height.of(values))?,
                width: pixels(width.of(values))?,
            })),
            Self::Mode => Decision::Want(Want::Mode {
                from_epoch: None,
                skip_types: Vec::new(),
            }),
            Self::Checkpoint(tag) => Decision::Do(Deed::Checkpoint {
                tag: tag.of(values),
            }),
            Self::Custom(name, json) => {
                let json = json.of(values);
                is_json(&json)?;
                Decision::Do(Deed::Custom {
                    name: name.of(values),
                    json,
                })
            }
        })
    }
}

/// Where it was, for people.
pub(super) fn place(seen: &Seen<'_>) -> String {
    let at = seen.position();
    let place = format!("at iteration {}, epoch {}", at.iter, at.epoch);
    if seen.held_on.iter().all(|rank| *rank == seen.rank) {
        return place;
    }
    let ranks: Vec<_> = seen.held_on.iter().map(Rank::to_string).collect();
    format!("on rank {}, {place}", ranks.join(", "))
}

impl Action {
    /// "lr(value)".
    pub(super) fn call(&self) -> String {
        format!("{}({})", self.name, self.args)
    }
}
