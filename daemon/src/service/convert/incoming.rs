//! What trainers and operators say, checked. A mistake is a status that names it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hookbus_proto::v1::{self as wire, client_frame::Frame, value::Kind};
use tonic::Status;

use super::Limits;
use crate::bus::{Link, ToBus};
use crate::domain::{
    Batch, Event, Facts, GateRequest, Heartbeat, Hello, Hole, HookRequest, Names, Outcome,
    ParamGroup, Position, ProcessIdentity, Rank, RunId, TrainerResult, UnknownField, Value,
};

/// Points of an attempt.
const POINTS: usize = 256;
/// How deep an argument may be nested.
const VALUE_DEPTH: usize = 16;

/// The names that a session has said so far.
pub(in crate::service) struct Table(Arc<Names>);

pub(super) fn invalid(text: String) -> Status {
    Status::invalid_argument(text)
}

pub(super) fn text(what: &str, text: String, limits: &Limits) -> Result<String, Status> {
    if text.len() > limits.string_bytes {
        return Err(invalid(format!(
            "{what} has {} bytes, limits.string_bytes is {}",
            text.len(),
            limits.string_bytes
        )));
    }
    Ok(text)
}

pub(super) fn name(what: &str, name: String, limits: &Limits) -> Result<String, Status> {
    if name.is_empty() {
        return Err(invalid(format!("{what} is empty")));
    }
    text(what, name, limits)
}

fn position(position: Option<wire::Position>) -> Position {
    position
        .map(|at| Position {
            epoch: at.epoch,
            iter: at.iter,
            inner_iter: at.inner_iter,
        })
        .unwrap_or_default()
}

/// Seconds as a duration; what is not one counts as 0.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The first frame of a session.
pub(in crate::service) fn hello(
    hello: wire::Hello,
    limits: &Limits,
) -> Result<(Hello, Table), Status> {
    let mut names = Names::default();
    for point in hello.points {
        add_name("point", &mut names.points, None, point, POINTS, limits)?;
    }
    for metric in hello.metrics {
        add_name(
            "metric",
            &mut names.metrics,
            None,
            metric,
            limits.metrics,
            limits,
        )?;
    }
    let world_size = hello.world_size.max(1);
    if hello.rank >= world_size {
        return Err(invalid(format!(
            "rank {} is not below the world size {world_size}",
            hello.rank
        )));
    }
    let process = hello.process.unwrap_or_default();
    let hooks = hello
        .hooks
        .into_iter()
        .map(|hook| hook_request(hook, limits))
        .collect::<Result<_, _>>()?;
    let hello = Hello {
        run: RunId {
            name: name("Hello.run", hello.run, limits)?.into(),
            launch: name("Hello.launch", hello.launch, limits)?.into(),
        },
        attempt: hello.attempt,
        rank: Rank(hello.rank),
        world_size,
        local_rank: hello.local_rank,
        node: text("Hello.node", hello.node, limits)?,
        process: ProcessIdentity {
            ns_pids: process.ns_pids,
            start_ticks: process.start_ticks,
            boot_id: text("Hello.process.boot_id", process.boot_id, limits)?,
            command: text("Hello.process.command", process.command, limits)?,
        },
        session: name("Hello.session", hello.session, limits)?,
        points: names.points.iter().map(|point| point.to_string()).collect(),
        capabilities: hello.capabilities,
        next_seq: hello.next_seq.max(1),
        applied: hello.applied,
        state: hello.state.map(super::state::state),
        hooks,
        client: text("Hello.client", hello.client, limits)?,
    };
    Ok((hello, Table(Arc::new(names))))
}

