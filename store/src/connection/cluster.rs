//! A client of a Redis Cluster. Each command goes to the master of its key's slot.
//!
//! The Cluster connection of `redis` answers no command while it looks for moved slots, and it was observed to
//! hang after the loss of a master. Here each node has its own connection, and a separate task refreshes the
//! slot map. The loss of one master does not affect the others.

mod slots;
mod topology;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::{Client, Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::server::{Server, address};
use slots::{NodeAddress, Redirect};
use topology::{ReportedMap, client_at};

/// The most redirects that one request follows. A slot never moves this often during a request.
const REDIRECTS: usize = 4;

/// A client of all nodes. Cheap to clone.
#[derive(Clone)]
pub struct ClusterClient {
    /// The nodes in the URL. The login of the first applies to all nodes.
    named: Arc<[Client]>,
    map: watch::Receiver<Option<Arc<ReportedMap>>>,
    servers: Arc<Mutex<HashMap<NodeAddress, Server>>>,
    refresh_now: Arc<Notify>,
    next_index: Arc<AtomicUsize>,
    switches: Arc<AtomicU64>,
    _task: Arc<BackgroundTask>,
}

struct BackgroundTask(JoinHandle<()>);

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ClusterClient {
    pub(super) fn start(named: Vec<Client>) -> Self {
        let named: Arc<[Client]> = named.into();
        let (map_sender, map) = watch::channel(None);
        let refresh_now = Arc::new(Notify::new());
        let switches: Arc<AtomicU64> = Arc::default();
        let watching = topology::watch_slot_map(
            named.clone(),
            map_sender,
            refresh_now.clone(),
            switches.clone(),
        );
        let task = tokio::spawn(watching);
        Self {
            named,
            map,
            servers: Arc::default(),
            refresh_now,
            next_index: Arc::default(),
            switches,
            _task: Arc::new(BackgroundTask(task)),
        }
    }

    /// The same nodes over separate connections.
    pub(super) fn with_own_connections(&self) -> Self {
        Self {
            servers: Arc::default(),
            ..self.clone()
        }
    }

    /// Requests a new slot map at once, after an error that another map would explain.
    pub(super) fn refresh_soon(&self) {
        self.refresh_now.notify_one();
    }

    /// How often a slot got another master.
    pub(super) fn switches(&self) -> u64 {
        self.switches.load(Ordering::Acquire)
    }

    /// The next node of the URL, in turn.
    pub(super) fn next(&self) -> Client {
        let next_index = self.next_index.fetch_add(1, Ordering::Relaxed);
        self.named[next_index % self.named.len()].clone()
    }

    /// Sends commands of one slot to its master and follows redirects. If one command is redirected, all are
    /// sent again.
    pub(super) async fn send(
        &self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let slot = pipeline.cmd_iter().find_map(slots::slot_of_command);
        let mut redirect = Redirect {
            to: self.address_of_slot(slot).await?,
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
                server.handle_error(error);
            }
            match redirect_of(&answers, &redirect.to.0) {
                None => return answers,
                Some(next) => redirect = next,
            }
            if !redirect.is_ask {
                self.refresh_soon();
            }
        }
        Err(slots::no_node_error())
    }

    /// The master of a slot. A command without a key goes to the node that reported the current map.
    async fn address_of_slot(&self, slot: Option<u16>) -> RedisResult<NodeAddress> {
        let reported = self.reported().await?;
        match slot {
            Some(slot) => reported
                .map
                .master(slot)
                .cloned()
                .ok_or_else(slots::no_node_error),
            None => Ok(reported.reporter.clone()),
        }
    }

    /// Every master. Waits for the first map.
    pub(super) async fn masters(&self) -> RedisResult<Vec<Server>> {
        let reported = self.reported().await?;
        reported
            .map
            .masters()
            .iter()
            .map(|address| self.server(address))
            .collect()
    }

    async fn reported(&self) -> RedisResult<Arc<ReportedMap>> {
        let mut map = self.map.clone();
        let Ok(reported) = map
            .wait_for(Option::is_some)
            .await
            .map(|reported| reported.clone())
        else {
            // The task ends with the runtime, and so does this call.
            return std::future::pending().await;
        };
        reported.ok_or_else(slots::no_node_error)
    }

    fn server(&self, address: &NodeAddress) -> RedisResult<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(address) {
            return Ok(server.clone());
        }
        let server = Server::new(client_at(&self.named[0], address)?)?;
        servers.insert(address.clone(), server.clone());
        Ok(server)
    }
}

impl fmt::Debug for ClusterClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.named.iter().map(address))
            .finish()
    }
}

/// The redirect in an answer, if one command belongs to another node.
fn redirect_of(answers: &RedisResult<Vec<Value>>, host: &str) -> Option<Redirect> {
    match answers {
        Ok(answers) => answers.iter().find_map(|answer| match answer {
            Value::ServerError(error) => Redirect::read(&RedisError::from(error.clone()), host),
            _ => None,
        }),
        Err(error) => Redirect::read(error, host),
    }
}

/// Sends commands to a node that is importing their slot.
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
