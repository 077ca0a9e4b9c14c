//! What providers are told.

use std::time::Instant;

use hookbus_proto::v1::{self as wire, daemon_frame::Frame, value::Kind};

use crate::domain::{Facts, HookRequest, Value};
use crate::providers::{Call, End, Opened, Turned};
use crate::service::convert::outgoing::{position, refusals};
use crate::service::convert::reading::reading;
use crate::service::convert::state::wire_state;

fn framed(frame: Frame) -> wire::DaemonFrame {
    wire::DaemonFrame { frame: Some(frame) }
}

/// What the configuration asks of the module.
pub(in crate::service) fn assignment(asked: Vec<HookRequest>) -> wire::DaemonFrame {
    let hooks = asked.into_iter().map(|request| wire::HookRequest {
        r#type: request.type_name,
        name: request.name,
        args: request
            .args
            .into_iter()
            .map(|(key, item)| (key, value(item)))
            .collect(),
    });
    framed(Frame::Assignment(wire::Assignment {
        hooks: hooks.collect(),
    }))
}

fn value(value: Value) -> wire::Value {
    let kind = match value {
        Value::Null => Kind::Null(true),
        Value::Boolean(flag) => Kind::Boolean(flag),
        Value::Integer(number) => Kind::Integer(number),
        Value::Number(number) => Kind::Number(number),
        Value::Text(text) => Kind::Text(text),
        Value::List(items) => Kind::List(wire::ValueList {
            items: items.into_iter().map(self::value).collect(),
        }),
        Value::Map(items) => Kind::Map(wire::ValueMap {
            items: items
                .into_iter()
                .map(|(key, item)| (key, self::value(item)))
                .collect(),
        }),
    };
    wire::Value { kind: Some(kind) }
}

/// What of the offer does not hold.
pub(in crate::service) fn accepted(refused: Vec<(String, String)>) -> wire::DaemonFrame {
    framed(Frame::Accepted(wire::Accepted {
        refused: refusals(refused),
    }))
}

/// The last frame.
pub(in crate::service) fn fence(turned: Turned) -> wire::DaemonFrame {
    let reason = match turned.end {
        End::Duplicate => wire::FenceReason::Duplicate,
        End::Superseded => wire::FenceReason::Superseded,
        End::Refused => wire::FenceReason::Refused,
        End::Version => wire::FenceReason::Version,
        End::OverLimit => wire::FenceReason::OverLimit,
        End::Shutdown => wire::FenceReason::Shutdown,
    };
    framed(Frame::Fence(wire::Fence {
        reason: reason.into(),
        text: turned.text,
    }))
}

/// An attempt has begun.
pub(in crate::service) fn opened(opened: Opened) -> wire::DaemonFrame {
    let states = opened
        .states
        .into_iter()
        .map(|(hook, state)| wire::HookState {
            hook,
            json: state.as_str().to_owned(),
        });
    framed(Frame::Opened(wire::RunOpened {
        run: opened.run,
        name: opened.id.name.to_string(),
        run_id: opened.id.to_string(),
        attempt: opened.attempt,
        world_size: opened.world_size,
        facts: opened.facts.map(facts),
        states: states.collect(),
    }))
}

/// New facts of a run.
pub(in crate::service) fn facts_frame(run: u64, known: Facts) -> wire::DaemonFrame {
    framed(Frame::Facts(wire::RunFacts {
        run,
        facts: Some(facts(known)),
    }))
}

/// A run is over.
pub(in crate::service) fn closed(run: u64) -> wire::DaemonFrame {
    framed(Frame::Closed(wire::RunClosed { run }))
}

/// Calls that are due, in their order.
pub(in crate::service) fn calls(calls: Vec<Call>, now: Instant) -> wire::DaemonFrame {
    let calls = calls.into_iter().map(|each| call(each, now)).collect();
    framed(Frame::Calls(wire::Calls { calls }))
}

fn call(call: Call, now: Instant) -> wire::Call {
    let fields = call.fields.into_iter();
    let unknown = call.unknown.into_iter();
    let memory = call.memory.into_iter();
    wire::Call {
        id: call.id,
        run: call.run,
        hook: call.hook.to_string(),
        rank: call.rank.0,
        point: call.point.to_string(),
        at: Some(position(call.at)),
        fields: fields
            .map(|(name, value)| (name.to_string(), value))
            .collect(),
        unknown: unknown.map(|(name, why)| (name.to_string(), why)).collect(),
        rss_bytes: call.rss_bytes,
        gate: call.gate,
        deadline_ms: u32::try_from(call.deadline.as_millis()).unwrap_or(u32::MAX),
        held_on: call.held_on.into_iter().map(|rank| rank.0).collect(),
        memory: memory
            .map(|(name, gpu, newest)| wire::MemoryNumber {
                name: name.to_owned(),
                gpu,
                reading: reading(&newest, now),
            })
            .collect(),
        desired: call
            .desired
            .map(|state| wire_state(std::sync::Arc::unwrap_or_clone(state))),
    }
}

fn facts(facts: Facts) -> wire::Facts {
    let groups = facts.groups.into_iter().map(|group| wire::ParamGroup {
        base_lr: group.base_lr,
        name: group.name,
    });
    wire::Facts {
        max_epochs: facts.max_epochs,
        max_iters: facts.max_iters,
        iters_per_epoch: facts.iters_per_epoch,
        groups: groups.collect(),
        own_scheduler: Some(facts.own_scheduler.is_some()),
        scheduler: facts.own_scheduler.unwrap_or_default(),
        position: Some(position(facts.position)),
        seed: facts.seed,
        process_group: Some(facts.process_group),
        size_multiple: facts.size_multiple,
        ..wire::Facts::default()
    }
}
