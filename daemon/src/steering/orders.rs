//! Commands to ranks and operators' orders: who has been asked, and what each answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use crate::domain::{Command, Outcome, Position, Rank, TrainerResult};

/// Commands to one rank that are not answered yet; older ones expire beyond this.
const PENDING_COMMANDS: usize = 1024;

/// An operator's order that waits for results.
#[derive(Debug)]
struct Order<R> {
    id: String,
    waiting: BTreeSet<Rank>,
    deadline: Instant,
    reply: R,
}

/// One update on an order, for its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderUpdate {
    /// The order.
    pub id: String,
    /// Ranks that have not answered.
    pub waiting: Vec<Rank>,
    /// What a rank did; None in the first update.
    pub result: Option<(Rank, TrainerResult)>,
}

/// Commands and orders of one attempt. `R` is how an operator is told.
#[derive(Debug)]
pub struct Steering<R> {
    commands: BTreeMap<Rank, VecDeque<Command>>,
    orders: Vec<Order<R>>,
}

impl<R> Default for Steering<R> {
    fn default() -> Self {
        Self {
            commands: BTreeMap::new(),
            orders: Vec::new(),
        }
    }
}

impl<R: Clone> Steering<R> {
    /// A command for one rank; returns the command that no longer fits, if any.
    pub fn command(&mut self, rank: Rank, command: Command) -> Option<Command> {
        let pending = self.commands.entry(rank).or_default();
        pending.push_back(command);
        if pending.len() > PENDING_COMMANDS {
            pending.pop_front()
        } else {
            None
        }
    }

    /// Commands that a rank has not answered: sent again at a reconnect.
    pub fn pending(&self, rank: Rank) -> impl Iterator<Item = &Command> {
        self.commands.get(&rank).into_iter().flatten()
    }

    /// Forgets what a reconnecting rank says that it has taken; returns the ids. Their results may still come.
    pub fn taken(&mut self, rank: Rank, ids: &[String]) -> Vec<String> {
        let Some(pending) = self.commands.get_mut(&rank) else {
            return Vec::new();
        };
        let (taken, left) = std::mem::take(pending)
            .into_iter()
            .partition::<VecDeque<_>, _>(|command| ids.contains(&command.id));
        *pending = left;
        taken.into_iter().map(|command| command.id).collect()
    }

    /// An order waits for these ranks.
    pub fn expect(
        &mut self,
        id: String,
        ranks: BTreeSet<Rank>,
        deadline: Instant,
        reply: R,
    ) -> OrderUpdate {
        let update = OrderUpdate {
            id: id.clone(),
            waiting: ranks.iter().copied().collect(),
            result: None,
        };
        if !ranks.is_empty() {
            self.orders.push(Order {
                id,
                waiting: ranks,
                deadline,
                reply,
            });
        }
        update
    }

    /// A rank's result; returns the updates that it makes, with whom to tell.
    pub fn result(&mut self, rank: Rank, result: &TrainerResult) -> Vec<(R, OrderUpdate)> {
        if let Some(pending) = self.commands.get_mut(&rank) {
            pending.retain(|command| command.id != result.id);
        }
        self.update(rank, result)
    }

    /// What an operator hears of a rank, once.
    fn update(&mut self, rank: Rank, result: &TrainerResult) -> Vec<(R, OrderUpdate)> {
        let mut updates = Vec::new();
        for order in self.orders.iter_mut().filter(|order| order.id == result.id) {
            if order.waiting.remove(&rank) {
                updates.push((order.reply.clone(), order.update(rank, result.clone())));
            }
        }
        self.orders.retain(|order| !order.waiting.is_empty());
        updates
    }

    /// An order that another one takes the place of: whoever has not answered never will.
    pub fn superseded(&mut self, id: &str, why: &str) -> Vec<(R, OrderUpdate)> {
        let waiting: Vec<_> = self
            .orders
            .iter()
            .filter(|order| order.id == id)
            .flat_map(|order| order.waiting.iter().copied())
            .collect();
        waiting
            .into_iter()
            .flat_map(|rank| {
                let rejected = TrainerResult {
                    outcome: Outcome::Rejected,
                    ..expired(id, Position::default(), why)
                };
                self.update(rank, &rejected)
            })
            .collect()
    }

    /// Whether an order still waits for a rank.
    pub fn waits(&self, id: &str) -> bool {
        self.orders.iter().any(|order| order.id == id)
    }

