//! Readings: a number with its source and age, or why there is none.

use std::time::Instant;

use hookbus_proto::v1 as wire;

use super::views::age_s;
use crate::domain::Reading;

pub(super) fn known(value: f64, at: Instant, source: &str, now: Instant) -> Option<wire::Reading> {
    Some(wire::Reading {
        value: Some(value),
        unknown: String::new(),
        age_s: age_s(now, at),
        source: source.to_owned(),
    })
}

pub(super) fn unknown(why: &str, source: &str) -> Option<wire::Reading> {
    Some(wire::Reading {
        value: None,
        unknown: why.to_owned(),
        age_s: 0.0,
        source: source.to_owned(),
    })
}

pub(super) fn reading(reading: &Reading, now: Instant) -> Option<wire::Reading> {
    match &reading.value {
        Ok(value) => known(*value, reading.at, reading.source, now),
        Err(why) => Some(wire::Reading {
            age_s: age_s(now, reading.at),
            ..unknown(why, reading.source)?
        }),
    }
}
