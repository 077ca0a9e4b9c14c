//! The verbs over the wire, against a scripted daemon: what they print, as text and as JSON, and how they end.

#![allow(
    clippy::unwrap_used,
    reason = "the whole file is tests; the lint sees only what #[test] marks"
)]

use std::pin::Pin;
use std::process::{Command, Output, Stdio};

use hookbus_client::inspect::proto::control_server::{Control, ControlServer};
use hookbus_client::inspect::proto::inspect_server::{Inspect, InspectServer};
use hookbus_client::inspect::proto::{self, *};
use std::result::Result; // the wire has a Result of its own
use tempfile::TempDir;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, iter};
use tonic::{Request, Response, Status};

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

/// Knows one run, digits@1, with a loss that is nan; rank 1 never answers an order that is not `now`.
struct Scripted;

fn snapshot(run: &str) -> Result<SnapshotReply, Status> {
    if !["", "digits", "digits@1"].contains(&run) {
        return Err(Status::not_found(format!(
            "there is no run {run:?}: digits@1"
        )));
    }
    let summary = RunSummary {
        id: "digits@1".into(),
        name: "digits".into(),
        phase: RunPhase::Running.into(),
        loss: Some(f64::NAN),
        ..Default::default()
    };
    let total = Reading {
        value: Some(2.0 * 1024.0 * 1024.0 * 1024.0),
        source: "/proc/meminfo".into(),
        ..Default::default()
    };
    let host = HostMemory {
        total_bytes: Some(total),
        ..Default::default()
    };
    Ok(SnapshotReply {
        run: Some(summary),
        host: Some(host),
        gpu_unknown: "no driver".into(),
        ..Default::default()
    })
}

#[tonic::async_trait]
impl Inspect for Scripted {
    async fn runs(&self, _: Request<RunsRequest>) -> Answer<RunsReply> {
        Ok(Response::new(RunsReply {
            runs: snapshot("")?.run.into_iter().collect(),
        }))
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Answer<SnapshotReply> {
        snapshot(&request.into_inner().run).map(Response::new)
    }

    type WatchStream = Replies<SnapshotReply>;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let reply = snapshot(&request.into_inner().run)?;
        Ok(Response::new(Box::pin(iter([
            Ok(reply.clone()),
            Ok(reply.clone()),
            Ok(reply),
        ]))))
    }

    type FollowStream = Replies<Happening>;

    async fn follow(&self, request: Request<FollowRequest>) -> Answer<Self::FollowStream> {
        let asked = request.into_inner();
        snapshot(&asked.run)?;
        let said = |text: &str| {
            Ok(Happening {
                what: Some(happening::What::Lifecycle(Lifecycle { text: text.into() })),
                ..Default::default()
            })
        };
        let events = if asked.events {
            "with events"
        } else {
            "without"
        };
        Ok(Response::new(Box::pin(iter([said("one"), said(events)]))))
    }

    async fn hooks(&self, _: Request<HooksRequest>) -> Answer<HooksReply> {
        let hook = HookInfo {
            r#type: "CheckInvalidLossHook".into(),
            ..Default::default()
        };
        Ok(Response::new(HooksReply { hooks: vec![hook] }))
    }

    type RowsStream = Replies<RowsReply>;

    async fn rows(&self, _: Request<RowsRequest>) -> Answer<Self::RowsStream> {
        Err(Status::failed_precondition("this daemon keeps no journal"))
    }