fn hook_request(hook: wire::HookRequest, limits: &Limits) -> Result<HookRequest, Status> {
    let type_name = name("a hook's type", hook.r#type, limits)?;
    let args = hook
        .args
        .into_iter()
        .map(|(key, item)| Ok((key, value(item, limits, VALUE_DEPTH)?)));
    Ok(HookRequest {
        name: if hook.name.is_empty() {
            type_name.clone()
        } else {
            text("a hook's name", hook.name, limits)?
        },
        args: args.collect::<Result<_, Status>>()?,
        type_name,
    })
}

fn value(value: wire::Value, limits: &Limits, depth: usize) -> Result<Value, Status> {
    if depth == 0 {
        return Err(invalid(format!(
            "a hook's argument is nested deeper than {VALUE_DEPTH}"
        )));
    }
    Ok(match value.kind {
        None | Some(Kind::Null(_)) => Value::Null,
        Some(Kind::Boolean(value)) => Value::Boolean(value),
        Some(Kind::Integer(value)) => Value::Integer(value),
        Some(Kind::Number(value)) => Value::Number(value),
        Some(Kind::Text(value)) => Value::Text(text("a hook's argument", value, limits)?),
        Some(Kind::List(list)) => Value::List(
            list.items
                .into_iter()
                .map(|item| self::value(item, limits, depth - 1))
                .collect::<Result<_, _>>()?,
        ),
        Some(Kind::Map(map)) => {
            let items = map
                .items
                .into_iter()
                .map(|(key, item)| Ok((key, self::value(item, limits, depth - 1)?)));
            Value::Map(items.collect::<Result<_, Status>>()?)
        }
    })
}

/// Every frame after Hello.
pub(in crate::service) fn client_frame(
    link: Link,
    frame: wire::ClientFrame,
    table: &mut Table,
    limits: &Limits,
) -> Result<ToBus, Status> {
    Ok(
        match frame.frame.ok_or_else(|| {
            invalid("a frame is empty, or of a kind that this daemon does not know".to_owned())
        })? {
            Frame::Hello(_) => return Err(invalid("a second Hello in one session".to_owned())),
            Frame::Batch(frame) => {
                let first_seq = frame.first_seq;
                ToBus::Batch(link, first_seq, batch(frame, table, limits)?)
            }
            Frame::Facts(known) => {
                ToBus::Facts(link, known.number, Box::new(facts(known, limits)?))
            }
            Frame::Description(said) => ToBus::Description(
                link,
                Box::new(super::description::description(said, limits)?),
            ),
            Frame::Holes(frame) => ToBus::Holes(
                link,
                frame
                    .holes
                    .into_iter()
                    .map(hole)
                    .collect::<Result<_, _>>()?,
            ),
            Frame::Result(done) => ToBus::Result(link, result(done, limits)?),
            Frame::Heartbeat(beat) => ToBus::Heartbeat(
                link,
                Heartbeat {
                    points: beat.points,
                    position: position(beat.position),
                    open_point: text("Heartbeat.open_point", beat.open_point, limits)?,
                    since_point: seconds(beat.since_point_s),
                    dropped_events: beat.dropped_events,
                    gate_timeouts: beat.gate_timeouts,
                    breaker_open: beat.breaker_open,
                    gate_wait: seconds(beat.gate_wait_s),
                },
            ),
            Frame::Bye(bye) => {
                ToBus::Bye(link, text("Bye.reason", bye.reason, limits)?, bye.failed)
            }
        },
    )
}

fn add_name(
    what: &str,
    names: &mut Vec<Arc<str>>,
    id: Option<u32>,
    new: String,
    most: usize,
    limits: &Limits,
) -> Result<(), Status> {
    let new = name(what, new, limits)?;
    let id = id.map_or(names.len(), |id| id as usize);
    match names.get(id) {
        Some(old) if **old == *new => Ok(()),
        Some(old) => Err(invalid(format!(
            "{what} id {id} is {old:?} already; it cannot become {new:?}"
        ))),
        None if id > names.len() => Err(invalid(format!(
            "{what} id {id} leaves a gap: the next one is {}",
            names.len()
        ))),
        None if names.len() >= most => Err(Status::resource_exhausted(format!(
            "more than {most} {what} names in one attempt"
        ))),
        None => {
            names.push(new.into());
            Ok(())
        }
    }
}

fn batch(batch: wire::EventBatch, table: &mut Table, limits: &Limits) -> Result<Batch, Status> {
    if batch.first_seq == 0
        || batch
            .first_seq
            .checked_add(batch.events.len() as u64)
            .is_none()
    {
        return Err(invalid(
            "EventBatch.first_seq is 0 or too large: numbers begin at 1".to_owned(),
        ));
    }
    if batch.events.len() > limits.batch_events {
        let text = format!(
            "a batch has {} events, limits.batch_events is {}",
            batch.events.len(),
            limits.batch_events
        );
        return Err(Status::resource_exhausted(text));
    }
    if !batch.new_points.is_empty() || !batch.new_metrics.is_empty() {
        let names = Arc::make_mut(&mut table.0);
        for new in batch.new_points {
            add_name(
                "point",
                &mut names.points,
                Some(new.id),
                new.name,
                POINTS,
                limits,
            )?;
        }
        for new in batch.new_metrics {
            add_name(
                "metric",
                &mut names.metrics,
                Some(new.id),
                new.name,
                limits.metrics,
                limits,
            )?;
        }
    }
    let names = Arc::clone(&table.0);
    let (mut seq, base) = (batch.first_seq, Duration::from_nanos(batch.base_ns));
    let mut events = Vec::with_capacity(batch.events.len());
    for event in batch.events {
        events.push(self::event(seq, base, event, &names, limits)?);
        seq += 1;
    }
    let gates = batch.gates.into_iter().map(|gate| {
        if gate.seq < batch.first_seq || gate.seq >= seq {
            return Err(invalid(format!(
                "gate {} is not an event of its batch ({} to {})",
                gate.seq,
                batch.first_seq,
                seq - 1
            )));
        }
        Ok(GateRequest {
            seq: gate.seq,
            subscribers: gate.subscribers,
            deadline: Duration::from_millis(gate.deadline_ms.into()),
        })
    });
    Ok(Batch {
        gates: gates.collect::<Result<_, _>>()?,
        names,
        events,
    })
}

fn event(
    seq: u64,
    base: Duration,
    event: wire::Event,
    names: &Names,
    limits: &Limits,
) -> Result<Event, Status> {
    if event.point as usize >= names.points.len() {
        return Err(invalid(format!(
            "event {seq}: point id {} is not in the name table",
            event.point
        )));
    }
    if event.metrics.len() != event.values.len() {
        let (ids, values) = (event.metrics.len(), event.values.len());
        return Err(invalid(format!(
            "event {seq}: {ids} metric ids and {values} values"
        )));
    }
    if event.metrics.len() + event.unknown.len() > limits.fields {
        let fields = event.metrics.len() + event.unknown.len();
        return Err(Status::resource_exhausted(format!(
            "event {seq} has {fields} fields, limits.fields is {}",
            limits.fields
        )));
    }
    let ids = event
        .metrics
        .iter()
        .copied()
        .chain(event.unknown.iter().map(|field| field.metric));
    if let Some(id) = ids
        .into_iter()
        .find(|id| *id as usize >= names.metrics.len())
    {
        return Err(invalid(format!(
            "event {seq}: metric id {id} is not in the name table"
        )));
    }
    let unknown = event.unknown.into_iter().map(|field| {
        Ok(UnknownField {
            metric: field.metric,
            reason: text("a field's reason", field.reason, limits)?,
        })
    });
    Ok(Event {
        seq,
        point: event.point,
        position: Position {
            epoch: event.epoch,
            iter: event.iter,
            inner_iter: event.inner_iter,
        },
        at: base + Duration::from_nanos(event.offset_ns),
        metrics: event.metrics,
        values: event.values,
        unknown: unknown.collect::<Result<_, Status>>()?,
        rss_bytes: event.rss_bytes,
    })
}

fn hole(hole: wire::Hole) -> Result<Hole, Status> {
    if hole.first_seq == 0 || hole.last_seq < hole.first_seq {
        return Err(invalid(format!(
            "a hole from {} to {} is none",
            hole.first_seq, hole.last_seq
        )));
    }
    Ok(Hole {
        first_seq: hole.first_seq,
        last_seq: hole.last_seq,
        points: hole.points.into_iter().collect::<BTreeMap<_, _>>(),
    })
}

fn facts(facts: wire::Facts, limits: &Limits) -> Result<Facts, Status> {
    let groups = facts.groups.into_iter().map(|group| {
        Ok(ParamGroup {
            base_lr: group.base_lr,
            name: text("a group's name", group.name, limits)?,
        })
    });
    Ok(Facts {
        max_epochs: facts.max_epochs,
        max_iters: facts.max_iters,
        iters_per_epoch: facts.iters_per_epoch,
        groups: groups.collect::<Result<_, Status>>()?,
        position: position(facts.position),
        own_scheduler: facts
            .own_scheduler
            .unwrap_or(false)
            .then(|| text("Facts.scheduler", facts.scheduler, limits))
            .transpose()?,
        seed: facts.seed,
        process_group: facts.process_group.unwrap_or(false),
        world_size: 0, // Hello said it
        size_multiple: facts.size_multiple,
    })
}

fn result(result: wire::Result, limits: &Limits) -> Result<TrainerResult, Status> {
    let outcome = match result.outcome() {
        wire::Outcome::Applied => Outcome::Applied,
        wire::Outcome::Rejected => Outcome::Rejected,
        wire::Outcome::Unsupported => Outcome::Unsupported,
        wire::Outcome::Expired => Outcome::Expired,
        wire::Outcome::Failed | wire::Outcome::Unspecified => Outcome::Failed,
    };
    Ok(TrainerResult {
        id: name("Result.id", result.id, limits)?,
        outcome,
        at: position(result.at),
        point: text("Result.point", result.point, limits)?,
        old: result
            .old
            .map(|old| text("Result.old", old, limits))
            .transpose()?,
        new: result
            .new
            .map(|new| text("Result.new", new, limits))
            .transpose()?,
        reason: text("Result.reason", result.reason, limits)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        sessions: 1,
        frame_bytes: 1 << 20,
        string_bytes: 64,
        fields: 4,
        batch_events: 8,
        in_flight_bytes: 1 << 20,
        metrics: 3,
    };

    fn table() -> Table {
        let hello = wire::Hello {
            run: "r".into(),
            launch: "l".into(),
            session: "s".into(),
            points: vec!["after_train_iter".into()],
            metrics: vec!["loss".into()],
            ..Default::default()
        };
        self::hello(hello, &LIMITS).expect("a plain Hello").1
    }

    fn message(batch: wire::EventBatch) -> String {
        self::batch(batch, &mut table(), &LIMITS)
            .expect_err("it is wrong")
            .message()
            .to_owned()
    }

    #[test]
    fn values_survive_as_they_are() {
        let event = wire::Event {
            metrics: vec![0, 1],
            values: vec![f64::NAN, f64::NEG_INFINITY],
            iter: 7,
            ..Default::default()
        };
        let batch = wire::EventBatch {
            first_seq: 3,
            new_metrics: vec![wire::Name {
                id: 1,
                name: "lr".into(),
            }],
            events: vec![wire::Event::default(), event],
            ..Default::default()
        };
        let batch = self::batch(batch, &mut table(), &LIMITS).expect("valid");
        assert_eq!(batch.events[1].seq, 4);
        assert_eq!(batch.events[1].position.iter, 7);
        assert!(
            batch.events[1]
                .metric(&batch.names, "loss")
                .is_some_and(f64::is_nan)
        );
        assert_eq!(
            batch.events[1].metric(&batch.names, "lr"),
            Some(f64::NEG_INFINITY)
        );
        assert_eq!(batch.events[0].metric(&batch.names, "loss"), None);
    }

    #[test]
    fn each_mistake_is_named() {
        let events = |event| wire::EventBatch {
            first_seq: 9,
            events: vec![event],
            ..Default::default()
        };
        for (batch, text) in [
            (wire::EventBatch::default(), "numbers begin at 1"),
            (
                events(wire::Event {
                    point: 4,
                    ..Default::default()
                }),
                "event 9: point id 4 is not in the name table",
            ),
            (
                events(wire::Event {
                    metrics: vec![0],
                    ..Default::default()
                }),
                "event 9: 1 metric ids and 0 values",
            ),
            (
                events(wire::Event {
                    metrics: vec![2],
                    values: vec![1.0],
                    ..Default::default()
                }),
                "metric id 2 is not in the name table",
            ),
            (
                events(wire::Event {
                    metrics: vec![0; 5],
                    values: vec![1.0; 5],
                    ..Default::default()
                }),
                "limits.fields is 4",
            ),
            (
                wire::EventBatch {
                    first_seq: 1,
                    events: vec![wire::Event::default(); 9],
                    ..Default::default()
                },
                "limits.batch_events is 8",
            ),
            (
                wire::EventBatch {
                    first_seq: 1,
                    new_metrics: vec![wire::Name {
                        id: 0,
                        name: "x".into(),
                    }],
                    ..Default::default()
                },
                "metric id 0 is \"loss\" already",
            ),
            (
                wire::EventBatch {
                    first_seq: 1,
                    new_metrics: vec![wire::Name {
                        id: 5,
                        name: "x".into(),
                    }],
                    ..Default::default()
                },
                "leaves a gap",
            ),
            (
                wire::EventBatch {
                    first_seq: 1,
                    gates: vec![wire::GateRequest {
                        seq: 4,
                        ..Default::default()
                    }],
                    ..Default::default()
                },
                "gate 4 is not an event of its batch",
            ),
        ] {
            let said = message(batch);
            assert!(said.contains(text), "{said:?} does not say {text:?}");
        }
    }

    #[test]
    fn an_identity_without_a_run_or_with_a_rank_too_high_is_refused() {
        let base = wire::Hello {
            run: "r".into(),
            launch: "l".into(),
            session: "s".into(),
            ..Default::default()
        };
        for (hello, text) in [
            (
                wire::Hello {
                    run: String::new(),
                    ..base.clone()
                },
                "Hello.run is empty",
            ),
            (
                wire::Hello {
                    rank: 2,
                    world_size: 2,
                    ..base.clone()
                },
                "rank 2 is not below the world size 2",
            ),
            (
                wire::Hello {
                    run: "x".repeat(65),
                    ..base.clone()
                },
                "limits.string_bytes is 64",
            ),
        ] {
            let status = self::hello(hello, &LIMITS).err().expect("it is wrong");
            assert!(
                status.message().contains(text),
                "{:?} does not say {text:?}",
                status.message()
            );
        }
    }
}
