//! The process that the daemon belongs to. A pidfd is told of its end and cannot mean another process that gets its number
//! later. A parent-death signal is not asked for: it comes when the thread that started us ends.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use tokio::io::unix::AsyncFd;

/// How often it is looked at where there are no pidfds.
const LOOK: Duration = Duration::from_millis(100);

/// Why a process cannot be watched: one line.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// There is nothing to watch any more.
    #[error("process {0} (--parent-pid) has ended already")]
    Gone(u32),
    /// The kernel, or a sandbox, has no pidfds.
    #[error(
        "process {0} (--parent-pid) cannot be watched: {1}; only the daemon's own parent can be here"
    )]
    Unwatchable(u32, io::Error),
}

/// A process that lived when it was found.
#[derive(Debug)]
pub(super) struct Parent {
    pid: u32,
    watch: Watch,
}

#[derive(Debug)]
enum Watch {
    Pidfd(AsyncFd<OwnedFd>),
    /// It is our own parent: another one takes its place when it ends.
    Parentage,
}

impl Parent {
    /// Finds it.
    pub(super) fn find(pid: u32) -> Result<Self, ParentError> {
        let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let known = known.ok_or(ParentError::Gone(pid))?;
        let opened = pidfd_open(known, PidfdFlags::NONBLOCK)
            .map_err(io::Error::from)
            .and_then(|fd| {
                // SAFETY: the descriptor is new, owned by nobody else, and stays open as long as its AsyncFd.
                Ok(unsafe { AsyncFd::register(fd) }?)
            });
        let watch = match opened {
            Ok(fd) => Watch::Pidfd(fd),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                return Err(ParentError::Gone(pid));
            }
            Err(_) if is_parent(pid) => Watch::Parentage,
            Err(error) => return Err(ParentError::Unwatchable(pid, error)),
        };
        Ok(Self { pid, watch })
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        match &self.watch {
            // An error of the runtime's own poll would mean that it is ending.
            Watch::Pidfd(fd) => drop(fd.readable().await),
            Watch::Parentage => {
                while is_parent(self.pid) {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }
}

fn is_parent(pid: u32) -> bool {
    getppid().is_some_and(|parent| parent.as_raw_nonzero().get().unsigned_abs() == pid)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_seen_and_one_that_is_gone_is_named() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cat");
        let pid = child.id();
        let parent = Parent::find(pid).expect("it lives");
        drop(child.stdin.take()); // it ends, and is seen before anybody waits for it
        parent.ended().await;
        child.wait().expect("its end");
        let error = Parent::find(pid).expect_err("it is gone").to_string();
        assert_eq!(
            error,
            format!("process {pid} (--parent-pid) has ended already")
        );
    }

    #[test]
    fn only_the_own_parent_is_one() {
        assert!(is_parent(std::os::unix::process::parent_id()));
        assert!(!is_parent(std::process::id()));
    }
}
