//! From which age on a number is said to be old: three times as long as its probe's interval.

use hookbus_client::inspect::proto::SnapshotReply;

/// Beyond these ages, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::top) struct Old {
    pub(in crate::top) host_s: f64,
    pub(in crate::top) process_s: f64,
    pub(in crate::top) smaps_s: f64,
    pub(in crate::top) cgroup_s: f64,
    pub(in crate::top) gpu_s: f64,
}

/// Of a probe that did not say how often it looks.
const USUAL_S: f64 = 1.0;
/// A probe that looks more often is not watched so closely: frames come once a second.
const LEAST_S: f64 = 1.0;

impl Old {
    pub(in crate::top) fn of(reply: &SnapshotReply) -> Old {
        let of = |names: &[&str]| {
            let those = reply.probes.iter();
            let those = those.filter(|probe| names.contains(&probe.name.as_str()));
            let intervals = those.map(|probe| probe.interval_s.max(probe.slowed_to_s));
            let slowest = intervals.fold(f64::NAN, f64::max);
            let interval = if slowest.is_finite() {
                slowest
            } else {
                USUAL_S
            };
            3.0 * interval.max(LEAST_S)
        };
        Old {
            host_s: of(&["host"]),
            process_s: of(&["process", "children"]),
            smaps_s: of(&["smaps"]),
            cgroup_s: of(&["cgroup"]),
            gpu_s: of(&["gpu"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::Probe;

    use super::*;

    #[test]
    fn a_probe_that_was_slowed_down_is_not_late() {
        let probe = |name: &str, interval_s, slowed_to_s| Probe {
            name: name.into(),
            interval_s,
            slowed_to_s,
            ..Default::default()
        };
        let reply = SnapshotReply {
            probes: vec![
                probe("host", 0.1, 0.0),
                probe("smaps", 10.0, 40.0),
                probe("children", 2.0, 0.0),
            ],
            ..Default::default()
        };
        let old = Old::of(&reply);
        assert_eq!((old.host_s, old.smaps_s), (3.0, 120.0));
        assert_eq!((old.process_s, old.cgroup_s), (6.0, 3.0));
    }
}
