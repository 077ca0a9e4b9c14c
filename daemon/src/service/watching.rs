//! Who watches a run: each time that a reply can be sent, the newest look against what was sent last. A viewer who reads slowly
//! asks seldom, so it gets the newest with the count of what it missed, and costs nobody else anything. Looks are taken and
//! compared, and replies encoded, on the inspection runtime, never where gates are answered.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::convert;
use crate::inspect::{Inspector, Look};

/// A look that another viewer took so lately serves as well.
const SHARED: Duration = Duration::from_millis(50);

/// The newest looks, for all who watch.
pub(super) struct Looks {
    inspector: Arc<Inspector>,
    newest: Mutex<BTreeMap<String, (Instant, Arc<Look>)>>,
}

impl Looks {
    pub(super) fn new(inspector: Arc<Inspector>) -> Self {
        Self {
            inspector,
            newest: Mutex::default(),
        }
    }

    /// Errors: the line names the runs there are.
    fn look(&self, run: &str, interval: Duration) -> Result<Arc<Look>, String> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        newest.retain(|_, (at, _)| now - *at < SHARED);
        if let Some((at, look)) = newest.get(run)
            && now - *at < interval / 4
        {
            return Ok(Arc::clone(look));
        }
        let look = Arc::new(self.inspector.look(run)?);
        newest.insert(run.to_owned(), (now, Arc::clone(&look)));
        Ok(look)
    }
}

/// One who watches.
struct Viewer {
    looks: Arc<Looks>,
    run: String,
    interval: Duration,
    due: Instant,
    /// What was sent last.
    sent: Arc<Look>,
}

impl Viewer {
    /// Waits until a reply is due. Error: the run is not there any more.
    async fn turn(mut self) -> Result<(Self, Bytes), String> {
        tokio::time::sleep_until(self.due).await;
        let late = Instant::now() - self.due;
        let missed = (late.as_nanos() / self.interval.as_nanos()) as u32;
        self.due += self.interval * (missed + 1);
        let look = self.looks.look(&self.run, self.interval)?;
        let mut reply = convert::since(&self.sent, &look);
        reply.missed = missed.into();
        self.sent = look;
        Ok((self, reply.encode_to_vec().into()))
    }
}

/// Replies (SnapshotReply, encoded), each made when it can be sent.
pub(super) struct Watching {
    runtime: Handle,
    first: Option<Bytes>,
    viewer: Option<Viewer>,
    turn: Option<AbortOnDropHandle<Result<(Viewer, Bytes), String>>>,
}

impl Watching {
    /// Errors: the line names the runs there are. Called on the inspection runtime.
    pub(super) fn start(
        looks: Arc<Looks>,
        run: String,
        interval: Duration,
        runtime: Handle,
    ) -> Result<Self, String> {
        let sent = looks.look(&run, interval)?;
        let viewer = Viewer {
            looks,
            run,
            interval,
            due: Instant::now() + interval,
            sent,
        };
        Ok(Self {
            runtime,
            first: Some(convert::snapshot(&viewer.sent).encode_to_vec().into()),
            viewer: Some(viewer),
            turn: None,
        })
    }
}

impl Stream for Watching {
    type Item = Result<Bytes, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if let Some(viewer) = this.viewer.take() {
            this.turn = Some(AbortOnDropHandle::new(this.runtime.spawn(viewer.turn())));
        }
        let Some(turn) = &mut this.turn else {
            return Poll::Ready(None);
        };
        let ended = ready!(Pin::new(turn).poll(context));
        this.turn = None;
        // The runtime ends with the daemon.
        Poll::Ready(ended.ok().map(|turned| {
            let (viewer, reply) = turned.map_err(Status::not_found)?;
            this.viewer = Some(viewer);
            Ok(reply)
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::providers::Directory;
    use hookbus_proto::v1::SnapshotReply;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::domain::{Clock, HostSample};
    use crate::snapshot::Board;
    use crate::store::Live;

    fn host(used_bytes: u64) -> HostSample {
        HostSample {
            at: std::time::Instant::now(),
            total_bytes: 100,
            available_bytes: 100 - used_bytes,
            used_bytes,
            used_percent: 0.0,
            swap_total_bytes: 0,
            swap_used_bytes: 0,
            swap_used_percent: 0.0,
        }
    }

    async fn read(watching: &mut Watching) -> SnapshotReply {
        let reply = watching.next().await.unwrap().unwrap();
        SnapshotReply::decode(reply).unwrap()
    }

    /// No hook is in another process.
    fn nobody() -> crate::providers::Known {
        Directory::new(Vec::new(), Vec::new()).known()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_viewer_gets_the_newest_and_is_told_what_it_missed() {
        let live = Live::default();
        live.set_host(Ok(host(1)));
        let clock = Clock {
            at: std::time::Instant::now(),
            unix: Duration::ZERO,
        };
        let inspector = Inspector::new(
            Board::default(),
            live.clone(),
            clock,
            Vec::new(),
            None,
            nobody(),
        );
        let looks = Arc::new(Looks::new(Arc::new(inspector)));
        let watch = || {
            let interval = Duration::from_secs(1);
            Watching::start(
                Arc::clone(&looks),
                String::new(),
                interval,
                Handle::current(),
            )
            .unwrap()
        };
        let (mut slow, mut fast) = (watch(), watch());
        let used = |reply: &SnapshotReply| {
            let used = reply
                .host
                .as_ref()
                .and_then(|host| host.used_bytes.as_ref());
            used.and_then(|used| used.value)
        };
        let first = read(&mut slow).await;
        assert_eq!(
            (used(&first), first.changes, first.missed),
            (Some(1.0), false, 0)
        );
        assert!(!read(&mut fast).await.changes);
        for second in 2..=6 {
            live.set_host(Ok(host(second)));
            let reply = read(&mut fast).await;
            assert_eq!((used(&reply), reply.changes), (Some(second as f64), true));
            assert_eq!(reply.missed, 0);
        }
        tokio::time::advance(Duration::from_millis(500)).await;
        live.set_host(Ok(host(7)));
        // Five seconds and a half are over, and the looks of the first four are gone.
        let reply = read(&mut slow).await;
        assert_eq!(
            (used(&reply), reply.changes, reply.missed),
            (Some(7.0), true, 4)
        );
        live.set_host(Ok(host(8)));
        let reply = read(&mut slow).await;
        assert_eq!((used(&reply), reply.missed), (Some(8.0), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_run_that_is_gone_it_says_so() {
        let clock = Clock {
            at: std::time::Instant::now(),
            unix: Duration::ZERO,
        };
        let inspector = Inspector::new(
            Board::default(),
            Live::default(),
            clock,
            Vec::new(),
            None,
            nobody(),
        );
        let looks = Arc::new(Looks::new(Arc::new(inspector)));
        let interval = Duration::from_secs(1);
        let mut watching =
            Watching::start(looks, String::new(), interval, Handle::current()).unwrap();
        watching.next().await.unwrap().unwrap();
        watching.viewer.as_mut().unwrap().run = "digits".to_owned();
        let why = watching.next().await.unwrap().unwrap_err();
        assert_eq!(why.code(), tonic::Code::NotFound);
        assert!(why.message().contains("no run here"), "{}", why.message());
        assert!(watching.next().await.is_none());
    }
}
