//! A deployment as in production: brokers and gateways as separate processes on Redis, behind HAProxy.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::client;
use crate::deployed::{Deployed, Topology};
use crate::haproxy::Haproxy;
use crate::load::steady_load;
use crate::port;
use crate::program::{Program, Start, wait_for_port};
use crate::redis::Redis;
use crate::sandbox::Sandbox;
use crate::scratch::Scratch;
use crate::wait::{holds, until};
use reqwest::Client;
use serde_json::Value;

/// The store may be unreachable meanwhile. Sentinels on an overloaded machine pause for 30 s.
const READY_PATIENCE: Duration = Duration::from_secs(90);

/// A process that can be killed and started again.
#[derive(Debug)]
pub struct Member {
    /// `host:port` of its public listener.
    pub address: String,
    pub internal: String,
    start: Start,
    pub program: Option<Program>,
}

impl Member {
    /// Starts it on free ports.
    ///
    /// # Panics
    /// If it does not get ready.
    pub async fn start(start: Start) -> Self {
        let mut member = Self::new(start);
        member.launch().await;
        member
    }

    /// With free ports, but not started.
    #[must_use]
    pub fn new(start: Start) -> Self {
        let (public, internal) = (port::free(), port::free());
        let at = |port| format!("127.0.0.1:{port}");
        let start = start
            .env("EVERGREEN_LISTEN", at(public))
            .env("EVERGREEN_INTERNAL_LISTEN", at(internal));
        Self {
            address: at(public),
            internal: format!("http://{}", at(internal)),
            start,
            program: None,
        }
    }

    /// The ports that it listens on.
    ///
    /// # Panics
    /// Never: both addresses have a port.
    #[must_use]
    pub fn ports(&self) -> [u16; 2] {
        [&self.address, &self.internal].map(|address| {
            let port = address.rsplit(':').next().unwrap_or_default();
            port.parse().expect("a port")
        })
    }

    /// Starts it, keeping its data.
    ///
    /// # Panics
    /// If it does not get ready.
    pub async fn launch(&mut self) {
        self.spawn();
        let client = client::new();
        let url = format!("{}/readyz", self.internal);
        until(&format!("{url} to be ready"), READY_PATIENCE, || async {
            let response = client.get(&url).send().await;
            let status = response.map(|response| response.status().as_u16());
            let is_ready = status.as_ref().is_ok_and(|status| *status == 200);
            holds(is_ready, (status, self.log()))
        })
        .await;
        wait_for_port(self.ports()[0]).await;
    }

    /// Starts it without waiting until it is ready.
    pub fn spawn(&mut self) {
        self.program = Some(self.start.spawn());
    }

    /// Deletes its data while it is not running.
    ///
    /// # Panics
    /// If it cannot be removed.
    pub fn delete_data(&self) {
        let directory = self.start.env.get("EVERGREEN_DATA_DIR");
        std::fs::remove_dir_all(directory.expect("a broker's")).expect("what it wrote");
    }

    /// Changes settings from the next start on.
    pub fn set(&mut self, settings: impl IntoIterator<Item = (&'static str, String)>) {
        let settings = settings.into_iter();
        self.start
            .env
            .extend(settings.map(|(key, value)| (key.to_owned(), value)));
    }

    /// Uses another program from the next start on.
    pub fn use_program(&mut self, program: impl Into<PathBuf>) {
        self.start.program = program.into();
    }

    /// Sends a signal to it.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, signal: i32) {
        self.program.as_ref().expect("it runs").signal(signal);
    }

    /// Removes a setting from the next start on.
    pub fn unset(&mut self, key: &str) {
        self.start.env.remove(key);
    }

    /// Stops it with SIGTERM. Returns its log.
    ///
    /// # Panics
    /// If it does not run, or ends with a failure.
    pub async fn stop(&mut self) -> Vec<String> {
        let program = self.program.take().expect("it runs");
        let (code, log) = program.terminate(Duration::from_secs(40)).await;
        assert_eq!(code, Some(0), "{log:#?}");
        log
    }

    /// `kill -9`; returns its log.
    pub async fn kill(&mut self) -> Vec<String> {
        match self.program.take() {
            Some(program) => program.kill().await,
            None => Vec::new(),
        }
    }

    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.program.as_ref().map(Program::log).unwrap_or_default()
    }
}

/// The size of a fleet, and its settings.
#[derive(Debug)]
pub struct FleetConfig<'a> {
    pub brokers: usize,
    pub lock_nodes: usize,
    pub sandbox: &'a [(&'a str, &'a str)],
    pub settings: &'a [(&'a str, &'a str)],
}

#[derive(Debug)]
pub struct Fleet<T = Redis> {
    pub redis: Deployed<T>,
    pub sandbox: Sandbox,
    pub brokers: Vec<Member>,
    pub gateways: Vec<Member>,
    pub haproxy: Haproxy,
    pub client: Client,
    scratch: Scratch,
}

impl Fleet {
    /// Starts everything, always with three gateways behind HAProxy.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start(config: &FleetConfig<'_>) -> Self {
        Self::start_topology(config).await
    }
}

