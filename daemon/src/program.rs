//! The program: arguments, configuration, log, bind, announce, run, exit status. [`main`] is all that hookbusd itself calls,
//! and all that a daemon with hooks of its own has to call.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Args, Config};
use crate::hooks::Kind;
use crate::lifetime::{Lifetime, PrivateDir};
use crate::{announce, daemon, hooks, listen, logging, pages};

/// hookbusd, with the built-in hooks and `own`: reads the arguments, serves, and returns the exit status. Once a process.
///
/// A daemon with a hook of one's own is this line, and `impl Hook` (see [`crate::hooks`]):
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     hookbusd::program::main(&[])
/// }
/// ```
pub fn main(own: &'static [Kind]) -> ExitCode {
    if let Err(why) = hooks::add(own) {
        eprintln!("{}: {why}", program());
        return ExitCode::FAILURE;
    }
    let args = Args::parse();
    if args.list_hooks {
        print!("{}", hooks::listed(args.json));
        return ExitCode::SUCCESS;
    }
    if args.example_config {
        print!("{}", config::example());
        return ExitCode::SUCCESS;
    }
    if let Some(folder) = &args.hook_docs {
        return ended(pages::write(folder).with_context(|| folder.display().to_string()));
    }
    let config = match config::load(&args) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(2); // usage, as clap has it
        }
    };
    if args.print_config {
        print!("{}", config.printed);
        return ExitCode::SUCCESS;
    }
    if args.check_config {
        println!("the configuration is valid");
        return ExitCode::SUCCESS;
    }
    ended(serve(&args, config))
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{}: {error:#}", program());
    ExitCode::FAILURE
}

/// As it was called.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&called).file_name();
    name.map_or_else(
        || "hookbusd".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn serve(args: &Args, config: Config) -> anyhow::Result<()> {
    logging::start(&config.log).context("the log cannot be written (log.file)")?;
    let lifetime = Lifetime {
        idle_exit: args.idle_exit.map(Duration::from_secs),
        ..Lifetime::default()
    };
    let private = args.remove_dir.as_ref().zip(args.parent_pid);
    let private = private.map(|(path, pid)| PrivateDir::of(path, pid));
    let private = private.transpose()?;
    let served = run(args, config, &lifetime);
    if let Some(private) = private.filter(|_| lifetime.orphaned.is_cancelled()) {
        private.remove().context("the directory of --remove-dir")?;
    }
    served
}

fn run(args: &Args, config: Config, lifetime: &Lifetime) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    runtime.block_on(async {
        // Before there is a socket that a signal could leave behind.
        tokio::spawn(signals(lifetime.shutdown.clone())?);
        if let Some(pid) = args.parent_pid {
            lifetime.end_with(pid)?;
        }
        let listeners = listen::bind(&config.listen)?;
        let addresses = listeners.addresses();
        let notify_socket = config.notify_socket.clone();
        let announce = || {
            if let Err(error) = announce::announce(
                args.ready_file.as_deref(),
                notify_socket.as_deref(),
                &addresses,
            ) {
                tracing::error!(%error, "the ready file or systemd could not be told");
            }
            let (at, version) = (addresses.join(" "), env!("CARGO_PKG_VERSION"));
            tracing::info!(addresses = at, version, "listening");
        };
        daemon::run(config, listeners, lifetime.clone(), announce).await
    })
}

/// The first SIGTERM or SIGINT drains, the second one ends at once.
fn signals(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    Ok(async move {
        for turn in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if turn == 1 {
                eprintln!("hookbusd: ended at once by a second signal");
                #[expect(
                    clippy::disallowed_methods,
                    reason = "this is the main of every daemon"
                )]
                std::process::exit(1);
            }
            shutdown.cancel();
        }
    })
}
