//! The nodes of a Redis Cluster.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::Client;
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;

use super::server::address;

/// How long a new connection gets to find its way around.
const PATIENCE: Duration = Duration::from_secs(3);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Nodes {
    client: ClusterClient,
    current: Arc<Mutex<Current>>,
    /// Those that the URL names.
    named: Arc<[Client]>,
    turn: Arc<AtomicUsize>,
}

struct Current {
    connection: Option<ClusterConnection>,
    since: Instant,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            connection: None,
            since: Instant::now(),
        }
    }
}

impl Nodes {
    pub(super) fn new(client: ClusterClient, named: Vec<Client>) -> Self {
        Self {
            client,
            current: Arc::new(Mutex::new(Current::default())),
            named: named.into(),
            turn: Arc::default(),
        }
    }

    pub(super) fn connection(&self) -> ClusterConnection {
        let mut current = self.current();
        let connect = || {
            self.client
                .get_pending_async_connection_with_config(ClusterConfig::default())
        };
        current.connection.get_or_insert_with(connect).clone()
    }

    /// The same nodes, over other connections.
    pub(super) fn apart(&self) -> Self {
        Self {
            current: Arc::new(Mutex::new(Current::default())),
            ..self.clone()
        }
    }

    /// A node did not answer. The library learns where slots have moved to from answers alone: one
    /// that hangs is asked for ever. So the next command begins with a connection that is new.
    pub(super) fn doubt(&self) {
        let mut current = self.current();
        if current.since.elapsed() >= PATIENCE {
            *current = Current::default();
        }
    }

    /// One of the named nodes after the other.
    pub(super) fn next(&self) -> Client {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.named[turn % self.named.len()].clone()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.named.iter().map(address);
        f.debug_list().entries(named).finish()
    }
}
