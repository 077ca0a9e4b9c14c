//! What the viewer knows and what it is looking at. Replies go in, keys change it, the view reads it; nothing here waits,
//! asks or draws. Times are passed in: `now_s` on a monotonic clock of the caller.
//!
//! | file | what |
//! |---|---|
//! | here | the state, and what a reply does to it |
//! | `act` | what an action does to it |
//! | `lists` | runs, ranks, processes and GPUs, sorted and chosen |
//! | `bars` | memory as segments under a limit |
//! | `old` | when a number is old |
//! | `past` | memory over time |
//! | `log` | what happened |
//! | `details` | all that is known of one of them |
//! | `dialog` | an order, from the key to the results |

pub(super) mod act;
pub(super) mod bars;
pub(super) mod details;
pub(super) mod dialog;
pub(super) mod lists;
pub(super) mod log;
pub(super) mod old;
pub(super) mod past;

use hookbus_client::inspect::proto::{
    Happening, HistoryReply, OrderUpdate, Rank, RunSummary, SnapshotReply,
};

use dialog::Dialog;
use lists::Pane;
use log::Log;
use past::Past;

/// How far back charts go, in seconds.
const SPANS_S: [f64; 4] = [120.0, 600.0, 1800.0, 7200.0];

/// What came from the daemon, or from the way to it.
#[derive(Debug, Clone)]
pub(super) enum News {
    /// There is a connection.
    Connected,
    /// There is none any more, or never was; it is tried again.
    Lost(String),
    /// The daemon answers, but not this question.
    Trouble(String),
    Runs(Vec<RunSummary>),
    Snapshot(Box<SnapshotReply>),
    /// What happened is told from the beginning; nothing of it came yet.
    Following,
    Happened(Box<Happening>),
    Past(Result<Box<HistoryReply>, String>),
    Order(OrderUpdate),
    OrderEnded(Result<(), String>),
    /// Of one run: where another one is looked at by now, it is too late for it.
    Of(Whose, Box<News>),
}

/// Of which run something is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Whose {
    /// As it was asked for.
    pub(super) run: String,
    /// The id of the one that was shown then. None: whichever the run is.
    pub(super) id: Option<String>,
}

/// The last snapshot.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) reply: SnapshotReply,
    /// When it came.
    pub(super) came_s: f64,
    /// The daemon's clock then.
    pub(super) at_unix_s: f64,
}

impl Shown {
    fn id(&self) -> &str {
        self.reply.run.as_ref().map_or("", |run| &run.id)
    }
}

/// What lies over the panes, or takes the keys.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mode {
    Panes,
    Filter,
    Help,
    /// All that is known of what is chosen; so many lines down.
    Details(usize),
    Order(Dialog),
}

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Whose the daemon is, for people.
    pub(super) address: String,
    /// RUN, or the run that was picked since.
    pub(super) run: String,
    pub(super) interval_s: f64,
    pub(super) armed: bool,
    pub(super) runs: Vec<RunSummary>,
    pub(super) shown: Option<Shown>,
    /// Why there is no connection now, and since when.
    pub(super) lost: Option<(String, f64)>,
    pub(super) connected: bool,
    /// Why the daemon does not answer what was asked.
    pub(super) trouble: String,
    pub(super) past: Past,
    pub(super) log: Log,
    pub(super) pane: Pane,
    pub(super) mode: Mode,
    pub(super) filters: [String; Pane::ALL.len()],
    pub(super) orders: [usize; Pane::ALL.len()],
    pub(super) cursor_run: Option<String>,
    pub(super) cursor_rank: Option<u32>,
    pub(super) cursor_pid: Option<u32>,
    pub(super) cursor_gpu: Option<u32>,
    /// Lines of the log below the window.
    pub(super) scrolled: usize,
    pub(super) span: usize,
    /// Held since then; what came meanwhile waits.
    pub(super) paused_s: Option<f64>,
    waiting: Option<Shown>,
    /// An order was sent, and its results may still come.
    pub(super) order_under_way: bool,
    /// For a person, until the next key.
    pub(super) hint: String,
}

