//! Steering, frame by frame: what is decided ahead, operators' orders, reconnects and a daemon that was started anew.

use std::collections::BTreeMap;

use hookbus_client::inspect::Inspector;
use hookbus_e2e::{Raw, Sandbox};
use hookbus_proto::v1::{
    Effective, EffectiveWhen, Facts, GateRequest, GateVerdict, Heartbeat, Hello, HookRequest,
    LrOrder, LrState, Order, Outcome, ParamGroup, Result as TrainerResult, Schedule, ScheduleChunk,
    State, Value, client_frame::Frame, lr_order, order, server_frame, value::Kind,
};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Code;

const ITERS: u64 = 20_000;

fn yolox() -> HookRequest {
    let value = |kind| Value { kind: Some(kind) };
    HookRequest {
        r#type: "YOLOXLrUpdaterHook".into(),
        args: BTreeMap::from([
            ("num_last_epochs".to_owned(), value(Kind::Integer(1))),
            ("min_lr_ratio".to_owned(), value(Kind::Number(0.05))),
            ("by_epoch".to_owned(), value(Kind::Boolean(false))),
        ])
        .into_iter()
        .collect(),
        ..HookRequest::default()
    }
}

fn hello(run: &str) -> Hello {
    Hello {
        hooks: vec![yolox()],
        ..Raw::hello(run, 0, 1, "s")
    }
}

fn facts(number: u64) -> Facts {
    let group = |base_lr| ParamGroup {
        base_lr,
        name: String::new(),
    };
    Facts {
        max_epochs: Some(10),
        iters_per_epoch: Some(ITERS / 10),
        groups: vec![group(0.01), group(0.5), group(0.01)],
        number,
        ..Facts::default()
    }
}

/// Everything up to the FactsTaken of this number: states, chunks, what is refused.
async fn taken(raw: &mut Raw, number: u64) -> (Vec<State>, Vec<ScheduleChunk>, Vec<String>) {
    let (mut states, mut chunks) = (Vec::new(), Vec::new());
    loop {
        match raw.next().await.expect("healthy").expect("not the end") {
            server_frame::Frame::State(state) => states.push(state),
            server_frame::Frame::Schedule(chunk) => chunks.push(chunk),
            server_frame::Frame::FactsTaken(taken) => {
                assert_eq!(taken.number, number);
                let refused = taken.refused.into_iter();
                let refused = refused.map(|one| format!("{}: {}", one.what, one.reason));
                return (states, chunks, refused.collect());
            }
            _ => {}
        }
    }
}

async fn state(raw: &mut Raw) -> State {
    raw.until(|frame| match frame {
        server_frame::Frame::State(state) => Some(state),
        _ => None,
    })
    .await
}

fn lr(run: &str, id: &str, how: lr_order::How) -> Order {
    Order {
        run: run.into(),
        id: id.into(),
        what: Some(order::What::Lr(LrOrder {
            group: None,
            how: Some(how),
        })),
        ..Order::default()
    }
}

async fn operator(sandbox: &Sandbox) -> Inspector {
    Inspector::connect(&sandbox.address(), std::time::Duration::from_secs(10))
        .await
        .expect("the daemon answers")
}

fn applied(id: &str) -> TrainerResult {
    TrainerResult {
        id: id.into(),
        outcome: Outcome::Applied.into(),
        ..TrainerResult::default()
    }
}

