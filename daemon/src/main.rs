//! hookbusd: arguments, configuration, log, bind, announce, run, exit status.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use hookbusd::config::{self, Args, Config};
use hookbusd::lifetime::{Lifetime, PrivateDir};
use hookbusd::{announce, daemon, hooks, listen, logging, pages};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
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
    eprintln!("hookbusd: {error:#}");
    ExitCode::FAILURE
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
                #[expect(clippy::disallowed_methods, reason = "this is main")]
                std::process::exit(1);
            }
            shutdown.cancel();
        }
    })
}