    async fn about(&self, _: Request<AboutRequest>) -> Answer<AboutReply> {
        let finding = Finding {
            what: "GPU (NVML)".into(),
            mend: "install the driver".into(),
            ..Default::default()
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(AboutReply {
            version,
            pid: 7,
            findings: vec![finding],
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl Control for Scripted {
    type SendStream = Replies<OrderUpdate>;

    async fn send(&self, request: Request<Order>) -> Answer<Self::SendStream> {
        let order = request.into_inner();
        let Some(order::What::Stop(stop)) = order.what else {
            return Err(Status::invalid_argument("what?"));
        };
        let now = order.effective.unwrap_or_default().when() == EffectiveWhen::Now;
        let said = |rank, outcome: Outcome| {
            let result = proto::Result {
                outcome: outcome.into(),
                at: Some(Position {
                    epoch: 0,
                    iter: 8,
                    inner_iter: 8,
                }),
                reason: stop.reason.clone(),
                ..Default::default()
            };
            Ok(OrderUpdate {
                rank,
                result: Some(result),
                ..Default::default()
            })
        };
        let last = if now {
            Outcome::Applied
        } else {
            Outcome::Expired
        };
        let asked = Ok(OrderUpdate {
            id: "o1".into(),
            waiting: vec![0, 1],
            ..Default::default()
        });
        Ok(Response::new(Box::pin(iter([
            asked,
            said(0, Outcome::Applied),
            said(1, last),
        ]))))
    }
}

struct Daemon {
    folder: TempDir,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    /// Listens on return; serves on a thread of its own until the value goes.
    fn start() -> Daemon {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let listener =
            std::os::unix::net::UnixListener::bind(folder.path().join("d.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (end, ended) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let incoming =
                    UnixListenerStream::new(tokio::net::UnixListener::from_std(listener).unwrap());
                let router = tonic::transport::Server::builder()
                    .add_service(InspectServer::new(Scripted))
                    .add_service(ControlServer::new(Scripted));
                let ended = async { ended.await.unwrap_or_default() };
                router
                    .serve_with_incoming_shutdown(incoming, ended)
                    .await
                    .unwrap();
            });
        });
        Daemon {
            folder,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Status, standard output and standard error of one `hookbus`.
    fn hookbus(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookbus"));
        let address = format!("unix://{}", self.folder.path().join("d.sock").display());
        command
            .args(args)
            .env("HOOKBUS_ADDRESS", address)
            .stdin(Stdio::null());
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        (
            status.code(),
            String::from_utf8(stdout).unwrap(),
            String::from_utf8(stderr).unwrap(),
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the daemon shows in the verb that it answered.
            let _ = thread.join();
        }
    }
}

#[test]
fn reading_verbs_print_what_the_daemon_says() {
    let daemon = Daemon::start();
    let table: [(&[&str], &str); 10] = [
        (&["runs"], "digits@1  0        running"),
        (&["runs", "--json"], "\"loss\":\"nan\""),
        (&["show", "digits"], "digits@1: running"),
        (&["show", "--json"], "\"phase\":\"running\""),
        (&["memory"], "total       2.0 GiB"),
        (&["memory"], "unknown: no driver"),
        (
            &["memory", "--json"],
            "\"available_bytes\":{\"unknown\":\"the daemon did not send it\",\"value\":null}",
        ),
        (&["hooks"], "CheckInvalidLossHook"),
        (
            &["doctor"],
            "NO  GPU (NVML): \n      mend: install the driver",
        ),
        (&["doctor", "--json"], "\"mend\":\"install the driver\""),
    ];
    for (args, words) in table {
        let (code, out, err) = daemon.hookbus(args);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}");
        assert!(
            out.contains(words),
            "{args:?}: {words:?} is missing in:\n{out}"
        );
        assert!(!out.contains('\x1b'), "no colour in a pipe: {args:?}");
    }
}

#[test]
fn a_watch_prints_as_often_as_it_is_told() {
    let daemon = Daemon::start();
    let (code, out, _) = daemon.hookbus(&[
        "memory", "digits", "--watch", "0.1", "--count", "2", "--json",
    ]);
    assert_eq!((code, out.lines().count()), (Some(0), 2), "{out}");
    let (code, out, err) = daemon.hookbus(&["memory", "--watch", "0.1"]);
    assert_eq!((code, out.matches("host\n").count()), (Some(1), 3), "{out}");
    assert_eq!(err, "hookbus: the daemon ended the watch\n");
}

#[test]
fn a_missing_run_is_the_daemons_own_line() {
    let daemon = Daemon::start();
    for args in [
        ["show", "digit"].as_slice(),
        &["memory", "digit"],
        &["memory", "digit", "--watch"],
    ] {
        let (code, out, err) = daemon.hookbus(args);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}");
        assert_eq!(
            err, "hookbus: there is no run \"digit\": digits@1\n",
            "{args:?}"
        );
    }
}

#[test]
fn a_stop_succeeds_only_when_every_rank_did_it() {
    let daemon = Daemon::start();
    let (code, out, _) = daemon.hookbus(&["send", "digits", "stop", "--now", "--reason", "enough"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        out,
        "order o1 sent to ranks 0, 1\n\
         RANK  RESULT   WHERE  OLD  NEW  WHY\n\
         0     applied  -      -    -    enough\n\
         1     applied  -      -    -    enough\n"
    );
    let (code, out, err) = daemon.hookbus(&["send", "digits", "stop", "--json"]);
    assert_eq!((code, out.lines().count()), (Some(1), 3), "{out}");
    assert!(
        out.contains("\"outcome\":\"expired\"") && err.contains("not applied by rank 1;"),
        "{out}{err}"
    );
}

#[test]
fn a_watch_is_a_line_each_and_ends_with_the_daemon() {
    let daemon = Daemon::start();
    let (code, out, _) = daemon.hookbus(&["watch", "digits", "--count", "2"]);
    assert_eq!(code, Some(0));
    assert_eq!(out, "    0.000 s  one\n    0.000 s  with events\n");
    let (code, out, err) = daemon.hookbus(&["watch", "--no-events", "--json"]);
    assert_eq!((code, out.lines().count()), (Some(1), 2), "{out}");
    assert!(out.contains("\"lifecycle\":\"without\""), "{out}");
    assert!(err.contains("the daemon ended the watch"), "{err}");
}
