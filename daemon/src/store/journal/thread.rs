//! The journal's thread: one for all runs, so that no commit holds up a gate. What it is handed it writes at once, in one
//! transaction; what fails it tries again. It has the only clock in here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::change::Change;
use super::counted::Counted;
use super::writer::{Opened, Writer};
use super::{Settings, saved};
use crate::domain::{Clock, RunId};

/// After a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Beyond so many rows the writer is behind, and whoever sends more is held back.
const BEHIND_ROWS: usize = 100_000;

/// How far a run's journal is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every message up to this one is committed.
    pub committed: u64,
    /// Why nothing is written now.
    pub trouble: Option<Arc<str>>,
}

enum Message {
    Open(u64, Box<Kept>),
    Write(u64, u64, Vec<Change>),
    /// Commits now, and says so.
    Flush(u64, tokio::sync::oneshot::Sender<()>),
    Close(u64),
    /// Everything is written, and every file closed.
    Stop,
}

/// The journals of all runs of a daemon.
#[derive(Clone)]
pub struct Journals {
    settings: Arc<Settings>,
    clock: Clock,
    messages: mpsc::Sender<Message>,
    counted: Arc<Counted>,
    next: Arc<AtomicU64>,
}

/// The thread.
pub struct Thread {
    messages: mpsc::Sender<Message>,
    thread: JoinHandle<()>,
}

impl Thread {
    /// Ends when what was said is written.
    pub fn stop(self) {
        // A thread that has ended needs no word.
        let _ = self.messages.send(Message::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the journal's thread panicked");
        }
    }
}

impl Journals {
    /// Starts the thread.
    pub fn start(settings: Settings, clock: Clock) -> std::io::Result<(Self, Thread)> {
        let (messages, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || serve(&inbox))?;
        let journals = Self {
            settings: Arc::new(settings),
            clock,
            messages: messages.clone(),
            counted: Arc::default(),
            next: Arc::default(),
        };
        Ok((journals, Thread { messages, thread }))
    }

    /// Opens a run's file and reads it. Blocks on the disk.
    pub fn open(&self, run: &RunId) -> (Journal, Option<saved::Saved>, Option<String>) {
        let Opened {
            writer,
            saved,
            set_aside,
        } = Writer::open(&self.settings, self.clock, run);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let progress = Progress {
            committed: 0,
            trouble: writer.trouble().map(Arc::from),
        };
        let (publish, mut latest) = watch::channel(progress);
        if writer.trouble().is_some() {
            latest.mark_changed(); // it has to be told, though nothing is further
        }
        let waiting = Arc::new(AtomicUsize::new(0));
        let kept = Kept {
            writer,
            publish,
            waiting: Arc::clone(&waiting),
            counted: Arc::clone(&self.counted),
            due: None,
        };
        // The thread lives as long as anybody can send.
        let _ = self.messages.send(Message::Open(id, Box::new(kept)));
        let journal = Journal {
            id,
            messages: self.messages.clone(),
            progress: latest,
            ticket: 0,
            waiting,
        };
        (journal, saved, set_aside)
    }

    /// What is written when, for dates.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What it costs.
    pub fn counted(&self) -> &Arc<Counted> {
        &self.counted
    }

    /// Where the files are.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// One run's journal. Dropped: what was said is written, and the file is closed.
pub struct Journal {
    id: u64,
    messages: mpsc::Sender<Message>,
    progress: watch::Receiver<Progress>,
    ticket: u64,
    /// Events and other rows that are said and not committed.
    waiting: Arc<AtomicUsize>,
}

impl Journal {
    /// Takes changes. They are committed when [`Journal::progress`] is at the number that this returns.
    pub fn append(&mut self, changes: Vec<Change>) -> u64 {
        self.ticket += 1;
        self.waiting.fetch_add(rows(&changes), Ordering::Relaxed);
        // The thread lives as long as this.
        let _ = self
            .messages
            .send(Message::Write(self.id, self.ticket, changes));
        self.ticket
    }

    /// Whether it is further than when it was looked at last.
    pub fn has_changed(&self) -> bool {
        self.progress.has_changed().unwrap_or(false)
    }

    /// How far it is.
    pub fn progress(&mut self) -> Progress {
        self.progress.borrow_and_update().clone()
    }

    /// Waits until it is further. Cancel safe.
    pub async fn changed(&mut self) {
        if self.progress.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Everything said so far is in the file when this has come.
    pub fn flush(&self) -> tokio::sync::oneshot::Receiver<()> {
        let (done, flushed) = tokio::sync::oneshot::channel();
        let _ = self.messages.send(Message::Flush(self.id, done));
        flushed
    }

    /// So much waits that no more events are to be kept in memory.
    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > BEHIND_ROWS
    }

    /// More is said than can be written: whoever sends should wait.
    pub fn is_behind(&self) -> bool {
        self.progress.borrow().trouble.is_none()
            && self.waiting.load(Ordering::Relaxed) > BEHIND_ROWS
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Close(self.id));
    }
}

fn rows(changes: &[Change]) -> usize {
    changes.iter().map(Change::rows).sum()
}

/// One run's writer, as the thread keeps it.
struct Kept {
    writer: Writer,
    publish: watch::Sender<Progress>,
    waiting: Arc<AtomicUsize>,
    counted: Arc<Counted>,
    /// When what failed is tried again.
    due: Option<Instant>,
}

fn serve(inbox: &mpsc::Receiver<Message>) {
    let mut runs: HashMap<u64, Kept> = HashMap::new();
    loop {
        let due = runs.values().filter_map(|kept| kept.due).min();
        let message = match due {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => inbox.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match message {
            Ok(Message::Open(id, kept)) => {
                runs.insert(id, *kept);
            }
            Ok(Message::Write(id, ticket, changes)) => {
                if let Some(kept) = runs.get_mut(&id) {
                    kept.writer.push(ticket, changes);
                    if kept.writer.trouble().is_none() {
                        kept.commit();
                    } else {
                        // It may be that nothing was tried yet: the file could not be opened.
                        kept.due.get_or_insert(Instant::now() + RETRY);
                    }
                }
            }
            Ok(Message::Flush(id, done)) => {
                if let Some(kept) = runs.get_mut(&id) {
                    kept.commit();
                }
                // Whoever waits may have left.
                let _ = done.send(());
            }
            Ok(Message::Close(id)) => {
                if let Some(kept) = runs.remove(&id) {
                    kept.writer.close();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = Instant::now();
        for kept in runs
            .values_mut()
            .filter(|kept| kept.due.is_some_and(|due| due <= now))
        {
            kept.commit();
        }
    }
    for kept in runs.into_values() {
        kept.writer.close();
    }
}

impl Kept {
    fn commit(&mut self) {
        let (rows, begun) = (self.writer.rows(), Instant::now());
        self.writer.commit();
        let failed = self.writer.trouble().is_some();
        self.counted.commit(rows, begun.elapsed(), failed);
        let trouble = self.writer.trouble();
        self.due = trouble.map(|_| Instant::now() + RETRY);
        self.waiting.store(self.writer.rows(), Ordering::Relaxed);
        let progress = Progress {
            committed: self.writer.committed(),
            trouble: trouble.map(Arc::from),
        };
        self.publish.send_if_modified(|old| {
            let changed = *old != progress;
            *old = progress;
            changed
        });
    }
}
