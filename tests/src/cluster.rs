//! A Redis Cluster: three masters, each with a replica.

use std::time::Duration;

use crate::deployed::{Secrets, Topology, local};
use crate::port;
use crate::redis::{Login, Redis};
use crate::wait::{holds, until};

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub struct Cluster {
    /// The initial masters, then their replicas in the same order.
    pub nodes: Vec<Redis>,
    operator: Login,
}

impl Topology for Cluster {
    const PORTS: usize = 2 * MASTERS;

    fn authority(ports: &[u16]) -> String {
        format!("redis-cluster://{}", local(ports))
    }

    async fn start(ports: &[u16], secrets: &Secrets) -> Self {
        let operator = secrets.operator();
        let buses: Vec<u16> = ports.iter().map(|_| port::free()).collect();
        let mut nodes = Vec::new();
        for (port, bus) in ports.iter().zip(&buses) {
            nodes.push(start_node(*port, *bus, secrets).await);
        }
        let cluster = Self { nodes, operator };
        cluster.meet(&buses).await;
        cluster
    }
}

impl Cluster {
    /// The initial master of a slot.
    #[must_use]
    pub fn master_of(&self, slot: usize) -> usize {
        let is_before = |master: &usize| slot < (master + 1) * SLOTS / MASTERS;
        (0..MASTERS).find(is_before).unwrap_or(MASTERS - 1)
    }

    /// Whether this node is a master.
    pub async fn is_master(&self, node: usize) -> bool {
        self.run(node, &["ROLE"]).await.starts_with("master")
    }

    /// Runs a command at a node, as the operator.
    pub async fn run(&self, node: usize, command: &[&str]) -> String {
        self.nodes[node].cli(&self.operator, command).await
    }

    /// Waits until each of these nodes reports that all slots are served.
    pub async fn wait_until_complete(&self, nodes: &[usize]) {
        for node in nodes {
            until("a complete cluster", PATIENCE, || async {
                let reply = self.run(*node, &["CLUSTER", "INFO"]).await;
                let is_complete = reply.contains("cluster_state:ok")
                    && reply.contains("cluster_slots_ok:16384")
                    && reply.contains("cluster_slots_pfail:0");
                holds(is_complete, reply)
            })
            .await;
        }
    }

    /// Makes the nodes one cluster, as `redis-cli --cluster create` does.
    async fn meet(&self, buses: &[u16]) {
        for master in 0..MASTERS {
            let range = slots_of(master, MASTERS);
            let slots = ["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]];
            self.run(master, &slots).await;
            let epoch = (master + 1).to_string();
            self.run(master, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                .await;
        }
        for (node, bus) in self.nodes.iter().zip(buses).skip(1) {
            let at = [node.port(), *bus].map(|port| port.to_string());
            self.run(0, &["CLUSTER", "MEET", "127.0.0.1", &at[0], &at[1]])
                .await;
        }
        for node in 0..self.nodes.len() {
            until("nodes that know each other", PATIENCE, || async {
                let known = self.run(node, &["CLUSTER", "NODES"]).await;
                let is_complete = known.lines().count() == self.nodes.len()
                    && known.matches("connected").count() == self.nodes.len()
                    && !known.contains("disconnected")
                    && !known.contains("handshake");
                holds(is_complete, known)
            })
            .await;
        }
        for master in 0..MASTERS {
            let id = self.run(master, &["CLUSTER", "MYID"]).await;
            self.run(MASTERS + master, &["CLUSTER", "REPLICATE", &id])
                .await;
        }
        for master in 0..MASTERS {
            self.wait_for_replica(master).await;
        }
        self.wait_until_complete(&(0..self.nodes.len()).collect::<Vec<_>>())
            .await;
    }

    /// Waits until a replica of this master is in sync.
    pub async fn wait_for_replica(&self, master: usize) {
        until("a replica in sync", PATIENCE, || async {
            let reply = self.run(master, &["INFO", "replication"]).await;
            holds(reply.contains("state=online"), reply)
        })
        .await;
    }
}

async fn start_node(port: u16, bus: u16, secrets: &Secrets) -> Redis {
    let (replicated, bus) = (secrets.replicated(), bus.to_string());
    let mut args: Vec<&str> = replicated.iter().map(String::as_str).collect();
    args.extend(["--cluster-enabled", "yes", "--cluster-port", &bus]);
    args.extend([
        "--cluster-node-timeout",
        "1000",
        "--cluster-config-file",
        "nodes.conf",
    ]);
    // Keep serving the slots of two masters without those of the third.
    args.extend(["--cluster-require-full-coverage", "no"]);
    // Let a replica take over even after a long disconnection.
    args.extend(["--cluster-replica-validity-factor", "0"]);
    Redis::start_at(port, &args).await
}

/// The first and the last slot of a master, if there are this many masters.
pub(crate) fn slots_of(master: usize, masters: usize) -> [String; 2] {
    let (first, next) = (master * SLOTS / masters, (master + 1) * SLOTS / masters);
    [first, next - 1].map(|slot| slot.to_string())
}
