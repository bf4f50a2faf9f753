//! Stores with several servers, each on its own host, whose network can be partitioned.

use std::process::Output;
use std::time::Duration;

use crate::cluster::slots_of;
use crate::deployed::{Secrets, Topology};
use crate::hosts::Hosts;
use crate::program::{Program, Start};
use crate::redis::Login;
use crate::scratch::Scratch;
use crate::sentinel;
use crate::wait::{holds, until};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
const PATIENCE: Duration = Duration::from_secs(60);

/// A store whose hosts can be separated into two sides.
pub trait Split: Topology + Sync {
    /// The hosts on the old master's side.
    const OLD_SIDE: &[usize];
    /// The server on the other side that takes over.
    const NEXT: usize;

    fn servers(&self) -> &Servers;
    fn hosts(&mut self) -> &mut Hosts;
}

/// A master with a replica and a Sentinel on one side, two replicas and two Sentinels on the other.
#[derive(Debug)]
pub struct SplitSentinel {
    servers: Servers,
    _sentinels: Vec<Program>,
}

/// Three masters. The first one has a replica on its own side and one on the other.
#[derive(Debug)]
pub struct SplitCluster {
    servers: Servers,
}

/// One server on each host.
#[derive(Debug)]
pub struct Servers {
    pub hosts: Hosts,
    operator: Login,
    programs: Vec<Program>,
    scratch: Scratch,
}

impl SplitSentinel {
    const SENTINELS: [usize; 3] = [0, 2, 3];
}

impl Split for SplitSentinel {
    const OLD_SIDE: &[usize] = &[0, 1];
    const NEXT: usize = 2;

    fn servers(&self) -> &Servers {
        &self.servers
    }

    fn hosts(&mut self) -> &mut Hosts {
        &mut self.servers.hosts
    }
}

impl Topology for SplitSentinel {
    const PORTS: usize = 0;

    fn authority(_: &[u16]) -> String {
        let sentinels =
            Self::SENTINELS.map(|host| format!("{}:{SENTINEL_PORT}", Hosts::address(host)));
        format!(
            "redis-sentinel://{}/{}",
            sentinels.join(","),
            sentinel::NAME
        )
    }

    async fn start(_: &[u16], secrets: &Secrets) -> Self {
        let master = Hosts::address(0);
        let mut servers = Servers::on(Hosts::start(4).await, secrets);
        let writes = [
            "--min-replicas-to-write",
            "1",
            "--min-replicas-max-lag",
            "2",
        ];
        servers.start(0, secrets, &writes).await;
        // Sentinels prefer a lower number.
        for (host, priority) in [(1, "100"), (Self::NEXT, "100"), (3, "200")] {
            let follows = ["--replicaof", &master, &PORT.to_string()];
            let args = [&writes[..], &follows, &["--replica-priority", priority]].concat();
            servers.start(host, secrets, &args).await;
        }
        servers.wait_for_replicas(0, 3).await;
        let mut sentinels = Vec::new();
        for host in Self::SENTINELS {
            let address = Hosts::address(host);
            let text = sentinel::configuration(&address, SENTINEL_PORT, (&master, PORT), secrets);
            let start = sentinel::sentinel(&text, &servers.scratch, &host.to_string());
            let program = servers.hosts.on(host, start).spawn();
            program.wait_for_line(&["+monitor master"], PATIENCE).await;
            sentinels.push(program);
        }
        for host in Self::SENTINELS {
            until("Sentinels that know each other", PATIENCE, || async {
                let question = ["SENTINEL", "CKQUORUM", sentinel::NAME];
                let reply = servers.ask((host, SENTINEL_PORT), false, &question).await;
                holds(reply.starts_with("OK 3 usable"), reply)
            })
            .await;
        }
        Self {
            servers,
            _sentinels: sentinels,
        }
    }
}

impl SplitCluster {
    const MASTERS: usize = 3;
    /// Each replica, and its master.
    const REPLICAS: [(usize, usize); 4] = [(3, 0), (4, 0), (5, 1), (6, 2)];
}

impl Split for SplitCluster {
    const OLD_SIDE: &[usize] = &[0, 3];
    const NEXT: usize = 4;

    fn servers(&self) -> &Servers {
        &self.servers
    }

    fn hosts(&mut self) -> &mut Hosts {
        &mut self.servers.hosts
    }
}

impl Topology for SplitCluster {
    const PORTS: usize = 0;

    fn authority(_: &[u16]) -> String {
        let hosts = 0..Self::MASTERS + Self::REPLICAS.len();
        let all: Vec<String> = hosts
            .map(|host| format!("{}:{PORT}", Hosts::address(host)))
            .collect();
        format!("redis-cluster://{}", all.join(","))
    }

