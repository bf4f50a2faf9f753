//! Redlock through `rslock`, with guard rails around what was measured of it.
//!
//! Its timeouts are built in (1 s to connect, 500 ms to answer), a node that hangs slows every
//! lock down and makes cold ones queue for seconds, and "held" and "unreachable" are one error.
//! So: one try under our own timeout, on warm connections, over the nodes that are well, with the
//! reason for a failure taken from our own examination of the nodes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rslock::{Lock, LockManager};
use secrecy::SecretString;
use store::connection::{self, BadAddress};
use store::{InstallationId, keys};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::{info, warn};

use super::NotLeased;
use super::node::{Health, Node};

/// A lock on healthy nodes takes a millisecond.
const PATIENCE: Duration = Duration::from_millis(1500);
const EXAMINE_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Redlock {
    nodes: Arc<[Node]>,
    manager: Arc<RwLock<LockManager>>,
    examiner: JoinHandle<()>,
}

impl Redlock {
    pub(super) fn start(urls: &[SecretString], broker: &str) -> Result<Self, BadAddress> {
        let nodes = urls
            .iter()
            .map(|url| Node::new(connection::client(url)?))
            .collect::<Result<Arc<[Node]>, _>>()?;
        let everyone: Vec<usize> = (0..nodes.len()).collect();
        let manager = Arc::new(RwLock::new(manager_over(&nodes, &everyone)));
        let examiner = tokio::spawn(examine(nodes.clone(), manager.clone(), broker.to_owned()));
        Ok(Self {
            nodes,
            manager,
            examiner,
        })
    }

    pub(super) async fn take(
        &self,
        installation: &InstallationId,
        ttl: Duration,
    ) -> Result<Lock, NotLeased> {
        let manager = {
            let current = self.manager.read().unwrap_or_else(PoisonError::into_inner);
            current.clone()
        };
        let key = keys::lock(installation);
        let (answer, locked) = oneshot::channel();
        // In a task of its own: a `lock` that is dropped half way leaves its keys until their TTL.
        tokio::spawn(async move {
            let outcome = manager.lock(key.as_bytes(), ttl).await;
            if let Err(Ok(too_late)) = answer.send(outcome) {
                too_late.release().await;
            }
        });
        match timeout(PATIENCE, locked).await {
            Ok(Ok(Ok(lock))) => Ok(lock),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => Err(self.why_not()),
        }
    }

    pub(super) async fn release(&self, lock: Lock) {
        // In a task of its own as well: a node that hangs must not hold the worker up.
        let released = tokio::spawn(lock.release());
        let _ = timeout(PATIENCE, released).await;
    }

    fn why_not(&self) -> NotLeased {
        let health: Vec<Health> = self.nodes.iter().map(Node::health).collect();
        let reachable = health.iter().filter(|node| **node == Health::Up).count();
        let needed = majority(self.nodes.len());
        if reachable >= needed {
            return NotLeased::Held;
        }
        let refusal = health.into_iter().find_map(|node| match node {
            Health::Refuses(reason) => Some(reason),
            Health::Up | Health::Away(_) => None,
        });
        match refusal {
            Some(reason) => NotLeased::Misconfigured(reason),
            None => NotLeased::Unreachable {
                reachable,
                nodes: self.nodes.len(),
                needed,
            },
        }
    }
}

impl Drop for Redlock {
    fn drop(&mut self) {
        self.examiner.abort();
    }
}

impl std::fmt::Debug for Redlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses = self.nodes.iter().map(Node::address);
        f.debug_list().entries(addresses).finish()
    }
}

/// Watches the nodes for ever, and lets locks be taken over those that are well.
async fn examine(nodes: Arc<[Node]>, manager: Arc<RwLock<LockManager>>, broker: String) {
    let key = format!("ghl:lock:probe:{broker}");
    let mut members: Vec<usize> = (0..nodes.len()).collect();
    let mut rounds = tokio::time::interval(EXAMINE_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let examined = nodes.iter().map(|node| node.examine(&key));
        for (node, change) in nodes
            .iter()
            .zip(futures_util::future::join_all(examined).await)
        {
            let address = node.address();
            match change {
                Some(Health::Up) => info!(address, "lock node is well again"),
                Some(Health::Away(reason)) => warn!(address, reason, "lock node is away"),
                Some(Health::Refuses(reason)) => warn!(address, reason, "lock node refuses"),
                None => {}
            }
        }
        let is_up: Vec<bool> = nodes
            .iter()
            .map(|node| node.health() == Health::Up)
            .collect();
        let chosen = choose(&is_up);
        if chosen != members {
            let fresh = manager_over(&nodes, &chosen);
            warm(&fresh, &key).await;
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
async fn warm(manager: &LockManager, key: &str) {
    let key = format!("{key}:warm");
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

fn majority(nodes: usize) -> usize {
    nodes / 2 + 1
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
