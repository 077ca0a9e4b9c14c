//! A trainer that speaks `hookbus.v1` frame by frame, from the published messages only.

use hookbus_client::access::{Access, Bearer};
use hookbus_client::address::Address;
use hookbus_client::connect::{Connection, connect_with};
use hookbus_proto::v1::hook_bus_client::HookBusClient;
use hookbus_proto::v1::{
    ClientFrame, Event, EventBatch, Fence, GateAnswer, GateRequest, Hello, HookRequest, Process,
    Result as TrainerResult, ServerFrame, Value, Welcome, client_frame, server_frame, value,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::sandbox::PATIENCE;

/// The points of a plain loop, in the order that gives them their ids.
pub fn points() -> Vec<String> {
    [
        "before_train",
        "before_train_iter",
        "after_train_iter",
        "after_val_iter",
        "after_test_iter",
        "after_run",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The id of `after_train_iter` in [`points`].
const AFTER_TRAIN_ITER: u32 = 2;

/// One session.
pub struct Raw {
    /// What goes out.
    pub out: mpsc::Sender<ClientFrame>,
    frames: Streaming<ServerFrame>,
}

impl Raw {
    /// Identity of this test process, with this run and session nonce.
    pub fn hello(run: &str, rank: u32, world_size: u32, session: &str) -> Hello {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc/self/stat");
        let after_name = stat.rsplit_once(')').expect("a name in brackets").1;
        let start_ticks = after_name
            .split_whitespace()
            .nth(19)
            .and_then(|ticks| ticks.parse().ok())
            .expect("field 22");
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .expect("boot id")
            .trim()
            .to_owned();
        Hello {
            protocol: hookbus_proto::PROTOCOL,
            run: run.to_owned(),
            launch: "launch".to_owned(),
            rank,
            world_size,
            process: Some(Process {
                ns_pids: vec![std::process::id()],
                start_ticks,
                boot_id,
                command: "test".to_owned(),
            }),
            session: session.to_owned(),
            points: points(),
            metrics: vec!["loss".to_owned(), "lr".to_owned()],
            capabilities: vec!["stop".to_owned(), "log".to_owned()],
            next_seq: 1,
            client: "raw".to_owned(),
            ..Hello::default()
        }
    }

    /// A hook with one integer argument, as a trainer asks for it.
    pub fn hook(type_name: &str, key: &str, number: i64) -> HookRequest {
        HookRequest {
            r#type: type_name.to_owned(),
            name: String::new(),
            args: [(
                key.to_owned(),
                Value {
                    kind: Some(value::Kind::Integer(number)),
                },
            )]
            .into(),
        }
    }

    /// Opens a stream and sends the first frames without waiting for anything.
    pub async fn open(address: &Address, first: Vec<client_frame::Frame>) -> Result<Self, Status> {
        Self::open_with(address, &Access::default(), first).await
    }

    /// The same, and shows what `access` has.
    pub async fn open_with(
        address: &Address,
        access: &Access,
        first: Vec<client_frame::Frame>,
    ) -> Result<Self, Status> {
        let connection = connect_with(address, access, PATIENCE)
            .await
            .expect("the daemon listens");
        Self::on(connection, first).await
    }

    /// The same over a channel that is there.
    pub async fn over(channel: Channel, first: Vec<client_frame::Frame>) -> Result<Self, Status> {
        Self::on(InterceptedService::new(channel, Bearer::default()), first).await
    }

    async fn on(channel: Connection, first: Vec<client_frame::Frame>) -> Result<Self, Status> {
        let (out, frames) = mpsc::channel(64);
        for frame in first {
            out.send(ClientFrame { frame: Some(frame) })
                .await
                .expect("the stream is open");
        }
        let mut client = HookBusClient::new(channel);
        let frames = client
            .session(ReceiverStream::new(frames))
            .await?
            .into_inner();
        Ok(Self { out, frames })
    }

    /// Attaches and returns the Welcome.
    pub async fn attach(address: &Address, hello: Hello) -> (Self, Welcome) {
        let mut raw = Self::open(address, vec![client_frame::Frame::Hello(hello)])
            .await
            .expect("the stream opens");
        match raw.next().await {
            Ok(Some(server_frame::Frame::Welcome(welcome))) => (raw, welcome),
            other => panic!("not a Welcome: {other:?}"),
        }
    }

    /// Attaches and returns the Fence.
    pub async fn fenced(address: &Address, hello: Hello) -> Fence {
        let mut raw = Self::open(address, vec![client_frame::Frame::Hello(hello)])
            .await
            .expect("the stream opens");
        match raw.next().await {
            Ok(Some(server_frame::Frame::Fence(fence))) => fence,
            other => panic!("not a Fence: {other:?}"),
        }
    }

    /// Sends a frame.
    pub async fn send(&self, frame: client_frame::Frame) {
        self.out
            .send(ClientFrame { frame: Some(frame) })
            .await
            .expect("the stream is open");
    }

    /// Events after_train_iter from `first_seq` on, with these losses; iterations count from 0.
    pub fn losses(first_seq: u64, losses: &[f64]) -> EventBatch {
        let events = losses.iter().enumerate().map(|(at, loss)| {
            let iter = first_seq - 1 + at as u64;
            Event {
                point: AFTER_TRAIN_ITER,
                iter,
                inner_iter: iter,
                metrics: vec![0],
                values: vec![*loss],
                rss_bytes: Some(1 << 30),
                ..Event::default()
            }
        });
        EventBatch {
            first_seq,
            events: events.collect(),
            ..EventBatch::default()
        }
    }

    /// Sends a batch whose last event is a gate of `hook`, and waits for its answer.
    pub async fn gate(&mut self, mut batch: EventBatch, hook: &str) -> GateAnswer {
        let seq = batch.first_seq + batch.events.len() as u64 - 1;
        batch.gates = vec![GateRequest {
            seq,
            subscribers: vec![hook.to_owned()],
            deadline_ms: 50,
            ..GateRequest::default()
        }];
        self.send(client_frame::Frame::Batch(batch)).await;
        loop {
            match self.next().await.expect("the session is healthy") {
                Some(server_frame::Frame::Gate(answer)) => return answer,
                Some(_) => {}
                None => panic!("the stream ended before the gate's answer"),
            }
        }
    }

    /// Reports what this rank did.
    pub async fn result(&self, result: TrainerResult) {
        self.send(client_frame::Frame::Result(result)).await;
    }

    /// The next frame; None at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<server_frame::Frame>, Status> {
        let frame = tokio::time::timeout(PATIENCE, self.frames.message())
            .await
            .expect("a frame or the end comes in time")?;
        Ok(frame.map(|frame| frame.frame.expect("a frame is never empty")))
    }

    /// Skips frames until `wanted` gives something.
    pub async fn until<T>(&mut self, wanted: impl Fn(server_frame::Frame) -> Option<T>) -> T {
        loop {
            match self.next().await.expect("the session is healthy") {
                Some(frame) => {
                    if let Some(found) = wanted(frame) {
                        return found;
                    }
                }
                None => panic!("the stream ended before the frame that was waited for"),
            }
        }
    }

    /// Waits until everything up to `seq` is settled.
    pub async fn acked(&mut self, seq: u64) {
        self.until(|frame| match frame {
            server_frame::Frame::Ack(ack) if ack.seq >= seq => Some(()),
            _ => None,
        })
        .await;
    }
}
