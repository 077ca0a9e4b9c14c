//! `hookbus send`: each order with what belongs to it. Ranks can be named only where an order on some of them cannot
//! deadlock the others.

use clap::{Args, Subcommand};

use super::JsonArgs;

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

fn timeout(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        Ok(_) => Err("must be more than 0 s and at most a day".to_owned()),
        Err(_) => Err("is no number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Verb, parse};

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
