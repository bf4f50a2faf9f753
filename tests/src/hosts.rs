//! Hosts on a network that can be partitioned. Each host is a network namespace, attached to a bridge. Packets
//! across a partition are dropped silently, as in a real network.

use std::time::Duration;

use crate::program::{Program, Start};
use crate::scratch::Scratch;

/// Limits the lifetime of all processes, even if the test is killed.
const LONGEST: &str = "exec sleep 900";
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug)]
pub struct Hosts {
    /// Holds the namespace of both bridges.
    switch: Program,
    /// Each holds a host's namespace.
    hosts: Vec<Program>,
    /// Forward bytes between ports of the test and ports of hosts.
    forwarders: Vec<Program>,
    scratch: Scratch,
}

impl Hosts {
    /// Starts `count` hosts on one network.
    ///
    /// # Panics
    /// If a namespace or a link cannot be made.
    pub async fn start(count: usize) -> Self {
        let bridges = ["connected", "separated"]
            .map(|name| format!("ip link add {name} type bridge && ip link set {name} up"))
            .join(" && ");
        let make = format!("{bridges} && echo made && {LONGEST}");
        let switch = Start::new("unshare")
            .args(&["-Urn", "sh", "-c", &make])
            .spawn();
        switch.wait_for_line(&["made"], PATIENCE).await;
        let mut network = Self {
            switch,
            hosts: Vec::new(),
            forwarders: Vec::new(),
            scratch: Scratch::new(),
        };
        for _ in 0..count {
            network.add_host(count).await;
        }
        network
    }

    /// The address of a host, from 0.
    #[must_use]
    pub fn address(host: usize) -> String {
        format!("10.77.0.{}", host + 1)
    }

    /// The program, started on this host.
    #[must_use]
    pub fn on(&self, host: usize, start: Start) -> Start {
        within(&self.hosts[host], start)
    }

    /// Separates these hosts from all others. They still reach each other.
    pub async fn split(&self, away: &[usize]) {
        self.attach(away, "separated").await;
    }

    /// Ends the partition.
    pub async fn heal(&self) {
        let all: Vec<usize> = (0..self.hosts.len()).collect();
        self.attach(&all, "connected").await;
    }

    /// Makes a loopback port of the host reachable for the test, under the same number, even during a partition.
    pub async fn reach(&mut self, host: usize, port: u16) {
        let inner = within(&self.hosts[host], socat());
        self.forward(inner, socat(), host, port).await;
    }

    /// Makes a loopback port of the test reachable for the host, under the same number, even during a partition.
    pub async fn serve(&mut self, host: usize, port: u16) {
        let inner = within(&self.hosts[host], socat());
        self.forward(socat(), inner, host, port).await;
    }

    /// Forwards through a Unix socket, because namespaces separate only the network.
    async fn forward(&mut self, near_target: Start, near_caller: Start, host: usize, port: u16) {
        let socket = self.scratch.join(&format!("{host}-{port}"));
        let tcp = format!("127.0.0.1:{port}");
        let target = near_target
            .args(&[format!("UNIX-LISTEN:{socket},fork"), format!("TCP:{tcp}")])
            .spawn();
        target.wait_for_line(&["listening on"], PATIENCE).await;
        let caller = near_caller
            .args(&[
                format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"),
                format!("UNIX-CONNECT:{socket}"),
            ])
            .spawn();
        caller.wait_for_line(&["listening on"], PATIENCE).await;
        self.forwarders.extend([target, caller]);
    }

    async fn add_host(&mut self, count: usize) {
        let number = self.hosts.len();
        let hold = format!("ip link set lo up && echo made && {LONGEST}");
        let hold = Start::new("unshare").args(&["-n", "sh", "-c", &hold]);
        let host = within(&self.switch, hold).spawn();
        host.wait_for_line(&["made"], PATIENCE).await;
        let pid = host.id();
        let link = format!(
            "ip link add host{number} type veth peer name eth0 netns {pid} && \
             ip link set host{number} up && ip link set host{number} master connected"
        );
        shell(&self.switch, &link).await;
        // With permanent neighbour entries, packets are dropped silently in a partition, as beyond a router.
        // Otherwise connecting would fail with "no route to host".
        let others = (0..count).filter(|other| *other != number);
        let neighbours = others.map(|other| {
            let (address, link) = (Self::address(other), link_address(other));
            format!(" && ip neigh replace {address} lladdr {link} dev eth0 nud permanent")
        });
        let set_up = format!(
            "ip link set eth0 address {} && ip addr add {}/24 dev eth0 && ip link set eth0 up{}",
            link_address(number),
            Self::address(number),
            neighbours.collect::<String>(),
        );
        shell(&host, &set_up).await;
        self.hosts.push(host);
    }

    async fn attach(&self, hosts: &[usize], bridge: &str) {
        let attach = |host: &usize| format!("ip link set host{host} master {bridge}");
        let commands: Vec<String> = hosts.iter().map(attach).collect();
        shell(&self.switch, &commands.join(" && ")).await;
    }
}

/// A socat that logs when it listens.
fn socat() -> Start {
    Start::new("socat").args(&["-d", "-d"])
}

fn link_address(host: usize) -> String {
    format!("02:00:00:00:00:{:02x}", host + 1)
}

/// The program, started in the namespaces of another one.
fn within(holder: &Program, start: Start) -> Start {
    let holder = holder.id().to_string();
    let enter = ["nsenter", "-t", &holder, "-U", "-n"];
    start.under(&[&enter[..], &["--preserve-credentials", "--"]].concat())
}

async fn shell(holder: &Program, script: &str) {
    let start = Start::new("sh").args(&["-c", script]);
    let output = within(holder, start).run().await;
    assert!(output.status.success(), "{script}: {output:?}");
}
