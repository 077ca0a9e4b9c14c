//! The desired state and its schedules, both ways: to trainers, and back from a trainer whose daemon is gone.

use hookbus_proto::v1::{self as wire, lr_hold::How};
use prost::Message;

use crate::domain::{
    DesiredState, Effective, Flag, Hold, LrHold, Mode, Schedule, ScheduleRef, Size, SizeFrom,
    SizeHold, Stop,
};

/// From where something holds, as the wire says it.
pub(in crate::service) fn effective(effective: Option<wire::Effective>) -> Effective {
    let Some(effective) = effective else {
        return Effective::Next;
    };
    match effective.when() {
        wire::EffectiveWhen::Unspecified | wire::EffectiveWhen::Next => Effective::Next,
        wire::EffectiveWhen::Now => Effective::Now,
        wire::EffectiveWhen::Iter => Effective::Iter(effective.iter),
        wire::EffectiveWhen::Epoch => Effective::Epoch(effective.epoch),
    }
}

pub(super) fn wire_effective(effective: Effective) -> Option<wire::Effective> {
    let (when, iter, epoch) = match effective {
        Effective::Next => (wire::EffectiveWhen::Next, 0, 0),
        Effective::Now => (wire::EffectiveWhen::Now, 0, 0),
        Effective::Iter(iter) => (wire::EffectiveWhen::Iter, iter, 0),
        Effective::Epoch(epoch) => (wire::EffectiveWhen::Epoch, 0, epoch),
    };
    Some(wire::Effective {
        when: when.into(),
        iter,
        epoch,
    })
}

fn named(schedule: Option<ScheduleRef>) -> (String, Vec<u8>, String) {
    schedule.map_or_else(Default::default, |schedule| {
        (schedule.id, schedule.hash.to_vec(), schedule.by)
    })
}

pub(super) fn wire_state(state: DesiredState) -> wire::State {
    let flag = |flag: Flag| wire::FlagState {
        id: flag.id,
        on: flag.on,
        by: flag.by,
        running: flag.running,
    };
    let lr = (state.lr.is_some() || !state.lr_holds.is_empty()).then(|| {
        let (schedule, schedule_hash, by) = named(state.lr);
        wire::LrState {
            schedule,
            schedule_hash,
            by,
            holds: state.lr_holds.into_iter().map(wire_hold).collect(),
        }
    });
    let size = (state.size.is_some() || !state.size_holds.is_empty()).then(|| {
        let (schedule, schedule_hash, by) = named(state.size);
        let holds = state.size_holds.into_iter().map(|hold| wire::SizeHold {
            id: hold.id,
            effective: wire_effective(hold.effective),
            height: hold.size.height,
            width: hold.size.width,
            by: hold.by,
        });
        wire::SizeState {
            schedule,
            schedule_hash,
            by,
            holds: holds.collect(),
        }
    });
    wire::State {
        generation: state.generation,
        stop: state.stop.map(|stop| wire::StopState {
            id: stop.id,
            effective: wire_effective(stop.effective),
            reason: stop.reason,
            by: stop.by,
        }),
        lr,
        size,
        mode: state.mode.map(|mode| wire::ModeState {
            id: mode.id,
            from_epoch: mode.from_epoch,
            skip_types: mode.skip_types,
            by: mode.by,
            operator: mode.operator,
            running: mode.running,
        }),
        set_epoch: state.set_epoch.map(flag),
        sync_norm: state.sync_norm.map(flag),
    }
}

fn wire_hold(hold: LrHold) -> wire::LrHold {
    wire::LrHold {
        id: hold.id,
        effective: wire_effective(hold.effective),
        group: hold.group,
        how: Some(match hold.hold {
            Hold::Value(value) => How::Value(value),
            Hold::Scale(scale) => How::Scale(scale),
            Hold::Release => How::Release(true),
        }),
        by: hold.by,
    }
}

/// No generation of ours comes near, and there is room to count on from it.
const MOST_GENERATIONS: u64 = 1 << 62;

