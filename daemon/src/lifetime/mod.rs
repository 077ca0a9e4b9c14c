//! When the daemon ends: it is asked to, the process that it belongs to has ended, or nobody was connected for a while.
//!
//! | file | what it is |
//! |---|---|
//! | `parent` | watches the process that the daemon belongs to |
//! | `private_dir` | the directory that such a process leaves behind when it is killed |

mod parent;
mod private_dir;

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use parent::Parent;
pub use parent::ParentError;
pub use private_dir::{NotPrivate, PrivateDir};

/// How long the drain may take once nobody is left to wait for it, so that the daemon is gone within a second.
const ORPHANED_DRAIN: Duration = Duration::from_millis(800);

/// What ends the daemon.
#[derive(Clone, Debug, Default)]
pub struct Lifetime {
    /// It shall drain and end.
    pub shutdown: CancellationToken,
    /// The process that it belongs to has ended.
    pub orphaned: CancellationToken,
    /// It ends after so long without a connection. None: never.
    pub idle_exit: Option<Duration>,
}

impl Lifetime {
    /// Ends with this process. Call it in the runtime. Errors: it cannot be watched, or has ended already.
    pub fn end_with(&self, pid: u32) -> Result<(), ParentError> {
        let found = Parent::find(pid);
        if matches!(found, Err(ParentError::Gone(_))) {
            self.orphaned.cancel();
        }
        let (parent, lifetime) = (found?, self.clone());
        tokio::spawn(async move {
            parent.ended().await;
            tracing::info!(pid, "the process of --parent-pid has ended");
            lifetime.orphaned.cancel();
            lifetime.shutdown.cancel();
        });
        Ok(())
    }

    /// Waits until a drain has taken too long: after `deadline`, or sooner where the parent has ended. Returns which.
    pub async fn drain_is_over(&self, deadline: Duration) -> Duration {
        let orphaned = async {
            self.orphaned.cancelled().await;
            sleep(ORPHANED_DRAIN).await;
        };
        tokio::select! {
            () = sleep(deadline) => deadline,
            () = orphaned => ORPHANED_DRAIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_is_cut_short_when_the_parent_ends() {
        let (long, short) = (Duration::from_secs(9), Duration::from_millis(10));
        let lifetime = Lifetime::default();
        assert_eq!(lifetime.drain_is_over(long).await, long);
        lifetime.orphaned.cancel();
        assert_eq!(lifetime.drain_is_over(long).await, ORPHANED_DRAIN);
        assert_eq!(lifetime.drain_is_over(short).await, short);
    }
}