impl Model {
    pub(super) fn new(run: &str, interval_s: f64, armed: bool) -> Model {
        Model {
            address: String::new(),
            run: run.to_owned(),
            interval_s,
            armed,
            runs: Vec::new(),
            shown: None,
            lost: None,
            connected: false,
            trouble: String::new(),
            past: Past::default(),
            log: Log::default(),
            pane: Pane::Ranks,
            mode: Mode::Panes,
            filters: Default::default(),
            orders: [0; Pane::ALL.len()],
            cursor_run: None,
            cursor_rank: None,
            cursor_pid: None,
            cursor_gpu: None,
            scrolled: 0,
            span: 1,
            paused_s: None,
            waiting: None,
            order_under_way: false,
            hint: String::new(),
        }
    }

    /// Takes in what came. True: it wants to look at another run than before, or has chosen one.
    pub(super) fn hear(&mut self, news: News, now_s: f64, now_unix_s: f64) -> bool {
        match news {
            News::Of(whose, news) => {
                let same = |id: &String| Some(id.as_str()) == self.shown_id();
                if whose.run == self.run && whose.id.as_ref().is_none_or(same) {
                    return self.hear(*news, now_s, now_unix_s);
                }
            }
            News::Connected => {
                self.connected = true;
                self.lost = None;
            }
            News::Lost(why) => {
                self.connected = false;
                let since = self.lost.as_ref().map_or(now_s, |(_, since)| *since);
                self.lost = Some((super::text::clean(&why), since));
                // Its results went with the connection.
                self.order_under_way = false;
                if let Mode::Order(dialog) = &mut self.mode {
                    dialog.lose();
                }
            }
            News::Trouble(why) => self.trouble = super::text::clean(&why),
            News::Runs(runs) => {
                self.runs = runs;
                return self.choose();
            }
            News::Snapshot(reply) => self.see(reply, now_s, now_unix_s),
            News::Following => {
                self.log = Log::default();
                self.scrolled = 0;
            }
            News::Happened(happened) => {
                let added = self.log.add(&happened);
                // What is looked at further up stays where it is.
                if added && (self.scrolled > 0 || self.paused_s.is_some()) {
                    self.scrolled += 1;
                }
            }
            News::Past(Ok(history)) => self.past.remember(&history),
            News::Past(Err(why)) => self.past.unknown = super::text::clean(&why),
            News::Order(update) => {
                if let Mode::Order(dialog) = &mut self.mode {
                    dialog.answer(update);
                }
            }
            News::OrderEnded(how) => {
                self.order_under_way = false;
                if let Mode::Order(dialog) = &mut self.mode {
                    dialog.end(how.map_err(|why| super::text::clean(&why)));
                }
            }
        }
        false
    }

    /// Where nobody said which: the newest that is training.
    fn choose(&mut self) -> bool {
        if !self.run.is_empty() {
            return false;
        }
        let newest = lists::runs(&self.runs, "newest", "");
        let goes_on = |run: &&&RunSummary| run.ended_unix_s.is_none();
        let chosen = newest.iter().find(goes_on).or(newest.first());
        match chosen.map(|run| run.id.clone()) {
            Some(id) => {
                self.look_at(id);
                true
            }
            None => false,
        }
    }

    /// Another run: nothing of the one before is true of it.
    fn look_at(&mut self, id: String) {
        if self.run == id && self.shown_id() == Some(&id) {
            return;
        }
        self.run = id;
        if self.shown_run().is_some_and(|run| run.id != self.run) {
            self.shown = None;
        }
        // What is held is the run before.
        self.paused_s = None;
        self.trouble.clear();
        self.forget();
    }

    fn forget(&mut self) {
        self.past = Past::default();
        self.log = Log::default();
        self.waiting = None;
        (self.cursor_rank, self.cursor_pid, self.scrolled) = (None, None, 0);
    }

