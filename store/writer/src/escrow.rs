//! Escrow: the lock nodes hold a second copy of GHL's responses until the store has them.
//!
//! The journal survives the broker's process, and the escrow survives its host. A broker that takes over an
//! installation finds the sealed response there. Each attempt has its own entry, so no entry replaces
//! another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::RedisResult;
use store::connection::{CommandError, Connection};
use store::{InstallationId, keys};
use tokio::time::timeout;
use tracing::error;

use crate::installation::IntentId;
pub use crate::lock_nodes::quorum::NoMajority;

use crate::journal::entry::Entry;
use crate::lock_nodes::LockNodes;

/// Longer than any planned downtime of all brokers, shorter than the lifetime of a refresh token.
const TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long to wait for slow nodes. A healthy majority answers within a millisecond.
const NODE_TIMEOUT: Duration = Duration::from_millis(500);

/// Stores GHL's responses in escrow. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Escrow(Storage);

#[derive(Debug, Clone)]
enum Storage {
    None,
    Nodes(LockNodes),
    #[cfg(feature = "simulation")]
    Simulated(std::sync::Arc<dyn crate::simulation::SimulatedEscrow>),
}

impl Escrow {
    /// Escrow on the lock nodes.
    #[must_use]
    pub fn over(nodes: LockNodes) -> Self {
        Self(Storage::Nodes(nodes))
    }

    /// No escrow: for a single process, or without lock nodes.
    #[must_use]
    pub fn none() -> Self {
        Self(Storage::None)
    }

    /// Escrow on simulated lock nodes.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulated(simulated: std::sync::Arc<dyn crate::simulation::SimulatedEscrow>) -> Self {
        Self(Storage::Simulated(simulated))
    }

    /// Whether responses are stored anywhere.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        match self.0 {
            Storage::None => false,
            Storage::Nodes(_) => true,
            #[cfg(feature = "simulation")]
            Storage::Simulated(_) => true,
        }
    }

    /// Stores a response. Returns once a majority has it; the other nodes get it later.
    ///
    /// # Errors
    /// When no majority stored it.
    pub async fn keep(&self, entry: &Entry) -> Result<(), NoMajority> {
        let nodes = match &self.0 {
            Storage::None => return Ok(()),
            Storage::Nodes(nodes) => nodes,
            #[cfg(feature = "simulation")]
            Storage::Simulated(simulated) => return simulated.keep(entry).await,
        };
        let key = nodes.names().key(keys::escrow(&entry.installation));
        let mut keep = redis::pipe();
        keep.hset(&key, entry.intent.as_str(), entry.encode())
            .ignore();
        let ttl = i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX);
        keep.pexpire(&key, ttl).ignore();
        let ask = move |mut redis: Connection| {
            let keep = keep.clone();
            async move { keep.query_async::<()>(&mut redis).await }
        };
        let needed = nodes.majority();
        query_nodes(nodes, ask, needed).await.map(|_| ())
    }

    /// The responses of an installation, from every node that answers.
    ///
    /// # Errors
    /// When no majority answered. There may be more responses.
    pub async fn find(&self, id: &InstallationId) -> Result<Vec<Entry>, NoMajority> {
        let nodes = match &self.0 {
            Storage::None => return Ok(Vec::new()),
            Storage::Nodes(nodes) => nodes,
            #[cfg(feature = "simulation")]
            Storage::Simulated(simulated) => return simulated.find(id).await,
        };
        let get = redis::Cmd::hgetall(nodes.names().key(keys::escrow(id)));
        let ask = move |mut redis: Connection| {
            let get = get.clone();
            async move { get.query_async::<NodeEntries>(&mut redis).await }
        };
        // From all nodes that answer, because one may have restarted empty.
        let all = nodes.nodes().len();
        let mut found = BTreeMap::new();
        for entries in query_nodes(nodes, ask, all).await? {
            found.extend(entries);
        }
        let entries = found.into_iter().filter_map(|(intent, value)| {
            let entry = Entry::decode(&intent, &value);
            if entry.is_none() {
                error!(installation = %id, intent, "a response in escrow cannot be read");
            }
            entry
        });
        Ok(entries.collect())
    }

    /// The installations with a response on any node that answers.
    ///
    /// # Errors
    /// When no majority answered. There may be more installations.
    pub async fn installations(&self) -> Result<BTreeSet<InstallationId>, NoMajority> {
        let nodes = match &self.0 {
            Storage::None => return Ok(BTreeSet::new()),
            Storage::Nodes(nodes) => nodes,
            #[cfg(feature = "simulation")]
            Storage::Simulated(simulated) => return simulated.installations().await,
        };
        let all = nodes.nodes().len();
        let names = nodes.names().clone();
        let pattern = names.key(keys::ESCROW_PATTERN);
        let scan = move |redis: Connection| scan(redis, pattern.clone());
        let found = query_nodes(nodes, scan, all).await?;
        let own = found.iter().flatten().filter_map(|key| names.own(key));
        let ids = own.filter_map(|key| keys::escrow_installation(&key));
        Ok(ids.collect())
    }

    /// Deletes a response that the store has, in the background. A copy that a node keeps expires by itself.
    /// Finding it before does no harm.
    pub fn forget(&self, id: &InstallationId, intent: &IntentId) {
        let nodes = match &self.0 {
            Storage::None => return,
            Storage::Nodes(nodes) => nodes.clone(),
            #[cfg(feature = "simulation")]
            Storage::Simulated(simulated) => return simulated.forget(id, intent),
        };
        let remove = redis::Cmd::hdel(nodes.names().key(keys::escrow(id)), intent.as_str());
        tokio::spawn(async move {
            let ask = move |mut redis: Connection| {
                let remove = remove.clone();
                async move { remove.query_async::<()>(&mut redis).await }
            };
            let all = nodes.nodes().len();
            query_nodes(&nodes, ask, all).await.map(|_| ())
        });
    }
}

