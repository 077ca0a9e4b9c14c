//! The kernel kills for want of memory: which group it was, and what grew before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Run;
use crate::domain::{Incident, IncidentKind, ProcessRole, ProcessSample, Rank};
use crate::store::series::Name;
use crate::store::{View, Whose};

/// What grew is looked for within this.
const LOOKED_BACK: Duration = Duration::from_secs(60);
/// A group in which nothing was killed for so long has recovered.
const QUIET: Duration = Duration::from_secs(60);
/// Less is not called growth.
const GROWTH_BYTES: f64 = 1_048_576.0;

/// What a rank's processes have, by role. None: not known.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Taken {
    at: Instant,
    each: [Option<f64>; 4],
}

const MAIN: usize = 0;
const ROLES: [&str; 4] = [
    "the main process",
    "the data-loader workers",
    "other child processes",
    "/dev/shm",
];

/// One rank's memory of late, and how many kills its group had.
#[derive(Debug, Default)]
pub(super) struct Watched {
    kills: Option<(String, f64)>,
    taken: VecDeque<Taken>,
}

impl Run {
    /// The memory of ranks that was not looked at yet. What is killed after this is seen to be new.
    pub(in crate::bus) fn look_at_new(&mut self, view: &dyn View, now: Instant) {
        if self.memory.len() < self.members.len() {
            let ranks = self.members.keys().copied();
            self.look_at_each(
                ranks
                    .filter(|rank| !self.memory.contains_key(rank))
                    .collect(),
                view,
                now,
            );
        }
    }

    /// Once a second.
    pub(in crate::bus) fn look_at_memory(&mut self, view: &dyn View, now: Instant) {
        self.look_at_each(self.members.keys().copied().collect(), view, now);
    }

    fn look_at_each(&mut self, ranks: Vec<Rank>, view: &dyn View, now: Instant) {
        for rank in ranks {
            if let Ok(sample) = view.process(rank) {
                self.look_at(rank, &sample, view, now);
            }
        }
        let open = self.incidents.open_of(IncidentKind::OutOfMemory);
        let where_is = |rank: Rank| {
            let member = self.members.get(&rank)?;
            member.ended.is_none().then_some(member.position.iter)
        };
        for id in recovered(&open, where_is, now) {
            self.close_incident(&id, now);
        }
    }

    fn look_at(&mut self, rank: Rank, sample: &ProcessSample, view: &dyn View, now: Instant) {
        if let (Ok(rss), Some(member)) = (&sample.rss_bytes.value, self.members.get_mut(&rank)) {
            member.saw_rss(*rss as u64);
        }
        let watched = self.memory.entry(rank).or_default();
        watched.add(Taken::of(sample, now));
        let Ok(group) = &sample.cgroup else { return };
        let Ok(kills) = group.oom_kills.value else {
            return;
        };
        let before = watched.kills.replace((group.limit_path.clone(), kills));
        let Some((_, before)) = before.filter(|(path, _)| *path == group.limit_path) else {
            return;
        };
        if kills <= before {
            return;
        }
        let (more, path) = (kills - before, &group.limit_path);
        let processes = if more == 1.0 {
            "a process"
        } else {
            "processes"
        };
        let limit = match group.limit_bytes.value {
            Ok(bytes) if bytes.is_finite() => format!("limit {}", mib(bytes)),
            Ok(_) => "no limit of its own".to_owned(),
            Err(_) => "limit unknown".to_owned(),
        };
        // The main process is looked at more often than this is called.
        let main = view.lately(Whose::Rank(rank), Name::ProcessRss, LOOKED_BACK, now);
        let grew = watched.growth(main.map_or((0.0, 0.0), |main| main.grew));
        let counted = if group
            .oom_kills
            .source
            .contains("since the group was removed")
        {
            "; the group is gone, counted in the one above it"
        } else {
            ""
        };
        let text = format!(
            "the kernel killed {processes} for want of memory ({more} in cgroup {path}, {limit}{counted}): {grew}"
        );
        // Ranks that share a group tell of one kill once.
        let id = format!("oom/{}/{path}/{kills}", self.attempt);
        let at = self.members[&rank].position;
        tracing::warn!(run = %self.id, %rank, text, "out of memory");
        self.open_incident(id, IncidentKind::OutOfMemory, text, Some(rank), at, now);
    }
}

/// Which of the open incidents are over: nothing more was killed in the group for a while, and the rank that saw it has
/// gone or has trained on since. `where_is`: a rank's iteration; None: it has gone. One that stands still stays open.
fn recovered(
    open: &[(Incident, Instant)],
    where_is: impl Fn(Rank) -> Option<u64>,
    now: Instant,
) -> Vec<String> {
    let group = |id: &str| id.rsplit_once('/').map(|(group, _)| group.to_owned());
    let is_over = |(one, _): &&(Incident, Instant)| {
        let of_group = open
            .iter()
            .filter(|(other, _)| group(&other.id) == group(&one.id));
        let is_quiet = of_group
            .map(|(_, at)| *at)
            .all(|at| now.saturating_duration_since(at) >= QUIET);
        let iter = one.rank.and_then(&where_is);
        is_quiet && iter.is_none_or(|iter| iter > one.at.iter)
    };
    let over = open.iter().filter(is_over);
    over.map(|(one, _)| one.id.clone()).collect()
}

