//! The command line, and the help for someone who reads it at night.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Look at a training and its memory, steer or stop it, or start it with a daemon beside it.
#[derive(Debug, Parser)]
#[command(name = "hookbus", version, arg_required_else_help = true, after_help = TOP_EXAMPLES)]
pub(crate) struct Cli {
    /// The daemon to ask: unix:///path, https://host:port or host:port [default: HOOKBUS_ADDRESS, else the default socket]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,

    /// Over TCP: show the token in this file, which only you may be able to read [default: HOOKBUS_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Over TLS: believe the authorities in this PEM file [default: HOOKBUS_CA_FILE, else the machine's own]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const TOP_EXAMPLES: &str = "\
Examples:
  hookbus run -- python train.py      start a training with a daemon of its own
  hookbus runs                        which trainings does the daemon know?
  hookbus show digits                 how is it going, and what went wrong?
  hookbus memory --watch              host, trainer and GPU memory, each second
  hookbus watch digits                what happens, as it happens
  hookbus send digits lr --scale 0.5  halve its learning rate, on every rank
  hookbus send digits stop            stop it at the next iteration, on every rank
  hookbus doctor                      why do I see nothing?

Looking never disturbs a training. Only `send` changes one.
Exit status: 0 it worked, 1 it did not, 2 wrong command line or configuration.";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a training with a private daemon beside it
    Run(RunArgs),
    /// List the runs that the daemon knows
    Runs(JsonArgs),
    /// Show one run: ranks, progress, hooks, results, incidents, log lines
    Show(ShowArgs),
    /// Show memory of the host, the trainer with its children, and the GPUs
    Memory(MemoryArgs),
    /// Watch what happens in a run: events, decisions with their reasons, commands and results
    Watch(WatchArgs),
    /// Send an order to a run and wait for every rank's answer
    Send(SendArgs),
    /// List the hooks that there are, with their arguments
    Hooks(JsonArgs),
    /// Say what can be seen from here, what not, and the one line that would mend it
    Doctor(JsonArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// One JSON value on one line; not-finite numbers are the strings nan, inf and -inf
    #[arg(long)]
    pub(crate) json: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  hookbus run -- python train.py --epochs 20
  hookbus run --config hooks.toml -- torchrun --nproc-per-node 8 train.py
  hookbus run --print-address -- ./train.sh

The command finds the daemon by HOOKBUS_ADDRESS, which is set for it. Output,
signals and exit status are the command's own (128 + signal where one killed
it); what happened is told on standard error at the end.
If the daemon dies, the training goes on without it.
Where the daemon does not start, the command is not started (exit status 2 for
a mistake in the configuration).";

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// The daemon's configuration file: its hooks, limits and rights (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print the daemon's address first, so that a second terminal can use it: hookbus --address ADDRESS memory
    #[arg(long)]
    pub(crate) print_address: bool,

    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  hookbus show                        the only run there is
  hookbus show digits                 by its name
  hookbus show digits@4711 --json     by its id, for a script

Epochs and iterations are counted from 0.";

#[derive(Debug, Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArgs {
    /// A run's name or id; without it the only run
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) run: String,

    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

const MEMORY_EXAMPLES: &str = "\
Examples:
  hookbus memory                      once, with the age of every number
  hookbus memory digits --watch       each second, until Ctrl-C (the training does not notice)
  hookbus memory --watch 0.5 --count 20 --json > memory.jsonl

A number that could not be taken reads `unknown: why`, never 0.";

#[derive(Debug, Args)]
#[command(after_help = MEMORY_EXAMPLES)]
pub(crate) struct MemoryArgs {
    /// A run's name or id; without it the only run, or the host alone
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) run: String,

    /// Again each SECONDS (at least 0.1; without a number 1); with --json one line each
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = interval)]
    pub(crate) watch: Option<f64>,

    /// End after N readings (implies --watch)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

const WATCH_EXAMPLES: &str = "\
Examples:
  hookbus watch                       the only run there is, until it ends or Ctrl-C
  hookbus watch digits --no-events    decisions, state, commands, results and incidents only
  hookbus watch digits --json | jq .  one JSON value a line

What happened before is in `hookbus show`. A reader that is too slow is told how much it missed.";

#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub(crate) struct WatchArgs {
    /// A run's name or id; without it the only run
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) run: String,

    /// Without the trainers' own events
    #[arg(long)]
    pub(crate) no_events: bool,

    /// End after N lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

