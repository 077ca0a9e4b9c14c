//! A provider of hooks that speaks `hookbus.v1` frame by frame, from the published messages only.

use hookbus_client::access::Access;
use hookbus_client::address::Address;
use hookbus_client::connect::connect_with;
use hookbus_proto::v1::providers_client::ProvidersClient;
use hookbus_proto::v1::{
    Accepted, Answer, Answers, Assignment, Call, DaemonFrame, Every, Fence, HookRequest,
    Introduction, Offer, OfferedHook, ProviderFrame, Subscription, daemon_frame, provider_frame,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::sandbox::PATIENCE;

/// One connection.
pub struct ScriptedProvider {
    /// What goes out.
    pub out: mpsc::Sender<ProviderFrame>,
    frames: Streaming<DaemonFrame>,
    calls: std::collections::VecDeque<Call>,
}

impl ScriptedProvider {
    /// By hand, with this module.
    pub fn introduction(module: &str) -> Introduction {
        Introduction {
            protocol: hookbus_proto::PROTOCOL,
            module: module.to_owned(),
            client: "scripted".to_owned(),
            ticket: String::new(),
        }
    }

    /// A hook that observes the loss at every iteration.
    pub fn hook(type_name: &str) -> OfferedHook {
        OfferedHook {
            request: Some(HookRequest {
                r#type: type_name.to_owned(),
                ..HookRequest::default()
            }),
            subscriptions: vec![Subscription {
                point: "after_train_iter".to_owned(),
                every: Some(Every::default()),
                fields: vec!["loss".to_owned()],
                ..Subscription::default()
            }],
            summary: "looks at the loss".to_owned(),
            ..OfferedHook::default()
        }
    }

    /// Opens a stream and sends the first frames without waiting for anything.
    pub async fn open(
        address: &Address,
        access: &Access,
        first: Vec<provider_frame::Frame>,
    ) -> Result<Self, Status> {
        let connection = connect_with(address, access, PATIENCE)
            .await
            .expect("the daemon listens");
        let (out, frames) = mpsc::channel(64);
        for frame in first {
            let frame = ProviderFrame { frame: Some(frame) };
            out.send(frame).await.expect("the stream is open");
        }
        let mut client = ProvidersClient::new(connection);
        let frames = client.serve(ReceiverStream::new(frames)).await?;
        Ok(Self {
            out,
            frames: frames.into_inner(),
            calls: Default::default(),
        })
    }

    /// Introduces itself and returns what is asked of it.
    pub async fn introduce(address: &Address, said: Introduction) -> (Self, Assignment) {
        let first = vec![provider_frame::Frame::Introduction(said)];
        let mut provider = Self::open(address, &Access::default(), first)
            .await
            .expect("the stream opens");
        match provider.next().await {
            Ok(Some(daemon_frame::Frame::Assignment(asked))) => (provider, asked),
            other => panic!("not an Assignment: {other:?}"),
        }
    }

    /// Introduces itself and returns the Fence.
    pub async fn fenced(address: &Address, said: Introduction) -> Fence {
        let first = vec![provider_frame::Frame::Introduction(said)];
        let mut provider = Self::open(address, &Access::default(), first)
            .await
            .expect("the stream opens");
        provider.fence().await
    }

    /// A module by hand with these hooks, and what of them does not hold: "what: why".
    pub async fn attach(
        address: &Address,
        module: &str,
        hooks: Vec<OfferedHook>,
    ) -> (Self, Vec<String>) {
        let (mut provider, asked) = Self::introduce(address, Self::introduction(module)).await;
        assert_eq!(asked.hooks, [], "nobody configured it");
        let offer = Offer {
            hooks,
            ..Offer::default()
        };
        let refused = provider.offer(offer).await;
        (provider, refused)
    }

    /// Offers hooks, and returns what of them does not hold: "what: why".
    pub async fn offer(&mut self, offer: Offer) -> Vec<String> {
        self.send(provider_frame::Frame::Offer(offer)).await;
        match self.next().await {
            Ok(Some(daemon_frame::Frame::Accepted(Accepted { refused }))) => refused
                .into_iter()
                .map(|one| format!("{}: {}", one.what, one.reason))
                .collect(),
            other => panic!("not an Accepted: {other:?}"),
        }
    }

    /// Sends a frame.
    pub async fn send(&self, frame: provider_frame::Frame) {
        let frame = ProviderFrame { frame: Some(frame) };
        self.out.send(frame).await.expect("the stream is open");
    }

    /// Answers one call.
    pub async fn answer(&self, answer: Answer) {
        let answers = Answers {
            answers: vec![answer],
        };
        self.send(provider_frame::Frame::Answers(answers)).await;
    }

    /// The next frame; None at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<daemon_frame::Frame>, Status> {
        let frame = tokio::time::timeout(PATIENCE, self.frames.message())
            .await
            .expect("a frame or the end comes in time")?;
        Ok(frame.map(|frame| frame.frame.expect("a frame is never empty")))
    }

    /// The next call; other frames are skipped.
    pub async fn call(&mut self) -> Call {
        loop {
            if let Some(call) = self.calls.pop_front() {
                return call;
            }
            match self.next().await.expect("the connection is healthy") {
                Some(daemon_frame::Frame::Calls(calls)) => self.calls.extend(calls.calls),
                Some(_) => {}
                None => panic!("the stream ended before a call"),
            }
        }
    }

    /// The Fence, which is the last frame; others are skipped.
    pub async fn fence(&mut self) -> Fence {
        loop {
            match self.next().await.expect("a polite end") {
                Some(daemon_frame::Frame::Fence(fence)) => {
                    let after = self.next().await.expect("a polite end");
                    assert_eq!(after, None, "nothing comes after a fence");
                    return fence;
                }
                Some(_) => {}
                None => panic!("the stream ended without a fence"),
            }
        }
    }

    /// The status with which the connection ends; frames are skipped.
    pub async fn status(&mut self) -> Status {
        loop {
            match self.next().await {
                Err(status) => return status,
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a status"),
            }
        }
    }
}
