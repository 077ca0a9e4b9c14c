//! Sessions over streams in memory, with a clock that only moves when everything waits: what silence means, to the second.

use std::sync::Arc;
use std::time::Duration;

use hookbus_e2e::Raw;
use hookbus_proto::v1::control_client::ControlClient;
use hookbus_proto::v1::{
    Bye, FenceReason, Heartbeat, Hello, Order, Outcome, StopOrder, Welcome, client_frame::Frame,
    order, server_frame,
};
use hookbusd::bus::{Hub, Record, Rules};
use hookbusd::domain::Clock;
use hookbusd::inspect::Inspector;
use hookbusd::listen::Peer;
use hookbusd::providers::Directory;
use hookbusd::service::{self, Limits};
use hookbusd::snapshot::{Board, Phase, RunSnapshot};
use hookbusd::store::Live;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// The daemon's own services, without its sockets and its sampler.
struct Daemon {
    routes: axum::Router,
    board: Board,
}

impl Daemon {
    /// `alive`: whether the trainers' processes are there.
    async fn new(alive: fn((u32, u64)) -> bool) -> Self {
        let (live, board) = (Live::default(), Board::default());
        let rules = Rules {
            hooks: Vec::new(),
            record: Record {
                every: 1,
                fields: vec!["*".to_owned()],
            },
            stall_budget: 0.0,
            probe: Duration::from_secs(1),
            alive,
            own_uid: 0,
            sample_every: Duration::from_secs(10),
            encode: service::encode_schedule,
            providers: hookbusd::providers::none(),
            provider_failures: 5,
        };
        let hub = Hub::new(rules, live.clone(), board.clone(), TaskTracker::new(), None);
        let directory = Directory::new(Vec::new(), Vec::new());
        let inspector = Arc::new(Inspector::new(
            board.clone(),
            live,
            Clock {
                at: Instant::now().into_std(),
                unix: Duration::ZERO,
            },
            Vec::new(),
            None,
            directory.known(),
        ));
        let limits = Limits {
            sessions: 8,
            frame_bytes: 1 << 20,
            string_bytes: 1024,
            fields: 64,
            batch_events: 4096,
            in_flight_bytes: 1 << 20,
            metrics: 64,
        };
        let here = tokio::runtime::Handle::current();
        let (routes, _) = service::routes(hub, directory, inspector, limits, here, false).await;
        // What a Unix socket's kernel would say of the peer.
        let peer = Peer {
            uid: None,
            pid: None,
            unix: true,
            certified: false,
            remote: "memory".to_owned(),
        };
        Self {
            routes: routes.layer(axum::Extension(peer)),
            board,
        }
    }

    /// A connection that is two buffers in memory.
    async fn connect(&self) -> Channel {
        let (near, far) = tokio::io::duplex(1 << 16);
        let service = TowerToHyperService::new(self.routes.clone());
        tokio::spawn(async move {
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // It ends when the test drops its half.
            let _ = server.serve_connection(TokioIo::new(far), service).await;
        });
        let mut near = Some(near);
        let connector = tower::service_fn(move |_| {
            let near = near.take();
            async move {
                near.map(TokioIo::new)
                    .ok_or_else(|| std::io::Error::other("one connection"))
            }
        });
        Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .expect("the stream is in memory")
    }

    async fn attach(&self, hello: Hello) -> Result<(Raw, Welcome), FenceReason> {
        let channel = self.connect().await;
        let mut raw = Raw::over(channel, vec![Frame::Hello(hello)])
            .await
            .expect("the stream opens");
        match raw.next().await.expect("a frame") {
            Some(server_frame::Frame::Welcome(welcome)) => Ok((raw, welcome)),
            Some(server_frame::Frame::Fence(fence)) => Err(fence.reason()),
            other => panic!("neither Welcome nor Fence: {other:?}"),
        }
    }

    fn run(&self, name: &str) -> Arc<RunSnapshot> {
        self.board.find(name).expect("the run is there")
    }

    fn open_incidents(&self, name: &str) -> Vec<String> {
        let run = self.run(name);
        let open = run.incidents.iter().filter(|(incident, _)| incident.open);
        open.map(|(incident, _)| incident.text.clone()).collect()
    }
}

/// A little more than the bus's own second, so that its look has been taken.
const LOOK: Duration = Duration::from_millis(1_200);

