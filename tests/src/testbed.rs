//! A store, lock nodes and a sandbox for brokers with a large seeded fleet ([`crate::seed`]).

use std::sync::Arc;
use std::time::Duration;

use crate::fleet::Member;
use crate::program::Start;
use crate::redis::Redis;
use crate::sandbox::Sandbox;
use crate::scratch::Scratch;
use crate::seed::{ACCESS_TOKEN_BYTES, Seed, SeedError};
use secrecy::{ExposeSecret, SecretString};
use store::freshness::Lead;
use store::{InstallationId, KeyRing};
use store_writer::{Rings, Store, StoreWriter};

/// A million installations take some minutes.
const SEED_PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Testbed {
    pub store: Redis,
    pub locks: Vec<Redis>,
    pub sandbox: Sandbox,
    lifetime: String,
    access_keys: SecretString,
    refresh_keys: SecretString,
    scratch: Scratch,
}

impl Testbed {
    /// Starts without installations and brokers. Without lock nodes, brokers lock in the store.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start(lock_nodes: usize, lifetime: &str) -> Self {
        let mut locks = Vec::new();
        for _ in 0..lock_nodes {
            locks.push(Redis::start().await);
        }
        Self {
            // As in `deploy/redis.conf`.
            store: Redis::start_with(&["--hash-max-listpack-value", "2048"]).await,
            locks,
            sandbox: Sandbox::start(&[("TOKEN_LIFETIME", lifetime)]).await,
            lifetime: lifetime.to_owned(),
            access_keys: KeyRing::generate_text("a1"),
            refresh_keys: KeyRing::generate_text("r1"),
            scratch: Scratch::new(),
        }
    }

    /// Fills the empty store with installations that are `overdue`, such as `24h`. Returns a summary.
    ///
    /// # Panics
    /// If it fails.
    pub async fn seed(&self, installations: u64, overdue: &str) -> String {
        let seeding = self.try_seed(installations, overdue, false);
        let seeded = tokio::time::timeout(SEED_PATIENCE, seeding).await;
        seeded.expect("in time").expect("the store is filled")
    }

    /// As [`Testbed::seed`]. With `add`, the store may hold installations already.
    ///
    /// # Errors
    /// If the store is not empty, or fails.
    ///
    /// # Panics
    /// If a duration is invalid.
    pub async fn try_seed(
        &self,
        installations: u64,
        overdue: &str,
        add: bool,
    ) -> Result<String, SeedError> {
        let duration = |text| humantime::parse_duration(text).expect("a duration");
        let ring = |keys| Arc::new(KeyRing::parse(keys).expect("keys"));
        let seed = Seed {
            installations,
            lifetime: duration(&self.lifetime),
            overdue: duration(overdue),
            access_token_bytes: ACCESS_TOKEN_BYTES,
            add,
            lead: Lead::Auto,
        };
        let rings = Rings {
            access: ring(&self.access_keys),
            refresh: ring(&self.refresh_keys),
        };
        let redis = self.store.url().into();
        seed.fill(&redis, rings, &sandbox::Config::default()).await
    }

    /// Starts another broker with these settings.
    pub async fn broker(&self, name: &str, settings: &[(&str, String)]) -> Member {
        let locks: Vec<String> = self.locks.iter().map(Redis::url).collect();
        let mut start = self
            .evergreen(&["broker"])
            .env("EVERGREEN_DATA_DIR", self.scratch.join(name))
            .env("EVERGREEN_BROKER_NAME", name)
            .env("GHL_API_URL", &self.sandbox.url)
            .env("GHL_CLIENT_ID", "sandbox-client")
            .env("GHL_CLIENT_SECRET", "sandbox-secret");
        if !locks.is_empty() {
            start = start.env("EVERGREEN_LOCK_URLS", locks.join(","));
        }
        for (key, value) in settings {
            start = start.env(key, value);
        }
        Member::start(start).await
    }

    /// The start configuration of a gateway on this store, without a broker URL.
    #[must_use]
    pub fn gateway(&self) -> Start {
        let mut start = self
            .evergreen(&["gateway"])
            .env("GHL_API_URL", &self.sandbox.url);
        // A gateway refuses these keys.
        start.env.remove("EVERGREEN_REFRESH_KEYS");
        start
    }

    /// The ids of up to `count` installations.
    ///
    /// # Panics
    /// If the store does not answer.
    pub async fn installations(&self, count: usize) -> Vec<InstallationId> {
        let listed = self.writer().list(None, count).await;
        let listed = listed.expect("the store answers").into_iter();
        listed.map(|one| one.id().clone()).collect()
    }

    /// Access to the store from this process, without the keys of its tokens.
    ///
    /// # Panics
    /// Never: the address is our own.
    #[must_use]
    pub fn writer(&self) -> StoreWriter {
        let rings = Rings {
            access: Arc::new(KeyRing::generate("unused")),
            refresh: Arc::new(KeyRing::generate("unused")),
        };
        let store = Store::redis(&self.store.url().into(), rings, Lead::Auto);
        store.expect("a URL").writer
    }

    /// The program with this store and its keys.
    #[must_use]
    pub fn evergreen(&self, command: &[&str]) -> Start {
        Start::evergreen(command)
            .env("EVERGREEN_REDIS_URL", self.store.url())
            .env("EVERGREEN_ACCESS_KEYS", self.access_keys.expose_secret())
            .env("EVERGREEN_REFRESH_KEYS", self.refresh_keys.expose_secret())
    }
}
