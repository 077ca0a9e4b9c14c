//! What the daemon wants of a run: one small record with a generation, always sent whole.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Size;

/// From where a field of the desired state holds, or a command is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effective {
    /// The next boundary.
    #[default]
    Next,
    /// The next point of any kind.
    Now,
    /// Before this iteration.
    Iter(u64),
    /// Before this epoch.
    Epoch(u64),
}

/// The training shall end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The decision's id.
    pub id: String,
    /// From where.
    pub effective: Effective,
    /// Why, for people.
    pub reason: String,
    /// The hook, or the operator.
    pub by: String,
}

/// A schedule by name. Its id derives from its content, so the same facts give the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRef {
    /// Its id.
    pub id: String,
    /// sha256 of its bytes.
    #[serde(with = "super::hex")]
    pub hash: [u8; 32],
    /// The hook.
    pub by: String,
}

/// What an operator holds a learning rate at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Hold {
    /// This value.
    Value(f64),
    /// Times what the schedule or the trainer's scheduler gives.
    Scale(f64),
    /// No hold from here on.
    Release,
}

/// An operator's word on the learning rate of one group or all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LrHold {
    /// The order's id.
    pub id: String,
    /// From where.
    pub effective: Effective,
    /// None: every group.
    pub group: Option<u32>,
    /// What.
    pub hold: Hold,
    /// Who.
    pub by: String,
}

/// An operator's input size, until the schedule's next step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeHold {
    /// The order's id.
    pub id: String,
    /// From where.
    pub effective: Effective,
    /// What.
    pub size: Size,
    /// Who.
    pub by: String,
}

/// YOLOX's mode for the end of a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// The decision's id.
    pub id: String,
    /// Holds for every epoch from this one on.
    pub from_epoch: u64,
    /// Pipeline steps to leave out from then on.
    pub skip_types: Vec<String>,
    /// The hook, or the operator.
    pub by: String,
    /// An operator's.
    pub operator: bool,
    /// Decided while the training runs: it is never too late.
    #[serde(default)]
    pub running: bool,
}

/// Something that is on, or was switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flag {
    /// The decision's id.
    pub id: String,
    /// The hook.
    pub by: String,
    /// Off is only said while the training runs.
    #[serde(default = "yes")]
    pub on: bool,
    /// Decided while the training runs: it is never too late.
    #[serde(default)]
    pub running: bool,
}

fn yes() -> bool {
    true
}

/// The desired state of an attempt. An absent field asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DesiredState {
    /// Grows with each change, never goes back.
    pub generation: u64,
    /// End the training.
    pub stop: Option<Stop>,
    /// Learning rates for the whole horizon.
    pub lr: Option<ScheduleRef>,
    /// Operators' words on learning rates, in the order in which they came.
    pub lr_holds: Vec<LrHold>,
    /// Input sizes for the whole horizon.
    pub size: Option<ScheduleRef>,
    /// Operators' input sizes, in the order in which they came.
    pub size_holds: Vec<SizeHold>,
    /// YOLOX's mode.
    pub mode: Option<Mode>,
    /// `model.set_epoch(epoch)` before each epoch.
    pub set_epoch: Option<Flag>,
    /// The mean of the norm layers' states before each validation.
    pub sync_norm: Option<Flag>,
}

/// One field of the desired state, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// "stop", "lr", "size", "mode", "set_epoch", "sync_norm".
    pub field: Cow<'static, str>,
    /// What, and from where.
    pub text: String,
    /// The hook, or the operator.
    pub by: String,
    /// The decision's or order's id.
    pub id: String,
}

impl fmt::Display for Effective {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Next => out.write_str("from the next boundary"),
            Self::Now => out.write_str("from the next point"),
            Self::Iter(iter) => write!(out, "from iteration {iter}"),
            Self::Epoch(epoch) => write!(out, "from epoch {epoch}"),
        }
    }
}

impl fmt::Display for LrHold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hold {
            Hold::Value(value) => write!(out, "held at {value:?}")?,
            Hold::Scale(scale) => write!(out, "scaled by {scale:?}")?,
            Hold::Release => out.write_str("released")?,
        }
        if let Some(group) = self.group {
            write!(out, " in group {group}")?;
        }
        write!(out, ", {}", self.effective)
    }
}

impl DesiredState {
    /// In words, for people.
    pub fn lines(&self) -> Vec<Wanted> {
        let wanted = |field: &'static str, text: String, by: &str, id: &str| Wanted {
            field: Cow::Borrowed(field),
            text,
            by: by.to_owned(),
            id: id.to_owned(),
        };
        let schedule = |field, schedule: &ScheduleRef| {
            let text = "a schedule over the whole training".to_owned();
            wanted(field, text, &schedule.by, &schedule.id)
        };
        let mut lines = Vec::new();
        if let Some(stop) = &self.stop {
            let text = format!("{}: {}", stop.effective, stop.reason);
            lines.push(wanted("stop", text, &stop.by, &stop.id));
        }
        lines.extend(self.lr.iter().map(|lr| schedule("lr", lr)));
        for hold in &self.lr_holds {
            lines.push(wanted("lr", hold.to_string(), &hold.by, &hold.id));
        }
        lines.extend(self.size.iter().map(|size| schedule("size", size)));
        for hold in &self.size_holds {
            let Size { height, width } = hold.size;
            let text = format!("{height} x {width} pixels, {}", hold.effective);
            lines.push(wanted("size", text, &hold.by, &hold.id));
        }
        if let Some(mode) = &self.mode {
            let text = format!(
                "from epoch {} without {}",
                mode.from_epoch,
                mode.skip_types.join(", ")
            );
            lines.push(wanted("mode", text, &mode.by, &mode.id));
        }
        for (field, flag) in [
            ("set_epoch", &self.set_epoch),
            ("sync_norm", &self.sync_norm),
        ] {
            if let Some(flag) = flag {
                let text = if flag.on { "on" } else { "off" };
                lines.push(wanted(field, text.to_owned(), &flag.by, &flag.id));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_before_is_read() {
        let old = serde_json::json!({"id": "Hook/set_epoch", "by": "Hook"});
        let flag: Flag = serde_json::from_value(old).expect("it is one");
        assert!(flag.on && !flag.running);
        let old = serde_json::json!({
            "id": "m", "from_epoch": 3, "skip_types": [], "by": "Hook", "operator": false,
        });
        let mode: Mode = serde_json::from_value(old).expect("it is one");
        assert!(!mode.running);
    }

    #[test]
    fn what_is_switched_off_is_shown_so() {
        let flag = |on| {
            Some(Flag {
                id: "f".into(),
                by: "Hook".into(),
                on,
                running: true,
            })
        };
        let state = DesiredState {
            set_epoch: flag(true),
            sync_norm: flag(false),
            ..DesiredState::default()
        };
        let lines = state.lines().into_iter();
        let lines: Vec<_> = lines.map(|line| (line.field, line.text)).collect();
        assert_eq!(
            lines,
            [
                ("set_epoch".into(), "on".to_owned()),
                ("sync_norm".into(), "off".to_owned())
            ]
        );
    }
}
