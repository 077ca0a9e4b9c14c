//! Rules as tables: what is written, what happens, what a decision is.

mod gates;
mod mistakes;
mod texts;
mod windows;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::domain::{
    Base, DeviceUse, Event, Every, HookRequest, HostSample, IncidentKind, LogLevel, LogLine, Names,
    Position, ProcessSample, Rank, Reading, Value, Way,
};
use crate::hooks::{Configured, Context, Decision, Origin, Seen, build};
use crate::store::series::{Lately, Name};
use crate::store::{Said, View, Whose};

const POINT: &str = "after_train_iter";

/// Memory as a test says it: (host or rank 0, or a GPU by its index; name; number). What is not said is not known.
#[derive(Default)]
struct Memory(Vec<(Option<u32>, Name, f64)>);

impl View for Memory {
    fn said(&self, _: Rank) -> Option<Said> {
        None
    }

    fn host(&self) -> Result<HostSample, String> {
        Err("not sampled".to_owned())
    }

    fn process(&self, _: Rank) -> Result<ProcessSample, String> {
        Err("not sampled".to_owned())
    }

    fn devices(&self, _: Rank) -> Result<Vec<DeviceUse>, String> {
        let mut gpus: Vec<u32> = self.0.iter().filter_map(|(gpu, _, _)| *gpu).collect();
        gpus.dedup();
        let used = |gpu| DeviceUse {
            gpu,
            uuid: format!("GPU-{gpu}"),
            used_bytes: Reading::known(1.0, Instant::now(), "nvml"),
        };
        Ok(gpus.into_iter().map(used).collect())
    }

    fn newest(&self, whose: Whose, name: Name) -> Result<f64, String> {
        let gpu = match whose {
            Whose::Gpu(index) => Some(index),
            Whose::Host | Whose::Rank(_) => None,
        };
        let found = self.0.iter().find(|one| (one.0, one.1) == (gpu, name));
        found.map(|one| one.2).ok_or("not sampled".to_owned())
    }

    fn lately(
        &self,
        whose: Whose,
        name: Name,
        last: Duration,
        _: Instant,
    ) -> Result<Lately, String> {
        let newest = self.newest(whose, name)?;
        Ok(Lately {
            mean: newest + last.as_secs_f64(),
            max: newest * 2.0,
            grew: (0.0, 0.0),
            readings: 1,
        })
    }
}

/// A rule with other keys, `key = TOML-like value`.
fn rule(keys: &[(&str, Value)]) -> Result<Configured, String> {
    let mut args: BTreeMap<String, Value> = [
        ("at".to_owned(), text(POINT)),
        ("do".to_owned(), text("log('yes')")),
    ]
    .into();
    args.extend(
        keys.iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone())),
    );
    let request = HookRequest {
        type_name: "Rule".to_owned(),
        name: "spike".to_owned(),
        args,
    };
    build(&request, Origin::Config)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn when(when: &str) -> Configured {
    rule(&[("when", text(when)), ("each", Value::Boolean(true))])
        .unwrap_or_else(|why| panic!("{when}: {why}"))
}

/// An event of a rank at an iteration, with these metrics.
struct At<'a> {
    rank: u32,
    iter: u64,
    metrics: &'a [(&'a str, f64)],
    held_on: &'a [Rank],
}