impl<T: Topology> Fleet<T> {
    /// As [`Fleet::start`], with this kind of store.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start_topology(config: &FleetConfig<'_>) -> Self {
        Self::start_with_broker(config, || Start::evergreen(&["broker"])).await
    }

    /// As [`Fleet::start_topology`], with brokers started in another way.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start_with_broker(config: &FleetConfig<'_>, broker: impl Fn() -> Start) -> Self {
        Self::start_with(config, broker, || Start::evergreen(&["gateway"])).await
    }

    /// As [`Fleet::start_with_broker`], with gateways started in another way, too.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start_with(
        config: &FleetConfig<'_>,
        broker: impl Fn() -> Start,
        gateway: impl Fn() -> Start,
    ) -> Self {
        let redis = Deployed::<T>::start_topology(config.lock_nodes).await;
        let sandbox = Sandbox::start(config.sandbox).await;
        let scratch = Scratch::new();
        let mut common = HashMap::from([
            ("EVERGREEN_ACCESS_KEYS_FILE", redis.file("access-keys")),
            ("GHL_API_URL", sandbox.url.clone()),
        ]);
        common.extend(
            config
                .settings
                .iter()
                .map(|(key, value)| (*key, (*value).to_owned())),
        );
        let with = |start: Start| {
            common
                .iter()
                .fold(start, |start, (key, value)| start.env(key, value))
        };

        let mut brokers = Vec::new();
        for number in 0..config.brokers {
            let start = with(broker())
                .env("GHL_CLIENT_ID", "sandbox-client")
                .env("GHL_CLIENT_SECRET", "sandbox-secret")
                .env(
                    "GHL_AUTHORIZE_URL",
                    format!("{}/v2/oauth/chooselocation", sandbox.url),
                )
                .env("EVERGREEN_REDIS_URL_FILE", redis.file("broker-redis-url"))
                .env("EVERGREEN_LOCK_URLS_FILE", redis.file("lock-urls"))
                .env("EVERGREEN_REFRESH_KEYS_FILE", redis.file("refresh-keys"))
                .env(
                    "EVERGREEN_DATA_DIR",
                    scratch.join(&format!("broker-{number}")),
                )
                .env("EVERGREEN_BROKER_NAME", format!("broker-{number}"));
            brokers.push(Member::start(start).await);
        }
        let mut gateways = Vec::new();
        for number in 0..3 {
            // Distribute the gateways over the brokers, as a load balancer would.
            let broker = &brokers[number % brokers.len()].address;
            let start = with(gateway())
                .env("EVERGREEN_REDIS_URL_FILE", redis.file("gateway-redis-url"))
                .env("EVERGREEN_BROKER_URL", format!("http://{broker}"));
            gateways.push(Member::start(start).await);
        }
        Self {
            haproxy: Haproxy::start(&gateways).await,
            redis,
            sandbox,
            brokers,
            gateways,
            client: client::new(),
            scratch,
        }
    }

    /// Installs `count` locations, named `loc000` and up. Returns their installations.
    pub async fn install(&self, count: usize) -> Vec<String> {
        let mut installed = Vec::with_capacity(count);
        for number in 0..count {
            let location = format!("loc{number:03}");
            installed.push(client::install(&self.client, &self.haproxy.url, &location).await);
        }
        installed
    }

    /// Makes calls until every gateway has cached the token of each installation.
    pub async fn warm_caches(&self, installations: &[String]) {
        for gateway in &self.gateways {
            let url = format!("http://{}", gateway.address);
            let length = Duration::from_millis(500);
            let calls = steady_load(&self.client, &url, installations, 100, length).await;
            calls.expect_success();
        }
    }

    /// Expects that no refresh token was spent outside the grace, no call used an expired or unknown token, and all
    /// installations are valid.
    ///
    /// # Panics
    /// If one of these does not hold.
    pub async fn expect_no_token_lost(&self) {
        let ledger = self.sandbox.ledger().await;
        for never in [
            "spent_outside_grace",
            "calls_with_expired_token",
            "calls_with_unknown_token",
        ] {
            assert_eq!(ledger[never], 0, "{never}: {ledger}");
        }
        let url = format!("{}/v1/installations?limit=500", self.brokers[0].internal);
        let is_valid = |one: &Value| one["tokenStatus"] == "valid";
        until(
            "every token to be valid",
            Duration::from_secs(30),
            || async {
                let (_, listed) = client::get(&self.client, &url).await;
                let listed = listed["installations"].as_array().cloned();
                let listed = listed.unwrap_or_default();
                let is_so = !listed.is_empty() && listed.iter().all(is_valid);
                holds(is_so, listed.iter().find(|one| !is_valid(one)))
            },
        )
        .await;
    }

    /// The directory of the brokers' data directories.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.path().to_owned()
    }

    /// All log lines of all brokers so far.
    #[must_use]
    pub fn broker_logs(&self) -> Vec<String> {
        self.brokers.iter().flat_map(Member::log).collect()
    }
}
