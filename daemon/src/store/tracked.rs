//! A rank whose memory is looked at, and the view that hooks of its run have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::series::{Kind, Lately, Name, Number, Track};
use super::{Live, ProcessKey, Said, View, Whose};
use crate::domain::{
    DeviceUse, HostSample, Position, ProcessSample, Rank, Reading, RunId, devices,
};

/// A rank's series, and its process as long as that is sampled. Both end with it.
#[derive(Debug)]
pub struct Tracked {
    live: Live,
    track: Arc<Track>,
    watched: Option<ProcessKey>,
    ended: bool,
}

impl Tracked {
    pub(super) fn new(live: Live, track: Arc<Track>) -> Self {
        Self {
            live,
            track,
            watched: None,
            ended: false,
        }
    }

    /// Its process is sampled until the rank has ended; its series stay for who looks.
    pub fn follow(&mut self, process: Option<ProcessKey>, ended: bool) {
        let wanted = process.filter(|_| !ended);
        if wanted != self.watched {
            self.unwatch();
            if let Some(process) = wanted {
                self.live.watch_for(process, &self.track);
            }
            self.watched = wanted;
        }
        if ended != self.ended {
            self.ended = ended;
            self.live.has_ended(&self.track, ended);
        }
    }

    /// Where its training is now.
    pub fn reach(&self, position: Position, now: Instant) {
        self.track.reach(position, now);
    }

    /// Writes down where its training is.
    pub fn note(&self, now: Instant) {
        self.track.note(now);
    }

    /// A number that its trainer sent.
    pub fn add(&self, number: &Number) {
        self.track.add(number);
    }

    /// What its trainer's client says of its memory, where the process cannot be seen.
    pub fn say(&self, said: Said) {
        self.track.say(said);
    }

    /// The newest number of a series, and when it was read or tried.
    pub fn newest(&self, name: Name) -> Option<(Instant, Result<f64, String>)> {
        self.track.newest(name)
    }

    fn unwatch(&mut self) {
        if let Some(process) = self.watched.take() {
            self.live.unwatch_for(process, &self.track);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.unwatch();
    }
}

/// What hooks of one run see.
#[derive(Clone, Debug)]
pub struct RunView {
    live: Live,
    run: RunId,
}

impl RunView {
    /// Of this run.
    pub fn new(live: Live, run: RunId) -> Self {
        Self { live, run }
    }

    /// A rank's process and its newest sample, or why there is none.
    fn process_of(&self, rank: Rank) -> Result<(u32, ProcessSample), String> {
        let seen = self.live.process_of(&self.run, rank);
        seen.map_err(|why| self.said(rank).map_or(why, |said| said.unseen))
    }
}

impl View for RunView {
    fn host(&self) -> Result<HostSample, String> {
        self.live.host()
    }

    fn process(&self, rank: Rank) -> Result<ProcessSample, String> {
        let (_, sample) = self.process_of(rank)?;
        Ok(sample)
    }

    fn said(&self, rank: Rank) -> Option<Said> {
        self.live.track_of(&self.run, rank)?.said()
    }

    fn devices(&self, rank: Rank) -> Result<Vec<DeviceUse>, String> {
        let gpus = self.live.gpus()?;
        let (main, sample) = self.process_of(rank)?;
        devices::of_tree(main, &sample, &gpus)
    }

    fn newest(&self, whose: Whose, name: Name) -> Result<f64, String> {
        match whose {
            Whose::Host => self.live.of_host(|group| group.present(name)),
            Whose::Gpu(index) => self.live.of_gpu(index, |group| group.present(name)),
            Whose::Rank(rank) => {
                let track = self.live.track_of(&self.run, rank);
                track.map(|track| track.present(name))
            }
        }
        .ok_or("not sampled yet")?
    }

    fn lately(
        &self,
        whose: Whose,
        name: Name,
        last: Duration,
        now: Instant,
    ) -> Result<Lately, String> {
        let none = || "not sampled yet".to_owned();
        match whose {
            Whose::Host => self.live.of_host(|group| group.lately(name, last, now)),
            Whose::Gpu(index) => (self.live).of_gpu(index, |group| group.lately(name, last, now)),
            Whose::Rank(rank) => {
                let track = self.live.track_of(&self.run, rank);
                track.map(|track| track.lately(name, last, now))
            }
        }
        .ok_or_else(none)?
    }

    fn has_sampled(&self, rank: Rank) -> bool {
        let track = self.live.track_of(&self.run, rank);
        track.is_some_and(|track| track.newest(Name::ProcessRss).is_some())
    }

