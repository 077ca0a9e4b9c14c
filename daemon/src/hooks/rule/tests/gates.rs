//! Rules that the training waits for.

use super::*;
use crate::domain::{Base, Otherwise, When};

#[test]
fn a_gate_waits_and_what_only_the_trainer_needs_to_look_at_is_its_condition() {
    let gate = |condition: &str, keys: &[(&str, Value)]| {
        let mut all = vec![("when", text(condition)), ("gate", Value::Boolean(true))];
        all.extend(keys.iter().cloned());
        let rule = rule(&all).unwrap_or_else(|why| panic!("{condition}: {why}"));
        rule.hook.subscriptions().remove(0)
    };
    let stop = [
        ("do", text("stop('bad loss')")),
        ("otherwise", text("stop")),
    ];
    let wish = gate("!is_finite(loss)", &stop);
    assert_eq!((wish.way, wish.otherwise), (Way::Gate, Otherwise::Stop));
    assert_eq!(wish.when, When::NotFinite("loss".to_owned()));
    assert_eq!(wish.otherwise_text, "bad loss");
    assert_eq!(wish.deadline, Duration::from_millis(50));
    let wish = gate("!is_finite(metric('a/b'))", &[]);
    assert_eq!(wish.when, When::NotFinite("a/b".to_owned()));
    for condition in [
        "!is_finite(loss) || loss > 9",
        "is_nan(loss)",
        "!is_finite(loss + 0)",
        "!is_finite(iter)",
    ] {
        assert_eq!(gate(condition, &[]).when, When::Always, "{condition}");
    }
    let wish = gate(
        "loss > 3",
        &[
            ("at", text("after_val_epoch")),
            ("deadline_ms", Value::Integer(300)),
        ],
    );
    assert_eq!(
        (wish.deadline, wish.otherwise),
        (Duration::from_millis(300), Otherwise::Continue)
    );
    assert_eq!(wish.otherwise_text, "loss > 3");
    assert_eq!(
        gate("mean(loss, 9) > 3", &[]).every,
        Every::n(Base::Iter, 1)
    );
}

#[test]
fn a_gate_acts_each_time_and_where_it_holds_on_another_rank() {
    let keys = [
        ("when", text("!is_finite(loss)")),
        ("gate", Value::Boolean(true)),
        ("do", text("stop('bad loss')")),
    ];
    let mut rule = rule(&keys).unwrap();
    let stop = |place: &str| {
        vec![Decision::Stop {
            reason: format!("bad loss ({place}at iteration 120, epoch 1)"),
            logs: vec![LogLine {
                level: LogLevel::Info,
                text: "bad loss".to_owned(),
            }],
            incident: IncidentKind::InvalidLoss,
        }]
    };
    for (loss, held_on, decided) in [
        (f64::NAN, &[][..], stop("")),
        (f64::NAN, &[Rank(0)], stop("")),
        (1.0, &[], Vec::new()),
        (1.0, &[Rank(1), Rank(2)], stop("on rank 1, 2, ")),
    ] {
        let metrics = [("loss", loss)];
        let at = At {
            held_on,
            ..at(120, &metrics)
        };
        assert_eq!(
            put(&mut rule, &at, &Memory::default()),
            decided,
            "{loss} {held_on:?}"
        );
    }
    // The rank that asks has no loss of its own.
    let at = At {
        held_on: &[Rank(1)],
        ..at(120, &[])
    };
    assert_eq!(put(&mut rule, &at, &Memory::default()), stop("on rank 1, "));
}
