//! A run and its journal: what it says goes there, what is committed comes back. Without a journal everything is settled as
//! soon as the bus has taken it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Rules;
use super::run::Run;
use crate::domain::RunId;
use crate::store::journal::{Journal, Journals, Written};

/// A run whose file takes longer to open goes on without one: a trainer waits for it, 5 s at most.
const OPENING: Duration = Duration::from_secs(2);

/// Where what happens in a run is made to last.
pub(super) struct Keeping {
    journal: Option<Journal>,
    seen: Written,
}

impl Keeping {
    /// Nothing is written down.
    pub(super) fn nowhere() -> Self {
        Self {
            journal: None,
            seen: Written::default(),
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
        };
        (keeping, run)
    }

    /// What the run has to say since the last time. `tick`: also what is taken and not settled.
    pub(super) fn keep(&mut self, run: &mut Run, tick: bool, now: Instant) {
        let changes = run.take_changes(now);
        let Some(journal) = &mut self.journal else {
            run.appended(0);
            run.committed(u64::MAX);
            return;
        };
        let tells = run.has_told();
        if !changes.is_empty() || tells {
            run.appended(journal.append(changes));
        }
        // An operator does not wait for the next group, and not at all while nothing can be written.
        if tells && self.seen.trouble.is_some() {
            run.tell_up_to(u64::MAX);
        } else if tells {
            drop(journal.flush());
        }
        if !journal.is_behind() {
            run.tell_taken(tick && self.seen.trouble.is_some());
        }
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
        let Some(journal) = &self.journal else { return };
        self.seen = journal.progress();
        run.committed(self.seen.committed);
        if self.seen.trouble.is_some() {
            run.tell_up_to(u64::MAX);
        }
        run.journal_trouble(self.seen.trouble.as_deref(), now);
    }

    /// Everything said so far is in the file when this has come; None: there is no file.
    pub(super) fn flush(&self) -> Option<tokio::sync::oneshot::Receiver<()>> {
        self.journal.as_ref().map(Journal::flush)
    }
}