#[tokio::test]
async fn a_schedule_comes_whole_before_facts_taken_and_once_for_the_same_facts() {
    let sandbox = Sandbox::start();
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello("curve")).await;
    raw.send(Frame::Facts(facts(1))).await;
    let (states, chunks, refused) = taken(&mut raw, 1).await;
    assert_eq!(refused, [""; 0]);
    let lr = states[0].lr.clone().expect("a learning rate");
    assert_eq!(chunks.len(), chunks[0].count as usize);
    assert!(chunks.len() > 1, "two curves of 20,000 do not fit in one");
    assert!(chunks.iter().all(|chunk| chunk.id == lr.schedule));
    let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.data.clone()).collect();
    assert_eq!(Sha256::digest(&bytes)[..], lr.schedule_hash[..]);
    let schedule = Schedule::decode(bytes.as_slice()).expect("a Schedule");
    assert_eq!(schedule.group_curve, [0, 1, 0], "one curve a base rate");
    let lengths: Vec<_> = schedule.curves.iter().map(|one| one.values.len()).collect();
    assert_eq!(lengths, [ITERS as usize; 2]);

    raw.send(Frame::Facts(facts(2))).await;
    let (states, chunks, _) = taken(&mut raw, 2).await;
    assert_eq!((states.len(), chunks.len()), (0, 0), "nothing is new");
    let shorter = Facts {
        max_epochs: Some(5),
        ..facts(3)
    };
    raw.send(Frame::Facts(shorter)).await;
    let (states, chunks, _) = taken(&mut raw, 3).await;
    assert_ne!(chunks[0].id, lr.schedule, "other facts, another schedule");
    assert!(states[0].generation > 1);
    let own = Facts {
        own_scheduler: Some(true),
        scheduler: "StepLR".into(),
        ..facts(4)
    };
    raw.send(Frame::Facts(own)).await;
    let (states, _, refused) = taken(&mut raw, 4).await;
    assert_eq!(states[0].lr, None);
    let names = |line: &String| line.contains("YOLOXLrUpdaterHook") && line.contains("StepLR");
    assert!(refused.iter().any(names), "{refused:?}");
}

#[tokio::test]
async fn a_reconnect_gets_the_state_whole_and_the_schedule_only_if_it_lacks_it() {
    let sandbox = Sandbox::start();
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello("again")).await;
    raw.send(Frame::Facts(facts(1))).await;
    let (states, ..) = taken(&mut raw, 1).await;
    let id = states[0].lr.clone().expect("a learning rate").schedule;
    drop(raw);
    for (has, chunks_come) in [(false, true), (true, false)] {
        let again = Hello {
            applied: if has { vec![id.clone()] } else { Vec::new() },
            ..hello("again")
        };
        let (mut raw, welcome) = Raw::attach(&sandbox.address(), again).await;
        let state = welcome.state.expect("a state");
        assert_eq!(state, states[0]);
        raw.send(Frame::Facts(facts(1))).await;
        let (states, chunks, _) = taken(&mut raw, 1).await;
        assert_eq!(
            (states.len(), !chunks.is_empty()),
            (0, chunks_come),
            "{has}"
        );
    }
}

#[tokio::test]
async fn a_daemon_that_was_started_anew_goes_on_from_what_the_trainer_has() {
    let mut sandbox = Sandbox::start();
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello("anew")).await;
    raw.send(Frame::Facts(facts(1))).await;
    taken(&mut raw, 1).await;
    let mut updates = operator(&sandbox)
        .await
        .send(lr("anew", "mine", lr_order::How::Scale(0.5)))
        .await
        .expect("taken");
    let held = state(&mut raw).await;
    raw.result(applied("mine")).await;
    while updates.next().await.expect("healthy").is_some() {}
    drop(raw);
    sandbox.kill();
    sandbox.restart();
    let again = Hello {
        state: Some(held.clone()),
        next_seq: 7,
        ..hello("anew")
    };
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), again).await;
    let state = welcome.state.expect("a state");
    assert_eq!(state.generation, held.generation, "it never goes back");
    let holds = |state: &State| state.lr.clone().unwrap_or_default().holds;
    assert_eq!(holds(&state), holds(&held));
    assert_eq!(state.lr, held.lr, "what was agreed");
    raw.send(Frame::Facts(facts(1))).await;
    let (states, chunks, _) = taken(&mut raw, 1).await;
    assert_eq!(states, [], "the same facts, the same schedule");
    assert!(!chunks.is_empty(), "this rank did not say that it has it");
}

