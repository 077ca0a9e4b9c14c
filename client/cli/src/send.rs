//! `hookbus send RUN ORDER`: gives the order, waits for every rank's answer, and prints them as a table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use hookbus_client::inspect::proto::{
    Custom, Effective, EffectiveWhen, LogLevel, LogLine, LrOrder, ModeOrder, Order, OrderUpdate,
    Outcome, Result as RankOutcome, SaveCheckpoint, SizeOrder, StopOrder, lr_order, order,
};

use crate::args::{LevelArg, OrderArgs, SendArgs, WhenArgs};
use crate::failure::{FAILED, Failure};
use crate::table::Table;
use crate::{format, json, reach, terminal};

/// Sends the order; 0 only if every addressed rank applied it.
pub(crate) async fn send(address: &reach::Target, args: SendArgs) -> Result<u8, Failure> {
    let (order, as_json) = order(args);
    let mut inspector = reach::reach(address).await?;
    let mut updates = inspector.send(order).await?;
    let mut tally = Tally::default();
    while let Some(update) = updates.next().await? {
        if as_json {
            terminal::answer_json(&json!({
                "id": update.id, "waiting": update.waiting,
                "rank": update.result.is_some().then_some(update.rank), "result": json::result(update.result.as_ref()),
            }))?;
        } else if update.result.is_none() {
            // Said first: the ranks may take their time.
            let asked = ranks(&update.waiting);
            terminal::answer(&format!("order {} sent to {asked}\n", update.id))?;
        }
        tally.take(update);
    }
    if !as_json {
        terminal::answer(&tally.table())?;
    }
    match tally.verdict() {
        Ok(()) => Ok(0),
        Err(why) => Err(Failure {
            code: FAILED,
            text: why,
        }),
    }
}

/// The order as it goes over the wire, and whether to answer in JSON.
fn order(args: SendArgs) -> (Order, bool) {
    let (what, when, asked, now) = match args.order {
        OrderArgs::Stop(stop) => {
            let what = order::What::Stop(StopOrder {
                reason: stop.reason,
            });
            (what, stop.when, Vec::new(), stop.now)
        }
        OrderArgs::Lr(lr) => {
            let how = match (lr.how.value, lr.how.scale) {
                (Some(value), _) => lr_order::How::Value(value),
                (None, Some(scale)) => lr_order::How::Scale(scale),
                (None, None) => lr_order::How::Release(true),
            };
            let what = order::What::Lr(LrOrder {
                group: lr.group,
                how: Some(how),
            });
            (what, lr.when, Vec::new(), false)
        }
        OrderArgs::Size(size) => {
            let what = order::What::Size(SizeOrder {
                height: size.height,
                width: size.width,
            });
            (what, size.when, Vec::new(), false)
        }
        OrderArgs::Mode(mode) => {
            let what = order::What::Mode(ModeOrder {
                skip_types: mode.skip_types,
            });
            (what, mode.when, Vec::new(), false)
        }
        OrderArgs::Checkpoint(save) => {
            let what = order::What::Checkpoint(SaveCheckpoint { tag: save.tag });
            (what, save.when, save.ranks.ranks, false)
        }
        OrderArgs::Log(line) => {
            let level = match line.level {
                LevelArg::Debug => LogLevel::Debug,
                LevelArg::Info => LogLevel::Info,
                LevelArg::Warning => LogLevel::Warning,
                LevelArg::Error => LogLevel::Error,
            };
            let what = order::What::Log(LogLine {
                level: level.into(),
                text: line.text,
            });
            (what, line.when, line.ranks.ranks, false)
        }
        OrderArgs::Custom(custom) => {
            let what = order::What::Custom(Custom {
                name: custom.name,
                json: custom.payload,
            });
            (what, custom.when, custom.ranks.ranks, false)
        }
    };
    let as_json = when.output.json;
    let order = Order {
        run: args.run,
        id: String::new(),
        by: operator(),
        timeout_s: when.timeout,
        effective: Some(effective(&when, now)),
        ranks: asked,
        what: Some(what),
    };
    (order, as_json)
}

