//! Families of numbers, as the exposition format wants them: a name, a help and a unit once, then each set of labels.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Times in buckets.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    pub(super) sum_s: f64,
    pub(super) count: u64,
    /// Upper bounds with how many are in each bucket, not added up; the last is infinite.
    pub(super) each: Vec<(f64, u64)>,
}

#[derive(Clone, Debug)]
enum Number {
    Gauge(f64),
    Counter(f64),
    Info(Labels),
    Histogram(Buckets),
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    numbers: Vec<(Labels, Number)>,
}

/// A scrape. A family without numbers is left out.
#[derive(Debug, Default)]
pub(super) struct Page {
    families: Vec<Family>,
}

impl Page {
    /// A number that goes up and down. Not known: it is left out.
    pub(super) fn gauge(&mut self, of: Of, labels: Labels, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.add(of, labels, Number::Gauge(value));
        }
    }

    /// A number that only grows. Not known: it is left out.
    pub(super) fn counter(&mut self, of: Of, labels: Labels, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.add(of, labels, Number::Counter(value));
        }
    }

    /// Words to join on.
    pub(super) fn info(&mut self, of: Of, words: Labels) {
        self.add(of, Labels::new(), Number::Info(words));
    }

    pub(super) fn histogram(&mut self, of: Of, labels: Labels, buckets: Buckets) {
        self.add(of, labels, Number::Histogram(buckets));
    }

    fn add(&mut self, of: Of, labels: Labels, number: Number) {
        let at = self
            .families
            .iter()
            .position(|family| family.name == of.name);
        let at = at.unwrap_or_else(|| {
            self.families.push(Family {
                name: of.name,
                help: of.help,
                unit: of.unit,
                numbers: Vec::new(),
            });
            self.families.len() - 1
        });
        self.families[at].numbers.push((labels, number));
    }
}

/// What a family is; its unit is added to the name.
#[derive(Clone, Debug)]
pub(super) struct Of {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
}

pub(super) fn plain(name: &'static str, help: &'static str) -> Of {
    Of {
        name,
        help,
        unit: None,
    }
}

pub(super) fn bytes(name: &'static str, help: &'static str) -> Of {
    Of {
        name,
        help,
        unit: Some(Unit::Bytes),
    }
}

pub(super) fn seconds(name: &'static str, help: &'static str) -> Of {
    Of {
        name,
        help,
        unit: Some(Unit::Seconds),
    }
}

/// From 0 to 1.
pub(super) fn ratio(name: &'static str, help: &'static str) -> Of {
    Of {
        name,
        help,
        unit: Some(Unit::Other("ratio".to_owned())),
    }
}

impl Number {
    fn kind(&self) -> MetricType {
        match self {
            Self::Gauge(_) => MetricType::Gauge,
            Self::Counter(_) => MetricType::Counter,
            Self::Info(_) => MetricType::Info,
            Self::Histogram(_) => MetricType::Histogram,
        }
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Counter(value) => encoder.encode_counter::<NoLabelSet, _, f64>(value, None),
            Self::Info(words) => encoder.encode_info(words),
            Self::Histogram(Buckets { sum_s, count, each }) => {
                encoder.encode_histogram::<NoLabelSet>(*sum_s, *count, each, None)
            }
        }
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            let Some((_, first)) = family.numbers.first() else {
                continue;
            };
            let unit = family.unit.as_ref();
            let mut of = encoder.encode_descriptor(family.name, family.help, unit, first.kind())?;
            for (labels, number) in &family.numbers {
                if labels.is_empty() {
                    number.encode(&mut of)?;
                } else {
                    number.encode(&mut of.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}
