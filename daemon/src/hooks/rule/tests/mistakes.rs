//! What is wrong with a rule is said at the start, with the key and the column.

use super::*;

/// Of many, all that are not as they are said.
fn all_are_said(cases: Vec<(String, String, String)>) {
    let other = cases.iter().filter(|(_, why, says)| !why.starts_with(says));
    let other: Vec<_> = other
        .map(|(what, why, says)| format!("{what}\n  {why}\n  {says}"))
        .collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
}

fn refused(keys: &[(&str, Value)]) -> String {
    match rule(keys) {
        Ok(_) => panic!("{keys:?} builds"),
        Err(why) => {
            assert!(!why.contains('\n'), "one line: {why:?}");
            why
        }
    }
}

#[test]
fn a_condition_that_means_nothing_is_refused_at_its_column() {
    let mut cases = Vec::new();
    for (condition, says) in [
        (
            "loss > 3 * emwa(loss, 9)",
            "column 12: there is no function emwa; do you mean ewma?",
        ),
        (
            "loss > frobnicate(2)",
            "column 8: there is no function frobnicate",
        ),
        (
            "loss",
            "column 1: it is a number; it must be true or false, as in loss > 3",
        ),
        ("'text'", "column 1: it is a text; it must be true or false"),
        ("loss > ", "column 8: something is missing here"),
        (
            "loss > 3 and iter > 5",
            "column 10: there is no and here; say &&",
        ),
        (
            "loss > 3 or iter > 5",
            "column 10: there is no or here; say ||",
        ),
        ("loss > (3", "column 10: expecting ')'"),
        ("loss >> 3", "column 6: there is no operator >>"),
        (
            "loss > 3 & iter > 5",
            "column 10: there is no operator &; do you mean &&?",
        ),
        (
            "loss = 3",
            "column 6: there is no = here: it must be one expression",
        ),
        (
            "0 < loss < 1",
            "column 10: the left of < is true or false; a range is said as 0 < x && x < 1",
        ),
        (
            "loss > 'a'",
            "column 6: a number > a text: only numbers compare",
        ),
        (
            "'a' == 'a'",
            "column 5: a text == a text: only numbers compare",
        ),
        (
            "loss && iter > 3",
            "column 1: it is a number; it must be true or false",
        ),
        (
            "iter > 3 || loss",
            "column 13: it is a number; it must be true or false",
        ),
        ("!loss", "column 2: it is a number"),
        (
            "-(loss > 3) > 1",
            "column 3: it is true or false; it must be a number",
        ),
        (
            "(loss > 3) + 1 > 1",
            "column 2: it is true or false; it must be a number",
        ),
        (
            "abs(loss > 3) > 1",
            "column 5: it is true or false; it must be a number",
        ),
        (
            "abs(loss, 3) > 1",
            "column 1: it has 2 arguments; it is abs(x)",
        ),
        (
            "loss > ewma(loss)",
            "column 8: it has 1 argument; it is ewma(x, n)",
        ),
        (
            "loss > ewma(loss, 0)",
            "column 19: n must be a whole number from 1 to 100000, said here itself",
        ),
        (
            "loss > ewma(loss, 100001)",
            "column 19: n must be a whole number from 1 to 100000",
        ),
        (
            "loss > ewma(loss, 1.5)",
            "column 19: n must be a whole number",
        ),
        (
            "loss > ewma(loss, iter)",
            "column 19: n must be a whole number",
        ),
        (
            "loss > ewma(mean(loss, 3), 9)",
            "column 13: mean stands inside a window",
        ),
        (
            "loss > ewma(mean_s(gpu_used_bytes, 3), 9)",
            "column 13: mean_s stands inside a window",
        ),
        (
            "mean_s(loss, 3) > 1",
            "column 8: there is no memory number loss; there are: host_total_bytes",
        ),
        (
            "mean_s(gpu_usd_bytes, 3) > 1",
            "column 8: there is no memory number gpu_usd_bytes; do you mean gpu_used_bytes?",
        ),
        (
            "mean_s('gpu_used_bytes', 3) > 1",
            "column 8: it must be the word of a memory number",
        ),
        (
            "mean_s(gpu_used_bytes, 7201) > 1",
            "column 24: seconds must be a whole number from 1 to 7200",
        ),
        (
            "host_availible_bytes > 3",
            "column 1: there is no host_availible_bytes; do you mean host_available_bytes? (a metric",
        ),
        (
            "loss > 3 && epochs > 3",
            "column 13: there is no epochs; do you mean epoch?",
        ),
        (
            "rss_bytes > 3",
            "column 1: rss_bytes is no metric; say process_rss_bytes",
        ),
        (
            "metric(loss) > 3",
            "column 8: a metric's name stands in quotes",
        ),
        ("metric('*') > 3", "column 8: \"*\" is every metric"),
        (
            "loss > stop('x')",
            "column 8: stop is an action: it stands alone, in `do`",
        ),
        (
            "log(loss) > 3",
            "column 1: log writes a line, and stands in `do`; a logarithm is ln(x) or log10(x)",
        ),
        (
            "ewma > 3",
            "column 1: ewma is called, as ewma(x, n); a metric of this name is metric('ewma')",
        ),
        ("iter(3) > 3", "column 1: iter is a number, not a function"),
        (
            "let x = 3; x > 1",
            "column 1: there is no let here: it must be one expression",
        ),
        (
            "loss > 3; true",
            "column 9: there is no ; here: it must be one expression",
        ),
        (
            "if loss > 3 { true }",
            "column 1: a rule has numbers, texts, comparisons and calls",
        ),
        ("|x| x > 3", "column 1: unexpected '|'"),
        ("[loss][0] > 3", "column 1: unexpected '['"),
        ("loss.abs() > 3", "column 5: unexpected '.'"),
        ("eval('loss > 3')", "column 1: there is no function eval"),
        ("this > 3", "column 1: 'this' is a reserved keyword"),
        ("'loss > 3", "column 1: this text has no end"),
        (
            "loss >\n 3 &&\n  acc",
            "line 3, column 3: it is a number; it must be true or false",
        ),
        ("'é\"' + loss > 'x'", "column 13: a text > a text"),
        ("", "it is empty"),
    ] {
        let why = refused(&[("when", text(condition))]);
        cases.push((condition.to_owned(), why, format!("when, {says}")));
    }
    all_are_said(cases);
}

