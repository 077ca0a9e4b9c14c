//! Hooks of a provider in one run, whose other end is this test: what is said to it, what it says, and what the trainer hears.

mod bench;

use std::time::Duration;

use bench::{Bench, gate, observe, offered};
use serde_json::json;

use crate::domain::{Deed, Hold, IncidentKind, LogLevel, LogLine, Otherwise, Size, StateText};
use crate::hooks::{Decision, Policy, Want};

fn stop(reason: &str) -> Decision {
    Decision::Stop {
        reason: reason.to_owned(),
        logs: vec![LogLine {
            level: LogLevel::Error,
            text: format!("log of {reason}"),
        }],
        incident: IncidentKind::ByHook,
    }
}

fn lr(value: f64) -> Decision {
    let hold = Hold::Value(value);
    Decision::Want(Want::Lr { group: None, hold })
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_gate_waits_for_every_hook_and_the_higher_priority_stops_it() {
    let mut bench = Bench::new(&[]);
    let hooks = [
        offered("low", 70, Policy::Act, gate(Otherwise::Continue)),
        offered("high", 10, Policy::Act, gate(Otherwise::Continue)),
    ];
    let mut end = bench.provide(1, &hooks);
    bench.attach(0);
    assert_eq!(end.heard(), ["open digits, attempt 0"]);
    assert_eq!(
        bench.plan(0),
        ["high at after_train_iter", "low at after_train_iter"]
    );
    bench.event(0, 7, f64::NAN, Some(&["low", "high"]));
    let calls = [
        "call 1: high, rank 0 at 7, gate, loss = NaN",
        "call 2: low, rank 0 at 7, gate, loss = NaN",
    ];
    assert_eq!(end.heard(), calls);
    bench.answer(1, 2, Ok(vec![stop("low")]), None);
    assert_eq!(bench.trainer(0), [""; 0], "one is missing");
    bench.answer(1, 1, Ok(vec![stop("high")]), None);
    assert_eq!(
        bench.trainer(0),
        ["gate 1: stop by high: high [log of high, log of low]"]
    );
    assert_eq!(bench.hook("high"), "1 calls, 1 decisions");
}

#[test]
fn without_an_answer_a_gate_goes_by_otherwise_and_the_next_one_does_not_wait() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("check", 50, Policy::Act, gate(Otherwise::Stop))];
    let mut end = bench.provide(1, &hooks);
    bench.attach(0);
    bench.event(0, 0, 1.0, Some(&["check"]));
    assert_eq!(end.heard().len(), 2);
    // A fifth of the deadline is for the way back.
    bench.pass(39 * MS);
    assert_eq!(bench.trainer(0), [""; 0]);
    bench.pass(MS);
    assert_eq!(bench.trainer(0), ["gate 1: stop by check: otherwise []"]);
    bench.event(0, 1, 1.0, Some(&["check"]));
    assert_eq!(bench.trainer(0), ["gate 2: stop by check: otherwise []"]);
    assert_eq!(
        end.heard(),
        ["call 2: check, rank 0 at 1, gate, loss = 1.0"],
        "it is called all the same"
    );
    assert_eq!(bench.hook("check"), "2 calls, 0 decisions, 2 timeouts");

    // Late it decides nothing; what it knows is kept, and gates wait again.
    bench.answer(1, 1, Ok(vec![stop("late")]), Some(json!({"seen": 1})));
    assert_eq!(bench.trainer(0), [""; 0]);
    assert_eq!(bench.state("check"), json!({"seen": 1}));
    bench.event(0, 2, 1.0, Some(&["check"]));
    assert_eq!(bench.trainer(0), [""; 0]);
    bench.answer(1, 2, Ok(Vec::new()), None);
    bench.answer(1, 3, Ok(Vec::new()), None);
    assert_eq!(bench.trainer(0), ["gate 3: go on []"]);
    assert_eq!(bench.hook("check"), "3 calls, 0 decisions, 2 timeouts");

    // Its answer was under way when its time was over.
    bench.event(0, 3, 1.0, Some(&["check"]));
    bench.late_answer(1, 4, Ok(Vec::new()), 41 * MS);
    assert_eq!(bench.trainer(0), ["gate 4: stop by check: otherwise []"]);
    assert_eq!(bench.hook("check"), "4 calls, 0 decisions, 3 timeouts");
}

