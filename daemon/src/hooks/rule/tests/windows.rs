//! Windows in a rule: which events they see, and how they live on.

use super::*;

/// At which iterations a rule acts, over losses of one rank.
fn acted(rule: &mut Configured, losses: &[f64]) -> Vec<u64> {
    let mut found = Vec::new();
    for (iter, loss) in losses.iter().enumerate() {
        let metrics = [("loss", *loss)];
        let at = at(iter as u64, &metrics);
        if !put(rule, &at, &Memory::default()).is_empty() {
            found.push(at.iter);
        }
    }
    found
}

#[test]
fn a_window_sees_the_events_between_those_that_are_decided() {
    // Decided at iterations 1, 3, 5: the mean of the last three, which are not all decided.
    let keys = [
        ("when", text("mean(loss, 3) == 2")),
        ("every", Value::Integer(2)),
        ("each", Value::Boolean(true)),
    ];
    let mut rule = rule(&keys).unwrap();
    assert_eq!(acted(&mut rule, &[9.0, 1.0, 3.0, 2.0, 0.0, 4.0]), [3, 5]);
}

#[test]
fn a_window_is_fed_where_the_condition_would_not_come_to_it() {
    for condition in [
        "iter >= 3 && ago(loss, 3) == 7",
        "!(iter < 3 || ago(loss, 3) != 7)",
    ] {
        assert_eq!(
            acted(&mut when(condition), &[7.0, 0.0, 0.0, 0.0, 0.0]),
            [3],
            "{condition}"
        );
    }
}

#[test]
fn what_is_not_finite_or_not_known_does_not_enter() {
    let mut rule = when("highest(loss, 2) == 5 && loss < 9");
    assert_eq!(
        acted(&mut rule, &[5.0, f64::NAN, f64::INFINITY, 1.0, 1.0]),
        // With NaN the loss itself is not below 9.
        [0, 3]
    );
    let mut rule = when("lowest(loss, 2) == 1");
    assert!(acts(&mut rule, &[("loss", 1.0)]));
    assert!(!acts(&mut rule, &[("acc", 1.0)]));
    assert!(
        acts(&mut rule, &[("loss", 5.0)]),
        "1 is still of the last two"
    );
    assert!(!acts(&mut rule, &[("loss", 5.0)]));
}

#[test]
fn a_window_may_be_of_an_expression() {
    let mut rule = when("mean(abs(loss - 3) * 2, 2) == 3");
    assert_eq!(acted(&mut rule, &[3.0, 6.0, 3.0, 3.0]), [1, 2]);
}

#[test]
fn each_rank_has_its_own() {
    let mut rule = when("mean(loss, 2) == 2");
    let mut put = |rank, loss| {
        let metrics = [("loss", loss)];
        let at = At {
            rank,
            ..at(1, &metrics)
        };
        !put(&mut rule, &at, &Memory::default()).is_empty()
    };
    assert!(!put(0, 1.0));
    assert!(!put(1, 3.0));
    assert!(put(0, 3.0));
    assert!(put(1, 1.0));
}

#[test]
fn the_issues_rule_finds_a_spike() {
    let keys = [
        ("when", text("loss > 3.0 * ewma(loss, 100) && iter > 500")),
        ("do", text("incident('loss spike')")),
        ("every", Value::Integer(10)),
    ];
    let mut rule = rule(&keys).unwrap();
    let spikes = [99, 549, 609, 619];
    let losses: Vec<_> = (0..700)
        .map(|iter| if spikes.contains(&iter) { 50.0 } else { 1.0 })
        .collect();
    // 99 is too early; at 619 it had been true at 609 already.
    assert_eq!(acted(&mut rule, &losses), [549, 609]);
}

#[test]
fn it_goes_on_in_another_daemon() {
    let condition = "loss > ewma(loss, 5) + std(loss, 7) || ago(loss, 4) > mean(loss, 3) * 1.4";
    let loss = |iter: u32| f64::from(iter * 7919 % 101) / 13.0;
    let losses: Vec<f64> = (0..60).map(loss).collect();
    let (mut whole, mut before) = (when(condition), when(condition));
    let all = acted(&mut whole, &losses);
    let mut parts = acted(&mut before, &losses[..25]);
    let state = before.hook.state().to_string();
    let mut after = when(condition);
    after
        .hook
        .restore(&serde_json::from_str(&state).unwrap())
        .unwrap();
    assert_eq!(after.hook.state(), before.hook.state());
    parts.extend(
        acted(&mut after, &losses[25..])
            .iter()
            .map(|iter| iter + 25),
    );
    assert_eq!(parts, all);
    assert!(all.len() > 5 && all.len() < 55, "{all:?}");
    let why = when("mean(loss, 3) > 0").hook.restore(&before.hook.state());
    assert!(why.is_err(), "another rule's windows");
}
