//! `hookbus run -- COMMAND`: a training with a daemon of its own beside it.
//!
//! The command's output, signals and exit status are its own. A daemon that dies takes nothing with it: the training
//! goes on, and the report says so.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use hookbus_client::address::ADDRESS_VARIABLE;

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::private_daemon::{PrivateDaemon, Purpose};
use crate::reach::Target;
use crate::signals::{self, Signals};
use crate::terminal::{self, Style};

mod observer;
mod report;

use observer::Observer;

/// Starts the daemon, then the command, and ends as the command did.
pub(crate) async fn run(target: &Target, args: RunArgs) -> Result<u8, Failure> {
    if let Some(address) = &target.address {
        return Err(Failure::usage(format!(
            "`hookbus run` starts a daemon of its own, so --address has no place; \
             to use the one that runs: {ADDRESS_VARIABLE}={address} COMMAND"
        )));
    }
    let signals = Signals::install()?;
    let config = args.config.as_deref();
    let mut daemon = PrivateDaemon::start(Purpose::Training { config }, &signals)?;
    let ready = tokio::select! {
        ready = daemon.ready() => ready.map(|()| None),
        number = signals.asked_to_end() => Ok(Some(number)),
    };
    match ready {
        Ok(None) => {}
        Ok(Some(number)) => {
            daemon.end().await;
            return Ok(signals::exit_code(number));
        }
        Err(failure) => {
            daemon.end().await;
            return Err(failure);
        }
    }
    if args.print_address {
        terminal::answer(&format!("{}\n", daemon.address()))?;
    }
    supervise(daemon, &signals, &args).await
}

async fn supervise(
    mut daemon: PrivateDaemon,
    signals: &Signals,
    args: &RunArgs,
) -> Result<u8, Failure> {
    let address = daemon.address();
    let mut command = tokio::process::Command::new(&args.command[0]);
    command
        .args(&args.command[1..])
        .env(ADDRESS_VARIABLE, address.to_string());
    signals.unblock_in(&mut command);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            daemon.end().await;
            return Err(not_started(&args.command[0].to_string_lossy(), &error));
        }
    };
    let pid = child.id();
    let mut observer = Observer::new(address);
    let mut daemon_gone = None;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            arrived = signals.next() => {
                if let (Ok(arrived), Some(pid)) = (arrived, pid)
                    && !arrived.reached_group
                {
                    signals::send(pid, arrived.number);
                }
            }
            ended = daemon.died(), if daemon_gone.is_none() => {
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                terminal::note(&format!("the daemon ended ({how}); the training goes on without it"));
                daemon_gone = Some(format!("{how}\n{}", daemon.last_words()));
            }
            () = observer.look(), if daemon_gone.is_none() => {}
        }
    };
    let status =
        status.map_err(|error| Failure::failed(format!("lost sight of the command: {error}")))?;
    if daemon_gone.is_none() {
        // A second Ctrl-C does not wait for the report.
        tokio::select! {
            () = observer.last_look() => {}
            _ = signals.asked_to_end() => {}
        }
    }
    terminal::note(&report::text(
        &observer.seen,
        observer.recorded == Some(true),
        daemon_gone.as_deref(),
        Style::stderr(),
    ));
    daemon.end().await;
    Ok(code_of(status))
}

/// As a shell says it: 127 not there, 126 there and not to be run.
fn not_started(program: &str, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    Failure {
        code,
        text: format!("cannot run {program}: {error}"),
    }
}

fn code_of(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(number)) => signals::exit_code(number),
        (None, None) => crate::failure::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_commands_own() {
        for (raw, code) in [
            (0, 0),
            (3 << 8, 3),
            (255 << 8, 255),
            (15, 143),
            (9, 137),
            (6 | 0x80, 134),
        ] {
            assert_eq!(code_of(ExitStatus::from_raw(raw)), code, "{raw}");
        }
    }
}
