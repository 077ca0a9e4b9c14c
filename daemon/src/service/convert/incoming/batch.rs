//! A batch of events and its gates. Ids are checked against the names that the session has said; an event that does not
//! fit ends the session, none is left out in silence.

use std::sync::Arc;
use std::time::Duration;

use hookbus_proto::v1 as wire;
use tonic::Status;

use super::field::{invalid, text};
use super::names::{POINTS, Table, add_name};
use crate::domain::{Batch, Event, GateRequest, Names, Position, Rank, UnknownField};
use crate::service::convert::Limits;

pub(super) fn batch(
    batch: wire::EventBatch,
    table: &mut Table,
    limits: &Limits,
) -> Result<Batch, Status> {
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
            held_on: gate.held_on.into_iter().map(Rank).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::convert::incoming::{self, LIMITS};

    fn table() -> Table {
        let hello = wire::Hello {
            run: "r".into(),
            launch: "l".into(),
            session: "s".into(),
            points: vec!["after_train_iter".into()],
            metrics: vec!["loss".into()],
            ..Default::default()
        };
        incoming::hello(hello, &LIMITS).expect("a plain Hello").1
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
}
