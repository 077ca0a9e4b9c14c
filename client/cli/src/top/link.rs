//! The way to the daemon: asks for what is looked at, and tells the loop what comes. It never ends: where the daemon goes
//! away, or says nothing for too long, it connects again. The channel to the loop is bounded; a loop that does not read makes
//! the daemon send less, and count what was missed.

use std::convert::Infallible;
use std::time::Duration;

use hookbus_client::inspect::proto::{
    HistoryRequest, Order, SnapshotReply, TimeRange, history_request,
};
use hookbus_client::inspect::{InspectError, Inspector};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::model::{News, Whose};
use crate::reach::{self, Target};

/// Between two attempts to connect; doubled up to the second one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A run that is not there may come.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// A daemon that sends nothing for so long, and three intervals, is not there any more.
const SILENCE: Duration = Duration::from_secs(10);
/// How far back what happened is asked for.
const SINCE_S: f64 = 3600.0;
/// No terminal has more columns.
const MOST_POINTS: u32 = 500;

/// What is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// A name may mean another run later.
    pub(super) run: String,
    /// Of the run that is shown; empty: the daemon has none. None: nothing is shown yet.
    pub(super) id: Option<String>,
    /// A run that begins again tells what happens anew.
    pub(super) attempt: u32,
    /// Whose memory over time.
    pub(super) rank: Option<u32>,
    pub(super) span_s: f64,
    pub(super) interval: Duration,
}

/// Why a question ended.
enum Ended {
    /// The connection is of no use any more.
    Gone(String),
    /// The loop has ended, and with it everything.
    Over,
}

type Tell = mpsc::Sender<News>;

