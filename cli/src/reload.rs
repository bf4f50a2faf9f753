//! Reads the settings of apps and of endpoints again on SIGHUP.

use std::io::{IsTerminal, stdin};

use broker::{AppConfig, Broker, Endpoint};
use service::shutdown::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::exit::Failure;

/// Runs until shutdown. `read` reads all settings anew. With a mistake in them, the apps stay as they are.
pub(crate) async fn apps_on_hangup(
    broker: Broker,
    shutdown: Shutdown,
    read: impl Fn() -> Result<(Vec<AppConfig>, Vec<Endpoint>), Failure> + Send,
) {
    on_hangup(shutdown, || {
        let reloaded = read().and_then(|(apps, endpoints)| {
            let reloaded = broker.reload(&apps, &endpoints);
            reloaded.map_err(Failure::unavailable)?;
            Ok((apps.len(), endpoints.len()))
        });
        match reloaded {
            Ok((apps, endpoints)) => {
                info!(apps, endpoints, "the settings of the apps and endpoints were read again");
            }
            Err(error) => {
                error!(error = %error.reason(), "the settings have mistakes, and apps and endpoints stay as they are");
            }
        }
    })
    .await;
}

/// Runs until shutdown. A gateway knows no apps. It goes on, since all processes of a machine may get the signal.
pub(crate) async fn nothing_on_hangup(shutdown: Shutdown) {
    on_hangup(shutdown, || info!("a gateway has nothing to read again")).await;
}

async fn on_hangup(shutdown: Shutdown, mut act: impl FnMut()) {
    let Some(mut hangups) = hangups() else {
        return;
    };
    loop {
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            heard = hangups.recv() => match heard {
                Some(()) => act(),
                None => return,
            },
        }
    }
}

/// At a terminal the signal says that the window was closed, and ends the process, as it does by default.
fn hangups() -> Option<Signal> {
    if stdin().is_terminal() {
        return None;
    }
    match signal(SignalKind::hangup()) {
        Ok(hangups) => Some(hangups),
        Err(error) => {
            warn!(%error, "SIGHUP is not heard: a change of the apps needs a restart");
            None
        }
    }
}
