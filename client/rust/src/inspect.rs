//! Looking at a daemon and its runs, and giving operators' orders.
//!
//! Replies are the wire's own messages (`proto`), because a second set of the same structs would only drift from them.
//! Nothing here touches a training: reading is answered away from the daemon's sessions, and an order is the daemon's to
//! carry out.

use std::time::Duration;

use tonic::{Code, Status, Streaming};

pub use hookbus_proto::v1 as proto;
use proto::control_client::ControlClient;
use proto::inspect_client::InspectClient;

use crate::access::Access;
use crate::address::Address;
use crate::connect::{ConnectError, Connection, connect_with, words};

/// A daemon answers a question in milliseconds; after this it is stuck, and a person should hear so.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// 512 ranks with their children and metrics do not fit into tonic's default of 4 MB.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// No channel.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The run is not there; the text names the runs there are.
    #[error("{0}")]
    NotFound(String),
    /// The daemon says no; the text is its own.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, or no answer came in time.
    #[error("the daemon at {address} went away: {cause}")]
    Gone {
        /// Where it was.
        address: Address,
        /// As far as it was said.
        cause: String,
    },
}

/// Questions to one daemon, over one channel.
#[derive(Debug, Clone)]
pub struct Inspector {
    address: Address,
    inspect: InspectClient<Connection>,
    control: ControlClient<Connection>,
}

impl Inspector {
    /// Connects in one attempt that takes at most `timeout`, and shows nothing.
    pub async fn connect(address: &Address, timeout: Duration) -> Result<Inspector, InspectError> {
        Self::connect_with(address, &Access::default(), timeout).await
    }

    /// The same, and shows what `access` has.
    pub async fn connect_with(
        address: &Address,
        access: &Access,
        timeout: Duration,
    ) -> Result<Inspector, InspectError> {
        let channel = connect_with(address, access, timeout).await?;
        Ok(Inspector {
            address: address.clone(),
            inspect: InspectClient::new(channel.clone()).max_decoding_message_size(MAX_REPLY_BYTES),
            control: ControlClient::new(channel),
        })
    }

    /// The daemon that is asked.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Every run that the daemon knows.
    pub async fn runs(&mut self) -> Result<Vec<proto::RunSummary>, InspectError> {
        self.list(false).await
    }

    /// Those that had a session since the daemon started: no file is read for them.
    pub async fn live_runs(&mut self) -> Result<Vec<proto::RunSummary>, InspectError> {
        self.list(true).await
    }

    async fn list(&mut self, live: bool) -> Result<Vec<proto::RunSummary>, InspectError> {
        let reply = self.inspect.runs(proto::RunsRequest { live });
        Ok(answer(&self.address, reply).await?.runs)
    }

    /// One run (by name or id; empty: the only run) with its ranks, hooks, results, incidents and memory.
    pub async fn snapshot(&mut self, run: &str) -> Result<proto::SnapshotReply, InspectError> {
        let reply = self.inspect.snapshot(proto::SnapshotRequest {
            run: run.to_owned(),
        });
        answer(&self.address, reply).await
    }

    /// Memory over time; of a long journal its reading takes seconds.
    pub async fn history(
        &mut self,
        asked: proto::HistoryRequest,
    ) -> Result<proto::HistoryReply, InspectError> {
        answer(&self.address, self.inspect.history(asked)).await
    }

    /// A snapshot now and then one each `interval`, as long as the stream is read.
    pub async fn watch(
        &mut self,
        run: &str,
        interval: Duration,
    ) -> Result<Stream<proto::SnapshotReply>, InspectError> {
        let request = proto::WatchRequest {
            run: run.to_owned(),
            interval_s: interval.as_secs_f64(),
        };
        let frames = answer(&self.address, self.inspect.watch(request)).await?;
        Ok(Stream {
            address: self.address.clone(),
            frames,
        })
    }

    /// The one list of hooks.
    pub async fn hooks(&mut self) -> Result<Vec<proto::HookInfo>, InspectError> {
        let reply = self.inspect.hooks(proto::HooksRequest {});
        Ok(answer(&self.address, reply).await?.hooks)
    }

