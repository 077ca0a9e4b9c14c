//! One connection after the other, on the client's own thread.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use hookbus_proto::PROTOCOL;
use hookbus_proto::v1::{
    self as wire, daemon_frame::Frame, provider_frame, providers_client::ProvidersClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::inbox::Inbox;
use super::{Heard, OUTBOX, Options};
use crate::connect::{connect_with, words};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A call has memory and the desired state of a run; a frame has many calls.
const MOST_FRAME_BYTES: usize = 64 << 20;

/// How a connection ended.
struct Over {
    why: String,
    /// Another try would end the same.
    for_good: bool,
    /// The daemon spoke to us: the next try is soon.
    spoke: bool,
}

/// Dials until the provider goes, or is told not to come back.
pub(super) async fn run(options: Options, inbox: Arc<Inbox>) {
    let mut backoff = BACKOFF.0;
    let mut spoke_once = false;
    loop {
        let over = tokio::select! {
            over = connection(&options, &inbox) => over,
            () = inbox.closed() => return,
        };
        spoke_once |= over.spoke;
        if over.spoke {
            backoff = BACKOFF.0;
        }
        // What once was allowed is so again when the daemon has its own configuration back.
        if over.for_good && !spoke_once {
            inbox.lost(Heard::Ended(over.why));
            return;
        }
        if !inbox.lost(Heard::Lost(over.why)) {
            return;
        }
        let spread = RandomState::new().hash_one(std::process::id());
        let jitter = backoff.mul_f64((spread % 1000) as f64 / 2000.0);
        tokio::select! {
            () = tokio::time::sleep(backoff + jitter) => {}
            () = inbox.closed() => return,
        }
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

async fn connection(options: &Options, inbox: &Inbox) -> Over {
    let over = |why: String| Over {
        why,
        for_good: false,
        spoke: false,
    };
    let channel = match connect_with(&options.address, &options.access, CONNECT_TIMEOUT).await {
        Ok(channel) => channel,
        Err(error) => return over(error.to_string()),
    };
    let mut client = ProvidersClient::new(channel).max_decoding_message_size(MOST_FRAME_BYTES);
    let (out, frames) = mpsc::channel(OUTBOX);
    let introduction = provider_frame::Frame::Introduction(wire::Introduction {
        protocol: PROTOCOL,
        module: options.module.clone(),
        client: options.client.clone(),
        ticket: options.ticket.clone(),
    });
    let introduction = wire::ProviderFrame {
        frame: Some(introduction),
    };
    if out.try_send(introduction).is_err() {
        return over("the stream does not begin".to_owned());
    }
    let opening = client.serve(ReceiverStream::new(frames));
    let mut frames = match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return refused(options, &status, false),
        Err(_) => {
            return over(format!(
                "{} took the connection but sent nothing within {} s",
                options.address,
                CONNECT_TIMEOUT.as_secs()
            ));
        }
    };
    let mut spoke = false;
    let mut out = Some(out);
    loop {
        let frame = match frames.message().await {
            Ok(Some(wire::DaemonFrame { frame: Some(frame) })) => frame,
            Ok(Some(_)) => continue, // of a newer protocol
            Ok(None) => {
                return Over {
                    why: format!("{} ended the stream", options.address),
                    for_good: false,
                    spoke,
                };
            }
            Err(status) => return refused(options, &status, spoke),
        };
        if let Frame::Fence(fence) = &frame {
            return fenced(options, fence, spoke);
        }
        if let Some(out) = out.take()
            && !inbox.connected(out)
        {
            return over(String::new());
        }
        // Of an offer that is not taken another one is not made at once.
        spoke |= matches!(frame, Frame::Accepted(_));
        if !inbox.push(Heard::Frame(Box::new(frame))).await {
            return over(String::new());
        }
    }
}

fn refused(options: &Options, status: &Status, spoke: bool) -> Over {
    let (address, said) = (&options.address, words(status));
    let for_good = matches!(
        status.code(),
        Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented
    );
    let why = match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => {
            format!("the daemon at {address} does not allow this: {said}")
        }
        Code::Unimplemented => format!(
            "the server at {address} is no hookbusd, or one of another version: it takes no hooks of other processes"
        ),
        _ => format!("the daemon at {address} ended the stream: {said}"),
    };
    Over {
        why,
        for_good,
        spoke,
    }
}

fn fenced(options: &Options, fence: &wire::Fence, spoke: bool) -> Over {
    use wire::FenceReason::{Refused, Superseded, Version};
    Over {
        why: format!("the daemon at {} says: {}", options.address, fence.text),
        for_good: matches!(fence.reason(), Superseded | Version | Refused),
        spoke,
    }
}
