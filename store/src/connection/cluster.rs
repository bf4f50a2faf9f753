//! The nodes of a Redis Cluster: each key's commands go to the master of its slot.
//!
//! The library has a Cluster connection of its own. While it finds out where slots have moved to,
//! it answers nobody, and with a master gone it was seen to hang itself up. Here every node has a
//! connection of its own, and the map is drawn beside them: one master's end is of no concern to
//! the others.

mod follow;
mod slots;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::{Client, Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::server::{Server, address};
use follow::{Told, client_at};
use slots::{Place, Redirect};

/// A question is sent on this often: more than a slot ever moves while it is under way.
const REDIRECTS: usize = 4;

/// Cheap to clone.
#[derive(Clone)]
pub struct Nodes {
    /// Those that the URL names. All nodes are logged in to like the first.
    named: Arc<[Client]>,
    map: watch::Receiver<Option<Arc<Told>>>,
    servers: Arc<Mutex<HashMap<Place, Server>>>,
    doubt: Arc<Notify>,
    turn: Arc<AtomicUsize>,
    switches: Arc<AtomicU64>,
    _follower: Arc<Follower>,
}

struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nodes {
    pub(super) fn start(named: Vec<Client>) -> Self {
        let named: Arc<[Client]> = named.into();
        let (drawn, map) = watch::channel(None);
        let doubt = Arc::new(Notify::new());
        let switches: Arc<AtomicU64> = Arc::default();
        let drawing = follow::draw(named.clone(), drawn, doubt.clone(), switches.clone());
        let follower = tokio::spawn(drawing);
        Self {
            named,
            map,
            servers: Arc::default(),
            doubt,
            turn: Arc::default(),
            switches,
            _follower: Arc::new(Follower(follower)),
        }
    }

    /// The same nodes, over other connections.
    pub(super) fn apart(&self) -> Self {
        Self {
            servers: Arc::default(),
            ..self.clone()
        }
    }

    /// A command failed in a way that another map would explain: draws it at once.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// How often slots had another master than before.
    pub(super) fn switches(&self) -> u64 {
        self.switches.load(Ordering::Acquire)
    }

    /// One of the named nodes after the other.
    pub(super) fn next(&self) -> Client {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.named[turn % self.named.len()].clone()
    }

    /// Sends commands of one slot to its master, and on to where that sends them. All of them
    /// again, if it is not the master of one.
    pub(super) async fn send(
        &self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let slot = pipeline.cmd_iter().find_map(slots::of_command);
        let mut redirect = Redirect {
            to: self.place_of(slot).await?,
            is_ask: false,
        };
        for _ in 0..REDIRECTS {
            let server = self.server(&redirect.to)?;
            let mut node = server.current();
            let answers = if redirect.is_ask {
                ask(&mut node, pipeline).await
            } else {
                node.req_packed_commands(pipeline, offset, count).await
            };
            if let Err(error) = &answers {
                server.learn_from(error);
            }
            match elsewhere(&answers, &redirect.to.0) {
                None => return answers,
                Some(next) => redirect = next,
            }
            if !redirect.is_ask {
                self.doubt();
            }
        }
        Err(slots::unserved())
    }

    /// The master of a slot; for a command without a key the node that answered last.
    async fn place_of(&self, slot: Option<u16>) -> RedisResult<Place> {
        let told = self.told().await?;
        match slot {
            Some(slot) => told.map.master(slot).cloned().ok_or_else(slots::unserved),
            None => Ok(told.by.clone()),
        }
    }

    /// Every master; waits for the first map.
    pub(super) async fn masters(&self) -> RedisResult<Vec<Server>> {
        let told = self.told().await?;
        told.map
            .masters()
            .iter()
            .map(|place| self.server(place))
            .collect()
    }

    async fn told(&self) -> RedisResult<Arc<Told>> {
        let mut map = self.map.clone();
        let Ok(told) = map.wait_for(Option::is_some).await.map(|told| told.clone()) else {
            // The follower ends with the runtime, and this with it.
            return std::future::pending().await;
        };
        told.ok_or_else(slots::unserved)
    }

    fn server(&self, place: &Place) -> RedisResult<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(place) {
            return Ok(server.clone());
        }
        let server = Server::new(client_at(&self.named[0], place)?)?;
        servers.insert(place.clone(), server.clone());
        Ok(server)
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.named.iter().map(address))
            .finish()
    }
}

/// Where a node says that one of the commands belongs.
fn elsewhere(answers: &RedisResult<Vec<Value>>, host: &str) -> Option<Redirect> {
    match answers {
        Ok(answers) => answers.iter().find_map(|answer| match answer {
            Value::ServerError(error) => Redirect::read(&RedisError::from(error.clone()), host),
            _ => None,
        }),
        Err(error) => Redirect::read(error, host),
    }
}

/// Sends commands to a node that their slot is still on its way to.
async fn ask(node: &mut ConnectionManager, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    let mut asking = redis::pipe();
    for command in pipeline.cmd_iter() {
        asking.cmd("ASKING").add_command(command.clone());
    }
    let answers = node.req_packed_commands(&asking, 0, asking.len()).await?;
    Ok(answers.into_iter().skip(1).step_by(2).collect())
}

/// One command as a pipeline.
pub(super) fn single(command: &Cmd) -> Pipeline {
    let mut pipeline = redis::pipe();
    pipeline.add_command(command.clone());
    pipeline
}
