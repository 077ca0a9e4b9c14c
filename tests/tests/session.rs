//! Sessions of the real daemon, frame by frame: what a client in any language may rely on.

use hookbus_client::inspect::Inspector;
use hookbus_e2e::{Raw, Sandbox};
use hookbus_proto::v1::{
    Bye, Effective, EffectiveWhen, Event, EventBatch, FenceReason, GateVerdict, Heartbeat, Hole,
    Holes, Name, Order, Outcome, OwnMemory, Position, Result as TrainerResult, RunPhase,
    SnapshotReply, StopOrder, Verdict, client_frame::Frame, command, order, server_frame,
};
use tonic::Code;

const CHECK_EVERY_ITERATION: &str = "[[hooks]]\ntype = \"CheckInvalidLossHook\"\ninterval = 1\n";

async fn snapshot(
    sandbox: &Sandbox,
    run: &str,
    fact: impl Fn(&SnapshotReply) -> bool,
) -> SnapshotReply {
    let mut inspector = Inspector::connect(&sandbox.address(), std::time::Duration::from_secs(10))
        .await
        .expect("the daemon answers");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let reply = inspector.snapshot(run).await.expect("the run is known");
        if fact(&reply) {
            return reply;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the snapshot never showed it: {reply:#?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_gate_on_an_invalid_loss_answers_stop_with_the_original_log_line() {
    let sandbox = Sandbox::with_config(CHECK_EVERY_ITERATION);
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), Raw::hello("nan", 0, 1, "s")).await;
    assert_eq!(welcome.verdict(), Verdict::New);
    let wishes: Vec<_> = welcome
        .plan
        .expect("a plan")
        .subscriptions
        .into_iter()
        .map(|wish| wish.subscriber)
        .collect();
    assert_eq!(wishes, ["record", "CheckInvalidLossHook"]);

    let answer = raw
        .gate(Raw::losses(1, &[0.5, f64::NAN]), "CheckInvalidLossHook")
        .await;
    assert_eq!((answer.seq, answer.verdict()), (2, GateVerdict::Stop));
    assert_eq!(
        answer
            .logs
            .iter()
            .map(|line| line.text.as_str())
            .collect::<Vec<_>>(),
        ["loss become infinite or NaN!"]
    );
    raw.result(TrainerResult {
        id: answer.decision_id.clone(),
        outcome: Outcome::Applied.into(),
        at: Some(Position {
            epoch: 0,
            iter: 1,
            inner_iter: 1,
        }),
        point: "after_train_iter".into(),
        ..TrainerResult::default()
    })
    .await;
    raw.send(Frame::Bye(Bye {
        reason: "stopped".into(),
        ..Bye::default()
    }))
    .await;
    let reply = snapshot(&sandbox, "nan", |reply| {
        reply
            .run
            .as_ref()
            .is_some_and(|run| run.phase() == RunPhase::Stopped)
    })
    .await;
    let run = reply.run.expect("the run");
    assert!(
        run.reason.starts_with("CheckInvalidLossHook: "),
        "{}",
        run.reason
    );
    assert_eq!(
        reply
            .incidents
            .iter()
            .map(|incident| incident.kind.as_str())
            .collect::<Vec<_>>(),
        ["invalid_loss"]
    );
    assert_eq!(
        reply.results[0]
            .result
            .as_ref()
            .map(|result| result.outcome()),
        Some(Outcome::Applied)
    );
}

#[tokio::test]
async fn infinities_stop_and_finite_losses_go_on() {
    let sandbox = Sandbox::with_config(CHECK_EVERY_ITERATION);
    let (mut raw, _) = Raw::attach(&sandbox.address(), Raw::hello("inf", 0, 1, "s")).await;
    for (seq, loss, verdict) in [
        (1, 1e308, GateVerdict::Continue),
        (2, f64::INFINITY, GateVerdict::Stop),
        (3, -0.0, GateVerdict::Continue),
        (4, f64::NEG_INFINITY, GateVerdict::Stop),
    ] {
        let answer = raw
            .gate(Raw::losses(seq, &[loss]), "CheckInvalidLossHook")
            .await;
        assert_eq!(answer.verdict(), verdict, "loss {loss}");
    }
}

