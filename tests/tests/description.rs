//! What a trainer says of its model and datasets, and what is decided from it: frame by frame, and by the client.

use std::time::{Duration, Instant};

use hookbus_client::inspect::Inspector;
use hookbus_client::{Action, Given, Options, Position, Session, Signal, attach, wire};
use hookbus_e2e::{Raw, Sandbox, wait_for};
use hookbus_proto::v1::{
    Dataset, Description, Event, EventBatch, Facts, FactsTaken, GateAnswer, GateVerdict, Hello,
    HookRequest, Module, NumClasses, Otherwise, Sized, SnapshotReply, State, Way,
    client_frame::Frame, dataset::Classes, server_frame,
};
use tonic::Code;

const CHECK: &str = "NumClassCheckHook";
const TRAIN: &str = "before_train_epoch";
const VAL: &str = "before_val_epoch";
const PATIENCE: Duration = Duration::from_secs(60);

fn asks(hook: &str) -> Vec<HookRequest> {
    vec![HookRequest {
        r#type: hook.into(),
        ..HookRequest::default()
    }]
}

fn hello(run: &str, hook: &str) -> Hello {
    Hello {
        points: [TRAIN, VAL].map(str::to_owned).to_vec(),
        hooks: asks(hook),
        ..Raw::hello(run, 0, 1, "s")
    }
}

/// A detector with one head of so many classes, and 80 to learn.
fn detector(number: u64, num_classes: u64) -> Description {
    let module = |name: &str, class_name: &str, num_classes: Option<u64>| Module {
        name: name.into(),
        class_name: class_name.into(),
        num_classes: num_classes.map(|value| NumClasses {
            text: value.to_string(),
            number: Some(value as f64),
        }),
        ..Module::default()
    };
    let coco = Dataset {
        class_name: "CocoDataset".into(),
        classes: Some(Classes::Sized(Sized {
            type_name: "tuple".into(),
            length: 80,
        })),
    };
    Description {
        number,
        model_class: "MMDistributedDataParallel".into(),
        modules: vec![
            module("", "MMDistributedDataParallel", None),
            module("module.rpn_head", "RPNHead", Some(1)),
            module("module.bbox_head", "BBoxHead", Some(num_classes)),
        ],
        datasets: [("train".to_owned(), coco.clone()), ("val".to_owned(), coco)].into(),
    }
}

fn mismatch(num_classes: u64) -> String {
    format!(
        "The `num_classes` ({num_classes}) in BBoxHead of MMDistributedDataParallel does not match the length of `classes` (80) \
         in CocoDataset"
    )
}

async fn reach(raw: &mut Raw, seq: u64, point: &str) -> GateAnswer {
    let event = Event {
        point: u32::from(point == VAL),
        epoch: seq,
        ..Event::default()
    };
    let batch = EventBatch {
        first_seq: seq,
        events: vec![event],
        ..EventBatch::default()
    };
    raw.gate(batch, CHECK).await
}

