//! Removes events and dead letters that have become too old.

use std::time::Duration;

use service::shutdown::Shutdown;
use store_writer::StoreWriter;
use tokio::time::sleep;
use tracing::debug;

use crate::refresh::worker::Worker;

/// How often. They are not listed any more before that.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Runs until shutdown.
pub(crate) async fn run(worker: std::sync::Arc<Worker>, writer: StoreWriter, shutdown: Shutdown) {
    tokio::select! {
        biased;
        () = shutdown.started() => return,
        () = worker.watch.wait_until_verified() => {}
    }
    loop {
        if let Err(error) = writer.sweep_outbox().await {
            debug!(
                error = &error as &dyn std::error::Error,
                "old events are not removed yet"
            );
        }
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(INTERVAL) => {}
        }
    }
}
