//! The link against a daemon that a test plays.

use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use hookbus_proto::v1::providers_server::{Providers, ProvidersServer};
use hookbus_proto::v1::{self as wire, daemon_frame, provider_frame};
use tokio::net::UnixListener;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::{Heard, Link, Options};
use crate::access::Access;
use crate::address::Address;

const PATIENCE: Duration = Duration::from_secs(60);

/// One stream, as its daemon has it.
struct Connection {
    heard: tokio::sync::mpsc::Receiver<provider_frame::Frame>,
    say: tokio::sync::mpsc::Sender<Result<wire::DaemonFrame, Status>>,
}

impl Connection {
    fn say(&self, frame: daemon_frame::Frame) {
        let frame = wire::DaemonFrame { frame: Some(frame) };
        self.say.blocking_send(Ok(frame)).unwrap();
    }

    fn hears(&mut self) -> Option<provider_frame::Frame> {
        self.heard.blocking_recv()
    }

    fn call(&self, id: u64) {
        let call = wire::Call {
            id,
            run: 1,
            ..wire::Call::default()
        };
        self.say(daemon_frame::Frame::Calls(wire::Calls {
            calls: vec![call],
        }));
    }
}

struct Played(std_mpsc::Sender<Connection>);

#[tonic::async_trait]
impl Providers for Played {
    type ServeStream = ReceiverStream<Result<wire::DaemonFrame, Status>>;

    async fn serve(
        &self,
        request: Request<Streaming<wire::ProviderFrame>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let mut frames = request.into_inner();
        let (say, said) = tokio::sync::mpsc::channel(1024);
        let (hear, heard) = tokio::sync::mpsc::channel(1024);
        tokio::spawn(async move {
            while let Ok(Some(frame)) = frames.message().await {
                if hear.send(frame.frame.unwrap()).await.is_err() {
                    return;
                }
            }
        });
        self.0.send(Connection { heard, say }).unwrap();
        Ok(Response::new(ReceiverStream::new(said)))
    }
}

struct Daemon {
    connections: std_mpsc::Receiver<Connection>,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let (send, connections) = std_mpsc::channel();
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
                tonic::transport::Server::builder()
                    .add_service(ProvidersServer::new(Played(send)))
                    .serve_with_incoming(incoming)
                    .await
                    .unwrap();
            });
        });
        Daemon {
            connections,
            folder,
        }
    }

    fn link(&self) -> Link {
        Link::open(Options {
            address: Address::unix(&self.folder.path().join("s")).unwrap(),
            access: Access::default(),
            module: "my_hooks".to_owned(),
            ticket: "t".to_owned(),
            client: "test".to_owned(),
        })
        .unwrap()
    }

    /// The next stream, introduced and answered with an assignment.
    fn connection(&self) -> Connection {
        let mut connection = self.connections.recv_timeout(PATIENCE).unwrap();
        let Some(provider_frame::Frame::Introduction(said)) = connection.hears() else {
            panic!("no introduction")
        };
        assert_eq!((said.protocol, said.module.as_str()), (1, "my_hooks"));
        assert_eq!(said.ticket, "t");
        connection.say(assignment());
        connection
    }
}

fn assignment() -> daemon_frame::Frame {
    daemon_frame::Frame::Assignment(wire::Assignment::default())
}

/// What comes next, but that nobody is there yet.
fn next(link: &mut Link) -> Vec<Heard> {
    loop {
        let heard = link.next(PATIENCE);
        assert!(!heard.is_empty(), "nothing came");
        if !matches!(heard.as_slice(), [Heard::Lost(_)]) {
            return heard;
        }
    }
}

/// The ids of calls, as they come.
fn calls(link: &mut Link, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        for heard in next(link) {
            if let Heard::Frame(frame) = heard
                && let daemon_frame::Frame::Calls(calls) = *frame
            {
                ids.extend(calls.calls.iter().map(|call| call.id));
            }
        }
    }
    ids
}

fn answer(id: u64, bytes: usize) -> wire::Answer {
    wire::Answer {
        run: 1,
        id,
        traceback: "x".repeat(bytes),
        ..wire::Answer::default()
    }
}

#[test]
fn calls_come_in_their_order_and_answers_go_out_in_frames_of_bounded_size() {
    let daemon = Daemon::start();
    let mut link = daemon.link();
    let mut connection = daemon.connection();
    assert_eq!(next(&mut link)[0], Heard::Connected);
    (1..=500).for_each(|id| connection.call(id));
    assert_eq!(calls(&mut link, 500), (1..=500).collect::<Vec<_>>());
    let answers = (1..=500).map(|id| answer(id, 10_000)).collect();
    let mut sending = link.answer(answers);
    let mut ids = Vec::new();
    let mut frames = 0;
    while ids.len() < 500 {
        sending.wait(Duration::from_millis(10));
        let Some(provider_frame::Frame::Answers(said)) = connection.hears() else {
            panic!("no answers")
        };
        frames += 1;
        ids.extend(said.answers.iter().map(|answer| answer.id));
    }
    assert_eq!(ids, (1..=500).collect::<Vec<_>>());
    assert!((19..40).contains(&frames), "{frames} frames of 256 KiB");
}

#[test]
fn what_was_heard_over_a_lost_connection_is_not_answered_over_the_next() {
    let daemon = Daemon::start();
    let mut link = daemon.link();
    let first = daemon.connection();
    first.call(1);
    assert_eq!(calls(&mut link, 1), [1]);
    let sending = link.answer(vec![answer(1, 0)]);
    drop(first);
    let mut second = daemon.connection();
    second.call(2);
    let mut late = sending;
    while !late.wait(Duration::from_millis(10)) {}
    assert_eq!(calls(&mut link, 1), [2]);
    let mut sending = link.answer(vec![answer(2, 0)]);
    while !sending.wait(Duration::from_millis(10)) {}
    let Some(provider_frame::Frame::Answers(said)) = second.hears() else {
        panic!("no answers")
    };
    assert_eq!(said.answers, [answer(2, 0)]);
}

#[test]
fn a_daemon_that_is_not_read_is_held_back_and_loses_nothing() {
    let daemon = Daemon::start();
    let mut link = daemon.link();
    let connection = daemon.connection();
    let ids: Vec<_> = (1..=900).collect();
    ids.iter().for_each(|id| connection.call(*id));
    assert_eq!(calls(&mut link, 900), ids);
}

#[test]
fn who_is_not_allowed_to_is_told_once_and_for_all() {
    let daemon = Daemon::start();
    let mut link = daemon.link();
    let connection = daemon.connections.recv_timeout(PATIENCE).unwrap();
    let status = Status::permission_denied("not an operator");
    connection.say.blocking_send(Err(status)).unwrap();
    let [Heard::Ended(why)] = &next(&mut link)[..] else {
        panic!("it goes on")
    };
    assert!(
        why.ends_with("does not allow this: not an operator"),
        "{why}"
    );
}

#[test]
fn nobody_there_is_said_with_the_address_and_a_dropped_link_ends_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::unix(&folder.path().join("none")).unwrap();
    let options = Options {
        address: address.clone(),
        access: Access::default(),
        module: "m".to_owned(),
        ticket: String::new(),
        client: String::new(),
    };
    let heard = Link::open(options).unwrap().next(PATIENCE);
    let [Heard::Lost(why)] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert!(
        why.contains(&format!("no daemon listens at {address}")),
        "{why}"
    );
    let daemon = Daemon::start();
    let link = daemon.link();
    let mut connection = daemon.connection();
    drop(link);
    assert_eq!(connection.hears(), None);
}
