//! A provider of one hook that decides from every event, once. Its connection breaks, its daemon dies, and it answers when it
//! likes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::bus::run::Run;
use crate::domain::{Deed, Every, Hold, HookRequest, StateText, Subscription};
use crate::hooks::{Decision, Policy, Want};
use crate::providers::{
    Answer, Call, OUTBOX, Offered, Provider as Known, ProviderLink, Reply, ToProvider,
};

/// The hook.
pub(super) const WATCH: &str = "watch";

/// The provider's end.
pub(super) struct Provider {
    serial: u64,
    inbox: Option<mpsc::Receiver<ToProvider>>,
    calls: VecDeque<Call>,
    hooks: Arc<Vec<Offered>>,
    /// Where its answers would go.
    replies: (mpsc::Sender<Reply>, mpsc::Receiver<Reply>),
}

impl Provider {
    pub(super) fn new() -> Self {
        let watch = Offered {
            request: HookRequest {
                type_name: "Watch".to_owned(),
                name: WATCH.to_owned(),
                args: BTreeMap::new(),
            },
            priority: 50,
            policy: Policy::Act,
            subscriptions: vec![Subscription::observe(
                "after_train_iter",
                Every::ALWAYS,
                &["loss"],
            )],
            wants_memory: false,
            wants_state: true,
            summary: String::new(),
        };
        Self {
            serial: 0,
            inbox: None,
            calls: VecDeque::new(),
            hooks: Arc::new(vec![watch]),
            replies: mpsc::channel(1),
        }
    }

    /// A daemon's time begins.
    pub(super) fn meet(&self, run: &mut Run) {
        run.hear(self.replies.0.clone());
    }

    /// Its daemon, or its connection, is gone.
    pub(super) fn forget(&mut self) {
        self.inbox = None;
        self.calls.clear();
    }

    pub(super) fn connect(&mut self, run: &mut Run, now: Instant) {
        if self.inbox.is_some() {
            return;
        }
        self.serial += 1;
        let (out, inbox) = mpsc::channel(OUTBOX);
        self.inbox = Some(inbox);
        let serial = self.serial;
        self.look(run, Ok(ProviderLink { serial, out }), now);
    }

    pub(super) fn leave(&mut self, run: &mut Run, now: Instant) {
        self.forget();
        self.look(run, Err("it left".to_owned()), now);
    }

    fn look(&self, run: &mut Run, link: Result<ProviderLink, String>, now: Instant) {
        let known = Known {
            module: "m".to_owned(),
            hooks: Some(Arc::clone(&self.hooks)),
            refused: Default::default(),
            link,
            by_hand: false,
            uid: None,
        };
        run.look_at_providers(&[known], now);
    }

    /// Answers so many calls, in their order.
    pub(super) fn answer(&mut self, run: &mut Run, most: usize, now: Instant) {
        for _ in 0..most {
            while let Some(Ok(message)) = self.inbox.as_mut().map(mpsc::Receiver::try_recv) {
                match message {
                    ToProvider::Open(_) | ToProvider::Close(_) => self.calls.clear(),
                    ToProvider::Facts(..) => {}
                    ToProvider::Call(call) => {
                        let before = self.calls.back().map(|call| call.id);
                        assert!(before < Some(call.id), "calls come in their order");
                        self.calls.push_back(*call);
                    }
                }
            }
            let Some(call) = self.calls.pop_front() else {
                return;
            };
            let hold = Hold::Value(1.0 + call.at.iter as f64);
            let answer = Answer {
                id: call.id,
                decisions: Ok(vec![
                    Decision::Do(Deed::Custom {
                        name: "watched".to_owned(),
                        json: String::new(),
                    }),
                    Decision::Want(Want::Lr { group: None, hold }),
                ]),
                state: Some(StateText::from(&call.id.into())),
            };
            let reply = Reply {
                serial: self.serial,
                at: now,
                answer,
            };
            run.answer(reply, now);
        }
    }
}
