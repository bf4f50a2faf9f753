//! Keeps this broker's sealing keys in the store's lists, and checks that they still fit.

use std::sync::Arc;
use std::time::Duration;

use service::readiness::Gate;
use service::shutdown::Shutdown;
use tokio::time::sleep;
use tracing::{error, info};

use crate::refresh::worker::Worker;

/// How often the keys are registered again. The store may have lost them. Another broker that retires a key
/// waits for longer than this, so it learns of every broker that still seals with the key.
pub(crate) const REGISTER_INTERVAL: Duration = Duration::from_secs(5);

/// Runs until shutdown. [`crate::refresh::store_watch`] has registered the keys first, or has ended this
/// process.
pub(crate) async fn run(worker: Arc<Worker>, gate: Gate, shutdown: Shutdown) {
    tokio::select! {
        biased;
        () = shutdown.started() => return,
        () = worker.watch.wait_until_verified() => {}
    }
    gate.open();
    let mut known: Option<String> = None;
    loop {
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(REGISTER_INTERVAL) => {}
        }
        match worker.writer.register_keys().await {
            Ok(()) => {
                if known.take().is_some() {
                    info!("the sealing keys fit the store again");
                }
                gate.open();
            }
            // The scheduler logs that the store is unreachable.
            Err(error) if error.is_unavailable() => {}
            // This process still reads what its keys have sealed, so it goes on. Its next start would fail.
            Err(error) => {
                let reason = error.to_string();
                if known.as_ref() != Some(&reason) {
                    error!(%error, "the sealing keys of this broker do not fit the store any more");
                }
                gate.close(reason.clone());
                known = Some(reason);
            }
        }
    }
}