/// What a trainer still has.
pub(super) fn state(state: wire::State) -> DesiredState {
    let flag = |flag: Option<wire::FlagState>| {
        let said = flag.filter(|flag| flag.on || flag.running);
        said.map(|flag| Flag {
            id: flag.id,
            by: flag.by,
            on: flag.on,
            running: flag.running,
        })
    };
    let named = |id: String, hash: Vec<u8>, by: String| {
        let hash = hash.try_into().ok().filter(|_| !id.is_empty())?;
        Some(ScheduleRef { id, hash, by })
    };
    let (lr, size) = (state.lr.unwrap_or_default(), state.size.unwrap_or_default());
    let holds = lr.holds.into_iter().filter_map(|hold| {
        Some(LrHold {
            id: hold.id,
            effective: effective(hold.effective),
            group: hold.group,
            hold: match hold.how? {
                How::Value(value) => Hold::Value(value),
                How::Scale(scale) => Hold::Scale(scale),
                How::Release(_) => Hold::Release,
            },
            by: hold.by,
        })
    });
    let sizes = size.holds.into_iter().map(|hold| SizeHold {
        id: hold.id,
        effective: effective(hold.effective),
        size: Size {
            height: hold.height,
            width: hold.width,
        },
        by: hold.by,
    });
    DesiredState {
        generation: state.generation.min(MOST_GENERATIONS),
        stop: state.stop.map(|stop| Stop {
            id: stop.id,
            effective: effective(stop.effective),
            reason: stop.reason,
            by: stop.by,
        }),
        lr: named(lr.schedule, lr.schedule_hash, lr.by),
        lr_holds: holds.collect(),
        size: named(size.schedule, size.schedule_hash, size.by),
        size_holds: sizes.collect(),
        mode: state.mode.map(|mode| Mode {
            id: mode.id,
            from_epoch: mode.from_epoch,
            skip_types: mode.skip_types,
            by: mode.by,
            operator: mode.operator,
            running: mode.running,
        }),
        set_epoch: flag(state.set_epoch),
        sync_norm: flag(state.sync_norm),
    }
}

/// The serialised `Schedule`.
pub fn encode_schedule(schedule: &Schedule) -> Vec<u8> {
    let curves = schedule.curves.iter().map(|curve| wire::LrCurve {
        first_iter: curve.first_iter,
        values: curve.values.clone(),
    });
    let sizes = schedule.sizes.iter().map(|step| {
        let (from_epoch, from_iter) = match step.from {
            SizeFrom::Epoch(epoch) => (epoch, None),
            SizeFrom::Iter(iter) => (0, Some(iter)),
        };
        wire::SizeStep {
            from_epoch,
            from_iter,
            height: step.size.height,
            width: step.size.width,
        }
    });
    wire::Schedule {
        curves: curves.collect(),
        group_curve: schedule.group_curve.clone(),
        sizes: sizes.collect(),
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_the_way_there_and_back() {
        let hold = |id: &str, group, hold, effective| LrHold {
            id: id.into(),
            effective,
            group,
            hold,
            by: "operator me".into(),
        };
        let schedule = |id: &str| {
            Some(ScheduleRef {
                id: id.into(),
                hash: [7; 32],
                by: "hook".into(),
            })
        };
        let all = DesiredState {
            generation: 7,
            stop: Some(Stop {
                id: "s".into(),
                effective: Effective::Iter(9),
                reason: "enough".into(),
                by: "me".into(),
            }),
            lr_holds: vec![
                hold("a", None, Hold::Value(f64::MIN_POSITIVE), Effective::Next),
                hold("b", Some(3), Hold::Scale(0.1), Effective::Epoch(4)),
                hold("c", Some(0), Hold::Release, Effective::Now),
            ],
            lr: schedule("lr/1"),
            size: schedule("size/1"),
            size_holds: vec![SizeHold {
                id: "z".into(),
                effective: Effective::Iter(1 << 40),
                size: Size {
                    height: 32,
                    width: 64,
                },
                by: "me".into(),
            }],
            set_epoch: Some(Flag {
                id: "e".into(),
                by: "hook".into(),
                on: true,
                running: false,
            }),
            sync_norm: Some(Flag {
                id: "n".into(),
                by: "hook".into(),
                on: false,
                running: true,
            }),
            mode: Some(Mode {
                id: "m".into(),
                from_epoch: 3,
                skip_types: vec!["Mosaic".into()],
                by: "me".into(),
                operator: true,
                running: true,
            }),
        };
        assert_eq!(state(wire_state(all.clone())), all);
        assert_eq!(
            state(wire_state(DesiredState::default())),
            DesiredState::default()
        );
    }
}
