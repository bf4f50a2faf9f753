//! A master, two replicas, and three Sentinels that detect a failed master within a second or two.

use std::time::Duration;

use crate::deployed::{Secrets, Topology, local};
use crate::program::{Program, Start, wait_for_port};
use crate::redis::{Login, Redis, cli};
use crate::scratch::Scratch;
use crate::wait::{holds, until};

const SERVERS: usize = 3;
const SENTINELS: usize = 3;
/// The name of the master in the Sentinels.
pub(crate) const NAME: &str = "store";
/// Sentinels on an overloaded machine pause for 30 s.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub struct Sentinel {
    pub servers: Vec<Redis>,
    sentinels: Vec<u16>,
    operator: Login,
    _programs: Vec<Program>,
    _scratch: Scratch,
}

impl Topology for Sentinel {
    const PORTS: usize = SERVERS + SENTINELS;

    fn authority(ports: &[u16]) -> String {
        format!("redis-sentinel://{}/{NAME}", local(&ports[SERVERS..]))
    }

    async fn start(ports: &[u16], secrets: &Secrets) -> Self {
        let (servers, sentinels) = ports.split_at(SERVERS);
        let scratch = Scratch::new();
        let mut group = Self {
            servers: start_servers(servers, secrets).await,
            sentinels: sentinels.to_vec(),
            operator: secrets.operator(),
            _programs: Vec::new(),
            _scratch: scratch,
        };
        group.wait_for_replicas(0, SERVERS - 1).await;
        for port in sentinels {
            let program = start_sentinel(*port, servers[0], secrets, &group._scratch).await;
            group._programs.push(program);
        }
        for port in sentinels {
            until("Sentinels that know each other", PATIENCE, || async {
                let master = cli(*port, None, &["SENTINEL", "MASTER", NAME]).await;
                let lines: Vec<&str> = master.lines().collect();
                let has = |name: &str, count: usize| {
                    let count = count.to_string();
                    lines.windows(2).any(|pair| pair == [name, &count])
                };
                let is_so =
                    has("num-slaves", SERVERS - 1) && has("num-other-sentinels", SENTINELS - 1);
                holds(is_so, master)
            })
            .await;
        }
        group
    }
}

impl Sentinel {
    /// The index of the current master, according to the Sentinels.
    ///
    /// # Panics
    /// If the first Sentinel does not answer.
    pub async fn master(&self) -> usize {
        let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
        let address = cli(self.sentinels[0], None, &question).await;
        let port = address.lines().last().unwrap_or_default();
        let is_it = |server: &Redis| server.port().to_string() == port;
        self.servers
            .iter()
            .position(is_it)
            .expect("one of the servers")
    }

    /// Waits until the Sentinels name another master, and it has that role.
    pub async fn wait_for_failover(&self, from: usize) -> usize {
        let next = until("another master", PATIENCE, || async {
            let master = self.master().await;
            holds(master != from, master).map(|()| master)
        })
        .await;
        until("it to be one", PATIENCE, || async {
            let role = self.run(next, &["ROLE"]).await;
            holds(role.starts_with("master"), role)
        })
        .await;
        next
    }

    /// Starts a planned failover while the old master is alive.
    pub async fn fail_over(&self) {
        cli(self.sentinels[0], None, &["SENTINEL", "FAILOVER", NAME]).await;
    }

    /// Waits until at least this many replicas are in sync with the master.
    pub async fn wait_for_replicas(&self, master: usize, count: usize) {
        until("replicas in sync", PATIENCE, || async {
            let reply = self.run(master, &["INFO", "replication"]).await;
            let online = reply.matches("state=online").count();
            holds(online >= count, reply)
        })
        .await;
    }

    /// Runs a command at a server, as the operator.
    pub async fn run(&self, server: usize, command: &[&str]) -> String {
        self.servers[server].cli(&self.operator, command).await
    }
}

async fn start_servers(ports: &[u16], secrets: &Secrets) -> Vec<Redis> {
    let replicated = secrets.replicated();
    let master = ports[0].to_string();
    let mut servers = Vec::new();
    for port in ports {
        let mut args: Vec<&str> = replicated.iter().map(String::as_str).collect();
        args.extend([
            "--min-replicas-to-write",
            "1",
            "--min-replicas-max-lag",
            "2",
        ]);
        if *port != ports[0] {
            args.extend(["--replicaof", "127.0.0.1", &master]);
        }
        servers.push(Redis::start_at(*port, &args).await);
    }
    servers
}

/// A Sentinel writes to its configuration file, so each has its own.
async fn start_sentinel(port: u16, master: u16, secrets: &Secrets, scratch: &Scratch) -> Program {
    let text = configuration("127.0.0.1", port, ("127.0.0.1", master), secrets);
    let program = sentinel(&text, scratch, &port.to_string()).spawn();
    wait_for_port(port).await;
    program
}

/// A Sentinel with this configuration, in a file of this name.
///
/// # Panics
/// If the configuration cannot be written.
pub(crate) fn sentinel(text: &str, scratch: &Scratch, name: &str) -> Start {
    let file = scratch.join(&format!("sentinel-{name}.conf"));
    let directory = scratch.path().display();
    std::fs::write(&file, format!("dir {directory}\n{text}")).expect("a file of our own");
    // Debian packages `redis-sentinel` separately. It is the same program.
    Start::new("redis-server").args(&[file.as_str(), "--sentinel"])
}

/// A Sentinel's configuration: its address, and the initial master.
pub(crate) fn configuration(
    address: &str,
    port: u16,
    (master, master_port): (&str, u16),
    secrets: &Secrets,
) -> String {
    let password = secrets.read("sentinel-password");
    format!(
        "port {port}\nbind {address}\n\
         sentinel monitor {NAME} {master} {master_port} 2\n\
         sentinel auth-user {NAME} sentinel\nsentinel auth-pass {NAME} {password}\n\
         sentinel down-after-milliseconds {NAME} 700\n\
         sentinel failover-timeout {NAME} 3000\nsentinel parallel-syncs {NAME} 2\n"
    )
}
