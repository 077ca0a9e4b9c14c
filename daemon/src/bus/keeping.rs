//! A run and its journal: what it says goes there, what is committed comes back. Without a journal everything is settled as
//! soon as the bus has taken it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Rules;
use super::run::Run;
use crate::domain::RunId;
use crate::store::journal::{Change, Journal, Journals, Written};

/// A run whose file takes longer to open goes on without one: a trainer waits for it, 5 s at most.
const OPENING: Duration = Duration::from_secs(2);

/// What a run has to say is handed on after this, at the latest.
const GROUP: Duration = Duration::from_millis(100);
/// Or when it is so many rows.
const GROUP_ROWS: usize = 1024;
/// A disk that says nothing for so long is one that takes nothing.
const HANGS: Duration = Duration::from_secs(5);

/// Where what happens in a run is made to last.
pub(super) struct Keeping {
    journal: Option<Journal>,
    seen: Written,
    /// When what the run has to say is handed on.
    due: Option<Instant>,
    /// Handed on last, and since when something of it is not committed.
    handed: u64,
    uncommitted_since: Option<Instant>,
    /// The disk does not even fail.
    hangs: bool,
}

impl Keeping {
    /// Nothing is written down.
    pub(super) fn nowhere() -> Self {
        Self {
            journal: None,
            seen: Written::default(),
            due: None,
            handed: 0,
            uncommitted_since: None,
            hangs: false,
        }
    }

    /// Opens a run's file. The run goes on from what is in it.
    pub(super) async fn open(journals: &Journals, id: &RunId, rules: &Arc<Rules>) -> (Self, Run) {
        let (of, run_id) = (journals.clone(), id.clone());
        let opening = tokio::task::spawn_blocking(move || of.open(&run_id));
        let opened = tokio::time::timeout(OPENING, opening).await;
        let now = Instant::now();
        let Ok(Ok((journal, saved, set_aside))) = opened else {
            let directory = journals.settings().directory.display().to_string();
            tracing::error!(run = %id, directory, "the journal is not open within 2 s; this run is not written down");
            let mut run = Run::new(id.clone(), Arc::clone(rules), now);
            run.journal_note(format!(
                "{directory}: not open within 2 s; this run is not written down"
            ));
            return (Self::nowhere(), run);
        };
        let mut run = match saved {
            Some(saved) => Run::restore(saved, Arc::clone(rules), now),
            None => Run::new(id.clone(), Arc::clone(rules), now),
        };
        if let Some(line) = set_aside {
            run.journal_note(line);
        }
        let keeping = Self {
            journal: Some(journal),
            seen: Written::default(),
            due: None,
            handed: 0,
            uncommitted_since: None,
            hangs: false,
        };
        (keeping, run)
    }

    /// Hands on what the run has to say, when 100 ms are over or 1,024 rows wait. `tick`: also tells what is taken and not
    /// settled.
    pub(super) fn keep(&mut self, run: &mut Run, tick: bool, now: Instant) {
        run.note_phase(now);
        let Some(journal) = &self.journal else {
            run.take_changes(now);
            run.appended(0);
            run.committed(u64::MAX);
            return;
        };
        if journal.has_changed() {
            self.report(run, now);
        }
        let rows = run.unsaid_rows();
        if run.has_told() || rows >= GROUP_ROWS || self.due.is_some_and(|due| due <= now) {
            self.hand_over(run, now);
        } else if rows > 0 {
            self.due.get_or_insert(now + GROUP);
        }
        let hangs = self
            .uncommitted_since
            .is_some_and(|since| now - since > HANGS);
        if hangs != self.hangs {
            self.hangs = hangs;
            self.report(run, now);
        }
        if hangs || !self.journal.as_ref().is_some_and(Journal::is_behind) {
            run.tell_taken(tick && (hangs || self.seen.trouble.is_some()));
        }
    }

    /// Hands on everything that the run has to say. One message for many events: a thread that is woken for each would
    /// cost the trainer's gates more than all the rest of it.
    pub(super) fn hand_over(&mut self, run: &mut Run, now: Instant) {
        self.due = None;
        let Some(journal) = &mut self.journal else {
            return;
        };
        let mut changes = run.take_changes(now);
        if !changes.is_empty() || run.has_told() {
            if self.hangs && journal.is_full() {
                changes.iter_mut().for_each(Change::give_events_up);
            }
            self.handed = journal.append(changes);
            self.uncommitted_since.get_or_insert(now);
            run.appended(self.handed);
        }
        // An operator does not wait while nothing can be written.
        if self.hangs || self.seen.trouble.is_some() {
            run.tell_up_to(u64::MAX);
        }
    }

    /// When something is to be handed on.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Waits until the journal is further. Cancel safe.
    pub(super) async fn changed(&mut self) {
        match &mut self.journal {
            Some(journal) => journal.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Tells the run how far the journal is.
    pub(super) fn report(&mut self, run: &mut Run, now: Instant) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        let before = self.seen.committed;
        self.seen = journal.progress();
        run.committed(self.seen.committed);
        if self.seen.committed == self.handed {
            self.uncommitted_since = None;
        } else if self.seen.committed != before {
            self.uncommitted_since = Some(now);
        }
        self.hangs &= self
            .uncommitted_since
            .is_some_and(|since| now - since > HANGS);
        let hangs = self.hangs.then_some("the disk has not answered for 5 s");
        let trouble = self.seen.trouble.as_deref().or(hangs);
        if trouble.is_some() {
            run.tell_up_to(u64::MAX);
        }
        run.journal_trouble(trouble, now);
    }

    /// Everything said so far is in the file when this has come; None: there is no file.
    pub(super) fn flush(
        &mut self,
        run: &mut Run,
        now: Instant,
    ) -> Option<tokio::sync::oneshot::Receiver<()>> {
        self.hand_over(run, now);
        self.journal.as_ref().map(Journal::flush)
    }
}