#[test]
fn calls_are_made_again_on_another_connection_after_the_state() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("a", 50, Policy::Act, observe())];
    let mut end = bench.provide(1, &hooks);
    bench.attach(0);
    for iter in 0..3 {
        bench.event(0, iter, 0.5, None);
    }
    bench.answer(1, 1, Ok(Vec::new()), Some(json!(17)));
    assert_eq!(end.heard().len(), 4);
    bench.leave("its provider was killed");
    assert_eq!(
        bench.hook("a"),
        "3 calls, 0 decisions, 1 errors, away: its provider was killed"
    );
    bench.event(0, 3, 0.5, None);
    let mut end = bench.provide(2, &hooks);
    let again = [
        "open digits, attempt 0, a = 17",
        "call 2: a, rank 0 at 1, loss = 0.5",
        "call 3: a, rank 0 at 2, loss = 0.5",
        "call 4: a, rank 0 at 3, loss = 0.5",
    ];
    assert_eq!(end.heard(), again);
    bench.answer(1, 2, Ok(vec![lr(9.0)]), None);
    assert_eq!(bench.trainer(0), [""; 0], "that connection is gone");
    bench.answer(2, 2, Ok(vec![lr(0.25)]), None);
    assert_eq!(
        bench.trainer(0),
        ["state: lr held at 0.25, from the next boundary (a)"]
    );
    assert_eq!(bench.hook("a"), "4 calls, 1 decisions, 1 errors");

    // The next attempt is another run to it.
    bench.restart(0);
    bench.attach(0);
    assert_eq!(end.heard(), ["close", "open digits, attempt 1"]);
    assert_eq!(bench.hook("a"), "0 calls, 0 decisions");
}

#[test]
fn a_hook_that_fails_again_and_again_is_off_and_an_answer_between_counts() {
    let mut bench = Bench::new(&[]);
    let hooks = [
        offered("bad", 50, Policy::Act, observe()),
        offered("good", 50, Policy::Act, observe()),
    ];
    let mut end = bench.provide(1, &hooks);
    bench.attach(0);
    // (whether "bad" raises, in each iteration)
    for (iter, raises) in (0..).zip([true, true, true, true, false, true, true, true, true]) {
        bench.event(0, iter, 0.5, None);
        let said = if raises {
            Err("ValueError: no")
        } else {
            Ok(Vec::new())
        };
        bench.answer(1, 2 * iter + 1, said, None);
        bench.answer(1, 2 * iter + 2, Ok(Vec::new()), None);
    }
    let both = ["bad at after_train_iter", "good at after_train_iter"];
    assert_eq!(bench.plan(0), both, "four in a row are not enough");
    bench.event(0, 9, 0.5, None);
    bench.answer(1, 19, Err("ValueError: no"), None);
    let off = "it failed 5 times in a row, last: ValueError: no";
    assert_eq!(bench.plan(0), both[1..]);
    assert_eq!(
        bench.hook("bad"),
        format!("10 calls, 0 decisions, 9 errors, off: {off}")
    );
    assert_eq!(
        bench.incidents(),
        [format!("hook_failed: hook bad is off: {off}")]
    );
    end.heard();
    bench.event(0, 50, 0.5, None);
    assert_eq!(end.heard().len(), 1, "the other one goes on");
}

#[test]
fn a_hook_that_hangs_is_off_and_one_that_is_slow_is_not() {
    let second = 1000 * MS;
    let mut bench = Bench::new(&[]);
    let hooks = [
        offered("hangs", 50, Policy::Act, observe()),
        offered("slow", 50, Policy::Act, observe()),
    ];
    let _end = bench.provide(1, &hooks);
    bench.attach(0);
    for iter in 0..20 {
        bench.event(0, iter, 0.5, None);
    }
    for n in 0..10 {
        bench.pass(9 * second);
        bench.answer(1, 2 * n + 2, Ok(Vec::new()), None);
    }
    assert_eq!(bench.hook("slow"), "20 calls, 0 decisions");
    let hangs = bench.hook("hangs");
    assert!(
        hangs.contains(
            "5 timeouts, off: it failed 5 times in a row, last: no answer within 10000 ms"
        ),
        "{hangs}"
    );
}

