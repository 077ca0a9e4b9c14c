//! A daemon that says what it is told to, on a socket of its own: what the verbs do with an answer needs no real one.
//!
//! It knows one run that goes on, digits@1, and one that was recorded, old@7.

use std::path::PathBuf;
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

/// The loss of digits@1 is nan, and its rank 1 never answers an order that is not `now`; old@7 took two attempts.
#[derive(Clone, Copy)]
struct Scripted {
    /// digits@1 has ended, and was recorded.
    over: bool,
}

fn digits() -> RunSummary {
    RunSummary {
        id: "digits@1".into(),
        name: "digits".into(),
        loss: Some(f64::NAN),
        started_unix_s: 1_000_000_000.0,
        ..Default::default()
    }
}

fn old() -> RunSummary {
    RunSummary {
        id: "old@7".into(),
        name: "old".into(),
        attempt: 2,
        phase: RunPhase::Finished.into(),
        started_unix_s: 900_000_000.0,
        ended_unix_s: Some(900_003_600.0),
        archived: true,
        ..Default::default()
    }
}

fn attempts() -> Vec<Attempt> {
    let attempt = |attempt, phase: RunPhase, reason: &str, iter| Attempt {
        attempt,
        phase: phase.into(),
        reason: reason.into(),
        started_unix_s: 899_990_000.0 + 10_000.0 * f64::from(attempt - 1),
        ended_unix_s: Some(899_993_600.0 + 10_000.0 * f64::from(attempt - 1)),
        position: Some(Position {
            epoch: iter / 100,
            iter,
            inner_iter: iter % 100,
        }),
    };
    vec![
        attempt(1, RunPhase::Lost, "rank 0 went", 250),
        attempt(2, RunPhase::Finished, "", 999),
    ]
}

impl Scripted {
    fn digits(self) -> RunSummary {
        let phase = if self.over {
            RunPhase::Finished
        } else {
            RunPhase::Running
        };
        RunSummary {
            phase: phase.into(),
            ..digits()
        }
    }

    fn run(self, run: &str) -> Result<SnapshotReply, Status> {
        match run {
            "" | "digits" | "digits@1" => snapshot(self.digits(), Vec::new()),
            "old" | "old@7" | "LAST" => snapshot(old(), attempts()),
            _ => Err(Status::not_found(format!(
                "there is no run {run:?}: digits@1, old@7"
            ))),
        }
    }
}

fn snapshot(summary: RunSummary, attempts: Vec<Attempt>) -> Result<SnapshotReply, Status> {
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
        attempts,
        ..Default::default()
    })
}

fn columns(said: &[(&str, &str)]) -> Vec<Column> {
    said.iter()
        .map(|(name, kind)| Column {
            name: (*name).into(),
            r#type: (*kind).into(),
        })
        .collect()
}

fn row(values: impl IntoIterator<Item = Option<cell::Value>>) -> Row {
    Row {
        cells: values.into_iter().map(|value| Cell { value }).collect(),
    }
}

/// Two moments of two ranks and two GPUs, and one of a second attempt where the children are not known.
fn samples() -> Vec<Result<RowsReply, Status>> {
    use cell::Value::{Integer, Real, Text};
    let words = |text: &str| Some(Text(text.into()));
    let mib = |mib: f64| Some(Real(mib * 1024.0 * 1024.0));
    let moment = |attempt: i64, time: f64, iter: i64, grown: f64, children: Option<cell::Value>| {
        let sample = |rank: Option<i64>, device: Option<&str>, name, value: Option<cell::Value>| {
            let unknown = if value.is_some() {
                None
            } else {
                words("no right to see them")
            };
            row([
                Some(Integer(attempt)),
                Some(Real(time)),
                rank.map(Integer),
                device.and_then(words),
                words(name),
                value,
                unknown,
                words("/proc"),
                Some(Integer(iter / 100)),
                Some(Integer(iter)),
            ])
        };
        let mut rows = vec![
            sample(None, None, "host_total_bytes", mib(64000.0)),
            sample(None, None, "host_used_bytes", mib(10000.0 + grown)),
            sample(None, None, "swap_used_bytes", mib(0.0)),
        ];
        for rank in 0..2 {
            let (main, own) = (mib(3000.0 + grown), Some(rank));
            rows.push(sample(own, None, "process_rss_bytes", main));
            rows.push(sample(own, None, "children_rss_bytes", children.clone()));
        }
        for (device, used) in [("0", 70000.0), ("1", 800.0)] {
            let device = Some(device);
            rows.push(sample(None, device, "gpu_total_bytes", mib(81920.0)));
            rows.push(sample(None, device, "gpu_used_bytes", mib(used + grown)));
        }
        rows
    };
    let columns = columns(&[
        ("attempt", "INTEGER"),
        ("time_unix_s", "REAL"),
        ("rank", "INTEGER"),
        ("device", "TEXT"),
        ("name", "TEXT"),
        ("value", "REAL"),
        ("unknown", "TEXT"),
        ("source", "TEXT"),
        ("epoch", "INTEGER"),
        ("iter", "INTEGER"),
    ]);
    let reply = |columns, rows| {
        Ok(RowsReply {
            table: "samples".into(),
            columns,
            rows,
        })
    };
    vec![
        reply(columns, moment(1, 899_990_000.0, 0, 0.0, mib(500.0))),
        reply(
            vec![],
            [
                moment(1, 899_990_010.0, 120, 2048.0, mib(500.0)),
                moment(2, 900_000_000.0, 250, 1.0, None),
            ]
            .concat(),
        ),
    ]
}

