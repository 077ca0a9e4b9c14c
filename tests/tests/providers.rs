//! Providers of hooks at the real daemon, frame by frame: who may come in, what of an offer holds, and what ends a
//! connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookbus_client::access::Access;
use hookbus_client::address::Address;
use hookbus_client::inspect::Inspector;
use hookbus_e2e::{Interpreter, Sandbox, ScriptedProvider, binary, wait_for};
use hookbus_proto::v1::{
    Answer, FenceReason, HookRequest, Introduction, Offer, OfferedHook, Refusal, Subscription,
    provider_frame::Frame,
};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(60);

async fn inspector(sandbox: &Sandbox) -> Inspector {
    Inspector::connect(&sandbox.address(), PATIENCE)
        .await
        .expect("the daemon answers")
}

/// What `hookbus doctor` says of providers: "ok what: text".
async fn findings(inspector: &mut Inspector) -> Vec<String> {
    let about = inspector.about().await.expect("it answers");
    let findings = about.findings.into_iter();
    let ours = findings.filter(|finding| finding.what.starts_with("provider "));
    ours.map(|finding| {
        let mark = if finding.ok { "ok" } else { "NO" };
        format!("{mark} {}: {}", finding.what, finding.text)
    })
    .collect()
}

/// Asks the doctor until `wanted` is among what it says of providers.
async fn found(inspector: &mut Inspector, wanted: &str) {
    let look = async {
        while !findings(inspector).await.iter().any(|line| line == wanted) {
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, look).await;
    if found.is_err() {
        panic!("{wanted:?} is not in {:#?}", findings(inspector).await);
    }
}

fn named(hook: OfferedHook, name: &str) -> OfferedHook {
    let request = hook.request.expect("it has one");
    OfferedHook {
        request: Some(HookRequest {
            name: name.to_owned(),
            ..request
        }),
        ..hook
    }
}

#[tokio::test]
async fn what_a_provider_offers_is_listed_and_what_does_not_hold_is_named() {
    let config = "[[hooks]]\ntype = \"CheckInvalidLossHook\"\n";
    let sandbox = Sandbox::with_config(config);
    let mut inspector = inspector(&sandbox).await;
    let own = ScriptedProvider::hook("CheckInvalidLossHook");
    let mut everywhere = ScriptedProvider::hook("Everywhere");
    everywhere.subscriptions.push(Subscription {
        point: "*".into(),
        ..Subscription::default()
    });
    let first = ScriptedProvider::introduction("my_hooks");
    let (mut provider, asked) = ScriptedProvider::introduce(&sandbox.address(), first).await;
    assert_eq!(asked.hooks, [], "nobody configured it");
    let refused = provider
        .offer(Offer {
            hooks: vec![
                own.clone(),
                named(own.clone(), "mine"),
                named(own, "mine"),
                everywhere,
            ],
            refused: vec![Refusal {
                what: "hook raises".into(),
                reason: "TypeError: no such\nargument".into(),
            }],
        })
        .await;
    let taken = "hook CheckInvalidLossHook: the name \"CheckInvalidLossHook\" is taken by a hook of the daemon's configuration; give one of them another `name`";
    let twice = "hook mine: the name \"mine\" is taken by another hook of this provider; give one of them another `name`";
    let point = "point *: a hook names its points, and hook Everywhere does not";
    assert_eq!(refused, [taken, twice, point]);

    let hooks = inspector.hooks().await.expect("it answers");
    let ours: Vec<_> = hooks
        .iter()
        .filter(|hook| hook.module == "my_hooks")
        .collect();
    let types: Vec<_> = ours.iter().map(|hook| hook.r#type.as_str()).collect();
    assert_eq!(types, ["CheckInvalidLossHook", "Everywhere"]);
    assert_eq!(ours[0].points, ["after_train_iter"]);
    assert_eq!(ours[0].summary, "looks at the loss");
    let line = |what: &str| {
        let (what, why) = what.split_once(": ").expect("what: why");
        format!("NO provider my_hooks, {what}: {why}")
    };
    let said = findings(&mut inspector).await;
    assert_eq!(
        said,
        [
            "ok provider my_hooks: connected, with mine, Everywhere".to_owned(),
            line("hook raises: TypeError: no such argument"),
            line(taken),
            line(twice),
            line(point),
        ]
    );
    drop(provider);
    let away = "NO provider my_hooks: mine, Everywhere: its provider is not connected";
    found(&mut inspector, away).await;
}

#[tokio::test]
async fn one_provider_a_module_and_one_hook_a_name() {
    let sandbox = Sandbox::start();
    let address = sandbox.address();
    let mut inspector = inspector(&sandbox).await;
    let hook = || vec![ScriptedProvider::hook("Loss")];
    let (first, refused) = ScriptedProvider::attach(&address, "a", hook()).await;
    assert_eq!(refused, [""; 0]);
    let again = ScriptedProvider::introduction("a");
    let fence = ScriptedProvider::fenced(&address, again).await;
    assert_eq!(fence.reason(), FenceReason::Duplicate);
    assert!(
        fence.text.contains("module a has a provider"),
        "{}",
        fence.text
    );

    let (second, refused) = ScriptedProvider::attach(&address, "b", hook()).await;
    let taken =
        "hook Loss: the name \"Loss\" is taken by module a; give one of them another `name`";
    assert_eq!(refused, [taken]);
    drop((first, second));
    found(
        &mut inspector,
        "NO provider a: Loss: its provider is not connected",
    )
    .await;
    // One that attached by hand and is gone does not keep the name from one that is here.
    let (_third, refused) = ScriptedProvider::attach(&address, "c", hook()).await;
    assert_eq!(refused, [""; 0]);
    found(&mut inspector, "ok provider c: connected, with Loss").await;
    let (_fourth, refused) = ScriptedProvider::attach(&address, "a", hook()).await;
    assert_eq!(refused, [taken.replace("module a", "module c")]);
}

#[tokio::test]
async fn garbage_ends_that_connection_and_says_which_frame() {
    let sandbox = Sandbox::start();
    let address = sandbox.address();
    let (_other, refused) =
        ScriptedProvider::attach(&address, "other", vec![ScriptedProvider::hook("Other")]).await;
    assert_eq!(refused, [""; 0]);
    let first = |said| vec![Frame::Introduction(said)];
    let cases = [
        (
            vec![Frame::Offer(Offer::default())],
            "frame 1: a provider's first frame is Introduction",
        ),
        (
            first(Introduction {
                module: String::new(),
                ..ScriptedProvider::introduction("")
            }),
            "frame 1: Introduction.module is empty",
        ),
        (
            [
                first(ScriptedProvider::introduction("m")),
                vec![Frame::Offer(Offer {
                    hooks: vec![OfferedHook::default(); 65],
                    ..Offer::default()
                })],
            ]
            .concat(),
            "frame 2: Offer.hooks has 65 hooks, more than 64",
        ),
        (
            [
                first(ScriptedProvider::introduction("m")),
                vec![Frame::Answers(Default::default())],
            ]
            .concat(),
            "frame 2: Answers before an Offer",
        ),
        (
            [
                first(ScriptedProvider::introduction("m")),
                vec![
                    Frame::Offer(Offer::default()),
                    Frame::Answers(hookbus_proto::v1::Answers {
                        answers: vec![Answer {
                            run: 12,
                            ..Answer::default()
                        }],
                    }),
                ],
            ]
            .concat(),
            "frame 3: Answers.answers[0].run is 12: this connection was told of runs up to 0",
        ),
    ];
    for (frames, text) in cases {
        let provider = ScriptedProvider::open(&address, &Access::default(), frames).await;
        let status = provider.expect("the stream opens").status().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{text}: {status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    let protocol = Introduction {
        protocol: 7,
        ..ScriptedProvider::introduction("m")
    };
    let fence = ScriptedProvider::fenced(&address, protocol).await;
    assert_eq!(fence.reason(), FenceReason::Version);
    let mut inspector = inspector(&sandbox).await;
    found(&mut inspector, "ok provider other: connected, with Other").await;
}

#[tokio::test]
async fn over_tcp_it_takes_an_operator() {
    let sandbox = Sandbox::with_config("[listen]\ntcp = \"127.0.0.1:0\"\n");
    let address = Address::parse(&sandbox.tcp()).expect("an address");
    let first = vec![Frame::Introduction(ScriptedProvider::introduction("m"))];
    let refused = ScriptedProvider::open(&address, &Access::default(), first).await;
    let status = refused.err().expect("no operator");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains("the role operator"), "{status:?}");
}

const WAITS: &str = "wait";

fn offer() -> Offer {
    Offer {
        hooks: vec![ScriptedProvider::hook("Loss")],
        ..Offer::default()
    }
}

#[tokio::test]
async fn a_module_has_a_process_with_a_ticket_and_another_one_when_it_ends() {
    let interpreter = Interpreter::new(WAITS);
    let sandbox = Sandbox::with_config(&interpreter.config("start_ms = 0"));
    let mut inspector = inspector(&sandbox).await;
    let first = interpreter.started();
    assert_eq!(first.words, "-m hookbus.serving --module my_hooks");
    let folder = sandbox.path("");
    let folder = folder.to_str().expect("UTF-8").trim_end_matches('/');
    assert!(
        first.path.split(':').any(|path| path == folder),
        "{}",
        first.path
    );
    assert_ne!(first.address, sandbox.address(), "a socket of its own");

    for (ticket, text) in [
        ("", "module my_hooks is in the daemon's configuration"),
        (
            "wrong",
            "the daemon did not start this process for module my_hooks",
        ),
    ] {
        let said = Introduction {
            ticket: ticket.to_owned(),
            ..ScriptedProvider::introduction("my_hooks")
        };
        let fence = ScriptedProvider::fenced(&sandbox.address(), said).await;
        assert_eq!(fence.reason(), FenceReason::Refused);
        assert!(fence.text.contains(text), "{}", fence.text);
    }
    let (mut provider, asked) =
        ScriptedProvider::introduce(&first.address, first.introduction()).await;
    assert_eq!(asked.hooks.len(), 1);
    assert_eq!(
        (asked.hooks[0].r#type.as_str(), asked.hooks[0].args.len()),
        ("Loss", 1)
    );
    assert_eq!(provider.offer(offer()).await, [""; 0]);
    found(&mut inspector, "ok provider my_hooks: connected, with Loss").await;
    let fence = ScriptedProvider::fenced(&first.address, first.introduction()).await;
    assert_eq!(fence.reason(), FenceReason::Duplicate);

    kill_process(first.pid, Signal::KILL).expect("it runs");
    let fence = provider.fence().await;
    assert_eq!(fence.reason(), FenceReason::Superseded);
    first.is_gone();
    let away = "NO provider my_hooks: Loss: its process was ended by signal 9: last words";
    found(&mut inspector, away).await;
    let second = interpreter.started();
    assert_ne!(second.ticket, first.ticket);
    let fence = ScriptedProvider::fenced(&first.address, first.introduction()).await;
    assert_eq!(fence.reason(), FenceReason::Refused);
    let (mut provider, _) =
        ScriptedProvider::introduce(&second.address, second.introduction()).await;
    assert_eq!(provider.offer(offer()).await, [""; 0]);
    found(&mut inspector, "ok provider my_hooks: connected, with Loss").await;
    let log = sandbox.log();
    for words in [
        "words for the log",
        "a provider of hooks has failed",
        "again_in_ms=200",
    ] {
        assert!(log.contains(words), "{words:?} is not in {log}");
    }
}

#[tokio::test]
async fn a_process_that_ends_at_once_and_one_that_cannot_be_started_are_named() {
    let interpreter =
        Interpreter::new("echo \"ModuleNotFoundError: No module named 'hookbus'\" >&2; exit 1");
    // Nothing is waited for where nothing can come.
    let sandbox = Sandbox::with_config(&interpreter.config("start_ms = 600000"));
    let mut inspector = inspector(&sandbox).await;
    let why = "its process exited with status 1: ModuleNotFoundError: No module named 'hookbus'; install the package \
               hookbus for this interpreter, or name one that has it: providers.python";
    found(
        &mut inspector,
        &format!("NO provider my_hooks: no hooks: {why}"),
    )
    .await;
    found(
        &mut inspector,
        &format!("NO provider my_hooks, hook Loss: {why}"),
    )
    .await;
    let log = sandbox.log();
    assert!(
        log.contains("a provider's hook is not there") && log.contains("hook Loss"),
        "{log}"
    );

    let config = "[providers]\npython = \"/nowhere/python\"\nstart_ms = 600000\n[[hooks]]\ntype = \"Loss\"\nmodule = \"m\"\n";
    let sandbox = Sandbox::with_config(config);
    let mut inspector = self::inspector(&sandbox).await;
    let why = "/nowhere/python cannot be run: No such file or directory (os error 2); say another providers.python";
    found(&mut inspector, &format!("NO provider m, hook Loss: {why}")).await;
}

#[tokio::test]
async fn the_daemon_is_ready_when_its_modules_have_offered() {
    let interpreter = Interpreter::new(WAITS);
    let config = interpreter.config("start_ms = 600000");
    let offered = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&offered);
    let ready = std::thread::spawn(move || {
        let sandbox = Sandbox::with_config(&config);
        (sandbox, seen.load(Ordering::SeqCst))
    });
    let started = interpreter.started();
    let (mut provider, _) =
        ScriptedProvider::introduce(&started.address, started.introduction()).await;
    offered.store(true, Ordering::SeqCst);
    provider.offer(offer()).await;
    let (sandbox, offered) = ready.join().expect("it starts");
    assert!(offered, "it was ready before its module was");
    let mut inspector = inspector(&sandbox).await;
    found(&mut inspector, "ok provider my_hooks: connected, with Loss").await;
}

#[tokio::test]
async fn processes_end_with_the_daemon_however_that_ends() {
    let interpreter = Interpreter::new(WAITS);
    let mut sandbox = Sandbox::with_config(&interpreter.config("start_ms = 0"));
    let started = interpreter.started();
    let (mut provider, _) =
        ScriptedProvider::introduce(&started.address, started.introduction()).await;
    provider.offer(offer()).await;
    let waiting = tokio::spawn(async move { provider.fence().await });
    let sandbox_ended = tokio::task::spawn_blocking(move || (sandbox.terminate(), sandbox));
    assert_eq!(
        waiting.await.expect("it ends").reason(),
        FenceReason::Shutdown
    );
    let (status, mut sandbox) = sandbox_ended.await.expect("it ends");
    assert!(status.success(), "{}", sandbox.log());
    started.is_gone();
    let Address::Unix(socket) = &started.address else {
        panic!("a Unix socket: {}", started.address);
    };
    assert!(!socket.exists(), "the socket is gone");

    sandbox.restart();
    let started = interpreter.started();
    sandbox.kill();
    wait_for("its end", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", started.pid.as_raw_nonzero()));
        let runs = stat.is_ok_and(|stat| !stat.contains(") Z "));
        (!runs).then_some(())
    });
    // Only the process itself is promised an end by a daemon that was killed.
    kill_process(started.below, Signal::KILL).expect("it runs");
}

#[tokio::test]
async fn a_daemon_that_listens_on_tcp_only_has_a_socket_for_its_processes() {
    let interpreter = Interpreter::new(WAITS);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("h.toml");
    let config = interpreter.config("start_ms = 0");
    let config = format!(
        "[listen]\nsocket = \"\"\ntcp = \"127.0.0.1:0\"\n[journal]\nenabled = false\n{config}"
    );
    std::fs::write(&file, config).expect("written");
    let mut daemon = std::process::Command::new(binary("hookbusd"))
        .arg("--config")
        .arg(&file)
        .args(["--idle-exit", "1"])
        .env("TMPDIR", folder.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let started = interpreter.started();
    let (mut provider, _) =
        ScriptedProvider::introduce(&started.address, started.introduction()).await;
    assert_eq!(provider.offer(offer()).await, [""; 0]);
    // A process that it has started itself is no reason to stay.
    let fence = provider.fence().await;
    assert_eq!(fence.reason(), FenceReason::Shutdown);
    drop(provider);
    let ended = tokio::task::spawn_blocking(move || daemon.wait());
    assert!(ended.await.expect("it ends").expect("its status").success());
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("read").collect();
    assert_eq!(left.len(), 1, "only the configuration: {left:?}");
    started.is_gone();
}

#[tokio::test]
async fn the_drain_tells_providers_and_does_not_wait_for_them() {
    let mut sandbox = Sandbox::with_config("[drain]\ndeadline_ms = 60000\n");
    let hooks = vec![ScriptedProvider::hook("Loss")];
    let (mut provider, _) = ScriptedProvider::attach(&sandbox.address(), "m", hooks).await;
    let pid = Pid::from_raw(i32::try_from(sandbox.pid()).expect("a pid"));
    kill_process(pid.expect("not 0"), Signal::TERM).expect("it lives");
    let fence = provider.fence().await;
    assert_eq!(fence.reason(), FenceReason::Shutdown);
    drop(provider);
    assert!(sandbox.wait().success());
}