#[test]
fn a_hook_that_hangs_in_its_gates_is_off_too() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("check", 50, Policy::Act, gate(Otherwise::Continue))];
    let _end = bench.provide(1, &hooks);
    bench.attach(0);
    for iter in 0..8 {
        bench.event(0, iter, 1.0, Some(&["check"]));
        bench.pass(40 * MS);
        let heard = bench.trainer(0);
        assert_eq!(heard, [format!("gate {}: go on []", iter + 1)]);
    }
    assert_eq!(bench.hook("check"), "8 calls, 0 decisions, 8 timeouts");
    for _ in 0..4 {
        bench.pass(10_000 * MS);
    }
    let off = "it failed 5 times in a row, last: no answer within 10000 ms";
    assert_eq!(
        bench.hook("check"),
        format!("8 calls, 0 decisions, 8 timeouts, off: {off}")
    );
}

#[test]
fn what_a_hook_is_too_far_behind_for_is_counted_as_missed() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("a", 50, Policy::Act, observe())];
    let mut end = bench.provide_with(1, &hooks, 16);
    bench.attach(0);
    let all = crate::providers::OUTSTANDING as u64 + 5;
    for iter in 0..all {
        bench.event(0, iter, 0.5, None);
    }
    assert_eq!(bench.hook("a"), "1024 calls, 0 decisions, 5 missed");
    assert_eq!(end.heard().len(), 16, "its connection takes no more");
    for id in 1..16 {
        bench.answer(1, id, Ok(Vec::new()), None);
    }
    let more = end.heard();
    assert_eq!(more.len(), 16);
    assert_eq!(more[0], "call 16: a, rank 0 at 15, loss = 0.5");
    bench.event(0, all, 0.5, None);
    assert_eq!(bench.hook("a"), "1025 calls, 0 decisions, 5 missed");
}

#[test]
fn of_two_that_want_the_same_the_higher_priority_has_it_also_if_it_answers_later() {
    let mut bench = Bench::new(&[]);
    let hooks = [
        offered("high", 10, Policy::Act, observe()),
        offered("low", 70, Policy::Act, observe()),
    ];
    let _end = bench.provide(1, &hooks);
    for rank in 0..2 {
        bench.attach(rank);
    }
    for rank in 0..2 {
        bench.event(rank, 5, 0.5, None);
    }
    let held = |value: f64, by: &str| {
        format!("state: lr held at {value:?}, from the next boundary ({by})")
    };
    bench.answer(1, 2, Ok(vec![lr(0.2)]), None);
    assert_eq!(bench.trainer(0), [held(0.2, "low")]);
    bench.answer(1, 1, Ok(vec![lr(0.1)]), None);
    assert_eq!(bench.trainer(0), [held(0.1, "high")]);
    bench.answer(1, 3, Ok(vec![lr(0.1)]), None);
    bench.answer(1, 4, Ok(vec![lr(0.2)]), None);
    assert_eq!(bench.trainer(0), [""; 0], "they said so for rank 0");
    assert_eq!(bench.hook("high"), "2 calls, 2 decisions");
    assert_eq!(bench.hook("low"), "2 calls, 2 decisions, 1 overruled");
    assert_eq!(bench.trainer(1), [held(0.2, "low"), held(0.1, "high")]);
}

#[test]
fn what_is_set_farther_on_holds_and_so_does_the_higher_priority_where_the_trainer_has_gone_on() {
    let mut bench = Bench::new(&[]);
    let hooks = [
        offered("high", 10, Policy::Act, observe()),
        offered("low", 70, Policy::Act, observe()),
    ];
    let _end = bench.provide(1, &hooks);
    bench.attach(0);
    for iter in 5..8 {
        bench.event(0, iter, 0.5, None);
    }
    // high has the calls 1, 3 and 5, low has 2, 4 and 6.
    bench.answer(1, 1, Ok(vec![lr(0.1)]), None);
    bench.answer(1, 2, Ok(vec![lr(0.2)]), None);
    let held = |value: f64, by: &str| {
        format!("state: lr held at {value:?}, from the next boundary ({by})")
    };
    assert_eq!(bench.trainer(0), [held(0.1, "high")]);
    assert_eq!(bench.hook("low"), "3 calls, 1 decisions, 1 overruled");
    bench.answer(1, 6, Ok(vec![lr(0.3)]), None);
    assert_eq!(
        bench.trainer(0).len(),
        1,
        "nobody else wants it at 7 so far"
    );
    bench.answer(1, 3, Ok(vec![lr(0.4)]), None);
    assert_eq!(
        bench.trainer(0),
        [""; 0],
        "the word of 7 holds over that of 6"
    );
    assert_eq!(bench.hook("high"), "3 calls, 2 decisions, 1 overruled");
    bench.answer(1, 5, Ok(vec![lr(0.4)]), None);
    assert_eq!(bench.trainer(0), [held(0.4, "high")]);
}

