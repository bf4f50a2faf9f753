//! Redlock through `rslock`, with protection against its measured weaknesses.
//!
//! - Its timeouts are fixed: 1 s to connect, 500 ms to answer.
//! - A hanging node slows down every lock, and cold connections queue for seconds.
//! - "Held" and "unreachable" are the same error.
//!
//! This module therefore tries once under its own timeout, on warm connections, over the healthy nodes. It
//! takes the reason for a failure from its own health checks.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rslock::{Lock, LockManager};
use store::names::Names;
use store::{InstallationId, keys};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::value::{LeaseValue, NotLeased};
use crate::lock_nodes::{Health, LockNodes, Node, majority};

/// Longer than `rslock` takes with a hanging node.
const LOCK_TIMEOUT: Duration = Duration::from_millis(1500);
/// A lock on healthy nodes takes a millisecond. After this long a node is considered unhealthy.
const SLOW_LOCK: Duration = Duration::from_millis(50);

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
        let follower = tokio::spawn(follow_health(
            (nodes.nodes().clone(), nodes.names().clone()),
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
        if self.nodes.lacks_reliable_majority() {
            return Err(self.failure_reason());
        }
        let manager = self.manager();
        let key = self.nodes.names().key(keys::lock(installation));
        let (answer, mut locked) = oneshot::channel();
        // In a separate task, because dropping `lock` half-way would leave its keys until their TTL.
        tokio::spawn(async move {
            let outcome = manager.lock(key.as_bytes(), ttl).await;
            if let Err(Ok(too_late)) = answer.send(outcome) {
                too_late.release().await;
            }
        });
        let outcome = match timeout(SLOW_LOCK, &mut locked).await {
            Ok(outcome) => Ok(outcome),
            Err(_) => {
                self.nodes.examine_now();
                timeout(LOCK_TIMEOUT, locked).await
            }
        };
        match outcome {
            Ok(Ok(Ok(lock))) => Ok(lock),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => {
                self.nodes.wait_until_examined().await;
                Err(self.failure_reason())
            }
        }
    }

    pub(super) async fn end(&self, installation: &InstallationId, value: &LeaseValue) {
        let lock = Lock {
            resource: self
                .nodes
                .names()
                .key(keys::lock(installation))
                .into_bytes(),
            val: value.as_bytes().to_vec(),
            validity_time: 0,
            lock_manager: self.manager(),
        };
        self.release(lock).await;
    }

    pub(super) async fn release(&self, lock: Lock) {
        // In a separate task, because a hanging node must not delay the worker.
        let released = tokio::spawn(lock.release());
        let _ = timeout(SLOW_LOCK, released).await;
    }

    fn manager(&self) -> LockManager {
        let current = self.manager.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn failure_reason(&self) -> NotLeased {
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

/// Uses the healthy nodes for locks from now on, whenever the health changes.
async fn follow_health(
    (nodes, names): (Arc<[Node]>, Names),
    mut members: Vec<usize>,
    mut usable: watch::Receiver<Vec<bool>>,
    manager: Arc<RwLock<LockManager>>,
) {
    while usable.changed().await.is_ok() {
        let selected = select_nodes(&usable.borrow_and_update());
        if selected != members {
            let fresh = manager_over(&nodes, &selected);
            warm_up(&fresh, &names).await;
            *manager.write().unwrap_or_else(PoisonError::into_inner) = fresh;
            members = selected;
        }
    }
}

fn manager_over(nodes: &[Node], members: &[usize]) -> LockManager {
    let clients = members.iter().map(|index| nodes[*index].raw_client.clone());
    let mut manager = LockManager::from_clients(clients.collect());
    manager.set_retry(1, Duration::from_millis(1));
    manager
}

/// Opens a new manager's connections in advance.
async fn warm_up(manager: &LockManager, names: &Names) {
    let key = names.key(keys::lock_warm_up());
    let once = async {
        if let Ok(lock) = manager.lock(key.as_bytes(), Duration::from_secs(1)).await {
            lock.release().await;
        }
    };
    let _ = timeout(LOCK_TIMEOUT, once).await;
}

/// The nodes to lock over: the healthy ones, and unhealthy ones if too few are healthy. The quorum of the
/// subset (`m / 2 + 1`) must be a majority of all nodes, so that any two quorums share a node.
fn select_nodes(is_up: &[bool]) -> Vec<usize> {
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
    fn unhealthy_node_is_left_out_while_the_quorum_is_a_majority_of_all() {
        assert_eq!(select_nodes(&[true]), [0]);
        assert_eq!(select_nodes(&[false]), [0]);
        assert_eq!(select_nodes(&[true, true, true]), [0, 1, 2]);
        assert_eq!(select_nodes(&[true, false, true]), [0, 2]);
        assert_eq!(select_nodes(&[false, false, true]), [0, 2]);
        assert_eq!(select_nodes(&[true, true, false, true, true]), [0, 1, 3, 4]);
        assert_eq!(
            select_nodes(&[true, false, false, true, true]),
            [0, 1, 3, 4]
        );
    }

    #[test]
    fn any_two_quorums_share_a_node() {
        for nodes in [1, 3, 5] {
            for health in 0..1_u32 << nodes {
                let is_up: Vec<bool> = (0..nodes).map(|node| health >> node & 1 == 1).collect();
                let quorum = majority(select_nodes(&is_up).len());
                assert!(2 * quorum > nodes, "{is_up:?}");
            }
        }
    }
}
