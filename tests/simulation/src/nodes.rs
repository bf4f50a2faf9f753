//! Simulated lock nodes: leases, and responses in escrow. A node can be down, be partitioned from some
//! machines, and restart empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use store::InstallationId;
use store_writer::IntentId;
use store_writer::escrow::NoMajority;
use store_writer::journal::Entry;
use store_writer::lease::{LeaseValue, NotLeased};
use store_writer::simulation::{SimulatedEscrow, SimulatedLocks};

use super::network::{NetworkPath, Partitions, Peer};
use super::world::{World, lock};

pub(super) const NODES: usize = 3;
const MAJORITY: usize = NODES / 2 + 1;
/// The longest lease. A node that restarted empty takes no locks for this long.
const MEMORY: Duration = Duration::from_secs(27);

#[derive(Debug)]
pub(super) struct Nodes {
    world: World,
    nodes: Mutex<[Node; NODES]>,
}

#[derive(Debug, Default)]
struct Node {
    is_down: bool,
    /// Until when it may have lost a lock.
    suspect_until: Duration,
    locks: BTreeMap<InstallationId, (LeaseValue, Duration)>,
    shelf: BTreeMap<InstallationId, BTreeMap<String, Entry>>,
}

/// The reply of one node to a lock request.
enum LockReply {
    Granted,
    Held,
    /// The node responds, but may have lost a lock.
    MayHaveForgotten,
}

impl Nodes {
    pub(super) fn new(world: World) -> Self {
        Self {
            world,
            nodes: Mutex::default(),
        }
    }

    pub(super) fn set_down(&self, node: usize, is_down: bool) {
        lock(&self.nodes)[node].is_down = is_down;
    }

    /// Clears the node, as a restart does.
    pub(super) fn wipe(&self, node: usize) {
        let suspect_until = self.world.now() + MEMORY;
        lock(&self.nodes)[node] = Node {
            suspect_until,
            ..Node::default()
        };
    }

    /// The responses of an installation on any node.
    pub(super) fn kept(&self, id: &InstallationId) -> Vec<Entry> {
        let nodes = lock(&self.nodes);
        let shelves = nodes.iter().filter_map(|node| node.shelf.get(id));
        shelves.flat_map(BTreeMap::values).cloned().collect()
    }

    fn act<T>(&self, node: usize, act: impl FnOnce(&mut Node, Duration) -> T) -> Option<T> {
        let now = self.world.now();
        let node = &mut lock(&self.nodes)[node];
        (!node.is_down).then(|| act(node, now))
    }
}

/// The connection of one machine to the nodes.
#[derive(Debug, Clone)]
pub(super) struct NodeConnection {
    nodes: Arc<Nodes>,
    partitions: Partitions,
    machine: usize,
}

impl NodeConnection {
    pub(super) fn new(nodes: Arc<Nodes>, partitions: Partitions, machine: usize) -> Self {
        Self {
            nodes,
            partitions,
            machine,
        }
    }

    /// Runs `act` on all nodes. Returns the replies that arrived.
    async fn all<T: Send + 'static>(
        &self,
        act: impl Fn(&mut Node, Duration) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let answers = (0..NODES).map(|index| {
            let path = NetworkPath {
                world: self.nodes.world.clone(),
                partitions: self.partitions.clone(),
                machine: self.machine,
                peer: Peer::Node(index),
            };
            let (nodes, act) = (self.nodes.clone(), act.clone());
            async move { path.ask(move || nodes.act(index, act)).await }
        });
        join_all(answers).await.into_iter().flatten().collect()
    }
}

impl SimulatedLocks for NodeConnection {
    fn take<'a>(
        &'a self,
        installation: &'a InstallationId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<LeaseValue, NotLeased>> {
        Box::pin(async move {
            let (id, value) = (installation.clone(), LeaseValue::random());
            let wanted = value.clone();
            let replies = self.all(move |node, now| {
                if now < node.suspect_until {
                    return LockReply::MayHaveForgotten;
                }
                if node.locks.get(&id).is_some_and(|(_, until)| now < *until) {
                    return LockReply::Held;
                }
                node.locks.insert(id.clone(), (wanted.clone(), now + ttl));
                LockReply::Granted
            });
            let replies = replies.await;
            let count =
                |of: fn(&LockReply) -> bool| replies.iter().filter(|reply| of(reply)).count();
            let granted = count(|reply| matches!(reply, LockReply::Granted));
            if granted >= MAJORITY {
                return Ok(value);
            }
            self.end(installation, &value).await;
            let reachable = granted + count(|reply| matches!(reply, LockReply::Held));
            Err(if reachable >= MAJORITY {
                NotLeased::Held
            } else {
                NotLeased::Unreachable {
                    reachable,
                    nodes: NODES,
                    needed: MAJORITY,
                }
            })
        })
    }

    fn end<'a>(
        &'a self,
        installation: &'a InstallationId,
        value: &'a LeaseValue,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let (id, value) = (installation.clone(), value.clone());
            let ended = self.all(move |node, _| {
                if node.locks.get(&id).is_some_and(|(held, _)| *held == value) {
                    node.locks.remove(&id);
                }
            });
            ended.await;
        })
    }
}

fn no_majority(answered: usize) -> NoMajority {
    NoMajority {
        answered,
        nodes: NODES,
        needed: MAJORITY,
    }
}

impl SimulatedEscrow for NodeConnection {
    fn keep<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), NoMajority>> {
        Box::pin(async move {
            let entry = entry.clone();
            let kept = self.all(move |node, _| {
                let shelf = node.shelf.entry(entry.installation.clone()).or_default();
                shelf.insert(entry.intent.to_string(), entry.clone());
            });
            match kept.await.len() {
                MAJORITY.. => Ok(()),
                answered => Err(no_majority(answered)),
            }
        })
    }

    fn find<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Vec<Entry>, NoMajority>> {
        Box::pin(async move {
            let id = id.clone();
            let found = self.all(move |node, _| node.shelf.get(&id).cloned().unwrap_or_default());
            let found = found.await;
            if found.len() < MAJORITY {
                return Err(no_majority(found.len()));
            }
            let found: BTreeMap<String, Entry> = found.into_iter().flatten().collect();
            Ok(found.into_values().collect())
        })
    }

    fn installations(&self) -> BoxFuture<'_, Result<BTreeSet<InstallationId>, NoMajority>> {
        Box::pin(async move {
            let found = self.all(|node, _| {
                let kept = node.shelf.iter().filter(|(_, kept)| !kept.is_empty());
                kept.map(|(id, _)| id.clone()).collect::<Vec<_>>()
            });
            let found = found.await;
            if found.len() < MAJORITY {
                return Err(no_majority(found.len()));
            }
            Ok(found.into_iter().flatten().collect())
        })
    }

    fn forget(&self, id: &InstallationId, intent: &IntentId) {
        let (connection, id, intent) = (self.clone(), id.clone(), intent.clone());
        // The request is in flight, so the death of the broker does not stop it.
        tokio::spawn(async move {
            let forgotten = connection.all(move |node, _| {
                if let Some(shelf) = node.shelf.get_mut(&id) {
                    shelf.remove(intent.as_str());
                }
            });
            forgotten.await
        });
    }
}