/// All escrow keys of one node. There are few, because most are deleted within milliseconds.
async fn scan(mut redis: Connection, pattern: String) -> RedisResult<Vec<String>> {
    let (mut names, mut cursor) = (Vec::new(), 0_u64);
    loop {
        let mut page = redis::cmd("SCAN");
        page.arg(cursor)
            .arg("MATCH")
            .arg(&pattern)
            .arg("COUNT")
            .arg(1000);
        let (next, found): (u64, Vec<String>) = page.query_async(&mut redis).await?;
        names.extend(found);
        cursor = next;
        if cursor == 0 {
            return Ok(names);
        }
    }
}

/// One node's responses of one installation, by intent id.
type NodeEntries = BTreeMap<String, Vec<u8>>;

/// Asks all nodes at once. Returns the answers once `enough` nodes or all nodes answered, or after
/// [`NODE_TIMEOUT`]. The requests continue in the background.
async fn query_nodes<T, F>(
    nodes: &LockNodes,
    ask: impl Fn(Connection) -> F + Clone + Send + 'static,
    enough: usize,
) -> Result<Vec<T>, NoMajority>
where
    T: Send + 'static,
    F: Future<Output = RedisResult<T>> + Send + 'static,
{
    let mut asked: FuturesUnordered<_> = (0..nodes.nodes().len())
        .map(|index| {
            let (nodes, ask) = (nodes.nodes().clone(), ask.clone());
            tokio::spawn(async move { nodes[index].client.run(ask).await })
        })
        .collect();
    let mut answered: Vec<T> = Vec::new();
    let listen = async {
        while answered.len() < enough
            && let Some(answer) = asked.next().await
        {
            let answer: Result<Result<T, CommandError>, _> = answer;
            answered.extend(answer.ok().and_then(Result::ok));
        }
    };
    let _ = timeout(NODE_TIMEOUT, listen).await;
    if answered.len() < nodes.majority() {
        return Err(NoMajority {
            answered: answered.len(),
            nodes: nodes.nodes().len(),
            needed: nodes.majority(),
        });
    }
    Ok(answered)
}
