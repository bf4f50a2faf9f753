//! Keeps a map of the Cluster true.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Client, ConnectionAddr, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::slots::{self, Place, SlotMap};
use crate::connection::server::Server;

/// How often the map is drawn anew while all is well.
const EVERY: Duration = Duration::from_secs(1);
/// How often while commands fail.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// How long one node gets to tell its map before another one is asked.
const PATIENCE: Duration = Duration::from_millis(300);

/// A map, and the node that told it.
pub(super) struct Told {
    pub(super) map: SlotMap,
    pub(super) by: Place,
}

/// Draws the map again and again, at once when it is doubted.
pub(super) async fn draw(
    named: Arc<[Client]>,
    drawn: watch::Sender<Option<Arc<Told>>>,
    doubt: Arc<Notify>,
    switches: Arc<AtomicU64>,
) {
    let mut servers: HashMap<Place, Server> = HashMap::new();
    let mut is_lost = false;
    for turn in 0.. {
        let former = drawn.borrow().clone();
        let known = former.iter().flat_map(|told| told.map.nodes().cloned());
        let mut places: Vec<Place> = named.iter().map(place).chain(known).collect();
        places.sort_unstable();
        places.dedup();
        // Another one each time: a node that is cut off knows an old map.
        let first = turn % places.len();
        places.rotate_left(first);
        servers.retain(|place, _| places.contains(place));
        match find(&named[0], &places, &mut servers).await {
            Ok(told) => {
                if std::mem::take(&mut is_lost) {
                    info!("nodes of the Cluster answer again");
                }
                if former.is_some_and(|former| !former.map.has_masters_of(&told.map)) {
                    info!("the Cluster has other masters");
                    // First: no command reaches them before they count.
                    switches.fetch_add(1, Ordering::AcqRel);
                }
                drawn.send_replace(Some(Arc::new(told)));
            }
            Err(error) => {
                if !std::mem::replace(&mut is_lost, true) {
                    warn!(%error, "no node of the Cluster answers");
                }
            }
        }
        sleep(AT_MOST_EVERY).await;
        if !is_lost {
            let _ = timeout(EVERY, doubt.notified()).await;
        }
    }
}

/// The map of the first node that tells one.
async fn find(
    named: &Client,
    places: &[Place],
    servers: &mut HashMap<Place, Server>,
) -> RedisResult<Told> {
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    let mut last = slots::unserved();
    for place in places {
        if !servers.contains_key(place) {
            servers.insert(place.clone(), Server::new(client_at(named, place)?)?);
        }
        let mut node = servers[place].current();
        let told = match timeout(PATIENCE, node.req_packed_command(&question)).await {
            Ok(answer) => answer.and_then(Value::extract_error),
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        };
        match told.and_then(|answer| SlotMap::read(answer, &place.0)) {
            Ok(map) => {
                let by = place.clone();
                return Ok(Told { map, by });
            }
            Err(error) => {
                // What it was about the login would be remembered.
                servers.remove(place);
                last = error;
            }
        }
    }
    Err(last)
}

fn place(client: &Client) -> Place {
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            (host.clone(), *port)
        }
        _ => Place::default(),
    }
}

/// Another node of the same Cluster.
pub(super) fn client_at(named: &Client, (host, port): &Place) -> RedisResult<Client> {
    let info = named.get_connection_info();
    let mut addr = info.addr().clone();
    match &mut addr {
        ConnectionAddr::Tcp(named, at)
        | ConnectionAddr::TcpTls {
            host: named,
            port: at,
            ..
        } => {
            named.clone_from(host);
            *at = *port;
        }
        _ => {}
    }
    Client::open(info.clone().set_addr(addr))
}
