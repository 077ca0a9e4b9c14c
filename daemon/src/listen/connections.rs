//! Open connections, counted: the drain waits until there are none, and a daemon that nobody needs ends.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How many there are. Cloning gives another handle of the same count.
#[derive(Clone, Debug, Default)]
pub struct Connections(watch::Sender<usize>);

/// Counted until it is dropped.
struct Open(Connections);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

impl Connections {
    /// Serves one, in a task of its own.
    pub(super) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        self.0.send_modify(|open| *open += 1);
        let open = Open(self.clone());
        tokio::spawn(async move {
            connection.await;
            drop(open);
        });
    }

    /// Waits until there are none.
    pub async fn none(&self) {
        // It fails where the sender is gone, and we have it.
        let _ = self.0.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Waits until there was none for so long. One that comes and goes begins it anew.
    pub async fn none_for(&self, so_long: Duration) {
        let mut count = self.0.subscribe();
        loop {
            let _ = count.wait_for(|open| *open == 0).await;
            if timeout(so_long, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::{Instant, sleep_until};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn idle_is_so_long_without_any_since_the_last_one_went() {
        let (connections, start) = (Connections::default(), Instant::now());
        connections.none().await;
        connections.none_for(3 * SECOND).await;
        assert_eq!(start.elapsed(), 3 * SECOND);

        let ends_at = |seconds: u32| sleep_until(start + seconds * SECOND);
        connections.spawn(ends_at(5));
        connections.spawn(ends_at(9));
        connections.none().await;
        assert_eq!(start.elapsed(), 9 * SECOND);

        let (go, gone) = oneshot::channel::<()>();
        let later = connections.clone();
        tokio::spawn(async move {
            sleep_until(start + 11 * SECOND).await;
            later.spawn(async { drop(gone.await) });
            drop(go); // it comes and goes at the same moment
        });
        connections.none_for(3 * SECOND).await;
        assert_eq!(start.elapsed(), 14 * SECOND);
    }
}