#[test]
fn an_answer_to_a_validation_does_not_come_after_what_the_next_epoch_was_told() {
    let mut bench = Bench::new(&[]);
    let hooks = [
        offered("slow", 10, Policy::Act, observe()),
        offered("quick", 70, Policy::Act, observe()),
    ];
    let _end = bench.provide(1, &hooks);
    bench.attach(0);
    // A validation's last iteration may be above the training's next ones.
    for iter in [9, 3, 10] {
        bench.event(0, iter, 0.5, None);
    }
    bench.answer(1, 4, Ok(vec![lr(0.3)]), None);
    assert_eq!(bench.trainer(0).len(), 1);
    for id in [2, 3, 5, 6] {
        bench.answer(1, id, Ok(Vec::new()), None);
    }
    bench.answer(1, 1, Ok(vec![lr(0.1)]), None);
    assert_eq!(bench.trainer(0), [""; 0], "it is older than the word of 3");
    assert_eq!(bench.hook("slow"), "3 calls, 1 decisions, 1 overruled");
}

#[test]
fn the_death_of_a_process_is_the_failure_of_the_hook_that_it_was_at() {
    let mut bench = Bench::new(&[]);
    let hooks = [
        offered("bad", 10, Policy::Act, observe()),
        offered("good", 70, Policy::Act, observe()),
    ];
    bench.attach(0);
    for serial in 1..6 {
        let _end = bench.provide(serial, &hooks);
        bench.event(0, serial, 0.5, None);
        bench.leave("it was killed");
    }
    assert!(
        bench
            .hook("bad")
            .contains("off: it failed 5 times in a row")
    );
    let _end = bench.provide(6, &hooks);
    for id in [2, 4, 6, 8, 10] {
        bench.answer(6, id, Ok(Vec::new()), None);
    }
    assert_eq!(bench.hook("good"), "5 calls, 0 decisions");
}

#[test]
fn what_was_late_for_one_process_is_not_for_the_next_one() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("a", 50, Policy::Act, observe())];
    let _end = bench.provide(1, &hooks);
    bench.attach(0);
    bench.event(0, 3, 0.5, None);
    bench.pass(10_000 * MS);
    assert_eq!(bench.hook("a"), "1 calls, 0 decisions, 1 timeouts");
    bench.leave("it hung");
    let _end = bench.provide(2, &hooks);
    bench.answer(2, 1, Ok(vec![stop("enough")]), None);
    assert!(
        bench
            .trainer(0)
            .join(", ")
            .contains("stop from the next boundary: enough")
    );
}

#[test]
fn a_stop_that_was_said_is_done_though_its_trainer_has_come_back_meanwhile() {
    let mut bench = Bench::new(&[]);
    let hooks = [
        offered("high", 10, Policy::Act, gate(Otherwise::Continue)),
        offered("low", 70, Policy::Act, gate(Otherwise::Continue)),
    ];
    let _end = bench.provide(1, &hooks);
    bench.attach(0);
    bench.event(0, 7, f64::NAN, Some(&["high", "low"]));
    bench.answer(1, 1, Ok(vec![stop("enough")]), None);
    bench.attach(0);
    bench.trainer(0);
    bench.answer(1, 2, Ok(Vec::new()), None);
    assert_eq!(
        bench.trainer(0),
        ["state: stop from the next boundary: enough (high)"]
    );
}

