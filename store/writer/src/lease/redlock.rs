//! Redlock through `rslock`, with guard rails around what was measured of it.
//!
//! Its timeouts are built in (1 s to connect, 500 ms to answer), a node that hangs slows every
//! lock down and makes cold ones queue for seconds, and "held" and "unreachable" are one error.
//! So: one try under our own timeout, on warm connections, over the nodes that are well, with the
//! reason for a failure taken from our own examination of the nodes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rslock::{Lock, LockManager};
use store::{InstallationId, keys};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{LeaseValue, NotLeased};
use crate::lock_nodes::{Health, LockNodes, Node, majority};

/// Above what `rslock` takes with a node that hangs.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A lock on healthy nodes takes a millisecond: after this long one of them is sick.
const SLOW: Duration = Duration::from_millis(50);

pub(super) struct Redlock {
    nodes: LockNodes,
    manager: Arc<RwLock<LockManager>>,
    follower: JoinHandle<()>,
}

impl Redlock {
    pub(super) fn over(nodes: LockNodes) -> Self {
        let usable = nodes.usable();
        let everyone: Vec<usize> = (0..nodes.nodes().len()).collect();
        let first = manager_over(nodes.nodes(), &everyone);
        let manager = Arc::new(RwLock::new(first));
        let follower = tokio::spawn(follow(
            nodes.nodes().clone(),
            everyone,
            usable,
            manager.clone(),
        ));
        Self {
            nodes,
            manager,
            follower,
        }
    }

    pub(super) async fn take(
        &self,
        installation: &InstallationId,
        ttl: Duration,
    ) -> Result<Lock, NotLeased> {
        if self.nodes.have_forgotten() {
            return Err(self.why_not());
        }
        let manager = self.manager();
        let key = keys::lock(installation);
        let (answer, mut locked) = oneshot::channel();
        // In a task of its own: a `lock` that is dropped half way leaves its keys until their TTL.
        tokio::spawn(async move {
            let outcome = manager.lock(key.as_bytes(), ttl).await;
            if let Err(Ok(too_late)) = answer.send(outcome) {
                too_late.release().await;
            }
        });
        let outcome = match timeout(SLOW, &mut locked).await {
            Ok(outcome) => Ok(outcome),
            Err(_) => {
                self.nodes.look();
                timeout(PATIENCE, locked).await
            }
        };
        match outcome {
            Ok(Ok(Ok(lock))) => Ok(lock),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => {
                self.nodes.are_seen().await;
                Err(self.why_not())
            }
        }
    }

    pub(super) async fn end(&self, installation: &InstallationId, value: &LeaseValue) {
        let lock = Lock {
            resource: keys::lock(installation).into_bytes(),
            val: value.0.clone(),
            validity_time: 0,
            lock_manager: self.manager(),
        };
        self.release(lock).await;
    }

    pub(super) async fn release(&self, lock: Lock) {
        // In a task of its own as well: a node that hangs must not hold the worker up.
        let released = tokio::spawn(lock.release());
        let _ = timeout(SLOW, released).await;
    }

    fn manager(&self) -> LockManager {
        let current = self.manager.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn why_not(&self) -> NotLeased {
        let health = self.nodes.health();
        let reachable = health.iter().filter(|(_, node)| *node == Health::Up);
        let (reachable, needed) = (reachable.count(), self.nodes.majority());
        if reachable >= needed {
            return NotLeased::Held;
        }
        let nodes = health.len();
        let refusal = health.into_iter().find_map(|(_, node)| match node {
            Health::Refuses(reason) => Some(reason),
            Health::Up | Health::Away(_) | Health::Forgot { .. } => None,
        });
        match refusal {
            Some(reason) => NotLeased::Misconfigured(reason),
            None => NotLeased::Unreachable {
                reachable,
                nodes,
                needed,
            },
        }
    }
}

impl Drop for Redlock {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl std::fmt::Debug for Redlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Redlock").field(&self.nodes).finish()
    }
}

/// Has locks taken over those nodes that are well, for ever.
async fn follow(
    nodes: Arc<[Node]>,
    mut members: Vec<usize>,
    mut usable: watch::Receiver<Vec<bool>>,
    manager: Arc<RwLock<LockManager>>,
) {
    while usable.changed().await.is_ok() {
        let chosen = choose(&usable.borrow_and_update());
        if chosen != members {
            let fresh = manager_over(&nodes, &chosen);
            warm(&fresh).await;
            *manager.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            members = chosen;
        }
    }
}

fn manager_over(nodes: &[Node], members: &[usize]) -> LockManager {
    let clients = members.iter().map(|index| nodes[*index].client.clone());
    let mut manager = LockManager::from_clients(clients.collect());
    manager.set_retry(1, Duration::from_millis(1));
    manager
}

/// Opens a new manager's connections before anybody waits for them.
async fn warm(manager: &LockManager) {
    let key = format!("ghl:lock:warm:{}", store::random::hex::<4>());
    let once = async {
        if let Ok(lock) = manager.lock(key.as_bytes(), Duration::from_secs(1)).await {
            lock.release().await;
        }
    };
    let _ = timeout(PATIENCE, once).await;
}

/// The nodes to lock over: the healthy ones, and as many sick ones as it takes for the quorum of
/// that subset (`m / 2 + 1`) to be a majority of all nodes. Any two such quorums share a node.
fn choose(is_up: &[bool]) -> Vec<usize> {
    let needed = majority(is_up.len());
    let smallest = (1..=is_up.len())
        .find(|size| majority(*size) >= needed)
        .unwrap_or(is_up.len());
    let healthy = is_up.iter().filter(|up| **up).count();
    let mut order: Vec<usize> = (0..is_up.len()).collect();
    order.sort_by_key(|index| !is_up[*index]);
    order.truncate(smallest.max(healthy));
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sick_node_is_left_out_while_the_quorum_stays_a_majority_of_all() {
        assert_eq!(choose(&[true]), [0]);
        assert_eq!(choose(&[false]), [0]);
        assert_eq!(choose(&[true, true, true]), [0, 1, 2]);
        assert_eq!(choose(&[true, false, true]), [0, 2]);
        assert_eq!(choose(&[false, false, true]), [0, 2]);
        assert_eq!(choose(&[true, true, false, true, true]), [0, 1, 3, 4]);
        assert_eq!(choose(&[true, false, false, true, true]), [0, 1, 3, 4]);
    }

    #[test]
    fn any_two_quorums_share_a_node() {
        for nodes in [1, 3, 5] {
            for health in 0..1_u32 << nodes {
                let is_up: Vec<bool> = (0..nodes).map(|node| health >> node & 1 == 1).collect();
                let quorum = majority(choose(&is_up).len());
                assert!(2 * quorum > nodes, "{is_up:?}");
            }
        }
    }
}