#[tokio::test]
async fn of_two_operators_at_once_the_first_is_told_and_what_nobody_did_is_withdrawn() {
    let sandbox = Sandbox::start();
    let (mut raw, _) = Raw::attach(&sandbox.address(), Raw::hello("two", 0, 1, "s")).await;
    let mut one = operator(&sandbox).await;
    let mut first = one
        .send(lr("two", "first", lr_order::How::Value(0.1)))
        .await
        .expect("taken");
    state(&mut raw).await;
    let mut second = one
        .send(lr("two", "second", lr_order::How::Value(0.2)))
        .await
        .expect("taken");
    let now = state(&mut raw).await.lr.expect("a hold").holds;
    let ids: Vec<_> = now.iter().map(|hold| hold.id.as_str()).collect();
    assert_eq!(ids, ["second"]);
    first.next().await.expect("healthy").expect("who is asked");
    let told = first.next().await.expect("healthy").expect("an answer");
    let told = told.result.expect("a result");
    assert_eq!(told.outcome(), Outcome::Rejected);
    assert!(told.reason.contains("second"), "{}", told.reason);
    second.next().await.expect("healthy").expect("who is asked");
    let refused = TrainerResult {
        outcome: Outcome::Failed.into(),
        ..applied("second")
    };
    raw.result(refused).await;
    second.next().await.expect("healthy").expect("an answer");
    assert_eq!(state(&mut raw).await.lr, None::<LrState>, "withdrawn");
}