#[test]
fn where_a_gate_and_an_observation_are_both_due_the_gate_is_answered() {
    let mut bench = Bench::new(&[]);
    let mut both = offered("both", 50, Policy::Act, observe());
    both.subscriptions.push(gate(Otherwise::Stop));
    let mut end = bench.provide(1, &[both]);
    bench.attach(0);
    bench.event(0, 7, 1.0, None);
    bench.event(0, 8, f64::NAN, Some(&["both"]));
    let calls = [
        "open digits, attempt 0",
        "call 1: both, rank 0 at 7, loss = 1.0",
        "call 2: both, rank 0 at 8, gate, loss = NaN",
    ];
    assert_eq!(end.heard(), calls);
    bench.answer(1, 2, Ok(vec![stop("enough")]), None);
    let heard = bench.trainer(0);
    assert_eq!(heard, ["gate 2: stop by both: enough [log of enough]"]);
}

#[test]
fn a_stop_without_an_answer_is_an_incident_and_a_stop_not_heeded_is_one_only() {
    let mut bench = Bench::new(&[]);
    let hooks = [
        offered("check", 50, Policy::Act, gate(Otherwise::Stop)),
        offered("warns", 60, Policy::Warn, observe()),
    ];
    let _end = bench.provide(1, &hooks);
    bench.attach(0);
    bench.event(0, 0, f64::NAN, Some(&["check"]));
    bench.pass(40 * MS);
    let without =
        "gate_timed_out: hook check gave no answer at a gate, and its otherwise is stop: otherwise";
    assert_eq!(bench.incidents(), [without]);
    for iter in 1..4 {
        bench.event(0, iter, f64::NAN, None);
        bench.answer(1, 2 + iter - 1, Ok(vec![stop("enough")]), None);
    }
    let warned = "by_hook: warns would have stopped the training: enough";
    assert_eq!(bench.incidents(), [without, warned]);
}

#[test]
fn what_a_hook_may_not_do_is_counted_and_shown() {
    for (policy, does) in [
        (Policy::Act, true),
        (Policy::Warn, false),
        (Policy::Observe, false),
    ] {
        let mut bench = Bench::new(&[]);
        let hooks = [offered("a", 50, policy, observe())];
        let _end = bench.provide(1, &hooks);
        bench.attach(0);
        bench.event(0, 120, 0.5, None);
        let save = Decision::Do(Deed::Checkpoint { tag: "b".into() });
        let size = |height| Decision::Want(Want::Size(Size { height, width: 64 }));
        let said = vec![lr(0.5), save, size(64), size(0), stop("enough")];
        bench.answer(1, 1, Ok(said), None);
        let heard = bench.trainer(0).join("\n");
        let hook = bench.hook("a");
        assert_eq!(heard.contains("state:"), does, "{heard}");
        assert_eq!(heard.contains("Checkpoint"), does, "{heard}");
        assert_eq!(
            heard.contains("log: a would have stopped the training: enough"),
            policy == Policy::Warn,
            "{heard}"
        );
        let withheld = ", 4 withheld, last: would have stopped at iteration 120: enough";
        let withheld = if does { "" } else { withheld };
        let counts = format!("1 calls, 5 decisions, 1 errors{withheld}");
        assert_eq!(hook, counts, "{policy:?}: a side of no pixels is an error");
        let incidents = bench.incidents().len();
        let open = match policy {
            Policy::Act => 1,
            Policy::Warn => 4,
            Policy::Observe => 0,
        };
        assert_eq!(incidents, open, "{policy:?}: {:?}", bench.incidents());
    }
}

#[test]
fn an_incident_of_a_hook_opens_once() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("a", 50, Policy::Act, observe())];
    let _end = bench.provide(1, &hooks);
    bench.attach(0);
    for iter in 0..3 {
        bench.event(0, iter, 0.5, None);
        let said = vec![Decision::Incident("loss spike".into())];
        bench.answer(1, iter + 1, Ok(said), None);
    }
    assert_eq!(bench.incidents(), ["by_hook: a: loss spike"]);
}