async fn snapshot(
    sandbox: &Sandbox,
    run: &str,
    fact: impl Fn(&SnapshotReply) -> bool,
) -> SnapshotReply {
    let mut inspector = Inspector::connect(&sandbox.address(), Duration::from_secs(10))
        .await
        .expect("the daemon answers");
    let end = Instant::now() + PATIENCE;
    loop {
        let reply = inspector.snapshot(run).await.expect("the run is known");
        if fact(&reply) {
            return reply;
        }
        assert!(Instant::now() < end, "it never showed: {reply:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_gate_is_decided_from_the_latest_description() {
    let sandbox = Sandbox::start();
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello("heads", CHECK)).await;
    assert_eq!(welcome.refused, []);
    let plan = welcome.plan.expect("a plan").subscriptions;
    let gates: Vec<_> = plan
        .iter()
        .filter(|wish| wish.way() == Way::Gate)
        .map(|wish| (wish.point.as_str(), wish.deadline_ms, wish.otherwise()))
        .collect();
    let at = |point| (point, 2000, Otherwise::Continue);
    assert_eq!(gates, [at(TRAIN), at(VAL)]);

    raw.send(Frame::Description(detector(1, 81))).await;
    let answer = reach(&mut raw, 1, TRAIN).await;
    assert_eq!(
        (answer.verdict(), answer.reason, answer.by.as_str()),
        (GateVerdict::Stop, mismatch(81), CHECK)
    );
    assert_eq!(answer.logs, []);
    let answer = reach(&mut raw, 2, TRAIN).await;
    assert_eq!(answer.verdict(), GateVerdict::Stop, "it still holds");

    raw.send(Frame::Description(detector(2, 80))).await;
    let answer = reach(&mut raw, 3, TRAIN).await;
    assert_eq!(answer.verdict(), GateVerdict::Continue);
    raw.send(Frame::Description(detector(1, 81))).await;
    let answer = reach(&mut raw, 4, TRAIN).await;
    assert_eq!(answer.verdict(), GateVerdict::Continue, "an older one");

    let mut text = detector(3, 80);
    let val = text.datasets.get_mut("val").expect("it has one");
    val.classes = Some(Classes::Text("cat".into()));
    raw.send(Frame::Description(text)).await;
    let answer = reach(&mut raw, 5, TRAIN).await;
    assert_eq!(answer.verdict(), GateVerdict::Continue, "the train dataset");
    let answer = reach(&mut raw, 6, VAL).await;
    let reason = "`classes` in CocoDataset should be a tuple of str. Add comma if number of classes is 1 as classes = (cat,)";
    assert_eq!(
        (answer.verdict(), answer.reason.as_str()),
        (GateVerdict::Stop, reason)
    );
    let reply = snapshot(&sandbox, "heads", |reply| reply.incidents.len() >= 3).await;
    for incident in reply.incidents {
        assert_eq!(incident.kind, "class_mismatch");
    }
}

#[tokio::test]
async fn without_a_description_nothing_is_decided_and_the_log_says_so_once() {
    let sandbox = Sandbox::start();
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello("silent", CHECK)).await;
    for (seq, point) in [(1, TRAIN), (2, VAL), (3, TRAIN)] {
        let answer = reach(&mut raw, seq, point).await;
        assert_eq!(answer.verdict(), GateVerdict::Continue, "{point}");
    }
    // The dataset is there and does not say its classes: another line, once for both phases.
    let mut absent = detector(1, 80);
    for dataset in absent.datasets.values_mut() {
        dataset.classes = None;
    }
    raw.send(Frame::Description(absent)).await;
    for (seq, point) in [(4, TRAIN), (5, VAL), (6, TRAIN)] {
        let answer = reach(&mut raw, seq, point).await;
        assert_eq!(answer.verdict(), GateVerdict::Continue, "{point}");
    }
    let reply = snapshot(&sandbox, "silent", |reply| {
        reply.ranks.first().is_some_and(|rank| rank.gates == 6)
    })
    .await;
    let lines: Vec<_> = reply.logs.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("NumClassCheckHook checks nothing: the trainer has not described"),
        "{lines:?}"
    );
    assert_eq!(
        lines[1],
        "Please set `classes` in the CocoDataset `metainfo` and check if it is consistent with the `num_classes` of head"
    );
    assert!(reply.incidents.is_empty(), "{:?}", reply.incidents);
}