const SEND_EXAMPLES: &str = "\
Examples:
  hookbus send digits stop --reason 'the loss is stuck'
  hookbus send digits lr --value 0.01                   hold it there
  hookbus send digits lr --scale 0.5 --at-epoch 10      half of what the schedule or scheduler gives
  hookbus send digits lr --release
  hookbus send digits size 64 64                        until the schedule's next size
  hookbus send digits mode on                           YOLOX's mode, from the next epoch
  hookbus send digits checkpoint --tag before-the-change --ranks 0
  hookbus send digits custom set_dropout '{\"p\": 0.1}'

An order holds from the next boundary (the top of an iteration or epoch), or from --at-iter or
--at-epoch (counted from 0). stop, lr, size and mode go to every rank: what only some ranks do
deadlocks a distributed training. Exit status 0 only if every rank that was asked applied it.";

#[derive(Debug, Args)]
#[command(after_help = SEND_EXAMPLES)]
pub(crate) struct SendArgs {
    /// A run's name or id; '' for the only run
    pub(crate) run: String,

    #[command(subcommand)]
    pub(crate) order: OrderArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OrderArgs {
    /// End the training cleanly, on every rank
    Stop(StopArgs),
    /// Hold, scale or release the learning rate
    Lr(LrArgs),
    /// Change the input size, until the schedule's next one
    Size(SizeArgs),
    /// Switch YOLOX's mode for the end of a training on
    Mode(ModeArgs),
    /// Save a checkpoint
    Checkpoint(CheckpointArgs),
    /// Write a line to the trainer's log
    Log(LogArgs),
    /// Something of the trainer's own: bus.on("custom:NAME", handler)
    Custom(CustomArgs),
}

/// From where an order holds, and how long to wait for its results.
#[derive(Debug, Args)]
pub(crate) struct WhenArgs {
    /// Before this iteration, counted from 0 over the whole training
    #[arg(long, value_name = "ITER", conflicts_with = "at_epoch")]
    pub(crate) at_iter: Option<u64>,

    /// Before this epoch, counted from 0
    #[arg(long, value_name = "EPOCH")]
    pub(crate) at_epoch: Option<u64>,

    /// How long to wait for the ranks, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = timeout)]
    pub(crate) timeout: f64,

    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// At the next point of any kind, also within validation
    #[arg(long, conflicts_with_all = ["at_iter", "at_epoch"])]
    pub(crate) now: bool,

    /// Why; the trainer's log will say it
    #[arg(long, value_name = "TEXT", default_value = "stopped by an operator")]
    pub(crate) reason: String,

    #[command(flatten)]
    pub(crate) when: WhenArgs,
}

#[derive(Debug, Args)]
#[group(id = "how", required = true, multiple = false)]
pub(crate) struct LrHowArgs {
    /// Hold it at this value
    #[arg(long, value_name = "LR")]
    pub(crate) value: Option<f64>,

    /// Multiply what the schedule or the trainer's scheduler gives, each iteration
    #[arg(long, value_name = "FACTOR")]
    pub(crate) scale: Option<f64>,