#[test]
fn a_provider_that_has_left_is_in_no_run_that_begins_after_it() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("a", 50, Policy::Act, gate(Otherwise::Stop))];
    bench.provide(1, &hooks);
    bench.leave("it was ended");
    bench.attach(0);
    assert!(bench.plan(0).is_empty(), "it came and went before");
    bench.restart(0);
    bench.provide(2, &hooks);
    bench.attach(0);
    assert_eq!(bench.plan(0), ["a at after_train_iter"]);
    bench.leave("it was ended");
    assert_eq!(
        bench.plan(0),
        ["a at after_train_iter"],
        "it is this attempt's"
    );
    bench.restart(0);
    bench.attach(0);
    assert!(bench.plan(0).is_empty(), "nor in the next attempt");
}

#[test]
fn over_tcp_a_run_has_its_hooks_from_the_start_too() {
    let mut bench = Bench::new(&[]);
    bench.owner = None;
    let hooks = [offered("a", 50, Policy::Act, gate(Otherwise::Stop))];
    let mut end = bench.provide(1, &hooks);
    bench.attach(0);
    assert_eq!(bench.plan(0), ["a at after_train_iter"]);
    assert_eq!(end.heard(), ["open digits, attempt 0"]);
    bench.restart(0);
    bench.attach(0);
    assert_eq!(bench.plan(0), ["a at after_train_iter"]);
    assert_eq!(bench.refused(), [""; 0]);
}

#[test]
fn a_name_that_one_module_has_left_is_another_ones() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("a", 50, Policy::Act, observe())];
    bench.provide(1, &hooks);
    bench.attach(0);
    bench.leave("it was ended");
    let mut end = bench.hand_over(2, &hooks);
    assert_eq!(bench.refused(), [""; 0]);
    bench.event(0, 0, 0.5, None);
    assert_eq!(
        end.heard(),
        [
            "open digits, attempt 0",
            "call 1: a, rank 0 at 0, loss = 0.5"
        ]
    );
    assert_eq!(bench.hook("a"), "1 calls, 0 decisions");
}

#[test]
fn a_provider_of_another_user_is_in_nobodys_run() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("a", 50, Policy::Act, observe())];
    bench.uid = Some(65534);
    let mut end = bench.provide(1, &hooks);
    bench.attach(0);
    bench.event(0, 0, 0.5, None);
    assert!(bench.plan(0).is_empty());
    assert_eq!(end.heard(), [""; 0]);
    let why = "the hooks of module m: run digits@1 belongs to uid 1000; uid 65534 may look at it, not act on it";
    assert_eq!(bench.refused(), [why]);
    for (serial, uid) in [(2, Some(0)), (3, None)] {
        bench.uid = uid; // root's, or over TCP with an operator's token
        let mut end = bench.provide(serial, &hooks);
        assert!(bench.refused().is_empty());
        assert_eq!(end.heard(), ["open digits, attempt 0"]);
        bench.leave("it was ended");
    }
}

#[test]
fn a_provider_that_comes_while_training_observes() {
    let mut bench = Bench::new(&["CheckInvalidLossHook"]);
    bench.attach(0);
    bench.event(0, 3, 0.5, None);
    let hooks = [
        offered("watch", 50, Policy::Act, observe()),
        offered("guard", 50, Policy::Act, gate(Otherwise::Stop)),
        offered("CheckInvalidLossHook", 50, Policy::Act, observe()),
    ];
    let mut end = bench.provide(1, &hooks);
    assert_eq!(
        bench.plan(0),
        [
            "CheckInvalidLossHook at after_train_iter",
            "watch at after_train_iter"
        ]
    );
    let refused = bench.refused();
    assert_eq!(refused.len(), 2);
    assert_eq!(
        refused[0],
        "hook guard of module m: it came after the training had begun, so its gates are not in force in this attempt"
    );
    assert_eq!(
        refused[1],
        "hook CheckInvalidLossHook of module m: the config's CheckInvalidLossHook has this name already: name one of them otherwise"
    );
    assert_eq!(end.heard(), ["open digits, attempt 0"]);
    bench.event(0, 4, 0.5, None);
    assert_eq!(end.heard(), ["call 1: watch, rank 0 at 4, loss = 0.5"]);
    // One that it does not have any more is not asked for.
    let mut end = bench.provide(1, &hooks[1..]);
    assert_eq!(bench.plan(0), ["CheckInvalidLossHook at after_train_iter"]);
    bench.event(0, 5, 0.5, None);
    assert_eq!(end.heard(), [""; 0]);
    assert!(
        bench
            .hook("watch")
            .ends_with("away: its provider does not have it any more")
    );
}

