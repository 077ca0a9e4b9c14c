//! The signals that `hookbus run` passes on to its command, and that end a verb which has something to clear away.
//!
//! They are blocked and read from a signalfd, because only that says who sent one: a signal of the terminal (Ctrl-C)
//! comes from the kernel and has reached the command already, being sent to the whole foreground group; one sent by
//! `kill`, a batch system or a supervisor came to us alone and is passed on. Nothing is delivered twice.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

use crate::failure::Failure;

/// What is passed on.
const FORWARDED: [i32; 6] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// Signals to this process, from `install` on.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: AsyncFd<OwnedFd>,
    /// The mask from before, which the command gets back.
    before: libc::sigset_t,
}

/// One signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Its number.
    pub(crate) number: i32,
    /// The kernel sent it, and with it to the command, which is in our process group.
    pub(crate) reached_group: bool,
}

impl Arrived {
    /// It asks a process to end.
    pub(crate) fn ends(self) -> bool {
        !matches!(self.number, libc::SIGUSR1 | libc::SIGUSR2)
    }
}

impl Signals {
    /// Blocks the forwarded signals in this thread and reads them from a file descriptor from now on.
    pub(crate) fn install() -> Result<Signals, Failure> {
        Signals::take()
            .map_err(|error| Failure::failed(format!("cannot take the signals over: {error}")))
    }

    fn take() -> io::Result<Signals> {
        // SAFETY: the sets are plain memory that sigemptyset initialises before anything reads them; the descriptor
        // that signalfd returns is new, owned by nobody else, and stays open as long as its AsyncFd.
        unsafe {
            let mut wanted = mem::zeroed();
            let mut before = mem::zeroed();
            libc::sigemptyset(&raw mut wanted);
            libc::sigemptyset(&raw mut before);
            for number in FORWARDED {
                libc::sigaddset(&raw mut wanted, number);
            }
            let failed = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const wanted, &raw mut before);
            if failed != 0 {
                return Err(io::Error::from_raw_os_error(failed));
            }
            let fd = libc::signalfd(
                -1,
                &raw const wanted,
                libc::SFD_NONBLOCK | libc::SFD_CLOEXEC,
            );
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Signals {
                fd: AsyncFd::register(OwnedFd::from_raw_fd(fd))?,
                before,
            })
        }
    }

    /// The next one. Cancel safe: what is not read stays pending.
    pub(crate) async fn next(&self) -> io::Result<Arrived> {
        loop {
            let mut ready = self.fd.readable().await?;
            if let Ok(read) = ready.try_io(|fd| read(fd.as_raw_fd())) {
                return read;
            }
        }
    }

    /// The number of the next one that asks us to end. Cancel safe.
    pub(crate) async fn asked_to_end(&self) -> i32 {
        loop {
            match self.next().await {
                Ok(arrived) if arrived.ends() => return arrived.number,
                Ok(_) => {}
                // A signalfd of our own does not fail; if it did, waiting for it must not spin.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Gives a process that is about to start the mask that we were started with.
    pub(crate) fn unblock_in(&self, command: &mut tokio::process::Command) {
        let before = self.before;
        let restore = move || {
            // SAFETY: pthread_sigmask is async-signal-safe, and the set is a copy that the closure owns.
            let failed = unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut())
            };
            if failed == 0 {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(failed))
            }
        };
        // SAFETY: between fork and exec the closure makes one async-signal-safe call and allocates nothing.
        unsafe { command.pre_exec(restore) };
    }
}

/// Lets a private daemon end with the thread that starts it, however that ends. It watches us by itself once it runs;
/// this is for the time before, and for kernels on which it cannot.
pub(crate) fn end_with_parent(command: &mut tokio::process::Command) {
    let us = std::process::id();
    let ask = move || {
        // SAFETY: prctl takes two numbers here and touches no memory of ours.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // Who had ended before that is not waited for.
        if std::os::unix::process::parent_id() != us {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two async-signal-safe calls and allocates nothing.
    unsafe { command.pre_exec(ask) };
}

/// Sends a signal; a process that has just ended is no error.
pub(crate) fn send(pid: u32, number: i32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: kill takes two numbers and touches no memory of ours.
        unsafe { libc::kill(pid, number) };
    }
}

/// What a shell makes of a process that a signal killed.
pub(crate) fn exit_code(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

fn read(fd: i32) -> io::Result<Arrived> {
    let mut info = mem::MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let bytes = mem::size_of::<libc::signalfd_siginfo>();
    // SAFETY: the buffer is as large as said; a signalfd fills whole records, which are plain numbers.
    let (count, info) = unsafe {
        (
            libc::read(fd, info.as_mut_ptr().cast(), bytes),
            info.assume_init(),
        )
    };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    let number = i32::try_from(info.ssi_signo).unwrap_or(0);
    Ok(Arrived {
        number,
        reached_group: info.ssi_code == libc::SI_KERNEL,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_of_kill_is_ours_to_pass_on() {
        let signals = Signals::install().unwrap();
        // To this thread only: other tests' threads have not blocked it.
        // SAFETY: pthread_kill to the running thread itself.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
        let arrived = signals.next().await.unwrap();
        assert_eq!(
            arrived,
            Arrived {
                number: libc::SIGUSR1,
                reached_group: false
            }
        );
        assert!(!arrived.ends());
    }

    #[tokio::test]
    async fn a_command_gets_the_mask_from_before() {
        let signals = Signals::install().unwrap();
        let mut command = tokio::process::Command::new("grep");
        command.args(["SigBlk", "/proc/self/status"]);
        signals.unblock_in(&mut command);
        let output = command.output().await.unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap().trim(),
            "SigBlk:\t0000000000000000"
        );
    }
}