fn effective(when: &WhenArgs, now: bool) -> Effective {
    let (word, iter, epoch) = match (when.at_iter, when.at_epoch) {
        (Some(iter), _) => (EffectiveWhen::Iter, iter, 0),
        (None, Some(epoch)) => (EffectiveWhen::Epoch, 0, epoch),
        (None, None) if now => (EffectiveWhen::Now, 0, 0),
        (None, None) => (EffectiveWhen::Next, 0, 0),
    };
    Effective {
        when: word.into(),
        iter,
        epoch,
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

/// Who was asked, and what each did.
#[derive(Debug, Default)]
struct Tally {
    addressed: BTreeSet<u32>,
    results: BTreeMap<u32, RankOutcome>,
}

impl Tally {
    fn take(&mut self, update: OrderUpdate) {
        self.addressed.extend(update.waiting);
        if let Some(result) = update.result {
            self.addressed.insert(update.rank);
            self.results.insert(update.rank, result);
        }
    }

    fn table(&self) -> String {
        if self.results.is_empty() {
            return String::new();
        }
        let mut table = Table::new(0);
        table.row(["RANK", "RESULT", "WHERE", "OLD", "NEW", "WHY"]);
        for (rank, result) in &self.results {
            let place = match (&result.at, result.point.as_str()) {
                (Some(at), point) if !point.is_empty() => {
                    format!("{}, {point}", format::position(Some(at)))
                }
                _ => "-".to_owned(),
            };
            table.row([
                &rank.to_string(),
                json::outcome(result.outcome()),
                &place,
                result.old.as_deref().unwrap_or("-"),
                result.new.as_deref().unwrap_or("-"),
                &result.reason,
            ]);
        }
        table.render()
    }

    fn verdict(&self) -> Result<(), String> {
        let applied = |rank: &&u32| {
            self.results
                .get(rank)
                .is_some_and(|result| result.outcome() == Outcome::Applied)
        };
        let missing: Vec<u32> = self
            .addressed
            .iter()
            .filter(|rank| !applied(rank))
            .copied()
            .collect();
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
pub(crate) fn operator() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use hookbus_client::inspect::proto::Position;

    use super::*;
    use crate::args::{Cli, Verb};

    fn said(rank: u32, outcome: Outcome) -> OrderUpdate {
        let at = Some(Position {
            epoch: 0,
            iter: 7,
            inner_iter: 7,
        });
        let result = RankOutcome {
            outcome: outcome.into(),
            at,
            point: "before_train_iter".into(),
            old: Some("0.1".into()),
            new: Some("0.05".into()),
            ..Default::default()
        };
        OrderUpdate {
            rank,
            result: Some(result),
            ..Default::default()
        }
    }

    fn asked(waiting: Vec<u32>) -> OrderUpdate {
        OrderUpdate {
            id: "o1".into(),
            waiting,
            ..Default::default()
        }
    }

    #[test]
    fn only_every_rank_is_success() {
        let all = asked(vec![0, 1]);
        let table: [(&[OrderUpdate], Option<&str>); 5] = [
            (&[], Some("nobody was asked")),
            (
                std::slice::from_ref(&all),
                Some("not applied by ranks 0, 1"),
            ),
            (
                &[all.clone(), said(0, Outcome::Applied)],
                Some("not applied by rank 1;"),
            ),
            (
                &[
                    all.clone(),
                    said(0, Outcome::Applied),
                    said(1, Outcome::Expired),
                ],
                Some("not applied by rank 1;"),
            ),
            (
                &[
                    all.clone(),
                    said(1, Outcome::Applied),
                    said(0, Outcome::Applied),
                ],
                None,
            ),
        ];
        for (updates, wanted) in table {
            let mut tally = Tally::default();
            updates.iter().for_each(|update| tally.take(update.clone()));
            match (tally.verdict(), wanted) {
                (Ok(()), None) => {}
                (Err(text), Some(words)) => assert!(text.contains(words), "{text}"),
                (verdict, wanted) => panic!("{verdict:?} is not {wanted:?}"),
            }
        }
    }

    #[test]
    fn the_answers_are_a_table() {
        let mut tally = Tally::default();
        assert_eq!(tally.table(), "");
        tally.take(said(3, Outcome::Applied));
        assert_eq!(
            tally.table(),
            "RANK  RESULT   WHERE                              OLD  NEW   WHY\n\
             3     applied  epoch 0 iter 7, before_train_iter  0.1  0.05\n"
        );
    }

    #[test]
    fn the_command_line_becomes_the_order() {
        let order = |line: &str| {
            let words = format!("hookbus send digits {line}");
            match Cli::try_parse_from(words.split(' ')).expect(line).verb {
                Verb::Send(args) => super::order(args).0,
                _ => panic!("send"),
            }
        };
        let when = |order: &Order| order.effective.expect("always said").when();
        let lr = order("lr --scale 0.5 --group 2 --at-epoch 3");
        assert_eq!(lr.effective.map(|effective| effective.epoch), Some(3));
        let how = Some(lr_order::How::Scale(0.5));
        let wanted = LrOrder {
            group: Some(2),
            how,
        };
        assert_eq!(lr.what, Some(order::What::Lr(wanted)));
        let release = order("lr --release");
        let how = Some(lr_order::How::Release(true));
        let wanted = LrOrder { group: None, how };
        assert_eq!(release.what, Some(order::What::Lr(wanted)));
        assert_eq!(when(&release), EffectiveWhen::Next);
        assert_eq!(when(&order("stop --now")), EffectiveWhen::Now);
        assert_eq!(order("checkpoint --ranks 0,2").ranks, [0, 2]);
        assert_eq!(when(&order("size 32 64 --at-iter 9")), EffectiveWhen::Iter);
    }
}
