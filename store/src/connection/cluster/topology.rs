//! Keeps the slot map of a Cluster current.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Client, ConnectionAddr, RedisResult, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::slots::{self, NodeAddress, SlotMap};
use crate::connection::server::Server;

/// How often the map is refreshed in normal operation.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is refreshed while commands fail.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// How long one node may take to report its map before the next one is asked.
const NODE_TIMEOUT: Duration = Duration::from_millis(300);

/// A slot map and the node that reported it.
pub(super) struct ReportedMap {
    pub(super) map: SlotMap,
    pub(super) reporter: NodeAddress,
}

/// Refreshes the map at intervals, and at once on request.
pub(super) async fn watch_slot_map(
    named: Arc<[Client]>,
    map_sender: watch::Sender<Option<Arc<ReportedMap>>>,
    refresh_now: Arc<Notify>,
    switches: Arc<AtomicU64>,
) {
    let mut servers: HashMap<NodeAddress, Server> = HashMap::new();
    let mut is_lost = false;
    for next_index in 0.. {
        let previous = map_sender.borrow().clone();
        let known = previous
            .iter()
            .flat_map(|reported| reported.map.nodes().cloned());
        let mut addresses: Vec<NodeAddress> = named.iter().map(address).chain(known).collect();
        addresses.sort_unstable();
        addresses.dedup();
        // Start with another node each time, because a partitioned node reports an old map.
        let first = next_index % addresses.len();
        addresses.rotate_left(first);
        servers.retain(|address, _| addresses.contains(address));
        match find(&named[0], &addresses, &mut servers).await {
            Ok(reported) => {
                if std::mem::take(&mut is_lost) {
                    info!("nodes of the Cluster answer again");
                }
                if previous.is_some_and(|previous| !previous.map.has_masters_of(&reported.map)) {
                    info!("the masters of the Cluster changed");
                    // Count first, so that no command reaches the new masters before the count changes.
                    switches.fetch_add(1, Ordering::AcqRel);
                }
                map_sender.send_replace(Some(Arc::new(reported)));
            }
            Err(error) => {
                if !std::mem::replace(&mut is_lost, true) {
                    warn!(%error, "no node of the Cluster answers");
                }
            }
        }
        sleep(MIN_INTERVAL).await;
        if !is_lost {
            let _ = timeout(POLL_INTERVAL, refresh_now.notified()).await;
        }
    }
}

/// The map of the first node that reports one.
async fn find(
    named: &Client,
    addresses: &[NodeAddress],
    servers: &mut HashMap<NodeAddress, Server>,
) -> RedisResult<ReportedMap> {
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    let mut last = slots::no_node_error();
    for address in addresses {
        if !servers.contains_key(address) {
            servers.insert(address.clone(), Server::new(client_at(named, address)?)?);
        }
        let mut node = servers[address].current();
        let reported = match timeout(NODE_TIMEOUT, node.req_packed_command(&question)).await {
            Ok(answer) => answer.and_then(Value::extract_error),
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        };
        match reported.and_then(|answer| SlotMap::read(answer, &address.0)) {
            Ok(map) => {
                let reporter = address.clone();
                return Ok(ReportedMap { map, reporter });
            }
            Err(error) => {
                // The library would cache an error of the login.
                servers.remove(address);
                last = error;
            }
        }
    }
    Err(last)
}

fn address(client: &Client) -> NodeAddress {
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            (host.clone(), *port)
        }
        _ => NodeAddress::default(),
    }
}

/// A client of another node of the same Cluster.
pub(super) fn client_at(named: &Client, (host, port): &NodeAddress) -> RedisResult<Client> {
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