#[tokio::test(start_paused = true)]
async fn five_seconds_of_silence_open_an_incident_and_a_heartbeat_closes_it() {
    let daemon = Daemon::new(|_| true).await;
    let (raw, _) = daemon
        .attach(Raw::hello("quiet", 0, 1, "a"))
        .await
        .expect("a Welcome");
    sleep(Duration::from_millis(4_900)).await;
    assert_eq!(daemon.open_incidents("quiet"), [""; 0], "after 4.9 s");
    sleep(LOOK).await;
    assert_eq!(
        daemon.open_incidents("quiet"),
        ["rank 0 gives no sign of life, and its process is there"]
    );
    raw.send(Frame::Heartbeat(Heartbeat::default())).await;
    sleep(LOOK).await;
    assert_eq!(daemon.open_incidents("quiet"), [""; 0], "it lives");
    assert_eq!(daemon.run("quiet").phase, Phase::Running);
    for _ in 0..30 {
        sleep(Duration::from_secs(1)).await;
        raw.send(Frame::Heartbeat(Heartbeat::default())).await;
    }
    assert_eq!(
        daemon.open_incidents("quiet"),
        [""; 0],
        "a heartbeat a second is enough"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_process_waits_for_a_living_one_and_replaces_a_dead_one() {
    let daemon = Daemon::new(|_| true).await;
    let (first, welcome) = daemon
        .attach(Raw::hello("twice", 0, 1, "a"))
        .await
        .expect("a Welcome");
    assert_eq!(welcome.attempt, 0);
    for _ in 0..5 {
        sleep(Duration::from_secs(1)).await;
        first.send(Frame::Heartbeat(Heartbeat::default())).await;
        let fenced = daemon.attach(Raw::hello("twice", 0, 1, "b")).await;
        assert_eq!(fenced.err(), Some(FenceReason::Duplicate));
    }
    sleep(Duration::from_millis(5_100)).await;
    let (_, welcome) = daemon
        .attach(Raw::hello("twice", 0, 1, "b"))
        .await
        .expect("5 s without a heartbeat are gone");
    assert_eq!(welcome.attempt, 1);

    let dead = Daemon::new(|_| false).await;
    let (_first, _) = dead
        .attach(Raw::hello("twice", 0, 1, "a"))
        .await
        .expect("a Welcome");
    let (_, welcome) = dead
        .attach(Raw::hello("twice", 0, 1, "b"))
        .await
        .expect("its process is gone");
    assert_eq!(welcome.attempt, 1, "without any wait");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_hello_is_ended_after_ten_seconds() {
    let daemon = Daemon::new(|_| true).await;
    let started = Instant::now();
    let channel = daemon.connect().await;
    let mut raw = Raw::over(channel, Vec::new()).await.expect("it opens");
    let status = raw.next().await.expect_err("it ends with a status");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_a_rank_does_not_answer_expires_and_still_stands() {
    let daemon = Daemon::new(|_| true).await;
    let (raw, _) = daemon
        .attach(Raw::hello("deaf", 0, 2, "a"))
        .await
        .expect("a Welcome");
    let (mut other, _) = daemon
        .attach(Raw::hello("deaf", 1, 2, "b"))
        .await
        .expect("a Welcome");
    let order = Order {
        run: "deaf".to_owned(),
        id: "order-1".to_owned(),
        by: "me".to_owned(),
        timeout_s: 7.0,
        what: Some(order::What::Stop(StopOrder {
            reason: "enough".to_owned(),
        })),
        ..Order::default()
    };
    let mut control = ControlClient::new(daemon.connect().await);
    let started = Instant::now();
    let mut updates = control
        .send(order)
        .await
        .expect("the run is there")
        .into_inner();
    let first = updates
        .message()
        .await
        .expect("healthy")
        .expect("who is addressed");
    assert_eq!((first.waiting, first.result), (vec![0, 1], None));
    let stop = other
        .until(|frame| match frame {
            server_frame::Frame::State(state) => state.stop,
            _ => None,
        })
        .await;
    assert_eq!(stop.id, "order-1");
    other
        .result(hookbus_proto::v1::Result {
            id: stop.id,
            outcome: Outcome::Applied.into(),
            ..Default::default()
        })
        .await;
    let answered = updates.message().await.expect("healthy").expect("rank 1");
    assert_eq!((answered.rank, answered.waiting), (1, vec![0]));
    let expired = updates.message().await.expect("healthy").expect("rank 0");
    assert_eq!(expired.rank, 0);
    assert_eq!(
        expired.result.map(|result| result.outcome()),
        Some(Outcome::Expired)
    );
    assert_eq!(
        started.elapsed().as_secs(),
        7,
        "the operator's own patience"
    );
    assert!(
        updates.message().await.expect("healthy").is_none(),
        "and that is the end"
    );
    // The rank that was deaf comes back and finds the stop.
    drop(raw);
    let (raw, welcome) = daemon
        .attach(Raw::hello("deaf", 0, 2, "a"))
        .await
        .expect("the same session again");
    assert_eq!(
        welcome
            .state
            .and_then(|state| state.stop)
            .map(|stop| stop.id),
        Some("order-1".to_owned())
    );
    for raw in [&raw, &other] {
        raw.send(Frame::Bye(Bye {
            reason: "stopped".to_owned(),
            ..Bye::default()
        }))
        .await;
    }
    sleep(LOOK).await;
    assert_eq!(daemon.run("deaf").phase, Phase::Stopped);
}
