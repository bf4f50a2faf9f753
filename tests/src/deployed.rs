//! Redis as configured by `deploy/`: settings, users and ACLs.

use std::future::Future;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::port;
use crate::program::Start;
use crate::redis::{Login, Redis};
use crate::scratch::Scratch;

/// A kind of store: one server, a group with Sentinels, or a Cluster.
pub trait Topology: Sized + Send {
    /// How many ports it needs.
    const PORTS: usize;

    /// Its address, as passed to `make-secrets`.
    fn authority(ports: &[u16]) -> String;

    /// Starts it with the users of `deploy/`.
    fn start(ports: &[u16], secrets: &Secrets) -> impl Future<Output = Self> + Send;
}

impl Topology for Redis {
    const PORTS: usize = 1;

    fn authority(ports: &[u16]) -> String {
        local(ports)
    }

    async fn start(ports: &[u16], secrets: &Secrets) -> Self {
        Self::start_at(ports[0], &["--aclfile", &secrets.file("store-users.acl")]).await
    }
}

/// The files that `make-secrets` created.
#[derive(Debug)]
pub struct Secrets(PathBuf);

impl Secrets {
    /// Those in a directory.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The path of a secret's file.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// # Panics
    /// If there is no such secret.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.0.join(name)).expect(name);
        text.trim().to_owned()
    }

    /// Command-line arguments of a server with replicas.
    #[must_use]
    pub fn replicated(&self) -> Vec<String> {
        let (users, password) = (self.file("store-users.acl"), self.read("replica-password"));
        let args = ["--aclfile", &users, "--masteruser", "replica"];
        let more = ["--masterauth", &password, "--repl-diskless-sync-delay", "0"];
        args.iter()
            .chain(&more)
            .map(|arg| (*arg).to_owned())
            .collect()
    }

    /// The user that operators use with redis-cli.
    #[must_use]
    pub fn operator(&self) -> Login {
        Login {
            user: "operator".to_owned(),
            password: self.read("operator-password"),
        }
    }
}

/// A store and lock nodes, and the URL that each service uses.
#[derive(Debug)]
pub struct Deployed<T = Redis> {
    pub store: T,
    pub locks: Vec<Redis>,
    pub broker_url: SecretString,
    pub gateway_url: SecretString,
    pub lock_urls: SecretString,
    secrets: Secrets,
    _scratch: Scratch,
}

impl Deployed {
    /// Creates secrets as an operator does, and starts the servers with them.
    ///
    /// # Panics
    /// If `deploy/make-secrets` or a server fails.
    pub async fn start(lock_nodes: usize) -> Self {
        Self::start_topology(lock_nodes).await
    }

    /// Makes the store load another `users.acl`, with the passwords that its users have. Some versions of
    /// Redis close all connections of users then.
    ///
    /// # Panics
    /// If the store does not take it.
    pub async fn load_users(&self, template: &Path) {
        let template = std::fs::read_to_string(template).expect("users.acl");
        let file = self.file("store-users.acl");
        let held = std::fs::read_to_string(&file).expect("the users of the store");
        let mut users = one_line_each(&template);
        for user in held.lines() {
            // `user NAME on #DIGEST …`
            let mut words = user.split(' ').skip(1);
            let (name, digest) = (words.next(), words.nth(1));
            let (name, digest) = (name.expect("a name"), digest.expect("a password"));
            users = users.replace(&format!("#@{name}@"), digest);
        }
        assert!(!users.contains("#@"), "an unknown user: {users}");
        let next = format!("{file}.next");
        std::fs::write(&next, users).expect("a file beside it");
        std::fs::rename(&next, &file).expect("the file of the users");
        let login = self.operator();
        let loaded = self.store.cli(&login, &["ACL", "LOAD"]).await;
        assert_eq!(loaded, "OK");
    }
}

/// As `make-secrets` writes it: no comments, and each user on one line.
fn one_line_each(template: &str) -> String {
    let mut users = String::new();
    for line in template.lines().filter(|line| !line.starts_with('#')) {
        if !line.starts_with(' ') && !users.is_empty() && !line.is_empty() {
            users.push('\n');
        }
        users.push_str(line);
    }
    users + "\n"
}

impl<T: Topology> Deployed<T> {
    /// As [`Deployed::start`], with this kind of store.
    ///
    /// # Panics
    /// If `deploy/make-secrets` or a server fails.
    pub async fn start_topology(lock_nodes: usize) -> Self {
        Self::start_named(lock_nodes, &[]).await
    }

    /// As [`Deployed::start_topology`], with settings of `make-secrets`, such as `PREFIX`.
    ///
    /// # Panics
    /// If `deploy/make-secrets` or a server fails.
    pub async fn start_named(lock_nodes: usize, settings: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let directory = scratch.path().join("secrets");
        let store_ports: Vec<u16> = (0..T::PORTS).map(|_| port::free()).collect();
        // The secrets always include lock URLs, even if no lock node is started.
        let lock_ports: Vec<u16> = (0..lock_nodes.max(1)).map(|_| port::free()).collect();
        let make = Start::new(deploy.join("make-secrets"));
        let with = |start: Start, (key, value): &(&str, &str)| start.env(key, value);
        let made = settings
            .iter()
            .fold(make, with)
            .args(&[directory.display()].map(|path| path.to_string()))
            .env("STORE", T::authority(&store_ports))
            .env("LOCKS", local(&lock_ports).replace(',', " "))
            .run()
            .await;
        assert!(made.status.success(), "{made:?}");
        let secrets = Secrets(directory);
        let store = T::start(&store_ports, &secrets).await;
        let mut locks = Vec::new();
        for port in lock_ports.into_iter().take(lock_nodes) {
            let users = ["--aclfile", &secrets.file("lock-users.acl")];
            locks.push(Redis::start_at(port, &users).await);
        }
        Self {
            store,
            locks,
            broker_url: secrets.read("broker-redis-url").into(),
            gateway_url: secrets.read("gateway-redis-url").into(),
            lock_urls: secrets.read("lock-urls").into(),
            secrets,
            _scratch: scratch,
        }
    }

    /// The path of a secret's file.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.secrets.file(name)
    }

    /// The user that operators use with redis-cli.
    #[must_use]
    pub fn operator(&self) -> Login {
        self.secrets.operator()
    }
}

/// `host:port,host:port` on loopback.
pub(crate) fn local(ports: &[u16]) -> String {
    let hosts: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    hosts.join(",")
}