#[test]
fn an_action_that_means_nothing_is_refused_at_its_column() {
    let mut cases = Vec::new();
    for (doing, says) in [
        (
            text("incidnt('x')"),
            "do, column 1: there is no action incidnt; do you mean incident?",
        ),
        (
            text("frobnicate()"),
            "do, column 1: there is no action frobnicate; there are: stop, log,",
        ),
        (
            text("'x'"),
            "do, column 1: it must be one of a rule's actions, as in log('text')",
        ),
        (
            text("loss + 1"),
            "do, column 1: it must be one of a rule's actions",
        ),
        (
            text("log('a'); log('b')"),
            "do, column 9: there is no ; here: it must be one expression",
        ),
        (
            text("log()"),
            "do, column 1: it has 0 arguments; it is log(text)",
        ),
        (text("log(stop('a'))"), "do, column 5: stop is an action"),
        (text("lr('a')"), "do, column 4: it must be a number"),
        (
            text("lr(-1)"),
            "do, column 4: a learning rate is held at, or scaled by, a finite number from 0 on; -1 is none",
        ),
        (
            text("size(640, 0.5)"),
            "do, column 11: pixels are a whole number from 1 to 65536; 0.5 is none",
        ),
        (text("custom('a', '{')"), "do, column 13: { is no JSON"),
        (
            Value::List(vec![text("log('a')"), text("log(b, c)")]),
            "do[1], column 1: it has 2 arguments",
        ),
        (Value::List(Vec::new()), "do is empty"),
        (
            Value::Integer(3),
            "do is 3; it must be a string, or a list of strings",
        ),
    ] {
        let why = refused(&[("when", text("loss > 3")), ("do", doing.clone())]);
        cases.push((doing.to_string(), why, says.to_owned()));
    }
    all_are_said(cases);
}

