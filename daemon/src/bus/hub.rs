//! Finds the task of a run, or starts it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::keeping::Keeping;
use super::run::Run;
use super::{Fence, INBOX, Rules, ToBus};
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
    runs: Arc<Mutex<Runs>>,
}

#[derive(Default)]
struct Runs {
    inboxes: HashMap<RunId, mpsc::Sender<ToBus>>,
    /// The daemon ends: none is started.
    ending: bool,
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

    /// The inbox of a run, which is started if it is not there. Not while the daemon ends: what is said to the run's last
    /// task is still written to its file, and another task would make another one.
    pub fn run(&self, id: &RunId) -> Result<mpsc::Sender<ToBus>, Fence> {
        let mut runs = self.lock();
        if runs.ending {
            return Err(Fence::shutdown());
        }
        // A task that has ended by a mistake of ours takes nothing more; another one goes on from its journal.
        if let Some(inbox) = runs.inboxes.get(id).filter(|inbox| !inbox.is_closed()) {
            return Ok(inbox.clone());
        }
        self.forget_old(&mut runs.inboxes);
        Ok(self.start(id, &mut runs.inboxes, None))
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
        if !runs.ending && !runs.inboxes.contains_key(id) {
            self.start(id, &mut runs.inboxes, Some(opened));
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
        self.lock().inboxes.get(id).cloned()
    }

    /// Tells every run that the daemon ends, and forgets them, so that their tasks end when their sessions have.
    pub async fn shutdown(&self) {
        let inboxes = {
            let mut runs = self.lock();
            runs.ending = true;
            std::mem::take(&mut runs.inboxes)
        };
        for inbox in inboxes.into_values() {
            // A closed inbox is a task that has ended.
            let _ = inbox.send(ToBus::Shutdown).await;
        }
    }

    fn forget_old(&self, runs: &mut HashMap<RunId, mpsc::Sender<ToBus>>) {
        let mut over: Vec<_> = self
            .board
            .begun()
            .into_iter()
            .filter(|run| run.phase != Phase::Running)
            .collect();
        over.sort_by_key(|run| run.started);
        for run in over.iter().take(over.len().saturating_sub(KEPT_RUNS - 1)) {
            runs.remove(&run.id);
            self.board.remove(&run.id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::bus::{Attach, FenceReason, OUTBOX, Record};
    use crate::domain::{Hello, Rank};

    #[tokio::test]
    async fn nobody_comes_in_while_the_daemon_ends() {
        let rules = Rules {
            hooks: Vec::new(),
            record: Record {
                every: 1,
                fields: Vec::new(),
            },
            stall_budget: 0.0,
            probe: Duration::from_secs(1),
            alive: |_| true,
            own_uid: 0,
            sample_every: Duration::from_secs(1),
            encode: |_| Vec::new(),
            providers: crate::providers::none(),
            provider_failures: 5,
        };
        let (live, board, tasks) = (Live::default(), Board::default(), TaskTracker::new());
        let hub = Hub::new(rules, live, board.clone(), tasks.clone(), None);
        let id = |name: &str| RunId {
            name: name.into(),
            launch: "1".into(),
        };
        let inbox = hub.run(&id("early")).expect("it serves");
        hub.shutdown().await;
        for run in ["early", "late"] {
            let fence = hub.run(&id(run)).expect_err("it ends");
            assert_eq!(fence.reason, FenceReason::Shutdown, "{run}");
        }
        assert_eq!(board.begun().len(), 1, "no run was started");
        // Its session had found the run before.
        let (out, _heard) = mpsc::channel(OUTBOX);
        let (reply, answer) = oneshot::channel();
        let attach = Attach {
            serial: 1,
            hello: Hello {
                run: id("early"),
                attempt: None,
                rank: Rank(0),
                world_size: 1,
                local_rank: None,
                node: "n".into(),
                process: Default::default(),
                session: "s".into(),
                points: Vec::new(),
                capabilities: Vec::new(),
                next_seq: 1,
                applied: Vec::new(),
                state: None,
                hooks: Vec::new(),
                client: String::new(),
            },
            uid: None,
            process: Err("not seen".to_owned()),
            out,
            reply,
        };
        let attach = ToBus::Attach(Box::new(attach));
        inbox.send(attach).await.expect("its task goes on");
        let fence = answer.await.expect("it is answered").expect_err("it ends");
        assert_eq!(fence.reason, FenceReason::Shutdown);
        drop(inbox);
        tasks.close();
        tasks.wait().await;
    }
}