/// Connects and asks, again and again, until the loop ends. What can be wrong with the command line was looked at before.
pub(super) async fn keep(
    target: &Target,
    asked: watch::Receiver<Asked>,
    orders: mpsc::Receiver<Order>,
    tell: Tell,
) {
    let mut orders = orders;
    let mut pause = FIRST_PAUSE;
    loop {
        let why = match connect(target).await {
            Ok(inspector) => {
                pause = FIRST_PAUSE;
                if tell.send(News::Connected).await.is_err() {
                    return;
                }
                match serve(&inspector, &asked, &mut orders, &tell).await {
                    Ended::Gone(why) => why,
                    Ended::Over => return,
                }
            }
            Err(why) => why,
        };
        if tell.send(News::Lost(why)).await.is_err() {
            return;
        }
        // An order that is given now goes nowhere, and its person must hear so.
        let refuse = async {
            while orders.recv().await.is_some() {
                let why = "it was not sent: there is no connection to the daemon".to_owned();
                let _ = tell.send(News::OrderEnded(Err(why))).await;
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = refuse => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect(target: &Target) -> Result<Inspector, String> {
    let address = target.resolve().map_err(|error| error.to_string())?;
    let address = address.ok_or_else(reach::nowhere)?;
    match target.connect(&address).await {
        Ok(Ok(inspector)) => Ok(inspector),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// All questions of one connection, until it is of no use.
async fn serve(
    inspector: &Inspector,
    asked: &watch::Receiver<Asked>,
    orders: &mut mpsc::Receiver<Order>,
    tell: &Tell,
) -> Ended {
    let ended = tokio::select! {
        ended = runs(inspector.clone(), asked.clone(), tell) => ended,
        ended = look(inspector, asked.clone(), tell) => ended,
        ended = events(inspector, asked.clone(), tell) => ended,
        ended = remember(inspector.clone(), asked.clone(), tell) => ended,
        ended = send(inspector.clone(), orders, tell) => ended,
    };
    match ended {
        Err(ended) => ended,
        Ok(never) => match never {},
    }
}

async fn say(tell: &Tell, news: News) -> Result<(), Ended> {
    tell.send(news).await.map_err(|_| Ended::Over)
}

fn gone(error: InspectError) -> Result<String, Ended> {
    match error {
        InspectError::Connect(_) | InspectError::Gone { .. } => Err(Ended::Gone(error.to_string())),
        InspectError::NotFound(why) | InspectError::Refused(why) => Ok(why),
    }
}

/// The list of runs, at the pace of the watch but at most each second.
async fn runs(
    mut inspector: Inspector,
    asked: watch::Receiver<Asked>,
    tell: &Tell,
) -> Result<Infallible, Ended> {
    loop {
        match inspector.live_runs().await {
            Ok(runs) => say(tell, News::Runs(runs)).await?,
            Err(error) => {
                gone(error)?;
            }
        }
        let interval = asked.borrow().interval;
        sleep(interval.max(Duration::from_secs(1))).await;
    }
}

async fn say_of(tell: &Tell, asked: &Asked, news: News) -> Result<(), Ended> {
    let whose = Whose {
        run: asked.run.clone(),
        id: None,
    };
    say(tell, News::Of(whose, Box::new(news))).await
}

/// Of the very run that was shown when it was asked for.
async fn say_of_shown(tell: &Tell, asked: &Asked, news: News) -> Result<(), Ended> {
    let whose = Whose {
        run: asked.run.clone(),
        id: asked.id.clone(),
    };
    say(tell, News::Of(whose, Box::new(news))).await
}

/// One run's snapshots; another one's as soon as that is asked for.
async fn look(
    inspector: &Inspector,
    mut asked: watch::Receiver<Asked>,
    tell: &Tell,
) -> Result<Infallible, Ended> {
    loop {
        let now = asked.borrow_and_update().clone();
        let other = async {
            let is_other = |next: &Asked| next.run != now.run;
            asked
                .wait_for(is_other)
                .await
                .map(drop)
                .map_err(|_| Ended::Over)
        };
        tokio::select! {
            turned = other => turned?,
            refused = snapshots(inspector.clone(), &now, tell) => {
                say_of(tell, &now, News::Trouble(refused?)).await?;
                // A run that is not there may come; another one may be asked for at once.
                let is_other = |next: &Asked| next.run != now.run;
                tokio::select! {
                    () = sleep(ASK_AGAIN) => {}
                    turned = asked.wait_for(is_other) => { turned.map_err(|_| Ended::Over)?; }
                }
            }
        }
    }
}

/// Why the daemon does not show this run.
async fn snapshots(mut inspector: Inspector, asked: &Asked, tell: &Tell) -> Result<String, Ended> {
    let silence = SILENCE + 3 * asked.interval;
    let mut replies = match inspector.watch(&asked.run, asked.interval).await {
        Ok(replies) => replies,
        Err(error) => return gone(error),
    };
    loop {
        let reply = match timeout(silence, replies.next()).await {
            Ok(Ok(Some(reply))) => reply,
            Ok(Ok(None)) => return Err(Ended::Gone("the daemon ended the watch".to_owned())),
            Ok(Err(error)) => return gone(error),
            Err(_) => {
                let why = format!("the daemon said nothing for {} s", silence.as_secs());
                return Err(Ended::Gone(why));
            }
        };
        say_of(tell, asked, News::Snapshot(Box::new(reply))).await?;
    }
}

/// What happens in the run that is shown; in another one as soon as that is shown.
async fn events(
    inspector: &Inspector,
    mut asked: watch::Receiver<Asked>,
    tell: &Tell,
) -> Result<Infallible, Ended> {
    loop {
        let now = asked.borrow_and_update().clone();
        let of = |asked: &Asked| (asked.run.clone(), asked.id.clone(), asked.attempt);
        let is_other = |next: &Asked| of(next) != of(&now);
        tokio::select! {
            turned = asked.wait_for(is_other) => { turned.map_err(|_| Ended::Over)?; }
            ended = follow(inspector.clone(), &now, tell) => match ended? {},
        }
    }
}

/// First what happened before, where there is a journal. A run that is over has no more; the snapshots go on.
async fn follow(mut inspector: Inspector, asked: &Asked, tell: &Tell) -> Result<Infallible, Ended> {
    let Some(run) = asked.id.as_deref().filter(|id| !id.is_empty()) else {
        return std::future::pending().await;
    };
    let mut since_s = Some(SINCE_S);
    let mut told = false;
    loop {
        let error = match inspector.follow(run, false, since_s).await {
            Ok(mut happenings) => {
                // What comes from now on goes on with what came.
                if since_s.is_some() || !told {
                    say_of_shown(tell, asked, News::Following).await?;
                }
                told = true;
                loop {
                    match happenings.next().await {
                        Ok(Some(happened)) => {
                            let happened = News::Happened(Box::new(happened));
                            say_of_shown(tell, asked, happened).await?;
                        }
                        Ok(None) => return std::future::pending().await,
                        // Where the daemon is gone the snapshots say so.
                        Err(error) => break error,
                    }
                }
            }
            Err(error @ (InspectError::Connect(_) | InspectError::Gone { .. })) => {
                return Err(Ended::Gone(error.to_string()));
            }
            Err(error) => error,
        };
        if without_journal(&error, since_s) {
            since_s = None;
        } else {
            // A run that is not there may come.
            sleep(ASK_AGAIN).await;
        }
    }
}

/// A daemon without a journal refuses what happened before, and tells what happens from now on.
fn without_journal(error: &InspectError, since_s: Option<f64>) -> bool {
    since_s.is_some() && matches!(error, InspectError::Refused(_))
}

/// What the daemon remembers, once for each run, rank and length of time that is looked at.
async fn remember(
    mut inspector: Inspector,
    mut asked: watch::Receiver<Asked>,
    tell: &Tell,
) -> Result<Infallible, Ended> {
    loop {
        let now = asked.borrow_and_update().clone();
        if now.id.is_none() {
            asked.changed().await.map_err(|_| Ended::Over)?;
            continue;
        }
        // A journal may take longer to read than anybody waits: that is no sign that the daemon is gone.
        let past = inspector.history(history(&now)).await;
        let past = past.map(Box::new).map_err(|error| error.to_string());
        say_of_shown(tell, &now, News::Past(past)).await?;
        asked.changed().await.map_err(|_| Ended::Over)?;
    }
}

/// The last so many seconds of one rank, the host and the GPUs.
pub(super) fn history(asked: &Asked) -> HistoryRequest {
    HistoryRequest {
        run: asked.id.clone().unwrap_or_else(|| asked.run.clone()),
        ranks: asked.rank.into_iter().collect(),
        range: Some(history_request::Range::Time(TimeRange {
            from_s: Some(asked.span_s),
            to_s: None,
        })),
        max_points: MOST_POINTS,
        ..Default::default()
    }
}

/// One order after the other.
async fn send(
    mut inspector: Inspector,
    orders: &mut mpsc::Receiver<Order>,
    tell: &Tell,
) -> Result<Infallible, Ended> {
    loop {
        let Some(order) = orders.recv().await else {
            return Err(Ended::Over);
        };
        let ended = match inspector.send(order).await {
            Err(error) => Err(error.to_string()),
            Ok(mut updates) => loop {
                match updates.next().await {
                    Ok(Some(update)) => say(tell, News::Order(update)).await?,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error.to_string()),
                }
            },
        };
        say(tell, News::OrderEnded(ended)).await?;
    }
}

/// All that one frame needs.
pub(super) async fn once(
    mut inspector: Inspector,
    asked: &mut Asked,
) -> Result<Vec<News>, InspectError> {
    let mut news = vec![News::Connected];
    let runs = inspector.live_runs().await?;
    let mut model = super::model::Model::new(&asked.run, asked.interval.as_secs_f64(), false);
    if model.hear(News::Runs(runs.clone()), 0.0, 0.0) {
        asked.run = model.run;
    }
    news.push(News::Runs(runs));
    let reply: SnapshotReply = inspector.snapshot(&asked.run).await?;
    asked.id = Some(
        reply
            .run
            .as_ref()
            .map_or_else(String::new, |run| run.id.clone()),
    );
    asked.rank = reply.ranks.iter().map(|rank| rank.rank).min();
    news.push(News::Snapshot(Box::new(reply)));
    // An older daemon does not remember; that is said in the frame.
    let past = inspector.history(history(asked)).await;
    news.push(News::Past(
        past.map(Box::new).map_err(|error| error.to_string()),
    ));
    Ok(news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_what_was_before_asks_for_what_comes() {
        let refused = InspectError::Refused("this daemon keeps no journal".to_owned());
        assert!(without_journal(&refused, Some(SINCE_S)));
        assert!(!without_journal(&refused, None), "it is tried again later");
        let not_there = InspectError::NotFound("there is no run".to_owned());
        assert!(!without_journal(&not_there, Some(SINCE_S)));
    }

    #[test]
    fn memory_over_time_is_that_of_the_run_that_is_shown() {
        let mut asked = Asked {
            run: "digits".to_owned(),
            id: None,
            attempt: 0,
            rank: Some(2),
            span_s: 600.0,
            interval: Duration::from_secs(1),
        };
        assert_eq!(history(&asked).run, "digits");
        asked.id = Some("digits@2".to_owned());
        assert_eq!(
            (history(&asked).run.as_str(), history(&asked).ranks),
            ("digits@2", vec![2])
        );
    }
}
