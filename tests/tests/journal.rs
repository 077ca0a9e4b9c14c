//! The real daemon, killed and started again: what it acknowledged is there, what it had decided holds, nothing is done twice.

use std::time::Duration;

use hookbus_client::inspect::{Inspector, proto};
use hookbus_e2e::{Raw, Sandbox};
use hookbus_proto::v1::{
    Bye, Hello, Hole, Holes, HookRequest, LrOrder, Order, Outcome, Result as TrainerResult,
    RunPhase, Verdict, cell::Value, client_frame::Frame, happening, lr_order, order, server_frame,
    value,
};

async fn inspector(sandbox: &Sandbox) -> Inspector {
    Inspector::connect(&sandbox.address(), Duration::from_secs(10))
        .await
        .expect("the daemon answers")
}

async fn show(sandbox: &Sandbox, run: &str) -> proto::SnapshotReply {
    let reply = inspector(sandbox).await.snapshot(run).await;
    reply.expect("the run is there")
}

/// A table of the only run, from its journal; all that was said before is in it.
async fn rows(sandbox: &Sandbox, table: &str) -> Vec<Vec<Option<Value>>> {
    let mut inspector = inspector(sandbox).await;
    let mut replies = inspector.rows("", table, None).await.expect("it is asked");
    let mut found = Vec::new();
    while let Some(reply) = replies.next().await.expect("it can be read") {
        for row in reply.rows {
            found.push(row.cells.into_iter().map(|cell| cell.value).collect());
        }
    }
    found
}

fn whole(cell: &Option<Value>) -> i64 {
    match cell {
        Some(Value::Integer(number)) => *number,
        other => panic!("not a whole number: {other:?}"),
    }
}

/// Its line each second iteration, without the second one.
fn one_line() -> HookRequest {
    let mut hook = Raw::hook("MemoryProfilerHook", "interval", 2);
    let kind = Some(value::Kind::Boolean(false));
    hook.args
        .insert("truth".to_owned(), hookbus_proto::v1::Value { kind });
    hook
}

/// The id and the line of the next command.
async fn line(raw: &mut Raw) -> String {
    raw.until(|frame| match frame {
        server_frame::Frame::Command(command) => Some(command.id),
        _ => None,
    })
    .await
}

fn applied(id: &str) -> TrainerResult {
    TrainerResult {
        id: id.into(),
        outcome: Outcome::Applied.into(),
        ..TrainerResult::default()
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_and_the_rest_is_replayed_once() {
    let mut sandbox = Sandbox::start();
    let mut hello = Raw::hello("survives", 0, 1, "s");
    hello.hooks = vec![one_line()];
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello.clone()).await;
    assert_eq!((welcome.verdict(), welcome.ack), (Verdict::New, 0));
    raw.send(Frame::Batch(Raw::losses(1, &[1.0, f64::NAN, 3.0])))
        .await;
    let first = line(&mut raw).await;
    raw.acked(3).await;
    sandbox.kill();
    sandbox.restart();

    let seen = show(&sandbox, "survives").await;
    assert_eq!(
        seen.run.as_ref().map(|run| run.phase()),
        Some(RunPhase::Running)
    );
    assert_eq!((seen.ranks[0].acked, seen.ranks[0].events), (3, 3));
    assert_eq!((seen.hooks[0].calls, seen.hooks[0].decisions), (1, 1));

    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello.clone()).await;
    assert_eq!((welcome.verdict(), welcome.ack), (Verdict::Resumed, 3));
    assert_eq!(
        line(&mut raw).await,
        first,
        "it was not answered, so it comes again"
    );
    raw.result(applied(&first)).await;
    // What the client still has, from its beginning.
    raw.send(Frame::Batch(Raw::losses(1, &[1.0, f64::NAN, 3.0, 4.0])))
        .await;
    let second = line(&mut raw).await;
    assert_ne!(second, first);
    raw.acked(4).await;
    let seqs: Vec<_> = rows(&sandbox, "events")
        .await
        .iter()
        .map(|row| whole(&row[2]))
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    let seen = show(&sandbox, "survives").await;
    assert_eq!((seen.hooks[0].calls, seen.hooks[0].decisions), (2, 2));
    assert_eq!(
        seen.attempts.len(),
        1,
        "a daemon that starts opens no attempt"
    );

    // Answered: it does not come again, though this daemon dies too.
    drop(rows(&sandbox, "log").await);
    sandbox.kill();
    sandbox.restart();
    hello.next_seq = 5;
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello).await;
    assert_eq!((welcome.verdict(), welcome.ack), (Verdict::Resumed, 4));
    assert_eq!(line(&mut raw).await, second);
}

