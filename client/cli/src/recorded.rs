//! Questions that can also be answered from what was recorded: a daemon that runs is asked, and where none does, one that
//! only reads is started for this question and ended after it.
//!
//! Nothing is started for a daemon that was named and does not answer: that is a mistake which a person should hear of.

use hookbus_client::access::AccessFiles;
use hookbus_client::address::{ADDRESS_VARIABLE, Address};
use hookbus_client::connect::ConnectError;
use hookbus_client::inspect::{InspectError, Inspector};

use crate::args::StateArgs;
use crate::failure::{FAILED, Failure};
use crate::private_daemon::{PrivateDaemon, Purpose};
use crate::reach::{self, Target};
use crate::signals::{self, Signals};
use crate::terminal;

const NOTE: &str = "no daemon is running here; these runs were recorded earlier";

/// Asks, and ends as the question does. A signal cuts it short, with everything cleared away.
pub(crate) async fn ask(
    target: &Target,
    state: &StateArgs,
    question: impl AsyncFnOnce(Inspector) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let state = state.state.as_deref();
    if let (Some(_), Some(address)) = (state, &target.address) {
        return Err(Failure::usage(format!(
            "--state reads files on this machine, so --address {address} has no place beside it"
        )));
    }
    let signals = Signals::install()?;
    let live = match state {
        Some(_) => Err(None),
        None => running(target).await?.map_err(Some),
    };
    match live {
        Ok(inspector) => tokio::select! {
            ended = question(inspector) => ended,
            number = signals.asked_to_end() => Ok(signals::exit_code(number)),
        },
        Err(nobody) => {
            let purpose = Purpose::Reading { state };
            let daemon = PrivateDaemon::start(purpose, &signals).map_err(|why| match &nobody {
                // The way out that is open to everybody comes first: a daemon.
                Some(nobody) => Failure {
                    code: FAILED,
                    text: format!("{nobody}; nor can what was recorded be read: {}", why.text),
                },
                None => why,
            })?;
            with(daemon, &signals, nobody, question).await
        }
    }
}

/// The daemon that runs; else, where none was named, why there is none.
async fn running(target: &Target) -> Result<Result<Inspector, String>, Failure> {
    let Some(address) = target.resolve()? else {
        return Ok(Err(reach::nowhere()));
    };
    let named = target.address.is_some()
        || std::env::var(ADDRESS_VARIABLE).is_ok_and(|value| !value.trim().is_empty());
    match target.connect(&address).await? {
        Ok(inspector) => Ok(Ok(inspector)),
        Err(error) if !named && nobody_listens(&error) => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn nobody_listens(error: &InspectError) -> bool {
    matches!(
        error,
        InspectError::Connect(ConnectError::NobodyListens { .. })
    )
}

async fn with(
    mut daemon: PrivateDaemon,
    signals: &Signals,
    nobody: Option<String>,
    question: impl AsyncFnOnce(Inspector) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let asked = async {
        daemon.ready().await.map_err(|mut why| {
            // Who asked for no daemon hears why one was started.
            if let Some(nobody) = &nobody {
                why.text = format!("{}\n{nobody}", why.text);
            }
            why
        })?;
        let inspector = connect(daemon.address()).await?;
        if nobody.is_some() {
            terminal::note(NOTE);
        }
        question(inspector).await
    };
    let ended = tokio::select! {
        ended = asked => ended,
        number = signals.asked_to_end() => Ok(signals::exit_code(number)),
    };
    // A second Ctrl-C does not wait: what only reads has nothing to lose, and is killed where its value goes.
    tokio::select! {
        () = daemon.end() => {}
        _ = signals.asked_to_end() => {}
    }
    ended
}

async fn connect(address: Address) -> Result<Inspector, Failure> {
    // The socket is ours alone: no token is shown to it.
    let own = Target {
        address: None,
        files: AccessFiles::default(),
    };
    Ok(own.connect(&address).await??)
}
