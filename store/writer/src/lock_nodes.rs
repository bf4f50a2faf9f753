//! The lock nodes: independent Redis masters that hold leases, and GHL's responses in escrow.
//!
//! A task checks the health of all nodes continuously, with the operation that a lock uses. An unhealthy node
//! is known before a lock has to wait for it. The checks also distinguish held, unreachable and
//! misconfigured.

mod node;
pub(crate) mod quorum;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use store::connection::{self, BadAddress, RedisTls};
use store::keys;
use store::names::{Names, Prefix};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

pub use node::Health;
pub(crate) use node::Node;
pub(crate) use quorum::majority;

/// Until it is detected, a hanging node slows down every lock by half a second.
const EXAMINE_EVERY: Duration = Duration::from_millis(250);

/// The lock nodes and their health. Cheap to clone.
#[derive(Clone)]
pub struct LockNodes(Arc<Inner>);

struct Inner {
    nodes: Arc<[Node]>,
    names: Names,
    usable: watch::Receiver<Vec<bool>>,
    wake: Arc<Notify>,
    examiner: JoinHandle<()>,
}

impl LockNodes {
    /// Starts to check 1, 3 or 5 nodes. `max_lock_ttl` is the longest TTL of any lock. A node that restarted
    /// empty is not used for that long.
    ///
    /// # Errors
    /// When a URL is malformed.
    pub fn start(
        urls: &[SecretString],
        broker: &str,
        max_lock_ttl: Duration,
    ) -> Result<Self, BadAddress> {
        let options = (&RedisTls::default(), &Prefix::default());
        Self::start_with(urls, options, broker, max_lock_ttl)
    }

    /// As [`LockNodes::start`], with certificates for nodes over TLS, and with keys of this prefix.
    ///
    /// # Errors
    /// When a URL is malformed, or a certificate.
    pub fn start_with(
        urls: &[SecretString],
        (tls, prefix): (&RedisTls, &Prefix),
        broker: &str,
        max_lock_ttl: Duration,
    ) -> Result<Self, BadAddress> {
        let names = Names::new(prefix.clone(), 0);
        let key = names.key(keys::lock_node_probe(broker));
        let nodes = urls
            .iter()
            .map(|url| {
                let client = connection::client_with_tls(url, tls)?;
                Node::new((client, prefix), key.clone(), max_lock_ttl)
            })
            .collect::<Result<Arc<[Node]>, _>>()?;
        let (usable_sender, usable) = watch::channel(Vec::new());
        let wake = Arc::new(Notify::new());
        let examiner = tokio::spawn(examine(nodes.clone(), usable_sender, wake.clone()));
        Ok(Self(Arc::new(Inner {
            nodes,
            names,
            usable,
            wake,
            examiner,
        })))
    }

    /// The `host:port` and the health of every node.
    #[must_use]
    pub fn health(&self) -> Vec<(String, Health)> {
        let nodes = self.0.nodes.iter();
        nodes.map(|node| (node.address(), node.health())).collect()
    }

    /// The names of the keys on the nodes.
    pub(crate) fn names(&self) -> &Names {
        &self.0.names
    }

    pub(crate) fn nodes(&self) -> &Arc<[Node]> {
        &self.0.nodes
    }

    /// Which nodes are usable, now and after every change. Empty until the first check.
    pub(crate) fn usable(&self) -> watch::Receiver<Vec<bool>> {
        self.0.usable.clone()
    }

    /// Waits until every node was checked once.
    pub(crate) async fn wait_until_examined(&self) {
        let mut usable = self.usable();
        // An error means that the task has ended, and no check follows.
        let _ = usable.wait_for(|known| !known.is_empty()).await;
    }

    /// Whether a majority would need a node that may have lost a lock.
    pub(crate) fn lacks_reliable_majority(&self) -> bool {
        let health: Vec<Health> = self.0.nodes.iter().map(Node::health).collect();
        let up = health.iter().filter(|node| node.is_usable()).count();
        up < self.majority()
            && health
                .iter()
                .any(|node| matches!(node, Health::Forgot { .. }))
    }

    /// Requests a check at once, after a slow operation.
    pub(crate) fn examine_now(&self) {
        self.0.wake.notify_one();
    }

    /// How many nodes must be usable.
    #[must_use]
    pub fn majority(&self) -> usize {
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

/// Checks the nodes forever.
async fn examine(nodes: Arc<[Node]>, usable_sender: watch::Sender<Vec<bool>>, wake: Arc<Notify>) {
    loop {
        let examined = nodes.iter().map(Node::examine);
        let changes = futures_util::future::join_all(examined).await;
        for (node, change) in nodes.iter().zip(changes) {
            if let Some(health) = change {
                report(&node.address(), &health);
            }
        }
        let usable: Vec<bool> = nodes.iter().map(|node| node.health().is_usable()).collect();
        usable_sender.send_if_modified(|known| {
            let is_new = *known != usable;
            *known = usable;
            is_new
        });
        // Earlier on request.
        let _ = timeout(EXAMINE_EVERY, wake.notified()).await;
    }
}

fn report(address: &str, health: &Health) {
    match health {
        Health::Up => info!(address, "lock node is healthy"),
        Health::Away(reason) => warn!(address, reason, "lock node is unreachable"),
        Health::Refuses(reason) => warn!(address, reason, "lock node refuses commands"),
        Health::Forgot { .. } => warn!(
            address,
            "lock node restarted without its locks, and is not used until those have expired. \
             Give it `appendonly yes` and `appendfsync always`"
        ),
    }
}
