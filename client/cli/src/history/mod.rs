//! `hookbus memory RUN --history`: the memory of a run over time. Of one that a daemon knows: what that has in memory and in the
//! journal, a line a second or for each longer stretch. Of one that was only recorded: a line for each time that it was sampled.
//!
//! | file | idea |
//! |---|---|
//! | `samples` | the journal's rows, gathered by the time that they were taken at |
//! | `slots` | what the daemon answers, gathered by the stretch of time |
//! | `line` | one such time, as small as it is shown |
//! | `peaks` | the highest of each, and why what is unknown is so |
//! | `page` | the lines as text, as wide as there is room |

mod line;
mod page;
mod peaks;
mod samples;
mod slots;

use serde_json::{Value, json};

use crate::args::{MemoryArgs, StateArgs};
use crate::failure::Failure;
use crate::{json, reach, recorded, terminal};
use line::Line;
use peaks::Peaks;
use samples::{Gatherer, Moment};

/// The table of the journal that has them.
const TABLE: &str = "samples";

/// Prints what was recorded.
pub(crate) async fn history(address: &reach::Target, args: MemoryArgs) -> Result<u8, Failure> {
    let state = StateArgs {
        state: args.state.clone(),
    };
    recorded::ask(address, &state, async |mut inspector| {
        let seen = inspector.snapshot(&args.run).await?;
        let archived = seen.run.as_ref().is_some_and(|run| run.archived);
        let in_part = args.iters.is_some() || args.epochs.is_some() || args.resolution.is_some();
        let (mut lines, mut peaks) = (Vec::new(), Peaks::default());
        let mut take = |moment: Moment| {
            if args.output.json {
                return terminal::answer_json(&as_json(&moment));
            }
            // Text lines up, so it is printed when the widest is known; what is kept of a moment is small.
            let line = Line::of(&moment);
            peaks.add(&moment, &line);
            lines.push(line);
            Ok(())
        };
        if archived && !in_part {
            let mut gatherer = Gatherer::default();
            let mut replies = inspector.rows(&args.run, TABLE, args.since).await?;
            while let Some(reply) = replies.next().await? {
                for moment in gatherer.take(reply)? {
                    take(moment)?;
                }
            }
            gatherer.last().into_iter().try_for_each(&mut take)?;
        } else {
            let reply = inspector.history(slots::request(&args)).await?;
            if !reply.older_unknown.is_empty() {
                terminal::note(&format!("older memory is unknown: {}", reply.older_unknown));
            }
            let mut moments = slots::moments(reply, &seen.attempts).into_iter();
            moments.try_for_each(&mut take)?;
        }
        if !args.output.json {
            terminal::answer(&page::text(&lines, &peaks, terminal::width()))?;
        }
        Ok(0)
    })
    .await
}

fn as_json(moment: &Moment) -> Value {
    let readings: Vec<_> = moment
        .readings
        .iter()
        .map(|reading| {
            let mut written = json!({
                "name": reading.name, "rank": reading.rank, "device": reading.device,
                "value": reading.value.map(json::number), "unknown": reading.unknown, "source": reading.source,
            });
            if let Some(spread) = reading.spread {
                written["min"] = json::number(spread.min);
                written["max"] = json::number(spread.max);
                written["readings"] = spread.readings.into();
            }
            written
        })
        .collect();
    json!({
        "time_unix_s": json::number(moment.time_unix_s), "attempt": moment.attempt, "epoch": moment.epoch,
        "iter": moment.iter, "readings": readings,
    })
}