#[tokio::test]
async fn the_memory_line_comes_as_a_command_with_the_trainers_own_rss() {
    let sandbox = Sandbox::start();
    let mut hello = Raw::hello("memory", 0, 1, "s");
    hello.hooks = vec![Raw::hook("MemoryProfilerHook", "interval", 2)];
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello.clone()).await;
    assert_eq!(welcome.refused, []);
    raw.send(Frame::Batch(Raw::losses(1, &[1.0, 1.0, 1.0])))
        .await;
    let line = raw
        .until(|frame| match frame {
            server_frame::Frame::Command(command) => match command.what {
                Some(command::What::Log(line)) => Some((command.id, line.text)),
                _ => None,
            },
            _ => None,
        })
        .await;
    assert!(
        line.1.starts_with("Memory information available_memory: "),
        "{}",
        line.1
    );
    assert!(
        line.1.ends_with("current_process_memory: 1024 MB"),
        "{}",
        line.1
    );

    // Not answered: it comes again with the same id. Answered: it does not.
    raw.acked(3).await;
    drop(raw);
    hello.next_seq = 4;
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello.clone()).await;
    assert_eq!((welcome.verdict(), welcome.ack), (Verdict::Resumed, 3));
    let again = raw
        .until(|frame| {
            if let server_frame::Frame::Command(command) = frame {
                Some(command.id)
            } else {
                None
            }
        })
        .await;
    assert_eq!(again, line.0);
}

#[tokio::test]
async fn the_second_memory_line_of_a_trainer_that_is_not_seen_has_what_its_client_says() {
    let sandbox = Sandbox::start();
    let mut hello = Raw::hello("elsewhere", 0, 1, "s");
    let process = hello.process.as_mut().expect("its process");
    process.boot_id = "of another kernel".to_owned();
    hello.hooks = vec![Raw::hook("MemoryProfilerHook", "interval", 2)];
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello).await;
    assert!(welcome.own_memory, "it is asked for what it sees");
    let memory = OwnMemory {
        age_s: 0.5,
        children_rss_bytes: Some(300 << 20),
        children: Some(3),
        cgroup: "/".to_owned(),
        cgroup_limit_bytes: Some(1000 << 20),
        cgroup_working_set_bytes: Some(250 << 20),
        shm_total_bytes: Some(64 << 20),
        shm_used_bytes: Some(3 << 20),
        ..Default::default()
    };
    raw.send(Frame::Heartbeat(Heartbeat {
        memory: Some(memory),
        ..Default::default()
    }))
    .await;
    let reply = snapshot(&sandbox, "elsewhere", |reply| {
        reply.ranks[0].children == Some(3)
    })
    .await;
    let seen = reply.ranks[0].memory.as_ref().expect("memory");
    assert_eq!((seen.seen_by.as_str(), seen.workers), ("trainer", None));
    raw.send(Frame::Batch(Raw::losses(1, &[1.0, 1.0]))).await;
    let line = raw
        .until(|frame| match frame {
            server_frame::Frame::Command(command) => match command.what {
                Some(command::What::Log(line)) if line.text.contains("this training") => {
                    Some(line.text)
                }
                _ => None,
            },
            _ => None,
        })
        .await;
    assert!(line.contains(" (as its client says, "), "{line}");
    assert!(
        line.contains(
            "working_set: 250 MB of 1000 MB (25.0 %), children_rss: 300 MB in 3, shm: 3 of 64 MB, gpu: "
        ),
        "{line}"
    );
}

#[tokio::test]
async fn a_replayed_batch_counts_once_and_a_hole_is_counted() {
    let sandbox = Sandbox::start();
    let mut hello = Raw::hello("replay", 0, 1, "s");
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello.clone()).await;
    raw.send(Frame::Batch(Raw::losses(1, &[1.0, 2.0, 3.0])))
        .await;
    raw.acked(3).await;
    drop(raw);
    hello.next_seq = 1;
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello).await;
    assert_eq!((welcome.verdict(), welcome.ack), (Verdict::Resumed, 3));
    raw.send(Frame::Batch(Raw::losses(1, &[1.0, 2.0, 3.0])))
        .await;
    let hole = Hole {
        first_seq: 4,
        last_seq: 9,
        points: [(2, 6)].into(),
    };
    raw.send(Frame::Holes(Holes { holes: vec![hole] })).await;
    raw.send(Frame::Batch(Raw::losses(10, &[4.0]))).await;
    raw.acked(10).await;
    let reply = snapshot(&sandbox, "replay", |reply| reply.ranks[0].acked == 10).await;
    assert_eq!(reply.ranks[0].events, 4);
    assert_eq!(
        (
            reply.ranks[0].dropped,
            reply.ranks[0].dropped_points.get("after_train_iter")
        ),
        (6, Some(&6))
    );
}

#[tokio::test]
async fn a_daemon_that_never_saw_the_session_says_that_it_is_lost() {
    let sandbox = Sandbox::start();
    let mut hello = Raw::hello("lost", 0, 1, "s");
    hello.next_seq = 50;
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello).await;
    assert_eq!((welcome.verdict(), welcome.ack), (Verdict::Lost, 49));
    raw.send(Frame::Batch(Raw::losses(50, &[1.0]))).await;
    raw.acked(50).await;
}

