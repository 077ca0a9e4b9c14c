//! Finds the task of a run, or starts it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::keeping::Keeping;
use super::run::Run;
use super::{INBOX, Rules, ToBus};
use crate::domain::RunId;
use crate::snapshot::{Board, Phase};
use crate::store::Live;
use crate::store::journal::Journals;

/// Runs that are over are kept for looking at, the newest of them.
const KEPT_RUNS: usize = 64;

/// All runs of this daemon.
#[derive(Clone)]
pub struct Hub {
    rules: Arc<Rules>,
    live: Live,
    board: Board,
    tasks: TaskTracker,
    journals: Option<Journals>,
    runs: Arc<Mutex<HashMap<RunId, mpsc::Sender<ToBus>>>>,
}

impl Hub {
    /// No runs yet. Tasks are spawned on the runtime of whoever calls [`Hub::run`].
    pub fn new(
        rules: Rules,
        live: Live,
        board: Board,
        tasks: TaskTracker,
        journals: Option<Journals>,
    ) -> Self {
        Self {
            rules: Arc::new(rules),
            live,
            board,
            tasks,
            journals,
            runs: Arc::default(),
        }
    }

    /// Every run's snapshots.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The inbox of a run, which is started if it is not there.
    pub fn run(&self, id: &RunId) -> mpsc::Sender<ToBus> {
        let mut runs = self.lock();
        if let Some(inbox) = runs.get(id) {
            return inbox.clone();
        }
        self.forget_old(&mut runs);
        self.start(id, &mut runs, None)
    }

    /// Goes on with a run that was under way when its daemon died. Returns when it can be looked at.
    pub async fn take_back(&self, id: &RunId) {
        let Some(journals) = &self.journals else {
            return;
        };
        let (keeping, run) = Keeping::open(journals, id, &self.rules).await;
        if run.members.is_empty() {
            return; // another daemon has taken it meanwhile
        }
        let opened = (keeping, run);
        let mut runs = self.lock();
        if !runs.contains_key(id) {
            self.start(id, &mut runs, Some(opened));
        }
    }

    fn start(
        &self,
        id: &RunId,
        runs: &mut HashMap<RunId, mpsc::Sender<ToBus>>,
        opened: Option<(Keeping, Run)>,
    ) -> mpsc::Sender<ToBus> {
        let (inbox, messages) = mpsc::channel(INBOX);
        let (rules, live) = (Arc::clone(&self.rules), self.live.clone());
        let mut new = Run::new(id.clone(), Arc::clone(&rules), Instant::now());
        match (opened, self.journals.clone()) {
            (Some((keeping, mut run)), _) => {
                let (publish, latest) = watch::channel(Arc::new(run.snapshot()));
                self.board.add(id.clone(), latest);
                self.tasks
                    .spawn(super::task(rules, live, keeping, messages, publish, run));
            }
            (None, None) => {
                let (publish, latest) = watch::channel(Arc::new(new.snapshot()));
                self.board.add(id.clone(), latest);
                let keeping = Keeping::nowhere();
                self.tasks
                    .spawn(super::task(rules, live, keeping, messages, publish, new));
            }
            (None, Some(journals)) => {
                let (publish, latest) = watch::channel(Arc::new(new.snapshot()));
                self.board.add(id.clone(), latest);
                let id = id.clone();
                self.tasks.spawn(async move {
                    let (keeping, run) = Keeping::open(&journals, &id, &rules).await;
                    super::task(rules, live, keeping, messages, publish, run).await;
                });
            }
        }
        runs.insert(id.clone(), inbox.clone());
        inbox
    }

    /// The inbox of a run that is there.
    pub fn find(&self, id: &RunId) -> Option<mpsc::Sender<ToBus>> {
        self.lock().get(id).cloned()
    }

    /// Tells every run that the daemon ends, and forgets them, so that their tasks end when their sessions have.
    pub async fn shutdown(&self) {
        let runs: Vec<_> = self.lock().drain().collect();
        for (_, inbox) in runs {
            // A closed inbox is a task that has ended.
            let _ = inbox.send(ToBus::Shutdown).await;
        }
    }

    fn forget_old(&self, runs: &mut HashMap<RunId, mpsc::Sender<ToBus>>) {
        let mut over: Vec<_> = self
            .board
            .all()
            .into_iter()
            .filter(|run| run.phase != Phase::Running)
            .collect();
        over.sort_by_key(|run| run.started);
        for run in over.iter().take(over.len().saturating_sub(KEPT_RUNS - 1)) {
            runs.remove(&run.id);
            self.board.remove(&run.id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, mpsc::Sender<ToBus>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
