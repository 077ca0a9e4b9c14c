//! Hooks of a provider in a training, over the real daemon: what is called, what an answer does, and what happens to a
//! provider that does not answer.

use std::time::Duration;

use hookbus_client::inspect::Inspector;
use hookbus_e2e::{Interpreter, Raw, Sandbox, ScriptedProvider};
use hookbus_proto::v1::{
    Answer, EventBatch, Facts, GateAnswer, GateRequest, GateVerdict, HookDecision, HookState,
    HookStatus, LogLine, Offer, OfferedHook, Otherwise, StopDecision, Way, When, client_frame,
    daemon_frame, hook_decision::What, server_frame, when,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// A state that another writer of JSON would write otherwise.
const LARGE: &str = "{\"seen\": 1267650600228229401496703205376, \"a\" : 1.10}";
/// What the training waits at most where an answer is to come.
const LONG_MS: u32 = 20_000;

fn decision(what: What) -> HookDecision {
    HookDecision { what: Some(what) }
}

/// Stops at a loss that is not finite, whoever asks.
fn gate() -> OfferedHook {
    let mut hook = ScriptedProvider::hook("MyLoss");
    let wish = &mut hook.subscriptions[0];
    wish.way = Way::Gate.into();
    wish.when = Some(When {
        condition: Some(when::Condition::NotFinite("loss".into())),
    });
    wish.otherwise = Otherwise::Stop.into();
    wish.otherwise_text = "nobody answered".into();
    wish.deadline_ms = LONG_MS;
    hook
}

/// A batch of one event that waits for `hook`.
fn waiting(seq: u64, loss: f64, hook: &str, deadline_ms: u32) -> EventBatch {
    EventBatch {
        gates: vec![GateRequest {
            seq,
            subscribers: vec![hook.to_owned()],
            deadline_ms,
            ..GateRequest::default()
        }],
        ..Raw::losses(seq, &[loss])
    }
}

async fn answered(raw: &mut Raw) -> GateAnswer {
    raw.until(|frame| match frame {
        server_frame::Frame::Gate(answer) => Some(answer),
        _ => None,
    })
    .await
}

async fn inspector(sandbox: &Sandbox) -> Inspector {
    Inspector::connect(&sandbox.address(), PATIENCE)
        .await
        .expect("the daemon answers")
}

/// The only hook of the run, once `seen` is true of it.
async fn hook(
    inspector: &mut Inspector,
    run: &str,
    seen: impl Fn(&HookStatus) -> bool,
) -> HookStatus {
    let mut last = None;
    let look = async {
        loop {
            let hooks = inspector.snapshot(run).await.expect("it is there").hooks;
            if let Some(hook) = hooks.iter().find(|hook| seen(hook)) {
                return hook.clone();
            }
            last = Some(hooks);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, look).await;
    found.unwrap_or_else(|_| panic!("not so: {last:#?}"))
}

#[tokio::test]
async fn an_event_becomes_a_call_and_a_stop_reaches_the_training() {
    let sandbox = Sandbox::start();
    let address = sandbox.address();
    let (mut provider, refused) =
        ScriptedProvider::attach(&address, "my_hooks", vec![gate()]).await;
    assert_eq!(refused, [""; 0]);
    let (mut raw, welcome) = Raw::attach(&address, Raw::hello("digits", 0, 1, "s")).await;
    let plan = welcome.plan.expect("a plan");
    let wish = plan
        .subscriptions
        .iter()
        .find(|wish| wish.subscriber == "MyLoss");
    let wish = wish.expect("it is in the plan");
    assert_eq!(
        (wish.point.as_str(), wish.way()),
        ("after_train_iter", Way::Gate)
    );
    let known = Facts {
        number: 1,
        max_epochs: Some(3),
        ..Facts::default()
    };
    raw.send(client_frame::Frame::Facts(known)).await;
    let opened = match provider.next().await {
        Ok(Some(daemon_frame::Frame::Opened(opened))) => opened,
        other => panic!("not a RunOpened: {other:?}"),
    };
    assert_eq!((opened.name.as_str(), opened.attempt), ("digits", 0));
    assert_eq!(opened.states, []);

    raw.send(client_frame::Frame::Batch(waiting(
        1,
        f64::NAN,
        "MyLoss",
        LONG_MS,
    )))
    .await;
    let call = provider.call().await;
    assert_eq!(
        (call.run, call.hook.as_str(), call.gate),
        (opened.run, "MyLoss", true)
    );
    assert!(call.fields["loss"].is_nan(), "{call:?}");
    let stop = StopDecision {
        reason: "loss become infinite or NaN!".into(),
        logs: vec![LogLine {
            text: "a line before".into(),
            ..LogLine::default()
        }],
    };
    let answer = Answer {
        run: call.run,
        id: call.id,
        decisions: vec![decision(What::Stop(stop))],
        state_json: Some(LARGE.into()),
        ..Answer::default()
    };
    provider.answer(answer).await;
    let answer = answered(&mut raw).await;
    assert_eq!(answer.verdict(), GateVerdict::Stop);
    assert_eq!(answer.reason, "loss become infinite or NaN!");
    assert_eq!(answer.logs[0].text, "a line before");
    assert_eq!(answer.by, "MyLoss");
    let mut inspector = inspector(&sandbox).await;
    let seen = hook(&mut inspector, "digits", |hook| hook.decisions == 1).await;
    assert_eq!(
        (seen.module.as_str(), seen.calls, seen.errors),
        ("my_hooks", 1, 0)
    );
    assert_eq!((seen.origin.as_str(), seen.away.as_str()), ("provider", ""));

    // Another connection has the state of the last answer.
    drop(provider);
    hook(&mut inspector, "digits", |hook| !hook.away.is_empty()).await;
    let (mut provider, refused) =
        ScriptedProvider::attach(&address, "my_hooks", vec![gate()]).await;
    assert_eq!(refused, [""; 0]);
    let opened = match provider.next().await {
        Ok(Some(daemon_frame::Frame::Opened(opened))) => opened,
        other => panic!("not a RunOpened: {other:?}"),
    };
    let state = HookState {
        hook: "MyLoss".into(),
        json: LARGE.into(),
    };
    assert_eq!(opened.states, [state]);
    assert_eq!(opened.facts.and_then(|facts| facts.max_epochs), Some(3));
}

#[tokio::test]
async fn what_was_not_answered_comes_again_on_the_next_connection() {
    let sandbox = Sandbox::start();
    let address = sandbox.address();
    let hooks = || vec![ScriptedProvider::hook("Loss")];
    let (mut provider, _) = ScriptedProvider::attach(&address, "m", hooks()).await;
    let (mut raw, _) = Raw::attach(&address, Raw::hello("digits", 0, 1, "s")).await;
    raw.send(client_frame::Frame::Batch(Raw::losses(1, &[0.5, 0.25])))
        .await;
    let calls = [provider.call().await, provider.call().await];
    drop(provider);
    let (mut provider, _) = loop {
        // It is away when the daemon has noticed.
        let said = ScriptedProvider::introduction("m");
        let first = vec![hookbus_proto::v1::provider_frame::Frame::Introduction(said)];
        let mut again = ScriptedProvider::open(&address, &Default::default(), first)
            .await
            .expect("the stream opens");
        if let Ok(Some(daemon_frame::Frame::Assignment(asked))) = again.next().await {
            break (again, asked);
        }
    };
    let offer = Offer {
        hooks: hooks(),
        ..Offer::default()
    };
    assert_eq!(provider.offer(offer).await, [""; 0]);
    for before in calls {
        let call = provider.call().await;
        assert_eq!((call.id, &call.fields), (before.id, &before.fields));
    }
    raw.acked(2).await;
}

#[tokio::test]
async fn what_the_configuration_asks_for_and_nobody_has_is_refused_in_a_run() {
    let config =
        "[providers]\npython = \"/nowhere/python\"\n[[hooks]]\ntype = \"Loss\"\nmodule = \"m\"\n";
    let sandbox = Sandbox::with_config(config);
    let (_raw, _) = Raw::attach(&sandbox.address(), Raw::hello("digits", 0, 1, "s")).await;
    let mut inspector = inspector(&sandbox).await;
    let refused = inspector
        .snapshot("digits")
        .await
        .expect("it is there")
        .refused;
    let lines: Vec<_> = refused
        .iter()
        .map(|one| format!("{}: {}", one.what, one.reason))
        .collect();
    let line = "hook Loss: /nowhere/python cannot be run: No such file or directory (os error 2); say another providers.python";
    assert!(lines.iter().any(|said| said == line), "{lines:#?}");
}

#[tokio::test]
async fn a_trainer_cannot_name_a_module() {
    let sandbox = Sandbox::start();
    let hook = Raw::hook("MemoryProfilerHook", "module", 1);
    let hello = hookbus_proto::v1::Hello {
        hooks: vec![hook],
        ..Raw::hello("digits", 0, 1, "s")
    };
    let (_raw, welcome) = Raw::attach(&sandbox.address(), hello).await;
    let why = &welcome.refused[0].reason;
    assert!(why.contains("a trainer cannot name a module"), "{why}");
}

#[tokio::test]
async fn a_process_that_hangs_is_ended_and_started_again_and_the_training_goes_on() {
    let interpreter = Interpreter::new("wait");
    let config = interpreter.config("start_ms = 0\nhung_ms = 1000");
    let sandbox = Sandbox::with_config(&config);
    let started = interpreter.started();
    let (mut provider, _) =
        ScriptedProvider::introduce(&started.address, started.introduction()).await;
    let offer = Offer {
        hooks: vec![ScriptedProvider::hook("Loss")],
        ..Offer::default()
    };
    assert_eq!(provider.offer(offer.clone()).await, [""; 0]);
    let (mut raw, _) = Raw::attach(&sandbox.address(), Raw::hello("digits", 0, 1, "s")).await;
    raw.send(client_frame::Frame::Batch(Raw::losses(1, &[0.5])))
        .await;
    let call = provider.call().await;
    raw.acked(1).await; // nobody waits for the answer, which never comes
    let fence = provider.fence().await;
    assert!(
        fence
            .text
            .contains("answered nothing for 1 s while 1 calls waited"),
        "{}",
        fence.text
    );
    started.is_gone();
    let again = interpreter.started();
    let (mut provider, _) = ScriptedProvider::introduce(&again.address, again.introduction()).await;
    assert_eq!(provider.offer(offer).await, [""; 0]);
    let same = provider.call().await;
    assert_eq!((same.id, same.at), (call.id, call.at));
    let answer = Answer {
        run: same.run,
        id: same.id,
        ..Answer::default()
    };
    provider.answer(answer).await;
    let mut inspector = inspector(&sandbox).await;
    hook(&mut inspector, "digits", |hook| {
        hook.calls == 1 && hook.time_s > 0.0
    })
    .await;
}