impl Taken {
    fn of(sample: &ProcessSample, now: Instant) -> Self {
        let sum = |role: ProcessRole| {
            let children = sample.children.as_ref().ok()?;
            let of_role = children.iter().filter(|child| child.role == role);
            of_role
                .map(|child| child.rss_bytes.value.as_ref().ok().copied())
                .sum::<Option<f64>>()
        };
        Self {
            at: now,
            each: [
                sample.rss_bytes.value.as_ref().ok().copied(),
                sum(ProcessRole::Worker),
                sum(ProcessRole::Child),
                sample.shm.as_ref().ok().map(|shm| shm.used_bytes as f64),
            ],
        }
    }
}

impl Watched {
    fn add(&mut self, taken: Taken) {
        let is_old = |first: &Taken| taken.at.duration_since(first.at) > LOOKED_BACK;
        while self.taken.front().is_some_and(is_old) {
            self.taken.pop_front();
        }
        self.taken.push_back(taken);
    }

    /// From the least to the most after it, by role, the largest growth first.
    fn growth(&self, main: (f64, f64)) -> String {
        let mut grew: Vec<_> = (0..ROLES.len())
            .filter_map(|role| {
                let (mut least, mut best) = (f64::INFINITY, (0.0, 0.0));
                if role == MAIN {
                    best = main;
                }
                for value in self.taken.iter().filter_map(|taken| taken.each[role]) {
                    least = least.min(value);
                    if value - least > best.0 {
                        best = (value - least, value);
                    }
                }
                (best.0 >= GROWTH_BYTES).then_some((ROLES[role], best.0, best.1))
            })
            .collect();
        grew.sort_by(|a, b| b.1.total_cmp(&a.1));
        let span = match (self.taken.front(), self.taken.back()) {
            (Some(first), Some(last)) => last.at.duration_since(first.at).as_secs(),
            _ => 0,
        };
        if grew.is_empty() {
            return format!(
                "nothing of this trainer was seen growing in the last {span} s; what grows faster than it is looked at is not seen"
            );
        }
        let each: Vec<_> = grew
            .iter()
            .map(|(role, by, to)| format!("{role} grew by {} to {}", mib(*by), mib(*to)))
            .collect();
        format!("in the last {span} s {} when last seen", each.join(", "))
    }
}

fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / GROWTH_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    #[test]
    fn what_grew_most_is_named_first_and_what_is_old_is_forgotten() {
        let start = Instant::now();
        let mut watched = Watched::default();
        let taken = |s: u64, main: f64, workers: Option<f64>| Taken {
            at: start + Duration::from_secs(s),
            each: [
                Some(main * MIB),
                workers.map(|mib| mib * MIB),
                Some(0.0),
                None,
            ],
        };
        watched.add(taken(0, 1.0, Some(0.0)));
        for s in 0..30 {
            watched.add(taken(
                70 + s,
                100.0 + s as f64,
                Some(50.0 + 10.0 * s as f64),
            ));
        }
        // Killed: what is left is not what grew.
        watched.add(taken(100, 100.0, Some(0.0)));
        watched.add(taken(101, 100.0, None));
        assert_eq!(
            watched.growth((500.0 * MIB, 600.0 * MIB)),
            "in the last 31 s the main process grew by 500.0 MiB to 600.0 MiB, the data-loader workers grew by 290.0 MiB to \
             340.0 MiB when last seen"
        );
    }

    #[test]
    fn a_kill_is_over_once_the_group_is_quiet_and_its_rank_gone_or_further() {
        let start = Instant::now();
        let killed = |path: &str, count: u32, s: u64| {
            let one = Incident {
                id: format!("oom/0/{path}/{count}"),
                kind: IncidentKind::OutOfMemory,
                text: String::new(),
                open: true,
                rank: Some(Rank(1)),
                at: crate::domain::Position {
                    iter: 50,
                    ..Default::default()
                },
            };
            (one, start + Duration::from_secs(s))
        };
        let open = [
            killed("/a", 1, 0),
            killed("/a", 2, 30),
            killed("/b/c", 1, 0),
        ];
        let over = |s: u64, iter: Option<u64>| {
            let ids = recovered(&open, |_| iter, start + Duration::from_secs(s));
            ids.iter().map(|id| id[6..].to_owned()).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        // After so many seconds, with the rank there (None: gone), these are over.
        assert_eq!(over(59, None), none);
        assert_eq!(over(60, None), ["/b/c/1"]);
        assert_eq!(over(60, Some(51)), ["/b/c/1"]);
        assert_eq!(over(90, None), ["/a/1", "/a/2", "/b/c/1"]);
        assert_eq!(over(90, Some(51)), ["/a/1", "/a/2", "/b/c/1"]);
        assert_eq!(over(3600, Some(50)), none, "it stands where it stood");
    }

    #[test]
    fn what_was_not_seen_is_said() {
        let mut watched = Watched::default();
        watched.add(Taken {
            at: Instant::now(),
            each: [None; 4],
        });
        assert!(
            watched
                .growth((0.0, 0.0))
                .starts_with("nothing of this trainer was seen growing")
        );
    }
}
