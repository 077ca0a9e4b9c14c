//! `hookbus run`: what comes after `--` is the command's own and is never read as ours.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

const RUN_EXAMPLES: &str = "\
Examples:
  hookbus run -- python train.py --epochs 20
  hookbus run --config hooks.toml -- torchrun --nproc-per-node 8 train.py
  hookbus run --print-address -- ./train.sh

The command finds the daemon by HOOKBUS_ADDRESS, which is set for it. Output,
signals and exit status are the command's own (128 + signal where one killed
it); what happened is told on standard error at the end.
If the daemon dies, the training goes on without it. The daemon ends with
`hookbus run`, however that ends; the training goes on then, too.
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

#[cfg(test)]
mod tests {
    use crate::args::{Verb, parse};

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
}
