//! The processes that are measured: a store, lock nodes, a sandbox without latency, brokers.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use store::KeyRing;
use store::freshness::Lead;
use store_writer::{Rings, Store};
use tests::fleet::Member;
use tests::program::Start;
use tests::redis::Redis;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;

/// A million installations take some minutes.
const SEED_PATIENCE: Duration = Duration::from_secs(3600);

pub(super) struct Bed {
    pub(super) store: Redis,
    pub(super) locks: Vec<Redis>,
    pub(super) sandbox: Sandbox,
    access_keys: SecretString,
    refresh_keys: SecretString,
    scratch: Scratch,
}

impl Bed {
    pub(super) async fn start(lock_nodes: usize) -> Self {
        let mut locks = Vec::new();
        for _ in 0..lock_nodes {
            locks.push(Redis::start().await);
        }
        Self {
            // As in `deploy/redis.conf`.
            store: Redis::start_with(&["--hash-max-listpack-value", "2048"]).await,
            locks,
            sandbox: Sandbox::start(&[("TOKEN_LIFETIME", super::LIFETIME)]).await,
            access_keys: KeyRing::generate_text("a1"),
            refresh_keys: KeyRing::generate_text("r1"),
            scratch: Scratch::new(),
        }
    }

    /// `evergreen bench seed`; returns its summary.
    pub(super) async fn seed(&self, installations: u64, overdue: &str) -> String {
        let seeding = self
            .evergreen(&["bench", "seed"])
            .args(&["--installations", &installations.to_string()])
            .args(&["--lifetime", super::LIFETIME, "--overdue", overdue]);
        let output = seeding.run_within(SEED_PATIENCE).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(super) async fn brokers(
        &self,
        count: usize,
        rate: u32,
        concurrency: usize,
    ) -> Vec<Member> {
        let urls: Vec<String> = self.locks.iter().map(Redis::url).collect();
        let mut brokers = Vec::new();
        for number in 0..count {
            let name = format!("broker-{number}");
            let start = self
                .evergreen(&["broker"])
                .env("EVERGREEN_LOCK_URLS", urls.join(","))
                .env("EVERGREEN_DATA_DIR", self.scratch.join(&name))
                .env("EVERGREEN_BROKER_NAME", name)
                .env("EVERGREEN_REFRESH_RATE", rate)
                .env("EVERGREEN_REFRESH_CONCURRENCY", concurrency)
                .env("GHL_API_URL", &self.sandbox.url)
                .env("GHL_CLIENT_ID", "sandbox-client")
                .env("GHL_CLIENT_SECRET", "sandbox-secret");
            brokers.push(Member::start(start).await);
        }
        brokers
    }

    /// Bytes that the store uses.
    pub(super) async fn memory(&self) -> u64 {
        let rings = Rings {
            access: Arc::new(KeyRing::generate("unused")),
            refresh: Arc::new(KeyRing::generate("unused")),
        };
        let store = Store::redis(&self.store.url().into(), rings, Lead::Auto).expect("a URL");
        let used = store.writer.memory().await.expect("the store answers");
        used.expect("Redis knows what it uses")
    }

    fn evergreen(&self, command: &[&str]) -> Start {
        Start::evergreen(command)
            .env("EVERGREEN_REDIS_URL", self.store.url())
            .env("EVERGREEN_ACCESS_KEYS", self.access_keys.expose_secret())
            .env("EVERGREEN_REFRESH_KEYS", self.refresh_keys.expose_secret())
    }
}
