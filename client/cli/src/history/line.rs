//! What one moment shows: host, trainers and GPUs. It is kept small, for a long run has many and a large one many ranks.

use super::samples::{Moment, Reading};

/// More ranks than this are shown as their sum and the largest, however wide the terminal.
pub(super) const MANY_RANKS: usize = 16;

/// A number of bytes, as far as it is known. An unknown one is never 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Bytes {
    /// It was not sampled at that time.
    #[default]
    Absent,
    Unknown,
    Known(f64),
    /// A sum of which a part is unknown.
    AtLeast(f64),
}

impl Bytes {
    fn of(reading: &Reading) -> Bytes {
        reading.value.map_or(Bytes::Unknown, Bytes::Known)
    }

    /// Together.
    pub(super) fn plus(self, other: Bytes) -> Bytes {
        use Bytes::{Absent, AtLeast, Known, Unknown};
        match (self, other) {
            (Absent, any) | (any, Absent) => any,
            (Unknown, Unknown) => Unknown,
            (Unknown, Known(n) | AtLeast(n)) | (Known(n) | AtLeast(n), Unknown) => AtLeast(n),
            (Known(a), Known(b)) => Known(a + b),
            (Known(a) | AtLeast(a), Known(b) | AtLeast(b)) => AtLeast(a + b),
        }
    }

    pub(super) fn known(self) -> Option<f64> {
        match self {
            Bytes::Known(n) | Bytes::AtLeast(n) => Some(n),
            Bytes::Absent | Bytes::Unknown => None,
        }
    }
}

/// One trainer and its child processes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RankMemory {
    pub(super) rank: i64,
    pub(super) main: Bytes,
    pub(super) children: Bytes,
}

impl RankMemory {
    fn all(self) -> Bytes {
        self.main.plus(self.children)
    }
}

/// Several of a kind as one: their sum, and which is the largest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Together {
    pub(super) sum: Bytes,
    pub(super) largest: Option<(String, f64)>,
}

impl Together {
    fn of(parts: impl Iterator<Item = (String, Bytes)>) -> Together {
        let mut together = Together::default();
        for (name, bytes) in parts {
            together.sum = together.sum.plus(bytes);
            let largest = together.largest.as_ref().map(|(_, bytes)| *bytes);
            if let Some(bytes) = bytes.known().filter(|n| largest.is_none_or(|l| *n > l)) {
                together.largest = Some((name, bytes));
            }
        }
        together
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Line {
    pub(super) attempt: i64,
    pub(super) time_unix_s: f64,
    pub(super) epoch: Option<i64>,
    pub(super) iter: Option<i64>,
    pub(super) host: Bytes,
    /// By rank; empty where there are many.
    pub(super) ranks: Vec<RankMemory>,
    /// Each rank with its children.
    pub(super) all_ranks: Together,
    /// By index.
    pub(super) gpus: Vec<(String, Bytes)>,
    pub(super) all_gpus: Together,
}

impl Line {
    pub(super) fn of(moment: &Moment) -> Line {
        let mut line = Line {
            attempt: moment.attempt,
            time_unix_s: moment.time_unix_s,
            epoch: moment.epoch,
            iter: moment.iter,
            ..Line::default()
        };
        for reading in &moment.readings {
            let bytes = Bytes::of(reading);
            match (reading.name.as_str(), reading.rank, &reading.device) {
                ("host_used_bytes", ..) => line.host = bytes,
                ("process_rss_bytes", Some(rank), _) => line.rank(rank).main = bytes,
                ("children_rss_bytes", Some(rank), _) => line.rank(rank).children = bytes,
                ("gpu_used_bytes", _, Some(device)) => line.gpus.push((device.clone(), bytes)),
                _ => {}
            }
        }
        line.ranks.sort_by_key(|one| one.rank);
        line.gpus.sort_by_key(|(index, _)| by_number(index));
        let ranks = line.ranks.iter();
        line.all_ranks = Together::of(ranks.map(|one| (one.rank.to_string(), one.all())));
        let gpus = line.gpus.iter();
        line.all_gpus = Together::of(gpus.map(|(index, bytes)| (index.clone(), *bytes)));
        if line.ranks.len() > MANY_RANKS {
            line.ranks = Vec::new();
        }
        line
    }

    fn rank(&mut self, rank: i64) -> &mut RankMemory {
        // A moment's rows come rank by rank, so the last one is nearly always it.
        let at = self.ranks.iter().rposition(|one| one.rank == rank);
        let at = at.unwrap_or_else(|| {
            self.ranks.push(RankMemory {
                rank,
                main: Bytes::Absent,
                children: Bytes::Absent,
            });
            self.ranks.len() - 1
        });
        &mut self.ranks[at]
    }
}

/// GPU 10 comes after GPU 9.
pub(super) fn by_number(index: &str) -> (u64, String) {
    (index.parse().unwrap_or(u64::MAX), index.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Bytes::{Absent, AtLeast, Known, Unknown};
    use super::*;

    #[test]
    fn a_sum_says_when_a_part_is_unknown() {
        for (a, b, sum) in [
            (Absent, Absent, Absent),
            (Absent, Unknown, Unknown),
            (Unknown, Unknown, Unknown),
            (Unknown, Known(1.0), AtLeast(1.0)),
            (Known(1.0), Known(2.0), Known(3.0)),
            (AtLeast(1.0), Known(2.0), AtLeast(3.0)),
            (AtLeast(1.0), Absent, AtLeast(1.0)),
        ] {
            assert_eq!((a.plus(b), b.plus(a)), (sum, sum), "{a:?} {b:?}");
        }
    }

    #[test]
    fn many_ranks_are_their_sum_and_the_largest() {
        let reading = |rank: i64, value| Reading {
            rank: Some(rank),
            name: "process_rss_bytes".into(),
            value,
            ..Reading::default()
        };
        let mut moment = Moment::default();
        for rank in (0..40).rev() {
            moment
                .readings
                .push(reading(rank, Some(100.0 - rank as f64)));
        }
        moment.readings[3].value = None;
        let line = Line::of(&moment);
        assert!(line.ranks.is_empty());
        assert_eq!(line.all_ranks.largest, Some(("0".to_owned(), 100.0)));
        // All but rank 36, whose 64 are not known.
        assert_eq!(line.all_ranks.sum, AtLeast(4000.0 - 780.0 - 64.0));
    }
}
