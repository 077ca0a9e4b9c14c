//! The command line, and the help for someone who reads it at night. What can be wrong with a line alone is found here;
//! nothing is asked of a daemon.
//!
//! | file | verbs |
//! |---|---|
//! | `run` | the one that starts a training |
//! | `look` | those that show, and change nothing |
//! | `top` | the one that stays, as a full screen |
//! | `export` | the one that writes files |
//! | `hooks` | the list of hooks, and one's own |
//! | `since` | a length of time, for those that look back |
//! | `send` | the one that acts, with its orders |
//! | here | what stands before any verb, and those that take `--json` alone |

mod export;
mod hooks;
mod look;
mod range;
mod run;
mod send;
mod since;
mod top;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use export::ExportArgs;
pub(crate) use hooks::{HooksArgs, HooksVerb, ModuleArgs, ServeArgs, TestArgs};
pub(crate) use look::{MemoryArgs, RunsArgs, ShowArgs, WatchArgs};
pub(crate) use run::RunArgs;
pub(crate) use send::{LevelArg, OrderArgs, SendArgs, WhenArgs};
pub(crate) use top::TopArgs;

const TOP_EXAMPLES: &str = "\
Examples:
  hookbus run -- python train.py      start a training with a daemon of its own
  hookbus runs                        what is training, and what was?
  hookbus show digits                 how is it going, and what went wrong?
  hookbus top                         all of it on one screen, live
  hookbus memory --watch              host, trainer and GPU memory, each second
  hookbus watch digits                what happens, as it happens
  hookbus export LAST --csv DIR       what was recorded, as files
  hookbus send digits lr --scale 0.5  halve its learning rate, on every rank
  hookbus send digits stop            stop it at the next iteration, on every rank
  hookbus doctor                      why do I see nothing?

Looking never disturbs a training. Only `send` and `top --arm` change one. Where no daemon runs, what was recorded earlier is shown.
Exit status: 0 it worked, 1 it did not, 2 wrong command line or configuration.";

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

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a training with a private daemon beside it
    Run(RunArgs),
    /// List the runs that there are and were
    Runs(RunsArgs),
    /// Show one run: ranks, progress, hooks, results, incidents, log lines
    Show(ShowArgs),
    /// Show runs, ranks, memory, GPUs and what happens on one screen, live
    Top(TopArgs),
    /// Show memory of the host, the trainer with its children, and the GPUs
    Memory(MemoryArgs),
    /// Watch what happens in a run: events, decisions with their reasons, commands and results
    Watch(WatchArgs),
    /// Write what was recorded of a run as CSV, NDJSON or Parquet files
    Export(ExportArgs),
    /// Send an order to a run and wait for every rank's answer
    Send(SendArgs),
    /// List the hooks that there are, with their arguments; serve or try your own
    Hooks(HooksArgs),
    /// Say what can be seen from here, what not, and the one line that would mend it
    Doctor(JsonArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// One JSON value on one line; not-finite numbers are the strings nan, inf and -inf
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// Read what was recorded in this state directory, whatever daemon runs
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// The words after `hookbus`, parsed; an error as its text.
#[cfg(test)]
fn parse(line: &[&str]) -> Result<Cli, String> {
    let words = std::iter::once("hookbus").chain(line.iter().copied());
    Cli::try_parse_from(words).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
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
}
