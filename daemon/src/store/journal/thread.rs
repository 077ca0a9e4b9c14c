//! The journal's thread: one for all runs, so that no commit holds up a gate. What it is handed it writes at once, in one
//! transaction; what fails it tries again. It has the only clock in here.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::backlog::Backlog;
use super::change::{Change, ROW_BYTES};
use super::counted::Counted;
use super::writer::{Opened, Writer};
use super::{Settings, saved};
use crate::domain::{Clock, RunId};

/// After a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// A run that comes back waits so long for its file, which is being closed; then it gets another.
const CLOSING: Duration = Duration::from_secs(1);
/// Why nothing is written, where the thread panicked.
const ENDED: &str = "the journal's thread has ended";
/// Beyond so much, in bytes, the writer is behind, and whoever sends more is held back.
const BEHIND: usize = 100_000 * ROW_BYTES;

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
    places: Arc<Places>,
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
        let journals = Self::new(settings, clock, messages.clone());
        Ok((journals, Thread { messages, thread }))
    }

    fn new(settings: Settings, clock: Clock, messages: mpsc::Sender<Message>) -> Self {
        Self {
            settings: Arc::new(settings),
            clock,
            messages,
            counted: Arc::default(),
            next: Arc::default(),
            places: Arc::default(),
        }
    }

    /// Opens a run's file and reads it. Blocks on the disk, and while this daemon is about to close it.
    pub fn open(&self, run: &RunId) -> (Journal, Option<saved::Saved>, Option<String>) {
        let place = Place::take(Arc::clone(&self.places), run);
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
        let (queued, waiting) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let kept = Kept {
            writer,
            publish,
            queued: Arc::clone(&queued),
            waiting: Arc::clone(&waiting),
            counted: Arc::clone(&self.counted),
            due: None,
            _place: place,
        };
        // A thread that has ended drops it, and the journal says so.
        let _ = self.messages.send(Message::Open(id, Box::new(kept)));
        let journal = Journal {
            id,
            messages: self.messages.clone(),
            progress: latest,
            ticket: 0,
            ended: false,
            held: Backlog::new(0),
            released: false,
            queued,
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
    /// There is no thread any more.
    ended: bool,
    /// What the thread is not to be handed now.
    held: Backlog,
    /// What was held was handed on all the same, since too much waits.
    released: bool,
    /// What the thread has not taken yet, in bytes.
    queued: Arc<AtomicUsize>,
    /// And what it has taken, and is not committed.
    waiting: Arc<AtomicUsize>,
}

impl Journal {
    /// Takes changes. They are committed when [`Journal::progress`] is at the number that this returns. While too much waits
    /// for the thread they stay here: a hook that is said again takes its own place here, and another one there.
    pub fn append(&mut self, changes: Vec<Change>) -> u64 {
        self.ticket += 1;
        self.held.push(self.ticket, changes);
        if !self.is_full() {
            self.released = false;
            self.release();
        }
        self.ticket
    }

    /// The same while the thread takes nothing and too much waits for it: of what stays here as little as possible is kept,
    /// and it goes with what is appended next.
    pub fn hold(&mut self, changes: Vec<Change>) -> u64 {
        self.ticket += 1;
        self.held.push(self.ticket, changes);
        self.held.make_room();
        self.ticket
    }

    /// Whether something is held that the thread could be handed now.
    pub fn holds(&self) -> bool {
        !self.held.is_empty() && !self.is_full()
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.rows()
    }

    /// The disk is seen to hang. What was held back until then is handed on, since what is held from now on goes: once, until
    /// less waits again, so that a disk that hangs now and then has no more and more before it.
    pub fn release_once(&mut self) {
        if !std::mem::replace(&mut self.released, true) {
            self.release();
        }
    }

    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let changes = self.held.take();
        let bytes = bytes(&changes);
        let message = Message::Write(self.id, self.ticket, changes);
        // A thread that has ended takes nothing: what is said to it goes, for nobody will write it.
        if self.messages.send(message).is_ok() {
            self.queued.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Whether it is further than when it was looked at last, or has ended since.
    pub fn has_changed(&self) -> bool {
        self.progress.has_changed().unwrap_or(!self.ended)
    }

    /// How far it is.
    pub fn progress(&mut self) -> Progress {
        self.ended = self.progress.has_changed().is_err();
        let mut progress = self.progress.borrow_and_update().clone();
        if self.ended {
            progress.trouble = Some(ENDED.into());
        }
        progress
    }

    /// Waits until it is further, or has ended. Cancel safe.
    pub async fn changed(&mut self) {
        if self.ended {
            std::future::pending::<()>().await;
        }
        // An error says that it has ended.
        let _ = self.progress.changed().await;
    }

    /// Everything said so far is in the file when this has come.
    pub fn flush(&mut self) -> tokio::sync::oneshot::Receiver<()> {
        self.release();
        let (done, flushed) = tokio::sync::oneshot::channel();
        let _ = self.messages.send(Message::Flush(self.id, done));
        flushed
    }

    /// So much waits that no more events are to be kept in memory.
    pub fn is_full(&self) -> bool {
        let bytes = self.queued.load(Ordering::Relaxed) + self.waiting.load(Ordering::Relaxed);
        bytes > BEHIND && !self.ended
    }

    /// More is said than can be written: whoever sends should wait.
    pub fn is_behind(&self) -> bool {
        self.progress.borrow().trouble.is_none() && self.is_full()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.release();
        let _ = self.messages.send(Message::Close(self.id));
    }
}

fn bytes(changes: &[Change]) -> usize {
    changes.iter().map(Change::bytes).sum()
}

/// One run's writer, as the thread keeps it.
struct Kept {
    writer: Writer,
    publish: watch::Sender<Progress>,
    queued: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
    counted: Arc<Counted>,
    /// When what failed is tried again.
    due: Option<Instant>,
    /// Given back when the file is closed.
    _place: Option<Place>,
}

/// The runs whose files are open here.
#[derive(Default)]
struct Places {
    taken: Mutex<HashSet<RunId>>,
    given_back: Condvar,
}

/// One of them.
struct Place(Arc<Places>, RunId);

impl Place {
    /// None: another holds it for too long.
    fn take(places: Arc<Places>, run: &RunId) -> Option<Self> {
        let taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut taken, _) = places
            .given_back
            .wait_timeout_while(taken, CLOSING, |taken| taken.contains(run))
            .unwrap_or_else(PoisonError::into_inner);
        let free = taken.insert(run.clone());
        drop(taken);
        free.then(|| Self(places, run.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self(places, run) = self;
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(run);
        places.given_back.notify_all();
    }
}

fn serve(inbox: &mpsc::Receiver<Message>) {
    let mut serving = Serving::default();
    loop {
        let message = match serving.due() {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => inbox.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match message {
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(message) => serving.take(message),
            Err(RecvTimeoutError::Timeout) => {}
        }
        serving.try_again();
    }
    for kept in serving.runs.into_values() {
        kept.writer.close();
    }
}

/// What the thread does.
#[derive(Default)]
struct Serving {
    runs: HashMap<u64, Kept>,
}

impl Serving {
    fn take(&mut self, message: Message) {
        match message {
            Message::Open(id, kept) => {
                self.runs.insert(id, *kept);
            }
            Message::Write(id, ticket, changes) => {
                if let Some(kept) = self.runs.get_mut(&id) {
                    kept.push(ticket, changes);
                }
            }
            Message::Flush(id, done) => {
                if let Some(kept) = self.runs.get_mut(&id) {
                    kept.commit();
                }
                // Whoever waits may have left.
                let _ = done.send(());
            }
            Message::Close(id) => {
                if let Some(kept) = self.runs.remove(&id) {
                    kept.writer.close();
                }
            }
            Message::Stop => {}
        }
    }

    /// When something is to be tried again.
    fn due(&self) -> Option<Instant> {
        self.runs.values().filter_map(|kept| kept.due).min()
    }

    fn try_again(&mut self) {
        let now = Instant::now();
        for kept in self.runs.values_mut() {
            if kept.due.is_some_and(|due| due <= now) {
                kept.commit();
            }
        }
    }
}

/// For tests: the journals' thread, which works when it is told to. Dropped, it has ended.
#[cfg(test)]
pub(crate) struct Hand {
    inbox: mpsc::Receiver<Message>,
    serving: Serving,
}

#[cfg(test)]
impl Hand {
    pub(crate) fn start(settings: Settings, clock: Clock) -> (Journals, Self) {
        let (messages, inbox) = mpsc::channel();
        let serving = Serving::default();
        (
            Journals::new(settings, clock, messages),
            Self { inbox, serving },
        )
    }

    /// Does everything that it was handed.
    pub(crate) fn work(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.serving.take(message);
        }
    }
}

impl Kept {
    fn push(&mut self, ticket: u64, changes: Vec<Change>) {
        self.queued.fetch_sub(bytes(&changes), Ordering::Relaxed);
        self.writer.push(ticket, changes);
        if self.writer.trouble().is_none() {
            self.commit();
        } else {
            self.waiting.store(self.writer.bytes(), Ordering::Relaxed);
            // It may be that nothing was tried yet: the file could not be opened.
            self.due.get_or_insert(Instant::now() + RETRY);
        }
    }

    fn commit(&mut self) {
        let (rows, begun) = (self.writer.rows(), Instant::now());
        self.writer.commit();
        let failed = self.writer.trouble().is_some();
        self.counted.commit(rows, begun.elapsed(), failed);
        let trouble = self.writer.trouble();
        self.due = trouble.map(|_| Instant::now() + RETRY);
        self.waiting.store(self.writer.bytes(), Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn start(directory: &std::path::Path) -> (Journals, Hand, RunId) {
        let settings = Settings {
            directory: directory.to_owned(),
            node: "n".to_owned(),
            most_age: Duration::MAX,
            most_disk_bytes: u64::MAX,
            most_bytes: 16 << 20,
        };
        let clock = Clock {
            at: Instant::now(),
            unix: Duration::from_secs(1_800_000_000),
        };
        let (journals, hand) = Hand::start(settings, clock);
        let run = RunId {
            name: "digits".into(),
            launch: "1".into(),
        };
        (journals, hand, run)
    }

    #[test]
    fn a_run_that_comes_back_waits_until_its_file_is_closed() {
        let directory = tempfile::tempdir().expect("there is room");
        let (journals, mut hand, run) = start(directory.path());
        drop(journals.open(&run));
        let opening = std::thread::spawn({
            let journals = journals.clone();
            move || journals.open(&run).0
        });
        // Whoever opens is ahead of the thread that closes.
        while Arc::strong_count(&journals.places) < 4 && !opening.is_finished() {
            std::thread::yield_now();
        }
        hand.work();
        let _again = opening.join().expect("it is opened");
        let second = directory.path().join("digits@1~2.db");
        assert!(!second.exists(), "it has one file");
    }

    #[test]
    fn while_the_thread_is_behind_a_hook_that_changes_waits_once() {
        use crate::store::journal::{HookKept, Kind};
        const LARGE: usize = 1 << 20;
        let directory = tempfile::tempdir().expect("there is room");
        let (journals, mut hand, run) = start(directory.path());
        let (mut journal, ..) = journals.open(&run);
        hand.work();
        for calls in 1..=1000 {
            let kept = HookKept::large("Own", calls, LARGE);
            let change = Change {
                attempt: 0,
                at: Instant::now(),
                kind: Kind::Hook(Box::new(kept)),
            };
            journal.append(vec![change]);
            let bytes = journal.queued.load(Ordering::Relaxed) + journal.held.bytes();
            assert!(bytes < BEHIND + 3 * LARGE, "{bytes} bytes after {calls}");
        }
        assert!(journal.is_full() && !journal.holds());
        // A disk that hangs now and then is handed more once, and not each time.
        journal.release_once();
        assert!(journal.held.is_empty());
        journal.append(Vec::new());
        journal.release_once();
        assert!(!journal.held.is_empty());
        hand.work();
        assert!(journal.holds(), "it can go now");
        let last = journal.append(Vec::new());
        hand.work();
        assert_eq!(journal.progress().committed, last);
        assert!(!journal.holds());
        let calls = "SELECT calls FROM hooks";
        let file = rusqlite::Connection::open(directory.path().join("digits@1.db"));
        let calls = file.and_then(|file| file.query_row(calls, [], |row| row.get(0)));
        assert_eq!(calls, Ok(1000));
    }
}