    fn see(&mut self, reply: Box<SnapshotReply>, now_s: f64, now_unix_s: f64) {
        // A daemon from before this field says 0.
        let at_unix_s = if reply.at_unix_s > 0.0 {
            reply.at_unix_s
        } else {
            now_unix_s
        };
        self.trouble.clear();
        let shown = Shown {
            reply: *reply,
            came_s: now_s,
            at_unix_s,
        };
        // A name, or LAST, may mean another run by now.
        let other = self.shown_id().is_some_and(|id| id != shown.id());
        if !other {
            let chosen = self.chosen_rank_of(&shown.reply);
            self.past.see(&shown.reply, chosen, at_unix_s);
        }
        if self.paused_s.is_some() && self.shown.is_some() {
            self.waiting = Some(shown);
        } else {
            self.show(shown);
        }
    }

    fn show(&mut self, shown: Shown) {
        let before = self.shown_id().filter(|id| *id != shown.id());
        if let Some(before) = before {
            if !before.is_empty() {
                let (new, old) = (super::text::clean(shown.id()), super::text::clean(before));
                self.hint = format!("now {new}, which began after {old}");
            }
            self.forget();
            let chosen = self.chosen_rank_of(&shown.reply);
            self.past.see(&shown.reply, chosen, shown.at_unix_s);
        }
        self.log.seed(&shown.reply, shown.at_unix_s);
        self.shown = Some(shown);
    }

    /// Empty: the daemon has no run yet. None: nothing is shown.
    pub(super) fn shown_id(&self) -> Option<&str> {
        self.shown.as_ref().map(Shown::id)
    }

    /// The run that is shown.
    pub(super) fn shown_run(&self) -> Option<&RunSummary> {
        self.shown.as_ref()?.reply.run.as_ref()
    }

    /// When the run that is shown started, by the daemon's clock; one from before that field says 0.
    pub(super) fn started_unix_s(&self) -> Option<f64> {
        let shown = self.shown_run().into_iter();
        let id = self.shown_id().unwrap_or(&self.run);
        let listed = self.runs.iter().filter(|run| run.id == id);
        let mut started = shown.chain(listed).map(|run| run.started_unix_s);
        started.find(|at| *at > 0.0)
    }

    /// Whose memory and processes are shown: the rank that was chosen, else the lowest.
    pub(super) fn rank(&self) -> Option<&Rank> {
        let reply = &self.shown.as_ref()?.reply;
        let number = self.chosen_rank_of(reply)?;
        reply.ranks.iter().find(|rank| rank.rank == number)
    }

    fn chosen_rank_of(&self, reply: &SnapshotReply) -> Option<u32> {
        let numbers = || reply.ranks.iter().map(|rank| rank.rank);
        let chosen = self
            .cursor_rank
            .filter(|chosen| numbers().any(|rank| rank == *chosen));
        chosen.or_else(|| numbers().min())
    }

    /// Since the snapshot that is shown was made.
    pub(super) fn waited_s(&self, now_s: f64) -> f64 {
        let came = self.shown.as_ref().map_or(now_s, |shown| shown.came_s);
        (self.paused_s.unwrap_or(now_s) - came).max(0.0)
    }

    /// The daemon's clock now, as far as it is known; while held, that of then.
    pub(super) fn unix_s(&self, now_s: f64) -> f64 {
        let at = self.shown.as_ref().map_or(0.0, |shown| shown.at_unix_s);
        at + self.waited_s(now_s)
    }

    /// No snapshot for three intervals.
    pub(super) fn is_stale(&self, now_s: f64) -> bool {
        self.paused_s.is_none()
            && self.shown.is_some()
            && self.waited_s(now_s) > 3.0 * self.interval_s.max(1.0)
    }

    pub(super) fn span_s(&self) -> f64 {
        SPANS_S[self.span]
    }

    pub(super) fn order(&self, pane: Pane) -> &'static str {
        pane.orders()[self.orders[pane.index()]]
    }

    pub(super) fn filter(&self, pane: Pane) -> &str {
        &self.filters[pane.index()]
    }
}
