//! The lock nodes: independent Redis masters that hold leases, and in escrow what GHL answered.
//!
//! All of them are examined all the time, by doing what a lock does, so that one that is sick is
//! known before anybody waits for it, and so that held, away and misconfigured are told apart.

mod node;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use store::connection::{self, BadAddress};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

pub use node::Health;
pub(crate) use node::Node;

/// A node that hangs slows every lock down by half a second until it is found out.
const EXAMINE_EVERY: Duration = Duration::from_millis(250);

/// The lock nodes and how they are. Cheap to clone.
#[derive(Clone)]
pub struct LockNodes(Arc<Inner>);

struct Inner {
    nodes: Arc<[Node]>,
    usable: watch::Receiver<Vec<bool>>,
    look: Arc<Notify>,
    examiner: JoinHandle<()>,
}

impl LockNodes {
    /// Begins to watch 1, 3 or 5 nodes. `memory`: the longest that anything is locked; a node that
    /// came back empty is not locked at for so long.
    ///
    /// # Errors
    /// When a URL is malformed.
    pub fn start(
        urls: &[SecretString],
        broker: &str,
        memory: Duration,
    ) -> Result<Self, BadAddress> {
        let key = format!("ghl:lock:probe:{broker}:{}", store::random::hex::<4>());
        let nodes = urls
            .iter()
            .map(|url| Node::new(connection::client(url)?, key.clone(), memory))
            .collect::<Result<Arc<[Node]>, _>>()?;
        let (told, usable) = watch::channel(Vec::new());
        let look = Arc::new(Notify::new());
        let examiner = tokio::spawn(examine(nodes.clone(), told, look.clone()));
        Ok(Self(Arc::new(Inner {
            nodes,
            usable,
            look,
            examiner,
        })))
    }

    /// Host and port of every node, and how it is.
    #[must_use]
    pub fn health(&self) -> Vec<(String, Health)> {
        let nodes = self.0.nodes.iter();
        nodes.map(|node| (node.address(), node.health())).collect()
    }

    pub(crate) fn nodes(&self) -> &Arc<[Node]> {
        &self.0.nodes
    }

    /// Which nodes can be locked at, now and after every change; empty until they were looked at.
    pub(crate) fn usable(&self) -> watch::Receiver<Vec<bool>> {
        self.0.usable.clone()
    }

    /// Waits until every node was looked at once.
    pub(crate) async fn are_seen(&self) {
        let mut usable = self.usable();
        // It ends only with the examiner, and then nobody looks any more.
        let _ = usable.wait_for(|known| !known.is_empty()).await;
    }

    /// Whether a majority cannot be had without a node that may have forgotten a lock.
    pub(crate) fn have_forgotten(&self) -> bool {
        let health: Vec<Health> = self.0.nodes.iter().map(Node::health).collect();
        let up = health.iter().filter(|node| node.is_usable()).count();
        up < self.majority()
            && health
                .iter()
                .any(|node| matches!(node, Health::Forgot { .. }))
    }

    /// Something was slow: look at once.
    pub(crate) fn look(&self) {
        self.0.look.notify_one();
    }

    pub(crate) fn majority(&self) -> usize {
        majority(self.0.nodes.len())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.examiner.abort();
    }
}

impl std::fmt::Debug for LockNodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses = self.0.nodes.iter().map(Node::address);
        f.debug_list().entries(addresses).finish()
    }
}

pub(crate) fn majority(nodes: usize) -> usize {
    nodes / 2 + 1
}

/// Watches the nodes for ever.
async fn examine(nodes: Arc<[Node]>, told: watch::Sender<Vec<bool>>, look: Arc<Notify>) {
    loop {
        let examined = nodes.iter().map(Node::examine);
        let changes = futures_util::future::join_all(examined).await;
        for (node, change) in nodes.iter().zip(changes) {
            if let Some(health) = change {
                report(&node.address(), &health);
            }
        }
        let usable: Vec<bool> = nodes.iter().map(|node| node.health().is_usable()).collect();
        told.send_if_modified(|known| {
            let is_new = *known != usable;
            *known = usable;
            is_new
        });
        // Early when somebody asks.
        let _ = timeout(EXAMINE_EVERY, look.notified()).await;
    }
}

fn report(address: &str, health: &Health) {
    match health {
        Health::Up => info!(address, "lock node is well"),
        Health::Away(reason) => warn!(address, reason, "lock node is away"),
        Health::Refuses(reason) => warn!(address, reason, "lock node refuses"),
        Health::Forgot { .. } => warn!(
            address,
            "lock node came back without its locks: nothing is locked there until those have \
             run out. Give it `appendonly yes` and `appendfsync always`"
        ),
    }
}
