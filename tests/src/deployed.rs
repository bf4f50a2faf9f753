//! Redis as `deploy/` sets it up: its configuration, its users and their rights.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::port;
use crate::program::Start;
use crate::redis::Redis;
use crate::scratch::Scratch;

/// A store and lock nodes, and the URLs with which each service reaches them.
#[derive(Debug)]
pub struct Deployed {
    pub store: Redis,
    pub locks: Vec<Redis>,
    pub broker_url: SecretString,
    pub gateway_url: SecretString,
    pub lock_urls: SecretString,
    secrets: PathBuf,
    _scratch: Scratch,
}

impl Deployed {
    /// Makes secrets as an operator would and starts the servers with them.
    ///
    /// # Panics
    /// When `deploy/make-secrets` or a server fails.
    pub async fn start(lock_nodes: usize) -> Self {
        let scratch = Scratch::new();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let secrets = scratch.path().join("secrets");
        let at = |port: &u16| format!("127.0.0.1:{port}");
        let store_port = port::free();
        // Without lock nodes of its own a deployment still has a file for them.
        let lock_ports: Vec<u16> = (0..lock_nodes.max(1)).map(|_| port::free()).collect();
        let lock_addresses: Vec<String> = lock_ports.iter().map(at).collect();
        let made = Start::new(deploy.join("make-secrets"))
            .args(&[secrets.display()].map(|path| path.to_string()))
            .env("STORE", at(&store_port))
            .env("LOCKS", lock_addresses.join(" "))
            .run()
            .await;
        assert!(made.status.success(), "{made:?}");
        let file = |name: &str| secrets.join(name).display().to_string();
        let read = |name: &str| {
            let text = std::fs::read_to_string(secrets.join(name)).expect(name);
            SecretString::from(text.trim())
        };
        let users = ["--aclfile", &file("store-users.acl")];
        let store = Redis::start_at(store_port, &users).await;
        let mut locks = Vec::new();
        for port in lock_ports.into_iter().take(lock_nodes) {
            let users = ["--aclfile", &file("lock-users.acl")];
            locks.push(Redis::start_at(port, &users).await);
        }
        Self {
            store,
            locks,
            broker_url: read("broker-redis-url"),
            gateway_url: read("gateway-redis-url"),
            lock_urls: read("lock-urls"),
            secrets,
            _scratch: scratch,
        }
    }

    /// The path of a secret's file.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.secrets.join(name).display().to_string()
    }
}
