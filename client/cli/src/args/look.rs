//! `hookbus runs`, `show`, `memory` and `watch`: the verbs that look. None of them has an argument that could change a run.

use clap::Args;

use super::range::range;
use super::since::since;
use super::{JsonArgs, StateArgs};

const RUNS_EXAMPLES: &str = "\
Examples:
  hookbus runs                        what is training, and what was recorded
  hookbus runs --state /mnt/node7/hookbus

Where no daemon runs, one that only reads is started for this question.";

const SHOW_EXAMPLES: &str = "\
Examples:
  hookbus show                        the only run there is
  hookbus show digits                 by its name
  hookbus show digits@4711 --json     by its id, for a script
  hookbus show LAST                   the newest, running or not

Epochs and iterations are counted from 0.";

const MEMORY_EXAMPLES: &str = "\
Examples:
  hookbus memory                      once, with the age of every number
  hookbus memory digits --watch       each second, until Ctrl-C (the training does not notice)
  hookbus memory --watch 0.5 --count 20 --json > memory.jsonl
  hookbus memory LAST --history       as it was, a line for each time, and the peaks
  hookbus memory digits --history --since 2h
  hookbus memory digits --history --epochs 3..4 --resolution 10

A number that could not be taken reads `unknown: why`, never 0. The history is in MiB; a line of several readings has their \
mean, the peaks are the highest reading. Where many ranks or GPUs do not fit \
the terminal, it has their sum and the largest.";

const WATCH_EXAMPLES: &str = "\
Examples:
  hookbus watch                       the only run there is, until it ends or Ctrl-C
  hookbus watch digits --no-events    decisions, state, commands, results and incidents only
  hookbus watch digits --since 10m    first what happened in the last ten minutes
  hookbus watch LAST --since start    all of it; of a run that is over that is the end
  hookbus watch digits --json | jq .  one JSON value a line

A reader that is too slow is told how much it missed.";

#[derive(Debug, Args)]
#[command(after_help = RUNS_EXAMPLES)]
pub(crate) struct RunsArgs {
    /// Not only the newest 20 and those that are running (--json always has all)
    #[arg(long)]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) output: JsonArgs,

    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArgs {
    /// A run's name or id, or LAST for the newest; without it the only run
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) run: String,

    #[command(flatten)]
    pub(crate) output: JsonArgs,

    #[command(flatten)]
    pub(crate) state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = MEMORY_EXAMPLES)]
pub(crate) struct MemoryArgs {
    /// A run's name or id, or LAST for the newest; without it the only run, or the host alone
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) run: String,

    /// Again each SECONDS (at least 0.1; without a number 1); with --json one line each
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = interval)]
    pub(crate) watch: Option<f64>,

    /// End after N readings (implies --watch)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Memory over time, a line a second or for each longer stretch; with --json one JSON value each. Of a run that was only
    /// recorded a line for each time that it was sampled
    #[arg(long, conflicts_with_all = ["watch", "count"])]
    pub(crate) history: bool,

    /// Only what was recorded since then: 30s, 10m, 2h, 1d ago, or start
    #[arg(long, value_name = "TIME", value_parser = since, requires = "history")]
    pub(crate) since: Option<f64>,

    /// With --history: only where the training was in these iterations, A..B, both in it
    #[arg(long, value_name = "A..B", value_parser = range, requires = "history", conflicts_with_all = ["since", "epochs"])]
    pub(crate) iters: Option<(Option<u64>, Option<u64>)>,

    /// With --history: only where the training was in these epochs, A..B, both in it
    #[arg(long, value_name = "A..B", value_parser = range, requires = "history", conflicts_with = "since")]
    pub(crate) epochs: Option<(Option<u64>, Option<u64>)>,

    /// With --history: no line stands for less than SECONDS
    #[arg(long, value_name = "SECONDS", value_parser = interval, requires = "history")]
    pub(crate) resolution: Option<f64>,

    /// With --history: read it from this state directory, whatever daemon runs
    #[arg(long, value_name = "DIR", requires = "history")]
    pub(crate) state: Option<std::path::PathBuf>,

    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub(crate) struct WatchArgs {
    /// A run's name or id, or LAST for the newest; without it the only run
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) run: String,

    /// Without the trainers' own events
    #[arg(long)]
    pub(crate) no_events: bool,

    /// First what happened since then, as it was recorded: 30s, 10m, 2h, 1d ago, or start
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<f64>,

    /// End after N lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    #[command(flatten)]
    pub(crate) output: JsonArgs,

    #[command(flatten)]
    pub(crate) state: StateArgs,
}

pub(super) fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        Ok(_) => Err("must be from 0.1 s to a day".to_owned()),
        Err(_) => Err("is no number of seconds; a run's name comes before --watch".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::args::{Verb, parse};

    #[test]
    fn watch_takes_a_number_or_none() {
        let table: [(&[&str], Option<f64>, &str); 4] = [
            (&["memory"], None, ""),
            (&["memory", "digits", "--watch"], Some(1.0), "digits"),
            (&["memory", "--watch", "0.5", "digits"], Some(0.5), "digits"),
            (&["memory", "--watch", "--count", "3"], Some(1.0), ""),
        ];
        for (line, watch, run) in table {
            let Verb::Memory(args) = parse(line).unwrap().verb else {
                panic!("memory")
            };
            assert_eq!((args.watch, args.run.as_str()), (watch, run), "{line:?}");
        }
        assert!(
            parse(&["memory", "--watch", "digits"])
                .unwrap_err()
                .contains("comes before --watch")
        );
        assert!(
            parse(&["memory", "--watch", "0"])
                .unwrap_err()
                .contains("from 0.1 s")
        );
        assert!(parse(&["memory", "--count", "0"]).is_err());
        for line in [
            &["memory", "--since", "1h"][..],
            &["memory", "--state", "/a"],
            &["memory", "--iters", "1..2"],
            &["memory", "--history", "--iters", "1..2", "--epochs", "1"],
            &["memory", "--history", "--epochs", "1", "--since", "1h"],
            &["memory", "--history", "--watch"],
            &["memory", "--history", "--count", "2"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