#[tokio::test]
async fn what_operators_ordered_holds_though_only_the_journal_knows_it() {
    let mut sandbox = Sandbox::start();
    let hello = Raw::hello("held", 0, 1, "s");
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello.clone()).await;
    let order = Order {
        run: "held".into(),
        id: "mine".into(),
        by: "me".into(),
        what: Some(order::What::Lr(LrOrder {
            group: None,
            how: Some(lr_order::How::Scale(0.5)),
        })),
        ..Order::default()
    };
    let mut updates = inspector(&sandbox)
        .await
        .send(order.clone())
        .await
        .expect("taken");
    updates
        .next()
        .await
        .expect("healthy")
        .expect("who is asked");
    let state = raw
        .until(|frame| match frame {
            server_frame::Frame::State(state) => Some(state),
            _ => None,
        })
        .await;
    drop(rows(&sandbox, "states").await);
    sandbox.kill();
    sandbox.restart();
    // This client forgot the state: it was never told, or was started by hand.
    let (raw, welcome) = Raw::attach(&sandbox.address(), hello).await;
    let again = welcome.state.expect("a state");
    assert_eq!(again.lr, state.lr);
    assert!(again.generation >= state.generation, "it never goes back");
    raw.result(applied("mine")).await;
    let twice = inspector(&sandbox).await.send(order).await;
    let refused = match twice {
        Err(error) => error.to_string(),
        Ok(mut updates) => updates.next().await.expect_err("it is known").to_string(),
    };
    assert!(refused.contains("was given already"), "{refused}");
    let seen = show(&sandbox, "held").await;
    assert!(
        seen.results[0].by.starts_with("operator me"),
        "{}",
        seen.results[0].by
    );
}

#[tokio::test]
async fn a_restarted_trainer_supersedes_its_attempt_at_once_also_one_that_only_the_journal_knows() {
    let mut sandbox = Sandbox::start();
    let first = Hello {
        attempt: Some(0),
        hooks: vec![Raw::hook("CheckInvalidLossHook", "interval", 1)],
        ..Raw::hello("again", 0, 1, "first")
    };
    let (mut raw, _) = Raw::attach(&sandbox.address(), first.clone()).await;
    let answer = raw
        .gate(Raw::losses(1, &[1.0, f64::NAN]), "CheckInvalidLossHook")
        .await;
    assert!(answer.decision_id.starts_with("CheckInvalidLossHook/0/"));
    raw.acked(2).await;
    sandbox.kill();
    sandbox.restart();
    let second = Hello {
        attempt: Some(1),
        session: "second".to_owned(),
        ..first
    };
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), second.clone()).await;
    assert_eq!((welcome.verdict(), welcome.attempt), (Verdict::New, 1));
    let answer = raw
        .gate(Raw::losses(1, &[f64::NAN]), "CheckInvalidLossHook")
        .await;
    assert!(answer.decision_id.starts_with("CheckInvalidLossHook/1/"));
    raw.acked(1).await;
    let seen = show(&sandbox, "again").await;
    let attempts: Vec<_> = seen
        .attempts
        .iter()
        .map(|one| {
            (
                one.attempt,
                one.phase(),
                one.reason.as_str(),
                one.position.expect("one").iter,
            )
        })
        .collect();
    assert_eq!(
        attempts,
        [
            (0, RunPhase::Lost, "superseded by attempt 1", 1),
            (1, RunPhase::Running, "", 0)
        ]
    );
    let ends: Vec<_> = rows(&sandbox, "ranks")
        .await
        .iter()
        .map(|row| row[9].clone())
        .collect();
    assert_eq!(
        ends,
        [
            Some(Value::Text("superseded by attempt 1".to_owned())),
            None
        ]
    );
    let open = rows(&sandbox, "incidents").await;
    let of_first: Vec<_> = open
        .iter()
        .filter(|row| whole(&row[0]) == 0)
        .map(|row| row[6].clone())
        .collect();
    assert_eq!(
        of_first.last(),
        Some(&Some(Value::Text("closed".to_owned())))
    );
    // And after another restart both are still known.
    sandbox.kill();
    sandbox.restart();
    let (_, welcome) = Raw::attach(&sandbox.address(), second).await;
    assert_eq!(
        (welcome.verdict(), welcome.attempt, welcome.ack),
        (Verdict::Resumed, 1, 1)
    );
    assert_eq!(show(&sandbox, "again").await.attempts.len(), 2);
}

