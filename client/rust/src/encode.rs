//! The `Event` message, encoded by hand into a buffer that is there already: the training thread pays for a copy, not
//! for message structs. A test holds it against prost.

use crate::{MetricId, Position};

const EVENTS: u8 = 5 << 3 | 2; // EventBatch.events
const POINT: u8 = 1 << 3;
const EPOCH: u8 = 2 << 3;
const ITER: u8 = 3 << 3;
const INNER_ITER: u8 = 4 << 3;
const OFFSET_NS: u8 = 5 << 3;
const METRICS: u8 = 6 << 3 | 2;
const VALUES: u8 = 7 << 3 | 2;
const UNKNOWN: u8 = 8 << 3 | 2;
const RSS_BYTES: u8 = 9 << 3;
const UNKNOWN_METRIC: u8 = 1 << 3;
const UNKNOWN_REASON: u8 = 2 << 3 | 2;

/// Bytes of a varint.
pub(crate) const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// One event as the training thread has it.
pub(crate) struct Fields<'a> {
    pub(crate) point: u8,
    pub(crate) at: Position,
    pub(crate) offset_ns: u64,
    pub(crate) values: &'a [(MetricId, f64)],
    pub(crate) unknown: &'a [(MetricId, &'a str)],
    pub(crate) rss_bytes: Option<u64>,
}

/// Appends `EventBatch.events` with this event; `wanted` says which metrics go along.
#[inline]
pub(crate) fn put_event(out: &mut Vec<u8>, event: &Fields<'_>, wanted: impl Fn(MetricId) -> bool) {
    let (mut count, mut ids_len) = (0, 0);
    for (id, _) in event.values {
        if wanted(*id) {
            count += 1;
            ids_len += varint_len(id.0.into());
        }
    }
    let optional = |value: u64| if value == 0 { 0 } else { 1 + varint_len(value) };
    let mut body = optional(event.point.into())
        + optional(event.at.epoch)
        + optional(event.at.iter)
        + optional(event.at.inner_iter)
        + optional(event.offset_ns);
    if count > 0 {
        body +=
            1 + varint_len(ids_len as u64) + ids_len + 1 + varint_len(8 * count as u64) + 8 * count;
    }
    let unknown_len = |id: MetricId, reason: &str| {
        optional(id.0.into())
            + if reason.is_empty() {
                0
            } else {
                1 + varint_len(reason.len() as u64) + reason.len()
            }
    };
    for (id, reason) in event.unknown {
        let len = unknown_len(*id, reason);
        body += 1 + varint_len(len as u64) + len;
    }
    if let Some(rss) = event.rss_bytes {
        body += 1 + varint_len(rss);
    }
    out.reserve(body + 11);
    out.push(EVENTS);
    put_varint(out, body as u64);
    put_optional(out, POINT, event.point.into());
    put_optional(out, EPOCH, event.at.epoch);
    put_optional(out, ITER, event.at.iter);
    put_optional(out, INNER_ITER, event.at.inner_iter);
    put_optional(out, OFFSET_NS, event.offset_ns);
    if count > 0 {
        out.push(METRICS);
        put_varint(out, ids_len as u64);
        for (id, _) in event.values {
            if wanted(*id) {
                put_varint(out, id.0.into());
            }
        }
        out.push(VALUES);
        put_varint(out, 8 * count as u64);
        for (id, value) in event.values {
            if wanted(*id) {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    for (id, reason) in event.unknown {
        out.push(UNKNOWN);
        put_varint(out, unknown_len(*id, reason) as u64);
        put_optional(out, UNKNOWN_METRIC, id.0.into());
        if !reason.is_empty() {
            out.push(UNKNOWN_REASON);
            put_varint(out, reason.len() as u64);
            out.extend_from_slice(reason.as_bytes());
        }
    }
    if let Some(rss) = event.rss_bytes {
        out.push(RSS_BYTES);
        put_varint(out, rss);
    }
}

#[inline]
fn put_optional(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        out.push(tag);
        put_varint(out, value);
    }
}

#[cfg(test)]
mod tests {
    use hookbus_proto::v1::EventBatch;
    use prost::Message;

    use super::*;

    #[test]
    fn prost_reads_what_was_written_by_hand() {
        let mut out = Vec::new();
        let values = [
            (MetricId(0), f64::NAN),
            (MetricId(300), f64::NEG_INFINITY),
            (MetricId(2), 0.1),
            (MetricId(5), 9.0),
        ];
        let at = Position {
            epoch: 3,
            iter: u64::MAX,
            inner_iter: 128,
        };
        let unknown = [(MetricId(1), "on device")];
        put_event(
            &mut out,
            &Fields {
                point: 5,
                at,
                offset_ns: 1 << 40,
                values: &values,
                unknown: &unknown,
                rss_bytes: Some(0),
            },
            |id| id != MetricId(5),
        );
        let bare = Fields {
            point: 0,
            at: Position::default(),
            offset_ns: 0,
            values: &[],
            unknown: &[],
            rss_bytes: None,
        };
        put_event(&mut out, &bare, |_| true);
        let batch = EventBatch::decode(out.as_slice()).expect("valid");
        let event = &batch.events[0];
        assert_eq!(
            (event.point, event.epoch, event.iter, event.inner_iter),
            (5, 3, u64::MAX, 128)
        );
        assert_eq!(
            (event.offset_ns, event.rss_bytes, event.metrics.as_slice()),
            (1 << 40, Some(0), [0, 300, 2].as_slice())
        );
        assert!(event.values[0].is_nan());
        assert_eq!(event.values[1..], [f64::NEG_INFINITY, 0.1]);
        assert_eq!(
            (event.unknown[0].metric, event.unknown[0].reason.as_str()),
            (1, "on device")
        );
        assert_eq!(batch.events[1], hookbus_proto::v1::Event::default());
    }

    #[test]
    fn lengths_of_varints() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }
}