#[test]
fn a_daemon_that_goes_on_from_the_journal_neither_repeats_nor_forgets() {
    let mut bench = Bench::new(&[]);
    let mut hooks = [
        offered("high", 10, Policy::Act, observe()),
        offered("low", 70, Policy::Act, gate(Otherwise::Stop)),
    ];
    (hooks[0].wants_memory, hooks[0].wants_state) = (true, true);
    let _end = bench.provide(1, &hooks);
    bench.attach(0);
    bench.event(0, 0, f64::NAN, Some(&["low"]));
    bench.event(0, 1, f64::INFINITY, None);
    bench.answer(1, 1, Ok(vec![lr(0.1)]), Some(json!({"best": 0.25})));
    let (high, low) = (bench.hook("high"), bench.hook("low"));
    let generation = bench.generation();
    let mut bench = bench.restarted();
    bench.await_provider();
    let away = "away: its provider has not come yet";
    assert_eq!(bench.hook("high"), format!("{high}, {away}"));
    assert_eq!(bench.hook("low"), format!("{low}, {away}"));
    bench.attach(0);
    assert_eq!(bench.generation(), generation);
    assert_eq!(
        bench.plan(0),
        ["high at after_train_iter", "low at after_train_iter"],
        "as before"
    );
    let mut end = bench.provide(1, &hooks);
    let again = [
        "open digits, attempt 0, high = {\"best\":0.25}",
        "call 2: low, rank 0 at 0, gate, loss = NaN",
    ];
    assert_eq!(end.heard(), again, "a call waits for its memory");
    bench.pass(MS);
    assert_eq!(end.heard(), [""; 0], "its rank was not looked at yet");
    bench.pass(2000 * MS);
    assert_eq!(
        end.heard(),
        ["call 3: high, rank 0 at 1, loss = inf, memory, state 1"]
    );
    bench.trainer(0);
    bench.answer(1, 2, Ok(vec![stop("late")]), None);
    bench.answer(1, 3, Ok(vec![lr(0.1)]), None);
    assert_eq!(
        bench.trainer(0),
        [""; 0],
        "the gate has gone on, and the rate is held"
    );
    bench.event(0, 2, 0.5, None);
    assert_eq!(
        end.heard(),
        ["call 4: high, rank 0 at 2, loss = 0.5, memory, state 1"]
    );
}

#[test]
fn a_state_is_given_back_as_it_was_written_also_by_another_daemon() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("a", 50, Policy::Act, observe())];
    let mut end = bench.provide(1, &hooks);
    bench.attach(0);
    bench.event(0, 0, 0.5, None);
    let text = format!("{{\"z\": {}, \"a\" : 1.10}}", "9".repeat(40));
    bench.answer_text(1, 1, Ok(Vec::new()), StateText::new(&text).ok());
    end.heard();
    bench.leave("its provider was killed");
    let opened = format!("open digits, attempt 0, a = {text}");
    let mut end = bench.provide(2, &hooks);
    assert_eq!(end.heard(), [opened.as_str()]);
    let mut bench = bench.restarted();
    bench.attach(0);
    let mut end = bench.provide(1, &hooks);
    assert_eq!(end.heard(), [opened.as_str()]);

    // What says that there is nothing to know again is not given back.
    bench.event(0, 1, 0.5, None);
    bench.answer_text(1, 1, Ok(Vec::new()), StateText::new(" null").ok());
    end.heard();
    let mut bench = bench.restarted();
    bench.attach(0);
    let mut end = bench.provide(1, &hooks);
    assert_eq!(end.heard(), ["open digits, attempt 0"]);
}

#[test]
fn an_attempt_that_is_over_is_closed_when_its_last_calls_are_answered() {
    let mut bench = Bench::new(&[]);
    let hooks = [offered("a", 50, Policy::Act, observe())];
    let mut end = bench.provide(1, &hooks);
    bench.attach(0);
    bench.event(0, 0, 0.5, None);
    bench.bye(0);
    bench.pass(MS);
    assert_eq!(end.heard().len(), 2, "a call is not answered");
    bench.answer(1, 1, Ok(Vec::new()), None);
    bench.pass(MS);
    assert_eq!(end.heard(), ["close"]);
}