    async fn start(_: &[u16], secrets: &Secrets) -> Self {
        let all = Self::MASTERS + Self::REPLICAS.len();
        let mut servers = Servers::on(Hosts::start(all).await, secrets);
        // Long enough for refreshes on the old master's side of a partition.
        let mut args = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
        args.extend(["--cluster-require-full-coverage", "no"]);
        for host in 0..all {
            servers.start(host, secrets, &args).await;
        }
        servers.make_cluster(Self::MASTERS, &Self::REPLICAS).await;
        Self { servers }
    }
}

impl Servers {
    fn on(hosts: Hosts, secrets: &Secrets) -> Self {
        Self {
            hosts,
            operator: secrets.operator(),
            programs: Vec::new(),
            scratch: Scratch::new(),
        }
    }

    async fn start(&mut self, host: usize, secrets: &Secrets, args: &[&str]) {
        let directory = self.scratch.path().join(host.to_string());
        std::fs::create_dir(&directory).expect("a directory of our own");
        let start = Start::new("redis-server")
            .args(&["--port", &PORT.to_string(), "--bind", &Hosts::address(host)])
            .args(&[
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .args(&["--dir", &directory.display().to_string()])
            .args(&secrets.replicated())
            .args(args);
        let program = self.hosts.on(host, start).spawn();
        program
            .wait_for_line(&["Ready to accept connections"], PATIENCE)
            .await;
        self.programs.push(program);
    }

    /// Runs a command at one of the servers, as the operator.
    pub async fn run(&self, host: usize, command: &[&str]) -> String {
        self.ask((host, PORT), true, command).await
    }

    /// Whether this server is a master.
    pub async fn is_master(&self, host: usize) -> bool {
        // A server that becomes a replica closes all connections.
        let role = until("the role of a server", PATIENCE, || async {
            let answer = self.answer((host, PORT), true, &["ROLE"]).await;
            answer.map_err(|output| format!("{output:?}"))
        });
        role.await.starts_with("master")
    }

    async fn wait_for_replicas(&self, master: usize, count: usize) {
        until("replicas in sync", PATIENCE, || async {
            let reply = self.run(master, &["INFO", "replication"]).await;
            holds(reply.matches("state=online").count() == count, reply)
        })
        .await;
    }

    /// # Panics
    /// If the server does not answer.
    async fn ask(&self, at: (usize, u16), is_user: bool, command: &[&str]) -> String {
        let answer = self.answer(at, is_user, command).await;
        answer.unwrap_or_else(|output| panic!("{command:?} at {}: {output:?}", at.0))
    }

    /// # Errors
    /// The output of redis-cli, if the server did not answer.
    async fn answer(
        &self,
        (host, port): (usize, u16),
        is_user: bool,
        command: &[&str],
    ) -> Result<String, Output> {
        let mut start =
            Start::new("redis-cli").args(&["-h", &Hosts::address(host), "-p", &port.to_string()]);
        if is_user {
            start = start.env("REDISCLI_AUTH", &self.operator.password).args(&[
                "--user",
                &self.operator.user,
                "--no-auth-warning",
            ]);
        }
        let output = self.hosts.on(host, start.args(command)).run().await;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(output),
        }
    }

    async fn make_cluster(&self, masters: usize, replicas: &[(usize, usize)]) {
        let (port, all) = (PORT.to_string(), masters + replicas.len());
        for master in 0..masters {
            let range = slots_of(master, masters);
            let slots = ["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]];
            self.run(master, &slots).await;
            let epoch = (master + 1).to_string();
            self.run(master, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                .await;
        }
        for host in 1..all {
            let meet = ["CLUSTER", "MEET", &Hosts::address(host), &port];
            self.run(0, &meet).await;
        }
        for host in 0..all {
            until("nodes that know each other", PATIENCE, || async {
                let known = self.run(host, &["CLUSTER", "NODES"]).await;
                let is_so =
                    known.matches(" connected").count() == all && !known.contains("handshake");
                holds(is_so, known)
            })
            .await;
        }
        for (replica, master) in replicas {
            let id = self.run(*master, &["CLUSTER", "MYID"]).await;
            self.run(*replica, &["CLUSTER", "REPLICATE", &id]).await;
        }
        for master in 0..masters {
            let count = replicas.iter().filter(|(_, of)| *of == master).count();
            self.wait_for_replicas(master, count).await;
        }
        for host in 0..all {
            until("a complete cluster", PATIENCE, || async {
                let reply = self.run(host, &["CLUSTER", "INFO"]).await;
                let is_so =
                    reply.contains("cluster_state:ok") && reply.contains("cluster_slots_ok:16384");
                holds(is_so, reply)
            })
            .await;
        }
    }
}
