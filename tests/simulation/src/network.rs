//! Requests and replies between a broker and the store or a lock node. Either may be lost. A request in
//! flight arrives even if its broker has died.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::world::{World, lock};

/// How long a broker waits for the store or a lock node.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The limit of the delay in one direction, in milliseconds.
const DELAY_LIMIT: u64 = 4;

/// The other end of a network path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Store,
    Node(usize),
}

/// Which machines currently cannot reach which peers.
#[derive(Debug, Clone, Default)]
pub(super) struct Partitions(Arc<Mutex<BTreeSet<(usize, Peer)>>>);

impl Partitions {
    pub(super) fn cut(&self, machine: usize, peer: Peer) {
        lock(&self.0).insert((machine, peer));
    }

    pub(super) fn mend(&self, machine: usize, peer: Peer) {
        lock(&self.0).remove(&(machine, peer));
    }

    pub(super) fn is_cut(&self, machine: usize, peer: Peer) -> bool {
        lock(&self.0).contains(&(machine, peer))
    }
}

/// Sleeps, without a timer for a zero duration.
async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// The network path from one machine to one peer.
#[derive(Debug, Clone)]
pub(super) struct NetworkPath {
    pub(super) world: World,
    pub(super) partitions: Partitions,
    pub(super) machine: usize,
    pub(super) peer: Peer,
}

impl NetworkPath {
    fn is_cut(&self) -> bool {
        self.partitions.is_cut(self.machine, self.peer)
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.world.below(DELAY_LIMIT))
    }

    /// Runs `act` at the peer and returns its reply. `None` if the peer refuses, or if no reply arrives in
    /// time.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let path = self.clone();
        let (there, back) = (self.delay(), self.delay());
        tokio::spawn(async move {
            pass(there).await;
            if path.is_cut() {
                return;
            }
            let outcome = act();
            pass(back).await;
            if !path.is_cut() {
                // The broker may be gone.
                let _ = answer.send(outcome);
            }
        });
        let silence = async {
            match answered.await {
                Ok(outcome) => outcome,
                Err(_) => std::future::pending().await,
            }
        };
        timeout(TIMEOUT, silence).await.ok().flatten()
    }
}