#[tokio::test]
async fn a_run_that_is_over_can_be_read_and_followed_from_its_beginning() {
    let mut sandbox = Sandbox::start();
    let hello = Raw::hello("over", 0, 1, "s");
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello.clone()).await;
    raw.send(Frame::Batch(Raw::losses(1, &[1.0, f64::NAN])))
        .await;
    let hole = Hole {
        first_seq: 3,
        last_seq: 6,
        points: [(2, 3), (5, 1)].into(),
    };
    raw.send(Frame::Holes(Holes { holes: vec![hole] })).await;
    raw.send(Frame::Batch(Raw::losses(7, &[2.0]))).await;
    raw.acked(7).await;
    let bye = Bye {
        reason: "done".into(),
        ..Bye::default()
    };
    raw.send(Frame::Bye(bye)).await;
    while let Ok(Some(_)) = raw.next().await {}
    assert!(sandbox.terminate().success());
    let left: Vec<_> = std::fs::read_dir(sandbox.path("state"))
        .expect("the state directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    assert_eq!(left, ["over@launch.db"], "one file, whole");
    sandbox.restart();

    let mut inspector = inspector(&sandbox).await;
    let runs = inspector.runs().await.expect("they are listed");
    assert_eq!(runs.len(), 1);
    assert!(runs[0].archived && runs[0].phase() == RunPhase::Finished);
    assert!(runs[0].ended_unix_s.expect("it ended") >= runs[0].started_unix_s);
    let seen = show(&sandbox, "LAST").await;
    assert_eq!(
        seen.ranks[0].dropped_points.get("after_train_iter"),
        Some(&3)
    );
    assert_eq!((seen.ranks[0].dropped, seen.ranks[0].acked), (4, 7));
    assert_eq!(seen.ranks[0].last.get("loss"), Some(&2.0));
    let mut happenings = inspector
        .follow("over", true, Some(f64::INFINITY))
        .await
        .expect("it is followed");
    let mut said = Vec::new();
    while let Some(one) = happenings.next().await.expect("healthy") {
        said.push(match one.what.expect("something") {
            happening::What::Lifecycle(seen) => seen.text,
            happening::What::Event(seen) => format!("loss {}", seen.values["loss"]),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(
        said,
        [
            "attached, new",
            "loss 1",
            "loss NaN",
            "loss 2",
            "said goodbye: done"
        ]
    );
    let unknown = show_error(&mut inspector, "ovr").await;
    assert_eq!(unknown, "there is no run \"ovr\": over@launch");

    // The same launch again: its next attempt.
    let again = Hello {
        session: "t".to_owned(),
        ..hello
    };
    let (_raw, welcome) = Raw::attach(&sandbox.address(), again).await;
    assert_eq!((welcome.verdict(), welcome.attempt), (Verdict::New, 1));
}

#[tokio::test]
async fn who_follows_from_the_beginning_gets_all_of_it_and_then_what_came_meanwhile() {
    const BEFORE: u64 = 12_000; // more than anything on the way holds
    const ALL: u64 = BEFORE + 100;
    let sandbox = Sandbox::start();
    let (mut raw, _) = Raw::attach(&sandbox.address(), Raw::hello("long", 0, 1, "s")).await;
    for first in (1..=BEFORE).step_by(500) {
        raw.send(Frame::Batch(Raw::losses(first, &[1.0; 500])))
            .await;
        raw.acked(first + 499).await;
    }
    let mut happenings = inspector(&sandbox)
        .await
        .follow("long", true, Some(f64::INFINITY))
        .await
        .expect("it is followed");
    // Nothing but this is read while the training goes on.
    let first = happenings.next().await.expect("healthy").expect("one");
    assert!(matches!(first.what, Some(happening::What::Lifecycle(_))));
    raw.send(Frame::Batch(Raw::losses(BEFORE + 1, &[2.0; 100])))
        .await;
    raw.acked(ALL).await;
    for iter in 0..ALL {
        let one = happenings.next().await.expect("healthy").expect("one");
        let Some(happening::What::Event(seen)) = one.what else {
            panic!("no event: {one:?}");
        };
        assert_eq!(one.at.expect("a position").iter, iter);
        assert_eq!(seen.values["loss"], if iter < BEFORE { 1.0 } else { 2.0 });
        assert_eq!(one.missed, 0);
    }
}

async fn show_error(inspector: &mut Inspector, run: &str) -> String {
    inspector
        .snapshot(run)
        .await
        .expect_err("there is none")
        .to_string()
}

/// Takes the file's writing for itself, as a slow disk does.
fn occupied(sandbox: &Sandbox, file: &str) -> rusqlite::Connection {
    let connection =
        rusqlite::Connection::open(sandbox.path("state").join(file)).expect("the file");
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .expect("it is free");
    connection
}

#[tokio::test]
async fn no_gate_waits_for_a_commit_and_nothing_is_acknowledged_before_it() {
    let sandbox = Sandbox::start();
    let hello = Hello {
        hooks: vec![Raw::hook("CheckInvalidLossHook", "interval", 1)],
        ..Raw::hello("slow", 0, 1, "s")
    };
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello).await;
    raw.send(Frame::Batch(Raw::losses(1, &[1.0]))).await;
    raw.acked(1).await;
    let disk = occupied(&sandbox, "slow@launch.db");
    let answer = raw
        .gate(Raw::losses(2, &[f64::NAN]), "CheckInvalidLossHook")
        .await;
    assert!(answer.decision_id.starts_with("CheckInvalidLossHook/"));
    raw.send(Frame::Batch(Raw::losses(3, &[3.0]))).await;
    // The live view goes on.
    let mut looking = inspector(&sandbox).await;
    let mut looks = looking
        .watch("slow", Duration::from_millis(100))
        .await
        .expect("it is watched");
    loop {
        let seen = looks.next().await.expect("healthy").expect("it goes on");
        assert!(seen.ranks[0].acked <= 1, "nothing later is");
        if seen.ranks[0].events == 3 {
            break;
        }
    }
    disk.execute_batch("ROLLBACK").expect("it was begun");
    raw.acked(3).await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_an_incident_until_it_does_again() {
    let sandbox = Sandbox::start();
    let (mut raw, _) = Raw::attach(&sandbox.address(), Raw::hello("full", 0, 1, "s")).await;
    raw.send(Frame::Batch(Raw::losses(1, &[1.0]))).await;
    raw.acked(1).await;
    let disk = occupied(&sandbox, "full@launch.db");
    raw.send(Frame::Batch(Raw::losses(2, &[2.0]))).await;
    let mut happenings = inspector(&sandbox)
        .await
        .follow("full", false, None)
        .await
        .expect("it is followed");
    let mut incident = async || loop {
        let one = happenings
            .next()
            .await
            .expect("healthy")
            .expect("it goes on");
        if let Some(happening::What::Incident(incident)) = one.what
            && incident.kind.starts_with("journal")
        {
            break (incident.kind, incident.open);
        }
    };
    assert_eq!(incident().await, ("journal_stopped".to_owned(), true));
    disk.execute_batch("ROLLBACK").expect("it was begun");
    assert_eq!(incident().await, ("journal_stopped".to_owned(), false));
    raw.acked(2).await;
    let seqs: Vec<_> = rows(&sandbox, "events")
        .await
        .iter()
        .map(|row| whole(&row[2]))
        .collect();
    assert_eq!(seqs, [1, 2]);
}
