//! Hooks in another process, from their side: a link to the daemon that comes back for ever.
//!
//! | file | idea |
//! |---|---|
//! | here | what a provider holds: the next frames, and its answers |
//! | `inbox` | frames that wait for a thread of the provider's, bounded |
//! | `dial` | the client's own thread: connect, introduce, receive, reconnect |
//!
//! What was heard over one connection is answered over that one, or not at all: the daemon asks again on the next. Nothing
//! is kept for a connection that is gone.

mod dial;
mod inbox;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use hookbus_proto::v1::{self as wire, daemon_frame, provider_frame};
use prost::Message;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::access::Access;
use crate::address::Address;
use crate::runtime;
use inbox::Inbox;

/// Frames on their way to the daemon; where more would wait, the provider waits.
const OUTBOX: usize = 16;

/// Answers go in frames of about so many bytes: a daemon refuses one that is too large.
const FRAME_BYTES: usize = 256 << 10;

/// What a provider says of itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the daemon is.
    pub address: Address,
    /// What is shown to it: an operator's right.
    pub access: Access,
    /// The namespace of its types.
    pub module: String,
    /// Of a process that the daemon started; else empty.
    pub ticket: String,
    /// Client and version, for people.
    pub client: String,
}

/// What is heard.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A connection is there, and the module introduced.
    Connected,
    /// A frame of the daemon's.
    Frame(Box<daemon_frame::Frame>),
    /// The connection is gone, or could not be made: why. Another is tried.
    Lost(String),
    /// No other is tried: why.
    Ended(String),
}

/// Which connection, from 1.
type Serial = u64;

/// A provider's link, used by one thread. Dropped, it closes.
#[derive(Debug)]
pub struct Link {
    inbox: Arc<Inbox>,
    /// The connection of what was heard last.
    current: Option<(Serial, mpsc::Sender<wire::ProviderFrame>)>,
}

impl Link {
    /// Begins to dial. Errors: the thread could not be started.
    pub fn open(options: Options) -> Result<Self, String> {
        let inbox = Arc::new(Inbox::default());
        runtime::spawn(dial::run(options, Arc::clone(&inbox)))?;
        Ok(Self {
            inbox,
            current: None,
        })
    }

    /// All that is there, in order and of one connection; waits at most `timeout`. Empty: nothing came.
    pub fn next(&mut self, timeout: Duration) -> Vec<Heard> {
        let Some((out, heard)) = self.inbox.take(timeout) else {
            return Vec::new();
        };
        self.current = out;
        heard
    }

    /// Says which hooks there are, in answer to what was heard last.
    pub fn offer(&self, offer: wire::Offer) -> Sending {
        self.sending(vec![provider_frame::Frame::Offer(offer)])
    }

    /// Answers calls of what was heard last.
    pub fn answer(&self, answers: Vec<wire::Answer>) -> Sending {
        let mut frames = Vec::new();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for answer in answers {
            let more = answer.encoded_len();
            if bytes + more > FRAME_BYTES && !batch.is_empty() {
                let answers = std::mem::take(&mut batch);
                frames.push(provider_frame::Frame::Answers(wire::Answers { answers }));
                bytes = 0;
            }
            bytes += more;
            batch.push(answer);
        }
        if !batch.is_empty() {
            frames.push(provider_frame::Frame::Answers(wire::Answers {
                answers: batch,
            }));
        }
        self.sending(frames)
    }

    fn sending(&self, mut frames: Vec<provider_frame::Frame>) -> Sending {
        frames.reverse();
        let out = self.current.as_ref().map(|(_, out)| out.clone());
        Sending {
            inbox: Arc::clone(&self.inbox),
            out,
            frames,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// Frames that go out as the daemon takes them.
#[derive(Debug)]
pub struct Sending {
    inbox: Arc<Inbox>,
    out: Option<mpsc::Sender<wire::ProviderFrame>>,
    /// The last one goes first.
    frames: Vec<provider_frame::Frame>,
}

impl Sending {
    /// Whether all is out, or the connection gone; waits at most `timeout` for room.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        let Some(out) = &self.out else { return true };
        while let Some(frame) = self.frames.pop() {
            let framed = wire::ProviderFrame { frame: Some(frame) };
            match out.try_send(framed) {
                Ok(()) => {}
                Err(TrySendError::Closed(_)) => {
                    self.frames.clear();
                    return true;
                }
                Err(TrySendError::Full(wire::ProviderFrame { frame })) => {
                    self.frames.extend(frame);
                    return self.inbox.wait_for_room(out, timeout);
                }
            }
        }
        true
    }
}