#[tokio::test]
async fn a_malformed_session_ends_with_a_status_that_says_why_and_its_neighbour_does_not_notice() {
    let sandbox = Sandbox::with_config("[limits]\nframe_bytes = 65536\n");
    let (mut neighbour, _) =
        Raw::attach(&sandbox.address(), Raw::hello("good", 0, 1, "good")).await;
    let bad_metric = EventBatch {
        first_seq: 1,
        events: vec![Event {
            point: 2,
            metrics: vec![9],
            values: vec![1.0],
            ..Event::default()
        }],
        ..EventBatch::default()
    };
    let renamed = EventBatch {
        first_seq: 1,
        new_metrics: vec![Name {
            id: 0,
            name: "other".into(),
        }],
        ..EventBatch::default()
    };
    let huge = Frame::Bye(Bye {
        reason: "x".repeat(100_000),
        ..Bye::default()
    });
    for (session, frame, code, text) in [
        (
            "metric",
            Frame::Batch(bad_metric),
            Code::InvalidArgument,
            "event 1: metric id 9 is not in the name table",
        ),
        (
            "renamed",
            Frame::Batch(renamed),
            Code::InvalidArgument,
            "metric id 0 is \"loss\" already",
        ),
        ("huge", huge, Code::ResourceExhausted, "limits.frame_bytes"),
        (
            "twice",
            Frame::Hello(Raw::hello("twice", 0, 1, "twice")),
            Code::InvalidArgument,
            "a second Hello",
        ),
    ] {
        let (mut raw, _) =
            Raw::attach(&sandbox.address(), Raw::hello(session, 0, 1, session)).await;
        raw.send(frame).await;
        let status = loop {
            match raw.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{session}: the stream ended without a status"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), code, "{session}: {status}");
        assert!(
            status.message().contains(text),
            "{session}: {:?} does not say {text:?}",
            status.message()
        );
        assert!(
            status
                .message()
                .contains(&format!("rank 0 of run {session}@launch")),
            "{:?} does not say whose",
            status.message()
        );
    }
    let mut first = Raw::open(
        &sandbox.address(),
        vec![Frame::Heartbeat(Heartbeat::default())],
    )
    .await
    .expect("the stream opens");
    let status = first.next().await.expect_err("no Hello");
    assert!(
        status
            .message()
            .contains("the first frame of a session is Hello"),
        "{status}"
    );
    neighbour.send(Frame::Batch(Raw::losses(1, &[1.0]))).await;
    neighbour.acked(1).await;
}

#[tokio::test]
async fn a_second_live_process_for_a_rank_is_fenced_and_a_restart_opens_the_next_attempt() {
    let sandbox = Sandbox::start();
    let (mut first, welcome) =
        Raw::attach(&sandbox.address(), Raw::hello("twice", 0, 2, "first")).await;
    assert_eq!(welcome.attempt, 0);
    let fence = Raw::fenced(&sandbox.address(), Raw::hello("twice", 0, 2, "second")).await;
    assert_eq!(fence.reason(), FenceReason::Duplicate, "{}", fence.text);
    let (mut peer, _) = Raw::attach(&sandbox.address(), Raw::hello("twice", 1, 2, "peer")).await;

    first.send(Frame::Bye(Bye::default())).await;
    while first.next().await.expect("a polite end").is_some() {}
    let (_second, welcome) =
        Raw::attach(&sandbox.address(), Raw::hello("twice", 0, 2, "second")).await;
    assert_eq!((welcome.verdict(), welcome.attempt), (Verdict::New, 1));
    let fence = peer
        .until(|frame| {
            if let server_frame::Frame::Fence(fence) = frame {
                Some(fence)
            } else {
                None
            }
        })
        .await;
    assert_eq!(fence.reason(), FenceReason::Superseded, "{}", fence.text);
}

#[tokio::test]
async fn another_protocol_is_fenced_by_version() {
    let sandbox = Sandbox::start();
    let hello = hookbus_proto::v1::Hello {
        protocol: 999,
        ..Raw::hello("old", 0, 1, "s")
    };
    assert_eq!(
        Raw::fenced(&sandbox.address(), hello).await.reason(),
        FenceReason::Version
    );
}

#[tokio::test]
async fn unknown_hooks_and_arguments_are_refused_by_name_while_the_rest_holds() {
    let sandbox = Sandbox::start();
    let mut hello = Raw::hello("refused", 0, 1, "s");
    hello.hooks = vec![
        Raw::hook("CheckInvalidLossHok", "interval", 1),
        Raw::hook("MemoryProfilerHook", "intervall", 1),
        Raw::hook("CheckInvalidLossHook", "interval", 1),
    ];
    let (_raw, welcome) = Raw::attach(&sandbox.address(), hello).await;
    let refused: Vec<_> = welcome
        .refused
        .iter()
        .map(|refusal| (refusal.what.as_str(), refusal.reason.as_str()))
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused[0].0.contains("CheckInvalidLossHok")
            && refused[0].1.contains("CheckInvalidLossHook"),
        "{refused:?}"
    );
    assert!(
        refused[1].0.contains("MemoryProfilerHook") && refused[1].1.contains("intervall"),
        "{refused:?}"
    );
    let subscriptions = welcome.plan.expect("a plan").subscriptions;
    assert!(
        subscriptions
            .iter()
            .any(|wish| wish.subscriber == "CheckInvalidLossHook")
    );
    assert!(
        !subscriptions
            .iter()
            .any(|wish| wish.subscriber == "MemoryProfilerHook")
    );
}

