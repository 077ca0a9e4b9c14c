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
        // It is open: what stopped the daemon before this one is over, or is told anew.
        run.journal_trouble(None, now);
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
        let released = !self.hangs && self.holds();
        if run.has_told()
            || rows >= GROUP_ROWS
            || released
            || self.due.is_some_and(|due| due <= now)
        {
            self.hand_over(run, now);
        } else if rows > 0 {
            self.due.get_or_insert(now + GROUP);
        }
        let hangs = self
            .uncommitted_since
            .is_some_and(|since| now - since > HANGS);
        if hangs != self.hangs {
            self.hangs = hangs;
            if let Some(journal) = self.journal.as_mut().filter(|_| hangs) {
                journal.release_once();
            }
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
        let changes = run.take_changes(now);
        let hold = self.hangs && journal.is_full();
        if !changes.is_empty() || run.has_told() || journal.holds() {
            self.handed = if hold {
                journal.hold(changes)
            } else {
                journal.append(changes)
            };
            self.uncommitted_since.get_or_insert(now);
            run.appended(self.handed);
        }
        // An operator does not wait while nothing can be written.
        if self.hangs || self.seen.trouble.is_some() {
            run.tell_up_to(u64::MAX);
        }
    }

    fn holds(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::holds)
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
        self.journal.as_mut().map(Journal::flush)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::bus::{Asked, Attach, Link, OUTBOX, Order, Record, ToTrainer};
    use crate::domain::{
        Batch, Clock, Effective, Event, Hello, Incident, IncidentKind, Names, Rank,
    };
    use crate::store::journal::{Hand, Settings};
    use crate::store::{Live, RunView};

    const LINK: Link = Link {
        rank: Rank(0),
        serial: 1,
    };

    /// A run of one rank, and its journal, whose thread works when it is told to.
    struct Bench {
        directory: tempfile::TempDir,
        now: Instant,
        hand: Option<Hand>,
        keeping: Keeping,
        run: Run,
        out: mpsc::Receiver<ToTrainer>,
        names: Arc<Names>,
        next: u64,
        /// What the trainer was told last.
        heard: Option<(u64, u64)>,
    }

    /// A rank comes in.
    fn attach(run: &mut Run, link: Link, now: Instant) -> mpsc::Receiver<ToTrainer> {
        let (out, inbox) = mpsc::channel(OUTBOX);
        let (reply, _answer) = oneshot::channel();
        let hello = Hello {
            run: run.id().clone(),
            attempt: None,
            rank: link.rank,
            world_size: 1,
            local_rank: None,
            node: "n".into(),
            process: Default::default(),
            session: "s".into(),
            points: vec!["after_train_iter".into()],
            capabilities: Vec::new(),
            next_seq: 1,
            applied: Vec::new(),
            state: None,
            hooks: Vec::new(),
            client: String::new(),
        };
        let attach = Attach {
            serial: link.serial,
            hello,
            uid: None,
            process: Err("not seen".to_owned()),
            out,
            reply,
        };
        run.attach(attach, now, |_| true);
        inbox
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("there is room");
            let now = Instant::now();
            let settings = Settings {
                directory: directory.path().to_owned(),
                node: "n".to_owned(),
                most_age: Duration::MAX,
                most_disk_bytes: u64::MAX,
                most_bytes: 16 << 20,
            };
            let clock = Clock {
                at: now,
                unix: Duration::from_secs(1_800_000_000),
            };
            let (journals, hand) = Hand::start(settings, clock);
            let id = RunId {
                name: "digits".into(),
                launch: "1".into(),
            };
            let (journal, saved, _) = journals.open(&id);
            assert!(saved.is_none());
            let rules = Rules {
                hooks: Vec::new(),
                record: Record {
                    every: 1,
                    fields: vec!["*".to_owned()],
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
            let mut run = Run::new(id.clone(), Arc::new(rules), now);
            let inbox = attach(&mut run, LINK, now);
            let mut bench = Self {
                directory,
                now,
                hand: Some(hand),
                keeping: Keeping {
                    journal: Some(journal),
                    ..Keeping::nowhere()
                },
                run,
                out: inbox,
                names: Arc::new(Names {
                    points: vec!["after_train_iter".into()],
                    metrics: Vec::new(),
                }),
                next: 1,
                heard: None,
            };
            bench.pass(Duration::ZERO);
            bench.pass(GROUP);
            bench.work();
            bench
        }

        /// The journal's thread does all that it was handed, and the run hears of it.
        fn work(&mut self) {
            self.hand.as_mut().expect("it lives").work();
            self.pass(Duration::ZERO);
        }

        fn pass(&mut self, so_long: Duration) {
            self.now += so_long;
            self.keeping.keep(&mut self.run, true, self.now);
            while self.run.acknowledge() {}
            while let Ok(message) = self.out.try_recv() {
                if let ToTrainer::Ack { settled, taken } = message {
                    self.heard = Some((settled, taken));
                }
            }
        }

        fn events(&mut self, count: u64) {
            let event = |seq| Event {
                seq,
                ..Event::default()
            };
            let batch = Batch {
                names: Arc::clone(&self.names),
                events: (self.next..self.next + count).map(event).collect(),
                gates: Vec::new(),
            };
            let view = RunView::new(Live::default(), self.run.id().clone());
            self.run.batch(LINK, self.next, batch, &view, self.now);
            self.next += count;
            self.pass(Duration::ZERO);
        }

        /// Of the journal, while it is open.
        fn incident(&mut self) -> Option<String> {
            let seen = self.run.snapshot().incidents;
            let open = |incident: &Incident| {
                incident.open && incident.kind == IncidentKind::JournalStopped
            };
            let mut open = seen.into_iter().filter(|(incident, _)| open(incident));
            open.next().map(|(incident, _)| incident.text)
        }

        /// The last that was settled and that was taken, as the trainer was told.
        fn acknowledged(&mut self) -> Option<(u64, u64)> {
            self.heard.take()
        }

        fn number(&self, sql: &str) -> i64 {
            let path: PathBuf = self.directory.path().join("digits@1.db");
            let connection = rusqlite::Connection::open(path).expect("it is there");
            connection
                .query_row(sql, [], |row| row.get(0))
                .expect("it can be read")
        }
    }

    #[test]
    fn a_disk_that_hangs_is_an_incident_until_it_answers() {
        let mut bench = Bench::new();
        bench.events(3);
        bench.pass(GROUP);
        bench.pass(HANGS);
        assert_eq!(bench.incident(), None);
        assert_eq!(bench.acknowledged(), None);
        bench.pass(Duration::from_millis(1));
        let text = bench.incident().expect("it is told");
        assert!(text.contains("has not answered for 5 s"), "{text}");
        assert_eq!(bench.acknowledged(), Some((0, 3)));
        bench.events(1);
        assert_eq!(bench.acknowledged(), Some((0, 4)), "the live view goes on");
        bench.pass(GROUP);
        bench.work();
        assert_eq!(bench.incident(), None);
        assert_eq!(bench.acknowledged(), Some((4, 4)));
        assert_eq!(bench.number("SELECT count(*) FROM events"), 4);
    }

    #[test]
    fn many_ranks_are_acknowledged_in_turn_and_not_all_at_once() {
        const RANKS: u32 = 100;
        let mut bench = Bench::new();
        let link = |rank| Link {
            rank: Rank(rank),
            serial: u64::from(rank) + 1,
        };
        let come = (1..RANKS).map(|rank| attach(&mut bench.run, link(rank), bench.now));
        let mut outs: Vec<_> = come.collect();
        let told = |out: &mut mpsc::Receiver<ToTrainer>| {
            let mut told = Vec::new();
            while let Ok(message) = out.try_recv() {
                told.push(message);
            }
            told
        };
        for out in &mut outs {
            let first = told(out);
            let is_welcome = matches!(first.as_slice(), [ToTrainer::Welcome(_)]);
            assert!(is_welcome, "no plan twice: {first:?}");
        }
        let view = RunView::new(Live::default(), bench.run.id().clone());
        for rank in 1..RANKS {
            let batch = Batch {
                names: Arc::clone(&bench.names),
                events: vec![Event {
                    seq: 1,
                    ..Event::default()
                }],
                gates: Vec::new(),
            };
            bench.run.batch(link(rank), 1, batch, &view, bench.now);
        }
        bench.keeping.keep(&mut bench.run, true, bench.now);
        bench.keeping.hand_over(&mut bench.run, bench.now);
        bench.hand.as_mut().expect("it lives").work();
        bench.keeping.keep(&mut bench.run, true, bench.now);
        let mut shares = Vec::new();
        loop {
            let more = bench.run.acknowledge();
            let told = outs
                .iter_mut()
                .map(|out| usize::from(!told(out).is_empty()));
            shares.push(told.sum::<usize>());
            if !more {
                break;
            }
        }
        assert_eq!(shares.iter().sum::<usize>(), RANKS as usize - 1);
        assert!(shares.iter().all(|share| *share <= 5), "{shares:?}");
    }

    #[tokio::test]
    async fn a_journal_whose_thread_has_ended_is_an_incident_and_keeps_nothing() {
        let mut bench = Bench::new();
        bench.events(200_000);
        bench.hand = None;
        bench.keeping.changed().await;
        let (told, mut updates) = mpsc::channel(1);
        let order = Order {
            id: "o".to_owned(),
            by: "me".to_owned(),
            uid: None,
            asked: Asked::Stop("enough".to_owned()),
            effective: Effective::Next,
            ranks: Default::default(),
            timeout: Duration::from_secs(60),
            updates: told,
        };
        bench.run.order(order, bench.now);
        bench.pass(Duration::ZERO);
        assert!(updates.try_recv().is_ok(), "no operator waits");
        let text = bench.incident().expect("it is told");
        assert!(text.contains("the journal's thread has ended"), "{text}");
        assert_eq!(bench.acknowledged(), Some((0, 200_000)));
        tokio::select! {
            biased;
            () = bench.keeping.changed() => panic!("it is told once"),
            () = std::future::ready(()) => {}
        }
        for _ in 0..5000 {
            bench.events(100);
            bench.pass(GROUP);
        }
        let all = 200_000 + 500_000;
        assert_eq!(
            bench.acknowledged(),
            Some((0, all)),
            "the live view goes on"
        );
        let journal = bench.keeping.journal.as_ref().expect("it has one");
        assert_eq!(journal.held(), 0);
        assert!(bench.run.waiting() <= 4097);
        assert!(bench.incident().is_some());
    }

    #[test]
    fn what_came_before_a_disk_was_seen_to_hang_is_no_hole() {
        let mut bench = Bench::new();
        bench.events(100_001);
        bench.pass(GROUP);
        bench.events(500);
        bench.pass(GROUP);
        let journal = |bench: &Bench| bench.keeping.journal.as_ref().expect("it has one").held();
        assert!(journal(&bench) > 0, "too much waits for the thread");
        bench.pass(HANGS + Duration::from_millis(1));
        assert_eq!(journal(&bench), 0);
        bench.events(10);
        bench.pass(GROUP);
        bench.work();
        bench.pass(GROUP);
        bench.work();
        assert_eq!(bench.number("SELECT count(*) FROM events"), 100_501);
        assert_eq!(bench.number("SELECT sum(count) FROM holes"), 10);
    }

    #[test]
    fn while_a_disk_hangs_little_is_held_and_what_is_missing_is_told() {
        let mut bench = Bench::new();
        let before = bench.number("SELECT count(*) FROM sample_rows");
        bench.events(100_001);
        bench.pass(GROUP);
        bench.pass(HANGS + Duration::from_millis(1));
        assert!(bench.incident().is_some());
        let live = Live::default();
        let a_round = |bench: &mut Bench| {
            bench.events(10);
            assert!(bench.run.sample(&live, bench.now));
            bench.pass(GROUP);
            bench.pass(GROUP);
        };
        a_round(&mut bench);
        let journal = |bench: &Bench| bench.keeping.journal.as_ref().expect("it has one").held();
        let held = journal(&bench);
        for _ in 0..5000 {
            a_round(&mut bench);
        }
        let now = journal(&bench);
        assert!(now <= held + 1, "{held} rows, then {now}");
        assert!(bench.run.waiting() <= 4097);
        bench.work();
        bench.pass(GROUP);
        bench.work();
        assert_eq!(bench.incident(), None);
        let all = 100_001 + 50_010;
        assert_eq!(bench.acknowledged(), Some((all, all)));
        assert_eq!(bench.number("SELECT count(*) FROM events"), 100_001);
        assert_eq!(bench.number("SELECT sum(count) FROM holes"), 50_010);
        let samples = bench.number("SELECT count(*) FROM sample_rows");
        assert_eq!(samples, before);
        let each = {
            assert!(bench.run.sample(&live, bench.now));
            bench.pass(GROUP);
            bench.pass(GROUP);
            bench.work();
            bench.number("SELECT count(*) FROM sample_rows") - samples
        };
        let told = format!(
            "SELECT count(*) FROM log WHERE text LIKE '%: {} samples of memory and 0 lines%'",
            5001 * each
        );
        assert_eq!(bench.number(&told), 1);
    }
}
