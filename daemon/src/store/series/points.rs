//! Points of a series as they are read, from memory or from the journal, and how they are put together. Times are microseconds
//! since 1970, since a journal may be older than this machine is up.

use std::sync::Arc;
use std::time::Duration;

/// Where a training was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub epoch: u64,
    /// From 0.
    pub iter: u64,
}

/// A stretch of time, and what was read in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// From then.
    pub start_us: i64,
    /// Until then.
    pub end_us: i64,
    /// The smallest reading.
    pub min: f64,
    /// Of all readings.
    pub mean: f64,
    /// The largest reading.
    pub max: f64,
    /// How many readings; 0: none could be taken.
    pub readings: u32,
    /// Why there is none; None: there is one.
    pub unknown: Option<Arc<str>>,
    /// Where the training was at its end.
    pub place: Option<Place>,
}

impl Point {
    /// Takes the point after this one into it.
    fn absorb(&mut self, next: Self) {
        if next.readings > 0 && self.readings > 0 {
            let (before, more) = (f64::from(self.readings), f64::from(next.readings));
            self.mean = (self.mean * before + next.mean * more) / (before + more);
            self.min = self.min.min(next.min);
            self.max = self.max.max(next.max);
        } else if next.readings > 0 {
            (self.min, self.mean, self.max) = (next.min, next.mean, next.max);
        }
        self.readings = self.readings.saturating_add(next.readings);
        self.unknown = if self.readings > 0 {
            None
        } else {
            next.unknown.or(self.unknown.take())
        };
        self.start_us = self.start_us.min(next.start_us);
        self.end_us = self.end_us.max(next.end_us);
        self.place = next.place.or(self.place);
    }
}

/// Points that begin in the same stretch of this width become one. Stretches are counted from `origin_us`; zero: as they are.
pub fn merge(points: Vec<Point>, width: Duration, origin_us: i64) -> Vec<Point> {
    let mut merged: Vec<Point> = Vec::new();
    let mut last = None;
    for point in points {
        let stretch = stretch(&point, width, origin_us);
        match merged.last_mut() {
            Some(before) if stretch.is_some() && stretch == last => before.absorb(point),
            _ => merged.push(point),
        }
        last = stretch;
    }
    merged
}

/// The smallest of 0.1, 0.2, 0.5, 1, 2, 5 … seconds with which no more than `most` points are left, and at least `least`; zero:
/// as they are.
pub fn width(points: &[Point], least: Duration, most: usize, origin_us: i64) -> Duration {
    let most = most.max(1);
    let count = |width| {
        let mut last = None;
        let mut count = 0;
        for point in points {
            let stretch = stretch(point, width, origin_us);
            count += usize::from(stretch.is_none() || stretch != last);
            last = stretch;
        }
        count
    };
    if count(least) <= most {
        return least;
    }
    let steps = (0..16).flat_map(|power| [1, 2, 5].map(|step| step * 10_u64.pow(power)));
    let mut widths = steps.map(|tenths| {
        Duration::from_millis(100).saturating_mul(tenths.min(u64::from(u32::MAX)) as u32)
    });
    let fits = widths.find(|width| *width > least && count(*width) <= most);
    fits.unwrap_or(Duration::MAX)
}

fn stretch(point: &Point, width: Duration, origin_us: i64) -> Option<i64> {
    let width = i64::try_from(width.as_micros()).unwrap_or(i64::MAX);
    (width > 0).then(|| (point.start_us - origin_us).div_euclid(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(start_s: i64, value: Option<f64>, readings: u32) -> Point {
        let value_or = value.unwrap_or_default();
        Point {
            start_us: start_s * 1_000_000,
            end_us: (start_s + 1) * 1_000_000,
            min: value_or - 1.0,
            mean: value_or,
            max: value_or + 1.0,
            readings: value.map_or(0, |_| readings),
            unknown: value.is_none().then(|| "gone".into()),
            place: Some(Place {
                epoch: 0,
                iter: start_s.unsigned_abs(),
            }),
        }
    }

    #[test]
    fn merged_points_keep_the_extremes_and_weigh_the_mean() {
        let points = vec![
            point(-3, Some(4.0), 1),
            point(10, Some(10.0), 3),
            point(11, Some(20.0), 1),
            point(12, None, 0),
            point(15, None, 0),
            point(16, None, 0),
        ];
        let merged = merge(points.clone(), Duration::from_secs(5), 0);
        let seen: Vec<_> = merged
            .iter()
            .map(|one| {
                (
                    one.start_us / 1_000_000,
                    one.end_us / 1_000_000,
                    one.mean,
                    one.readings,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [(-3, -2, 4.0, 1), (10, 13, 12.5, 4), (15, 17, 0.0, 0)]
        );
        assert_eq!((merged[1].min, merged[1].max), (9.0, 21.0));
        assert_eq!(merged[1].place.map(|place| place.iter), Some(12));
        assert_eq!(
            (&merged[1].unknown, merged[2].unknown.as_deref()),
            (&None, Some("gone"))
        );
        assert_eq!(merge(points.clone(), Duration::ZERO, 0), points);
    }

    #[test]
    fn the_width_is_the_smallest_with_which_they_fit() {
        let points: Vec<_> = (0..100).map(|at| point(at, Some(1.0), 1)).collect();
        let seconds =
            |most, least| width(&points, Duration::from_secs(least), most, 0).as_secs_f64();
        assert_eq!(seconds(100, 0), 0.0);
        assert_eq!(seconds(100, 1), 1.0);
        assert_eq!(seconds(99, 0), 2.0);
        assert_eq!(seconds(30, 0), 5.0);
        assert_eq!(seconds(30, 7), 7.0);
        assert_eq!(seconds(10, 7), 10.0);
        assert_eq!(seconds(1, 0), 100.0);
        assert_eq!(seconds(0, 0), 100.0);
    }
}