#[tokio::test]
async fn a_description_beyond_the_limits_ends_that_session_by_name() {
    let sandbox = Sandbox::start();
    let module = |class_name: String| Module {
        class_name,
        ..Module::default()
    };
    let of = |modules| Description {
        number: 1,
        modules,
        ..Description::default()
    };
    for (session, said, code, says) in [
        (
            "many",
            of(vec![module("H".into()); 65_537]),
            Code::InvalidArgument,
            "Description has 65537 modules",
        ),
        (
            "long",
            of(vec![module("H".repeat(5000))]),
            Code::InvalidArgument,
            "limits.string_bytes is 4096",
        ),
        (
            "large",
            of(vec![module("H".repeat(4000)); 300]),
            Code::ResourceExhausted,
            "limits.frame_bytes",
        ),
    ] {
        let (mut raw, _) = Raw::attach(&sandbox.address(), hello(session, CHECK)).await;
        raw.send(Frame::Description(said)).await;
        let status = loop {
            match raw.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{session}: the stream ended without a status"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), code, "{session}: {status}");
        assert!(status.message().contains(says), "{session}: {status}");
    }
    let (mut raw, _) = Raw::attach(&sandbox.address(), hello("next", CHECK)).await;
    raw.send(Frame::Description(detector(1, 80))).await;
    let answer = reach(&mut raw, 1, TRAIN).await;
    assert_eq!(answer.verdict(), GateVerdict::Continue, "the daemon lives");
}

/// What comes up to FactsTaken: the last state, and what is refused.
async fn taken(raw: &mut Raw, facts: Facts) -> (State, FactsTaken) {
    raw.send(Frame::Facts(facts)).await;
    let mut last = State::default();
    loop {
        match raw.next().await.expect("healthy").expect("not the end") {
            server_frame::Frame::State(state) => last = state,
            server_frame::Frame::FactsTaken(taken) => return (last, taken),
            _ => {}
        }
    }
}

#[tokio::test]
async fn norm_states_are_averaged_where_ranks_share_a_process_group() {
    let sandbox = Sandbox::start();
    for (run, world_size, process_group, on, refused) in [
        ("alone", 1, false, false, ""),
        ("group", 1, true, false, ""),
        (
            "apart",
            2,
            false,
            false,
            "there are 2 ranks and no process group",
        ),
        ("both", 2, true, true, ""),
    ] {
        let hello = Hello {
            world_size,
            ..hello(run, "SyncNormHook")
        };
        let (mut raw, _) = Raw::attach(&sandbox.address(), hello).await;
        let facts = Facts {
            process_group: Some(process_group),
            number: 1,
            ..Facts::default()
        };
        let (state, taken) = taken(&mut raw, facts).await;
        assert_eq!(state.sync_norm.is_some_and(|flag| flag.on), on, "{run}");
        let reasons: Vec<_> = taken.refused.iter().map(|one| &one.reason).collect();
        assert_eq!(reasons.len(), usize::from(!refused.is_empty()), "{run}");
        for reason in reasons {
            assert!(reason.starts_with(refused), "{run}: {reason}");
        }
    }
}

/// Reaches a point as a training thread does, each time in the next epoch. Why it shall stop, or what the user is warned of.
fn train(session: &Session, point: &str) -> Vec<String> {
    let id = session.point(point).expect("a point");
    let slice = Duration::from_secs(1);
    loop {
        match session.emit(id, &Given::NOTHING, &[], &[]) {
            Signal::Prepare => while !session.prepare(slice) {},
            Signal::Gate(mut ticket) => {
                while !session.wait(&mut ticket, slice) {}
                break;
            }
            Signal::Quiet | Signal::Pending => break,
            other => panic!("a session that stands alone: {other:?}"),
        }
    }
    let actions = session.take_actions(id).into_iter();
    let at = session.position();
    session.set_position(Position {
        epoch: at.epoch + 1,
        ..at
    });
    let texts = actions.filter_map(|action| match action {
        Action::Stop { reason, .. } => Some(reason),
        Action::Warning(text) => Some(text),
        _ => None,
    });
    texts.collect()
}

fn connected(session: &Session, connected: bool) {
    wait_for("the connection's change", || {
        (session.status().connected == connected).then_some(())
    });
}

#[test]
fn the_client_says_it_before_the_gate_and_again_to_a_daemon_that_was_started_anew() {
    let mut sandbox = Sandbox::start();
    let mut options = Options::new("described", Some(&sandbox.url())).expect("an address");
    options.hooks = asks(CHECK);
    let session = attach(options);
    session.facts(wire::Facts::default());
    session.describe(detector(0, 81));
    assert_eq!(train(&session, TRAIN), [mismatch(81)]);
    session.describe(detector(0, 80));
    assert_eq!(train(&session, TRAIN), [""; 0], "mended");
    session.describe(detector(0, 79));
    assert_eq!(train(&session, VAL), [mismatch(79)]);

    sandbox.kill();
    connected(&session, false);
    assert_eq!(train(&session, VAL), [""; 0], "without a daemon it goes on");
    sandbox.restart();
    connected(&session, true);
    session.describe(detector(0, 79));
    assert_eq!(train(&session, VAL), [mismatch(79)], "nothing has changed");
    session.close("stopped", false);
}

#[test]
fn what_does_not_fit_is_not_sent_and_said_once() {
    let sandbox = Sandbox::with_config("[limits]\nstring_bytes = 256\n");
    let mut options = Options::new("unfit", Some(&sandbox.url())).expect("an address");
    options.hooks = asks(CHECK);
    let session = attach(options);
    session.facts(wire::Facts::default());
    session.describe(detector(0, 81));
    assert_eq!(train(&session, TRAIN), [mismatch(81)]);
    let mut long = detector(0, 81);
    long.modules[2].name = "x".repeat(257);
    session.describe(long);
    let texts = train(&session, TRAIN);
    let says = "is not sent: a module's name has 257 bytes, the daemon takes 256: xxx";
    assert!(texts.len() == 1 && texts[0].contains(says), "{texts:?}");
    assert_eq!(train(&session, TRAIN), [""; 0], "nothing is known any more");
    let status = session.status();
    assert!(status.connected && status.verdict == "new", "{status:?}");
    session.describe(detector(0, 79));
    assert_eq!(train(&session, TRAIN), [mismatch(79)]);
    session.close("stopped", false);
}
