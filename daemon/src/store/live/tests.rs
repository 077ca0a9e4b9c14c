use std::time::Duration;

use super::*;

#[test]
fn the_host_is_seen_at_once_though_its_samples_go_together() {
    let (live, start) = (Live::default(), Instant::now());
    let host = |tenth: u32| HostSample {
        at: start + Duration::from_millis(100) * tenth,
        total_bytes: 100,
        available_bytes: 100 - u64::from(tenth),
        used_bytes: u64::from(tenth),
        used_percent: 0.0,
        swap_total_bytes: 0,
        swap_used_bytes: 0,
        swap_used_percent: 0.0,
    };
    let newest = || live.of_host(|group| group.newest(Name::HostUsed));
    assert_eq!(newest(), None);
    for tenth in 0..25 {
        live.set_host(Ok(host(tenth)));
        if tenth % 4 == 0 {
            assert_eq!(newest(), Some(Some((host(tenth).at, Ok(f64::from(tenth))))));
        }
    }
    let last = Duration::from_secs(60);
    let lately = live.of_host(|group| group.lately(Name::HostUsed, last, host(24).at));
    assert_eq!(
        lately.unwrap().map(|seen| (seen.readings, seen.mean)),
        Ok((25, 12.0))
    );
    live.set_host(Err("no right".to_owned()));
    let soon = Duration::from_millis(100);
    let later = host(30).at;
    let lately = live.of_host(|group| group.lately(Name::HostUsed, soon, later));
    assert_eq!(lately, Some(Err("no right".to_owned())));
}

#[test]
fn a_change_of_who_is_watched_is_told_once() {
    let (live, mut changes) = (Live::default(), None);
    assert_eq!(live.watched_since(&mut changes), Some(vec![]));
    assert_eq!(live.watched_since(&mut changes), None);
    live.watch(1, 2);
    assert_eq!(live.watched_since(&mut changes), Some(vec![(1, 2)]));
    live.unwatch(1, 2);
    live.watch(1, 2);
    assert_eq!(live.watched_since(&mut changes), Some(vec![(1, 2)]));
    assert_eq!(live.watched_since(&mut changes), None);
}

#[test]
fn a_process_is_sampled_while_anybody_asks() {
    let live = Live::default();
    live.watch(1, 2);
    live.watch(1, 2);
    live.unwatch(1, 2);
    assert_eq!(live.watched(), [(1, 2)]);
    assert_eq!(live.process(1, 2), Err("not sampled yet".to_owned()));
    live.unwatch(1, 2);
    assert_eq!(live.watched(), []);
    assert_eq!(live.process(1, 2), Err("it is not watched".to_owned()));
    assert_eq!(live.host(), Err("not sampled yet".to_owned()));
}
