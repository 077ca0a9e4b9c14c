//! `hookbus send RUN stop`: gives the order and prints each rank's answer as it comes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use hookbus_client::inspect::StopOrder;
use hookbus_client::inspect::proto::{OrderUpdate, Outcome};

use crate::args::{OrderArgs, SendArgs};
use crate::failure::{FAILED, Failure};
use crate::{json, reach, show, terminal};

/// Sends the order; 0 only if every addressed rank applied it.
pub(crate) async fn send(address: &reach::Target, args: SendArgs) -> Result<u8, Failure> {
    let OrderArgs::Stop(stop) = args.order;
    let mut inspector = reach::reach(address).await?;
    let order = StopOrder {
        run: args.run,
        reason: stop.reason,
        by: operator(),
        now: stop.now,
        timeout: Duration::from_secs_f64(stop.timeout),
    };
    let mut updates = inspector.stop(order).await?;
    let mut tally = Tally::default();
    while let Some(update) = updates.next().await? {
        tally.take(&update);
        if stop.output.json {
            terminal::answer_json(&json!({
                "id": update.id, "waiting": update.waiting,
                "rank": update.result.is_some().then_some(update.rank), "result": json::result(update.result.as_ref()),
            }))?;
        } else {
            terminal::answer(&line(&update))?;
        }
    }
    match tally.verdict() {
        Ok(()) => Ok(0),
        Err(why) => Err(Failure {
            code: FAILED,
            text: why,
        }),
    }
}

fn line(update: &OrderUpdate) -> String {
    match &update.result {
        Some(result) => format!("rank {}: {}\n", update.rank, show::outcome(Some(result))),
        None => format!("order {} sent to {}\n", update.id, ranks(&update.waiting)),
    }
}

fn ranks(ranks: &[u32]) -> String {
    let numbers: Vec<_> = ranks.iter().take(16).map(u32::to_string).collect();
    let more = if ranks.len() > 16 { ", ..." } else { "" };
    let word = if ranks.len() == 1 { "rank" } else { "ranks" };
    if ranks.is_empty() {
        "no rank".to_owned()
    } else {
        format!("{word} {}{more}", numbers.join(", "))
    }
}

/// Who was asked, and who did it.
#[derive(Debug, Default)]
struct Tally {
    addressed: BTreeSet<u32>,
    applied: BTreeSet<u32>,
}

impl Tally {
    fn take(&mut self, update: &OrderUpdate) {
        self.addressed.extend(&update.waiting);
        if let Some(result) = &update.result {
            self.addressed.insert(update.rank);
            if result.outcome() == Outcome::Applied {
                self.applied.insert(update.rank);
            }
        }
    }

    fn verdict(&self) -> Result<(), String> {
        let missing: Vec<u32> = self.addressed.difference(&self.applied).copied().collect();
        if self.addressed.is_empty() {
            Err("nobody was asked: no rank of this run is connected".to_owned())
        } else if missing.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "not applied by {}; look at it: hookbus show",
                ranks(&missing)
            ))
        }
    }
}

/// Who gives the order, for the audit; the daemon adds the uid that it sees itself.
fn operator() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    named
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use hookbus_client::inspect::proto::{Position, Result as RankOutcome};

    use super::*;

    fn said(rank: u32, outcome: Outcome) -> OrderUpdate {
        let at = Some(Position {
            epoch: 0,
            iter: 7,
            inner_iter: 7,
        });
        let result = RankOutcome {
            outcome: outcome.into(),
            at,
            ..Default::default()
        };
        OrderUpdate {
            rank,
            result: Some(result),
            ..Default::default()
        }
    }

    #[test]
    fn only_every_rank_is_success() {
        let asked = OrderUpdate {
            waiting: vec![0, 1],
            ..Default::default()
        };
        let table: [(&[OrderUpdate], Option<&str>); 5] = [
            (&[], Some("nobody was asked")),
            (
                std::slice::from_ref(&asked),
                Some("not applied by ranks 0, 1"),
            ),
            (
                &[asked.clone(), said(0, Outcome::Applied)],
                Some("not applied by rank 1;"),
            ),
            (
                &[
                    asked.clone(),
                    said(0, Outcome::Applied),
                    said(1, Outcome::Expired),
                ],
                Some("not applied by rank 1;"),
            ),
            (
                &[
                    asked.clone(),
                    said(1, Outcome::Applied),
                    said(0, Outcome::Applied),
                ],
                None,
            ),
        ];
        for (updates, wanted) in table {
            let mut tally = Tally::default();
            updates.iter().for_each(|update| tally.take(update));
            match (tally.verdict(), wanted) {
                (Ok(()), None) => {}
                (Err(text), Some(words)) => assert!(text.contains(words), "{text}"),
                (verdict, wanted) => panic!("{verdict:?} is not {wanted:?}"),
            }
        }
    }

    #[test]
    fn each_answer_is_a_line() {
        assert_eq!(
            line(&said(3, Outcome::Applied)),
            "rank 3: applied at epoch 0 iter 7\n"
        );
        let asked = OrderUpdate {
            id: "o1".into(),
            waiting: vec![0],
            ..Default::default()
        };
        assert_eq!(line(&asked), "order o1 sent to rank 0\n");
    }
}
