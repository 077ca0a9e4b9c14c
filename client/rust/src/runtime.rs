//! One background thread per process with a current-thread runtime, shared by all sessions of the process.

use std::future::Future;
use std::sync::{Mutex, PoisonError, TryLockError};

use tokio::runtime::Handle;

use crate::fork;

/// The thread's runtime, and in which generation of forks it was made: a forked child has no such thread.
static RUNTIME: Mutex<Option<(u32, Handle)>> = Mutex::new(None);

/// Runs a session there. Errors: the thread could not be started.
pub(crate) fn spawn(session: impl Future<Output = ()> + Send + 'static) -> Result<(), String> {
    fork::watch();
    let mut runtime = match RUNTIME.try_lock() {
        Ok(runtime) => runtime,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // Two threads attach at once; in a child that was forked in just that moment the lock would stay held.
        Err(TryLockError::WouldBlock) if fork::generation() == 0 => {
            RUNTIME.lock().unwrap_or_else(PoisonError::into_inner)
        }
        Err(TryLockError::WouldBlock) => {
            return Err("this process was forked while its parent attached".to_owned());
        }
    };
    let handle = match &*runtime {
        Some((generation, handle)) if *generation == fork::generation() => handle.clone(),
        _ => {
            let handle =
                start().map_err(|error| format!("hookbus's thread does not start: {error}"))?;
            *runtime = Some((fork::generation(), handle.clone()));
            handle
        }
    };
    handle.spawn(session);
    Ok(())
}

fn start() -> std::io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    // Signals belong to the training: the thread is born with all of them blocked.
    let before = block_signals();
    let started = std::thread::Builder::new()
        .name("hookbus".to_owned())
        .spawn(move || {
            runtime.block_on(std::future::pending::<()>());
        });
    restore_signals(&before);
    started.map(|_| handle)
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are plain memory that the calls fill in; the mask is this thread's own.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: the set was filled in by `block_signals`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}
