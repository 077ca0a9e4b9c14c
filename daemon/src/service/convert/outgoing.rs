//! What the daemon says to trainers and to operators' orders.

use hookbus_proto::v1::{self as wire, command::What, server_frame::Frame};

use super::Limits;
use super::state::{wire_effective, wire_state};
use crate::bus::{FenceReason, GateAnswer, ToTrainer, Verdict, Welcome};
use crate::domain::{
    Base, Command, Deed, EncodedSchedule, LogLevel, LogLine, Otherwise, Outcome, Plan, Position,
    Subscription, TrainerResult, Way, When,
};

/// Far below any limit of a frame.
const CHUNK_BYTES: usize = 256 << 10;

/// The frames of one message to a trainer.
pub(in crate::service) fn server_frames(
    message: ToTrainer,
    limits: &Limits,
) -> Vec<wire::ServerFrame> {
    match message {
        ToTrainer::Schedule(schedule) => chunks(&schedule),
        other => vec![server_frame(other, limits)],
    }
}

fn chunks(schedule: &EncodedSchedule) -> Vec<wire::ServerFrame> {
    let bytes = &schedule.bytes;
    let count = bytes.len().div_ceil(CHUNK_BYTES).max(1);
    let chunk = |index: usize| {
        let end = bytes.len().min((index + 1) * CHUNK_BYTES);
        let chunk = wire::ScheduleChunk {
            id: schedule.id.clone(),
            hash: schedule.hash.to_vec(),
            index: index as u32,
            count: count as u32,
            data: bytes.slice(index * CHUNK_BYTES..end),
        };
        wire::ServerFrame {
            frame: Some(Frame::Schedule(chunk)),
        }
    };
    (0..count).map(chunk).collect()
}

fn server_frame(message: ToTrainer, limits: &Limits) -> wire::ServerFrame {
    let frame = match message {
        ToTrainer::Welcome(said) => Frame::Welcome(welcome(*said, limits)),
        ToTrainer::Plan(asked) => Frame::Plan(plan(asked)),
        ToTrainer::State(wanted) => Frame::State(wire_state(*wanted)),
        ToTrainer::FactsTaken(number, refused) => Frame::FactsTaken(wire::FactsTaken {
            number,
            refused: refusals(refused),
        }),
        ToTrainer::Schedule(_) => unreachable!("a schedule becomes chunks"),
        ToTrainer::Command(done) => Frame::Command(command(done)),
        ToTrainer::Gate(answer) => Frame::Gate(gate(answer)),
        ToTrainer::Ack { settled, taken } => Frame::Ack(wire::Ack {
            seq: settled,
            taken,
        }),
        ToTrainer::Fence(fence) => {
            let reason = match fence.reason {
                FenceReason::Superseded => wire::FenceReason::Superseded,
                FenceReason::Duplicate => wire::FenceReason::Duplicate,
                FenceReason::Version => wire::FenceReason::Version,
                FenceReason::OverLimit => wire::FenceReason::OverLimit,
                FenceReason::Shutdown => wire::FenceReason::Shutdown,
                FenceReason::Refused => wire::FenceReason::Refused,
            };
            Frame::Fence(wire::Fence {
                reason: reason.into(),
                text: fence.text,
            })
        }
    };
    wire::ServerFrame { frame: Some(frame) }
}

fn welcome(welcome: Welcome, limits: &Limits) -> wire::Welcome {
    let verdict = match welcome.verdict {
        Verdict::New => wire::Verdict::New,
        Verdict::Resumed => wire::Verdict::Resumed,
        Verdict::Lost => wire::Verdict::Lost,
    };
    let bounded = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
    wire::Welcome {
        verdict: verdict.into(),
        attempt: welcome.attempt,
        plan: Some(plan(welcome.plan)),
        state: Some(wire_state(welcome.state)),
        limits: Some(wire::Limits {
            frame_bytes: bounded(limits.frame_bytes),
            string_bytes: bounded(limits.string_bytes),
            fields: bounded(limits.fields),
            batch_events: bounded(limits.batch_events),
            in_flight_bytes: bounded(limits.in_flight_bytes),
            metrics: bounded(limits.metrics),
        }),
        ack: welcome.settled,
        taken: welcome.taken,
        own_memory: welcome.own_memory,
        refused: refusals(welcome.refused),
        daemon: format!(
            "hookbusd {} pid {}",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        ),
        run_id: welcome.run.to_string(),
    }
}

