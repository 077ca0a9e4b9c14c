//! `hookbus`: the operator's binary. Reads the command line, does one verb, ends with 0 (it worked), 1 (it did not) or
//! 2 (the command line or the configuration is wrong); `run` ends as its command did.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod daemon_binary;
mod doctor;
mod export;
mod failure;
mod format;

mod history;
mod hooks;
mod json;
mod local_time;
mod memory;
mod private_daemon;
mod reach;
mod recorded;
mod rows;
mod run;
mod runs;
mod send;
mod show;
mod signals;
mod table;
mod terminal;
mod top;
mod watch;

use args::{Cli, Verb};
use failure::Failure;
use hookbus_client::access::AccessFiles;
use reach::Target;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One thread is enough for a person, and the parent-death signal of a private daemon is bound to the thread that
    // starts it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(act(cli)),
        Err(error) => Err(Failure::failed(format!("cannot start: {error}"))),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            terminal::note(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

async fn act(cli: Cli) -> Result<u8, Failure> {
    let files = AccessFiles::resolve(cli.token_file.as_deref(), cli.ca_file.as_deref());
    let address = &Target {
        address: cli.address,
        files,
    };
    match cli.verb {
        Verb::Run(args) => run::run(address, args).await,
        Verb::Runs(args) => runs::runs(address, args).await,
        Verb::Show(args) => show::show(address, args).await,
        Verb::Top(args) => top::top(address, args).await,
        Verb::Memory(args) => memory::memory(address, args).await,
        Verb::Watch(args) => watch::watch(address, args).await,
        Verb::Export(args) => export::export(address, args).await,
        Verb::Send(args) => send::send(address, args).await,
        Verb::Hooks(args) => hooks::hooks(address, args).await,
        Verb::Doctor(args) => doctor::doctor(address, args.json).await,
    }
}