#[tokio::test]
async fn orders_that_cannot_be_are_refused_with_the_reason() {
    let sandbox = Sandbox::start();
    let (mut raw, _) = Raw::attach(&sandbox.address(), Raw::hello("no", 0, 1, "s")).await;
    raw.send(Frame::Facts(Facts {
        size_multiple: 32,
        ..facts(1)
    }))
    .await;
    taken(&mut raw, 1).await;
    let at = |when: EffectiveWhen, number| {
        Some(Effective {
            when: when.into(),
            iter: number,
            epoch: number,
        })
    };
    let value = lr_order::How::Value;
    let size = |height, width| {
        Some(order::What::Size(hookbus_proto::v1::SizeOrder {
            height,
            width,
        }))
    };
    let base = lr("no", "", value(0.1));
    let mut operator = operator(&sandbox).await;
    for (order, says) in [
        (
            Order {
                ranks: vec![0],
                ..base.clone()
            },
            "lr is for every rank",
        ),
        (
            Order {
                effective: at(EffectiveWhen::Now, 0),
                ..base.clone()
            },
            "holds from a boundary",
        ),
        (
            Order {
                effective: at(EffectiveWhen::Iter, ITERS),
                ..base.clone()
            },
            "never comes",
        ),
        (lr("no", "", value(f64::INFINITY)), "finite number"),
        (lr("no", "", value(-1.0)), "finite number"),
        (
            Order {
                what: size(33, 64),
                ..base.clone()
            },
            "multiple of 32",
        ),
        (
            Order {
                what: size(0, 64),
                ..base.clone()
            },
            "multiple of 32",
        ),
        (
            Order {
                what: None,
                ..base.clone()
            },
            "it knows stop, lr, size",
        ),
    ] {
        let refused = match operator.send(order).await {
            Err(error) => error.to_string(),
            Ok(mut updates) => updates.next().await.expect_err(says).to_string(),
        };
        assert!(refused.contains(says), "{refused:?} does not say {says:?}");
    }
    let status = hookbus_proto::v1::control_client::ControlClient::new(
        hookbus_client::connect::connect(&sandbox.address(), std::time::Duration::from_secs(10))
            .await
            .expect("the daemon listens"),
    )
    .send(Order {
        ranks: vec![0],
        ..base
    })
    .await
    .expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn every_rank_is_answered_from_rank_0s_final_facts() {
    let sandbox = Sandbox::start();
    let hello = |rank| Hello {
        rank,
        world_size: 2,
        session: format!("s{rank}"),
        ..hello("ranks")
    };
    let (mut one, _) = Raw::attach(&sandbox.address(), hello(1)).await;
    one.send(Frame::Facts(Facts {
        max_epochs: Some(3),
        ..facts(1)
    }))
    .await;
    let (mut zero, _) = Raw::attach(&sandbox.address(), hello(0)).await;
    let incomplete = Facts {
        groups: Vec::new(),
        provisional: true,
        ..facts(1)
    };
    zero.send(Frame::Facts(incomplete)).await;
    zero.send(Frame::Facts(facts(2))).await;
    let (states, _, refused) = taken(&mut zero, 2).await;
    assert_eq!(
        refused, [""; 0],
        "nothing was decided from what was provisional"
    );
    let (theirs, _, _) = taken(&mut one, 1).await;
    assert_eq!(theirs, states, "the same for both");
    let differ = operator(&sandbox)
        .await
        .snapshot("ranks")
        .await
        .expect("the run is known")
        .incidents;
    assert!(
        differ[0].text.contains("max_epochs: 3 and 10"),
        "{differ:?}"
    );
}

/// A rank whose job's ranks act together, once the daemon knows it.
async fn together(sandbox: &Sandbox, rank: u32) -> Raw {
    let (mut raw, _) = Raw::attach(&sandbox.address(), Raw::hello("job", rank, 2, "s")).await;
    let beat = Heartbeat {
        together: true,
        ..Heartbeat::default()
    };
    raw.send(Frame::Heartbeat(beat)).await;
    raw.send(Frame::Batch(Raw::losses(1, &[0.5]))).await;
    let settled = |frame| matches!(frame, server_frame::Frame::Ack(_)).then_some(());
    raw.until(settled).await;
    raw
}

#[tokio::test]
async fn an_order_to_ranks_that_act_together_goes_by_rank_0_and_waits_for_who_is_here() {
    let checkpoint = |ranks: Vec<u32>| Order {
        run: "job".into(),
        id: format!("c{}", ranks.len()),
        ranks,
        what: Some(order::What::Checkpoint(Default::default())),
        ..Order::default()
    };
    let stop = Order {
        run: "job".into(),
        id: "stop".into(),
        what: Some(order::What::Stop(Default::default())),
        ..Order::default()
    };
    let (first, second) = (Sandbox::start(), Sandbox::start());
    let (_leads, _follows) = (together(&first, 0).await, together(&second, 1).await);
    let mut operator = operator(&first).await;
    for order in [stop.clone(), checkpoint(Vec::new())] {
        let mut updates = operator.send(order).await.expect("taken");
        let update = updates.next().await.expect("healthy").expect("who");
        assert_eq!(update.waiting, [0], "the other one is told by rank 0");
    }
    let mut operators = [operator, self::operator(&second).await];
    for (at, order, says) in [
        (0, checkpoint(vec![0]), "leave --ranks out"),
        (1, stop, "rank 0 is at another daemon"),
        (1, checkpoint(Vec::new()), "give the order there"),
    ] {
        let refused = match operators[at].send(order).await {
            Err(error) => error.to_string(),
            Ok(mut updates) => updates.next().await.expect_err(says).to_string(),
        };
        assert!(refused.contains(says), "{refused:?} does not say {says:?}");
    }
}

#[tokio::test]
async fn a_gate_that_another_rank_asks_for_stops_though_this_ranks_loss_is_fine() {
    let sandbox = Sandbox::start();
    let hello = Hello {
        hooks: vec![Raw::hook("CheckInvalidLossHook", "interval", 1)],
        ..Raw::hello("job", 0, 2, "s")
    };
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello).await;
    for (seq, held_on, says) in [
        (1, vec![1], Some("on rank 1, at iteration 0")),
        (2, vec![0, 3], Some("on rank 0, 3, at iteration 1")),
        (3, Vec::new(), None),
    ] {
        let mut batch = Raw::losses(seq, &[0.5]);
        batch.gates = vec![GateRequest {
            seq,
            subscribers: vec!["CheckInvalidLossHook".into()],
            deadline_ms: 50,
            held_on,
        }];
        raw.send(Frame::Batch(batch)).await;
        let answer = raw
            .until(|frame| match frame {
                server_frame::Frame::Gate(answer) => Some(answer),
                _ => None,
            })
            .await;
        assert_eq!(answer.verdict() == GateVerdict::Stop, says.is_some());
        assert!(
            answer.reason.contains(says.unwrap_or_default()),
            "{answer:?}"
        );
    }
}