    fn numbers(&self, rank: Rank, now: Instant) -> Vec<(&'static str, Option<u32>, Reading)> {
        let track = self.live.track_of(&self.run, rank);
        let (gpus, no_gpu) = match self.devices(rank) {
            Ok(gpus) if gpus.is_empty() => (gpus, "this rank uses no GPU".to_owned()),
            Ok(gpus) => (gpus, String::new()),
            Err(why) => (Vec::new(), why),
        };
        let each = Name::ALL.into_iter().flat_map(|name| {
            match name.kind() {
                Kind::Host => vec![(
                    None,
                    self.live.of_host(|group| group.newest(name)).flatten(),
                )],
                Kind::Rank => vec![(None, track.as_ref().and_then(|track| track.newest(name)))],
                Kind::Gpu if gpus.is_empty() => vec![(None, Some((now, Err(no_gpu.clone()))))],
                Kind::Gpu => {
                    let of = |index| {
                        self.live
                            .of_gpu(index, |group| group.newest(name))
                            .flatten()
                    };
                    gpus.iter()
                        .map(|gpu| (Some(gpu.gpu), of(gpu.gpu)))
                        .collect()
                }
            }
            .into_iter()
            .map(move |(gpu, newest)| {
                let not_yet = || (now, Err("not sampled yet".to_owned()));
                let (at, value) = newest.unwrap_or_else(not_yet);
                let source = "series";
                (name.word(), gpu, Reading { value, at, source })
            })
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{Clock, Detail, OwnMemory, Reading};

    fn run() -> RunId {
        RunId {
            name: "digits".into(),
            launch: "1".into(),
        }
    }

    fn sample(at: Instant, rss_bytes: f64) -> ProcessSample {
        ProcessSample {
            rss_bytes: Reading::known(rss_bytes, at, "statm"),
            detail: Detail::unknown("not read", at, "smaps"),
            children: Err("not looked for".into()),
            children_at: at,
            cgroup: Err("no cgroup".into()),
            shm: Err("no /dev/shm".into()),
            visible_devices: None,
        }
    }

    fn rss(view: &RunView, last_s: u64, now: Instant) -> Result<(f64, f64), String> {
        let last = Duration::from_secs(last_s);
        let seen = view.lately(Whose::Rank(Rank(3)), Name::ProcessRss, last, now)?;
        Ok((seen.mean, seen.max))
    }

    #[test]
    fn a_rank_is_sampled_until_it_has_ended_and_its_series_stay_as_long_as_it_is_held() {
        let live = Live::default();
        let view = RunView::new(live.clone(), run());
        let start = Instant::now();
        let none = Err("not sampled yet".to_owned());
        assert_eq!(rss(&view, 10, start), none);
        let mut tracked = live.track(&run(), Rank(3), start);
        tracked.follow(Some((7, 70)), false);
        assert_eq!(live.watched(), [(7, 70)]);
        for (s, bytes) in [(0, 10.0), (1, 20.0), (2, 60.0)] {
            let at = start + Duration::from_secs(s);
            live.set_process((7, 70), sample(at, bytes));
        }
        let now = start + Duration::from_millis(2500);
        assert_eq!(rss(&view, 10, now), Ok((30.0, 60.0)));
        assert_eq!(rss(&view, 1, now), Ok((60.0, 60.0)));
        let newest = view.process(Rank(3)).unwrap().rss_bytes.value;
        assert_eq!(newest, Ok(60.0));
        let newest = |rank| view.newest(Whose::Rank(Rank(rank)), Name::ProcessRss);
        assert_eq!(
            (newest(3), newest(0)),
            (Ok(60.0), Err("not sampled yet".into()))
        );
        assert!(view.process(Rank(0)).is_err());
        let numbers = |rank| {
            let each = view.numbers(Rank(rank), now).into_iter();
            let each = each.map(|(name, gpu, number)| ((name, gpu), number.value));
            each.collect::<BTreeMap<_, _>>()
        };
        let of_rank = numbers(3);
        assert_eq!(of_rank[&("process_rss_bytes", None)], Ok(60.0));
        let not_yet = Err("not sampled yet".to_owned());
        assert_eq!(of_rank[&("host_available_bytes", None)], not_yet);
        assert!(of_rank[&("gpu_used_bytes", None)].is_err());
        assert!(view.has_sampled(Rank(3)) && !view.has_sampled(Rank(0)));
        let of_other = numbers(0);
        assert_eq!(
            of_other.len(),
            Name::ALL.len(),
            "each says why it is not known"
        );
        assert!(of_other.values().all(Result::is_err), "{of_other:?}");
        let mut gone = sample(start + Duration::from_secs(3), 0.0);
        gone.rss_bytes.value = Err("no such process".into());
        live.set_process((7, 70), gone);
        assert_eq!(newest(3), Err("no such process".to_owned()));
        tracked.follow(Some((7, 70)), true);
        assert_eq!(live.watched(), []);
        assert_eq!(rss(&view, 10, now), Ok((30.0, 60.0)));
        drop(tracked);
        assert_eq!(rss(&view, 10, now), none);
        assert!(live.tracks(&run()).is_empty());
    }

    #[test]
    fn a_resident_set_size_alone_needs_a_sample_and_is_seen_at_once() {
        let live = Live::default();
        let view = RunView::new(live.clone(), run());
        let start = Instant::now();
        let mut tracked = live.track(&run(), Rank(3), start);
        tracked.follow(Some((7, 70)), false);
        let at = |tenth: u32| start + Duration::from_millis(100) * tenth;
        let reading = |tenth| Reading::known(f64::from(tenth), at(tenth), "statm");
        assert!(
            !live.set_resident((7, 70), &reading(0)),
            "nothing else of it is known"
        );
        live.set_process((7, 70), sample(at(0), 0.0));
        let mut position = Position {
            epoch: 0,
            iter: 5,
            inner_iter: 5,
        };
        for tenth in 1..=25_u32 {
            position.iter = u64::from(tenth);
            tracked.reach(position, at(tenth));
            assert!(live.set_resident((7, 70), &reading(tenth)));
            if tenth % 4 == 0 {
                let seen = rss(&view, 10, at(tenth));
                assert_eq!(seen, Ok((f64::from(tenth) / 2.0, f64::from(tenth))));
            }
        }
        let newest = view.process(Rank(3)).unwrap();
        assert_eq!(newest.rss_bytes, reading(25));
        assert_eq!(newest.cgroup, sample(start, 0.0).cgroup);
        let track = live.track_of(&run(), Rank(3)).expect("it is held");
        let clock = Clock {
            at: start,
            unix: Duration::from_secs(1),
        };
        let place = track.positions(|seen| seen.at(clock.unix_us(at(17)), clock));
        assert_eq!(place.map(|place| place.iter), Some(17), "as it was then");
        let failed = Reading::unknown("no right", at(26), "statm");
        assert!(live.set_resident((7, 70), &failed));
        let newest = tracked.newest(Name::ProcessRss);
        assert_eq!(newest, Some((at(26), Err("no right".to_owned()))));
    }

    #[test]
    fn where_the_process_is_not_seen_there_is_what_its_client_says_and_why() {
        let live = Live::default();
        let view = RunView::new(live.clone(), run());
        let now = Instant::now();
        let mut tracked = live.track(&run(), Rank(3), now);
        tracked.follow(None, false);
        assert_eq!(view.said(Rank(3)), None);
        let said = Said {
            memory: OwnMemory {
                shm_used_bytes: Some(5),
                ..Default::default()
            },
            came: now,
            unseen: "pid namespace not shared".to_owned(),
        };
        tracked.say(said.clone());
        assert_eq!(view.said(Rank(3)), Some(said.clone()));
        assert_eq!(view.process(Rank(3)), Err(said.unseen));
        assert_eq!(view.said(Rank(0)), None);
    }

    #[test]
    fn of_the_ranks_that_have_ended_the_newest_are_kept_in_memory() {
        let live = Live::default();
        let start = Instant::now();
        let mut all: Vec<_> = (0..super::super::live::ENDED + 2)
            .map(|n| {
                let mut tracked = live.track(&run(), Rank(n as u32), start);
                let key = (n as u32, 0);
                tracked.follow(Some(key), false);
                live.set_process(key, sample(start, 1.0));
                tracked.follow(Some(key), true);
                tracked
            })
            .collect();
        let has: Vec<_> = all
            .iter()
            .map(|tracked| tracked.newest(Name::ProcessRss).is_some())
            .collect();
        assert!(!has[0] && !has[1]);
        assert!(has[2..].iter().all(|has| *has));
        // One that is back stays whatever else ends.
        all[2].follow(Some((2, 0)), false);
        for n in 0..2 {
            let mut one = live.track(&run(), Rank(1000 + n), start);
            one.follow(None, true);
            all.push(one);
        }
        assert!(all[2].newest(Name::ProcessRss).is_some());
        assert!(all[3].newest(Name::ProcessRss).is_none());
    }
}
