//! Questions and answers between a broker and what it depends on. Either may be lost, and what is on
//! its way arrives whatever has become of the broker that sent it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::world::{World, lock};

/// How long a broker waits for the store or a lock node.
const PATIENCE: Duration = Duration::from_secs(2);
/// One way.
const SLOWEST: u64 = 4;

/// The other end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Store,
    Node(usize),
}

/// Which machines do not reach which peers now.
#[derive(Debug, Clone, Default)]
pub(super) struct Cuts(Arc<Mutex<BTreeSet<(usize, Peer)>>>);

impl Cuts {
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

/// A timer for nothing would cost as much as one for something.
async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// From one machine to one peer.
#[derive(Debug, Clone)]
pub(super) struct Cable {
    pub(super) world: World,
    pub(super) cuts: Cuts,
    pub(super) machine: usize,
    pub(super) peer: Peer,
}

impl Cable {
    fn is_cut(&self) -> bool {
        self.cuts.is_cut(self.machine, self.peer)
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.world.below(SLOWEST))
    }

    /// Has `act` done at the other end, and brings its answer; `None` where it refuses, or nothing
    /// came back in time.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let cable = self.clone();
        let (there, back) = (self.delay(), self.delay());
        tokio::spawn(async move {
            pass(there).await;
            if cable.is_cut() {
                return;
            }
            let outcome = act();
            pass(back).await;
            if !cable.is_cut() {
                // Whoever asked may be gone.
                let _ = answer.send(outcome);
            }
        });
        let silence = async {
            match answered.await {
                Ok(outcome) => outcome,
                Err(_) => std::future::pending().await,
            }
        };
        timeout(PATIENCE, silence).await.ok().flatten()
    }
}
