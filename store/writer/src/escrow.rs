//! A second place for GHL's answers until the store has them: the lock nodes.
//!
//! The journal outlives its broker's process, the escrow its host: whoever takes an installation
//! over finds the answer there, sealed. One entry an attempt, so that none replaces another.

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
use crate::journal::Entry;
use crate::lock_nodes::LockNodes;

/// Longer than anybody leaves all brokers off, shorter than a refresh token lives.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a node that is slow is waited for. Its majority answers in a millisecond.
const PATIENCE: Duration = Duration::from_millis(500);

/// Keeps answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Escrow(Place);

#[derive(Debug, Clone)]
enum Place {
    None,
    Nodes(LockNodes),
    #[cfg(feature = "simulation")]
    Simulated(std::sync::Arc<dyn crate::simulation::Shelf>),
}

/// Fewer than a majority of the lock nodes answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{answered} of {nodes} lock nodes answered, {needed} are needed")]
pub struct NoMajority {
    pub answered: usize,
    pub nodes: usize,
    pub needed: usize,
}

impl Escrow {
    #[must_use]
    pub fn over(nodes: LockNodes) -> Self {
        Self(Place::Nodes(nodes))
    }

    /// Where there is no other place than the store: in one process, or without lock nodes.
    #[must_use]
    pub fn none() -> Self {
        Self(Place::None)
    }

    /// On simulated lock nodes.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulated(shelf: std::sync::Arc<dyn crate::simulation::Shelf>) -> Self {
        Self(Place::Simulated(shelf))
    }

    /// Whether there is such a place.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        match self.0 {
            Place::None => false,
            Place::Nodes(_) => true,
            #[cfg(feature = "simulation")]
            Place::Simulated(_) => true,
        }
    }

    /// Keeps an answer. Returns once a majority has it; the others get it all the same.
    ///
    /// # Errors
    /// When no majority took it.
    pub async fn keep(&self, entry: &Entry) -> Result<(), NoMajority> {
        let nodes = match &self.0 {
            Place::None => return Ok(()),
            Place::Nodes(nodes) => nodes,
            #[cfg(feature = "simulation")]
            Place::Simulated(shelf) => return shelf.keep(entry).await,
        };
        let key = keys::escrow(&entry.installation);
        let mut keep = redis::pipe();
        keep.hset(&key, entry.intent.as_str(), entry.encode())
            .ignore();
        let ttl = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
        keep.pexpire(&key, ttl).ignore();
        let ask = move |mut redis: Connection| {
            let keep = keep.clone();
            async move { keep.query_async::<()>(&mut redis).await }
        };
        let needed = nodes.majority();
        answers(nodes, ask, needed).await.map(|_| ())
    }

    /// What is kept of an installation, as far as any node that answers knows.
    ///
    /// # Errors
    /// When no majority answered: there may be more.
    pub async fn find(&self, id: &InstallationId) -> Result<Vec<Entry>, NoMajority> {
        let nodes = match &self.0 {
            Place::None => return Ok(Vec::new()),
            Place::Nodes(nodes) => nodes,
            #[cfg(feature = "simulation")]
            Place::Simulated(shelf) => return shelf.find(id).await,
        };
        let get = redis::Cmd::hgetall(keys::escrow(id));
        let ask = move |mut redis: Connection| {
            let get = get.clone();
            async move { get.query_async::<Kept>(&mut redis).await }
        };
        // Of all that answer: a node may have come back empty.
        let everyone = nodes.nodes().len();
        let mut found = BTreeMap::new();
        for kept in answers(nodes, ask, everyone).await? {
            found.extend(kept);
        }
        let entries = found.into_iter().filter_map(|(intent, value)| {
            let entry = Entry::decode(&intent, &value);
            if entry.is_none() {
                error!(installation = %id, intent, "an answer in escrow cannot be read");
            }
            entry
        });
        Ok(entries.collect())
    }

    /// The installations of which any node that answers keeps something.
    ///
    /// # Errors
    /// When no majority answered: there may be more.
    pub async fn installations(&self) -> Result<BTreeSet<InstallationId>, NoMajority> {
        let nodes = match &self.0 {
            Place::None => return Ok(BTreeSet::new()),
            Place::Nodes(nodes) => nodes,
            #[cfg(feature = "simulation")]
            Place::Simulated(shelf) => return shelf.installations().await,
        };
        let everyone = nodes.nodes().len();
        let kept = answers(nodes, scan, everyone).await?;
        let ids = kept.iter().flatten().filter_map(|key| keys::escrowed(key));
        Ok(ids.collect())
    }

    /// Forgets an answer that the store has. What a node misses of it runs out by itself, and
    /// changes nothing when it is found before.
    pub fn forget(&self, id: &InstallationId, intent: &IntentId) {
        let nodes = match &self.0 {
            Place::None => return,
            Place::Nodes(nodes) => nodes.clone(),
            #[cfg(feature = "simulation")]
            Place::Simulated(shelf) => return shelf.forget(id, intent),
        };
        let remove = redis::Cmd::hdel(keys::escrow(id), intent.as_str());
        tokio::spawn(async move {
            let ask = move |mut redis: Connection| {
                let remove = remove.clone();
                async move { remove.query_async::<()>(&mut redis).await }
            };
            let everyone = nodes.nodes().len();
            answers(&nodes, ask, everyone).await.map(|_| ())
        });
    }
}

/// The names of all that one node keeps: few, since most is forgotten within milliseconds.
async fn scan(mut redis: Connection) -> RedisResult<Vec<String>> {
    let (mut names, mut cursor) = (Vec::new(), 0_u64);
    loop {
        let mut page = redis::cmd("SCAN");
        page.arg(cursor)
            .arg("MATCH")
            .arg(keys::ESCROWED)
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

/// What one node keeps of one installation, by attempt.
type Kept = BTreeMap<String, Vec<u8>>;

/// Asks all nodes at once, and returns what they answered as soon as `enough` did, or all did, or
/// patience ends. Whoever was asked is heard to the end.
async fn answers<T, F>(
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
            tokio::spawn(async move { nodes[index].link.run(ask).await })
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
    let _ = timeout(PATIENCE, listen).await;
    if answered.len() < nodes.majority() {
        return Err(NoMajority {
            answered: answered.len(),
            nodes: nodes.nodes().len(),
            needed: nodes.majority(),
        });
    }
    Ok(answered)
}