#[tokio::test]
async fn a_stop_waits_for_every_rank_and_a_mixture_is_an_incident() {
    let sandbox = Sandbox::start();
    let mut ranks = Vec::new();
    for rank in 0..8 {
        ranks.push(
            Raw::attach(
                &sandbox.address(),
                Raw::hello("many", rank, 8, &format!("s{rank}")),
            )
            .await
            .0,
        );
    }
    let mut inspector = Inspector::connect(&sandbox.address(), std::time::Duration::from_secs(10))
        .await
        .expect("the daemon answers");
    let mut updates = inspector
        .send(Order {
            run: "many".into(),
            effective: Some(Effective {
                when: EffectiveWhen::Now.into(),
                ..Effective::default()
            }),
            what: Some(order::What::Stop(StopOrder {
                reason: "enough".into(),
            })),
            ..Order::default()
        })
        .await
        .expect("the order is taken");
    let first = updates
        .next()
        .await
        .expect("healthy")
        .expect("the first update");
    assert_eq!(first.waiting, (0..8).collect::<Vec<u32>>());
    for (rank, raw) in ranks.iter_mut().enumerate() {
        let stop = raw
            .until(|frame| {
                if let server_frame::Frame::State(state) = frame {
                    state.stop
                } else {
                    None
                }
            })
            .await;
        assert_eq!(
            (stop.id.as_str(), stop.reason.as_str()),
            (first.id.as_str(), "enough")
        );
        let outcome = if rank == 3 {
            Outcome::Rejected
        } else {
            Outcome::Applied
        };
        raw.result(TrainerResult {
            id: stop.id,
            outcome: outcome.into(),
            ..TrainerResult::default()
        })
        .await;
    }
    let mut seen = std::collections::BTreeMap::new();
    while let Some(update) = updates.next().await.expect("healthy") {
        seen.insert(update.rank, update.result.expect("a result").outcome());
    }
    assert_eq!(seen.len(), 8);
    assert_eq!(
        seen.iter()
            .filter(|(_, outcome)| **outcome == Outcome::Applied)
            .count(),
        7
    );
    let reply = snapshot(&sandbox, "many", |reply| {
        reply
            .incidents
            .iter()
            .any(|incident| incident.kind == "mixed_results")
    })
    .await;
    assert_eq!(reply.ranks.len(), 8);
}

#[tokio::test]
async fn two_runs_at_once_do_not_see_each_other() {
    let sandbox = Sandbox::with_config(CHECK_EVERY_ITERATION);
    let (mut one, _) = Raw::attach(&sandbox.address(), Raw::hello("one", 0, 1, "a")).await;
    let (mut two, _) = Raw::attach(&sandbox.address(), Raw::hello("two", 0, 1, "b")).await;
    let stopped = one
        .gate(Raw::losses(1, &[f64::NAN]), "CheckInvalidLossHook")
        .await;
    let fine = two
        .gate(Raw::losses(1, &[1.0]), "CheckInvalidLossHook")
        .await;
    assert_eq!(
        (stopped.verdict(), fine.verdict()),
        (GateVerdict::Stop, GateVerdict::Continue)
    );
    assert_eq!(snapshot(&sandbox, "two", |_| true).await.incidents, []);
}

#[tokio::test]
async fn a_drain_fences_sessions_and_ends_with_0() {
    let mut sandbox = Sandbox::start();
    let (mut raw, _) = Raw::attach(&sandbox.address(), Raw::hello("drain", 0, 1, "s")).await;
    let pid = rustix::process::Pid::from_raw(sandbox.pid() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .expect("the daemon can be signalled");
    let fence = raw
        .until(|frame| {
            if let server_frame::Frame::Fence(fence) = frame {
                Some(fence)
            } else {
                None
            }
        })
        .await;
    assert_eq!(fence.reason(), FenceReason::Shutdown);
    drop(raw);
    assert_eq!(sandbox.wait().code(), Some(0), "{}", sandbox.log());
}