    /// The daemon itself: version, what it can see, and what would mend what it can't.
    pub async fn about(&mut self) -> Result<proto::AboutReply, InspectError> {
        let reply = self.inspect.about(proto::AboutRequest {});
        answer(&self.address, reply).await
    }

    /// What happens in a run from now on; `events`: the trainers' events too. `since_s`: first what happened in the last so
    /// many seconds, from the journal.
    pub async fn follow(
        &mut self,
        run: &str,
        events: bool,
        since_s: Option<f64>,
    ) -> Result<Stream<proto::Happening>, InspectError> {
        let request = proto::FollowRequest {
            run: run.to_owned(),
            events,
            since_s,
        };
        let frames = answer(&self.address, self.inspect.follow(request)).await?;
        Ok(Stream {
            address: self.address.clone(),
            frames,
        })
    }

    /// A run's journal, one table (empty: every one), of the last so many seconds.
    pub async fn rows(
        &mut self,
        run: &str,
        table: &str,
        since_s: Option<f64>,
    ) -> Result<Stream<proto::RowsReply>, InspectError> {
        let request = proto::RowsRequest {
            run: run.to_owned(),
            table: table.to_owned(),
            since_s,
        };
        let frames = answer(&self.address, self.inspect.rows(request)).await?;
        Ok(Stream {
            address: self.address.clone(),
            frames,
        })
    }

    /// Gives an order. The stream brings who is addressed, then each rank's result; it ends when all have answered or
    /// `order.timeout_s` has passed (then the missing ranks come as EXPIRED).
    pub async fn send(
        &mut self,
        order: proto::Order,
    ) -> Result<Stream<proto::OrderUpdate>, InspectError> {
        let frames = answer(&self.address, self.control.send(order)).await?;
        Ok(Stream {
            address: self.address.clone(),
            frames,
        })
    }
}

/// Replies that come one by one.
#[derive(Debug)]
pub struct Stream<T> {
    address: Address,
    frames: Streaming<T>,
}

impl<T> Stream<T> {
    /// The next reply; None: the daemon has said everything.
    pub async fn next(&mut self) -> Result<Option<T>, InspectError> {
        self.frames
            .message()
            .await
            .map_err(|status| refusal(&self.address, &status))
    }
}

async fn answer<T>(
    address: &Address,
    reply: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, InspectError> {
    match tokio::time::timeout(ANSWER_DEADLINE, reply).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(refusal(address, &status)),
        Err(_) => Err(InspectError::Gone {
            address: address.clone(),
            cause: format!("no answer within {} s", ANSWER_DEADLINE.as_secs()),
        }),
    }
}

fn refusal(address: &Address, status: &Status) -> InspectError {
    let text = status.message().to_owned();
    match status.code() {
        Code::NotFound => InspectError::NotFound(text),
        // What tonic itself says when the peer closes or resets.
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal => {
            InspectError::Gone {
                address: address.clone(),
                cause: words(status),
            }
        }
        Code::Unimplemented => InspectError::Refused(format!(
            "the server at {address} is no hookbusd, or one of another version: it does not know this question"
        )),
        Code::PermissionDenied | Code::Unauthenticated => InspectError::Refused(format!(
            "the daemon at {address} does not allow this: {text}"
        )),
        _ => InspectError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_own_line_about_a_missing_run_is_kept() {
        let address = Address::parse("/run/a.sock").unwrap();
        let line = "no run named digit; there are: digits@1, digits@2";
        let error = refusal(&address, &Status::not_found(line));
        assert!(matches!(error, InspectError::NotFound(_)));
        assert_eq!(error.to_string(), line);
    }

    #[test]
    fn a_broken_connection_names_the_address() {
        let address = Address::parse("/run/a.sock").unwrap();
        let error = refusal(&address, &Status::unavailable("connection reset")).to_string();
        assert_eq!(
            error,
            "the daemon at unix:///run/a.sock went away: connection reset"
        );
    }
}