/// Two chunks of metrics, and a table that breaks in the middle.
fn tables(table: &str) -> Result<Vec<Result<RowsReply, Status>>, Status> {
    let metric = |iter, value| {
        let name = cell::Value::Text("loss".into());
        row([Some(cell::Value::Integer(iter)), Some(name), value])
    };
    let first = |table: &str| RowsReply {
        table: table.into(),
        columns: columns(&[("iter", "INTEGER"), ("name", "TEXT"), ("value", "REAL")]),
        rows: vec![metric(0, Some(cell::Value::Real(0.5)))],
    };
    let more = RowsReply {
        table: "metrics".into(),
        rows: vec![
            metric(1, Some(cell::Value::Real(f64::NAN))),
            metric(2, None),
        ],
        ..Default::default()
    };
    let empty = RowsReply {
        table: "incidents".into(),
        columns: columns(&[("text", "TEXT")]),
        ..Default::default()
    };
    match table {
        "" => Ok(vec![Ok(first("metrics")), Ok(more), Ok(empty)]),
        "metrics" => Ok(vec![Ok(first("metrics")), Ok(more)]),
        "samples" => Ok(samples()),
        "torn" => Ok(vec![
            Ok(first("torn")),
            Err(Status::unavailable("the daemon is gone")),
        ]),
        _ => Err(Status::not_found(format!(
            "there is no table {table:?}: incidents, metrics, samples, torn"
        ))),
    }
}

#[tonic::async_trait]
impl Inspect for Scripted {
    async fn runs(&self, _: Request<RunsRequest>) -> Answer<RunsReply> {
        Ok(Response::new(RunsReply {
            runs: vec![old(), self.digits()],
        }))
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Answer<SnapshotReply> {
        self.run(&request.into_inner().run).map(Response::new)
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Answer<HistoryReply> {
        let asked = request.into_inner();
        self.run(&asked.run)?;
        let series = |name: &str, rank, mib: f64| Series {
            name: name.into(),
            rank,
            resolution_s: asked.resolution_s,
            points: [20.0, 10.0]
                .map(|age_s| SeriesPoint {
                    age_s,
                    min: mib * 0.5 * f64::from(1 << 20),
                    mean: mib * f64::from(1 << 20),
                    max: mib * 2.0 * f64::from(1 << 20),
                    readings: if age_s == 20.0 && rank.is_some() {
                        0
                    } else {
                        4
                    },
                    unknown: "no right to see it".into(),
                    epoch: Some(1),
                    iter: Some(100 - age_s as u64),
                    ..Default::default()
                })
                .into(),
            ..Default::default()
        };
        let older = match asked.range {
            Some(history_request::Range::Epochs(epochs)) => format!("{epochs:?}"),
            _ => String::new(),
        };
        Ok(Response::new(HistoryReply {
            at_unix_s: 900_000_000.0,
            series: vec![
                series("host_used_bytes", None, 1000.0),
                series("process_rss_bytes", Some(0), 10.0),
            ],
            older_unknown: older,
            ..Default::default()
        }))
    }

    type WatchStream = Replies<SnapshotReply>;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let reply = self.run(&request.into_inner().run)?;
        Ok(Response::new(Box::pin(iter([
            Ok(reply.clone()),
            Ok(reply.clone()),
            Ok(reply),
        ]))))
    }

    type FollowStream = Replies<Happening>;

    async fn follow(&self, request: Request<FollowRequest>) -> Answer<Self::FollowStream> {
        let asked = request.into_inner();
        let run = self.run(&asked.run)?.run.unwrap_or_default();
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
        let all = match asked.since_s {
            None if run.archived => vec![],
            None => vec![said("one"), said(events)],
            Some(since) => vec![said(&format!("since {since} of {}", run.id)), said(events)],
        };
        Ok(Response::new(Box::pin(iter(all))))
    }

    async fn hooks(&self, _: Request<HooksRequest>) -> Answer<HooksReply> {
        let hook = HookInfo {
            r#type: "CheckInvalidLossHook".into(),
            ..Default::default()
        };
        Ok(Response::new(HooksReply { hooks: vec![hook] }))
    }

    type RowsStream = Replies<RowsReply>;

    async fn rows(&self, request: Request<RowsRequest>) -> Answer<Self::RowsStream> {
        let asked = request.into_inner();
        let run = self.run(&asked.run)?.run.unwrap_or_default();
        if run.id == "digits@1" && !self.over {
            return Err(Status::failed_precondition("this daemon keeps no journal"));
        }
        Ok(Response::new(Box::pin(iter(tables(&asked.table)?))))
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

pub(crate) struct Daemon {
    pub(crate) folder: TempDir,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    /// Listens on return; serves on a thread of its own until the value goes.
    pub(crate) fn start() -> Daemon {
        Daemon::of(false)
    }

    /// `over`: the run that goes on has ended.
    pub(crate) fn of(over: bool) -> Daemon {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let listener =
            std::os::unix::net::UnixListener::bind(folder.path().join("d.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let scripted = Scripted { over };
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
                    .add_service(InspectServer::new(scripted))
                    .add_service(ControlServer::new(scripted));
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

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("d.sock")
    }

    /// Status, standard output and standard error of one `hookbus` that is told where the daemon is.
    pub(crate) fn hookbus(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookbus"));
        let address = format!("unix://{}", self.socket().display());
        command
            .args(args)
            .env("HOOKBUS_ADDRESS", address)
            .env("TZ", "UTC");
        ended(&mut command)
    }
}

/// Status, standard output and standard error.
pub(crate) fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
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