    /// The commands of a rank that ended without an answer, and what that means for the orders.
    pub fn rank_ended(&mut self, rank: Rank, at: Position, why: &str) -> Vec<(R, OrderUpdate)> {
        self.commands.remove(&rank);
        let ids: Vec<_> = self.orders.iter().map(|order| order.id.clone()).collect();
        ids.iter()
            .flat_map(|id| self.update(rank, &expired(id, at, why)))
            .collect()
    }

    /// Orders whose time is over. Their commands stay: a rank that is back finds them.
    pub fn overdue(&mut self, now: Instant) -> Vec<(R, OrderUpdate)> {
        let late: Vec<_> = self
            .orders
            .iter()
            .filter(|order| order.deadline <= now)
            .flat_map(|order| order.waiting.iter().map(|rank| (*rank, order.id.clone())))
            .collect();
        late.iter()
            .flat_map(|(rank, id)| {
                self.update(
                    *rank,
                    &expired(
                        id,
                        Position::default(),
                        "no answer in time; the order stands and is applied when the rank is back",
                    ),
                )
            })
            .collect()
    }

    /// When the next order is overdue.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.orders.iter().map(|order| order.deadline).min()
    }
}

impl<R> Order<R> {
    fn update(&self, rank: Rank, result: TrainerResult) -> OrderUpdate {
        OrderUpdate {
            id: self.id.clone(),
            waiting: self.waiting.iter().copied().collect(),
            result: Some((rank, result)),
        }
    }
}

fn expired(id: &str, at: Position, why: &str) -> TrainerResult {
    TrainerResult {
        id: id.to_owned(),
        outcome: Outcome::Expired,
        at,
        point: String::new(),
        old: None,
        new: None,
        reason: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{Deed, Effective};

    fn result(id: &str) -> TrainerResult {
        TrainerResult {
            outcome: Outcome::Applied,
            ..expired(id, Position::default(), "")
        }
    }

    #[test]
    fn an_order_ends_when_every_rank_has_answered() {
        let now = Instant::now();
        let mut steering = Steering::default();
        let first = steering.expect(
            "o".into(),
            BTreeSet::from([Rank(0), Rank(1), Rank(2)]),
            now + Duration::from_secs(1),
            "op",
        );
        assert_eq!(first.waiting, [Rank(0), Rank(1), Rank(2)]);
        let updates = steering.result(Rank(1), &result("o"));
        assert_eq!(updates[0].1.waiting, [Rank(0), Rank(2)]);
        assert!(
            steering.result(Rank(1), &result("o")).is_empty(),
            "a rank answers once"
        );
        let updates = steering.rank_ended(Rank(0), Position::default(), "its process ended");
        assert_eq!(
            updates[0]
                .1
                .result
                .as_ref()
                .map(|(_, result)| result.outcome),
            Some(Outcome::Expired)
        );
        assert!(steering.overdue(now).is_empty());
        let updates = steering.overdue(now + Duration::from_secs(2));
        assert_eq!(updates.len(), 1);
        assert!(updates[0].1.waiting.is_empty());
        assert_eq!(steering.next_deadline(), None);
    }

    #[test]
    fn a_command_stays_until_it_is_answered() {
        let mut steering = Steering::<()>::default();
        let line = |id: &str| Command {
            id: id.to_owned(),
            by: "hook".to_owned(),
            at: Position::default(),
            effective: Effective::Next,
            deed: Deed::Checkpoint { tag: String::new() },
        };
        for id in ["a", "b", "c"] {
            assert_eq!(steering.command(Rank(0), line(id)), None);
        }
        steering.result(Rank(0), &result("b"));
        assert_eq!(steering.taken(Rank(0), &["c".to_owned()]), ["c"]);
        assert_eq!(
            steering
                .pending(Rank(0))
                .map(|command| command.id.as_str())
                .collect::<Vec<_>>(),
            ["a"]
        );
        let now = Instant::now();
        steering.expect("a".into(), BTreeSet::from([Rank(0)]), now, ());
        assert_eq!(steering.overdue(now).len(), 1);
        assert_eq!(steering.pending(Rank(0)).count(), 1, "it stands");
        for n in 0..PENDING_COMMANDS - 1 {
            assert_eq!(steering.command(Rank(0), line(&n.to_string())), None);
        }
        assert_eq!(
            steering
                .command(Rank(0), line("z"))
                .map(|command| command.id),
            Some("a".to_owned()),
            "the oldest goes"
        );
    }
}