#[test]
fn the_other_keys_are_looked_at_too() {
    let gate = ("gate", Value::Boolean(true));
    for (keys, says) in [
        (
            vec![("at", text("after_train_itr"))],
            "at is \"after_train_itr\", which is no point; do you mean \"after_train_iter\"?",
        ),
        (
            vec![
                gate.clone(),
                ("when", text("!is_finite(loss)")),
                ("do", text("stop('the mean was ' + mean(loss, 9))")),
            ],
            "a gate on !is_finite(loss) sees the events only where it is not, and a window in do wants every one",
        ),
        (
            vec![("when", text("-loss ** 2 < 0"))],
            "when, column 7: -x ** y is read as one or as the other: write -(x ** y) or (0 - x) ** y",
        ),
        (
            vec![("at", text("before_run")), ("every", Value::Integer(5))],
            "every is 5, and nothing is counted at before_run",
        ),
        (
            vec![("every", text("5"))],
            "every is \"5\"; it must be a number",
        ),
        (
            vec![("otherwise", text("stop"))],
            "otherwise and deadline_ms are a gate's; say gate = true too",
        ),
        (
            vec![("deadline_ms", Value::Integer(5))],
            "otherwise and deadline_ms are a gate's",
        ),
        (
            vec![gate.clone(), ("otherwise", text("halt"))],
            "otherwise is \"halt\"; it must be",
        ),
        (
            vec![gate.clone(), ("deadline_ms", Value::Integer(0))],
            "deadline_ms is 0; it must be a whole number from 1 to 60000",
        ),
        (
            vec![
                gate,
                ("every", Value::Integer(10)),
                ("when", text("mean(loss, 3) > 1")),
            ],
            "a gate sees the events only that it is due for, and a window wants every one: leave out every = 10, or gate",
        ),
        (
            vec![("whenn", text("loss > 3"))],
            "Rule has no argument \"whenn\"; it has: at, when, do",
        ),
    ] {
        let mut all = vec![("when", text("loss > 3"))];
        all.extend(keys);
        let why = refused(&all);
        assert!(why.starts_with(says), "{why}\n{says}");
    }
    assert!(refused(&[]).starts_with("when is missing"));
}

#[test]
fn a_rule_from_a_trainer_is_refused() {
    let request = HookRequest {
        type_name: "Rule".to_owned(),
        name: "mine".to_owned(),
        args: [("when".to_owned(), text("loss > 3"))].into(),
    };
    assert_eq!(
        build(&request, Origin::Trainer).err().as_deref(),
        Some("a rule comes from the daemon's configuration, not from a trainer")
    );
}

#[test]
fn a_rule_that_is_too_large_is_refused_in_words() {
    let many = |part: &str, n: usize, between: &str| vec![part; n].join(between);
    let windows: Vec<_> = (1..=17).map(|n| format!("mean(loss, {n}) > 0")).collect();
    let inputs: Vec<_> = (1..=65).map(|n| format!("m{n} > 0")).collect();
    let mut cases = Vec::new();
    for (condition, says) in [
        (many("loss", 3000, " + ") + " > 1", "when, it has "),
        (
            many("loss", 500, "+") + " > 1",
            "when, column 315: it has more than 64 brackets",
        ),
        (
            format!("{}loss{} > 1", "(".repeat(900), ")".repeat(900)),
            "when, column ",
        ),
        (format!("{}loss > 1", "-".repeat(900)), "when, column "),
        (format!("{}(loss > 1)", "!".repeat(900)), "when, column "),
        (
            format!("{}loss{} > 1", "abs(".repeat(500), ")".repeat(500)),
            "when, column ",
        ),
        (windows.join(" && "), "when, column "),
        (inputs.join(" && "), "when, column "),
        (
            "ago(loss, 100000) > 0 && ago(lr, 100000) > 0 && ago(acc, 100000) > 0".to_owned(),
            "when, column 34: the windows of a rule hold at most 200000 values",
        ),
    ] {
        let why = refused(&[("when", text(&condition))]);
        assert!(why.len() < 200, "{why}");
        cases.push((condition[..40].to_owned(), why, says.to_owned()));
    }
    all_are_said(cases);
    // Texts cannot grow: there is nothing that repeats.
    let long = format!("log('{}')", "x".repeat(4000));
    assert!(rule(&[("when", text("loss > 3")), ("do", text(&long))]).is_ok());
}