fn at<'a>(iter: u64, metrics: &'a [(&'a str, f64)]) -> At<'a> {
    At {
        rank: 0,
        iter,
        metrics,
        held_on: &[],
    }
}

fn put(rule: &mut Configured, at: &At<'_>, memory: &Memory) -> Vec<Decision> {
    let names = Names {
        points: vec![POINT.into()],
        metrics: at.metrics.iter().map(|(name, _)| (*name).into()).collect(),
    };
    let event = Event {
        position: Position {
            epoch: 1,
            iter: at.iter,
            inner_iter: at.iter % 100,
        },
        metrics: (0..at.metrics.len() as u32).collect(),
        values: at.metrics.iter().map(|(_, value)| *value).collect(),
        ..Event::default()
    };
    let seen = Seen {
        rank: Rank(at.rank),
        point: POINT,
        event: &event,
        names: &names,
        description: None,
        held_on: at.held_on,
    };
    let cx = Context {
        now: Instant::now(),
        view: memory,
    };
    rule.hook.on_event(&cx, &seen)
}

/// Whether it acted, at iteration 120 of epoch 1.
fn acts(rule: &mut Configured, metrics: &[(&str, f64)]) -> bool {
    !put(rule, &at(120, metrics), &Memory::default()).is_empty()
}

#[test]
fn a_condition_is_what_it_says() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (condition, loss, holds) in [
        ("loss > 3", 3.5, true),
        ("loss > 3", 3.0, false),
        ("loss > 3.0", inf, true),
        ("loss < 3.0", -inf, true),
        ("loss <= 3", inf, false),
        ("loss == loss", inf, true),
        ("loss > 3 || loss <= 3", nan, false),
        ("loss != loss", nan, true),
        // Neighbours are not the same.
        ("loss > 0.3", 0.1 + 0.2, true),
        ("loss == 0.3", 0.1 + 0.2, false),
        ("!is_finite(loss)", nan, true),
        ("!is_finite(loss)", 1e300, false),
        ("is_nan(loss)", inf, false),
        ("is_nan(loss) == false && loss >= 1", 1.0, true),
        ("is_finite(loss) != true", 1.0, false),
        ("loss / 2 == 0.5", 1.0, true),
        ("7 / 2 > 3 && loss > 0", 1.0, true),
        ("-loss < +0 && - 2 ** 2 == 4", 1.0, true),
        ("1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && loss > 0", 1.0, true),
        ("7 % 4 == 3 && 2 ** 3 == 8 && loss > 0", 1.0, true),
        ("abs(loss - 3) < 0.1 && sqrt(9) == 3", 2.95, true),
        (
            "exp(0) == 1 && ln(1) == 0 && log10(1000) == 3 && loss > 0",
            1.0,
            true,
        ),
        (
            "floor(2.7) == 2 && ceil(2.1) == 3 && round(2.5) == 3 && loss > 0",
            1.0,
            true,
        ),
        ("min(loss, 2) == 2 && max(loss, 2) == 3", 3.0, true),
        (
            "iter == 120 && epoch == 1 && inner_iter == 20 && rank == 0 && loss > 0",
            1.0,
            true,
        ),
        ("iter % 50 == 20 && iter / 100 > 1.1 && loss > 0", 1.0, true),
        ("true || loss > 3", 1.0, true),
        ("!(loss > 3) && false", 1.0, false),
        ("metric('loss') > 3", 4.0, true),
        ("loss > 1e-3 && loss < 1_000", 1.0, true),
        ("loss\n  > 3", 4.0, true),
    ] {
        assert_eq!(
            acts(&mut when(condition), &[("loss", loss)]),
            holds,
            "{condition} at {loss}"
        );
    }
    assert!(acts(
        &mut when("metric('val/acc') > 0.5 && lr > 0"),
        &[("lr", 0.1), ("val/acc", 0.6)]
    ));
}

#[test]
fn where_something_is_not_known_nothing_is_decided() {
    for condition in [
        "loss > 3 || acc > 3",
        "loss > 3 || process_rss_bytes > 3",
        "true || ago(loss, 1) > 0",
    ] {
        assert!(!acts(&mut when(condition), &[("loss", 4.0)]), "{condition}");
    }
    let mut rule = rule(&[
        ("when", text("loss > 3")),
        ("do", text("log('acc ' + acc)")),
    ])
    .unwrap();
    assert!(!acts(&mut rule, &[("loss", 4.0)]));
    assert!(
        acts(&mut rule, &[("loss", 4.0), ("acc", 1.0)]),
        "it was not true before"
    );
    assert_eq!(rule.hook.take_errors(), Vec::<String>::new());
}

#[test]
fn memory_is_the_newest_number_and_of_gpus_the_largest() {
    let memory = Memory(vec![
        (None, Name::HostAvailable, 5.0),
        (None, Name::CgroupLimit, f64::INFINITY),
        (None, Name::WorkersPss, 7.0),
        (Some(2), Name::GpuUsed, 30.0),
        (Some(3), Name::GpuUsed, 20.0),
        (Some(3), Name::GpuBusy, 99.0),
    ]);
    for (condition, acts) in [
        ("host_available_bytes == 5", true),
        ("workers_pss_bytes < cgroup_limit_bytes", true),
        ("gpu_used_bytes == 30", true),
        ("mean_s(host_available_bytes, 60) == 65", true),
        ("highest_s(gpu_used_bytes, 600) == 60", true),
        ("ewma(workers_pss_bytes, 10) == 7", true),
        // Of one GPU it is not known.
        ("gpu_busy_percent == 99", false),
        ("swap_used_bytes >= 0", false),
    ] {
        let decisions = put(&mut when(condition), &at(120, &[]), &memory);
        assert_eq!(!decisions.is_empty(), acts, "{condition}");
    }
}

#[test]
fn it_acts_where_the_condition_becomes_true_or_each_time() {
    let losses = [1.0, 4.0, 4.0, f64::NAN, 4.0, 1.0, 4.0];
    for (each, acted) in [(false, vec![1, 4, 6]), (true, vec![1, 2, 4, 6])] {
        let keys = [("when", text("loss > 3")), ("each", Value::Boolean(each))];
        let mut rule = rule(&keys).unwrap();
        let mut at_iter = Vec::new();
        for (iter, loss) in losses.into_iter().enumerate() {
            let metrics = [("loss", loss)];
            if !put(&mut rule, &at(iter as u64, &metrics), &Memory::default()).is_empty() {
                at_iter.push(iter);
            }
        }
        assert_eq!(at_iter, acted, "each {each}");
    }
}

#[test]
fn it_asks_for_what_it_reads_and_no_more() {
    let n = |n| ("every", Value::Integer(n));
    for (condition, keys, every, fields) in [
        (
            "loss > acc",
            vec![n(10)],
            Some((Base::Iter, 10)),
            vec!["loss", "acc"],
        ),
        ("iter > 3", vec![], Some((Base::Iter, 1)), vec![]),
        (
            "host_used_bytes > mean_s(host_used_bytes, 9) && metric('a/b') > 0",
            vec![],
            Some((Base::Iter, 1)),
            vec!["a/b"],
        ),
        (
            "loss > mean(lr * 2, 9)",
            vec![n(10)],
            None,
            vec!["loss", "lr"],
        ),
        (
            "loss > 0",
            vec![n(10), ("at", text("after_val_iter"))],
            Some((Base::InnerIter, 10)),
            vec!["loss"],
        ),
        (
            "loss > 0",
            vec![n(2), ("at", text("after_val_epoch"))],
            Some((Base::Epoch, 2)),
            vec!["loss"],
        ),
        (
            "loss > 0",
            vec![("at", text("after_train"))],
            None,
            vec!["loss"],
        ),
        (
            "loss > 0",
            vec![("do", text("log('lr ' + lr)"))],
            Some((Base::Iter, 1)),
            vec!["loss", "lr"],
        ),
    ] {
        let mut all = vec![("when", text(condition))];
        all.extend(keys);
        let wishes = rule(&all).unwrap().hook.subscriptions();
        let [wish] = wishes.as_slice() else {
            panic!("{condition}: {wishes:?}")
        };
        let expected = every.map_or(Every::ALWAYS, |(base, n)| Every::n(base, n));
        assert_eq!(
            (wish.every, wish.way),
            (expected, Way::Observe),
            "{condition}"
        );
        assert_eq!(wish.fields, fields, "{condition}");
    }
    let never = rule(&[("when", text("mean(loss, 9) > 0")), n(0)]).unwrap();
    assert_eq!(never.hook.subscriptions()[0].every, Every::n(Base::Iter, 0));
}

#[test]
fn what_was_true_survives_the_daemon() {
    let keys = [("when", text("loss > 3"))];
    let mut before = rule(&keys).unwrap();
    assert!(acts(&mut before, &[("loss", 4.0)]));
    let mut after = rule(&keys).unwrap();
    after.hook.restore(&before.hook.state()).unwrap();
    assert!(!acts(&mut after, &[("loss", 4.0)]), "it did already");
    assert!(acts(&mut rule(&keys).unwrap(), &[("loss", 4.0)]));
    assert!(
        when("loss > 3").hook.state().is_null(),
        "nothing to remember"
    );
    for state in [
        serde_json::json!({}),
        serde_json::json!({"ranks": [{"rank": -1}]}),
        serde_json::json!({"ranks": [{"rank": 0, "was_true": true, "held": 3}]}),
    ] {
        assert!(after.hook.restore(&state).is_err(), "{state}");
    }
}

/// What an event of the rule in the guide costs, here and now: `cargo test --release rule -- --ignored --nocapture`.
#[test]
#[ignore = "it measures, and prints"]
fn what_an_event_costs() {
    let condition = "loss > 3.0 * ewma(loss, 100) && iter > 500";
    for (name, condition, every) in [
        ("the issue's rule, every 10", condition, 10),
        ("the issue's rule, every 1", condition, 1),
        ("loss > 3", "loss > 3", 1),
        ("loss > mean(loss, 100)", "loss > 9 * mean(loss, 100)", 1),
        (
            "loss > mean(loss, 10000)",
            "loss > 9 * mean(loss, 10000)",
            1,
        ),
    ] {
        let keys = [("when", text(condition)), ("every", Value::Integer(every))];
        let mut rule = rule(&keys).unwrap();
        let names = Names {
            points: vec![POINT.into()],
            metrics: vec!["lr".into(), "loss".into()],
        };
        let mut event = Event {
            metrics: vec![0, 1],
            values: vec![0.1, 0.5],
            ..Event::default()
        };
        let memory = Memory::default();
        let cx = Context {
            now: Instant::now(),
            view: &memory,
        };
        let rounds = 200_000_u32;
        let start = Instant::now();
        for iter in 0..rounds {
            event.position.iter = u64::from(iter);
            event.values[1] = 0.5 + f64::from(iter % 7) * 0.01;
            let seen = Seen {
                rank: Rank(0),
                point: POINT,
                event: &event,
                names: &names,
                description: None,
                held_on: &[],
            };
            assert!(rule.hook.on_event(&cx, &seen).is_empty());
        }
        println!(
            "{name}: {} ns an event",
            (start.elapsed() / rounds).as_nanos()
        );
    }
}