pub(super) fn refusals(refused: Vec<(String, String)>) -> Vec<wire::Refusal> {
    let each = refused.into_iter();
    each.map(|(what, reason)| wire::Refusal { what, reason })
        .collect()
}

fn plan(plan: Plan) -> wire::Plan {
    wire::Plan {
        generation: plan.generation,
        subscriptions: plan.subscriptions.into_iter().map(subscription).collect(),
        stall_budget: plan.stall_budget,
        probe_ms: u64::try_from(plan.probe.as_millis()).unwrap_or(u64::MAX),
    }
}

fn subscription(wish: Subscription) -> wire::Subscription {
    let base = match wish.every.base {
        Base::Always => wire::Base::Unspecified,
        Base::Iter => wire::Base::Iter,
        Base::InnerIter => wire::Base::InnerIter,
        Base::Epoch => wire::Base::Epoch,
    };
    let when = match wish.when {
        When::Always => None,
        When::NotFinite(field) => Some(wire::When {
            condition: Some(wire::when::Condition::NotFinite(field)),
        }),
    };
    wire::Subscription {
        subscriber: wish.subscriber,
        point: wish.point,
        every: Some(wire::Every {
            base: base.into(),
            n: wish.every.n,
            start: wish.every.start,
        }),
        fields: wish.fields,
        way: match wish.way {
            Way::Observe => wire::Way::Observe.into(),
            Way::Gate => wire::Way::Gate.into(),
        },
        when,
        otherwise: match wish.otherwise {
            Otherwise::Continue => wire::Otherwise::Continue.into(),
            Otherwise::Stop => wire::Otherwise::Stop.into(),
        },
        deadline_ms: u32::try_from(wish.deadline.as_millis()).unwrap_or(u32::MAX),
        otherwise_text: wish.otherwise_text,
    }
}

fn command(command: Command) -> wire::Command {
    let what = match command.deed {
        Deed::Log(line) => What::Log(log_line(line)),
        Deed::Checkpoint { tag } => What::Checkpoint(wire::SaveCheckpoint { tag }),
        Deed::Custom { name, json } => What::Custom(wire::Custom { name, json }),
    };
    wire::Command {
        id: command.id,
        by: command.by,
        effective: wire_effective(command.effective),
        what: Some(what),
    }
}

fn log_line(line: LogLine) -> wire::LogLine {
    let level = match line.level {
        LogLevel::Debug => wire::LogLevel::Debug,
        LogLevel::Info => wire::LogLevel::Info,
        LogLevel::Warning => wire::LogLevel::Warning,
        LogLevel::Error => wire::LogLevel::Error,
    };
    wire::LogLine {
        level: level.into(),
        text: line.text,
    }
}

fn gate(answer: GateAnswer) -> wire::GateAnswer {
    let logs = answer.logs.into_iter().map(log_line).collect();
    match answer.stop {
        None => wire::GateAnswer {
            seq: answer.seq,
            verdict: wire::GateVerdict::Continue.into(),
            logs,
            ..Default::default()
        },
        Some(stop) => wire::GateAnswer {
            seq: answer.seq,
            verdict: wire::GateVerdict::Stop.into(),
            reason: stop.reason,
            decision_id: stop.id,
            by: stop.by,
            logs,
        },
    }
}

pub(super) fn position(at: Position) -> wire::Position {
    wire::Position {
        epoch: at.epoch,
        iter: at.iter,
        inner_iter: at.inner_iter,
    }
}

pub(super) fn result(result: TrainerResult) -> wire::Result {
    let outcome = match result.outcome {
        Outcome::Applied => wire::Outcome::Applied,
        Outcome::Rejected => wire::Outcome::Rejected,
        Outcome::Unsupported => wire::Outcome::Unsupported,
        Outcome::Failed => wire::Outcome::Failed,
        Outcome::Expired => wire::Outcome::Expired,
    };
    wire::Result {
        id: result.id,
        outcome: outcome.into(),
        at: Some(position(result.at)),
        point: result.point,
        old: result.old,
        new: result.new,
        reason: result.reason,
    }
}