    /// End what was held
    #[arg(long)]
    pub(crate) release: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LrArgs {
    #[command(flatten)]
    pub(crate) how: LrHowArgs,

    /// Only this parameter group, counted from 0
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<u32>,

    #[command(flatten)]
    pub(crate) when: WhenArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SizeArgs {
    /// Height in pixels
    pub(crate) height: u32,

    /// Width in pixels
    pub(crate) width: u32,

    #[command(flatten)]
    pub(crate) when: WhenArgs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum OnArg {
    /// Switch it on; there is no way back within a run
    On,
}

#[derive(Debug, Args)]
pub(crate) struct ModeArgs {
    /// `on`
    pub(crate) on: OnArg,

    /// Pipeline steps to leave out, with commas [default: those of the run's YOLOXModeSwitchHook]
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub(crate) skip_types: Vec<String>,

    #[command(flatten)]
    pub(crate) when: WhenArgs,
}

/// Whom a command is for.
#[derive(Debug, Args)]
pub(crate) struct RanksArgs {
    /// Only these ranks, with commas [default: every rank]
    #[arg(long, value_name = "RANKS", value_delimiter = ',')]
    pub(crate) ranks: Vec<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// A word for the file's name
    #[arg(
        long,
        value_name = "TAG",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) tag: String,

    #[command(flatten)]
    pub(crate) ranks: RanksArgs,

    #[command(flatten)]
    pub(crate) when: WhenArgs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum LevelArg {
    Debug,
    Info,
    Warning,
    Error,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// The line
    pub(crate) text: String,

    /// How loud
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) level: LevelArg,

    #[command(flatten)]
    pub(crate) ranks: RanksArgs,

    #[command(flatten)]
    pub(crate) when: WhenArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CustomArgs {
    /// What the trainer calls it
    pub(crate) name: String,

    /// What goes with it, as JSON
    #[arg(value_name = "JSON", default_value = "", hide_default_value = true)]
    pub(crate) payload: String,

    #[command(flatten)]
    pub(crate) ranks: RanksArgs,

    #[command(flatten)]
    pub(crate) when: WhenArgs,
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        Ok(_) => Err("must be from 0.1 s to a day".to_owned()),
        Err(_) => Err("is no number of seconds; a run's name comes before --watch".to_owned()),
    }
}

fn timeout(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        Ok(_) => Err("must be more than 0 s and at most a day".to_owned()),
        Err(_) => Err("is no number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &[&str]) -> Result<Cli, String> {
        let words = std::iter::once("hookbus").chain(line.iter().copied());
        Cli::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_after_the_dashes_is_the_command() {
        let cli = parse(&[
            "run",
            "--config",
            "a.toml",
            "--",
            "python",
            "t.py",
            "--address",
            "x",
            "--json",
        ])
        .unwrap();
        let Verb::Run(args) = cli.verb else {
            panic!("run")
        };
        assert_eq!(args.command, ["python", "t.py", "--address", "x", "--json"]);
        assert_eq!(cli.address, None);
        assert!(parse(&["run"]).unwrap_err().contains("COMMAND"));
        assert!(parse(&["run", "python"]).is_err());
    }

    #[test]
    fn the_address_may_stand_on_either_side_of_the_verb() {
        for line in [["--address", "/a", "runs"], ["runs", "--address", "/a"]] {
            assert_eq!(parse(&line).unwrap().address.as_deref(), Some("/a"));
        }
    }

    #[test]
    fn token_and_authorities_may_stand_there_too() {
        let flags = ["--token-file", "/t", "--ca-file", "/c"];
        let before = [&flags[..], &["runs"]].concat();
        let after = [&["runs"], &flags[..]].concat();
        for line in [before, after] {
            let cli = parse(&line).unwrap();
            assert_eq!(cli.token_file.unwrap().to_str(), Some("/t"));
            assert_eq!(cli.ca_file.unwrap().to_str(), Some("/c"));
        }
    }

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
    }

    #[test]
    fn a_stop_has_its_run_before_it() {
        let Verb::Send(args) = parse(&["send", "digits", "stop", "--now"]).unwrap().verb else {
            panic!("send")
        };
        let OrderArgs::Stop(stop) = args.order else {
            panic!("a stop")
        };
        assert_eq!(
            (args.run.as_str(), stop.now, stop.when.timeout),
            ("digits", true, 30.0)
        );
        assert!(parse(&["send", "digits"]).is_err());
        assert!(
            parse(&["send", "digits", "stop", "--timeout", "nan"])
                .unwrap_err()
                .contains("more than 0 s")
        );
    }

    #[test]
    fn an_order_is_one_clear_thing() {
        let ok = |line: &str| parse(&line.split(' ').collect::<Vec<_>>());
        assert!(ok("send digits lr --scale 0.5 --group 1 --at-iter 100").is_ok());
        assert!(ok("send digits size 64 32 --at-epoch 3").is_ok());
        assert!(ok("send digits mode on --skip-types Mosaic,MixUp").is_ok());
        assert!(ok("send digits checkpoint --ranks 0,3").is_ok());
        for (line, says) in [
            ("send digits lr", "--value"),
            (
                "send digits lr --value 0.1 --scale 2",
                "cannot be used with",
            ),
            ("send digits lr --value 0.1 --ranks 0", "--ranks"),
            ("send digits stop --now --at-iter 3", "cannot be used with"),
            ("send digits size 64", "WIDTH"),
            ("send digits mode off", "possible values: on"),
            (
                "send digits lr --value 0.1 --at-iter 1 --at-epoch 1",
                "cannot be used with",
            ),
        ] {
            let error = ok(line).expect_err(line);
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
