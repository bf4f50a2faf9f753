//! Invalidates cache entries whose change was announced, and notices when announcements are lost.

use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use service::shutdown::Shutdown;
use store::{Invalidation, TokenReader};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{MissedTickBehavior, interval};

use super::cache::Cache;
use super::sources::{Owners, Tokens};
use crate::request::caller::Callers;

const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// All caches of the store.
pub(crate) struct Caches {
    pub(crate) tokens: Cache<Tokens>,
    pub(crate) owners: Cache<Owners>,
    pub(crate) callers: Arc<Callers>,
    pub(crate) coherent: Gauge,
}

impl Caches {
    /// Listens until the shutdown. After that, requests in flight read the store directly.
    ///
    /// `invalidations` must be subscribed before the first read.
    pub(crate) async fn run(
        self,
        reader: TokenReader,
        mut invalidations: Receiver<Invalidation>,
        shutdown: Shutdown,
    ) {
        let mut sweep = interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = invalidations.recv() => match received {
                    Ok(change) => self.apply(change),
                    // Announcements were missed, perhaps including `ChannelLost`. A new subscription starts
                    // with the current state of the channel.
                    Err(RecvError::Lagged(_)) => {
                        self.lost();
                        invalidations = reader.invalidations();
                    }
                    Err(RecvError::Closed) => break,
                },
                _ = sweep.tick() => self.sweep(),
                () = shutdown.started() => break,
            }
        }
        self.lost();
    }

    fn apply(&self, change: Invalidation) {
        match change {
            // An announcement of the same generation may be about another status.
            Invalidation::Installation { id, generation } => {
                self.tokens
                    .invalidate(&id, |held| held.generation <= generation);
            }
            Invalidation::Caller(key) => self.callers.keys.invalidate(&key, |_| true),
            Invalidation::Name(name) => self.owners.invalidate(&name.into(), |_| true),
            Invalidation::ChannelLost => self.lost(),
            Invalidation::ChannelRestored => self.restored(),
        }
    }

    fn lost(&self) {
        self.tokens.lost();
        self.owners.lost();
        self.callers.keys.lost();
        self.coherent.set(0.0);
    }

    fn restored(&self) {
        self.tokens.restored();
        self.owners.restored();
        self.callers.keys.restored();
        self.coherent.set(1.0);
    }

    fn sweep(&self) {
        self.tokens.sweep();
        self.owners.sweep();
        self.callers.keys.sweep();
    }
}
