//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// The daemon beside a training run: runs its hooks, samples memory, answers with commands.
#[derive(Debug, Default, Parser)]
#[command(
    name = "hookbusd",
    version,
    after_help = "\
Examples:
  hookbusd                                   listen on the default socket, with no hooks of its own
  hookbusd --config hookbusd.toml            hooks and limits from a file
  hookbusd --example-config > hookbusd.toml  every key with its default, to begin with
  hookbusd --config hookbusd.toml --check-config
  HOOKBUSD_LOG__LEVEL=debug hookbusd         any key of the file: HOOKBUSD_SECTION__KEY

A trainer finds the daemon by HOOKBUS_ADDRESS or by the default socket. To start one training with a daemon of
its own, use `hookbus run -- COMMAND`. SIGTERM drains and ends; a second one ends at once.
Exit status: 0 ended as asked, 1 failure, 2 usage or configuration."
)]
pub struct Args {
    /// Read this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen on this Unix socket (listen.socket)
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
    /// Listen on this TCP address too, say 127.0.0.1:7070; port 0 takes a free one (listen.tcp)
    #[arg(long, value_name = "ADDRESS")]
    pub tcp: Option<String>,
    /// Write runs down here, and go on with them after a restart (journal.dir)
    #[arg(long, value_name = "DIRECTORY")]
    pub state_dir: Option<String>,
    /// Only show what was written down: no training attaches, nothing is sampled or written
    #[arg(long)]
    pub read_only: bool,
    /// Write the addresses here, one a line, once everything serves
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// End when this process ends, within a second, drained as at SIGTERM
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub parent_pid: Option<u32>,
    /// Where that process made this private directory: remove it, if it can no longer do that itself
    #[arg(long, value_name = "DIRECTORY", requires = "parent_pid", hide = true)]
    pub remove_dir: Option<PathBuf>,
    /// End after so long without a connection, of a trainer or of anybody who looks
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub idle_exit: Option<u64>,
    /// error, warn, info, debug or trace (log.level)
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// text or json (log.format)
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Log to this file (log.file)
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<String>,
    /// Say whether the configuration is valid, with every mistake, and end
    #[arg(long)]
    pub check_config: bool,
    /// Print the configuration in force, and end
    #[arg(long)]
    pub print_config: bool,
    /// Print a file to begin with: every key with its default and what it is for; and end
    #[arg(long)]
    pub example_config: bool,
    /// Print the hooks that there are, and end
    #[arg(long)]
    pub list_hooks: bool,
    /// Write a page a hook into this directory, and end
    #[arg(long, value_name = "DIRECTORY")]
    pub hook_docs: Option<PathBuf>,
    /// With --list-hooks: as JSON
    #[arg(long, requires = "list_hooks")]
    pub json: bool,
}
